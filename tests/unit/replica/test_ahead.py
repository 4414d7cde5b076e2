"""What is made ahead: the same things, one at a time, and nobody left at work."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.replica.ahead import ahead


@given(st.lists(st.none() | st.integers() | st.just("")))
def test_all_come_in_their_order(things: list[object]) -> None:
    """Those that are nothing too."""
    assert list(ahead(things)) == things


def test_one_is_made_while_another_is_used() -> None:
    """By another thread, and no more than one, since each takes memory."""
    made: list[int] = []
    makers = set()
    next_one = threading.Semaphore(0)

    def make() -> Iterator[int]:
        for number in range(5):
            makers.add(threading.current_thread())
            made.append(number)
            next_one.release()
            yield number

    for number in ahead(make()):
        # It comes, although this one is still in use.
        assert next_one.acquire(timeout=60)
        assert len(made) <= number + 2
    assert made == list(range(5))
    assert threading.current_thread() not in makers


def test_what_fails_is_raised_after_what_was_made() -> None:
    """Where it would be without a thread."""

    def make() -> Iterator[int]:
        yield 1
        raise LookupError

    things = ahead(make())
    assert next(things) == 1
    with pytest.raises(LookupError):
        next(things)


def test_closed_it_waits_for_what_is_being_made() -> None:
    """So that what is read from may be closed next."""
    is_making, may_go_on = threading.Event(), threading.Event()
    done = []

    def make() -> Iterator[int]:
        yield 1
        is_making.set()
        assert may_go_on.wait(60)
        done.append(2)
        yield 2

    things = ahead(make())
    assert next(things) == 1
    assert is_making.wait(60)
    threading.Timer(0.05, may_go_on.set).start()
    things.close()
    assert done == [2]

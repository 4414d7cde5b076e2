"""Making the next of several things while the one before is used."""

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(things: Iterable[T]) -> Generator[T, None, None]:
    """Yield ``things``, each made by a thread while the one before is used.

    It gains as much as both let go of the interpreter. What making one raises is raised here. When
    it is closed, none is being made any more.
    """
    given = iter(things)
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as executor:
        following = executor.submit(_next, given)
        while found := following.result():
            following = executor.submit(_next, given)
            yield found[0]


def _next(given: Iterator[T]) -> list[T]:
    """Return the next thing, or nothing."""
    for thing in given:
        return [thing]
    return []

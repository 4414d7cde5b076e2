"""Several runs of changes have one net effect."""

from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.domain.changes import Change, net, parse_number
from hashshare.domain.hashes import HashAlgorithm
from hashshare.errors import DeltaMismatchError, MalformedError
from tests.strategies import Contents, contents, differences

SHA256, PDQ = HashAlgorithm.SHA256, HashAlgorithm.PDQ


@given(st.lists(contents, min_size=1, max_size=6), st.sampled_from([SHA256, PDQ]))
def test_the_net_of_all_runs_is_the_difference_of_the_ends(
    history: list[Contents], algorithm: HashAlgorithm
) -> None:
    """And it comes in key order."""
    runs = [differences(algorithm, old, new) for old, new in pairwise(history)]

    assert list(net(algorithm, runs)) == differences(algorithm, history[0], history[-1])


def test_a_run_that_does_not_continue_the_one_before_is_refused() -> None:
    """Two additions of one entry cannot follow each other."""
    run = [Change(b"x" * 32, None, b"{}")]

    with pytest.raises(DeltaMismatchError):
        list(net(SHA256, [run, run]))


@pytest.mark.parametrize(
    ("before", "after", "operation"),
    [(None, b"{}", "add"), (b"{}", None, "remove"), (b"{}", b"[]", "change")],
)
def test_a_change_knows_its_operation(
    before: bytes | None, after: bytes | None, operation: str
) -> None:
    """As a delta on the wire names it."""
    assert Change(b"", before, after).operation == operation


@given(st.integers(0, 10**18 - 1))
def test_a_number_has_one_spelling(number: int) -> None:
    """Decimal, as ``str`` writes it."""
    assert parse_number(str(number)) == number


@pytest.mark.parametrize(
    "text", ["", "+1", "-1", "01", " 1", "1 ", "1_0", "1.0", "٣", "1e3", "9" * 19, "9" * 5000]
)
def test_other_spellings_of_a_number_are_refused(text: str) -> None:
    """Even those that ``int`` would take, or would choke on."""
    with pytest.raises(MalformedError):
        parse_number(text)


@given(st.text())
def test_any_text_is_a_number_or_malformed(text: str) -> None:
    """No other error comes out."""
    with suppress(MalformedError):
        assert str(parse_number(text)) == text


def test_net_reads_its_runs_lazily() -> None:
    """A delta over many changes must not be held in memory."""
    read: list[int] = []

    def run() -> Iterable[Change]:
        for n in range(1000):
            read.append(n)
            yield Change(n.to_bytes(32), None, b"{}")

    next(net(SHA256, [run()]))

    assert len(read) < 10

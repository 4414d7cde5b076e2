"""How much one member may dispute alone."""

from datetime import UTC, datetime, timedelta

from hashshare.domain.disputes import BEGINNING, counts_alone
from hashshare.domain.hash_sets import DisputeBound

BOUND = DisputeBound(hours=24, records=10)
NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)


def hours(number: float) -> datetime:
    """So many hours ago."""
    return NOW - timedelta(hours=number)


def test_as_much_as_the_bound_counts_alone() -> None:
    """And not one record more, in one submission or in several."""
    assert counts_alone(BOUND, 10, [], NOW)
    assert not counts_alone(BOUND, 11, [], NOW)
    assert counts_alone(BOUND, 4, [(hours(1), 3), (hours(2), 3)], NOW)
    assert not counts_alone(BOUND, 5, [(hours(1), 3), (hours(2), 3)], NOW)


def test_what_is_older_than_the_period_is_not_counted() -> None:
    """Just as old neither."""
    assert counts_alone(BOUND, 10, [(hours(24), 10), (hours(100), 99)], NOW)
    assert not counts_alone(BOUND, 10, [(hours(23.99), 1)], NOW)


def test_before_the_first_publication_all_is_of_one_time() -> None:
    """Nobody gets round the bound by being early."""
    assert not counts_alone(BOUND, 1, [(BEGINNING, 10)], BEGINNING)

"""How much one member may dispute alone: a bound on taking out a whole lot.

A hash set may have a bound of so many records in so many hours. The disputes of a submission
that goes over it count only on hashes that a second member disputes as well; a reviewer can
decide about the rest. Whether a submission goes over it is settled by what the log holds before
it, and never changes again:

- the time at its place is when the newest publication of the hash set says that it was made,
- and counted are the records of the member's disputes, under such a bound, whose time is less
  than that many hours before; its own among them.

So it depends on no clock of a reader, nor on what the member says of the time.

Source: docs/protocol.md, "Disputes and rulings".
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from hashshare.domain.hash_sets import DisputeBound

BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The time at a place before the first publication."""


def begin_of(bound: DisputeBound, at: datetime) -> datetime:
    """Return when the period began that ends at ``at``; what is of just that time is not in it."""
    return at - timedelta(hours=bound.hours)


def counts_alone(
    bound: DisputeBound, records: int, earlier: Iterable[tuple[datetime, int]], at: datetime
) -> bool:
    """Return whether the disputes of a submission count while nobody else disputes the same.

    Args:
        bound: In force at its place.
        records: Of its batch.
        earlier: Of the member's earlier disputes under a bound, the time and the records.
        at: The time at its place.
    """
    begin = begin_of(bound, at)
    return records + sum(count for when, count in earlier if when > begin) <= bound.records

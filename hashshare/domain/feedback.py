"""Feedback: what members report that hashes did for them, and what others are shown of it.

Members report counts, by the month. Nobody is to learn from them who matched what. So others are
shown sums over members, and a sum only of at least three members, once the month is over: with
two, each of them could subtract its own. What is in a sum is decided month by month, and every
larger sum adds up months that are shown: no difference of two sums gives away a third.
A member may let its counts be shown with its name; then they are in no sum.

Source: docs/protocol.md, "Feedback".
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final, Self

from hashshare.domain.names import MemberId
from hashshare.errors import MalformedError

MAX_COUNT: Final = 10**12
MAX_ROWS: Final = 10_000
"""Hashes in one page of a report."""
MONTHS: Final = 24
"""A report is of one of so many months, with the present one."""
MIN_REPORTERS: Final = 3
"""A sum is over at least so many members, so that none of them learns what another one reported."""

_MONTH: Final = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A month of the calendar, in UTC.

    Attributes:
        begin: Its first day.
    """

    begin: date

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the form that ``str()`` gives.

        Raises:
            MalformedError: ``text`` is not that.
        """
        match = _MONTH.fullmatch(text)
        if match is None or match[1] == "0000":
            raise MalformedError(f"a month is like 2026-11, not {text!r:.20}")
        return cls(date(int(match[1]), int(match[2]), 1))

    @property
    def number(self) -> int:
        """Months since the year 0."""
        return self.begin.year * 12 + self.begin.month

    def is_over(self, today: date) -> bool:
        """Return whether the month has ended before ``today`` began."""
        return self.number < _number(today)

    def verify_reportable(self, today: date) -> None:
        """Refuse a month that has not begun, or is long past.

        Raises:
            MalformedError: It is not one of the last 24.
        """
        if not 0 <= _number(today) - self.number < MONTHS:
            raise MalformedError(f"feedback is of one of the last {MONTHS} months, not {self}")

    def __str__(self) -> str:
        return f"{self.begin:%Y-%m}"


@dataclass(frozen=True, slots=True)
class Counts:
    """What came of comparing files with a hash, or with the hashes of a hash set.

    Each file counts in one of the three.

    Attributes:
        matched: It matched, as far as is known rightly.
        false_positive: It matched, and is not what the hash is listed for.
        not_matched: It did not match.
    """

    matched: int = 0
    false_positive: int = 0
    not_matched: int = 0

    def __post_init__(self) -> None:
        if min(self.matched, self.false_positive, self.not_matched) < 0:
            raise MalformedError("a count is not negative")

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.matched + other.matched,
            self.false_positive + other.false_positive,
            self.not_matched + other.not_matched,
        )


@dataclass(frozen=True, slots=True)
class Reported:
    """What one member reported of one hash, or one hash set, in a month.

    Attributes:
        named: Whether it lets its name be shown.
    """

    member: MemberId
    month: Month
    named: bool
    counts: Counts


@dataclass(frozen=True, slots=True)
class Shown:
    """What others are shown.

    Attributes:
        member: Who, if it lets its name be shown; None for a sum over the others.
        members: How many reported; 1 for a named one.
        first: The earliest month in it.
        last: The latest.
    """

    member: MemberId | None
    members: int
    first: Month
    last: Month
    counts: Counts


def shown_of(reported: Iterable[Reported], *, today: date) -> list[Shown]:
    """Return what is shown of all that members reported of one thing; named ones first.

    Args:
        reported: Of one hash or one hash set; one a member and month.
        today: In UTC.
    """
    named: dict[MemberId, list[Reported]] = defaultdict(list)
    months: dict[Month, list[Reported]] = defaultdict(list)
    for one in reported:
        if one.named:
            named[one.member].append(one)
        else:
            months[one.month].append(one)
    open_months = [
        one
        for month, those in months.items()
        if len(those) >= MIN_REPORTERS and month.is_over(today)
        for one in those
    ]
    found = [_sum(named[member], member) for member in sorted(named)]
    return [*found, _sum(open_months, None)] if open_months else found


def _sum(reported: list[Reported], member: MemberId | None) -> Shown:
    months = [one.month for one in reported]
    return Shown(
        member=member,
        members=len({one.member for one in reported}),
        first=min(months),
        last=max(months),
        counts=sum((one.counts for one in reported), Counts()),
    )


def _number(day: date) -> int:
    return day.year * 12 + day.month

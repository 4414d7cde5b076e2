"""What is shown of feedback: sums that give nobody away."""

from collections import defaultdict
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.domain.feedback import (
    MAX_COUNT,
    MIN_REPORTERS,
    MONTHS,
    Counts,
    Month,
    Reported,
    Shown,
    shown_of,
)
from hashshare.domain.names import MemberId
from hashshare.errors import MalformedError

TODAY = date(2026, 11, 26)
OVER, NOW = Month.parse("2026-10"), Month.parse("2026-11")


def said(member: str, matched: int, *, month: Month = OVER, named: bool = False) -> Reported:
    return Reported(MemberId(member), month, named, Counts(matched))


def test_a_sum_is_of_three_members_or_more() -> None:
    """Two could each subtract their own."""
    two = [said("a", 1), said("b", 2)]
    assert shown_of(two, today=TODAY) == []
    three = [*two, said("c", 4)]
    assert shown_of(three, today=TODAY) == [Shown(None, 3, OVER, OVER, Counts(7))]


def test_a_sum_is_of_months_that_are_over() -> None:
    """Else who looks every hour sees what each report adds."""
    three = [said(member, 1, month=NOW) for member in "abc"]
    assert shown_of(three, today=TODAY) == []
    assert shown_of(three, today=date(2026, 12, 1)) != []


def test_who_is_named_is_in_no_sum() -> None:
    """It could be subtracted, and two would be left."""
    named = said("c", 4, month=NOW, named=True)
    assert shown_of([said("a", 1), said("b", 2), said("c", 4, named=True)], today=TODAY) == [
        Shown(MemberId("c"), 1, OVER, OVER, Counts(4))
    ]
    assert shown_of([named], today=TODAY) == [Shown(MemberId("c"), 1, NOW, NOW, Counts(4))]


def test_no_difference_of_sums_gives_away_a_month() -> None:
    """A month of two members is in no larger sum either."""
    earlier = Month.parse("2026-09")
    reported = [said(m, 1) for m in "abc"] + [said(m, 100, month=earlier) for m in "ab"]
    assert shown_of(reported, today=TODAY) == [Shown(None, 3, OVER, OVER, Counts(3))]


MEMBERS = st.sampled_from("abcdef").map(MemberId)
REPORTED = st.lists(
    st.builds(
        Reported,
        MEMBERS,
        st.sampled_from([Month.parse(f"2026-{n:02}") for n in (8, 9, 10, 11)]),
        st.booleans(),
        st.builds(Counts, *[st.integers(0, MAX_COUNT)] * 3),
    ),
    unique_by=lambda one: (one.member, one.month),
)


@given(REPORTED)
def test_what_is_shown_is_the_sum_of_months_that_may_be(reported: list[Reported]) -> None:
    """Against the rule written down a second time, and whatever the order."""
    months: dict[Month, set[MemberId]] = defaultdict(set)
    for one in reported:
        if not one.named:
            months[one.month].add(one.member)
    hidden = {m for m, who in months.items() if len(who) < MIN_REPORTERS or m == NOW}
    expected = sum(
        (one.counts for one in reported if one.named or one.month not in hidden), Counts()
    )
    shown = shown_of(reported, today=TODAY)
    assert sum((one.counts for one in shown), Counts()) == expected
    assert shown_of(reversed(reported), today=TODAY) == shown
    assert all(one.members >= MIN_REPORTERS for one in shown if one.member is None)


@pytest.mark.parametrize("text", ["2026-13", "2026-00", "2026-1", "0000-01", "2026-11-01", "x", ""])
def test_what_is_no_month(text: str) -> None:
    with pytest.raises(MalformedError):
        Month.parse(text)


def test_a_month_that_has_not_begun_or_is_long_past() -> None:
    for text in ("2026-11", "2024-12"):
        Month.parse(text).verify_reportable(TODAY)
        assert str(Month.parse(text)) == text
    for text in ("2026-12", "2024-11"):
        with pytest.raises(MalformedError, match=f"last {MONTHS} months"):
            Month.parse(text).verify_reportable(TODAY)


def test_no_count_is_negative() -> None:
    with pytest.raises(MalformedError):
        Counts(0, -1, 0)

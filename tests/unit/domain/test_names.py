"""Identifiers and times have one spelling each."""

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.domain.names import ID_PATTERN, ListName, format_time, parse_id, parse_time
from hashshare.errors import MalformedError

ids = st.from_regex(rf"\A{ID_PATTERN}\Z")


@given(ids, ids, st.sampled_from(["md5", "pdq"]))
def test_a_list_name_has_one_spelling(hash_set: str, view: str, algorithm: str) -> None:
    """Printing and parsing are inverse."""
    text = f"{hash_set}/{view}/{algorithm}"

    assert str(ListName.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "csam", "csam/all", "csam/all/md4", "/all/md5", "csam//md5", "a/b/md5/", "A/b/md5"]
)
def test_what_is_no_list_name_is_refused(text: str) -> None:
    """With what one looks like."""
    with pytest.raises(MalformedError):
        ListName.parse(text)


@given(st.text())
def test_any_text_is_a_name_or_malformed(text: str) -> None:
    """No other error comes out."""
    with suppress(MalformedError):
        assert str(ListName.parse(text)) == text
    with suppress(MalformedError):
        assert parse_id(text, what="view") == text


@pytest.mark.parametrize("text", ["", "-a", "a" * 64, "a\n", "ä", "a_b", "a/b"])
def test_what_cannot_name_a_member_is_refused(text: str) -> None:
    """The message says what a name looks like."""
    with pytest.raises(MalformedError, match="a-z"):
        parse_id(text, what="member")


@given(st.datetimes(min_value=datetime(1000, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_time_has_one_spelling(moment: datetime) -> None:
    """Whole seconds in UTC."""
    whole = moment.replace(microsecond=0)

    assert parse_time(format_time(moment)) == whole


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-23",
        "2026-11-23T10:00:00+00:00",
        "2026-11-23T10:00:00.0Z",
        "2026-02-30T10:00:00Z",
    ],
)
def test_other_times_are_refused(text: str) -> None:
    """Also those of days that do not exist."""
    with pytest.raises(MalformedError):
        parse_time(text)

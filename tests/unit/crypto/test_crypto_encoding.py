"""Base64 and hex in exactly one spelling."""

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.crypto.encoding import decode_base64, encode_base64, parse_digest
from hashshare.errors import MalformedError


@given(st.binary())
def test_bytes_are_read_as_they_were_written(data: bytes) -> None:
    """Printing and parsing are inverse, and the length may be asked for."""
    assert decode_base64(encode_base64(data)) == data
    assert decode_base64(encode_base64(data), length=len(data)) == data


@given(st.text() | st.text("AQgw+/=-_\n ", max_size=12))
def test_any_text_is_base64_or_malformed(text: str) -> None:
    """No other error comes out, and what is accepted prints as it was."""
    with suppress(MalformedError):
        assert encode_base64(decode_base64(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "YQ",  # no padding
        "YQ=",
        "YQ===",
        "YR==",  # an unused bit is set
        "YQ==\n",
        " YQ==",
        "Y Q==",
        "YQ==YQ==",  # padding in the middle
        "-_-_",  # for URLs
        "YQ=é",
        "====",
    ],
)
def test_other_spellings_are_refused(text: str) -> None:
    """Even those that ``b64decode`` would take."""
    with pytest.raises(MalformedError):
        decode_base64(text)


@given(st.binary(), st.integers(0, 100))
def test_another_length_is_refused(data: bytes, length: int) -> None:
    """Too short and too long alike."""
    if length != len(data):
        with pytest.raises(MalformedError):
            decode_base64(base64.b64encode(data).decode(), length=length)


@given(st.binary(min_size=32, max_size=32).map(bytes.hex))
def test_a_digest_is_64_lower_case_digits(text: str) -> None:
    """It comes back as it is."""
    assert parse_digest(text) == text


@pytest.mark.parametrize(
    "text", ["", "a" * 63, "a" * 65, "A" * 64, "a" * 63 + "g", "a" * 64 + "\n", "٠" * 64]
)
def test_other_digests_are_refused(text: str) -> None:
    """Also digits of other scripts, and a line feed after it."""
    with pytest.raises(MalformedError):
        parse_digest(text)

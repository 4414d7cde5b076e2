"""The one byte form of a document."""

import hashlib
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.crypto import canonical
from hashshare.errors import MalformedError

MAX_BYTES = 100_000
LARGEST = 2**53 - 1

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars: st.SearchStrategy[canonical.JsonValue] = (
    st.none() | st.booleans() | st.integers(0, LARGEST) | texts
)
values: st.SearchStrategy[canonical.JsonValue] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
documents = st.dictionaries(texts, values, max_size=5)


@given(documents)
def test_a_document_is_read_as_it_was_written(document: dict[str, canonical.JsonValue]) -> None:
    """``decode`` undoes ``encode``."""
    assert canonical.decode(canonical.encode(document), max_bytes=MAX_BYTES) == document


@given(documents)
def test_the_bytes_do_not_depend_on_the_order(document: dict[str, canonical.JsonValue]) -> None:
    """Equal documents have equal bytes, in whatever order their names were inserted."""
    shuffled = dict(reversed(list(document.items())))

    assert canonical.encode(shuffled) == canonical.encode(document)


@given(st.dictionaries(st.text("abcXYZ019_-"), scalars | st.lists(scalars, max_size=3)))
def test_the_standard_library_agrees(document: dict[str, canonical.JsonValue]) -> None:
    """Compact, sorted and unescaped: where names are ASCII, no more is to RFC 8785."""
    expected = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    assert canonical.encode(document) == expected.encode()


def test_names_are_sorted_by_utf_16() -> None:
    """The example of RFC 8785 section 3.2.3."""
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    expected = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]

    document: dict[str, canonical.JsonValue] = dict.fromkeys(names)
    encoded = canonical.encode(document)

    assert list(canonical.decode(encoded, max_bytes=MAX_BYTES)) == expected


REFUSED = {
    "another order": b'{"b":1,"a":1}',
    "a name twice": b'{"a":1,"a":1}',
    "a space": b'{"a": 1}',
    "a line feed after it": b'{"a":1}\n',
    "a byte order mark": b'\xef\xbb\xbf{"a":1}',
    "a needless escape": b'{"a":"\\u0062"}',
    "an escaped slash": b'{"a":"\\/"}',
    "an upper-case escape": b'{"a":"\\u000B"}',
    "a fraction": b'{"a":1.5}',
    "a whole fraction": b'{"a":1.0}',
    "an exponent": b'{"a":1e+21}',
    "a negative number": b'{"a":-1}',
    "minus zero": b'{"a":-0}',
    "a leading zero": b'{"a":01}',
    "2^53": b'{"a":9007199254740992}',
    "more digits than Python reads": b'{"a":' + b"9" * 5000 + b"}",
    "NaN": b'{"a":NaN}',
    "infinity": b'{"a":Infinity}',
    "an overflowing number": b'{"a":1e999}',
    "a lone surrogate": b'{"a":"\\ud800"}',
    "a lone surrogate as name": b'{"\\ud800":1}',
    "bad UTF-8": b'{"a":"\xff"}',
    "a control character": b'{"a":"\x01"}',
    "deep nesting": b'{"a":' + b"[" * 40_000 + b"]" * 40_000 + b"}",
    "a list": b"[]",
    "a text": b'"a"',
    "a number": b"1",
    "nothing": b"",
    "half a document": b'{"a":',
    "two documents": b'{"a":1}{"a":1}',
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_other_forms_are_refused(data: bytes) -> None:
    """Each would let two readers differ about the same signed bytes, or two bytes about one."""
    with pytest.raises(MalformedError):
        canonical.decode(data, max_bytes=MAX_BYTES)


def test_the_largest_number_is_accepted() -> None:
    """2^53 - 1 is the last integer that every reader of JSON has."""
    data = b'{"a":%d}' % LARGEST

    assert canonical.decode(data, max_bytes=MAX_BYTES) == {"a": LARGEST}


def test_no_more_bytes_are_parsed_than_allowed() -> None:
    """The limit itself is allowed."""
    data = canonical.encode({"a": "b"})

    assert canonical.decode(data, max_bytes=len(data)) == {"a": "b"}
    with pytest.raises(MalformedError):
        canonical.decode(data, max_bytes=len(data) - 1)


@given(st.binary() | documents.map(lambda d: canonical.encode(d)), st.data())
def test_any_bytes_are_canonical_or_malformed(data: bytes, draw: st.DataObject) -> None:
    """No other error comes out, and what is accepted is written as it was."""
    spoilt = bytearray(data)
    if spoilt and draw.draw(st.booleans()):
        spoilt[draw.draw(st.integers(0, len(spoilt) - 1))] ^= draw.draw(st.integers(1, 255))

    with suppress(MalformedError):
        document = canonical.decode(bytes(spoilt), max_bytes=MAX_BYTES)
        assert canonical.encode(document) == bytes(spoilt)


def _nested(depth: int) -> canonical.JsonValue:
    value: canonical.JsonValue = None
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "document", [{"a": 2**53}, {"a": "\ud800"}, {"\ud800": 1}, _nested(20_000)]
)
def test_what_has_no_canonical_form_is_not_written(document: canonical.JsonValue) -> None:
    """A document of our own that a reader would refuse is refused here."""
    with pytest.raises(MalformedError):
        canonical.encode(document)


def test_a_digest_is_lower_case_sha256() -> None:
    """As sha256sum prints it."""
    assert canonical.digest(b"abc") == hashlib.sha256(b"abc").hexdigest()
    assert canonical.digest(b"").startswith("e3b0c442")

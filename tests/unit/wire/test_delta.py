"""Laws of deltas on the wire."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.domain.changes import UNKNOWN, Change
from hashshare.domain.hashes import HashAlgorithm
from hashshare.errors import MalformedError
from hashshare.wire.delta import (
    FORMAT,
    LINES_A_PIECE,
    MAX_LINE_BYTES,
    DeltaHeader,
    DeltaReader,
    encode_delta,
)
from tests.strategies import contents, differences

SHA256 = HashAlgorithm.SHA256
LOW, HIGH = "10" * 32, "90" * 32
A1 = '{"by":{"acme":"A1"}}'


def header_of(changes: int, algorithm: HashAlgorithm = SHA256) -> DeltaHeader:
    return DeltaHeader(
        base=41,
        base_root="a" * 64,
        changes=changes,
        format=FORMAT,
        list=f"csam/confirmed/{algorithm}",
        target=42,
        target_root="b" * 64,
    )


def read(pieces: Iterable[bytes], algorithm: HashAlgorithm = SHA256) -> list[Change]:
    reader = DeltaReader(algorithm, max_changes=10_000)
    changes = [change for piece in pieces for change in reader.feed(piece)]
    assert reader.finish() == reader.header
    assert reader.seen == len(changes)
    return changes


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(bounds)]


def test_the_form_is_that_of_the_protocol() -> None:
    """Section 6.1, to the byte."""
    changes = [
        Change(bytes.fromhex("01" * 32), None, A1.encode()),
        Change(bytes.fromhex("02" * 32), b"{}", None),
        Change(bytes.fromhex("03" * 32), b"{}", A1.encode()),
    ]
    expected = (
        f'{{"base":41,"base_root":"{"a" * 64}","changes":3,"format":"hashshare-delta/1",'
        f'"list":"csam/confirmed/sha256","target":42,"target_root":"{"b" * 64}"}}\n'
        f'{{"attributes":{A1},"hash":"{"01" * 32}","op":"add"}}\n'
        f'{{"hash":"{"02" * 32}","op":"remove"}}\n'
        f'{{"attributes":{A1},"hash":"{"03" * 32}","op":"change"}}\n'
    )
    assert b"".join(encode_delta(header_of(3), changes)).decode() == expected


@given(contents, contents, st.lists(st.integers(0), max_size=6))
def test_a_delta_reads_as_it_was_written(
    old: dict[bytes, bytes], new: dict[bytes, bytes], places: list[int]
) -> None:
    """Wherever it is cut on its way; what was there before is not on the wire."""
    changes = differences(SHA256, old, new)
    data = b"".join(encode_delta(header_of(len(changes)), changes))
    expected = [replace(c, before=c.before and UNKNOWN) for c in changes]
    assert read(cut(data, places)) == expected
    assert read(data[i : i + 1] for i in range(len(data))) == expected


@pytest.mark.parametrize("algorithm", HashAlgorithm)
def test_long_deltas_come_in_pieces(algorithm: HashAlgorithm) -> None:
    """In each algorithm, in the order of its keys."""
    values = [number.to_bytes(4) + bytes(algorithm.size - 4) for number in range(1, 1200)]
    changes = [Change(v, None, b"{}") for v in sorted(values, key=algorithm.key)]
    pieces = list(encode_delta(header_of(len(changes), algorithm), changes))
    assert len(pieces) == 1 + len(changes) // LINES_A_PIECE
    assert all(pieces)
    assert read(pieces, algorithm) == changes


def lines(*changes: str, announced: int | None = None) -> bytes:
    header = msgspec.json.encode(header_of(len(changes) if announced is None else announced))
    return b"".join(line + b"\n" for line in (header, *(c.encode() for c in changes)))


def add(digits: str, attributes: str = A1) -> str:
    return f'{{"attributes":{attributes},"hash":"{digits}","op":"add"}}'


GOOD = lines(add(LOW), f'{{"hash":"{HIGH}","op":"remove"}}')

MALFORMED = {
    "empty": b"",
    "no header": (add(LOW) + "\n").encode(),
    "blank line": lines(add(LOW), ""),
    "blank first line": b"\n" + GOOD,
    "no last line feed": GOOD[:-1],
    "half a line more": GOOD + b"{",
    "line feed more": GOOD + b"\n",
    "carriage returns": GOOD.replace(b"\n", b"\r\n"),
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "fewer than announced": lines(add(LOW), announced=2),
    "more than announced": lines(add(LOW), announced=0),
    "two deltas": GOOD + GOOD,
    "out of order": lines(add(HIGH), add(LOW)),
    "twice": lines(add(LOW), add(LOW)),
    "upper case": lines(add("AB" * 32)),
    "too short": lines(add("10" * 31)),
    "too long": lines(add("10" * 33)),
    "no hex": lines(add("1g" * 32)),
    "digits of another script": lines(add("\u0661" * 64)),
    "a number as hash": lines(f'{{"attributes":{A1},"hash":1,"op":"add"}}'),
    "unknown operation": lines(f'{{"attributes":{A1},"hash":"{LOW}","op":"put"}}'),
    "add without attributes": lines(f'{{"hash":"{LOW}","op":"add"}}'),
    "change without attributes": lines(f'{{"hash":"{LOW}","op":"change"}}'),
    "remove with attributes": lines(f'{{"attributes":{A1},"hash":"{LOW}","op":"remove"}}'),
    "unknown field": lines(f'{{"hash":"{LOW}","op":"remove","why":1}}'),
    "other order of fields": lines(f'{{"op":"remove","hash":"{LOW}"}}'),
    "spaces": lines(f'{{"hash": "{LOW}","op":"remove"}}'),
    "space at the end": lines(f'{{"hash":"{LOW}","op":"remove"}} '),
    "name twice": lines(f'{{"hash":"{LOW}","hash":"{LOW}","op":"remove"}}'),
    "needless escape": lines(f'{{"hash":"\\u0031{LOW[1:]}","op":"remove"}}'),
    "array": lines(f'["{LOW}","remove"]'),
    "attributes null": lines(add(LOW, "null")),
    "attributes no object": lines(add(LOW, "1")),
    "attributes with spaces": lines(add(LOW, '{"a": 1}')),
    "attributes unsorted": lines(add(LOW, '{"b":1,"a":1}')),
    "attributes with a name twice": lines(add(LOW, '{"a":1,"a":1}')),
    "attributes not UTF-8": lines(add(LOW, '{"a":"X"}')).replace(b"X", b"\xff"),
    "attributes too deep": lines(add(LOW, '{"a":' * 5000 + "1" + "}" * 5000)),
    "line too long": lines(add(LOW, f'{{"a":"{"x" * MAX_LINE_BYTES}"}}')),
    "line that never ends": GOOD + b"x" * (MAX_LINE_BYTES + 1),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("size", [None, 1, 1000])
def test_a_malformed_delta_is_refused(data: bytes, size: int | None) -> None:
    """All at once, or byte by byte."""
    pieces = [data] if size is None else [data[i : i + size] for i in range(0, len(data), size)]
    with pytest.raises(MalformedError):
        read(pieces)


def test_the_good_one_is_good() -> None:
    """Or the refusals above would prove nothing."""
    assert len(read([GOOD])) == 2


HEADERS = {
    "backwards": {"base": 43},
    "negative": {"base": -1},
    "too great": {"target": 2**53},
    "another format": {"format": "hashshare-delta/2"},
    "another algorithm": {"list": "csam/confirmed/md5"},
    "no list": {"list": "csam"},
    "no list that could be": {"list": "CSAM/confirmed/sha256"},
    "upper case root": {"target_root": "B" * 64},
    "short root": {"base_root": "a" * 63},
    "root with a line feed": {"base_root": "a" * 64 + "\n"},
    "a text as number": {"changes": "0"},
    "a fraction": {"changes": 0.5},
    "unknown field": {"why": 1},
    "too many changes": {"changes": 10_001},
}


@pytest.mark.parametrize("fields", HEADERS.values(), ids=HEADERS.keys())
def test_a_malformed_header_is_refused(fields: dict[str, object]) -> None:
    """Before a change is looked at."""
    good = msgspec.to_builtins(header_of(0))
    document = dict(sorted({**good, **fields}.items()))
    reader = DeltaReader(SHA256, max_changes=10_000)
    with pytest.raises(MalformedError):
        reader.feed(msgspec.json.encode(document) + b"\n")


@pytest.mark.parametrize("old", [b'"base":41', b'"format":', b"{"])
def test_a_header_has_one_spelling(old: bytes) -> None:
    """No spaces, no fraction."""
    line = msgspec.json.encode(header_of(0)) + b"\n"
    for new in (old + b" ", b" " + old):
        with pytest.raises(MalformedError):
            DeltaReader(SHA256, max_changes=0).feed(line.replace(old, new, 1))
    DeltaReader(SHA256, max_changes=0).feed(line)


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_arbitrary_bytes_are_malformed(pieces: list[bytes]) -> None:
    """And nothing else: no foreign error comes out."""
    with pytest.raises(MalformedError):
        read(pieces)


@given(st.integers(0), st.integers(1, 255), st.booleans())
def test_a_changed_byte_is_refused_or_read_as_it_stands(
    place: int, mask: int, is_removed: bool
) -> None:
    """What is accepted is written the same again: there is one spelling."""
    place %= len(GOOD)
    changed = b"" if is_removed else bytes([GOOD[place] ^ mask])
    data = GOOD[:place] + changed + GOOD[place + 1 :]
    reader = DeltaReader(SHA256, max_changes=10_000)
    try:
        changes = reader.feed(data)
        header = reader.finish()
    except MalformedError:
        return
    assert b"".join(encode_delta(header, changes)) == data


def test_no_message_tells_a_hash() -> None:
    """Messages go to logs."""
    for data in MALFORMED.values():
        with pytest.raises(MalformedError) as caught:
            read([data])
        assert "1010" not in str(caught.value)

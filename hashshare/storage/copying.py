"""Rows for PostgreSQL's binary COPY, made by numpy: millions a second.

Rows of the same shape, which are those whose texts have the same lengths, are laid out
together as one array.

Source: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hashshare.domain.columns import Bytes2D, Numbers, Texts

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"
_ROWS_A_CHUNK: Final = 32_768

Indexes = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A field with the same bytes in all rows; None is NULL."""

    data: bytes | None


@dataclass(frozen=True, slots=True, eq=False)
class Fixed:
    """A field whose bytes have the same length in all rows: one row of ``data`` each."""

    data: Bytes2D


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """A field that is one of a few values, by ``number``; None is NULL."""

    options: Sequence[bytes | None]
    number: Numbers


@dataclass(frozen=True, slots=True, eq=False)
class Varied:
    """A text of any length: for each row the one that ``number`` says."""

    texts: Texts
    number: Numbers


Field = Constant | Fixed | Chosen | Varied


def to_int4(numbers: NDArray[np.integer]) -> Fixed:
    """Return an ``integer`` field."""
    return Fixed(numbers.astype(">i4").view(np.uint8).reshape(-1, 4))


def constant_int4(number: int) -> Constant:
    """Return an ``integer`` field that is the same in all rows."""
    return Constant(number.to_bytes(4, "big", signed=True))


def constant_int8(number: int) -> Constant:
    """Return a ``bigint`` field that is the same in all rows."""
    return Constant(number.to_bytes(8, "big", signed=True))


async def encode_rows(fields: Sequence[Field], count: int) -> AsyncIterator[bytes]:
    """Yield ``count`` rows as binary COPY, some ten thousand at a time.

    It is an asynchronous iterator because asyncpg takes only that; it never waits.
    """
    yield _HEADER
    for begin in range(0, count, _ROWS_A_CHUNK):
        rows = np.arange(begin, min(begin + _ROWS_A_CHUNK, count))
        yield b"".join(_encode_chunk(fields, rows))
    yield _TRAILER


def _encode_chunk(fields: Sequence[Field], rows: Indexes) -> Iterator[bytes]:
    shapes = _shapes(fields, rows)
    if shapes is None:
        yield _encode_alike(fields, rows).tobytes()
        return
    _, first, group = np.unique(shapes, return_index=True, return_inverse=True)
    blocks = [(group == number).nonzero()[0] for number in range(len(first))]
    encoded = [_encode_alike(fields, rows[block]) for block in blocks]
    widths = np.array([block.shape[1] for block in encoded], dtype=np.int64)[group]
    ends = np.cumsum(widths)
    out = np.empty(int(ends[-1]), dtype=np.uint8)
    begins = ends - widths
    for block, data in zip(blocks, encoded, strict=True):
        out[begins[block][:, None] + np.arange(data.shape[1])] = data
    yield out.tobytes()


def _shapes(fields: Sequence[Field], rows: Indexes) -> Indexes | None:
    """Return for each row a number that is equal for rows of one shape; None if all are."""
    shapes: Indexes | None = None
    for field in fields:
        match field:
            case Chosen(options=options, number=number) if len(options) > 1:
                part, base = number[rows].astype(np.int64), len(options)
            case Varied(texts=texts, number=number) if texts.data:
                part = texts.lengths[number[rows]]
                base = int(part.max()) + 1
            case _:
                continue
        shapes = part if shapes is None else shapes * base + part
    return shapes


def _encode_alike(fields: Sequence[Field], rows: Indexes) -> Bytes2D:
    """Return rows of one shape, one a row of the array."""
    parts: list[bytes | Bytes2D] = [len(fields).to_bytes(2, "big")]
    for field in fields:
        data = _data(field, rows)
        if data is None:
            parts.append(_NULL)
        else:
            size = len(data) if isinstance(data, bytes) else data.shape[1]
            parts += [size.to_bytes(4, "big"), data]
    width = sum(len(part) if isinstance(part, bytes) else part.shape[1] for part in parts)
    out = np.empty((len(rows), width), dtype=np.uint8)
    begin = 0
    for part in parts:
        data = np.frombuffer(part, dtype=np.uint8) if isinstance(part, bytes) else part
        end = begin + data.shape[-1]
        out[:, begin:end] = data
        begin = end
    return out


def _data(field: Field, rows: Indexes) -> bytes | Bytes2D | None:
    match field:
        case Constant(data=data):
            return data
        case Fixed(data=values):
            return values[rows[0] : rows[-1] + 1] if _adjoin(rows) else values[rows]
        case Chosen(options=options, number=number):
            return options[int(number[rows[0]])]
        case Varied(texts=texts, number=number):
            chosen = number[rows]
            length = int(texts.lengths[chosen[0]]) if texts.data else 0
            if not length:
                return b""
            begins = texts.ends[chosen] - length
            packed = np.frombuffer(texts.data, dtype=np.uint8)
            gathered: Bytes2D = packed[begins[:, None] + np.arange(length)]
            return gathered


def _adjoin(rows: Indexes) -> bool:
    return int(rows[-1] - rows[0]) == len(rows) - 1

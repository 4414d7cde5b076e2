"""Between columns of entries and the bytes of buckets, many at a time."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from hashshare.domain.buckets import TAG_BYTES
from hashshare.domain.chunks import Bytes, EntryChunk
from hashshare.domain.hashes import HashAlgorithm
from hashshare.errors import MalformedError
from hashshare.replica.packed import StoreTag, count_of

_TAG: Final = np.dtype([("high", ">u8"), ("low", ">u8")])


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Some entries as they stand in buckets.

    Attributes:
        values: One a row, in key order.
        tags: 16 bytes a row.
    """

    values: Bytes
    tags: Bytes


def tagged(
    chunks: Iterable[EntryChunk], algorithm: HashAlgorithm, store_tag: StoreTag
) -> Iterator[Columns]:
    """Yield entries with the tags of their attributes.

    Raises:
        MalformedError: The columns of a chunk do not fit each other or the algorithm.
    """
    for chunk in chunks:
        if not len(chunk):
            continue
        table = np.frombuffer(b"".join(map(store_tag, chunk.attributes)), np.uint8)
        if (
            chunk.values.shape[1] != algorithm.size
            or len(chunk.attribute_ids) != len(chunk)
            or chunk.attribute_ids.max() >= len(chunk.attributes)
        ):
            raise MalformedError("the columns of entries do not fit each other")
        yield Columns(
            chunk.values, np.take(table.reshape(-1, TAG_BYTES), chunk.attribute_ids, axis=0)
        )


def columns_of(buckets: Sequence[bytes], algorithm: HashAlgorithm) -> Columns:
    """Return the entries of several buckets, in their order.

    Raises:
        ReplicaDamagedError: The length of a bucket does not fit its number of entries.
    """
    ends = [4 + count_of(data, algorithm) * algorithm.size for data in buckets]
    values = b"".join([data[4:end] for data, end in zip(buckets, ends, strict=True)])
    tags = b"".join([data[end:] for data, end in zip(buckets, ends, strict=True)])
    return Columns(
        np.frombuffer(values, np.uint8).reshape(-1, algorithm.size),
        np.frombuffer(tags, np.uint8).reshape(-1, TAG_BYTES),
    )


def to_chunk(columns: Columns, attributes: Callable[[bytes], bytes]) -> EntryChunk:
    """Return entries with their attributes.

    Args:
        columns: The entries.
        attributes: Gives the attributes of a tag.
    """
    tags = columns.tags.view(_TAG).reshape(-1)
    # Numbers are sorted much faster than pairs of them. Members could make two tags that
    # agree in one half, but this is seen.
    _, first, ids = np.unique(tags["high"], return_index=True, return_inverse=True)
    if not np.array_equal(tags["low"][first][ids], tags["low"]):
        _, first, ids = np.unique(tags, return_index=True, return_inverse=True)
    named = [attributes(columns.tags[number].tobytes()) for number in first]
    return EntryChunk(columns.values, ids.astype(np.uint32), named)


def buckets_of(
    parts: Iterable[Columns], algorithm: HashAlgorithm, bits: int
) -> Iterator[tuple[int, bytes]]:
    """Yield the index and bytes of every bucket that is not empty, ascending.

    Args:
        parts: Entries in key order.
        algorithm: Of the values.
        bits: There are 2**bits buckets.

    Raises:
        MalformedError: Entries are out of order, or there twice.
    """
    rest = Columns(np.empty((0, algorithm.size), np.uint8), np.empty((0, TAG_BYTES), np.uint8))
    rest_index = np.empty(0, np.uint64)
    last_key = b""
    for part in parts:
        keys = _keys(part.values, algorithm)
        _verify_order(keys, last_key)
        last_key = keys[-1].tobytes()
        indexes = _indexes(keys, bits)
        # The last bucket of one part may go on in the next.
        begin = int(np.searchsorted(indexes, rest_index[0], "right")) if len(rest_index) else 0
        end = int(np.searchsorted(indexes, indexes[-1]))
        rest = _joined(rest, _cut(part, 0, begin))
        if begin < len(indexes):
            yield from _encode(rest, rest_index)
            yield from _encode(_cut(part, begin, end), indexes[begin:end])
            rest, rest_index = _cut(part, end, len(indexes)), indexes[-1:]
    yield from _encode(rest, rest_index)


def _cut(columns: Columns, begin: int, end: int) -> Columns:
    return Columns(columns.values[begin:end], columns.tags[begin:end])


def _joined(first: Columns, second: Columns) -> Columns:
    if not len(second.values):
        return first
    return Columns(
        np.concatenate([first.values, second.values]), np.concatenate([first.tags, second.tags])
    )


def _keys(values: Bytes, algorithm: HashAlgorithm) -> Bytes:
    if algorithm.uniform:
        return values
    size = algorithm.size
    data = values.tobytes()
    digests = [hashlib.sha256(data[i : i + size]).digest() for i in range(0, len(data), size)]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)


def _verify_order(keys: Bytes, last_key: bytes) -> None:
    # Of equal length, so that it does not matter that S overlooks zeros at the end.
    texts = np.ascontiguousarray(keys).view(f"S{keys.shape[1]}").reshape(-1)
    if keys[0].tobytes() <= last_key or not bool(np.all(texts[:-1] < texts[1:])):
        raise MalformedError("entries are in key order, each once")


def _indexes(keys: Bytes, bits: int) -> npt.NDArray[np.uint64]:
    leading = np.ascontiguousarray(keys[:, :4]).view(">u4").reshape(-1)
    return leading.astype(np.uint64) >> np.uint64(32 - bits)


def _encode(columns: Columns, indexes: npt.NDArray[np.uint64]) -> Iterator[tuple[int, bytes]]:
    values, tags = columns.values, columns.tags
    if not len(values):
        return
    firsts = [0, *(np.flatnonzero(np.diff(indexes)) + 1).tolist()]
    size = values.shape[1]
    # Views, so that each byte is copied once.
    value_bytes, tag_bytes = values.data.cast("B"), tags.data.cast("B")
    for index, first, end in zip(
        indexes[firsts].tolist(), firsts, [*firsts[1:], len(values)], strict=True
    ):
        parts = (
            (end - first).to_bytes(4, "big"),
            value_bytes[first * size : end * size],
            tag_bytes[first * TAG_BYTES : end * TAG_BYTES],
        )
        yield index, b"".join(parts)

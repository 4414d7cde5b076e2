"""Snapshots on the wire: Parquet, read without our code by pyarrow, DuckDB, polars and others.

Encodings are pinned: the library's defaults cost a tenth more bytes. The bytes of a file are
not canonical; what is signed is the root of its entries.

Source: docs/protocol.md, "Snapshot".
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hashshare.crypto import canonical
from hashshare.domain.chunks import EntryChunk
from hashshare.domain.hashes import HashAlgorithm
from hashshare.errors import MalformedError

MEDIA_TYPE: Final = "application/vnd.apache.parquet"
MIN_ROWS_A_GROUP: Final = 65_536
MAX_GROUPS: Final = 128
BATCH_ROWS: Final = 65_536
MAX_ATTRIBUTES_BYTES: Final = 64 * 1024

_DICTIONARY: Final = pa.dictionary(pa.int32(), pa.string())
_WRITTEN: Final = pa.schema(
    [pa.field("hash", pa.binary(), nullable=False), pa.field("attributes", _DICTIONARY, False)]
)
# Name, physical type, logical type, definition level, repetition level.
_COLUMNS: Final = [
    ("hash", "BYTE_ARRAY", "NONE", 0, 0),
    ("attributes", "BYTE_ARRAY", "STRING", 0, 0),
]


def write_snapshot(path: Path, chunks: Iterable[EntryChunk], *, count: int) -> None:
    """Write a list to a new file at ``path``.

    Args:
        path: Overwritten if it exists.
        chunks: In key order, each beginning with a new bucket.
        count: How many entries there are, to choose the row groups.
    """
    rows = max(MIN_ROWS_A_GROUP, -(-count // MAX_GROUPS))
    with pq.ParquetWriter(
        path,
        _WRITTEN,
        compression="zstd",
        compression_level=3,
        use_dictionary=["attributes"],
        column_encoding={"hash": "DELTA_BYTE_ARRAY"},
        write_statistics=["hash"],
        store_schema=False,
    ) as writer:
        for group in _groups(chunks, rows):
            writer.write_table(_to_table(group), row_group_size=2**31 - 1)


def read_snapshot(path: Path, algorithm: HashAlgorithm, *, max_count: int) -> Iterator[EntryChunk]:
    """Yield the entries of the file at ``path``, in its order.

    Verify the digest of the file first: parsers are where attackers look. The order is not
    verified here but where the entries go to.

    Args:
        path: The file.
        algorithm: Of its hashes.
        max_count: More rows than this are refused before any is read.

    Raises:
        MalformedError: The file is no snapshot of this algorithm, or is damaged.
    """
    try:
        # First, since the library gives up on a dictionary that is not there in its own way.
        metadata = pq.read_metadata(path)
        _verify_schema(metadata, max_count)
        # With pre_buffer the whole file would be held in memory.
        with pq.ParquetFile(
            path, metadata=metadata, pre_buffer=False, read_dictionary=["attributes"]
        ) as file:
            count = 0
            for batch in file.iter_batches(BATCH_ROWS):
                count += len(batch)
                if count > max_count:
                    raise MalformedError(f"the snapshot has more than {max_count} rows")
                yield _to_chunk(batch, algorithm)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise MalformedError("not a snapshot, or damaged") from error


def _groups(chunks: Iterable[EntryChunk], rows: int) -> Iterator[list[EntryChunk]]:
    """Gather chunks for one row group after another; they are never split."""
    group: list[EntryChunk] = []
    count = 0
    for chunk in chunks:
        group.append(chunk)
        count += len(chunk)
        if count >= rows:
            yield group
            group, count = [], 0
    if group:
        yield group


def _verify_schema(metadata: pq.FileMetaData, max_count: int) -> None:
    schema = metadata.schema
    columns = [
        (
            column.path,
            column.physical_type,
            column.logical_type.type,
            column.max_definition_level,
            column.max_repetition_level,
        )
        for column in map(schema.column, range(len(schema)))
    ]
    if columns != _COLUMNS or schema.to_arrow_schema().types != [pa.binary(), pa.string()]:
        raise MalformedError("a snapshot has the columns hash and attributes")
    if metadata.num_rows > max_count:
        raise MalformedError(f"the snapshot has {metadata.num_rows} rows, over {max_count}")


def _to_table(chunks: list[EntryChunk]) -> pa.Table:
    batches = []
    for chunk in chunks:
        size = chunk.values.shape[1]
        offsets = np.arange(len(chunk) + 1, dtype=np.int32) * size
        data = np.ascontiguousarray(chunk.values)
        values = pa.Array.from_buffers(
            pa.binary(), len(chunk), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        )
        attributes = pa.DictionaryArray.from_arrays(
            pa.array(chunk.attribute_ids.astype(np.int32)),
            pa.array([text.decode() for text in chunk.attributes], pa.string()),
        )
        batches.append(pa.record_batch([values, attributes], schema=_WRITTEN))
    return pa.Table.from_batches(batches, _WRITTEN).unify_dictionaries()


def _to_chunk(batch: pa.RecordBatch, algorithm: HashAlgorithm) -> EntryChunk:
    # Among others, that indexes are within the dictionary and texts are UTF-8.
    batch.validate(full=True)
    hashes, attributes = batch.column(0), batch.column(1)
    if hashes.null_count or attributes.null_count:
        raise MalformedError("a snapshot has no empty cells")
    size = algorithm.size
    if len(hashes) and pc.min_max(pc.binary_length(hashes)).as_py() != {"min": size, "max": size}:
        raise MalformedError(f"a hash of the snapshot does not have {size} bytes")
    texts = [text.encode() for text in attributes.dictionary.to_pylist()]
    for text in texts:
        _verify_attributes(text)
    return EntryChunk(
        _bytes_of(hashes).reshape(-1, size),
        attributes.indices.to_numpy(zero_copy_only=False).astype(np.uint32),
        texts,
    )


def _bytes_of(hashes: pa.BinaryArray) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Return the values without a gap. Their lengths are known to be the same."""
    _, offsets, data = hashes.buffers()
    if not len(hashes):
        return np.empty(0, np.uint8)
    ends = np.frombuffer(offsets, np.int32)[hashes.offset : hashes.offset + len(hashes) + 1]
    # A copy, since the buffer is much longer than what is taken from it.
    return np.frombuffer(data, np.uint8)[int(ends[0]) : int(ends[-1])].copy()


# The same few stand in every batch.
@lru_cache(maxsize=1024)
def _verify_attributes(attributes: bytes) -> None:
    canonical.decode(attributes, max_bytes=MAX_ATTRIBUTES_BYTES)

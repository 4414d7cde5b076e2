"""Laws of snapshots on the wire."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.domain.chunks import EntryChunk
from hashshare.domain.hashes import HashAlgorithm
from hashshare.errors import MalformedError
from hashshare.wire.parquet import MAX_GROUPS, MIN_ROWS_A_GROUP, read_snapshot, write_snapshot

SHA256 = HashAlgorithm.SHA256
ATTRIBUTES = [b'{"by":{"a":"A1"}}', '{"by":{"b":"Ä"}}'.encode(), b'{"members":2}']

Entries = list[tuple[bytes, bytes]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's snapshot is."""
    return tmp_path / "snapshot.parquet"


def chunk(size: int, values: list[bytes], attributes: list[bytes]) -> EntryChunk:
    """A chunk with its own dictionary, as each one of a replica has."""
    distinct = sorted(set(attributes))
    return EntryChunk(
        np.frombuffer(b"".join(values), np.uint8).reshape(-1, size),
        np.array([distinct.index(a) for a in attributes], np.uint32),
        distinct,
    )


def many(count: int, *, seed: int = 1) -> EntryChunk:
    """Sorted random SHA-256, with attributes at random."""
    source = np.random.default_rng(seed)
    values = source.integers(0, 256, (count, 32), np.uint8)
    values = values[np.lexsort(values.T[::-1])]
    return EntryChunk(values, source.integers(0, 3, count).astype(np.uint32), ATTRIBUTES)


def pieces(whole: EntryChunk, size: int) -> list[EntryChunk]:
    return [
        EntryChunk(whole.values[i : i + size], whole.attribute_ids[i : i + size], whole.attributes)
        for i in range(0, len(whole), size)
    ]


def read(path: Path, algorithm: HashAlgorithm = SHA256, *, max_count: int = 10**6) -> Entries:
    chunks = list(read_snapshot(path, algorithm, max_count=max_count))
    return [entry for chunk in chunks for entry in chunk.entries()]


@given(st.data(), st.sampled_from(HashAlgorithm))
def test_a_snapshot_reads_as_it_was_written(data: st.DataObject, algorithm: HashAlgorithm) -> None:
    """In each algorithm, however it is cut, and by pyarrow alone too."""
    size = algorithm.size
    entries = data.draw(
        st.dictionaries(st.binary(min_size=size, max_size=size), st.sampled_from(ATTRIBUTES))
    )
    rows = sorted(entries.items(), key=lambda entry: algorithm.key(entry[0]))
    step = data.draw(st.integers(1, 5))
    chunks = []
    for i in range(0, len(rows), step):
        values, attributes = zip(*rows[i : i + step], strict=True)
        chunks.append(chunk(size, list(values), list(attributes)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot.parquet"
        write_snapshot(path, chunks, count=len(rows))
        assert read(path, algorithm, max_count=len(rows)) == rows
        plain = pq.read_table(path).to_pydict()
    assert plain == {"hash": [v for v, _ in rows], "attributes": [a.decode() for _, a in rows]}


def test_the_form_of_the_file(path: Path) -> None:
    """What readers of other makers rely on: see the measurements in the protocol's reference."""
    whole = many(3 * MIN_ROWS_A_GROUP)
    write_snapshot(path, pieces(whole, 10_000), count=len(whole))
    with pq.ParquetFile(path) as file:
        assert file.schema_arrow == pa.schema(
            [pa.field("hash", pa.binary(), False), pa.field("attributes", pa.string(), False)]
        )
        metadata = file.metadata
        assert metadata.num_rows == len(whole)
        # Groups are cut between chunks, that is between buckets.
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        assert [group.num_rows for group in groups] == [70_000, 70_000, 56_608]
        for group in groups:
            hashes, attributes = group.column(0), group.column(1)
            assert {hashes.compression, attributes.compression} == {"ZSTD"}
            assert "DELTA_BYTE_ARRAY" in hashes.encodings
            assert not hashes.has_dictionary_page
            assert attributes.has_dictionary_page
        first = groups[0].column(0).statistics
        assert (first.min, first.max) == (
            whole.values[0].tobytes(),
            whole.values[69_999].tobytes(),
        )
        assert metadata.metadata is None
    # 29.3 bytes is the bound for so many random values, log2 of the choices; and the
    # attributes cost log2(3) bits.
    assert path.stat().st_size / len(whole) < 31.5


def test_groups_are_few(path: Path) -> None:
    """A reader of the footer pays for each."""
    chunks = pieces(many(1000), 1)
    write_snapshot(path, chunks, count=MAX_GROUPS * MIN_ROWS_A_GROUP * 1000)
    assert pq.read_metadata(path).num_row_groups == 1


def test_an_empty_list_has_a_snapshot(path: Path) -> None:
    """With the columns, and no row."""
    write_snapshot(path, [], count=0)
    assert read(path, max_count=0) == []
    assert pq.read_table(path).num_rows == 0
    assert pq.read_metadata(path).num_row_groups == 0


def test_a_long_snapshot_is_read_in_parts(path: Path) -> None:
    """None of them long: the memory that a reader needs does not grow with the list."""
    whole = many(200_000)
    write_snapshot(path, pieces(whole, 30_000), count=len(whole))
    chunks = list(read_snapshot(path, SHA256, max_count=200_000))
    assert max(map(len, chunks)) <= 65_536
    assert np.array_equal(np.concatenate([c.values for c in chunks]), whole.values)
    texts = [c.attributes[i] for c in chunks for i in c.attribute_ids[:3]]
    assert set(texts) <= set(ATTRIBUTES)


def test_more_rows_than_announced_are_refused(path: Path) -> None:
    """Before any of them is read."""
    write_snapshot(path, [many(1000)], count=1000)
    assert len(read(path, max_count=1000)) == 1000
    with pytest.raises(MalformedError):
        next(read_snapshot(path, SHA256, max_count=999))


def test_a_lie_about_the_number_of_rows_does_not_help(path: Path) -> None:
    """The file states it in several places; the rows that come out are counted too."""
    write_snapshot(path, [many(1000)], count=1000)
    parts = path.read_bytes().split(_varint(1000))
    assert len(parts) > 3
    for number in range(1, len(parts)):
        honest = [_varint(1000).join(half) for half in (parts[:number], parts[number:])]
        with pytest.raises(MalformedError):
            _read_bytes(path, _varint(500).join(honest), max_count=999)


def _varint(number: int) -> bytes:
    """The form of whole numbers in the footer (Thrift's compact protocol), of two bytes."""
    zigzag = number << 1
    return bytes([zigzag & 0x7F | 0x80, zigzag >> 7])


def _read_bytes(path: Path, content: bytes, **arguments: Any) -> Entries:
    path.write_bytes(content)
    return read(path, **arguments)


VALUE = b"\x10" * 32
TEXT = "{}"


def table(hashes: Any = None, attributes: Any = None, **others: Any) -> pa.Table:
    """A table like a snapshot's, but for what is given."""
    columns = {
        "hash": pa.array([VALUE]) if hashes is None else hashes,
        "attributes": pa.array([TEXT]) if attributes is None else attributes,
        **others,
    }
    fields = [
        pa.field(name, column.type, column.null_count > 0) for name, column in columns.items()
    ]
    return pa.table(columns, schema=pa.schema(fields))


OTHER_TABLES = {
    "one column more": table(more=pa.array([1])),
    "one column less": table().select(["hash"]),
    "other order": table().select(["attributes", "hash"]),
    "other names": table().rename_columns(["Hash", "attributes"]),
    "hash of fixed size": table(pa.array([VALUE], pa.binary(32))),
    "hash large": table(pa.array([VALUE], pa.large_binary())),
    "hash as text": table(pa.array([VALUE.hex()])),
    "hash as number": table(pa.array([1])),
    "hash null": table(pa.array([None], pa.binary())),
    "hash as list": table(pa.array([[VALUE]])),
    "attributes null": table(attributes=pa.array([None], pa.string())),
    "attributes as bytes": table(attributes=pa.array([b"{}"])),
    "attributes as structure": table(attributes=pa.array([{"by": "a"}])),
    "attributes as list": table(attributes=pa.array([["{}"]])),
    "hash too short": table(pa.array([VALUE[:31]])),
    "hash too long": table(pa.array([VALUE + b"\0"])),
    "hash empty": table(pa.array([b""])),
    "attributes no JSON": table(attributes=pa.array(["x"])),
    "attributes no object": table(attributes=pa.array(["1"])),
    "attributes not canonical": table(attributes=pa.array(['{"a": 1}'])),
    "attributes too long": table(attributes=pa.array([f'{{"a":"{"x" * 70_000}"}}'])),
}


@pytest.mark.parametrize("other", OTHER_TABLES.values(), ids=OTHER_TABLES.keys())
def test_another_table_is_refused(path: Path, other: pa.Table) -> None:
    """There is one schema, and nothing is guessed."""
    pq.write_table(other, path)
    with pytest.raises(MalformedError):
        read(path)


def test_nullable_columns_are_refused(path: Path) -> None:
    """Even if nothing is null."""
    pq.write_table(pa.table({"hash": pa.array([VALUE]), "attributes": pa.array([TEXT])}), path)
    with pytest.raises(MalformedError):
        read(path)


def test_the_same_table_of_another_writer_is_read(path: Path) -> None:
    """Encodings and compression are the writer's; or the refusals above would prove nothing."""
    pq.write_table(table(), path, compression="gzip")
    assert read(path) == [(VALUE, TEXT.encode())]


def test_a_text_that_is_not_utf8_is_refused(path: Path) -> None:
    """Wherever the library itself does not look."""
    data = pa.py_buffer(b'{"a":"\xff"}')
    offsets = pa.py_buffer(np.array([0, len(data.to_pybytes())], np.int32))
    broken = pa.Array.from_buffers(pa.string(), 1, [None, offsets, data])
    pq.write_table(table(attributes=broken), path)
    with pytest.raises(MalformedError):
        read(path)


def test_another_algorithm_is_refused(path: Path) -> None:
    """Lengths tell most; the signed root tells the rest."""
    write_snapshot(path, [many(10)], count=10)
    with pytest.raises(MalformedError):
        read(path, HashAlgorithm.MD5)


@pytest.fixture(scope="module")
def small() -> bytes:
    """A snapshot of some rows in two groups."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot.parquet"
        write_snapshot(path, [many(50)], count=50)
        return path.read_bytes()


@pytest.mark.parametrize("kept", [0, 4, 8, 100, 1000, -8, -1])
def test_a_truncated_file_is_refused(path: Path, small: bytes, kept: int) -> None:
    """Where the connection was lost."""
    with pytest.raises(MalformedError):
        _read_bytes(path, small[:kept])


def test_a_file_that_is_gone_is_malformed(path: Path) -> None:
    """Nothing but our errors comes out."""
    with pytest.raises(MalformedError):
        read(path)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_malformed(data: bytes) -> None:
    """With the marks at both ends too."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot.parquet"
        for content in (data, b"PAR1" + data + len(data).to_bytes(4, "little") + b"PAR1"):
            with pytest.raises(MalformedError):
                _read_bytes(path, content)


@given(st.integers(0), st.integers(1, 255))
def test_a_changed_byte_gives_entries_or_malformed(small: bytes, place: int, mask: int) -> None:
    """No foreign error, no crash; which entries it gives, the signed root judges."""
    place %= len(small)
    content = small[:place] + bytes([small[place] ^ mask]) + small[place + 1 :]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot.parquet"
        try:
            entries = _read_bytes(path, content, max_count=50)
        except MalformedError:
            return
    assert len(entries) <= 50
    assert all(len(value) == 32 for value, _ in entries)


def test_the_same_list_gives_the_same_file(tmp_path: Path) -> None:
    """Within one release of the library, so that two publishers need not store it twice."""
    digests = set()
    for name in "ab":
        write_snapshot(tmp_path / name, pieces(many(5000), 700), count=5000)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).digest())
    assert len(digests) == 1

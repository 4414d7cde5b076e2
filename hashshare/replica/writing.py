"""Writing to a replica: strict changes, whole lists, repairs; all within one transaction."""

import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby, islice
from typing import Final

from hashshare.crypto.merkle import leaf_hash
from hashshare.domain.buckets import (
    MAX_BITS,
    bits_for,
    bucket_index,
    parse_bucket,
    tag_of,
    verify_bucket,
)
from hashshare.domain.changes import Change
from hashshare.domain.chunks import EntryChunk
from hashshare.domain.hashes import HashAlgorithm
from hashshare.errors import (
    DeltaMismatchError,
    MalformedError,
    ReplicaDamagedError,
    RootMismatchError,
)
from hashshare.replica.ahead import ahead
from hashshare.replica.columns import Columns, buckets_of, columns_of, tagged
from hashshare.replica.packed import change_bucket
from hashshare.replica.reading import Reading
from hashshare.replica.store import MAX_BUCKETS, ListState, find_list, read_bucket, read_list
from hashshare.replica.tree import empty_root

INSERT_LIST: Final = """
    INSERT INTO list (name, algorithm, version, bits, count, root) VALUES (?, ?, 0, ?, 0, ?)
"""
UPDATE_LIST: Final = "UPDATE list SET version = ?, bits = ?, count = ?, root = ? WHERE list_no = ?"
RENAME_LIST: Final = "UPDATE list SET name = ? WHERE list_no = ?"
DELETE_LIST: Final = "DELETE FROM list WHERE list_no = ?"
DELETE_BUCKETS: Final = "DELETE FROM bucket WHERE bucket_id >= ? AND bucket_id < ?"
DELETE_TILES: Final = "DELETE FROM tile WHERE list_no = ?"
REPLACE_BUCKET: Final = "INSERT OR REPLACE INTO bucket VALUES (?, ?)"
ANOTHER_BUCKET: Final = ", (?, ?)"
DELETE_BUCKET: Final = "DELETE FROM bucket WHERE bucket_id = ?"
INSERT_ATTRIBUTES: Final = "INSERT OR IGNORE INTO attributes VALUES (?, ?)"
REPLACE_ATTRIBUTES: Final = "INSERT OR REPLACE INTO attributes VALUES (?, ?)"
REPLACE_STATE: Final = "INSERT OR REPLACE INTO state VALUES (?, ?)"

REMEMBERED_TAGS: Final = 65_536
BUCKETS_AT_ONCE: Final = 2048
"""By one statement, during which other threads run undisturbed. It has two values for each: SQLite
takes up to 32,766."""

# No list can have this name.
_RECUTTING: Final = "recutting"

NumberedBuckets = Sequence[tuple[int, bytes]]


class Writing(Reading):
    """One transaction on a replica. It also reads what it has written."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self._tags: dict[bytes, bytes] = {}
        self._new_tags: deque[tuple[bytes, bytes]] = deque()

    def put_state(self, name: str, value: bytes) -> None:
        """Remember ``value``, such as a checkpoint, together with the lists."""
        self._connection.execute(REPLACE_STATE, (name, value))

    def apply(
        self,
        name: str,
        algorithm: HashAlgorithm,
        changes: Iterable[Change],
        *,
        base: int,
        target: int,
        expected_count: int = 0,
        minimum_bits: int = 0,
    ) -> ListState:
        """Bring a list from version ``base`` to ``target`` and return its new state.

        When it raises, the transaction must be given up: some changes were made.

        Args:
            name: Of the list; one that is not there is made, empty, if ``base`` is 0.
            algorithm: Of its hashes.
            changes: In key order, each value once.
            base: The version that the list must have.
            target: The version that it has afterwards.
            expected_count: How many entries it will have, if known: saves time, is not
                believed.
            minimum_bits: As the publication of ``target`` says. Whoever skips versions did
                not see the list at its longest, and would cut it into fewer buckets.

        Raises:
            DeltaMismatchError: The list is at another version; an entry to be added is
                there; one to be removed or changed is not, or has other attributes.
            MalformedError: ``changes`` are not in order, or of another length.
            ReplicaDamagedError: What is to be changed is not what the root commits to. So
                the publisher never signs a root that stands on a damaged bucket.
        """
        state = find_list(self._connection, name) or self._insert(name, algorithm, base)
        if (state.version, state.algorithm) != (base, algorithm):
            raise DeltaMismatchError(f"the replica has version {state.version}, not {base}")
        bits = min(MAX_BITS, max(state.bits, minimum_bits))
        state = self._recut(state, bits_for(expected_count, bits))
        state = self._change(state, changes)
        state = self._recut(state, bits_for(state.count, bits))
        return self._write(replace(state, version=target))

    def build(
        self,
        name: str,
        algorithm: HashAlgorithm,
        chunks: Iterable[EntryChunk],
        *,
        version: int,
        bits: int,
        max_count: int,
    ) -> ListState:
        """Replace a list by the entries of ``chunks`` and return its state.

        Args:
            name: Of the list; made if it is not there.
            algorithm: Of its hashes.
            chunks: In key order, each value once; made in another thread.
            version: That these entries are of.
            bits: As the publication says.
            max_count: More entries than this are refused.

        Raises:
            MalformedError: Entries are out of order, there twice, or too many; or the
                columns of a chunk do not fit each other.
        """
        self.drop(name)
        state = replace(self._insert(name, algorithm, 0), bits=bits, root=empty_root(bits))
        columns = _at_most(tagged(chunks, algorithm, self._tag), max_count)
        buckets = buckets_of(columns, algorithm, bits)
        # By a thread while SQLite writes: it does not touch the connection.
        with closing(ahead(_several(buckets))) as parts:
            state = self._fill(state, parts)
        return self._write(replace(state, version=version))

    def require(self, state: ListState, *, count: int, bits: int, root: bytes) -> None:
        """Refuse a list that is not what was signed.

        Raises:
            RootMismatchError: Count, bits or root differ.
        """
        if (state.count, state.bits, state.root) != (count, bits, root):
            raise RootMismatchError(
                f"version {state.version} of {state.name} does not have the signed root"
            )

    def replace_bucket(
        self,
        name: str,
        index: int,
        data: bytes,
        *,
        path: Sequence[bytes],
        attributes: Mapping[bytes, bytes],
    ) -> None:
        """Heal one bucket and the nodes above it, verified against the root that is noted.

        Args:
            name: Of the list.
            index: Of the bucket.
            data: Its bytes.
            path: Its siblings, leaf to root.
            attributes: By tag, all that the bucket uses.

        Raises:
            NotFoundError: There is no such list.
            RootMismatchError: ``data`` is not what the root commits to.
            MalformedError: It holds what does not belong there, or attributes are missing.
        """
        state = read_list(self._connection, name)
        verify_bucket(data, index=index, bits=state.bits, path=path, root=state.root)
        bucket = parse_bucket(data, state.algorithm, index=index, bits=state.bits)
        for tag in set(bucket.tags):
            if tag not in attributes or tag_of(attributes[tag]) != tag:
                raise MalformedError("attributes of the bucket are missing, or others")
            self._connection.execute(REPLACE_ATTRIBUTES, (tag, attributes[tag]))
        self._put_bucket(state, index, data)
        self._tree(state).put_path(index, leaf_hash(data), path)

    def drop(self, name: str) -> None:
        """Forget a list, if there is one of that name."""
        state = find_list(self._connection, name)
        if state is not None:
            self._delete(state)

    def _insert(self, name: str, algorithm: HashAlgorithm, base: int) -> ListState:
        if base:
            raise DeltaMismatchError(f"the replica has no list {name}, and not version {base}")
        self._connection.execute(INSERT_LIST, (name, str(algorithm), 0, empty_root(0)))
        return read_list(self._connection, name)

    def _change(self, state: ListState, changes: Iterable[Change]) -> ListState:
        tree, key = self._tree(state), state.algorithm.key
        count = state.count
        for index, group in groupby(
            _in_order(changes, state.algorithm),
            key=lambda change: bucket_index(key(change.value), state.bits),
        ):
            before = read_bucket(self._connection, state, index)
            data = change_bucket(before, state.algorithm, group, self._store_tag)
            count += int.from_bytes(data[:4], "big") - int.from_bytes(before[:4], "big")
            self._put_bucket(state, index, data)
            if tree.put_leaf(index, leaf_hash(data)) != leaf_hash(before):
                raise ReplicaDamagedError("a bucket of the replica is damaged")
        return replace(state, count=count, root=tree.store())

    def _fill(self, state: ListState, parts: Iterable[NumberedBuckets]) -> ListState:
        """Fill an empty list with buckets, ascending."""
        count = 0

        def leaves() -> Iterator[tuple[int, bytes]]:
            nonlocal count
            for buckets in parts:
                self._store_tags()
                self._put_buckets(state, buckets)
                count += sum(int.from_bytes(data[:4], "big") for _, data in buckets)
                for index, data in buckets:
                    yield index, leaf_hash(data)

        root = self._tree(state).fill(leaves())
        return replace(state, count=count, root=root)

    def _recut(self, state: ListState, bits: int) -> ListState:
        """Cut a list into 2**bits buckets."""
        if bits == state.bits:
            return state
        new = self._insert(_RECUTTING, state.algorithm, 0)
        new = replace(new, version=state.version, bits=bits, root=empty_root(bits))
        columns = self._columns(state)
        new = self._fill(new, _several(buckets_of(columns, state.algorithm, bits)))
        self._delete(state)
        self._connection.execute(RENAME_LIST, (state.name, new.list_no))
        return self._write(replace(new, name=state.name))

    def _columns(self, state: ListState) -> Iterator[Columns]:
        for buckets in self._verified_buckets(state):
            columns = columns_of(buckets, state.algorithm)
            if len(columns.values):
                yield columns

    def _put_buckets(self, state: ListState, buckets: NumberedBuckets) -> None:
        values = [value for index, data in buckets for value in (state.bucket_id(index), data)]
        self._connection.execute(REPLACE_BUCKET + ANOTHER_BUCKET * (len(buckets) - 1), values)

    def _put_bucket(self, state: ListState, index: int, data: bytes) -> None:
        if len(data) > 4:
            self._connection.execute(REPLACE_BUCKET, (state.bucket_id(index), data))
        else:
            self._connection.execute(DELETE_BUCKET, (state.bucket_id(index),))

    def _store_tag(self, attributes: bytes) -> bytes:
        tag = self._tag(attributes)
        self._store_tags()
        return tag

    def _tag(self, attributes: bytes) -> bytes:
        """Return the tag of attributes, which are stored by the next ``_store_tags``."""
        tag = self._tags.get(attributes)
        if tag is None:
            tag = tag_of(attributes)
            self._new_tags.append((tag, attributes))
            if len(self._tags) >= REMEMBERED_TAGS:
                self._tags.clear()
            self._tags[attributes] = tag
        return tag

    def _store_tags(self) -> None:
        while self._new_tags:
            self._connection.execute(INSERT_ATTRIBUTES, self._new_tags.popleft())

    def _write(self, state: ListState) -> ListState:
        self._connection.execute(
            UPDATE_LIST, (state.version, state.bits, state.count, state.root, state.list_no)
        )
        return state

    def _delete(self, state: ListState) -> None:
        first = state.bucket_id(0)
        self._connection.execute(DELETE_BUCKETS, (first, first + MAX_BUCKETS))
        self._connection.execute(DELETE_TILES, (state.list_no,))
        self._connection.execute(DELETE_LIST, (state.list_no,))


def _several(buckets: Iterable[tuple[int, bytes]]) -> Iterator[NumberedBuckets]:
    given = iter(buckets)
    while several := list(islice(given, BUCKETS_AT_ONCE)):
        yield several


def _in_order(changes: Iterable[Change], algorithm: HashAlgorithm) -> Iterator[Change]:
    """Pass on ``changes``.

    Raises:
        MalformedError: One is out of key order, is there twice, or has another length.
    """
    last = b""
    for change in changes:
        if len(change.value) != algorithm.size:
            raise MalformedError(f"a {algorithm} hash has {algorithm.size} bytes")
        key = algorithm.key(change.value)
        if key <= last:
            raise MalformedError("changes are in key order, each entry once")
        last = key
        yield change


def _at_most(columns: Iterable[Columns], max_count: int) -> Iterator[Columns]:
    count = 0
    for part in columns:
        count += len(part.values)
        if count > max_count:
            raise MalformedError(f"the list has more than the announced {max_count} entries")
        yield part

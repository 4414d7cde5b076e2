"""Reading a replica: one consistent view of its lists."""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from hashshare.crypto.merkle import leaf_hash
from hashshare.domain.buckets import bucket_index, tag_of, verify_bucket
from hashshare.domain.chunks import EntryChunk
from hashshare.errors import NotFoundError, ReplicaDamagedError, RootMismatchError
from hashshare.replica.packed import find_tag, tags_of
from hashshare.replica.store import (
    SELECT_LISTS,
    ListState,
    find_list,
    read_bucket,
    read_buckets,
    read_list,
    to_state,
)
from hashshare.replica.tree import WIDTH, BucketTree

SELECT_STATE: Final = "SELECT value FROM state WHERE name = ?"
SELECT_ATTRIBUTES: Final = "SELECT attributes FROM attributes WHERE tag = ?"
SELECT_ALL_ATTRIBUTES: Final = "SELECT tag, attributes FROM attributes"

BUCKETS_A_CHUNK: Final = 4 * WIDTH
REMEMBERED_ATTRIBUTES: Final = 4096


@dataclass(frozen=True, slots=True)
class BucketProof:
    """One bucket with what proves it.

    Attributes:
        state: Of its list.
        index: Of the bucket.
        data: Its bytes.
        path: Its siblings, leaf to root.
        attributes: By tag, all that the bucket uses.
    """

    state: ListState
    index: int
    data: bytes
    path: list[bytes]
    attributes: dict[bytes, bytes]


class Reading:
    """A view of a replica; made by ``Replica.reading``, and valid as long as that lasts.

    For one thread at a time.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._remembered: dict[bytes, bytes] = {}

    def lists(self) -> list[ListState]:
        """Return all lists, by name."""
        return [to_state(row) for row in self._connection.execute(SELECT_LISTS)]

    def find(self, name: str) -> ListState | None:
        """Return the state of a list, None if there is none of that name."""
        return find_list(self._connection, name)

    def state(self, name: str) -> ListState:
        """Return the state of a list.

        Raises:
            NotFoundError: There is none of that name.
        """
        return read_list(self._connection, name)

    def get_state(self, name: str) -> bytes | None:
        """Return what ``Writing.put_state`` remembered, None if nothing."""
        row = self._connection.execute(SELECT_STATE, (name,)).fetchone()
        return None if row is None else row[0]

    def lookup(self, name: str, values: Iterable[bytes]) -> list[bytes | None]:
        """Return the attributes of each value, None for what is not in the list.

        For speed a bucket is not compared with the root here but by ``damaged``.

        Args:
            name: Of the list.
            values: In any order; fastest in key order.

        Raises:
            NotFoundError: There is no such list.
            ReplicaDamagedError: A bucket or attributes are visibly damaged.
        """
        state = read_list(self._connection, name)
        found: list[bytes | None] = []
        index, data = -1, b""
        for value in values:
            wanted = bucket_index(state.algorithm.key(value), state.bits)
            if wanted != index:
                index, data = wanted, read_bucket(self._connection, state, wanted)
            tag = find_tag(data, state.algorithm, value)
            found.append(None if tag is None else self._attributes(tag))
        return found

    def read_bucket(self, name: str, index: int) -> BucketProof:
        """Return one bucket with its proof, which holds.

        Raises:
            NotFoundError: There is no such list or bucket.
            ReplicaDamagedError: The bucket or its proof is damaged.
        """
        state = read_list(self._connection, name)
        if not 0 <= index < state.buckets:
            raise NotFoundError(f"{name} has {state.buckets} buckets, and no bucket {index}")
        data = read_bucket(self._connection, state, index)
        path = self._tree(state).path(index)
        try:
            verify_bucket(data, index=index, bits=state.bits, path=path, root=state.root)
        except RootMismatchError as error:
            raise ReplicaDamagedError("a bucket of the replica is damaged") from error
        tags = set(tags_of(data, state.algorithm))
        return BucketProof(state, index, data, path, {tag: self._attributes(tag) for tag in tags})

    def entries(self, name: str) -> Iterator[EntryChunk]:
        """Yield all entries of a list in key order, cut between buckets; none if it is empty.

        They are what the root commits to, unless this raises before its end. In a
        transaction that writes, what was yielded may be changed meanwhile.

        Raises:
            NotFoundError: There is no such list.
            ReplicaDamagedError: They are not what the root commits to.
        """
        # Here, since a look-up does not take numpy, which takes longer than the look-up does.
        from hashshare.replica.columns import columns_of, to_chunk

        state = read_list(self._connection, name)
        for buckets in self._verified_buckets(state):
            columns = columns_of(buckets, state.algorithm)
            if len(columns.values):
                yield to_chunk(columns, self._attributes)

    def damaged(self, name: str, *, part: int = 0, parts: int = 1) -> list[int]:
        """Re-hash buckets and return which ones to fetch again, for ``replace_bucket``.

        That are the buckets that the tree does not commit to, those whose attributes are
        damaged, and for each damaged node of the tree a bucket whose proof heals it. To heal
        one thing may bring another to light: call it until it finds none.

        Args:
            name: Of the list.
            part: Which part of the buckets, from 0.
            parts: Into how many the buckets are cut, to spread the work over a day.

        Raises:
            NotFoundError: There is no such list.
            ReplicaDamagedError: What is damaged cannot be healed bucket by bucket.
        """
        state = read_list(self._connection, name)
        tree = self._tree(state)
        sound = self._sound_tags()
        found = set(tree.unproven())
        count = 0
        first, end = (state.buckets * p // parts for p in (part, part + 1))
        for start, buckets, leaves in self._pages(state, tree, first, end):
            for index, (data, leaf) in enumerate(zip(buckets, leaves, strict=True), start):
                count += int.from_bytes(data[:4], "big")
                if leaf_hash(data) != leaf or (
                    sound is not None and not sound.issuperset(tags_of(data, state.algorithm))
                ):
                    found.add(index)
        is_whole = tree.stored_root() == state.root and count == state.count
        if parts == 1 and not found and not is_whole:
            raise ReplicaDamagedError("a list does not lead to the root that is noted with it")
        return sorted(found)

    def _verified_buckets(self, state: ListState) -> Iterator[list[bytes]]:
        tree = self._tree(state)
        if tree.unproven() or tree.stored_root() != state.root:
            raise ReplicaDamagedError("the tree of a list is damaged")
        for _, buckets, leaves in self._pages(state, tree, 0, state.buckets):
            if [leaf_hash(data) for data in buckets] != leaves:
                raise ReplicaDamagedError("a bucket of the replica is damaged")
            yield buckets

    def _pages(
        self, state: ListState, tree: BucketTree, first: int, end: int
    ) -> Iterator[tuple[int, list[bytes], list[bytes]]]:
        """Yield the index of a bucket, and the bytes and stored hashes of it and the next ones.

        No cursor stays open in between: the caller may write, and may stop early.
        """
        for start in range(first, end, BUCKETS_A_CHUNK):
            stop = min(start + BUCKETS_A_CHUNK, end)
            buckets = read_buckets(self._connection, state, start, stop)
            yield start, buckets, tree.leaves(start, stop)

    def _tree(self, state: ListState) -> BucketTree:
        return BucketTree(self._connection, state.list_no, state.bits, state.root)

    def _sound_tags(self) -> set[bytes] | None:
        """Return the tags whose attributes are intact, None if all are."""
        sound, is_all = set(), True
        for tag, attributes in self._connection.execute(SELECT_ALL_ATTRIBUTES):
            if tag_of(attributes) == tag:
                sound.add(tag)
            else:
                is_all = False
        return None if is_all else sound

    def _attributes(self, tag: bytes) -> bytes:
        attributes = self._remembered.get(tag)
        if attributes is not None:
            return attributes
        row = self._connection.execute(SELECT_ATTRIBUTES, (tag,)).fetchone()
        if row is None or tag_of(row[0]) != tag:
            raise ReplicaDamagedError("the attributes of an entry are damaged")
        if len(self._remembered) >= REMEMBERED_ATTRIBUTES:
            self._remembered.clear()
        self._remembered[tag] = row[0]
        return self._remembered[tag]

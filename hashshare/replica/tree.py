"""The Merkle tree over the buckets of one list, stored in tiles of up to 256 hashes.

The tiles at level 0 hold the leaf hashes, those at level 1 the roots of the tiles at level 0,
and so on, so that a changed bucket costs one tile a level. A tile that is not stored is one
over empty buckets only.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import Final

from hashshare.crypto.merkle import HASH_BYTES, leaf_hash, node_hash
from hashshare.domain.buckets import EMPTY_BUCKET
from hashshare.errors import ReplicaDamagedError

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT

SELECT_TILE: Final = "SELECT hashes FROM tile WHERE list_no = ? AND level = ? AND tile_index = ?"
REPLACE_TILE: Final = "INSERT OR REPLACE INTO tile VALUES (?, ?, ?, ?)"

Nodes = list[list[bytes]]
"""All nodes of one tile: first its lowest row, last its root alone."""


@lru_cache
def empty_root(height: int) -> bytes:
    """Return the root over 2**height empty buckets."""
    if height == 0:
        return leaf_hash(EMPTY_BUCKET)
    below = empty_root(height - 1)
    return node_hash(below, below)


@dataclass(slots=True)
class _Tile:
    """A tile that is being changed."""

    index: int
    nodes: Nodes
    changed: set[int] = field(default_factory=set)

    def put(self, position: int, value: bytes) -> None:
        self.nodes[0][position] = value
        self.changed.add(position)

    def close(self) -> bytes:
        """Recompute what is above the changed hashes and return the root."""
        for below, row in zip(self.nodes[:-1], self.nodes[1:], strict=True):
            self.changed = {position // 2 for position in self.changed}
            for position in self.changed:
                row[position] = node_hash(below[2 * position], below[2 * position + 1])
        return self.nodes[-1][0]


@dataclass(slots=True)
class BucketTree:
    """The tree of one list, on a connection.

    Leaves are put in ascending order, or at least it is cheap only then: one tile a level is
    kept open, and the one before it is stored when the next is opened.

    Attributes:
        connection: In a transaction.
        list_no: Of the list.
        bits: There are 2**bits leaves.
        root: That the tree must have now.
    """

    connection: sqlite3.Connection
    list_no: int
    bits: int
    root: bytes
    _open: dict[int, _Tile] = field(default_factory=dict)

    def put_leaf(self, index: int, value: bytes) -> bytes:
        """Set the hash of the bucket at ``index``, and return the one that it had.

        Raises:
            ReplicaDamagedError: The stored tree is not the one that ``root`` is of. Nothing
                may be built on it: the publisher would sign what nobody submitted.
        """
        return self._put(0, index, value)

    def fill(self, leaves: Iterable[tuple[int, bytes]]) -> bytes:
        """Store the tree of a list that was empty until now, and return its root.

        Args:
            leaves: Index and hash of each bucket that is not empty, ascending.
        """
        hashes = leaves
        root = self.root
        for level in range(self._levels):
            roots = list(self._fill_level(level, hashes))
            hashes = roots
            root = roots[0][1] if roots else root
        self.root = root
        return root

    def store(self) -> bytes:
        """Store what was changed, and return the new root.

        Raises:
            ReplicaDamagedError: The stored tree is not the one that ``root`` is of.
        """
        root = self.root
        for level in range(self._levels):
            root = self._close(level) or root
        self.root = root
        return root

    def leaves(self, first: int, end: int) -> list[bytes]:
        """Return the stored hashes of the buckets from ``first`` to ``end``, not included."""
        tiles = range(first // WIDTH, -(-end // WIDTH))
        hashes = [value for tile in tiles for value in _cut(self._read(0, tile))]
        offset = tiles.start * WIDTH
        return hashes[first - offset : end - offset]

    def path(self, index: int) -> list[bytes]:
        """Return the siblings of the bucket at ``index``, leaf to root."""
        path: list[bytes] = []
        for level in range(self._levels):
            nodes = _nodes(self._read(level, index // WIDTH))
            position = index % WIDTH
            for row in nodes[:-1]:
                path.append(row[position ^ 1])
                position //= 2
            index //= WIDTH
        return path

    def put_path(self, index: int, leaf: bytes, path: Sequence[bytes]) -> None:
        """Store the nodes above a bucket, which a proof shows to lead to the root.

        Nothing that is stored is trusted for it, so that this heals a damaged tree.
        """
        value = leaf
        for height in range(self.bits + 1):
            level, row = divmod(height, HEIGHT)
            if row == 0 and level < self._levels:
                self._overwrite(level, index >> height, value)
            if height < self.bits:
                is_right = index >> height & 1
                sibling = path[height]
                value = node_hash(sibling, value) if is_right else node_hash(value, sibling)

    def unproven(self) -> list[int]:
        """Return one bucket below each stored hash that is not the root of its tile."""
        found = []
        for level in range(self._levels - 1):
            roots = self._tile_roots(level)
            tiles = range(-(-len(roots) // WIDTH))
            stored = [value for tile in tiles for value in _cut(self._read(level + 1, tile))]
            found += [
                index << HEIGHT * (level + 1)
                for index, (root, expected) in enumerate(zip(roots, stored, strict=True))
                if root != expected
            ]
        return found

    def stored_root(self) -> bytes:
        """Return the root of the topmost tile."""
        return self._tile_roots(self._levels - 1)[0]

    @property
    def _levels(self) -> int:
        return max(1, -(-self.bits // HEIGHT))

    def _tile_roots(self, level: int) -> list[bytes]:
        tiles = 1 << max(0, self.bits - HEIGHT * (level + 1))
        return [_nodes(self._read(level, tile))[-1][0] for tile in range(tiles)]

    def _read(self, level: int, tile_index: int) -> bytes:
        width = 1 << min(HEIGHT, self.bits - HEIGHT * level)
        row = self.connection.execute(SELECT_TILE, (self.list_no, level, tile_index)).fetchone()
        if row is None or len(row[0]) != HASH_BYTES * width:
            return empty_root(HEIGHT * level) * width
        hashes: bytes = row[0]
        return hashes

    def _write(self, level: int, tile_index: int, hashes: bytes) -> None:
        self.connection.execute(REPLACE_TILE, (self.list_no, level, tile_index, hashes))

    def _overwrite(self, level: int, index: int, value: bytes) -> None:
        tile = bytearray(self._read(level, index // WIDTH))
        offset = index % WIDTH * HASH_BYTES
        tile[offset : offset + HASH_BYTES] = value
        self._write(level, index // WIDTH, bytes(tile))

    def _fill_level(
        self, level: int, hashes: Iterable[tuple[int, bytes]]
    ) -> Iterator[tuple[int, bytes]]:
        """Store the tiles of a level, and yield the index and root of each."""
        empty = empty_root(HEIGHT * level)
        width = 1 << min(HEIGHT, self.bits - HEIGHT * level)
        for tile_index, group in groupby(hashes, key=lambda pair: pair[0] // WIDTH):
            row = [empty] * width
            for index, value in group:
                row[index % WIDTH] = value
            tile = b"".join(row)
            self._write(level, tile_index, tile)
            yield tile_index, _compute(tile)[-1][0]

    def _put(self, level: int, index: int, value: bytes) -> bytes:
        tile = self._open.get(level)
        if tile is None or tile.index != index // WIDTH:
            self._close(level)
            tile = self._open[level] = self._verified(level, index // WIDTH)
        before = tile.nodes[0][index % WIDTH]
        tile.put(index % WIDTH, value)
        return before

    def _verified(self, level: int, tile_index: int) -> _Tile:
        """Read a tile that is to be changed, and compare it with the one above."""
        nodes = _nodes(self._read(level, tile_index))
        if nodes[-1][0] != self._expected(level, tile_index):
            raise ReplicaDamagedError("the tree of a list is damaged")
        return _Tile(tile_index, nodes)

    def _expected(self, level: int, tile_index: int) -> bytes:
        """Return the root that the tile has by the one above it."""
        if level == self._levels - 1:
            return self.root
        above, position = divmod(tile_index, WIDTH)
        tile = self._open.get(level + 1)
        if tile is not None and tile.index == above:
            return tile.nodes[0][position]
        return _cut(self._read(level + 1, above))[position]

    def _close(self, level: int) -> bytes | None:
        """Store the open tile of a level; return its root, None if there is no such tile."""
        tile = self._open.pop(level, None)
        if tile is None:
            return None
        root = tile.close()
        self._write(level, tile.index, b"".join(tile.nodes[0]))
        if level < self._levels - 1:
            self._put(level + 1, tile.index, root)
        return root


def _cut(tile: bytes) -> list[bytes]:
    return [tile[i : i + HASH_BYTES] for i in range(0, len(tile), HASH_BYTES)]


def _nodes(tile: bytes) -> Nodes:
    # A new list of fresh rows each time, since rows of open tiles are changed.
    return [list(row) for row in _rows(tile)] if _is_uniform(tile) else _compute(tile)


def _compute(tile: bytes) -> Nodes:
    nodes = [_cut(tile)]
    while len(row := nodes[-1]) > 1:
        nodes.append([node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)])
    return nodes


def _is_uniform(tile: bytes) -> bool:
    """Return whether all hashes are the same, as in a tile over empty buckets."""
    return tile == tile[:HASH_BYTES] * (len(tile) // HASH_BYTES)


@lru_cache(maxsize=8)
def _rows(tile: bytes) -> Nodes:
    return _compute(tile)

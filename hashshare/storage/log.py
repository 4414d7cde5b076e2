"""The log: its leaves and the nodes of its Merkle tree."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asyncpg.exceptions import UniqueViolationError

from hashshare.crypto.merkle import (
    TILE_HEIGHT,
    Frontier,
    Range,
    completed_nodes,
    consistency_ranges,
    inclusion_ranges,
    leaf_hash,
    nodes_of_range,
    root_of,
    root_of_range,
)
from hashshare.errors import AlreadyExistsError, NotFoundError
from hashshare.storage.database import verify_in_transaction

if TYPE_CHECKING:
    from hashshare.storage.database import Connection, Record

SELECT_HEAD: Final = "SELECT size, frontier, root FROM log"

LOCK_HEAD: Final = "SELECT size, frontier, root FROM log FOR UPDATE"

UPDATE_HEAD: Final = """
    -- $1 size, $2 frontier, $3 root
    UPDATE log SET size = $1, frontier = $2, root = $3
"""

INSERT_LEAF: Final = """
    -- $1 log_index, $2 statement_id, $3 payload_type, $4 entry
    INSERT INTO leaf (log_index, statement_id, payload_type, entry) VALUES ($1, $2, $3, $4)
"""

INSERT_NODE: Final = """
    -- $1 level, $2 node_index, $3 hash
    INSERT INTO log_node (level, node_index, hash) VALUES ($1, $2, $3)
"""

SELECT_NODES: Final = """
    -- Runs of nodes: $1 level of each, $2 its first index, $3 the index after its last
    SELECT level, node_index, hash
      FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS run (level, first, last)
           JOIN log_node USING (level)
     WHERE node_index >= run.first AND node_index < run.last
"""

SELECT_ENTRIES: Final = """
    -- $1 first index, $2 the index after the last
    SELECT entry FROM leaf WHERE log_index >= $1 AND log_index < $2 ORDER BY log_index
"""

FIND_LEAF: Final = """
    -- $1 statement_id
    SELECT log_index, entry FROM leaf WHERE statement_id = $1
"""


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log stands: its frontier, and the root over all leaves."""

    frontier: Frontier
    root: bytes

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self.frontier.size


@dataclass(frozen=True, slots=True)
class Place:
    """A leaf's place in the log, in the tree that ends with it.

    Attributes:
        index: Of the leaf.
        proof: Its inclusion in the tree of size ``index + 1``, leaf to root.
        root: Of that tree.
    """

    index: int
    proof: tuple[bytes, ...]
    root: bytes


@dataclass(frozen=True, slots=True)
class LogRepository:
    """Reads and appends to the log on one connection."""

    connection: "Connection"

    async def lock(self) -> Head:
        """Keep others from appending until the transaction ends, and return the head.

        Take every other lock before this one.
        """
        verify_in_transaction(self.connection)
        return _to_head(await self.connection.fetchrow(LOCK_HEAD))

    async def append(self, entry: bytes, *, statement_id: str, payload_type: str) -> Place:
        """Append a leaf. Indexes have no gap, and their order is the order of commits.

        Raises:
            AlreadyExistsError: The statement is in the log; the transaction is then lost.
        """
        head = await self.lock()
        index, leaf = head.size, leaf_hash(entry)
        frontier = head.frontier.append(leaf)
        root = frontier.root()
        try:
            await self.connection.execute(
                INSERT_LEAF, index, bytes.fromhex(statement_id), payload_type, entry
            )
        except UniqueViolationError as error:
            raise AlreadyExistsError("this statement is in the log already") from error
        await self.connection.execute(INSERT_NODE, 0, index, leaf)
        for level, node_index in completed_nodes(frontier.size):
            await self._append_node(level, node_index)
        await self.connection.execute(UPDATE_HEAD, frontier.size, frontier.encode(), root)
        # In the tree that ends with a leaf, its siblings are the subtrees that were
        # complete before it.
        return Place(index, tuple(reversed(head.frontier.hashes)), root)

    async def read_head(self) -> Head:
        """Return where the log stands."""
        return _to_head(await self.connection.fetchrow(SELECT_HEAD))

    async def find(self, statement_id: str) -> tuple[int, bytes] | None:
        """Return the index and the bytes of the leaf with that statement, None if there is none."""
        row = await self.connection.fetchrow(FIND_LEAF, bytes.fromhex(statement_id))
        return None if row is None else (row["log_index"], row["entry"])

    async def read_entries(self, first: int, count: int) -> list[bytes]:
        """Return the leaves from ``first`` on, in order.

        Raises:
            NotFoundError: The log does not have so many.
        """
        rows = await self.connection.fetch(SELECT_ENTRIES, first, first + count)
        if len(rows) != count:
            raise NotFoundError(f"the log has no leaves {first} to {first + count - 1}")
        return [row["entry"] for row in rows]

    async def read_nodes(self, level: int, first: int, count: int) -> list[bytes]:
        """Return the stored nodes of one level from ``first`` on, in order.

        Raises:
            NotFoundError: The log does not have so many.
        """
        nodes = await self._fetch_nodes([(level, first, first + count)])
        return [nodes[level, index] for index in range(first, first + count)]

    async def locate(self, index: int) -> Place:
        """Return the place of a leaf, as ``append`` did.

        Raises:
            NotFoundError: There is no such leaf.
        """
        size = index + 1
        *proof, root = await self._read_roots([*inclusion_ranges(index, size), (0, size)])
        return Place(index, tuple(proof), root)

    async def read_root(self, size: int) -> bytes:
        """Return the root of the first ``size`` leaves.

        Raises:
            NotFoundError: The log is not that long.
        """
        (root,) = await self._read_roots([(0, size)])
        return root

    async def prove_inclusion(self, index: int, size: int) -> list[bytes]:
        """Return the proof that leaf ``index`` is in the tree of ``size``, leaf to root.

        Raises:
            NotFoundError: The log has no such leaf, or is not that long.
        """
        await self._verify_size(size)
        if not 0 <= index < size:
            raise NotFoundError(f"no leaf {index} in a tree of size {size}")
        return await self._read_roots(inclusion_ranges(index, size))

    async def prove_consistency(self, old: int, new: int) -> list[bytes]:
        """Return the proof that the tree of ``new`` leaves extends the one of ``old``.

        Raises:
            NotFoundError: ``0 <= old <= new <= size of the log`` does not hold.
        """
        await self._verify_size(new)
        if not 0 <= old <= new:
            raise NotFoundError(f"no proof from size {old} to {new}")
        return await self._read_roots(consistency_ranges(old, new))

    async def _verify_size(self, size: int) -> None:
        head = await self.read_head()
        if size > head.size:
            raise NotFoundError(f"the log has {head.size} leaves, not {size}")

    async def _append_node(self, level: int, node_index: int) -> None:
        width = 1 << TILE_HEIGHT
        below = await self.read_nodes(level - 1, node_index * width, width)
        await self.connection.execute(INSERT_NODE, level, node_index, root_of(below))

    async def _read_roots(self, ranges: Sequence[Range]) -> list[bytes]:
        runs = {run for start, end in ranges for run in nodes_of_range(start, end)}
        nodes = await self._fetch_nodes(runs) if runs else {}
        return [root_of_range(start, end, lambda *node: nodes[node]) for start, end in ranges]

    async def _fetch_nodes(
        self, runs: Iterable[tuple[int, int, int]]
    ) -> dict[tuple[int, int], bytes]:
        wanted = sorted(runs)
        rows = await self.connection.fetch(
            SELECT_NODES,
            [level for level, _, _ in wanted],
            [first for _, first, _ in wanted],
            [last for _, _, last in wanted],
        )
        nodes = {(row["level"], row["node_index"]): row["hash"] for row in rows}
        for level, first, last in wanted:
            if any((level, index) not in nodes for index in range(first, last)):
                raise NotFoundError(f"the log has no nodes up to {last - 1} at level {level}")
        return nodes


def _to_head(row: "Record | None") -> Head:
    if row is None:
        raise RuntimeError("the log has no head: the schema is damaged")
    return Head(Frontier.decode(row["size"], row["frontier"]), row["root"])

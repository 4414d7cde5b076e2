"""The log as members and auditors read it: checkpoints, tiles, proofs, receipts."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from hashshare.crypto.tiles import Tile, encode_entries
from hashshare.errors import NotFoundError
from hashshare.service.guard import Guard
from hashshare.storage.database import Pool, snapshot
from hashshare.storage.log import LogRepository

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LogService:
    """Reads the log. Everything but the latest checkpoint never changes."""

    pool: Pool
    guard: Guard

    async def checkpoint(self) -> bytes:
        """Return the signed checkpoint of the whole log; raises as ``Guard.checkpoint`` does."""
        return await self.guard.checkpoint()

    async def checkpoint_at(self, size: int) -> bytes:
        """Return the signed checkpoint of the first ``size`` leaves.

        Raises:
            NotFoundError: The log is not that long.
            RollbackError: The database is not the one that was signed for.
        """
        return await self.guard.checkpoint(size)

    async def tile(self, tile: Tile) -> bytes:
        """Return the nodes, or the bundle of entries, of a tile.

        Raises:
            NotFoundError: The log does not reach so far.
        """
        if tile.level is None:
            return await self.entries(tile.first, tile.width)
        level = tile.level
        nodes = await self._read(lambda log: log.read_nodes(level, tile.first, tile.width))
        return b"".join(nodes)

    async def entries(self, first: int, count: int) -> bytes:
        """Return a bundle of leaves, as a tile of entries is.

        Raises:
            NotFoundError: The log does not reach so far.
        """
        return encode_entries(await self._read(lambda log: log.read_entries(first, count)))

    async def entry(self, index: int) -> bytes:
        """Return one leaf's bytes.

        Raises:
            NotFoundError: There is no such leaf.
        """
        (entry,) = await self._read(lambda log: log.read_entries(index, 1))
        return entry

    async def inclusion(self, index: int, size: int) -> list[bytes]:
        """Return the proof that leaf ``index`` is in the tree of ``size``, leaf to root.

        Raises:
            NotFoundError: There is no such leaf or tree.
        """
        return await self._read(lambda log: log.prove_inclusion(index, size))

    async def consistency(self, old: int, new: int) -> list[bytes]:
        """Return the proof that the tree of ``new`` leaves extends the one of ``old``.

        Raises:
            NotFoundError: There are no such trees.
        """
        return await self._read(lambda log: log.prove_consistency(old, new))

    async def receipt(self, index: int) -> bytes:
        """Return the receipt of a leaf, the same bytes as when it was appended.

        Raises:
            NotFoundError: There is no such leaf.
        """
        if index < 0:
            raise NotFoundError("there is no such leaf")
        place = await self._read(lambda log: log.locate(index))
        return await self.guard.receipt(place)

    async def _read(self, read: Callable[[LogRepository], Awaitable[T]]) -> T:
        async with snapshot(self.pool) as connection:
            return await read(LogRepository(connection))

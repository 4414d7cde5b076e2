"""Deltas as members pull them: the net change between two versions, as zstd."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import zstandard

from hashshare.crypto.merkle import leaf_hash
from hashshare.domain.buckets import EMPTY_BUCKET
from hashshare.domain.changes import Change, Version
from hashshare.domain.names import ListName
from hashshare.errors import VersionNotFoundError
from hashshare.service.changes import PART_CHANGES, ChangeReader
from hashshare.storage.database import Pool, snapshot
from hashshare.storage.publications import PublicationRepository
from hashshare.wire.delta import FORMAT, DeltaHeader, encode_delta

COMPRESSION_LEVEL: Final = 3
MOST_PARTS: Final = 2
"""Changes are held in memory, a part of a delta at a time, for so many readers at once; the others
wait for their next part. When a large publication is news, all come together."""

EMPTY_ROOT: Final = leaf_hash(EMPTY_BUCKET)
"""Of a list at version 0: one bucket, with nothing in it."""


T = TypeVar("T")


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class DeltaSource:
    """Makes deltas from the stored runs of changes, some hundred thousand changes at a time.

    Attributes:
        pool: The database.
        turns: Lets in ``MOST_PARTS``; shared by all readers of a process.
    """

    pool: Pool
    turns: asyncio.Semaphore

    async def open(self, name: ListName, *, base: Version, target: Version) -> AsyncIterator[bytes]:
        """Return the delta, one zstd frame; always the same for the same versions.

        May be abandoned at any point: nothing is held between its pieces but memory.

        Raises:
            VersionNotFoundError: ``base <= target`` does not hold, or the list was not
                published at both; at version 0 every list is there, and empty.
        """
        roots, total = await self._read_ends(name, base, target)
        reader = ChangeReader(self.pool)
        header = DeltaHeader(
            base=base,
            base_root=roots[0].hex(),
            changes=total,
            format=FORMAT,
            list=str(name),
            target=target,
            target_root=roots[1].hex(),
        )
        parts = reader.read_net(name, base=base, target=target, total=total)
        if total <= PART_CHANGES:
            return self._compress_small(header, parts)
        if target - base > 1:
            # Versions in a row may undo each other, and the number comes first on the wire:
            # so they are merged twice, instead of being held.
            count = sum([length async for length in self._each(parts, len)])
            header = _with_count(header, count)
            parts = reader.read_net(name, base=base, target=target, total=total)
        return self._compress(header, parts)

    async def _read_ends(
        self, name: ListName, base: Version, target: Version
    ) -> tuple[tuple[bytes, bytes], int]:
        """Return the roots at both versions, and how many changes lie between."""
        if base > target:
            raise VersionNotFoundError(f"there is no delta back from {base} to {target}")
        async with snapshot(self.pool) as connection:
            repository = PublicationRepository(connection)
            states = await repository.read_lists_at(name, [base, target])
            total = await repository.count_changes(name, base=base, target=target)
        roots = []
        for version in (base, target):
            state = states.get(version)
            if version and (state is None or not state.listed):
                raise VersionNotFoundError(f"{name} has no version {version}")
            roots.append(state.root if state else EMPTY_ROOT)
        return (roots[0], roots[1]), total

    async def _compress_small(
        self, header: DeltaHeader, parts: AsyncIterator[list[Change]]
    ) -> AsyncIterator[bytes]:
        async with self.turns:
            changes = [change async for part in parts for change in part]
            compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compressobj()
            lines = encode_delta(_with_count(header, len(changes)), changes)
            delta = await asyncio.to_thread(_compress_lines, compressor, lines)
            del changes, lines
        yield delta + compressor.flush()

    async def _compress(
        self, header: DeltaHeader, parts: AsyncIterator[list[Change]]
    ) -> AsyncIterator[bytes]:
        compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compressobj()
        is_first = True

        def compress(part: list[Change]) -> bytes:
            nonlocal is_first
            lines = encode_delta(header, part)
            if not is_first:
                lines = _without_header(lines)
            is_first = False
            return _compress_lines(compressor, lines)

        async for piece in self._each(parts, compress):
            yield piece
        yield compressor.flush()

    async def _each(
        self, parts: AsyncIterator[list[Change]], work: Callable[[list[Change]], T]
    ) -> AsyncIterator[T]:
        """Yield what ``work`` makes of each part, by a thread and in turn with other readers."""
        while True:
            async with self.turns:
                part = await anext(parts, None)
                if part is None:
                    return
                made = await asyncio.to_thread(work, part)
                # Not to be kept while the reader takes in what was made.
                del part
            yield made


def _compress_lines(compressor: _Compressor, lines: Iterable[bytes]) -> bytes:
    return b"".join([compressor.compress(piece) for piece in lines])


def _without_header(lines: Iterator[bytes]) -> Iterator[bytes]:
    yield next(lines).partition(b"\n")[2]
    yield from lines


def _with_count(header: DeltaHeader, count: int) -> DeltaHeader:
    return DeltaHeader(
        base=header.base,
        base_root=header.base_root,
        changes=count,
        format=FORMAT,
        list=header.list,
        target=header.target,
        target_root=header.target_root,
    )

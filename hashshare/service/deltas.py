"""Deltas as members pull them: the net change between two versions, as zstd."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

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

EMPTY_ROOT: Final = leaf_hash(EMPTY_BUCKET)
"""Of a list at version 0: one bucket, with nothing in it."""


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class DeltaSource:
    """Makes deltas from the stored runs of changes, some hundred thousand changes at a time."""

    pool: Pool

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
            return _compress_small(header, parts)
        if target - base > 1:
            # Versions in a row may undo each other, and the number comes first on the wire:
            # so they are merged twice, instead of being held.
            count = sum([len(part) async for part in parts])
            header = _with_count(header, count)
            parts = reader.read_net(name, base=base, target=target, total=total)
        return _compress(header, parts)

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
    header: DeltaHeader, parts: AsyncIterator[list[Change]]
) -> AsyncIterator[bytes]:
    changes = [change async for part in parts for change in part]
    compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compressobj()
    lines = encode_delta(_with_count(header, len(changes)), changes)
    yield await asyncio.to_thread(_compress_lines, compressor, lines) + compressor.flush()


async def _compress(
    header: DeltaHeader, parts: AsyncIterator[list[Change]]
) -> AsyncIterator[bytes]:
    compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compressobj()
    is_first = True
    async for part in parts:
        lines = encode_delta(header, part)
        if not is_first:
            lines = _without_header(lines)
        is_first = False
        yield await asyncio.to_thread(_compress_lines, compressor, lines)
    yield compressor.flush()


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

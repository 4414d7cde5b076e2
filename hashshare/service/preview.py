"""Previews: what a proposed registry would make of the lists, without any of it coming true.

Both policies are evaluated by the statements that publish, in one transaction that only reads
and sees one state of the database. A few thousand hashes are held at a time.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal

import msgspec
import zstandard

from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.names import HashSetId, ListName, ViewId
from hashshare.domain.policy import View, without_members
from hashshare.domain.registry import Registry, parse_registry
from hashshare.domain.succession import is_reformed, verify_succession
from hashshare.errors import UnavailableError
from hashshare.service.registry import RegistryService
from hashshare.storage.database import Connection, Pool, snapshot
from hashshare.storage.evaluation import Evaluated, EvaluationRepository
from hashshare.storage.log import LogRepository
from hashshare.storage.publications import PublicationRepository
from hashshare.wire.preview import (
    FORMAT,
    PreviewChange,
    PreviewEnd,
    PreviewHeader,
    PreviewLine,
    PreviewList,
    PreviewMember,
    encode_line,
)

BATCH_SIZE: Final = 8192
COMPRESSION_LEVEL: Final = 3


@dataclass(frozen=True, slots=True)
class _Sides:
    """A view before and after, with terms resolved; None where there is no such view."""

    hash_set: HashSetId
    view_id: ViewId
    old: View | None
    new: View | None


@dataclass(slots=True)
class _Tally:
    """Counts what becomes of one list."""

    name: ListName
    counts: Counter[str] = field(default_factory=Counter)
    enters: Counter[str] = field(default_factory=Counter)
    leaves: Counter[str] = field(default_factory=Counter)

    @property
    def differing(self) -> int:
        """How many hashes become something else, so far."""
        return self.counts["enter"] + self.counts["leave"] + self.counts["change"]

    def to_line(self) -> PreviewList:
        counts = self.counts
        return PreviewList(
            list=str(self.name),
            before=counts["before"],
            after=counts["after"],
            enters=counts["enter"],
            leaves=counts["leave"],
            changes=counts["change"],
            members={
                member: PreviewMember(self.enters[member], self.leaves[member])
                for member in sorted({*self.enters, *self.leaves})
            },
        )


@dataclass(frozen=True, slots=True)
class PreviewService:
    """Makes previews, one at a time: each may look at every hash of a hash set, twice."""

    pool: Pool
    registries: RegistryService
    _lock: asyncio.Lock = field(init=False, default_factory=asyncio.Lock, repr=False)

    async def open(self, document: bytes, *, most: int | None) -> AsyncGenerator[bytes]:
        """Return a preview of the registry in ``document``, as one zstd frame. Changes nothing.

        Close it when it is abandoned: it holds a connection until then.

        Args:
            document: The next version of the registry; nobody needs to have signed it.
            most: How many changes of each list to tell of; None for all.

        Raises:
            MalformedError: Not in the one accepted form, or the registry contradicts itself.
            RegistryConflictError: It is not the next version; fetch the registry again.
            UnavailableError: Another preview is being made.
        """
        return self._compress(await self._read(document, most))

    async def count(self, document: bytes) -> list[PreviewList]:
        """Return what becomes of each list, in numbers; raises as ``open`` does."""
        async with aclosing(await self._read(document, 0)) as parts:
            return [line async for part in parts for line in part if isinstance(line, PreviewList)]

    async def _read(self, document: bytes, most: int | None) -> AsyncGenerator[list[PreviewLine]]:
        old = (await self.registries.current()).registry
        new = parse_registry(document)
        verify_succession(old, new)
        if self._lock.locked():
            raise UnavailableError("another preview is being made, try again")
        return self._lines(old, new, most)

    async def _compress(self, lines: AsyncGenerator[list[PreviewLine]]) -> AsyncGenerator[bytes]:
        compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compressobj()
        async with aclosing(lines):
            async for part in lines:
                piece = compressor.compress(b"".join(map(encode_line, part)))
                # At once: evaluating may take long, and a client gives up a silent server.
                yield piece + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
            yield compressor.flush()

    async def _lines(
        self, old: Registry, new: Registry, most: int | None
    ) -> AsyncGenerator[list[PreviewLine]]:
        async with self._lock, snapshot(self.pool) as connection:
            size = (await LogRepository(connection).read_head()).size
            yield [PreviewHeader(format=FORMAT, log_size=size, version=old.version)]
            numbers = {
                state.hash_set: state.hash_set_no
                for state in await PublicationRepository(connection).read_states()
            }
            lists = 0
            for sides in _reformed(old, new):
                comparison = _Comparison(connection, numbers[sides.hash_set], size, old, new, most)
                async for part in comparison.compare(sides):
                    lists += sum(isinstance(line, PreviewList) for line in part)
                    yield part
            yield [PreviewEnd(lists=lists)]


@dataclass(frozen=True, slots=True)
class _Comparison:
    connection: Connection
    hash_set_no: int
    log_size: int
    old: Registry
    new: Registry
    most: int | None

    async def compare(self, sides: _Sides) -> AsyncIterator[list[PreviewLine]]:
        """Yield what becomes of each list of a view."""
        algorithms = self.new.hash_set(sides.hash_set).algorithms
        tallies = {
            algorithm: _Tally(ListName(sides.hash_set, sides.view_id, algorithm))
            for algorithm in sorted(algorithms)
        }
        async for algorithm, values, pairs in self._evaluate(sides):
            changes = self._changes(sides, tallies[algorithm], values, pairs)
            yield [*changes]
        yield [tally.to_line() for tally in tallies.values()]

    async def _evaluate(
        self, sides: _Sides
    ) -> AsyncIterator[tuple[HashAlgorithm, list[bytes], list[tuple[bytes | None, bytes | None]]]]:
        """Yield all hashes with what either policy makes of them, members shown."""
        repository = EvaluationRepository(self.connection)
        span = await repository.measure(self.hash_set_no, covered=None, log_size=self.log_size)
        # Both look at the same hashes in the same order, so that they go side by side.
        streams = [
            repository.evaluate(span, _shown(view), registry, batch_size=BATCH_SIZE)
            for view, registry in ((sides.old, self.old), (sides.new, self.new))
            if view is not None
        ]
        async for parts in _together(streams):
            nothing: list[bytes | None] = [None] * len(parts[0].values)
            before = parts[0].attributes if sides.old is not None else nothing
            after = parts[-1].attributes if sides.new is not None else nothing
            yield parts[0].algorithm, parts[0].values, list(zip(before, after, strict=True))

    def _changes(
        self,
        sides: _Sides,
        tally: _Tally,
        values: list[bytes],
        pairs: list[tuple[bytes | None, bytes | None]],
    ) -> Iterator[PreviewLine]:
        for value, (shown_before, shown_after) in zip(values, pairs, strict=True):
            before = _as_in(sides.old, shown_before)
            after = _as_in(sides.new, shown_after)
            tally.counts["before"] += before is not None
            tally.counts["after"] += after is not None
            if before == after:
                continue
            if before is None:
                tally.enters.update(_members(shown_after))
            elif after is None:
                tally.leaves.update(_members(shown_before))
            op = _operation(before, after)
            tally.counts[op] += 1
            if self.most is None or tally.differing <= self.most:
                yield _to_change(tally.name, op, value, before, after)


def _reformed(old: Registry, new: Registry) -> Iterator[_Sides]:
    """Give the views that may make something else of what is there."""
    # A hash set that is new holds no hash yet.
    for name in sorted(old.hash_sets):
        hash_set = HashSetId(name)
        before, after = old.evaluated_views(name), new.evaluated_views(name)
        for view_id in sorted({*before, *after}):
            sides = _Sides(hash_set, ViewId(view_id), before.get(view_id), after.get(view_id))
            if sides.new is None or is_reformed(sides.view_id, hash_set, old=old, new=new):
                yield sides


async def _together(
    streams: list[AsyncIterator[Evaluated]],
) -> AsyncIterator[list[Evaluated]]:
    first, *others = streams
    async for part in first:
        yield [part, *[await anext(other) for other in others]]


def _shown(view: View) -> View:
    shown: View = msgspec.structs.replace(view, show_members=True)
    return shown


def _as_in(view: View | None, shown: bytes | None) -> bytes | None:
    """Return the attributes as ``view`` publishes them."""
    if view is None or shown is None:
        return None
    return shown if view.show_members else _hide(shown)


# Entries differ much less than hashes do.
@lru_cache(maxsize=4096)
def _hide(shown: bytes) -> bytes:
    return without_members(shown)


@lru_cache(maxsize=4096)
def _members(shown: bytes | None) -> tuple[str, ...]:
    return () if shown is None else tuple(msgspec.json.decode(shown)["by"])


def _operation(before: bytes | None, after: bytes | None) -> Literal["enter", "leave", "change"]:
    if before is None:
        return "enter"
    return "leave" if after is None else "change"


def _to_change(
    name: ListName,
    op: Literal["enter", "leave", "change"],
    value: bytes,
    before: bytes | None,
    after: bytes | None,
) -> PreviewChange:
    return PreviewChange(
        list=str(name),
        op=op,
        hash=value.hex(),
        before=None if before is None else msgspec.json.decode(before),
        after=None if after is None else msgspec.json.decode(after),
    )

"""The net change of a list between any two versions, from the stored runs, a part at a time."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np

from hashshare.domain.changes import Change, Version, net
from hashshare.domain.chunks import EntryChunk
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.names import ListName
from hashshare.storage.changes import unpack_changes
from hashshare.storage.database import Pool, snapshot
from hashshare.storage.publications import PublicationRepository

PART_CHANGES: Final = 100_000
"""About so many changes are held in memory at once."""

Bound = bytes | None
Runs = list[tuple[Version, bytes]]


@dataclass(frozen=True, slots=True)
class ChangeReader:
    """Reads stored changes. They never change, so each part may be read in its own transaction.

    No connection is held while the caller works on what it was given.
    """

    pool: Pool

    async def read_net(
        self, name: ListName, *, base: Version, target: Version, total: int
    ) -> AsyncIterator[list[Change]]:
        """Yield the net change of a list in key order, some changes at a time.

        Args:
            name: The list.
            base: The version that the changes start from.
            target: The version that they lead to; published.
            total: How many changes the versions in between have together.

        Raises:
            UnavailableError: The database cannot be used now.
        """
        for first, before in key_ranges(-(-total // PART_CHANGES)):
            async with snapshot(self.pool) as connection:
                runs = await PublicationRepository(connection).read_runs(
                    name, base=base, target=target, first_key=first, before_key=before
                )
            if runs:
                yield await asyncio.to_thread(_net_of, name.algorithm, runs, first, before)


def key_ranges(parts: int) -> Iterator[tuple[Bound, Bound]]:
    """Cut the keys into ``parts`` ranges of the same width, at least one, each with its end."""
    bounds: list[Bound] = [(p * 2**32 // parts).to_bytes(4, "big") for p in range(1, parts)]
    return zip([None, *bounds], [*bounds, None], strict=True)


def to_chunk(algorithm: HashAlgorithm, added: list[Change]) -> EntryChunk:
    """Return changes that are all additions as entries."""
    ids: dict[bytes, int] = {}
    numbers = [ids.setdefault(change.after or b"", len(ids)) for change in added]
    values = np.frombuffer(b"".join([change.value for change in added]), np.uint8)
    return EntryChunk(values.reshape(-1, algorithm.size), np.array(numbers, np.uint32), list(ids))


def _net_of(algorithm: HashAlgorithm, runs: Runs, first: Bound, before: Bound) -> list[Change]:
    versions = [
        _within(algorithm, [data for _, data in group], first, before)
        for _, group in groupby(runs, key=lambda run: run[0])
    ]
    # Of one version there is nothing to be merged, and keys need not be computed.
    return list(versions[0]) if len(versions) == 1 else list(net(algorithm, versions))


def _within(
    algorithm: HashAlgorithm, rows: list[bytes], first: Bound, before: Bound
) -> Iterator[Change]:
    for data in rows:
        changes = unpack_changes(algorithm, data)
        if first is None and before is None:
            yield from changes
            continue
        for change in changes:
            key = algorithm.key(change.value)
            if (first is None or key >= first) and (before is None or key < before):
                yield change

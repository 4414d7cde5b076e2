"""Brings the publisher's replica to what is published, from the stored runs of changes."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import structlog

from hashshare.domain.changes import Version
from hashshare.domain.names import HashSetId, ListName
from hashshare.errors import (
    DeltaMismatchError,
    ReplicaDamagedError,
    RollbackError,
    RootMismatchError,
)
from hashshare.replica import ListState as ReplicaState
from hashshare.replica import Replica
from hashshare.replica.writing import Writing
from hashshare.service.changes import ChangeReader, to_chunk
from hashshare.service.worker import Worker
from hashshare.storage.database import Pool, snapshot
from hashshare.storage.publications import ListState, PublicationRepository

_LOG: Final = structlog.get_logger(__name__)

MOST_STEPS: Final = 500
"""A list that is further behind is built anew."""


@dataclass(frozen=True, slots=True)
class Follower:
    """Follows publications with a replica. Idempotent; after a crash it goes on."""

    pool: Pool
    worker: Worker
    replica: Replica

    async def catch_up(self, only: HashSetId | None = None) -> None:
        """Bring every list to its latest version, with the root that was signed.

        Args:
            only: Look at the lists of this hash set alone.

        Raises:
            RollbackError: The replica has a version that the database does not have: the
                database was restored from a backup that is older than what members have seen.
            RootMismatchError: The stored changes do not lead to the signed root.
        """
        # First: the database is committed before the replica, and so is never behind it.
        positions = await self.worker.run(self._read_positions)
        async with snapshot(self.pool) as connection:
            repository = PublicationRepository(connection)
            states = [state for state in await repository.read_states() if state.latest]
            latest = {state.hash_set: state.latest.version for state in states if state.latest}
            lists = {
                state.hash_set: await repository.read_latest_lists(state.hash_set_no)
                for state in states
                if only in (None, state.hash_set)
            }
        _verify_not_ahead(positions, latest)
        for hash_set, targets in lists.items():
            named = {ListName(hash_set, t.view, t.algorithm): t for t in targets}
            behind = {n: t for n, t in named.items() if not _is_at(positions.get(str(n)), t)}
            if behind:
                await self._follow(behind)
                _LOG.info("replica caught up", hash_set=hash_set, version=latest[hash_set])

    async def rebuild(self, hash_set: HashSetId) -> None:
        """Build every list of a hash set anew, whatever the replica holds.

        Raises:
            RootMismatchError: The stored changes do not lead to the signed root.
        """
        async with snapshot(self.pool) as connection:
            repository = PublicationRepository(connection)
            (state,) = [s for s in await repository.read_states() if s.hash_set == hash_set]
            targets = await repository.read_latest_lists(state.hash_set_no)
        async with self.worker.entered(self.replica.writing()) as writing:
            for target in targets:
                name = ListName(hash_set, target.view, target.algorithm)
                await self._build(writing, name, target)

    async def _follow(self, behind: dict[ListName, ListState]) -> None:
        # All lists of a hash set at once: a reader never sees two of its versions.
        async with self.worker.entered(self.replica.writing()) as writing:
            for name, target in behind.items():
                try:
                    await self._step(writing, name, target)
                except (DeltaMismatchError, RootMismatchError, ReplicaDamagedError):
                    _LOG.warning("list of the replica is built anew", list=str(name))
                    await self._build(writing, name, target)

    async def _step(self, writing: Writing, name: ListName, target: ListState) -> None:
        """Apply version after version, as the publisher did: buckets are then cut the same."""
        state = await self.worker.run(lambda: writing.find(str(name)))
        position = Version(state.version if state else 0)
        async with snapshot(self.pool) as connection:
            steps = await PublicationRepository(connection).read_steps(name, base=position)
        if not steps or steps[-1].version != target.version:
            steps.append(target)
        if len(steps) > MOST_STEPS or (state and state.version > target.version):
            raise DeltaMismatchError("the replica is too far away")
        for step in steps:
            # A step without changes of its own may skip versions.
            await self.worker.run(self._apply_job(writing, name, step, position))
            position = step.version

    def _apply_job(
        self, writing: Writing, name: ListName, step: ListState, base: Version
    ) -> Callable[[], None]:
        changes = ChangeReader(self.pool).read_net(
            name, base=Version(step.version - 1), target=step.version, total=step.changes
        )

        def apply() -> None:
            with closing(self.worker.iterate(changes)) as parts:
                state = writing.apply(
                    str(name),
                    name.algorithm,
                    (change for part in parts for change in part),
                    base=base,
                    target=step.version,
                    expected_count=step.count,
                )
            writing.require(state, count=step.count, bits=step.bits, root=step.root)

        return apply

    async def _build(self, writing: Writing, name: ListName, target: ListState) -> None:
        async with snapshot(self.pool) as connection:
            total = await PublicationRepository(connection).count_changes(
                name, base=Version(0), target=target.version
            )
        changes = ChangeReader(self.pool).read_net(
            name, base=Version(0), target=target.version, total=total
        )

        def build() -> None:
            with closing(self.worker.iterate(changes)) as parts:
                state = writing.build(
                    str(name),
                    name.algorithm,
                    (to_chunk(name.algorithm, part) for part in parts if part),
                    version=target.version,
                    bits=target.bits,
                    max_count=target.count,
                )
            writing.require(state, count=target.count, bits=target.bits, root=target.root)

        await self.worker.run(build)

    def _read_positions(self) -> dict[str, ReplicaState]:
        with self.replica.reading() as reading:
            return {state.name: state for state in reading.lists()}


def _is_at(position: ReplicaState | None, target: ListState) -> bool:
    return position is not None and (position.version, position.root) == (
        target.version,
        target.root,
    )


def _verify_not_ahead(positions: dict[str, ReplicaState], latest: dict[HashSetId, Version]) -> None:
    for name, position in positions.items():
        hash_set = ListName.parse(name).hash_set
        if position.version > latest.get(hash_set, 0):
            raise RollbackError(
                f"the database is older than the publisher's replica, which has version"
                f" {position.version} of {hash_set}"
            )

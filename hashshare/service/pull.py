"""What members pull: publications, snapshots, deltas, buckets, and who said what.

Every method takes who asks and the registry in force, and answers for what the member may not
read as for what does not exist.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Final, Protocol

from hashshare.domain.changes import Version
from hashshare.domain.hashes import HashValue
from hashshare.domain.members import Role
from hashshare.domain.names import HashSetId, ListName, MemberId
from hashshare.domain.registry import Registry
from hashshare.domain.release import may_read_list, readable_lists, reads_all_views
from hashshare.errors import ConflictError, NotFoundError, VersionNotFoundError
from hashshare.replica import BucketProof, Replica
from hashshare.service.deltas import MOST_PARTS, DeltaSource
from hashshare.service.guard import Guard
from hashshare.service.news import News
from hashshare.service.retraction import read_steps
from hashshare.service.snapshots import read_due
from hashshare.storage.blobs import BlobKind, Blobs
from hashshare.storage.database import Pool, snapshot
from hashshare.storage.log import LogRepository
from hashshare.storage.provenance import ProvenanceRepository, Statement
from hashshare.storage.publications import PublicationRepository
from hashshare.storage.snapshots import SnapshotRepository, SnapshotRow

SNAPSHOT_POLL_SECONDS: Final = 0.2

_MOST_BUNDLES: Final = 64


@dataclass(frozen=True, slots=True)
class PublicationBundle:
    """A publication with all that is needed to verify it.

    Attributes:
        hash_set: Of this hash set.
        version: Of the hash set.
        checkpoint: Signed note of the tree that ends with the publication.
        envelope: The leaf's bytes.
        log_index: Of the leaf.
        inclusion: Of the leaf in that tree, leaf to root.
    """

    hash_set: HashSetId
    version: Version
    checkpoint: bytes
    envelope: bytes
    log_index: int
    inclusion: tuple[bytes, ...]


class Reader(Protocol):
    """Who asks, under which registry: a peer of the API, or whoever else uses the service."""

    @property
    def member(self) -> MemberId:
        """The member."""

    @property
    def registry(self) -> Registry:
        """The registry in force."""


@dataclass(frozen=True, slots=True)
class PullService:
    """Answers pulls. May be used by several tasks and processes at once.

    Attributes:
        pool: The database.
        blobs: With the snapshots.
        replica_path: The publisher's replica, of this process or one that follows it.
        guard: Signs checkpoints.
        news: What is newest, without a query.
    """

    pool: Pool
    blobs: Blobs
    replica_path: Path
    guard: Guard
    news: News
    _replicas: list[Replica] = field(init=False, default_factory=list, repr=False)
    _bundles: dict[tuple[HashSetId, Version], PublicationBundle] = field(
        init=False, default_factory=dict, repr=False
    )

    _turns: asyncio.Semaphore = field(
        init=False, repr=False, default_factory=lambda: asyncio.Semaphore(MOST_PARTS)
    )

    def close(self) -> None:
        """Close the replica."""
        for replica in self._replicas:
            replica.close()
        self._replicas.clear()

    def latest_version(self, hash_set: HashSetId, *, reader: Reader) -> Version:
        """Return the latest version, 0 before the first publication. Asks no database.

        Raises:
            NotFoundError: No such hash set, or ``reader`` may not know of it.
            UnavailableError: The server is out of contact with the database.
        """
        _verify_readable(hash_set, reader)
        return self.news.latest_version(hash_set)

    async def wait_for_news(
        self, hash_set: HashSetId, *, after: Version, timeout_seconds: float, reader: Reader
    ) -> Version:
        """Return the latest version once it is above ``after``, or when the time is over.

        Raises:
            NotFoundError: No such hash set, or ``reader`` may not know of it.
            UnavailableError: The server is out of contact with the database.
        """
        _verify_readable(hash_set, reader)
        return await self.news.wait_for_version(
            hash_set, after=after, timeout_seconds=timeout_seconds
        )

    async def publication(
        self, hash_set: HashSetId, version: Version | None = None, *, reader: Reader
    ) -> PublicationBundle:
        """Return one publication, by default the latest; the same bytes each time.

        Raises:
            NotFoundError: No such hash set, or ``reader`` may not know of it.
            VersionNotFoundError: It has no such version.
        """
        _verify_readable(hash_set, reader)
        if version is None:
            version = self.news.latest_version(hash_set)
        bundle = self._bundles.get((hash_set, version))
        if bundle is None:
            bundle = await self._read_bundle(hash_set, version)
            # All members ask for the latest one, at the same time.
            if len(self._bundles) >= _MOST_BUNDLES:
                self._bundles.clear()
            self._bundles[hash_set, version] = bundle
        return bundle

    async def snapshot(
        self, name: ListName, version: Version | None = None, *, reader: Reader
    ) -> SnapshotRow:
        """Return the latest snapshot of a list, or that of one version.

        Raises:
            NotFoundError: No such list, or ``reader`` may not know of it.
            VersionNotFoundError: There is no snapshot of it, or of that version.
        """
        _verify_list(name, reader)
        async with snapshot(self.pool) as connection:
            row = await SnapshotRepository(connection).read(name, version)
        if row is None:
            which = "" if version is None else f" at version {version}"
            raise VersionNotFoundError(f"there is no snapshot of {name}{which}")
        return row

    async def wait_for_snapshot(
        self, name: ListName, *, timeout_seconds: float, reader: Reader
    ) -> None:
        """Wait until the newest snapshot is near what is published, or the time is over.

        Raises:
            NotFoundError: No such list, or ``reader`` may not know of it.
        """
        _verify_list(name, reader)
        end = monotonic() + timeout_seconds
        while name in await read_due(self.pool):
            left = end - monotonic()
            if left <= 0:
                return
            await asyncio.sleep(min(left, SNAPSHOT_POLL_SECONDS))

    async def open_snapshot(
        self, name: ListName, version: Version, *, offset: int = 0, reader: Reader
    ) -> tuple[SnapshotRow, AsyncIterator[bytes]]:
        """Return a snapshot and its bytes from ``offset`` on.

        Raises:
            NotFoundError: No such list, or ``reader`` may not know of it.
            VersionNotFoundError: There is no snapshot of that version.
        """
        row = await self.snapshot(name, version, reader=reader)
        return row, self.blobs.read(BlobKind.ARTIFACT, row.sha256, offset=offset)

    async def delta(
        self, name: ListName, *, base: Version, target: Version, reader: Reader
    ) -> AsyncIterator[bytes]:
        """Return the net change between two versions, as one zstd frame; see ``DeltaSource``.

        Raises:
            NotFoundError: No such list, or ``reader`` may not know of it.
            VersionNotFoundError: There is no delta between these.
        """
        _verify_list(name, reader)
        return await DeltaSource(self.pool, self._turns).open(name, base=base, target=target)

    async def bucket(self, name: ListName, index: int, *, bits: int, reader: Reader) -> BucketProof:
        """Return one bucket of a list with its proof; its state says of which version.

        Raises:
            NotFoundError: No such list or bucket, or ``reader`` may not know of it.
            ConflictError: The list is cut into another number of buckets.
            UnavailableError: This server has not got the list yet.
        """
        _verify_list(name, reader)
        return await asyncio.to_thread(self._read_bucket, name, index, bits)

    async def provenance(
        self, hash_set: HashSetId, value: HashValue, *, reader: Reader
    ) -> list[Statement]:
        """Return all that was ever said of a hash, oldest first, with its signed envelopes.

        Record ids are for the member that gave them, admins and auditors. Where no view
        shows who asserts a hash, neither does this: others see their own statements only. Nor
        does a member that may not read all views see more, of a hash that was in none of its lists.

        Raises:
            NotFoundError: No such hash set or hash, or ``reader`` may not know of it.
        """
        _verify_readable(hash_set, reader)
        async with snapshot(self.pool) as connection:
            statements = await ProvenanceRepository(connection).read(hash_set, value)
        roles = reader.registry.member(reader.member).roles
        if Role.ADMIN not in roles and Role.AUDITOR not in roles:
            shown = sees_statements(hash_set, reader) and await self._may_know(
                hash_set, value, reader
            )
            statements = [
                statement if statement.member == reader.member else replace(statement, record="")
                for statement in statements
                if shown or statement.member == reader.member
            ]
        if not statements:
            raise NotFoundError(f"nothing is known of this hash in {hash_set!r:.70}")
        return statements

    async def _may_know(self, hash_set: HashSetId, value: HashValue, reader: Reader) -> bool:
        """Return whether a hash is, or was, in a list that is released to a reader."""
        if reads_all_views(reader.registry, reader.member, hash_set):
            return True
        async with snapshot(self.pool) as connection:
            publications = PublicationRepository(connection)
            for name in readable_lists(reader.registry, reader.member, hash_set):
                if name.algorithm is value.algorithm and await read_steps(
                    publications, name, value
                ):
                    return True
        return False

    async def _read_bundle(self, hash_set: HashSetId, version: Version) -> PublicationBundle:
        async with snapshot(self.pool) as connection:
            row = await PublicationRepository(connection).read(hash_set, version)
            if row is None:
                raise VersionNotFoundError(f"{hash_set!r:.70} has no version {version}")
            log = LogRepository(connection)
            (entry,) = await log.read_entries(row.log_index, 1)
            place = await log.locate(row.log_index)
        return PublicationBundle(
            hash_set=hash_set,
            version=version,
            checkpoint=await self.guard.checkpoint(place.index + 1),
            envelope=entry,
            log_index=place.index,
            inclusion=place.proof,
        )

    def _read_bucket(self, name: ListName, index: int, bits: int) -> BucketProof:
        if not self._replicas:
            self._replicas.append(Replica.open(self.replica_path, readonly=True))
        with self._replicas[0].reading() as reading:
            state = reading.state(str(name))
            if state.bits != bits:
                raise ConflictError(
                    f"version {state.version} of {name} has {state.bits} bits, not {bits}"
                )
            return reading.read_bucket(str(name), index)


def sees_statements(hash_set: HashSetId, reader: Reader) -> bool:
    """Return whether a reader of a hash set sees what others said, so which hashes there are."""
    views = reader.registry.hash_set(hash_set).views.values()
    roles = reader.registry.member(reader.member).roles
    return any(view.show_members for view in views) or Role.ADMIN in roles or Role.AUDITOR in roles


def _verify_readable(hash_set: HashSetId, reader: Reader) -> None:
    if not reader.registry.may_read(reader.member, hash_set):
        raise NotFoundError(f"no hash set {hash_set!r:.70}")


def _verify_list(name: ListName, reader: Reader) -> None:
    if not may_read_list(reader.registry, reader.member, name):
        raise NotFoundError(f"no list {str(name)!r:.160}")

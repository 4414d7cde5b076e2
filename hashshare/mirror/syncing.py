"""Syncing a mirror: everything is verified before readers see it.

The log is followed as any member follows it, lists are taken into a replica version by version,
and the deltas kept that led there; snapshots are written from that replica. Only then the
checkpoint is shown that all of this belongs to. A sync that ends early goes on with the next.
"""

import asyncio
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec

from hashshare.client.download import Download
from hashshare.client.following import Follower
from hashshare.client.logbook import Logbook
from hashshare.client.profile import Profile
from hashshare.client.pull import Puller, PullProgress
from hashshare.client.session import Session
from hashshare.client.trusting import TRUST_AGE, TrustKeeper
from hashshare.client.verify import News, Verifier
from hashshare.crypto.envelope import parse_envelope
from hashshare.domain.documents import decode_document
from hashshare.domain.history import History, named_documents
from hashshare.domain.members import Role
from hashshare.domain.names import HashSetId, ListName
from hashshare.domain.release import readable_lists
from hashshare.domain.statements import Publication, id_of
from hashshare.domain.trust import AcceptedPublication
from hashshare.errors import (
    DigestMismatchError,
    HashshareError,
    NotFoundError,
    TooLargeError,
    TooManyRequestsError,
    UnavailableError,
)
from hashshare.mirror.archive import Archive, KeptSnapshot
from hashshare.mirror.shelf import Shelf, read_file, sync_file
from hashshare.replica import ListState, Replica
from hashshare.wire.compression import inflate
from hashshare.wire.members import AdmissionList
from hashshare.wire.parquet import write_snapshot

SNAPSHOT_SHARE: Final = 0.1
"""A snapshot is written anew when the deltas since have more than this share of its bytes."""
MIN_DELTA_BYTES: Final = 64 * 1024
KEPT_SNAPSHOTS: Final = 2
"""So that a download that is under way is not cut off."""
MAX_SLACK_BYTES: Final = 64 * 1024
"""What compression may add to a batch."""


@dataclass(slots=True)
class SyncProgress:
    """How far a sync is: plain numbers, to be looked at whenever one likes."""

    what: str = ""
    done: int = 0
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Synced:
    """What a sync came to.

    Attributes:
        size: Of the log that readers now see.
        versions: Of each hash set that is mirrored.
        batches: How many came.
        missing: Digests of batches that the source does not have, though this member may read
            them and nobody has redacted them.
        received: Bytes of bodies, as on the wire.
    """

    size: int
    versions: dict[HashSetId, int]
    batches: int
    missing: list[str]
    received: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivingFollower(Follower):
    """Follows the log, and keeps every leaf and registry that it reads."""

    archive: Archive

    async def fetch_leaves(self, first: int, size: int) -> list[bytes]:
        """Return some leaves from ``first`` on, from the archive if they are there."""
        count = min(size - first, 256 - first % 256)
        held = self.archive.find_leaves(first, count)
        if len(held) == count:
            return held
        # super() does not know a class that was made anew to have slots.
        leaves = await Follower.fetch_leaves(self, first, size)
        self.archive.keep_leaves(first, leaves)
        return leaves

    async def fetch_registries(self, leaves: list[bytes]) -> dict[str, bytes]:
        """Return the registries that leaves name, from the archive if they are there."""
        found = {}
        for _, named in named_documents(leaves):
            document = self.archive.find_document(named.sha256)
            if document is not None:
                found[named.sha256] = document
        lacking = [leaf for leaf in leaves if _is_lacking(leaf, found)]
        fetched = await Follower.fetch_registries(self, lacking)
        for document in fetched.values():
            self.archive.keep_document(document)
        return found | fetched


def _is_lacking(leaf: bytes, found: dict[str, bytes]) -> bool:
    return any(named.sha256 not in found for _, named in named_documents([leaf]))


@dataclass(slots=True)
class Mirror:
    """A folder with a copy of what one member may read; open it as a context.

    Attributes:
        folder: Of the mirror.
        session: To where the copy is taken from: the server, or another mirror.
    """

    folder: Path
    session: Session
    archive: Archive
    replica: Replica
    logbook: Logbook
    _keeper: TrustKeeper = field(repr=False)
    _follower: ArchivingFollower = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._follower = ArchivingFollower(
            self.profile,
            self.session,
            self.logbook,
            archive=self.archive,
            renew_trust=self._renew_trust,
        )

    @classmethod
    @asynccontextmanager
    async def open(
        cls, profile: Profile, folder: Path, *, source: str | None = None
    ) -> AsyncIterator["Mirror"]:
        """Give the mirror in ``folder``, which is made if it is not there.

        Raises:
            UnavailableError: Another process syncs it.
            ReplicaDamagedError: Something in it is damaged.
        """
        async with AsyncExitStack() as stack:
            stack.enter_context(_locked(folder))
            archive = Archive.open(folder / "archive.sqlite")
            stack.callback(archive.close)
            logbook = Logbook.open(folder / "log.sqlite")
            stack.callback(logbook.close)
            replica = stack.enter_context(Replica.open(folder / "replica.sqlite"))
            origin = await stack.enter_async_context(Session.of(profile))
            session = origin
            if source not in {None, profile.api_url}:
                session = Session(source or "", origin.tls)
                await stack.enter_async_context(session)
            yield cls(folder, session, archive, replica, logbook, TrustKeeper(profile, origin))

    @property
    def profile(self) -> Profile:
        """Of the member that runs it, as it is believed now.

        With the mirror's own folder: what it sees and finds is not mixed with what the member does.
        """
        return replace(self._keeper.profile, folder=self.folder)

    async def _renew_trust(self, max_age: timedelta = timedelta()) -> Profile | None:
        """Return the profile with a newer trust document, which only the server shows, if any."""
        if not await self._keeper.keep(max_age=max_age):
            return None
        self.session.tls = self._keeper.session.tls
        self._follower = replace(self._follower, profile=self.profile)
        return self.profile

    async def sync(self, progress: SyncProgress | None = None) -> Synced:
        """Bring the copy up to date.

        Raises:
            VerificationError: What the source gave does not hold; readers go on seeing what
                was there before.
            MalformedError: An answer is not in its form; the same.
            UnavailableError: The source cannot be reached; what was begun is kept.
        """
        shown, before = progress or SyncProgress(), self.session.received
        # Without the server what is known goes on holding, until it ends.
        with suppress(UnavailableError):
            await self._renew_trust(TRUST_AGE)
        shown.what = "log"
        note, history = await self._follow()
        versions: dict[HashSetId, int] = {}
        for hash_set in self._readable(history):
            shown.what = hash_set
            versions[hash_set] = await self._sync_lists(history, hash_set)
        batches, missing = await self._sync_batches(history, shown)
        await self._sync_admissions()
        # Everything that belongs to it is here: from now on readers see it.
        self.archive.publish(note)
        received = self.session.received - before
        return Synced(history.size, versions, batches, missing, received)

    async def _follow(self) -> tuple[bytes, History]:
        archive = self.archive
        try:
            position = await self._follower.follow()
            history = position.history
            # The logbook may have come further than the archive, if a sync was killed.
            while archive.downloaded < history.size:
                leaves = await self._follower.fetch_leaves(archive.downloaded, history.size)
                await self._follower.fetch_registries(leaves)
        except (UnavailableError, TooManyRequestsError):
            raise
        except HashshareError:
            # Whatever it is, it may lie in what was downloaded.
            archive.drop_unconfirmed()
            raise
        await asyncio.to_thread(archive.confirm, history.size, history.frontier.root())
        return position.note, history

    def _readable(self, history: History) -> list[HashSetId]:
        """Return the hash sets with publications that this member may read."""
        registry = history.registry
        if registry is None:
            return []
        readable = registry.readable_sets(self.profile.member)
        return [hash_set for hash_set in readable if hash_set in history.publications]

    async def _sync_lists(self, history: History, hash_set: HashSetId) -> int:
        """Take in each version of a hash set that is new; the first time only the latest."""
        verifier = Verifier(self.profile, self.session, self.replica, self._follower)
        held = await verifier.read(lambda r: verifier.held_publication(r, hash_set))
        latest = history.publications[hash_set].publication.version
        first = latest if held is None else held.publication.version + 1
        for version in range(first, latest + 1):
            news = self._news_of(hash_set, version, history)
            await Puller(verifier).reach(news, PullProgress(), keep=self._keep)
        await asyncio.to_thread(self._write_snapshots, hash_set)
        return latest

    def _news_of(self, hash_set: HashSetId, version: int, history: History) -> News:
        found = self.archive.find_publication(hash_set, version, size=history.size)
        if found is None:
            raise NotFoundError(f"version {version} of {hash_set} is not in the log")
        index, leaf = found
        envelope = parse_envelope(leaf)
        publication = decode_document(envelope.payload, Publication)
        registry = history.registry
        lists = [] if registry is None else readable_lists(registry, self.profile.member, hash_set)
        accepted = AcceptedPublication(publication, id_of(envelope), index)
        return News(accepted, leaf, tuple(lists))

    def _keep(self, downloads: Sequence[Download]) -> None:
        shelf = Shelf(self.folder / "deltas")
        for download in downloads:
            if download.held == 0:
                # What was there before the replica is not known to be right.
                shelf.drop(download.name)
            if download.snapshot is not None:
                # No deltas lead from the mirror's own snapshots to here: it takes a new one.
                for old in self.archive.snapshots(str(download.name)):
                    self.archive.drop_snapshot(str(download.name), old.version)
            if download.delta is not None:
                shelf.put(download.name, download.base, download.version, download.delta)

    def _write_snapshots(self, hash_set: HashSetId) -> None:
        shelf = Shelf(self.folder / "deltas")
        with self.replica.reading() as reading:
            for state in reading.lists():
                name = ListName.parse(state.name)
                if name.hash_set != hash_set:
                    continue
                snapshots = self.archive.snapshots(state.name)
                if snapshots and not _is_due(snapshots[0], shelf, name, state):
                    continue
                fresh = self.folder / "snapshot.new"
                write_snapshot(fresh, reading.entries(state.name), count=state.count)
                self._keep_snapshot(state, fresh)
                for old in snapshots[KEPT_SNAPSHOTS - 1 :]:
                    self.archive.drop_snapshot(state.name, old.version)
                    snapshot_path(self.folder, state.name, old.version).unlink(missing_ok=True)

    def _keep_snapshot(self, state: ListState, fresh: Path) -> None:
        sync_file(fresh)
        with fresh.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = fresh.stat().st_size
        path = snapshot_path(self.folder, state.name, state.version)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.replace(path)
        kept = KeptSnapshot(state.version, state.count, size, sha256)
        self.archive.keep_snapshot(state.name, kept)

    async def _sync_batches(
        self, history: History, progress: SyncProgress
    ) -> tuple[int, list[str]]:
        """Fetch the batches that this member may read, and delete those that are redacted."""
        for sha256 in self.archive.redactions():
            batch_path(self.folder, sha256).unlink(missing_ok=True)
        registry = history.registry
        roles = registry.member(self.profile.member).roles if registry else ()
        every = bool({Role.ADMIN, Role.AUDITOR} & set(roles))
        wanted = self.archive.missing_batches(self.profile.member, every=every)
        progress.what, progress.done, progress.total = "batches", 0, len(wanted)
        missing = []
        for sha256, size in wanted:
            try:
                await self._fetch_batch(sha256, size)
            except NotFoundError:
                missing.append(sha256)
            progress.done += 1
        return len(wanted) - len(missing), missing

    async def _fetch_batch(self, sha256: str, size: int) -> None:
        path = batch_path(self.folder, sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        async with self.session.stream(f"/v1/batches/{sha256}") as (_, chunks):
            with fresh.open("wb") as file:
                async for chunk in chunks:
                    file.write(chunk)
                    if file.tell() > size + MAX_SLACK_BYTES:
                        raise TooLargeError("the batch is longer than the log says")
                file.flush()
                os.fsync(file.fileno())
        await asyncio.to_thread(_verify_batch, fresh, sha256, size)
        fresh.replace(path)
        self.archive.hold_batch(sha256)

    async def _sync_admissions(self) -> None:
        """Fetch which certificates are to be let in: those in force that have no scope."""
        found = await self.session.get("/v1/admissions", AdmissionList)
        self.archive.put_state("admitted", msgspec.json.encode(found.fingerprints))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other processes from syncing it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UnavailableError("another process syncs this mirror") from error
        yield


def batch_path(folder: Path, sha256: str) -> Path:
    """Return where a mirror keeps a batch."""
    return folder / "batches" / sha256[:2] / f"{sha256}.zst"


def snapshot_path(folder: Path, list_name: str, version: int) -> Path:
    """Return where a mirror keeps a snapshot."""
    return folder / "snapshots" / list_name / f"{version}.parquet"


def _is_due(newest: KeptSnapshot, shelf: Shelf, name: ListName, state: ListState) -> bool:
    if newest.version == state.version:
        return False
    changed = shelf.size_after(name, newest.version)
    return changed > max(MIN_DELTA_BYTES, SNAPSHOT_SHARE * newest.size)


def _verify_batch(path: Path, sha256: str, size: int) -> None:
    digest, length = hashlib.sha256(), 0
    for piece in _inflated(path, size):
        digest.update(piece)
        length += len(piece)
    if (digest.hexdigest(), length) != (sha256, size):
        raise DigestMismatchError("the batch is not the one that was signed")


def _inflated(path: Path, size: int) -> Iterable[bytes]:
    return inflate(read_file(path), max_bytes=size)

"""Pulling: from the server's answers to a verified replica, or no change at all.

The order of the steps is that of docs/protocol.md, "Pulling"; each is numbered there and here.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hashshare.client.download import (
    MAX_CHANGES,
    MAX_ENTRY_BYTES,
    Download,
    Offer,
    changes_of,
    is_same,
)
from hashshare.client.profile import Profile
from hashshare.client.session import Session
from hashshare.client.verify import News, Verifier
from hashshare.domain.names import HashSetId, ListName
from hashshare.domain.statements import PublishedList
from hashshare.domain.trust import AcceptedPublication
from hashshare.errors import (
    DeltaMismatchError,
    DigestMismatchError,
    MalformedError,
    MixAndMatchError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
    VerificationError,
    VersionNotFoundError,
)
from hashshare.replica.ahead import ahead
from hashshare.wire.delta import DeltaReader
from hashshare.wire.lists import SnapshotDocument

if TYPE_CHECKING:
    from hashshare.replica.writing import Writing

SNAPSHOT_SHARE: Final = 0.1
"""When more of a list than this has changed, its snapshot costs less than its delta."""
MAX_DELTA_BYTES: Final = 4 * 1024**3
MANY_ENTRIES: Final = 50_000
WAIT_SECONDS: Final = 20
"""For so many entries a snapshot is waited for, if it is still being written, and so long."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What pulling came to for one list.

    Attributes:
        name: Of the list.
        base: The version held before.
        version: The version held now.
        count: Entries.
        changes: How many were applied; None when a snapshot was taken first.
        received: Bytes of bodies, as on the wire.
    """

    name: ListName
    base: int
    version: int
    count: int
    changes: int | None
    received: int


@dataclass(slots=True)
class PullProgress:
    """How far a pull is: plain numbers, to be looked at whenever one likes.

    Attributes:
        list_name: Which list is being pulled.
        done: Bytes of a snapshot, or changes of a delta.
        total: As many there are; None when not known.
        unit: ``bytes`` or ``changes``.
        pulled: What is there already, whatever is found afterwards.
    """

    list_name: str = ""
    done: int = 0
    total: int | None = None
    unit: str = "bytes"
    pulled: list[Pulled] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Puller:
    """Keeps the replica of one member up to date."""

    verifier: Verifier

    @property
    def profile(self) -> Profile:
        """Whose replica it is."""
        return self.verifier.profile

    @property
    def session(self) -> Session:
        """Where it is pulled from."""
        return self.verifier.session

    async def pull(
        self, hash_set: HashSetId, names: list[ListName] | None, progress: PullProgress
    ) -> list[Pulled]:
        """Bring lists of one hash set to its latest version.

        Args:
            hash_set: The hash set.
            names: Which of its lists; None for all.
            progress: Told how far it is.

        Raises:
            NotFoundError: There is no such hash set or list for this member.
            VerificationError: Something that was signed does not hold; nothing is changed.
            MalformedError: An answer is not in its form; nothing is changed.
            TooLargeError: An answer is over its limit; nothing is changed.
            UnavailableError: The server cannot be reached; nothing is changed.
        """
        news, offers = await self._survey(hash_set, names)
        return await self._take(news, offers, progress)

    async def reach(
        self, news: News, progress: PullProgress, *, keep: Callable[[Sequence[Download]], None]
    ) -> list[Pulled]:
        """Bring all lists of one hash set to a version that was verified; raises as ``pull`` does.

        Args:
            news: The version.
            progress: Told how far it is.
            keep: Called with what was downloaded, just before the replica takes it in.
        """
        return await self._take(news, await self._offers(news, None), progress, keep=keep)

    async def _take(
        self,
        news: News,
        offers: Sequence[Offer],
        progress: PullProgress,
        *,
        keep: Callable[[Sequence[Download]], None] | None = None,
    ) -> list[Pulled]:
        downloads = [await self._download(offer, news, progress) for offer in offers]
        # One transaction for all lists.
        try:
            if keep is not None:
                keep(downloads)
            return await asyncio.to_thread(self._commit, news, downloads)
        except (DeltaMismatchError, MalformedError, TooLargeError) as error:
            raise VerificationError(f"what the server sent was refused: {error}") from error
        finally:
            for download in downloads:
                download.delete()

    async def _survey(
        self, hash_set: HashSetId, names: list[ListName] | None
    ) -> tuple[News, list[Offer]]:
        """Return what is to be believed, and for each list the snapshot to begin with."""
        while True:
            news = await self.verifier.verify_news(hash_set)
            offers = await self._offers(news, names)
            ahead_of = [one.snapshot.version for one in offers if one.snapshot is not None]
            # One that was published while it was waited for: what is to be believed moves on
            # with it. If it does not, the snapshot is not taken.
            if max(ahead_of, default=0) <= news.accepted.publication.version:
                return news, offers
            latest = (await self.verifier.verify_news(hash_set)).accepted.publication.version
            if latest == news.accepted.publication.version:
                return news, offers

    async def _offers(self, news: News, names: list[ListName] | None) -> list[Offer]:
        publication = news.accepted.publication
        # A view that was added or deleted since is not in it; one that is not released to this
        # member is not asked for.
        wanted = names or [
            name for name in news.lists if publication.find(name.view, name.algorithm)
        ]
        targets = [(name, _require(news.accepted, name)) for name in wanted]
        return [Offer(*one, await self._find_snapshot(*one)) for one in targets]

    async def _download(self, offer: Offer, news: News, progress: PullProgress) -> Download:
        name, target = offer.name, offer.target
        progress.list_name, progress.done, progress.total = str(name), 0, None
        state = await self.verifier.read(lambda r: r.find(str(name)))
        version = news.accepted.publication.version
        base = 0 if state is None else state.version
        before = self.session.received
        if state is not None and is_same(state, target):
            return Download(name, target, base, base, version, None, None, received=0)
        chosen = offer.choose(state, version)
        try:
            snapshot, delta = await self._fetch(name, chosen, base, version, progress)
        except VersionNotFoundError:
            # A mirror need not have every version; with a snapshot it needs fewer of them.
            chosen = await self._newest_snapshot(name, wait=False) if chosen is None else None
            if chosen is None or not base < chosen.version <= version:
                raise
            snapshot, delta = await self._fetch(name, chosen, base, version, progress)
        start = base if chosen is None else chosen.version
        received = self.session.received - before
        return Download(name, target, base, start, version, snapshot, delta, received)

    async def _fetch(
        self,
        name: ListName,
        chosen: SnapshotDocument | None,
        base: int,
        version: int,
        progress: PullProgress,
    ) -> tuple[tuple[SnapshotDocument, Path] | None, Path | None]:
        """Download a snapshot, if one was chosen, and the delta from there on, if one is needed."""
        snapshot = None
        if chosen is not None:
            snapshot = (chosen, await self._download_snapshot(chosen, progress))
            base = chosen.version
        if base == version:
            return snapshot, None
        progress.unit, progress.done = "changes", 0
        return snapshot, await self._download_delta(name, base, version, progress)

    async def _find_snapshot(
        self, name: ListName, target: PublishedList
    ) -> SnapshotDocument | None:
        """Return the newest snapshot if one may cost less than a delta from what is held."""
        state = await self.verifier.read(lambda r: r.find(str(name)))
        differing = abs(target.count - (0 if state is None else state.count))
        if target.count < 1000 or differing <= SNAPSHOT_SHARE * target.count:
            return None
        try:
            return await self._newest_snapshot(name, wait=differing >= MANY_ENTRIES)
        except VersionNotFoundError:
            return None

    async def _newest_snapshot(self, name: ListName, *, wait: bool) -> SnapshotDocument:
        """Return the newest snapshot; raises ``VersionNotFoundError`` if there is none."""
        headers = {"Prefer": f"wait={WAIT_SECONDS}"} if wait else {}
        path = f"/v1/lists/{name}/snapshot"
        snapshot = SnapshotDocument.parse(
            (await self.session.request("GET", path, headers=headers))[1]
        )
        if snapshot.list_name != str(name):
            raise MixAndMatchError("the snapshot offered is of another list")
        return snapshot

    async def _download_snapshot(self, snapshot: SnapshotDocument, progress: PullProgress) -> Path:
        """Download what is missing of a snapshot, and verify its digest before it is parsed."""
        if snapshot.size > max(1024 * 1024, snapshot.count * MAX_ENTRY_BYTES):
            raise TooLargeError(f"a snapshot of {snapshot.size} bytes is offered")
        path = self.profile.sub_folder("downloads") / f"{snapshot.sha256}.parquet"
        progress.total, progress.unit = snapshot.size, "bytes"
        digest = ""
        for attempt in range(self.session.attempts):
            try:
                digest = await self._continue_download(snapshot, path, progress)
                break
            except UnavailableError:
                if attempt + 1 == self.session.attempts:
                    raise
                await asyncio.sleep(min(2**attempt * 0.2, 10))
        if digest != snapshot.sha256:
            path.unlink()
            raise DigestMismatchError("the snapshot does not have its announced digest")
        return path

    async def _continue_download(
        self, snapshot: SnapshotDocument, path: Path, progress: PullProgress
    ) -> str:
        """Download the rest of a file, and return the digest of all of it."""
        have = path.stat().st_size if path.exists() else 0
        progress.done = have
        if have >= snapshot.size:
            return (await asyncio.to_thread(_hasher_of, path)).hexdigest()
        headers = {"Range": f"bytes={have}-"} if have else {}
        async with self.session.stream(snapshot.path, headers=headers) as (response, chunks):
            if have and response.status != 206:
                have = 0
            hasher = await asyncio.to_thread(_hasher_of, path) if have else hashlib.sha256()
            with path.open("r+b" if have else "wb") as file:
                file.seek(have)
                progress.done = have
                async for chunk in chunks:
                    if progress.done + len(chunk) > snapshot.size:
                        raise TooLargeError("the snapshot is longer than announced")
                    hasher.update(chunk)
                    file.write(chunk)
                    progress.done += len(chunk)
                # Not synced: what a power cut leaves has another digest, and is fetched anew.
        if progress.done < snapshot.size:
            raise UnavailableError("the connection was lost during the download")
        return hasher.hexdigest()

    async def _download_delta(
        self, name: ListName, base: int, target: int, progress: PullProgress
    ) -> Path:
        """Download a delta; it is read, and applied, from the file."""
        path = self.profile.sub_folder("downloads") / f"{os.getpid()}-delta.zst"
        async with self.session.stream(f"/v1/lists/{name}/deltas/{base}/{target}") as (_, chunks):
            with path.open("wb") as file:
                size = 0
                async for chunk in chunks:
                    size += len(chunk)
                    progress.done = size
                    if size > MAX_DELTA_BYTES:
                        raise TooLargeError("the delta is longer than any delta is")
                    file.write(chunk)
        fresh = path.with_name(f"{name.view}-{name.algorithm}-{base}-{target}.delta")
        path.replace(fresh)
        return fresh

    def _commit(self, news: News, downloads: list[Download]) -> list[Pulled]:
        whole = any(download.snapshot is not None for download in downloads)
        replica = self.verifier.replica
        with replica.filling() if whole else replica.writing() as writing:
            results = [self._apply(writing, download) for download in downloads]
            hash_set = news.accepted.publication.hash_set
            writing.put_state(f"publication/{hash_set}", news.envelope)
            writing.put_state(f"log_index/{hash_set}", str(news.accepted.log_index).encode())
        return results

    def _apply(self, writing: "Writing", download: Download) -> Pulled:
        name, target = str(download.name), download.target
        algorithm = download.name.algorithm
        if download.snapshot is not None:
            # Here, since a delta does not take pyarrow, which is slow to import.
            from hashshare.wire.parquet import read_snapshot

            document, path = download.snapshot
            writing.build(
                name,
                algorithm,
                ahead(read_snapshot(path, algorithm, max_count=document.count)),
                version=document.version,
                bits=target.bits,
                max_count=document.count,
            )
        changes = 0
        if download.delta is not None:
            reader = DeltaReader(algorithm, max_changes=MAX_CHANGES)
            state = writing.apply(
                name,
                algorithm,
                changes_of(download.delta, reader, download),
                base=download.base,
                target=download.version,
                expected_count=target.count,
                minimum_bits=target.bits,
            )
            changes = reader.seen
        else:
            # The snapshot is of this version, or nothing has changed but the version.
            state = writing.apply(
                name,
                algorithm,
                [],
                base=download.base,
                target=download.version,
                minimum_bits=target.bits,
            )
        # 8. Only what was signed is kept.
        writing.require(
            state, count=target.count, bits=target.bits, root=bytes.fromhex(target.root)
        )
        return Pulled(
            name=download.name,
            base=download.held,
            version=download.version,
            count=state.count,
            changes=None if download.snapshot is not None else changes,
            received=download.received,
        )


def _require(accepted: AcceptedPublication, name: ListName) -> PublishedList:
    target = accepted.publication.find(name.view, name.algorithm)
    if target is None:
        raise NotFoundError(f"there is no list {name}")
    return target


def _hasher_of(path: Path) -> "hashlib._Hash":
    """Return what has taken in the file, and may take in more."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256")

"""Following the log: from a checkpoint to verified statements, all of them and in order.

Source: docs/protocol.md, "Pulling", steps 1 to 4.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from hashshare.client.evidence import keep_evidence
from hashshare.client.logbook import Logbook, Position
from hashshare.client.profile import Profile
from hashshare.client.session import Session
from hashshare.crypto.note import Checkpoint, parse_checkpoint, parse_note, verify_checkpoint
from hashshare.crypto.policy import verify_freshness
from hashshare.crypto.tiles import TILE_WIDTH, Tile, decode_entries
from hashshare.domain.history import History, Logged, named_documents
from hashshare.domain.statements import Submission
from hashshare.domain.trust import NEVER, verify_growth
from hashshare.errors import (
    EquivocationError,
    HashshareError,
    NotFoundError,
    ProofInvalidError,
    RollbackError,
    SignatureInvalidError,
    UnavailableError,
)
from hashshare.wire.lists import ProofDocument
from hashshare.wire.members import RegistryDocument

MAX_NOTE_BYTES: Final = 65_536
MAX_TILE_BYTES: Final = TILE_WIDTH * 65_537
_ATTEMPTS: Final = 8


class Offer(StrEnum):
    """What a server can be asked for: the paths of checkpoints."""

    COSIGNED = "/v1/log/checkpoint"
    """A quorum of witnesses has seen it: what members believe."""
    PENDING = "/v1/log/checkpoint/pending"
    """Witnesses are to see it; while some have, it is the same for all."""
    NEWEST = "/v1/log/checkpoint/newest"
    """For admins, who must be able to change the trust policy while witnesses are away."""


def _now() -> datetime:
    return datetime.now(UTC)


async def _keep_trust() -> Profile | None:
    """Look for nothing."""
    return None


def _ignore(_: Logged) -> None:
    """Hear nothing."""


@dataclass(slots=True)
class FollowProgress:
    """How far the log is read: plain numbers, to be looked at whenever one likes.

    Attributes:
        old_since: When witnesses confirmed last what is held, if that is longer ago than it
            should be.
        is_fork_proven: Whether two signed things exclude each other whatever proofs the source
            gives: no other source can explain that away.
        disputed: A checkpoint that the log signed and this source did not prove to be of the
            known history. Another source may.
    """

    done: int = 0
    total: int = 0
    old_since: datetime | None = None
    is_fork_proven: bool = False
    disputed: bytes = b""


@dataclass(frozen=True, slots=True)
class Follower:
    """Follows the log for one member, and remembers in its logbook what it verified.

    Attributes:
        offer: Which of the server's checkpoints it follows.
        renew_trust: Looks for a newer trust document when a signature does not hold; gives None if
            there is none.
        heard: Hears each statement as it is read; whether it is the log's, is known only when
            ``follow`` returns.
    """

    profile: Profile
    session: Session
    logbook: Logbook
    progress: FollowProgress = field(default_factory=FollowProgress)
    offer: Offer = Offer.COSIGNED
    renew_trust: Callable[[], Awaitable[Profile | None]] = _keep_trust
    heard: Callable[[Logged], None] = _ignore
    clock: Callable[[], datetime] = _now

    async def follow(self) -> Position:
        """Read the log up to its newest checkpoint, and return what it comes to, verified.

        Raises:
            SignatureInvalidError: The checkpoint, or a statement, is not signed as it must be.
            RollbackError: The log is shorter than it was.
            EquivocationError: It is another log than it was; the evidence is kept.
            ProofInvalidError: The leaves are not those that the checkpoint signs.
            QuorumMissingError: Too few witnesses have cosigned it.
            FreezeError: They have, too long ago.
            MalformedError: Something is not in its form.
            UnavailableError: The server cannot be reached.
        """
        try:
            return await self._follow()
        except SignatureInvalidError:
            renewed = await self.renew_trust()
            if renewed is None:
                raise
            return await replace(self, profile=renewed, renew_trust=_keep_trust).follow()

    async def _follow(self) -> Position:
        for _ in range(_ATTEMPTS):
            known = self.logbook.position(self.profile.trust)
            note = await self._fetch_checkpoint()
            position = await self._grow(known, note)
            if position is not None:
                return position
        raise UnavailableError("other processes of this profile keep following the log; try again")

    async def _fetch_checkpoint(self) -> bytes:
        _, note = await self.session.request("GET", self.offer, max_bytes=MAX_NOTE_BYTES)
        return note

    async def _grow(self, known: Position, note: bytes) -> Position | None:
        """Return the position at the checkpoint in ``note``; None if another process was faster."""
        # 1. The log signed it.
        offered = verify_checkpoint(note, self.profile.trust.log_verifier)
        before = checkpoint_of(known.note)
        if offered.size < before.size:
            await self._verify_prefix(offered, before, known.note, note)
            return self._verify_seen(known)
        if offered.size == before.size and offered.root != before.root:
            self.progress.is_fork_proven = True
            raise self._forked("two roots are signed for one size of the log", known.note, note)
        # 2. and 3. Every leaf in between is read, and all leaves give the signed root.
        base, keys = known.history.size, self.profile.submission_key_ids()
        try:
            own = [
                (logged.statement_id, logged.index)
                async for logged in self._read(known.history, offered.size)
                if isinstance(logged.statement, Submission) and logged.statement.key_id in keys
            ]
        except UnavailableError:
            raise
        except HashshareError:
            self.progress.disputed = note
            raise
        if known.history.frontier.root() != offered.root:
            await self._explain(before, offered, known.note, note)
        # 4. Enough witnesses have seen it, and lately.
        position = self._verify_seen(Position(known.history, note))
        return position if self.logbook.advance(position, own, base=base) else None

    def _verify_seen(self, position: Position) -> Position:
        """Refuse what too few witnesses have seen, or none lately; by the policy of its own tree.

        Raises:
            QuorumMissingError: Too few have cosigned it.
            FreezeError: They have, too long ago.
        """
        registry = position.history.registry
        if self.offer is not Offer.COSIGNED or registry is None or registry.policy is None:
            return position
        seen_at = registry.policy.verify(position.note)
        if seen_at is None:
            return position
        is_old = verify_freshness(
            seen_at,
            self.clock(),
            warn_after=self.profile.warn_after,
            stop_after=self.profile.stop_after,
        )
        self.progress.old_since = seen_at if is_old else None
        return replace(position, seen_at=seen_at)

    async def _read(self, history: History, size: int) -> AsyncIterator[Logged]:
        """Read the leaves up to ``size`` into ``history``, and yield what they say."""
        self.progress.done, self.progress.total = history.size, size
        while history.size < size:
            leaves = await self.fetch_leaves(history.size, size)
            documents = await self.fetch_registries(leaves)
            # A signature a leaf: some milliseconds for a tile, too long for the event loop.
            for logged in await asyncio.to_thread(history.extend, leaves, documents):
                self.heard(logged)
                yield logged
            self.progress.done = history.size

    async def fetch_leaves(self, first: int, size: int) -> list[bytes]:
        """Return some leaves from ``first`` on, at most up to ``size``; not verified."""
        tile = Tile(None, first // TILE_WIDTH)
        count = min(size, tile.first + TILE_WIDTH) - first
        # A whole tile never changes, and may come from a cache; the rest is asked for as it is.
        path = f"/v1/log/entries?first={first}&count={count}"
        if count == TILE_WIDTH:
            path = f"/v1/log/tile/{tile.path()}"
        _, body = await self.session.request("GET", path, max_bytes=MAX_TILE_BYTES)
        return decode_entries(body, count=count)

    async def fetch_registries(self, leaves: list[bytes]) -> dict[str, bytes]:
        """Return the registries that leaves name, by digest; not verified."""
        documents = {}
        for version, named in named_documents(leaves):
            fetched = await self.session.get(f"/v1/registry/{version}", RegistryDocument)
            documents[named.sha256] = fetched.document
        return documents

    async def _verify_prefix(
        self, offered: Checkpoint, known: Checkpoint, known_note: bytes, note: bytes
    ) -> None:
        """Refuse a checkpoint smaller than the known one, unless the server has seen that too.

        One of several servers may lag behind another by a moment.
        """
        try:
            proof = await self.prove(offered, known)
        except NotFoundError as error:
            await self._show(known_note)
            raise RollbackError(
                f"the log has {offered.size} leaves, and had {known.size} before"
            ) from error
        try:
            verify_growth(offered, known, proof=proof)
        except EquivocationError as error:
            self.progress.disputed = note
            raise self._forked(str(error), known_note, note) from error

    async def _show(self, note: bytes) -> None:
        """Let the server know what it signed, and has not: an honest one then signs no more."""
        # Whatever it answers, or does not, this member goes by what it knows.
        with suppress(HashshareError):
            await self.session.request("POST", "/v1/log/checkpoint", body=note)

    async def _explain(
        self, known: Checkpoint, offered: Checkpoint, known_note: bytes, note: bytes
    ) -> None:
        """Raise what it means that the leaves do not give the signed root.

        Raises:
            EquivocationError: The log does not extend the one that is known.
            ProofInvalidError: It does, so that only the leaves that were given are wrong.
        """
        try:
            proof = await self.prove(known, offered) if known.size else None
            verify_growth(known, offered, proof=proof)
        except (EquivocationError, NotFoundError) as error:
            self.progress.disputed = note
            raise self._forked(str(error), known_note, note) from error
        raise ProofInvalidError("the leaves that were given are not those of the signed log")

    async def verify_disputed(self, note: bytes, *, is_origin: bool) -> None:
        """Refuse a checkpoint that another source did not prove, unless this one does.

        Args:
            note: Signed by the log.
            is_origin: Whether this source has all that the log ever signed; another one may be
                too short to tell.

        Raises:
            EquivocationError: It is not of the history that is known; the evidence is kept.
        """
        known = self.logbook.position(self.profile.trust).note
        old, new = sorted((checkpoint_of(note), checkpoint_of(known)), key=lambda c: c.size)
        try:
            proof = await self.prove(old, new) if 0 < old.size < new.size else None
            verify_growth(old, new, proof=proof)
        except NotFoundError as error:
            if is_origin:
                raise self._forked(f"the log denies the {new.size} leaves", known, note) from error
        except EquivocationError as error:
            raise self._forked(str(error), known, note) from error

    async def prove(self, old: Checkpoint, new: Checkpoint) -> list[bytes]:
        """Return the proof that one tree extends another, both of which have leaves; not verified.

        Raises:
            NotFoundError: The server has not both of them.
        """
        path = f"/v1/log/consistency?old={old.size}&new={new.size}"
        return (await self.session.get(path, ProofDocument, max_bytes=MAX_NOTE_BYTES)).proof

    def keep_fork(
        self, error: EquivocationError, notes: Sequence[bytes] = (), leaves: Sequence[bytes] = ()
    ) -> None:
        """Keep what shows a fork in a file, which the error then names."""
        path = keep_evidence(
            self.profile.folder,
            reason=str(error),
            log=self.profile.trust.log,
            notes=notes,
            leaves=leaves,
        )
        error.add_note(f"evidence: {path}")

    def _forked(self, reason: str, *notes: bytes) -> EquivocationError:
        error = EquivocationError(reason)
        self.keep_fork(error, notes)
        return error


def checkpoint_of(note: bytes) -> Checkpoint:
    """Return the checkpoint of a note that was verified when it was written; b"" is before all."""
    return parse_checkpoint(parse_note(note).text) if note else NEVER

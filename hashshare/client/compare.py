"""Comparing checkpoints that different members were shown: are they of one history?

Source: docs/protocol.md, "Evidence".
"""

import json
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

from hashshare.client.evidence import keep_evidence
from hashshare.client.logbook import Logbook
from hashshare.client.profile import Profile
from hashshare.client.session import Session
from hashshare.crypto.note import Checkpoint, open_note, parse_checkpoint
from hashshare.domain.trust import verify_growth
from hashshare.errors import (
    EquivocationError,
    HashshareError,
    MalformedError,
    NotFoundError,
    SignatureInvalidError,
)
from hashshare.wire.lists import ProofDocument

MAX_FILE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Shown:
    """A checkpoint that somebody was shown.

    Attributes:
        source: Where it is from: a file or URL.
        note: As it was signed.
    """

    source: str
    checkpoint: Checkpoint
    note: bytes


@dataclass(frozen=True, slots=True)
class Comparison:
    """Compares checkpoints of the profile's log."""

    profile: Profile
    session: Session
    logbook: Logbook

    async def read(self, source: str) -> list[Shown]:
        """Return the checkpoints in a file, or at the URL of a server, witness or mirror.

        Raises:
            NotFoundError: There is no such file.
            MalformedError: It holds none.
            SignatureInvalidError: The log's key signed none of them, now or formerly.
        """
        if source.startswith("https://"):
            return [self._verify(source, await self._fetch(source))]
        try:
            data = Path(source).read_bytes()[:MAX_FILE_BYTES]
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no file {source}") from error
        return [self._verify(source, note) for note in _notes_in(data)]

    def own(self) -> list[Shown]:
        """Return the newest checkpoint that this profile has accepted, if any."""
        note = self.logbook.position(self.profile.trust).note
        return [self._verify("this profile", note)] if note else []

    async def newest(self) -> list[Shown]:
        """Return the checkpoint that the profile's server shows."""
        return [self._verify(self.session.base_url, await self._fetch(self.session.base_url))]

    async def verify(self, shown: list[Shown]) -> list[Shown]:
        """Return the checkpoints by size, if all are of one history.

        The proofs come from the server, and need no trust in it: it cannot prove what is not so.

        Raises:
            EquivocationError: Two of them exclude each other; both are kept in a file.
        """
        ordered = sorted(shown, key=lambda s: s.checkpoint.size)
        for old, new in pairwise(ordered):
            try:
                verify_growth(old.checkpoint, new.checkpoint, proof=await self._prove(old, new))
            except EquivocationError as error:
                path = keep_evidence(
                    self.profile.folder,
                    reason=str(error),
                    log=self.profile.trust.log,
                    notes=[old.note, new.note],
                )
                error.add_note(f"shown to {old.source}, and to {new.source}")
                error.add_note(f"evidence: {path}")
                raise
        return ordered

    async def _prove(self, old: Shown, new: Shown) -> list[bytes] | None:
        first, last = old.checkpoint.size, new.checkpoint.size
        if not 0 < first < last:
            return None
        try:
            path = f"/v1/log/consistency?old={first}&new={last}"
            return (await self.session.get(path, ProofDocument, max_bytes=65_536)).proof
        except NotFoundError:
            # The server does not have so many leaves, though its key signed them.
            return []

    async def _fetch(self, url: str) -> bytes:
        """Return the checkpoint at a URL: of a server or mirror, or of a witness."""
        origin = sha256(self.profile.trust.log.encode()).hexdigest()
        last: HashshareError = NotFoundError(f"there is no checkpoint at {url}")
        for path in ("/v1/log/checkpoint", f"/{origin}/checkpoint"):
            async with Session(url.rstrip("/"), self.session.tls, attempts=2) as session:
                try:
                    return (await session.request("GET", path, max_bytes=65_536))[1]
                except NotFoundError as error:
                    last = error
        raise last

    def _verify(self, source: str, note: bytes) -> Shown:
        try:
            text = open_note(note, self.profile.trust.log_verifiers).text
        except SignatureInvalidError as error:
            error.add_note(f"in {source}")
            raise
        checkpoint = parse_checkpoint(text)
        if checkpoint.origin != self.profile.trust.log:
            raise MalformedError(f"{source} holds a checkpoint of another log")
        return Shown(source, checkpoint, note)


def _notes_in(data: bytes) -> list[bytes]:
    """Return the signed notes of a checkpoint's file, or of an evidence file."""
    if not data.startswith(b"{"):
        return [data]
    try:
        evidence = json.loads(data)
        notes = [note.encode() for note in evidence["notes"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedError("the file is neither a checkpoint nor evidence") from error
    if not notes:
        raise MalformedError("this evidence has no checkpoints")
    return notes

"""A witness that is asked: the log shows it a checkpoint, and proves that it only grew.

It reads no statements: what it says is that the log has one history. What the loop of a
witness has cosigned holds for the listener too, and the other way round.

Source: C2SP tlog-witness v1.0.0; docs/protocol.md, "Witnesses".
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog
from aiohttp import web

from hashshare.client.evidence import keep_evidence
from hashshare.client.following import checkpoint_of
from hashshare.client.logbook import Logbook
from hashshare.client.profile import Profile
from hashshare.client.trusting import TRUST_AGE, TrustKeeper
from hashshare.crypto.add_checkpoint import (
    MAX_REQUEST_BYTES,
    SIZE_TYPE,
    AddCheckpoint,
    parse_add_checkpoint,
)
from hashshare.crypto.cosignature import Witness
from hashshare.crypto.note import (
    Checkpoint,
    NoteSignature,
    SignedText,
    open_note,
    parse_checkpoint,
    parse_note,
)
from hashshare.domain.trust import verify_growth
from hashshare.errors import (
    EquivocationError,
    HashshareError,
    MalformedError,
    UnavailableError,
)

_LOG: Final = structlog.get_logger(__name__)

BODY_SECONDS: Final = 10.0
MAX_EVIDENCE: Final = 100
"""Files that are kept: who has the log's key could sign roots until the disk is full."""
_ATTEMPTS: Final = 8


def _now() -> datetime:
    return datetime.now(UTC)


class _RefusedError(Exception):
    """Ends a request with a status, and a line that says why."""

    def __init__(self, status: int, reason: str, content_type: str = "text/plain") -> None:
        super().__init__(reason)
        self.status, self.content_type = status, content_type


@dataclass(slots=True)
class WitnessListener:
    """Answers one log's requests, one at a time.

    Attributes:
        witness: Cosigns.
        logbook: The witness's own.
    """

    profile: Profile
    witness: Witness
    logbook: Logbook
    clock: Callable[[], datetime] = _now
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def application(self) -> web.Application:
        """Return what is to be served."""
        origin = hashlib.sha256(self.profile.trust.log.encode()).hexdigest()
        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        app.router.add_post("/add-checkpoint", self._add_checkpoint)
        app.router.add_get(f"/{origin}/checkpoint", self._newest)
        return app

    async def keep_trust(self, keeper: TrustKeeper) -> None:
        """Believe the trust document in force, which names the log's key; never returns."""
        while True:
            try:
                if await keeper.keep():
                    self.profile = keeper.profile
                    _LOG.info("trust document renewed")
            except HashshareError as error:
                # It goes on answering by what it knows: the old key signs for a while yet.
                _LOG.warning("trust document not renewed", reason=str(error))
            await asyncio.sleep(TRUST_AGE.total_seconds())

    async def _newest(self, _: web.Request) -> web.Response:
        """Answer with the newest checkpoint that is cosigned, for whoever compares."""
        note = self.logbook.cosigned()
        if not note:
            raise web.HTTPNotFound(text="nothing is cosigned yet\n")
        return web.Response(body=note, content_type="text/plain", charset="utf-8")

    async def _add_checkpoint(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await request.read()
            line = await self.cosign(body)
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        except _RefusedError as refused:
            _LOG.warning("checkpoint refused", status=refused.status, reason=str(refused))
            return web.Response(
                status=refused.status,
                body=f"{refused}\n".encode(),
                content_type=refused.content_type,
            )
        except UnavailableError as error:
            _LOG.warning("checkpoint not cosigned", reason=str(error))
            raise web.HTTPServiceUnavailable(text="try again later\n") from error
        return web.Response(text=f"{line}\n", content_type="text/plain")

    async def cosign(self, body: bytes) -> NoteSignature:
        """Return the cosignature that a request asks for, once it is durable what was cosigned."""
        asked, note, checkpoint = self._read(body)
        async with self._turn:
            for _ in range(_ATTEMPTS):
                before = self.logbook.cosigned()
                self._verify_growth(asked, checkpoint, before, note)
                line = self.witness.cosign(note.text, now=self.clock())
                signed = SignedText(note.text, (note.signatures[0], line)).encode()
                if await asyncio.to_thread(self.logbook.cosign, before, signed):
                    _LOG.info("checkpoint cosigned", size=checkpoint.size)
                    return line
        raise UnavailableError("other processes of this witness keep cosigning")

    def _read(self, body: bytes) -> tuple[AddCheckpoint, SignedText, Checkpoint]:
        """Return what is asked, with the note, of which only the log's signature is kept."""
        log = self.profile.trust.log_verifier
        try:
            asked = parse_add_checkpoint(body)
            note = parse_note(asked.note)
            checkpoint = parse_checkpoint(note.text)
        except MalformedError as error:
            raise _RefusedError(400, str(error)) from error
        if checkpoint.origin != log.name:
            raise _RefusedError(404, "this witness does not know that log")
        try:
            open_note(asked.note, [log])
        except HashshareError as error:
            raise _RefusedError(403, str(error)) from error
        if not asked.old <= checkpoint.size or checkpoint.size == 0:
            raise _RefusedError(400, "the old size is not above the size, which is not 0")
        return asked, SignedText(note.text, (note.by(log),)), checkpoint

    def _verify_growth(
        self, asked: AddCheckpoint, checkpoint: Checkpoint, before: bytes, note: SignedText
    ) -> None:
        known = checkpoint_of(before)
        if asked.old != known.size:
            raise _RefusedError(409, str(known.size), SIZE_TYPE)
        try:
            verify_growth(known, checkpoint, proof=list(asked.proof))
        except EquivocationError as error:
            if known.size == checkpoint.size:
                # A wrong proof shows nothing of the log; two roots for one size do.
                self._keep_fork(str(error), (before, note.encode()))
            raise _RefusedError(422, str(error)) from error
        if asked.proof and known.size in {0, checkpoint.size}:
            raise _RefusedError(422, "nothing is to be proven, and there is a proof")

    def _keep_fork(self, reason: str, notes: tuple[bytes, bytes]) -> None:
        folder, log = self.profile.folder, self.profile.trust.log
        if len(list(folder.glob("evidence-*.json"))) >= MAX_EVIDENCE:
            _LOG.error("the log has two histories", evidence="there are enough files of it")
            return
        path = keep_evidence(folder, reason=reason, log=log, notes=notes)
        _LOG.error("the log has two histories", evidence=str(path))

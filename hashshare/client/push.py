"""Pushing: from records to receipts. May be interrupted at any point and repeated."""

import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from typing import Final

import zstandard

from hashshare.client.journal import Entry, Journal
from hashshare.client.profile import Profile
from hashshare.client.session import CHUNK_BYTES, Session
from hashshare.crypto.envelope import parse_envelope, seal, statement_id
from hashshare.crypto.receipt import parse_receipt, verify_receipt
from hashshare.domain.documents import decode_document, encode_document
from hashshare.domain.names import HashSetId, format_time, parse_time
from hashshare.domain.records import Record
from hashshare.domain.statements import (
    BATCH_MEDIA_TYPE,
    SUBMISSION_TYPE,
    BatchManifest,
    ChainHead,
    Operation,
    Submission,
)
from hashshare.errors import (
    HashshareError,
    MalformedError,
    NotFoundError,
    SequenceMismatchError,
    SignatureInvalidError,
    TooManyRequestsError,
    UnavailableError,
)
from hashshare.wire.batch import encode_batch
from hashshare.wire.members import SelfDocument
from hashshare.wire.submissions import CountsDocument, SubmissionDocument, SubmissionList

BATCH_RECORDS: Final = 1_000_000
_ATTEMPTS: Final = 8


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch, ready to be sent.

    Attributes:
        path: The compressed file.
        manifest: What the statement says of it.
        content: Digest of its lines without the salted header, hex.
    """

    path: Path
    manifest: BatchManifest
    content: str


@dataclass(frozen=True, slots=True)
class Pushed:
    """One accepted submission.

    Attributes:
        repeated: Whether the server had accepted it before.
    """

    statement_id: str
    log_index: int
    counts: CountsDocument
    receipt_path: Path


@dataclass(slots=True)
class PushProgress:
    """How far a push is: plain numbers, to be looked at whenever one likes.

    Attributes:
        stage: ``reading``, ``sending``, ``waiting`` or ``done``.
        done: Records read, or bytes sent.
        total: Bytes to send; None while reading.
    """

    stage: str = "reading"
    done: int = 0
    total: int | None = None
    pushed: list[Pushed] = field(default_factory=list)
    already_said: int = 0


@dataclass(frozen=True, slots=True)
class Pusher:
    """Sends submissions of one member.

    Attributes:
        renew_trust: Looks for a newer trust document when a receipt's signature does not hold;
            gives None if there is none.
    """

    profile: Profile
    session: Session
    journal: Journal
    renew_trust: Callable[[], Awaitable[Profile | None]]

    async def push(
        self,
        hash_set: HashSetId,
        operation: Operation,
        records: Iterable[Record],
        *,
        now: datetime,
        progress: PushProgress,
    ) -> list[Pushed]:
        """Send ``records`` and return what was accepted; nothing if all was said before.

        What an earlier push left under way is sent first.

        Raises:
            BatchFaultsError: Records are faulty, as the server sees it; nothing is changed.
            PermissionDeniedError: The member may not contribute to the hash set.
            UnavailableError: The server cannot be reached; repeat the command.
            VerificationError: The receipt does not prove what it should.
        """
        await self.resume(progress)
        packed = list(self._pack(records, operation, progress))
        progress.stage, progress.done = "sending", 0
        progress.total = sum(batch.path.stat().st_size for batch in packed)
        try:
            if await self._was_said(hash_set, operation, packed):
                progress.already_said = sum(batch.manifest.count for batch in packed)
                return []
            for batch in packed:
                entry = await self._sign(hash_set, operation, batch, now)
                self.journal.begin(entry)
                progress.pushed.append(await self._send(entry, batch.path, progress))
        finally:
            progress.stage = "done"
            self._clean_up()
        return progress.pushed

    async def resume(self, progress: PushProgress) -> list[Pushed]:
        """Send again what was begun and not answered; returns what was accepted."""
        resumed = []
        for entry in self.journal.pending():
            path = self._outbox / f"{entry.batch}.zst"
            try:
                resumed.append(await self._send(entry, path, progress))
            except NotFoundError:
                # Its batch never arrived, and is gone: it was never accepted.
                self.journal.forget(entry.statement_id)
        return resumed

    @property
    def _outbox(self) -> Path:
        return self.profile.sub_folder("outbox")

    def _pack(
        self, records: Iterable[Record], operation: Operation, progress: PushProgress
    ) -> Iterator[Packed]:
        rest = iter(records)
        while (first := next(rest, None)) is not None:
            part = islice(chain([first], rest), BATCH_RECORDS)
            yield self._pack_one(part, progress)

    def _pack_one(self, records: Iterable[Record], progress: PushProgress) -> Packed:
        temporary = self._outbox / f"{secrets.token_hex(8)}.part"
        whole, content = hashlib.sha256(), hashlib.sha256()
        size = lines = 0
        with temporary.open("wb") as file:
            compressor = zstandard.ZstdCompressor(level=1).compressobj()
            for number, piece in enumerate(encode_batch(records, secrets.token_bytes(32))):
                whole.update(piece)
                size += len(piece)
                if number:
                    content.update(piece)
                    lines += piece.count(b"\n")
                    progress.done += piece.count(b"\n")
                file.write(compressor.compress(piece))
            file.write(compressor.flush())
            file.flush()
            os.fsync(file.fileno())
        manifest = BatchManifest(
            count=lines, media_type=BATCH_MEDIA_TYPE, sha256=whole.hexdigest(), size=size
        )
        path = self._outbox / f"{manifest.sha256}.zst"
        temporary.replace(path)
        return Packed(path, manifest, content.hexdigest())

    async def _was_said(
        self, hash_set: HashSetId, operation: Operation, packed: list[Packed]
    ) -> bool:
        """Return whether just this was accepted, and nothing else of this member since."""
        if operation is Operation.RULE:
            # It settles what others have disputed since.
            return False
        said = {
            (entry.operation, entry.content): entry
            for entry in reversed(self.journal.accepted(hash_set))
        }
        found = [said.get((operation.value, batch.content)) for batch in packed]
        indexes = {e.log_index for e in found if e is not None and e.log_index is not None}
        if not packed or None in found:
            return False
        listing = await self.session.get(f"/v1/submissions?after={min(indexes)}", SubmissionList)
        return all(
            row.hash_set != hash_set or row.log_index in indexes for row in listing.submissions
        )

    async def _sign(
        self,
        hash_set: HashSetId,
        operation: Operation,
        batch: Packed,
        now: datetime,
        head: ChainHead | None = None,
    ) -> Entry:
        if head is None:
            chain_head = (await self.session.get("/v1/self", SelfDocument)).chain
            head = ChainHead(chain_head.sequence, chain_head.last_id)
        return self._seal(hash_set, operation.value, batch.manifest, batch.content, now, head)

    def _seal(
        self,
        hash_set: str,
        operation: str,
        manifest: BatchManifest,
        content: str,
        now: datetime,
        head: ChainHead,
    ) -> Entry:
        key = self.profile.submission_key()
        submission = Submission(
            batch=manifest,
            created_at=format_time(now),
            hash_set=hash_set,
            key_id=key.public.key_id,
            log=self.profile.trust.log,
            member=self.profile.member,
            operation=Operation(operation),
            previous=head.last_id,
            sequence=head.sequence + 1,
        )
        payload = encode_document(submission)
        return Entry(
            statement_id=statement_id(SUBMISSION_TYPE, payload),
            hash_set=hash_set,
            operation=operation,
            content=content,
            batch=manifest.sha256,
            envelope=seal(payload, SUBMISSION_TYPE, [key]).encode(),
        )

    async def _send(self, entry: Entry, path: Path, progress: PushProgress) -> Pushed:
        for _ in range(_ATTEMPTS):
            if path.exists():
                await self._upload(entry.batch, path, progress)
            progress.stage = "waiting"
            try:
                answered = await self.session.send(
                    "POST", "/v1/submissions", entry.envelope, SubmissionDocument
                )
            except SequenceMismatchError as error:
                # Another of the member's machines was faster. This one was not accepted.
                entry = self._sign_again(entry, ChainHead(error.sequence - 1, error.previous))
                continue
            except (UnavailableError, TooManyRequestsError):
                # Whether it was accepted is not known: it stays in the journal.
                raise
            except HashshareError:
                self.journal.forget(entry.statement_id)
                path.unlink(missing_ok=True)
                raise
            return await self._keep_receipt(entry, answered)
        raise UnavailableError("other machines of this member keep submitting; try again")

    def _sign_again(self, entry: Entry, head: ChainHead) -> Entry:

        old = decode_document(parse_envelope(entry.envelope).payload, Submission)
        created_at = parse_time(old.created_at)
        new = self._seal(
            entry.hash_set, entry.operation, old.batch, entry.content, created_at, head
        )
        self.journal.begin(new, instead_of=entry.statement_id)
        return new

    async def _upload(self, sha256: str, path: Path, progress: PushProgress) -> None:
        with suppress(NotFoundError):
            await self.session.request("HEAD", f"/v1/batches/{sha256}")
            return
        begin = progress.done

        async def body() -> AsyncIterator[bytes]:
            progress.done = begin
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
                    progress.done += len(chunk)
                    self.session.sent += len(chunk)

        headers = {"Content-Encoding": "zstd", "Content-Type": "application/x-ndjson"}
        await self.session.request("PUT", f"/v1/batches/{sha256}", body=body, headers=headers)

    async def _keep_receipt(self, entry: Entry, answered: SubmissionDocument) -> Pushed:
        data = answered.receipt.encode()
        receipt = parse_receipt(data)
        try:
            verify_receipt(receipt, entry.envelope, self.profile.trust.log_verifier)
        except SignatureInvalidError:
            renewed = await self.renew_trust()
            if renewed is None:
                raise
            verify_receipt(receipt, entry.envelope, renewed.trust.log_verifier)
        if receipt.index != answered.log_index:
            raise MalformedError("the receipt is for another leaf than the answer says")
        self.journal.accept(entry.statement_id, log_index=receipt.index, receipt=data)
        path = self.profile.sub_folder("receipts") / f"{receipt.index}-{entry.statement_id}.receipt"
        path.write_bytes(data)
        return Pushed(entry.statement_id, receipt.index, answered.counts, path)

    def _clean_up(self) -> None:
        """Delete the batches that no submission under way needs."""
        needed = {f"{entry.batch}.zst" for entry in self.journal.pending()}
        for path in self._outbox.iterdir():
            if path.name not in needed:
                path.unlink(missing_ok=True)

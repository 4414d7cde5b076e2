"""Submissions: from a member's signed envelope and its batch to a receipt."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

import structlog
import zstandard

from hashshare.crypto.envelope import Envelope, parse_envelope
from hashshare.crypto.note import NoteSigner
from hashshare.domain.names import MemberId
from hashshare.domain.registry import Registry, Role
from hashshare.domain.statements import (
    BatchManifest,
    Submission,
    id_of,
    read_submission,
    verify_chain,
    verify_right,
)
from hashshare.errors import (
    BatchFaultsError,
    DigestMismatchError,
    MalformedError,
    NotFoundError,
    PermissionDeniedError,
    RegistryConflictError,
    TooLargeError,
    UnavailableError,
)
from hashshare.service.log import make_receipt
from hashshare.service.merge import PreparedBatch, merge_batch, prepare_batch
from hashshare.service.registry import RegistryService
from hashshare.storage.assertions import Author
from hashshare.storage.blobs import BlobKind, Blobs
from hashshare.storage.database import Connection, Pool, snapshot, transaction
from hashshare.storage.log import LogRepository, Place
from hashshare.storage.notices import NoticeRepository
from hashshare.storage.registry import RegistryRepository
from hashshare.storage.submissions import (
    AcceptedSubmission,
    SubmissionCounts,
    SubmissionRepository,
    to_accepted,
)
from hashshare.wire.batch import BatchRules, parse_batch
from hashshare.wire.compression import Inflater, inflate

_LOG: Final = structlog.get_logger(__name__)

PAGE: Final = 100
"""Submissions in one answer."""

# A registry that changes more often than this during one submission is not ours to wait for.
_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class SubmitLimits:
    """What a submission may cost.

    Attributes:
        max_batch_bytes: Of a batch, not compressed; as well as compressed.
        max_batch_records: Of a batch.
        bulk_records: From so many records on a batch is bulk.
        bulk_in_parallel: So many bulk batches are held in memory at once; others wait.
    """

    max_batch_bytes: int = 512 * 1024 * 1024
    max_batch_records: int = 2_000_000
    bulk_records: int = 20_000
    bulk_in_parallel: int = 2


@dataclass(frozen=True, slots=True)
class SubmissionResult:
    """What the member is answered.

    Attributes:
        statement_id: Lower-case hex.
        log_index: The leaf that its envelope is now.
        receipt: Proves that; the same bytes each time.
        counts: What it came to.
        repeated: Whether it had been accepted before.
    """

    statement_id: str
    log_index: int
    receipt: bytes
    counts: SubmissionCounts
    repeated: bool


@dataclass(frozen=True, slots=True)
class _Claim:
    """A submission whose signature is valid under the registry at ``version``."""

    envelope: Envelope
    statement_id: str
    submission: Submission
    version: int


@dataclass(frozen=True, slots=True)
class SubmitService:
    """Takes in batches and submissions. May be used by several tasks and processes at once."""

    pool: Pool
    blobs: Blobs
    signer: NoteSigner
    limits: SubmitLimits = SubmitLimits()
    _registries: RegistryService = field(init=False, repr=False)
    _bulk: asyncio.Semaphore = field(init=False, repr=False)
    _running: set["asyncio.Task[SubmissionResult]"] = field(
        init=False, repr=False, default_factory=set
    )

    def __post_init__(self) -> None:
        # The way to set a field of a frozen class that is derived from others.
        object.__setattr__(self, "_registries", RegistryService(self.pool, self.signer))
        object.__setattr__(self, "_bulk", asyncio.Semaphore(self.limits.bulk_in_parallel))

    async def has_batch(self, sha256: str) -> bool:
        """Return whether a batch is stored."""
        return await self.blobs.find_size(BlobKind.BATCH, sha256) is not None

    async def store_batch(
        self, sha256: str, chunks: AsyncIterator[bytes], *, encoding: Literal["identity", "zstd"]
    ) -> bool:
        """Store a batch and return True, or False if it is there already.

        Durable once it returns; idempotent. Its lines are looked at by ``submit``.

        Args:
            sha256: Digest of the NDJSON, lower-case hex.
            chunks: The body; not read to its end when the batch is there already.
            encoding: Of the body.

        Raises:
            DigestMismatchError: The NDJSON has another digest.
            MalformedError: It is not exactly one zstd frame.
            TooLargeError: It is over the limit, before or after decompression.
            UnavailableError: It cannot be stored now.
        """
        if await self.has_batch(sha256):
            return False
        limit = self.limits.max_batch_bytes
        intake = _Inflating(limit) if encoding == "zstd" else _Deflating(limit)
        async with self.blobs.draft(max_bytes=limit) as draft:
            async for chunk in chunks:
                await draft.write(await asyncio.to_thread(intake.feed, chunk))
            await draft.write(intake.finish())
            if intake.sha256 != sha256:
                raise DigestMismatchError("the batch does not have the digest in its name")
            await draft.keep(BlobKind.BATCH, sha256)
        return True

    async def open_batch(self, sha256: str, *, peer_member: MemberId) -> AsyncIterator[bytes]:
        """Return the bytes of a stored batch, as zstd, for those who may have it.

        Raises:
            NotFoundError: There is none, or the member is neither one who submitted it nor
                an admin or auditor.
        """
        registry = (await self._registries.current()).registry
        async with snapshot(self.pool) as connection:
            owners = await SubmissionRepository(connection).read_batch_owners(sha256)
        if peer_member not in owners:
            roles = registry.member(peer_member).roles
            if Role.ADMIN not in roles and Role.AUDITOR not in roles:
                raise NotFoundError("there is no such batch")
        if not await self.has_batch(sha256):
            raise NotFoundError("there is no such batch")
        return self.blobs.read(BlobKind.BATCH, sha256)

    async def submit(
        self, envelope: bytes, *, peer_member: MemberId, now: datetime
    ) -> SubmissionResult:
        """Accept a submission whose batch is stored, or refuse it and change nothing.

        Durable once it returns. Idempotent: the same statement again is answered with its
        first receipt. Goes on when the caller is cancelled, since the peer may be gone after
        the point of no return; the answer to the repetition then tells.

        Args:
            envelope: As it came from the network.
            peer_member: Who sent it.
            now: Recorded as the time of acceptance.

        Raises:
            MalformedError: The envelope or payload is not in the one accepted form.
            SignatureInvalidError: It is not signed by a key of its member.
            MixAndMatchError: It is for another log.
            PermissionDeniedError: It is another member's, or its member may not contribute.
            SequenceMismatchError: It is not the next one of its member.
            NotFoundError: Its batch is not stored.
            TooLargeError: Its batch is over a limit.
            DigestMismatchError: Its batch has not the digest or size that it announces.
            BatchFaultsError: Lines of its batch are faulty, or not as many as announced.
            UnavailableError: The database or the blobs cannot be used now.
        """
        task = asyncio.create_task(self._submit(envelope, peer_member, now))
        self._running.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Wait for the submissions that go on without their callers."""
        await asyncio.gather(*self._running, return_exceptions=True)

    async def list_submissions(self, member: MemberId, after: int = -1) -> list[AcceptedSubmission]:
        """Return up to 100 submissions of a member above log index ``after``, oldest first."""
        async with snapshot(self.pool) as connection:
            return await SubmissionRepository(connection).read_page(member, after=after, limit=PAGE)

    async def read_submission(self, statement_id: str, member: MemberId) -> SubmissionResult:
        """Return the answer that a submission was given.

        Raises:
            NotFoundError: The member has no such submission.
        """
        async with snapshot(self.pool) as connection:
            accepted = await SubmissionRepository(connection).find(statement_id)
            if accepted is None or accepted.member != member:
                raise NotFoundError("there is no such submission")
            place = await LogRepository(connection).locate(accepted.log_index)
        return self._answer(accepted, place, repeated=True)

    def _forget(self, task: "asyncio.Task[SubmissionResult]") -> None:
        self._running.discard(task)
        # Looks at the error, which nobody else does when the caller is gone.
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.info("submission refused", error=type(error).__name__)

    async def _submit(
        self, envelope: bytes, peer_member: MemberId, now: datetime
    ) -> SubmissionResult:
        # 1. Form.
        parsed = parse_envelope(envelope)
        for _ in range(_ATTEMPTS):
            current = await self._registries.current()
            # 2. Signature.
            claim = _verify_claim(parsed, current.registry, peer_member)
            # 3. to 5. Repetition, right, chain.
            repeated = await self._verify_acceptable(claim, current.registry)
            if repeated is not None:
                return repeated
            # 6. and 7. Batch and lines.
            try:
                return await self._read_and_accept(claim, current.registry, now)
            except RegistryConflictError:
                # Nothing was changed. Rights and vocabulary may be others now.
                continue
        raise UnavailableError("the registry is changing, try again")

    async def _verify_acceptable(
        self, claim: _Claim, registry: Registry
    ) -> SubmissionResult | None:
        """Refuse what cannot be accepted, before the work of reading the batch.

        Returns:
            The answer, if this is a repetition.
        """
        async with snapshot(self.pool) as connection:
            repeated = await self._find_repeated(connection, claim)
            if repeated is not None:
                return repeated
            verify_right(claim.submission, registry)
            chain = await SubmissionRepository(connection).read_chain(claim.submission.member)
            verify_chain(claim.submission, chain.head)
        return None

    async def _read_and_accept(
        self, claim: _Claim, registry: Registry, now: datetime
    ) -> SubmissionResult:
        manifest = claim.submission.batch
        self._verify_limits(manifest)
        if not await self.has_batch(manifest.sha256):
            raise NotFoundError("the batch is not stored, send it first")
        hash_set = registry.hash_set(claim.submission.hash_set)
        rules = BatchRules(
            operation=claim.submission.operation,
            algorithms=frozenset(hash_set.algorithms),
            classifications=frozenset(hash_set.classifications),
            count=manifest.count,
        )
        if manifest.count < self.limits.bulk_records:
            batch = await asyncio.to_thread(self._read_batch, manifest, rules)
            return await self._accept(claim, batch, now)
        async with self._bulk:
            batch = await asyncio.to_thread(self._read_batch, manifest, rules)
            return await self._accept(claim, batch, now)

    def _verify_limits(self, manifest: BatchManifest) -> None:
        if manifest.size > self.limits.max_batch_bytes:
            raise TooLargeError(f"a batch has at most {self.limits.max_batch_bytes} bytes")
        if manifest.count > self.limits.max_batch_records:
            raise TooLargeError(f"a batch has at most {self.limits.max_batch_records} records")
        if manifest.count == 0:
            raise MalformedError("a batch has at least one record")

    def _read_batch(self, manifest: BatchManifest, rules: BatchRules) -> PreparedBatch:
        compressed = self.blobs.read_blocking(BlobKind.BATCH, manifest.sha256)
        plain = _Measured(inflate(compressed, max_bytes=self.limits.max_batch_bytes))
        try:
            columns = parse_batch(plain, rules)
        except BatchFaultsError:
            # Other bytes than announced would have other faults.
            plain.verify(manifest)
            raise
        plain.verify(manifest)
        return prepare_batch(columns)

    async def _accept(self, claim: _Claim, batch: PreparedBatch, now: datetime) -> SubmissionResult:
        submission = claim.submission
        async with transaction(self.pool) as connection:
            submissions, log = SubmissionRepository(connection), LogRepository(connection)
            # Locks in this order everywhere: member, hash set, log.
            chain = await submissions.lock_chain(submission.member)
            # Again, now that no other submission of the member can come between.
            repeated = await self._find_repeated(connection, claim)
            if repeated is not None:
                return repeated
            verify_chain(submission, chain.head)
            number = await submissions.read_hash_set_no(submission.hash_set)
            author = Author(number, chain.member_no, submission.sequence)
            merged = await merge_batch(connection, author, batch)
            await log.lock()
            # Only now can no other registry come into force before this submission.
            if await RegistryRepository(connection).read_version() != claim.version:
                raise RegistryConflictError("the registry has moved on")
            place = await log.append(
                claim.envelope.encode(),
                statement_id=claim.statement_id,
                payload_type=claim.envelope.payload_type,
            )
            accepted = to_accepted(
                submission,
                statement_id=claim.statement_id,
                log_index=place.index,
                counts=merged.counts,
                now=now,
            )
            await submissions.append(accepted, member_no=chain.member_no, number=number)
            await submissions.append_touched(number, place.index, merged.touched)
            await NoticeRepository(connection).send_log(place.index + 1)
        # Committed: from here on the answer may get lost, but not the submission.
        _log_accepted(accepted)
        return self._answer(accepted, place, repeated=False)

    async def _find_repeated(
        self, connection: Connection, claim: _Claim
    ) -> SubmissionResult | None:
        accepted = await SubmissionRepository(connection).find(claim.statement_id)
        if accepted is None:
            return None
        place = await LogRepository(connection).locate(accepted.log_index)
        return self._answer(accepted, place, repeated=True)

    def _answer(
        self, accepted: AcceptedSubmission, place: Place, *, repeated: bool
    ) -> SubmissionResult:
        return SubmissionResult(
            statement_id=accepted.statement_id,
            log_index=accepted.log_index,
            receipt=make_receipt(place, self.signer),
            counts=accepted.counts,
            repeated=repeated,
        )


class _Measured:
    """Passes bytes on, and counts and digests them."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._digest = hashlib.sha256()
        self._size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._digest.update(chunk)
            self._size += len(chunk)
            yield chunk

    def verify(self, manifest: BatchManifest) -> None:
        """Read what is left, and refuse bytes that are not the announced ones."""
        for _ in self:
            pass
        if self._size != manifest.size:
            raise DigestMismatchError(
                f"the statement announces {manifest.size} bytes, the batch has {self._size}"
            )
        if self._digest.hexdigest() != manifest.sha256:
            raise DigestMismatchError("the stored batch does not have its digest any more")


class _Inflating:
    """Checks a batch that comes as zstd, and stores it as it comes."""

    def __init__(self, max_bytes: int) -> None:
        self._inflater = Inflater(max_bytes=max_bytes)
        self._digest = hashlib.sha256()

    def feed(self, chunk: bytes) -> bytes:
        for plain in self._inflater.feed(chunk):
            self._digest.update(plain)
        return chunk

    def finish(self) -> bytes:
        self._inflater.finish()
        return b""

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class _Deflating:
    """Compresses a batch that comes plain."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._deflater = zstandard.ZstdCompressor().compressobj()
        self._digest = hashlib.sha256()

    def feed(self, chunk: bytes) -> bytes:
        self._left -= len(chunk)
        if self._left < 0:
            raise TooLargeError("the batch is over the limit")
        self._digest.update(chunk)
        return self._deflater.compress(chunk)

    def finish(self) -> bytes:
        return self._deflater.flush()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def _verify_claim(envelope: Envelope, registry: Registry, peer_member: MemberId) -> _Claim:
    submission = read_submission(envelope, registry)
    # A stolen submission key is of no use without the member's certificate.
    if submission.member != peer_member:
        raise PermissionDeniedError("a member submits only in its own name")
    return _Claim(envelope, id_of(envelope), submission, registry.version)


def _log_accepted(accepted: AcceptedSubmission) -> None:
    _LOG.info(
        "submission accepted",
        member=accepted.member,
        hash_set=accepted.hash_set,
        operation=accepted.operation.value,
        log_index=accepted.log_index,
        records=accepted.counts.records,
        new=accepted.counts.new,
    )

"""Submissions: from a member's signed envelope and its batch to a receipt."""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from hashshare.crypto.envelope import Envelope, parse_envelope
from hashshare.domain.documents import decode_document
from hashshare.domain.hash_sets import DisputeBound
from hashshare.domain.names import HashSetId, MemberId
from hashshare.domain.registry import Registry
from hashshare.domain.scopes import Scope
from hashshare.domain.statements import (
    Operation,
    Submission,
    id_of,
    read_submission,
    verify_chain,
    verify_right,
)
from hashshare.domain.trail import TrailEntry, TrailKind
from hashshare.errors import (
    NotFoundError,
    PermissionDeniedError,
    RegistryConflictError,
    UnavailableError,
)
from hashshare.service.batches import BatchService
from hashshare.service.guard import Guard
from hashshare.service.merge import PreparedBatch, merge_batch
from hashshare.service.registry import RegistryService
from hashshare.storage.assertions import Author
from hashshare.storage.database import Connection, Pool, snapshot, transaction
from hashshare.storage.log import LogRepository, Place
from hashshare.storage.notices import NoticeRepository
from hashshare.storage.registry import RegistryRepository
from hashshare.storage.submissions import (
    AcceptedSubmission,
    SubmissionCounts,
    SubmissionRepository,
    SubmissionRow,
    to_accepted,
)
from hashshare.storage.trail import TrailRepository
from hashshare.wire.batch import BatchRules

_LOG: Final = structlog.get_logger(__name__)

PAGE: Final = 100
"""Submissions in one answer."""

# A registry that changes more often than this during one submission is not ours to wait for.
_ATTEMPTS: Final = 5

# A batch of so many records is bulk; so many of those are held in memory at once, others wait.
_BULK_RECORDS: Final = 20_000
_BULK_IN_PARALLEL: Final = 2


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
    """A submission whose signature is valid under the registry at ``version``.

    Attributes:
        bound: On disputes, if it is one and the hash set has a bound.
    """

    envelope: Envelope
    statement_id: str
    submission: Submission
    version: int
    bound: DisputeBound | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A submission in its place, before the receipt is signed.

    Attributes:
        place: In the log.
        repeated: Whether it had been accepted before.
    """

    submission: AcceptedSubmission
    place: Place
    repeated: bool


@dataclass(frozen=True, slots=True)
class SubmitService:
    """Takes in submissions. May be used by several tasks and processes at once."""

    pool: Pool
    batches: BatchService
    registries: RegistryService
    guard: Guard
    _bulk: asyncio.Semaphore = field(
        init=False, repr=False, default_factory=lambda: asyncio.Semaphore(_BULK_IN_PARALLEL)
    )
    _running: set["asyncio.Task[Accepted]"] = field(init=False, repr=False, default_factory=set)

    async def submit(
        self, envelope: bytes, *, peer_member: MemberId, now: datetime, scope: Scope | None = None
    ) -> SubmissionResult:
        """Accept a submission whose batch is stored, or refuse it and change nothing.

        Durable once it returns. Idempotent: the same statement again is answered with its
        first receipt. Goes on when the caller is cancelled, since the peer may be gone after
        the point of no return; the answer to the repetition then tells.

        Args:
            envelope: As it came from the network.
            peer_member: Who sent it.
            now: Recorded as the time of acceptance.
            scope: Of the certificate that it uses; None for all.

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
            RollbackError: The database was left behind; if it was accepted, without effect.
            UnavailableError: The database or the blobs cannot be used now.
        """
        self.guard.verify_signing()
        _verify_scope(envelope, scope)
        task = asyncio.create_task(self.accept(envelope, peer_member=peer_member, now=now))
        self._running.add(task)
        task.add_done_callback(self._forget)
        return await self._answer(await asyncio.shield(task))

    async def drain(self) -> None:
        """Wait for the submissions that go on without their callers."""
        await asyncio.gather(*self._running, return_exceptions=True)

    async def list_submissions(self, member: MemberId, after: int = -1) -> list[AcceptedSubmission]:
        """Return up to 100 submissions of a member above log index ``after``, oldest first."""
        async with snapshot(self.pool) as connection:
            return await SubmissionRepository(connection).read_page(member, after=after, limit=PAGE)

    async def list_newest(
        self, hash_sets: Sequence[HashSetId], member: str, *, below: int, limit: int
    ) -> list[SubmissionRow]:
        """Return submissions to these hash sets, newest first; of all members if "" is given."""
        async with snapshot(self.pool) as connection:
            repository = SubmissionRepository(connection)
            return await repository.read_newest(hash_sets, member, below=below, limit=limit)

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
        return await self._answer(Accepted(accepted, place, repeated=True))

    def _forget(self, task: "asyncio.Task[Accepted]") -> None:
        self._running.discard(task)
        # Looks at the error, which nobody else does when the caller is gone.
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.info("submission refused", error=type(error).__name__)

    async def accept(self, envelope: bytes, *, peer_member: MemberId, now: datetime) -> Accepted:
        """Do what ``submit`` does, but sign no receipt; not to be cancelled."""
        # 1. Form.
        parsed = parse_envelope(envelope)
        for _ in range(_ATTEMPTS):
            current = await self.registries.current()
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

    async def _verify_acceptable(self, claim: _Claim, registry: Registry) -> Accepted | None:
        """Refuse what cannot be accepted, before the work of reading the batch.

        Returns:
            What was accepted before, if this is a repetition.
        """
        async with snapshot(self.pool) as connection:
            repeated = await self._find_repeated(connection, claim)
            if repeated is not None:
                return repeated
            verify_right(claim.submission, registry)
            chain = await SubmissionRepository(connection).read_chain(claim.submission.member)
            verify_chain(claim.submission, chain.head)
        return None

    async def _read_and_accept(self, claim: _Claim, registry: Registry, now: datetime) -> Accepted:
        manifest = claim.submission.batch
        self.batches.limits.verify(manifest)
        if not await self.batches.has(manifest.sha256):
            raise NotFoundError("the batch is not stored, send it first")
        hash_set = registry.hash_set(claim.submission.hash_set)
        rules = BatchRules(
            operation=claim.submission.operation,
            algorithms=frozenset(hash_set.algorithms),
            classifications=frozenset(hash_set.classifications),
            count=manifest.count,
        )
        async with self._bulk if manifest.count >= _BULK_RECORDS else nullcontext():
            batch = await asyncio.to_thread(self.batches.prepare_blocking, manifest, rules)
            return await self._accept(claim, batch, now)

    async def _accept(self, claim: _Claim, batch: PreparedBatch, now: datetime) -> Accepted:
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
            disputed = None
            if claim.bound is not None:
                disputed = await submissions.settle_disputes(
                    claim.bound,
                    member_no=chain.member_no,
                    number=number,
                    records=batch.columns.count,
                )
            accepted = to_accepted(
                submission,
                statement_id=claim.statement_id,
                log_index=place.index,
                counts=merged.counts,
                disputed=disputed,
                now=now,
            )
            await submissions.append(accepted, member_no=chain.member_no, number=number)
            await TrailRepository(connection).append(_to_trail(accepted))
            await submissions.append_touched(number, place.index, merged.touched)
            await NoticeRepository(connection).send_log(place.index + 1)
        # Committed: from here on the answer may get lost, but not the submission.
        _log_accepted(accepted)
        return Accepted(accepted, place, repeated=False)

    async def _find_repeated(self, connection: Connection, claim: _Claim) -> Accepted | None:
        accepted = await SubmissionRepository(connection).find(claim.statement_id)
        if accepted is None:
            return None
        place = await LogRepository(connection).locate(accepted.log_index)
        return Accepted(accepted, place, repeated=True)

    async def _answer(self, accepted: Accepted) -> SubmissionResult:
        submission = accepted.submission
        return SubmissionResult(
            statement_id=submission.statement_id,
            log_index=submission.log_index,
            receipt=await self.guard.receipt(accepted.place),
            counts=submission.counts,
            repeated=accepted.repeated,
        )


def _verify_scope(envelope: bytes, scope: Scope | None) -> None:
    if scope is None:
        return
    claimed = decode_document(parse_envelope(envelope).payload, Submission)
    rules = claimed.operation is Operation.RULE
    if rules or not (scope.pushes and scope.covers(claimed.hash_set)):
        # To the word what a member is told that may not contribute at all.
        raise PermissionDeniedError(
            f"member {claimed.member} may not contribute to {claimed.hash_set!r:.70}"
        )


def _verify_claim(envelope: Envelope, registry: Registry, peer_member: MemberId) -> _Claim:
    submission = read_submission(envelope, registry)
    # A stolen submission key is of no use without the member's certificate.
    if submission.member != peer_member:
        raise PermissionDeniedError("a member submits only in its own name")
    bound = None
    if submission.operation is Operation.DISPUTE and submission.hash_set in registry.hash_sets:
        bound = registry.hash_set(submission.hash_set).bound
    return _Claim(envelope, id_of(envelope), submission, registry.version, bound)


def _to_trail(accepted: AcceptedSubmission) -> TrailEntry:
    return TrailEntry(
        TrailKind.SUBMISSION,
        accepted.member,
        accepted.operation.value,
        {
            "hash_set": accepted.hash_set,
            "log_index": accepted.log_index,
            "sequence": accepted.sequence,
            "records": accepted.counts.records,
            "new": accepted.counts.new,
        },
    )


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

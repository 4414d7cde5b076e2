"""Redaction: a batch is deleted because the law demands it, and the log stays whole."""

from dataclasses import dataclass
from typing import Final

import structlog

from hashshare.crypto.envelope import Envelope, parse_envelope
from hashshare.domain.statements import REDACTION_TYPE, Redaction, id_of, read_redaction
from hashshare.errors import ConflictError, NotFoundError
from hashshare.service.guard import Guard
from hashshare.service.registry import RegistryService
from hashshare.storage.blobs import BlobKind, Blobs
from hashshare.storage.database import Pool, transaction
from hashshare.storage.log import LogRepository, Place
from hashshare.storage.notices import NoticeRepository
from hashshare.storage.submissions import SubmissionRepository

_LOG: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Redacted:
    """A redaction in its place.

    Attributes:
        receipt: Proves it.
    """

    log_index: int
    receipt: bytes


@dataclass(frozen=True, slots=True)
class RedactionService:
    """Deletes batches. May be used by several tasks and processes at once."""

    pool: Pool
    blobs: Blobs
    registries: RegistryService
    guard: Guard

    async def redact(self, envelope: bytes) -> Redacted:
        """Log a redaction, and delete the batch that it names.

        The statement is durable before the batch is deleted. Idempotent: the same statement
        again gets its receipt, and deletes what a crash has left.

        Raises:
            MalformedError: It is not in its form.
            SignatureInvalidError: Fewer governance keys than the threshold signed it.
            MixAndMatchError: It belongs to another log.
            NotFoundError: No such submission names that batch.
            ConflictError: Something of it is in force: members would lose what they hold.
            RollbackError: The database was left behind.
        """
        self.guard.verify_signing()
        parsed = parse_envelope(envelope)
        registry = (await self.registries.current()).registry
        redaction = read_redaction(parsed, registry)
        place = await self._append(parsed, redaction)
        await self.blobs.remove(BlobKind.BATCH, redaction.batch)
        _LOG.info("batch redacted", submission=redaction.submission, reason=redaction.reason)
        return Redacted(place.index, await self.guard.receipt(place))

    async def _append(self, envelope: Envelope, redaction: Redaction) -> Place:
        async with transaction(self.pool) as connection:
            log, submissions = LogRepository(connection), SubmissionRepository(connection)
            found = await log.find(id_of(envelope))
            if found is not None:
                return await log.locate(found[0])
            accepted = await submissions.find(redaction.submission)
            if accepted is None or accepted.batch != redaction.batch:
                raise NotFoundError("no submission of that id has that batch")
            if await submissions.is_in_force(redaction.batch):
                raise ConflictError("something of it is in force: have its member withdraw it")
            place = await log.append(
                envelope.encode(), statement_id=id_of(envelope), payload_type=REDACTION_TYPE
            )
            await NoticeRepository(connection).send_log(place.index + 1)
        return place

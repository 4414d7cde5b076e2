"""Recovering a coalition's database: from its folder and a source to a log that is whole again."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from hashshare.cli.coalition_keys import read_trust
from hashshare.cli.server import log_signers, open_blobs, open_database, open_guard
from hashshare.client import Profile
from hashshare.client.following import Follower
from hashshare.client.logbook import Logbook
from hashshare.client.rescue import Found, Rescuer
from hashshare.client.session import Session
from hashshare.config import ServerSettings
from hashshare.crypto.keys import read_private_keys
from hashshare.domain.statements import Submission
from hashshare.errors import DigestMismatchError, NotFoundError
from hashshare.service.batches import BatchLimits, BatchService
from hashshare.service.guard import Guard
from hashshare.service.publish import Publisher, remove_replica
from hashshare.service.recovery import RecoveryProgress, RecoveryService, alone
from hashshare.service.redaction import RedactionService
from hashshare.service.registry import RegistryService
from hashshare.service.submit import SubmitService
from hashshare.storage.blobs import Blobs
from hashshare.storage.database import Pool, migrate, open_pool


@dataclass(frozen=True, slots=True)
class Missing:
    """A submission whose batch is nowhere to be had.

    Attributes:
        index: Of its leaf.
        redacted: The leaf that deleted the batch, if one did.
    """

    index: int
    member: str
    hash_set: str
    batch: str
    redacted: int | None


@dataclass(slots=True)
class Recovered:
    """What a recovery came to.

    Attributes:
        before: Leaves in the database before.
        after: And after.
        batches: Fetched, since the blob store did not have them.
        missing: If any, nothing was appended.
    """

    before: int = 0
    after: int = 0
    batches: int = 0
    missing: list[Missing] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line says.

    Attributes:
        folder: Of the coalition.
        source: Profile of a member, which may read batches.
        url: Of the server or mirror, if not the profile's own.
        database: If not that of the settings.
        artifacts: Where batches and snapshots are, if not where the settings say.
    """

    folder: Path
    source: Path
    url: str | None
    database: str | None
    artifacts: str | None = None


async def recover(request: Request, progress: RecoveryProgress) -> Recovered:
    """Bring back what the database lacks, and verify it against what was signed.

    Raises:
        ConflictError: A server runs on the database.
        VerificationError: What the source gives does not hold, or is not what was signed.
        NotFoundError: The source has less than the database.
        UnavailableError: The database or the source cannot be used now; the same again goes on.
    """
    settings = ServerSettings.load(request.folder)
    recovered = Recovered()
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(
            open_database(request.folder, request.database or settings.database)
        )
        await migrate(dsn)
        pool = await stack.enter_async_context(open_pool(dsn))
        blobs = open_blobs(request.folder, settings, request.artifacts)
        await stack.enter_async_context(alone(pool))
        service, batches = await _build(stack, request.folder, settings, pool, blobs)
        rescuer = await stack.enter_async_context(_open_source(request))
        history = await service.read_history(read_trust(request.folder))
        recovered.before = recovered.after = history.size
        found = await rescuer.find(history)
        await _fetch_batches(found, rescuer, batches, recovered)
        if not recovered.missing:
            await service.append(found.leaves, found.logged, found.documents, progress)
            recovered.after = found.checkpoint.size
            # Whether that is all that was ever signed for.
            shared = bool(request.artifacts or settings.blobs)
            await open_guard(request.folder, settings, pool, blobs, shared=shared).verify()
    return recovered


async def _build(
    stack: AsyncExitStack, folder: Path, settings: ServerSettings, pool: Pool, blobs: Blobs
) -> tuple[RecoveryService, BatchService]:
    keys, replica = folder / "keys", folder / "data" / "replica.sqlite"
    # It has no records, and nothing that it signs leaves this process: the database is behind
    # what was recorded, and comes to it again.
    guard = Guard(pool, log_signers(folder, settings))
    registries = RegistryService(pool, guard, partial(read_trust, folder))
    await registries.ensure_genesis(
        (folder / "genesis" / "envelope.json").read_bytes(),
        (folder / "genesis" / "registry.json").read_bytes(),
    )
    limits = BatchLimits(settings.limits.max_batch_bytes, settings.limits.max_batch_records)
    batches = BatchService(pool, blobs, registries, limits)
    # It may be ahead of the database, and holds nothing that the database will not.
    remove_replica(replica)
    publisher = Publisher(pool, blobs, replica, partial(read_private_keys, keys, "publisher"))
    stack.callback(publisher.close)
    service = RecoveryService(
        pool,
        registries,
        SubmitService(pool, batches, registries, guard),
        RedactionService(pool, blobs, registries, guard),
        publisher,
    )
    return service, batches


@asynccontextmanager
async def _open_source(request: Request) -> AsyncIterator[Rescuer]:
    profile = Profile.load(request.source)
    if request.url is not None:
        profile = replace(profile, api_url=request.url)
    async with Session.of(profile) as session:
        # Nothing that is read here is the member's: what it has seen stays as it was.
        with tempfile.TemporaryDirectory() as folder:
            logbook = Logbook.open(Path(folder) / "log.sqlite")
            try:
                yield Rescuer(session, Follower(profile, session, logbook))
            finally:
                logbook.close()


async def _fetch_batches(
    found: Found, rescuer: Rescuer, batches: BatchService, recovered: Recovered
) -> None:
    """Store every batch that a missing submission names, or note that it is not to be had."""
    for entry in found.logged:
        statement = entry.statement
        if not isinstance(statement, Submission) or await batches.has(statement.batch.sha256):
            continue
        sha256 = statement.batch.sha256
        try:
            async with rescuer.batch(sha256) as chunks:
                await batches.store(sha256, chunks, encoding="zstd")
            recovered.batches += 1
        except (NotFoundError, DigestMismatchError):
            recovered.missing.append(
                Missing(
                    entry.index,
                    statement.member,
                    statement.hash_set,
                    sha256,
                    found.redactions.get(sha256),
                )
            )

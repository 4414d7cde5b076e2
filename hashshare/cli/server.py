"""Running a server: from a coalition folder to listening sockets."""

import asyncio
import logging
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from hashshare.cli.coalition_keys import read_trust
from hashshare.cli.sandbox import ensure_first_items
from hashshare.cli.server_certificate import keep_certificate, renew_certificate
from hashshare.config import EMBEDDED, ServerSettings, parse_listen
from hashshare.crypto.certificates import Issued
from hashshare.crypto.keys import KeyFiles, PrivateKey, read_private_key, read_private_keys
from hashshare.crypto.note import NoteSigner
from hashshare.domain.names import MemberId
from hashshare.domain.registry import parse_registry
from hashshare.domain.sandbox import SANDBOX_AUTHOR
from hashshare.errors import HashshareError
from hashshare.http import Endpoints, Server, ServerLimits, Services
from hashshare.http.tls import api_context, enrol_context
from hashshare.http.witnesses import WitnessPusher
from hashshare.service.approval import Approval
from hashshare.service.authorities import Authorities
from hashshare.service.batches import BatchLimits, BatchService
from hashshare.service.cases import CaseService
from hashshare.service.ceremony import Ceremony
from hashshare.service.directory import Directory
from hashshare.service.enrolment import EnrolmentService
from hashshare.service.feedback import FeedbackService
from hashshare.service.guard import Guard
from hashshare.service.log import LogService
from hashshare.service.membership import MembershipService
from hashshare.service.news import News
from hashshare.service.own_certificates import OwnCertificates
from hashshare.service.preview import PreviewService
from hashshare.service.publish import Publisher
from hashshare.service.pull import PullService
from hashshare.service.redaction import RedactionService
from hashshare.service.registry import RegistryService
from hashshare.service.report import ReportService
from hashshare.service.retraction import RetractionService
from hashshare.service.submit import SubmitService
from hashshare.service.trail import TrailService
from hashshare.service.witnessing import WitnessService
from hashshare.storage.blobs import Blobs
from hashshare.storage.database import Pool, create_database, migrate, open_pool
from hashshare.storage.embedded import run_embedded
from hashshare.storage.newest import FileRecord, NewestRecord, shared_record

_LOG: Final = structlog.get_logger(__name__)

TRUST_SECONDS: Final = 60.0
"""How often it is looked whether the trust root has to be confirmed."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says over the settings."""

    folder: Path
    database: str | None
    listen: str | None
    enrol_listen: str | None
    publisher: bool
    artifacts: str | None = None


@dataclass(frozen=True, slots=True)
class Listening:
    """A server that is up."""

    api_url: str
    enrol_url: str
    coalition: str
    database: str


async def serve(options: Options, started: Callable[[Listening], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        NotFoundError: There is no coalition in the folder.
        UnavailableError: The database cannot be reached.
        OSError: An address cannot be used.
    """
    settings = ServerSettings.load(options.folder)
    stopping = stop_requested()
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(
            open_database(options.folder, options.database or settings.database)
        )
        await migrate(dsn)
        pool = await stack.enter_async_context(open_pool(dsn))
        server, beside = await build_server(stack, options, settings, pool)
        await stack.enter_async_context(server)
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(stopping.wait()),
            asyncio.create_task(keep_certificate(server, options.folder)),
            asyncio.create_task(beside()),
        ]
        started(
            Listening(
                server.addresses.api_url,
                server.addresses.enrol_url,
                settings.coalition,
                "embedded"
                if options.database is None and settings.database == EMBEDDED
                else "given",
            )
        )
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in done:
            # A task that gave up, such as the publisher, stops the server, with its reason.
            task.result()


def stop_requested() -> asyncio.Event:
    """Return what is set once the process is told to stop, by SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


@asynccontextmanager
async def open_database(folder: Path, chosen: str) -> AsyncIterator[str]:
    """Give the URL of the chosen database, or run the embedded one of a coalition's folder."""
    if chosen != EMBEDDED:
        yield chosen
        return
    embedded = run_embedded(folder / "data" / "postgres")
    dsn = await asyncio.to_thread(embedded.__enter__)
    try:
        yield await create_database(dsn)
    finally:
        await asyncio.to_thread(embedded.__exit__, None, None, None)


async def build_server(
    stack: AsyncExitStack, options: Options, settings: ServerSettings, pool: Pool
) -> tuple[Server, Callable[[], Coroutine[Any, Any, None]]]:
    """Return the server of a coalition folder over a migrated database, and its tasks beside it.

    What they hold is released by ``stack``.
    """
    folder = options.folder
    keys = folder / "keys"
    blobs = open_blobs(folder, settings, options.artifacts)
    news = News(pool)
    guard = open_guard(
        folder, settings, pool, blobs, shared=bool(options.artifacts or settings.blobs)
    )
    # Before anything is signed.
    await guard.verify()
    trust = partial(read_trust, folder)
    registries = RegistryService(pool, guard, trust)
    approval = Approval(registries, _governance_key(keys / "governance.pem"))
    authorities = Authorities(keys, trust)
    membership = MembershipService(pool, authorities, registries, trust)
    log = LogService(pool, guard)
    await _ensure_genesis(folder / "genesis", registries, membership)
    replica_path = folder / "data" / "replica.sqlite"
    pull = PullService(pool, blobs, replica_path, guard, news)
    stack.callback(pull.close)
    limits = BatchLimits(settings.limits.max_batch_bytes, settings.limits.max_batch_records)
    batches = BatchService(pool, blobs, registries, limits)
    submit = SubmitService(pool, batches, registries, guard)
    stack.push_async_callback(submit.drain)
    await ensure_first_items(folder / "genesis", membership, batches, submit)
    witnessing = WitnessService(pool, log, registries)
    beside: list[Callable[[], Coroutine[Any, Any, None]]] = [partial(guard.run, news)]
    if options.publisher:
        publisher = Publisher(
            pool, blobs, replica_path, partial(read_private_keys, keys, "publisher")
        )
        stack.callback(publisher.close)
        ca = str(folder / settings.witness_ca) if settings.witness_ca else None
        tls = ssl.create_default_context(cafile=ca)
        pusher = WitnessPusher(witnessing, registries, log, news, tls)
        beside += [partial(publisher.run, news), pusher.run]
    ceremony = Ceremony(folder / "trust")
    beside.append(partial(_keep_newest, ceremony, keys / "trust-online.pem"))
    services = Services(
        batches=batches,
        cases=CaseService(pool),
        ceremony=ceremony,
        directory=Directory(pool, news, registries),
        enrolments=EnrolmentService(pool, authorities, registries, trust, approval),
        feedback=FeedbackService(pool, pull),
        log=log,
        membership=membership,
        news=news,
        previews=PreviewService(pool, registries),
        own_certificates=OwnCertificates(pool, approval, settings.log),
        pull=pull,
        redactions=RedactionService(pool, blobs, registries, guard),
        registries=registries,
        reports=ReportService(pool, registries),
        retractions=RetractionService(pool),
        submit=submit,
        trail=TrailService(pool),
        witnessing=witnessing,
    )
    return _to_server(options, settings, services), partial(_together, *beside)


def open_blobs(folder: Path, settings: ServerSettings, chosen: str | None) -> Blobs:
    """Return where batches and snapshots are: as chosen, as the settings say, or in the folder."""
    local = (folder / "data" / "blobs").absolute().as_uri()
    return Blobs.open(chosen or settings.blobs or local)


def open_guard(
    folder: Path, settings: ServerSettings, pool: Pool, blobs: Blobs, *, shared: bool
) -> Guard:
    """Return what signs for a coalition, held to what its folder and its blob store record.

    ``shared`` says that the blob store is one that other servers of the coalition use, too.
    """
    records: list[NewestRecord] = [FileRecord(folder / "data" / "newest.checkpoint")]
    if shared:
        records.insert(0, shared_record(blobs.store))
    return Guard(pool, log_signers(folder, settings), records)


def log_signers(folder: Path, settings: ServerSettings) -> Callable[[], Sequence[NoteSigner]]:
    """Return what gives the keys that sign for a coalition's log, as they are at each moment."""
    files = KeyFiles(folder / "keys", "log")
    return lambda: [NoteSigner(settings.log, key) for key in files.read()]


async def _together(*runs: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run all until cancelled, or until one gives up, whose reason is raised.

    When one ends, nothing more may be signed: then the others are stopped, too, and every
    request goes on to be told why.
    """
    # No task group: it would wrap that reason.
    tasks = [asyncio.create_task(run()) for run in runs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.Event().wait()


def _to_server(options: Options, settings: ServerSettings, services: Services) -> Server:
    shown = renew_certificate(options.folder, now=datetime.now(UTC))
    host, port = parse_listen(options.listen or settings.listen)
    enrol_host, enrol_port = parse_listen(options.enrol_listen or settings.enrol_listen)
    limits = settings.limits
    return Server(
        services,
        api=Endpoints(host, port, settings.public_url or None),
        enrol=Endpoints(enrol_host, enrol_port, settings.enrol_public_url or None),
        api_tls=api_context(key=shown.key, certificate=shown.certificate, ca=shown.ca),
        enrol_tls=enrol_context(key=shown.key, certificate=shown.certificate),
        limits=ServerLimits(
            member_per_second=limits.member_requests_per_second,
            member_burst=limits.member_burst_requests,
            address_per_second=limits.enrolment_requests_per_second,
            address_burst=limits.enrolment_burst_requests,
        ),
    )


async def _ensure_genesis(
    genesis: Path, registries: RegistryService, membership: MembershipService
) -> None:
    document = (genesis / "registry.json").read_bytes()
    await registries.ensure_genesis((genesis / "envelope.json").read_bytes(), document)
    (admin,) = parse_registry(document).members.keys() - {SANDBOX_AUTHOR}
    certificate = Issued.parse((genesis / "admin-cert.pem").read_bytes())
    await membership.register(certificate, member=MemberId(admin), label="first")


async def _keep_newest(ceremony: Ceremony, key: Path) -> None:
    """Say each day that the trust root is still the newest; never returns."""
    while True:
        try:
            if await asyncio.to_thread(_confirm, ceremony, key):
                _LOG.info("trust root confirmed")
        except (OSError, HashshareError) as error:
            # What was said last holds for days.
            _LOG.error("trust root not confirmed", reason=str(error))
        await asyncio.sleep(TRUST_SECONDS)


def _confirm(ceremony: Ceremony, key: Path) -> bool:
    # A coalition without a trust root may get one while the server runs.
    if not key.exists() or not ceremony.exists:
        return False
    return ceremony.renew(read_private_key(key), now=datetime.now(UTC))


def _governance_key(path: Path) -> PrivateKey | None:
    # An operator that must not be able to change the registry alone takes the file away;
    # admins then approve enrolments.
    with suppress(FileNotFoundError):
        return read_private_key(path)
    return None


def configure_logging() -> None:
    """Log to standard error: for people on a terminal, else as JSON."""
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            getattr(logging, os.environ.get("HASHSHARE_LOG", "INFO").upper(), logging.INFO)
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)

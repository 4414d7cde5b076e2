"""The publisher: turns submissions into new versions of hash sets, and signs them.

It is the first client of its own log: it keeps a replica with the code of a member's client,
and signs the roots that this code computes. The order of commits is what makes it safe to
kill at any moment:

1. The replica's transaction is open, with the changes applied; nothing is durable.
2. PostgreSQL commits: the runs of changes, the states of the lists, the statement in the log.
   From here on the version exists. Killed before, there is no trace of it.
3. The replica commits. Killed before, it is one version behind, and catches up from the runs.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from hashshare.crypto.envelope import Envelope, seal
from hashshare.crypto.keys import PrivateKey
from hashshare.domain.documents import decode_document, encode_document
from hashshare.domain.names import HashSetId, format_time
from hashshare.domain.registry import Registry, parse_registry
from hashshare.domain.statements import PUBLICATION_TYPE, Publication, id_of
from hashshare.errors import (
    ConflictError,
    PermissionDeniedError,
    ReplicaDamagedError,
    RootMismatchError,
    UnavailableError,
)
from hashshare.replica import Replica
from hashshare.service.edition import Edition, EditionWriter, is_due, plan_edition
from hashshare.service.following import Follower
from hashshare.service.news import News
from hashshare.service.snapshots import SnapshotBuilder
from hashshare.service.worker import Worker
from hashshare.storage.blobs import Blobs
from hashshare.storage.database import Connection, Pool, snapshot, transaction, translated
from hashshare.storage.election import Election
from hashshare.storage.evaluation import EvaluationRepository
from hashshare.storage.log import LogRepository
from hashshare.storage.notices import NoticeRepository
from hashshare.storage.publications import (
    HashSetState,
    ListState,
    PublicationRepository,
    PublicationRow,
)
from hashshare.storage.registry import RegistryRepository

_LOG: Final = structlog.get_logger(__name__)

POLL_SECONDS: Final = 1.0
MIN_INTERVAL_SECONDS: Final = 0.5
"""Between two publications: what is submitted meanwhile goes into one."""
RETRY_SECONDS: Final = 1.0


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class PlannedEdition:
    """An edition, and the open snapshot of the database that it is to be made from."""

    edition: Edition
    reading: Connection


class Publisher:
    """Publishes, while elected; and else follows those who do, with its own replica.

    Any number of processes may run one on the same database, each with a replica file of its
    own. Use it as a context; it opens the replica. Its keys are asked for at each publication, and
    the one that the registry lists signs: a new one takes over as soon as governance says so.
    """

    def __init__(
        self,
        pool: Pool,
        blobs: Blobs,
        replica_path: Path,
        publisher_keys: Callable[[], Iterable[PrivateKey]],
        *,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._pool = pool
        self._keys = publisher_keys
        self._clock = clock
        self._worker = Worker("publisher")
        self._replica = _open_replica(replica_path)
        self._follower = Follower(pool, self._worker, self._replica)
        self._snapshots = SnapshotBuilder(pool, blobs, replica_path)
        self._registries: dict[int, Registry] = {}
        self._lock = asyncio.Lock()

    def close(self) -> None:
        """Close the replica."""
        self._worker.close()
        self._replica.close()

    async def run(self, news: News) -> None:
        """Publish until cancelled, as soon as there is something; retries whatever fails.

        Args:
            news: Wakes it. Its task must be running.

        Raises:
            RollbackError: The database is older than what was published before.
            RootMismatchError: What the database holds does not lead to what was signed.
            ReplicaDamagedError: The replica's file is damaged beyond lists that can be built
                anew; start again.
        """
        await news.wait_until_known()
        while True:
            try:
                await self._run_until_lost(news)
            except (UnavailableError, ConflictError) as error:
                _LOG.warning("publisher interrupted", reason=str(error))
            except ReplicaDamagedError:
                # It holds nothing that the database does not: the next start makes it anew.
                self.close()
                remove_replica(self._replica.path)
                raise
            await asyncio.sleep(RETRY_SECONDS)

    async def publish_all(self) -> list[PublicationRow]:
        """Publish every hash set that needs it."""
        async with snapshot(self._pool) as connection:
            states = await PublicationRepository(connection).read_states()
            registry = await self._read_registry(connection)
            due = [s.hash_set for s in states if await self._is_due(connection, s, registry)]
        published = [await self.publish_once(hash_set) for hash_set in due]
        return [row for row in published if row is not None]

    async def publish_once(self, hash_set: HashSetId) -> PublicationRow | None:
        """Publish the next version of a hash set, if it needs one; see ``edition.is_due``.

        Durable once it returns. Whatever it raises, either the version is published whole or
        there is no trace of it, and the next call goes on from there.

        Returns:
            The new publication, None when there is nothing to publish.

        Raises:
            ConflictError: Another publisher made the version.
            PermissionDeniedError: The registry does not list this publisher's key.
            RollbackError: The database is older than the replica.
            UnavailableError: The database or the replica cannot be used now.
        """
        async with self._lock:
            try:
                made = await self._publish_next(hash_set)
            except ReplicaDamagedError:
                # Found by the replica itself, as it reads every bucket that it changes.
                _LOG.warning("replica of the publisher is damaged", hash_set=hash_set)
                await self._follower.rebuild(hash_set)
                made = await self._publish_next(hash_set)
        if made is None:
            return None
        row, states = made
        _LOG.info(
            "hash set published",
            hash_set=hash_set,
            version=row.version,
            log_size=row.log_size,
            changes=sum(state.changes for state in states),
        )
        return row

    @asynccontextmanager
    async def planned(self, statement: Publication) -> AsyncIterator[PlannedEdition]:
        """Plan a publication that was signed before, from the database as it is now.

        The snapshot stays until the block is left, whatever is appended meanwhile.
        """
        async with snapshot(self._pool) as reading:
            states = await PublicationRepository(reading).read_states()
            (state,) = [s for s in states if s.hash_set == statement.hash_set]
            new = await self._read_registry(reading, statement.registry_version)
            old = await self._read_registry_of(reading, state)
            edition = await plan_edition(
                reading, state, log_size=statement.log_size, old=old, new=new
            )
            yield PlannedEdition(edition, reading)

    async def republish(self, planned: PlannedEdition, signed: Envelope) -> PublicationRow:
        """Make a version again that was signed before, and append its statement as it was.

        Args:
            planned: By ``planned``.
            signed: The statement, verified.

        Raises:
            RootMismatchError: The database does not come to what was signed; nothing is changed.
        """
        async with self._lock:
            await self._follower.catch_up(planned.edition.hash_set)
            row, _ = await self._publish(planned.edition, planned.reading, signed)
        return row

    async def catch_up(self) -> None:
        """Bring the replica to what is published.

        Raises:
            RollbackError: The database is older than the replica.
            UnavailableError: The database or the replica cannot be used now.
        """
        async with self._lock:
            await self._follower.catch_up()

    async def build_snapshots(self) -> None:
        """Write every snapshot that is due; ``run`` does it in the background."""
        await self._snapshots.build_due()

    async def _run_until_lost(self, news: News) -> None:
        with translated():
            async with self._pool.acquire() as connection:
                election = Election(connection)
                async with election.run_for_office() as won:
                    if won:
                        _LOG.info("publisher elected")
                        await self._publish_until_lost(election, news)
                    else:
                        await self._follow_once(news)

    async def _publish_until_lost(self, election: Election, news: News) -> None:
        await self.catch_up()
        building = asyncio.create_task(self._snapshots.run(news))
        try:
            while not building.done():
                # Read before publishing: what comes in between wakes us.
                size = news.log_size
                await self._publish_and_rest()
                await news.wait_for_log(after=size, timeout_seconds=POLL_SECONDS)
                await election.verify_in_office()
        finally:
            building.cancel()
            await asyncio.wait([building])
        # It never ends but by an error that is not to be survived.
        building.result()

    async def _publish_and_rest(self) -> None:
        try:
            published = await self.publish_all()
        except PermissionDeniedError as error:
            _LOG.error("nothing can be published", reason=str(error))
            return
        if published:
            await asyncio.sleep(MIN_INTERVAL_SECONDS)

    async def _follow_once(self, news: News) -> None:
        size = news.log_size
        await self.catch_up()
        await news.wait_for_log(after=size, timeout_seconds=POLL_SECONDS)

    async def _publish_next(
        self, hash_set: HashSetId
    ) -> tuple[PublicationRow, list[ListState]] | None:
        # Costs two queries when the replica is where it should be.
        await self._follower.catch_up(hash_set)
        async with snapshot(self._pool) as reading:
            edition = await self._plan(reading, hash_set)
            if edition is None:
                return None
            # Before the work, not after it.
            self._key_of(edition.registry)
            return await self._publish(edition, reading)

    async def _plan(self, reading: Connection, hash_set: HashSetId) -> Edition | None:
        states = await PublicationRepository(reading).read_states()
        state = next((s for s in states if s.hash_set == hash_set), None)
        registry = await self._read_registry(reading)
        if state is None or not await self._is_due(reading, state, registry):
            return None
        head = await LogRepository(reading).read_head()
        old = await self._read_registry_of(reading, state)
        return await plan_edition(reading, state, log_size=head.size, old=old, new=registry)

    async def _publish(
        self, edition: Edition, reading: Connection, signed: Envelope | None = None
    ) -> tuple[PublicationRow, list[ListState]]:
        # Left in the opposite order: PostgreSQL commits, and then the replica.
        async with (
            self._worker.entered(self._replica.writing()) as replica,
            transaction(self._pool) as connection,
        ):
            publications = PublicationRepository(connection)
            evaluation = EvaluationRepository(reading)
            writer = EditionWriter(edition, self._worker, replica, evaluation, publications)
            states = await self._worker.run(writer.write)
            if signed is not None:
                _verify_same(edition, states, signed)
            envelope = signed or self._seal(edition, states)
            row = await self._append(edition, states, envelope, connection)
        return row, states

    async def _append(
        self,
        edition: Edition,
        states: list[ListState],
        envelope: Envelope,
        connection: Connection,
    ) -> PublicationRow:
        publications, hash_set_no = PublicationRepository(connection), edition.state.hash_set_no
        for state in states:
            await publications.append_list(hash_set_no, state)
        # The last lock, and the shortest.
        log = LogRepository(connection)
        await log.lock()
        # A publication stands under the registry at its own place, whose publisher signs it.
        in_force = await RegistryRepository(connection).read_version()
        if in_force != edition.registry.version:
            raise ConflictError("the registry has moved on while a version was made")
        place = await log.append(
            envelope.encode(), statement_id=id_of(envelope), payload_type=PUBLICATION_TYPE
        )
        row = PublicationRow(
            hash_set_no=hash_set_no,
            hash_set=edition.hash_set,
            version=edition.version,
            log_index=place.index,
            log_size=edition.log_size,
            registry_version=edition.registry.version,
            statement_id=id_of(envelope),
        )
        await publications.append(row)
        notices = NoticeRepository(connection)
        await notices.send_publication(row.hash_set, row.version)
        await notices.send_log(place.index + 1)
        return row

    def _seal(self, edition: Edition, states: list[ListState]) -> Envelope:
        statement = edition.to_statement(states, format_time(self._clock()))
        key = self._key_of(edition.registry)
        return seal(encode_document(statement), PUBLICATION_TYPE, [key])

    async def _is_due(
        self, connection: Connection, state: HashSetState, registry: Registry
    ) -> bool:
        return is_due(state, await self._read_registry_of(connection, state), registry)

    async def _read_registry_of(
        self, connection: Connection, state: HashSetState
    ) -> Registry | None:
        """Return the registry that the latest publication of a hash set follows."""
        if state.latest is None:
            return None
        return await self._read_registry(connection, state.latest.registry_version)

    async def _read_registry(self, connection: Connection, version: int | None = None) -> Registry:
        """Return a version of the registry, by default the one in force."""
        repository = RegistryRepository(connection)
        version = version or await repository.read_version()
        if not version:
            raise UnavailableError("the coalition has no registry yet")
        registry = self._registries.get(version)
        if registry is None:
            registry = parse_registry((await repository.read(version)).document)
            # Hash sets that rest follow old ones.
            if len(self._registries) > 16:
                self._registries.clear()
            self._registries[version] = registry
        return registry

    def _key_of(self, registry: Registry) -> PrivateKey:
        for key in self._keys():
            if key.public.text in registry.publishers.keys:
                return key
        raise PermissionDeniedError("the registry does not list this publisher's key")


def _verify_same(edition: Edition, states: list[ListState], signed: Envelope) -> None:
    statement = decode_document(signed.payload, Publication)
    if edition.to_statement(states, statement.created_at) != statement:
        raise RootMismatchError(
            f"version {statement.version} of {statement.hash_set} is not what the database comes to"
        )


def _open_replica(path: Path) -> Replica:
    try:
        return Replica.open(path)
    except ReplicaDamagedError:
        _LOG.warning("replica of the publisher is damaged and made anew")
        remove_replica(path)
        return Replica.open(path)


def remove_replica(path: Path) -> None:
    """Remove a publisher's replica, which is made anew from the database."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)

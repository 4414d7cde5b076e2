"""The registry: which version is in force, and how the next one comes into force."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from hashshare.crypto import canonical
from hashshare.crypto.envelope import Envelope, parse_envelope
from hashshare.domain.joining import Trust
from hashshare.domain.names import parse_time
from hashshare.domain.registry import Registry, parse_registry
from hashshare.domain.statements import (
    REGISTRY_TYPE,
    RegistryStatement,
    id_of,
    read_registry_statement,
)
from hashshare.domain.succession import verify_disregarded, verify_succession
from hashshare.errors import (
    DigestMismatchError,
    MalformedError,
    RegistryConflictError,
    UnavailableError,
)
from hashshare.service.guard import Guard
from hashshare.storage.database import Pool, snapshot, transaction
from hashshare.storage.log import LogRepository, Place
from hashshare.storage.notices import NoticeRepository
from hashshare.storage.registry import RegistryRepository, RegistryRow


@dataclass(frozen=True, slots=True)
class CurrentRegistry:
    """A version of the registry that is or was in force.

    Attributes:
        registry: What it says.
        document: Its canonical bytes.
        envelope: Its statement, the leaf's bytes.
        log_index: From which on it is in force.
    """

    registry: Registry
    document: bytes
    envelope: bytes
    log_index: int


@dataclass(frozen=True, slots=True)
class AppendedRegistry:
    """What the one who appended a version is answered."""

    version: int
    log_index: int
    receipt: bytes


@dataclass(frozen=True, slots=True)
class RegistryService:
    """Reads and appends to the registry. May be used by several tasks and processes at once.

    Attributes:
        trust: Gives the trust document in force.
    """

    pool: Pool
    guard: Guard
    trust: Callable[[], Trust]
    # The last one parsed, by version; a registry of many members takes a while to parse.
    _parsed: dict[int, CurrentRegistry] = field(default_factory=dict, repr=False, compare=False)

    async def current(self) -> CurrentRegistry:
        """Return the registry in force: it is asked for in the database each time.

        Raises:
            UnavailableError: There is none yet.
        """
        async with snapshot(self.pool) as connection:
            repository = RegistryRepository(connection)
            known = self._parsed.get(await repository.read_version())
            if known is not None:
                return known
            row = await repository.find_latest()
        if row is None:
            raise UnavailableError("the coalition has no registry yet")
        current = _to_current(row)
        self._parsed.clear()
        self._parsed[row.version] = current
        return current

    async def read(self, version: int) -> CurrentRegistry:
        """Return one version.

        Raises:
            NotFoundError: There is no such version.
        """
        async with snapshot(self.pool) as connection:
            return _to_current(await RegistryRepository(connection).read(version))

    async def append(self, envelope: bytes, document: bytes, *, now: datetime) -> AppendedRegistry:
        """Put the next version into force. Durable once it returns; idempotent by statement.

        Args:
            envelope: The signed statement; becomes the leaf.
            document: The registry that it names, in canonical form.
            now: Recorded as the time of acceptance.

        Raises:
            MalformedError: Not in the one accepted form, or the registry contradicts itself.
            SignatureInvalidError: Fewer governance keys than the threshold signed it.
            MixAndMatchError: It belongs to another coalition or log.
            DigestMismatchError: ``document`` is not the one that the statement names.
            KeyUnsafeError: A key of the registry is unsafe or listed twice.
            RegistryConflictError: It is not the next version; fetch the registry again.
            RollbackError: The database was left behind.
        """
        self.guard.verify_signing()
        parsed = parse_envelope(envelope)
        repeated = await self._find_repeated(parsed)
        if repeated is not None:
            return repeated
        current = await self.current()
        # Usually those who govern now; a recovery by the trust root names others.
        recovered = self.trust().governing(current.registry.version + 1)
        statement = read_registry_statement(parsed, recovered or current.registry)
        registry = _verify_document(statement, document)
        verify_succession(current.registry, registry)
        place = await self._append(parsed, registry, document, now)
        return AppendedRegistry(registry.version, place.index, await self.guard.receipt(place))

    async def ensure_genesis(self, envelope: bytes, document: bytes) -> CurrentRegistry:
        """Put the first version into force unless it is, and return what is now in force.

        The operator vouches for it: it is signed by its own governance keys.

        Raises:
            RegistryConflictError: The database is of a coalition with another first one, or
                another server put it into force in this moment.
        """
        async with snapshot(self.pool) as connection:
            if await RegistryRepository(connection).read_version():
                first = await RegistryRepository(connection).read(1)
                if first.document != document:
                    raise RegistryConflictError("the database is of another coalition")
                return await self.current()
        registry = parse_registry(document)
        parsed = parse_envelope(envelope)
        statement = read_registry_statement(parsed, registry)
        _verify_document(statement, document)
        if registry.version != 1:
            raise MalformedError(f"the first registry has version 1, not {registry.version}")
        await self._append(parsed, registry, document, parse_time(statement.created_at))
        return await self.current()

    async def _append(
        self, envelope: Envelope, registry: Registry, document: bytes, now: datetime
    ) -> Place:
        async with transaction(self.pool) as connection:
            registries, log = RegistryRepository(connection), LogRepository(connection)
            await registries.prepare(registry)
            await log.lock()
            # Only now can no other version come between.
            in_force = await registries.read_version()
            if registry.version != in_force + 1:
                raise RegistryConflictError(f"the next registry version is {in_force + 1}")
            place = await log.append(
                envelope.encode(), statement_id=id_of(envelope), payload_type=REGISTRY_TYPE
            )
            verify_disregarded(registry, log_size=place.index)
            await registries.append(
                registry.version, log_index=place.index, document=document, now=now
            )
            notices = NoticeRepository(connection)
            await notices.send_log(place.index + 1)
            await notices.send_membership()
        return place

    async def _find_repeated(self, envelope: Envelope) -> AppendedRegistry | None:
        if envelope.payload_type != REGISTRY_TYPE:
            return None
        async with snapshot(self.pool) as connection:
            log = LogRepository(connection)
            found = await log.find(id_of(envelope))
            if found is None:
                return None
            version = await RegistryRepository(connection).read_version_at(found[0])
            place = await log.locate(found[0])
        return AppendedRegistry(version, place.index, await self.guard.receipt(place))


def _verify_document(statement: RegistryStatement, document: bytes) -> Registry:
    named = statement.document
    if (named.sha256, named.size) != (canonical.digest(document), len(document)):
        raise DigestMismatchError("the registry is not the one that the statement names")
    registry = parse_registry(document)
    if registry.version != statement.version:
        raise MalformedError(
            f"the statement is of version {statement.version}, not {registry.version}"
        )
    return registry


def _to_current(row: RegistryRow) -> CurrentRegistry:
    return CurrentRegistry(
        registry=parse_registry(row.document),
        document=row.document,
        envelope=row.envelope,
        log_index=row.log_index,
    )

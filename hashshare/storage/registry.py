"""The versions of the registry, and the rows that members and hash sets have because of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from asyncpg.exceptions import UniqueViolationError

from hashshare.domain.registry import Registry
from hashshare.errors import NotFoundError, RegistryConflictError
from hashshare.storage.database import verify_in_transaction

if TYPE_CHECKING:
    from hashshare.storage.database import Connection, Record

SELECT_VERSION: Final = "SELECT max(version) FROM registry"

SELECT_LATEST: Final = """
    SELECT registry.version, registry.log_index, registry.document, leaf.entry
      FROM registry JOIN leaf USING (log_index)
     ORDER BY registry.version DESC
     LIMIT 1
"""

SELECT_REGISTRY: Final = """
    -- $1 version
    SELECT registry.version, registry.log_index, registry.document, leaf.entry
      FROM registry JOIN leaf USING (log_index)
     WHERE registry.version = $1
"""

SELECT_VERSION_AT: Final = """
    -- $1 log_index
    SELECT version FROM registry WHERE log_index = $1
"""

INSERT_REGISTRY: Final = """
    -- $1 version, $2 log_index, $3 document, $4 accepted_at
    INSERT INTO registry (version, log_index, document, accepted_at) VALUES ($1, $2, $3, $4)
"""

# In one order, so that two servers that append at once wait for each other in turn.
INSERT_MEMBERS: Final = """
    -- $1 member ids
    INSERT INTO member (member_id)
    SELECT member_id FROM unnest($1::text[]) AS listed (member_id) ORDER BY member_id
    ON CONFLICT (member_id) DO NOTHING
"""

INSERT_HASH_SETS: Final = """
    -- $1 hash set ids
    INSERT INTO hash_set (hash_set_id)
    SELECT hash_set_id FROM unnest($1::text[]) AS listed (hash_set_id) ORDER BY hash_set_id
    ON CONFLICT (hash_set_id) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class RegistryRow:
    """One version of the registry.

    Attributes:
        version: Counts from 1.
        log_index: Of its statement.
        document: Canonical bytes.
        envelope: Its statement, the leaf's bytes.
    """

    version: int
    log_index: int
    document: bytes
    envelope: bytes


@dataclass(frozen=True, slots=True)
class RegistryRepository:
    """Reads and appends to the registry on one connection."""

    connection: "Connection"

    async def read_version(self) -> int:
        """Return the version in force, 0 when there is none yet."""
        version: int | None = await self.connection.fetchval(SELECT_VERSION)
        return version or 0

    async def find_latest(self) -> RegistryRow | None:
        """Return the version in force, None when there is none yet."""
        row = await self.connection.fetchrow(SELECT_LATEST)
        return None if row is None else _to_registry(row)

    async def read(self, version: int) -> RegistryRow:
        """Return one version.

        Raises:
            NotFoundError: There is no such version.
        """
        row = await self.connection.fetchrow(SELECT_REGISTRY, version)
        if row is None:
            raise NotFoundError(f"the registry has no version {version}")
        return _to_registry(row)

    async def read_version_at(self, log_index: int) -> int:
        """Return the version whose statement is that leaf.

        Raises:
            NotFoundError: That leaf is no registry's.
        """
        version: int | None = await self.connection.fetchval(SELECT_VERSION_AT, log_index)
        if version is None:
            raise NotFoundError(f"leaf {log_index} is no registry")
        return version

    async def prepare(self, registry: Registry) -> None:
        """Make the rows of members and hash sets that ``registry`` has and the one before not.

        Call it before the log is locked.
        """
        verify_in_transaction(self.connection)
        await self.connection.execute(INSERT_MEMBERS, list(registry.members))
        await self.connection.execute(INSERT_HASH_SETS, list(registry.hash_sets))

    async def append(self, version: int, *, log_index: int, document: bytes, now: datetime) -> None:
        """Put a version into force, with the leaf of its statement.

        Raises:
            RegistryConflictError: There is such a version.
        """
        verify_in_transaction(self.connection)
        try:
            await self.connection.execute(INSERT_REGISTRY, version, log_index, document, now)
        except UniqueViolationError as error:
            raise RegistryConflictError(f"the registry has a version {version}") from error


def _to_registry(row: "Record") -> RegistryRow:
    return RegistryRow(row["version"], row["log_index"], row["document"], row["entry"])

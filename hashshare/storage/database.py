"""The database: its pool, its transactions, its migrations, and its errors as ours."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from hashshare.errors import ConflictError, UnavailableError

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

# asyncpg's classes are generic for type checkers only, hence the quotes.
Record: TypeAlias = "asyncpg.Record"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

CREATE_MIGRATION: Final = """
    CREATE TABLE IF NOT EXISTS migration (
        name       text        PRIMARY KEY,
        sha256     text        NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )
"""

SELECT_MIGRATIONS: Final = "SELECT name, sha256 FROM migration ORDER BY name"

INSERT_MIGRATION: Final = """
    -- $1 name, $2 sha256
    INSERT INTO migration (name, sha256) VALUES ($1, $2)
"""

# Any number that no other application of this database takes: "hashsh" in ASCII.
_MIGRATION_LOCK: Final = 0x686173687368

LOCK_MIGRATIONS: Final = """
    -- $1 number
    SELECT pg_advisory_lock($1)
"""

_NUMBERED: Final = re.compile(r"[0-9]{4}_[a-z_]+\.sql")
_DATABASE_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")

_ACQUIRE_SECONDS: Final = 30.0

_TRANSIENT: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    OSError,
    TimeoutError,
)


@contextmanager
def translated() -> Iterator[None]:
    """Turn the database's own troubles into ``UnavailableError``.

    A violated constraint is not among them: its table's repository knows what it means.

    Raises:
        UnavailableError: The connection was lost or refused, the server is stopping or out
            of a resource, or the transaction was rolled back in favour of another. After a
            lost connection the transaction may or may not have been committed.
    """
    try:
        yield
    except _TRANSIENT as error:
        # asyncpg's complaint of an argument, which is our own mistake.
        if isinstance(error, ValueError):
            raise
        raise UnavailableError("the database cannot be reached now, try again") from error


@asynccontextmanager
async def open_pool(
    dsn: str, *, min_size: int = 2, max_size: int = 16
) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    """Open a pool of connections, and close it in the end.

    Args:
        dsn: ``postgresql://...``, of a migrated database.
        min_size: Connections kept open.
        max_size: Connections at most; requests above that wait.

    Raises:
        UnavailableError: The database cannot be reached.
    """
    with translated():
        pool = await asyncpg.create_pool(
            dsn,
            min_size=min_size,
            max_size=max_size,
            server_settings={"application_name": "hashshare", "timezone": "UTC"},
        )
    try:
        yield pool
    finally:
        await pool.close()


@asynccontextmanager
async def transaction(
    pool: Pool,
    *,
    isolation: Literal["read_committed", "repeatable_read"] = "read_committed",
    readonly: bool = False,
) -> AsyncIterator[Connection]:
    """Begin a transaction on a connection of its own; commit it unless an error comes out.

    Durable once the block is left without an error.

    Raises:
        UnavailableError: See ``translated``; also when no connection is free for 30 seconds.
    """
    with translated():
        async with (
            pool.acquire(timeout=_ACQUIRE_SECONDS) as connection,
            connection.transaction(isolation=isolation, readonly=readonly),
        ):
            yield connection


@asynccontextmanager
async def snapshot(pool: Pool) -> AsyncIterator[Connection]:
    """Begin a transaction that reads, and sees one state of the database throughout.

    Raises:
        UnavailableError: See ``transaction``.
    """
    async with transaction(pool, isolation="repeatable_read", readonly=True) as connection:
        yield connection


def verify_in_transaction(connection: Connection) -> None:
    """Refuse a programmer's mistake: a write whose other half could get lost.

    Raises:
        RuntimeError: ``connection`` is in no transaction.
    """
    if not connection.is_in_transaction():
        raise RuntimeError("this must be called in a transaction")


async def create_database(dsn: str, name: str = "hashshare") -> str:
    """Create a database in the server of ``dsn``, unless it is there, and return its own dsn.

    Raises:
        UnavailableError: The server cannot be reached.
    """
    if not _DATABASE_NAME.fullmatch(name):
        raise RuntimeError(f"not a name for a database: {name!r:.70}")
    with translated():
        connection = await asyncpg.connect(dsn)
        try:
            # A name cannot be a parameter; this one holds nothing that needs a quote.
            await connection.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
        except asyncpg.DuplicateDatabaseError:
            pass
        finally:
            await connection.close()
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


def read_migrations() -> dict[str, str]:
    """Return the statements of each migration by the name of its file, in order."""
    folder = resources.files("hashshare.storage") / "migrations"
    files = {file.name: file for file in folder.iterdir() if _NUMBERED.fullmatch(file.name)}
    return {name: files[name].read_text(encoding="utf-8") for name in sorted(files)}


async def migrate(dsn: str) -> list[str]:
    """Bring the schema up to date and return the names of the migrations that were applied.

    May be called by several servers at once: one does it and the others wait. Each migration
    is a transaction, so that a crash leaves a schema that the next call goes on from.

    Raises:
        ConflictError: The schema is of a newer release, or a migration that was applied has
            been edited since.
        UnavailableError: The database cannot be reached.
    """
    with translated():
        connection = await asyncpg.connect(dsn)
        try:
            # Held until the connection is closed.
            await connection.execute("SET lock_timeout = '5min'")
            await connection.fetchval(LOCK_MIGRATIONS, _MIGRATION_LOCK)
            await connection.execute(CREATE_MIGRATION)
            return await _apply_missing(connection)
        finally:
            await connection.close()


async def verify_migrated(pool: Pool) -> None:
    """Refuse a database whose schema is not exactly the one of this release.

    Raises:
        ConflictError: It is older, newer or different.
        UnavailableError: The database cannot be reached.
    """
    with translated():
        try:
            rows = await pool.fetch(SELECT_MIGRATIONS)
        except asyncpg.UndefinedTableError as error:
            raise ConflictError("the database has no schema yet, migrate it first") from error
    missing = _missing({row["name"]: row["sha256"] for row in rows}, read_migrations())
    if missing:
        raise ConflictError(f"the database lacks migration {missing[0]}, migrate it first")


async def _apply_missing(connection: Connection) -> list[str]:
    migrations = read_migrations()
    rows = await connection.fetch(SELECT_MIGRATIONS)
    missing = _missing({row["name"]: row["sha256"] for row in rows}, migrations)
    for name in missing:
        async with connection.transaction():
            await connection.execute(migrations[name])
            await connection.execute(INSERT_MIGRATION, name, _digest(migrations[name]))
        # Lets the loop live between long migrations of a large database.
        await asyncio.sleep(0)
    return missing


def _missing(applied: dict[str, str], migrations: dict[str, str]) -> list[str]:
    for name, digest in applied.items():
        if name not in migrations:
            raise ConflictError(f"the database is of a newer release: it has migration {name}")
        if digest != _digest(migrations[name]):
            raise ConflictError(f"migration {name} was edited after it had been applied")
    missing = [name for name in migrations if name not in applied]
    if missing and applied and missing[0] < max(applied):
        raise ConflictError(f"migration {missing[0]} is numbered before one that was applied")
    return missing


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

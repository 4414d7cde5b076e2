"""Migrations, and the database's troubles as errors of ours."""

import asyncio

import asyncpg
import pytest

from hashshare.errors import ConflictError, UnavailableError
from hashshare.storage.database import (
    create_database,
    migrate,
    open_pool,
    read_migrations,
    transaction,
    verify_migrated,
)


async def test_migrating_again_applies_nothing(empty_dsn: str) -> None:
    """``migrate`` is idempotent, and then the pool may be used."""
    assert await migrate(empty_dsn) == list(read_migrations())
    assert await migrate(empty_dsn) == []
    async with open_pool(empty_dsn) as pool:
        await verify_migrated(pool)


async def test_servers_that_migrate_at_once_wait_for_each_other(empty_dsn: str) -> None:
    """Each migration is applied by exactly one of them."""
    applied = await asyncio.gather(*(migrate(empty_dsn) for _ in range(4)))

    assert sorted(name for names in applied for name in names) == sorted(read_migrations())


async def test_a_newer_schema_is_refused(dsn: str) -> None:
    """A server that does not know a migration does not start."""
    await _execute(dsn, "INSERT INTO migration (name, sha256) VALUES ('9999_later.sql', '')")

    with pytest.raises(ConflictError):
        await migrate(dsn)
    async with open_pool(dsn) as pool:
        with pytest.raises(ConflictError):
            await verify_migrated(pool)


async def test_an_edited_migration_is_refused(dsn: str) -> None:
    """The digest of each file is recorded with it."""
    await _execute(dsn, "UPDATE migration SET sha256 = 'other' WHERE name LIKE '0001%'")

    with pytest.raises(ConflictError):
        await migrate(dsn)


async def test_an_older_schema_is_refused(empty_dsn: str) -> None:
    """A server does not run on a database that was not migrated."""
    async with open_pool(empty_dsn) as pool:
        with pytest.raises(ConflictError):
            await verify_migrated(pool)


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    """Nobody listens on that port."""
    with pytest.raises(UnavailableError):
        await migrate("postgresql://nobody@127.0.0.1:1/none")


async def test_a_lost_connection_is_unavailable(dsn: str) -> None:
    """Also in the middle of a transaction; the pool recovers."""
    async with open_pool(dsn) as pool:
        with pytest.raises(UnavailableError):
            async with transaction(pool) as connection:
                await _terminate(dsn, await connection.fetchval("SELECT pg_backend_pid()"))
                await connection.fetchval("SELECT 1")
        async with transaction(pool) as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_a_database_is_created_once(database_server: str) -> None:
    """``create_database`` is idempotent, and leads to the new one."""
    await create_database(database_server, "hashshare_created")
    dsn = await create_database(database_server, "hashshare_created")
    assert await _fetchval(dsn, "SELECT current_database()") == "hashshare_created"
    await _execute(database_server, "DROP DATABASE hashshare_created")


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(statement)
    await connection.close()


async def _fetchval(dsn: str, statement: str, *arguments: object) -> object:
    connection = await asyncpg.connect(dsn)
    value: object = await connection.fetchval(statement, *arguments)
    await connection.close()
    return value


async def _terminate(dsn: str, pid: int) -> None:
    await _fetchval(dsn, "SELECT pg_terminate_backend($1, 5000)", pid)

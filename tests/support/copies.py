"""Copies of a database: what a dump is that was restored beside the live one."""

import asyncio
from threading import Thread
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg


def copy_database(dsn: str) -> str:
    """Copy a database to which nobody is connected, and return the URL of the copy."""
    name = f"hashshare_copy_{uuid4().hex}"
    source = urlsplit(dsn).path.removeprefix("/")
    _execute(dsn, f"CREATE DATABASE {name} TEMPLATE {source}")
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


def drop_database(dsn: str) -> None:
    """Drop a database."""
    _execute(dsn, f"DROP DATABASE {urlsplit(dsn).path.removeprefix('/')} WITH (FORCE)")


def replace_database(dsn: str, source: str) -> None:
    """Restore: put a copy of another database in the place of this one."""
    drop_database(dsn)
    names = (urlsplit(url).path.removeprefix("/") for url in (dsn, source))
    _execute(dsn, "CREATE DATABASE {} TEMPLATE {}".format(*names))


def _execute(dsn: str, statement: str) -> None:
    async def execute() -> None:
        # Not to the database itself, which must have no connection.
        connection = await asyncpg.connect(urlunsplit(urlsplit(dsn)._replace(path="/postgres")))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    # In a thread of its own: the caller may be in a loop.
    thread = Thread(target=lambda: asyncio.run(execute()))
    thread.start()
    thread.join()

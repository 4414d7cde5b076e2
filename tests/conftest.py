"""What tests share: a database each, and a loop that forgives no error."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest
import uvloop
from hypothesis import settings

from hashshare.storage.database import migrate
from hashshare.storage.embedded import UNSAFE_SETTINGS, run_embedded
from tests.support.federation import Federation, run_federation

# No deadlines: how long an example takes depends on the machine. "ci" tries the same examples
# each time, so that a change fails for what is in it; "nightly" looks for new ones.
settings.register_profile("fast", max_examples=10, deadline=None)
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=10_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

LoopErrors = list[dict[str, Any]]
_loop_errors: LoopErrors = []


def _new_loop() -> asyncio.AbstractEventLoop:
    loop = uvloop.new_event_loop()
    loop.set_exception_handler(lambda _, context: _loop_errors.append(context))
    return loop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run async tests on the loop that the server uses."""
    return {"uvloop": _new_loop}


@pytest.fixture(autouse=True)
def loop_errors() -> Iterator[LoopErrors]:
    """Fail a test that leaves an error in the loop, such as a task's that nobody awaited.

    A test that provokes such an error takes it out of the list.
    """
    _loop_errors.clear()
    yield _loop_errors
    assert not _loop_errors


@pytest.fixture(scope="session")
def database_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server in which databases may be made: ``$HASHSHARE_TEST_DSN`` or our own."""
    if dsn := os.environ.get("HASHSHARE_TEST_DSN"):
        yield dsn
        return
    with run_embedded(tmp_path_factory.mktemp("postgres"), settings=UNSAFE_SETTINGS) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def template_database(database_server: str) -> Iterator[str]:
    """The name of a database with all migrations, to be copied for each test."""
    name = f"hashshare_template_{uuid4().hex}"
    _execute(database_server, f"CREATE DATABASE {name}")
    asyncio.run(migrate(_with_database(database_server, name)))
    yield name
    _execute(database_server, f"DROP DATABASE {name}")


@pytest.fixture
def dsn(database_server: str, template_database: str) -> Iterator[str]:
    """The URL of a migrated database of this test's own."""
    name = f"hashshare_test_{uuid4().hex}"
    _execute(database_server, f"CREATE DATABASE {name} TEMPLATE {template_database}")
    yield _with_database(database_server, name)
    _execute(database_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def federation(dsn: str, tmp_path: Path) -> AsyncIterator[Federation]:
    """A server of a coalition with a hash set, and two members: acme and beta."""
    async with run_federation(dsn, tmp_path) as federation:
        await federation.create()
        await federation.join("acme")
        await federation.join("beta")
        yield federation


@pytest.fixture
def empty_dsn(database_server: str) -> Iterator[str]:
    """The URL of a database without a table, for tests of the migrations themselves."""
    name = f"hashshare_empty_{uuid4().hex}"
    _execute(database_server, f"CREATE DATABASE {name}")
    yield _with_database(database_server, name)
    _execute(database_server, f"DROP DATABASE {name} WITH (FORCE)")


def _with_database(dsn: str, name: str) -> str:
    url = urlsplit(dsn)
    return urlunsplit(url._replace(path=f"/{name}"))


def _execute(dsn: str, statement: str) -> None:
    async def execute() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(execute())

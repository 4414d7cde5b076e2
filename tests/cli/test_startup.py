"""What commands import: a person who asks for help should not wait for libraries.

Each runs in an interpreter of its own that has imported nothing, and says what it has in the end.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from hashshare.cli.app import COMMANDS
from hashshare.cli.coalition import Plan, create_coalition
from hashshare.client import Profile
from hashshare.replica import Replica
from tests.support.federation import Federation, run_federation
from tests.support.replicas import ATTRIBUTES, NAME, build

SERVER = {"asyncpg", "jinja2", "obstore", "prometheus_client", "structlog", "uvloop"}
COLUMNS = {"numpy", "pyarrow"}
NETWORK = {"aiohttp", "pydantic", "tenacity"}
VALUE = b"\1" * 32
HEAVY = SERVER | COLUMNS | NETWORK | {"rich", "tuf"}

PROGRAM = """
import sys
from hashshare.cli import main
try:
    main()
finally:
    print("imported:", *{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


def imported(
    *words: object, profile: Path | None = None, completing: str | None = None
) -> set[str]:
    """Run the command, which does what it should, and return what it imported."""
    environment = {**os.environ, "HASHSHARE_PROFILE": str(profile)}
    if completing is not None:
        environment["_HASHSHARE_COMPLETE"] = "complete_bash"
        environment["COMP_WORDS"] = completing
        environment["COMP_CWORD"] = str(completing.count(" "))
    # As the installed command is called, by whose name the shell asks.
    program = f"import sys; sys.argv[0] = 'hashshare'\n{PROGRAM}"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout  # It was not nothing that it did.
    return set(done.stderr.rpartition("imported:")[2].split())


@pytest.mark.parametrize("name", sorted(HEAVY))
def test_what_is_heavy_is_there(name: str) -> None:
    """A name that is spelled wrong would never be found among what was imported."""
    assert find_spec(name)


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["replica", "list", "--help"]])
def test_help_of_the_whole_takes_nothing(words: list[str]) -> None:
    """Nor does a version."""
    assert not imported(*words) & HEAVY


ONE_OF_EACH_MODULE = {module: name for name, (module, _) in COMMANDS.items()}


@pytest.mark.parametrize("command", ONE_OF_EACH_MODULE.values(), ids=ONE_OF_EACH_MODULE)
def test_help_takes_nothing(command: str) -> None:
    """Of each module of commands: it needs only what options are made of."""
    assert not imported(command, "--help") & HEAVY


@pytest.mark.parametrize(
    ("typed", "typers"),
    [("hashshare ", set()), ("hashshare member ", set()), ("hashshare lookup --", {"pydantic"})],
)
def test_completion_takes_nothing(typed: str, typers: set[str]) -> None:
    """Which a shell asks for at each press of a key; but typer reads options by pydantic."""
    assert not imported(completing=typed) & HEAVY - typers


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    """One that has never met its server."""
    return create_coalition(
        Plan(
            folder=tmp_path / "coalition",
            coalition="Test",
            log="test.example/log",
            admin="admin",
            listen="127.0.0.1:1",
            enrol_listen="127.0.0.1:2",
            public_url="",
            enrol_public_url="",
            hosts=["localhost"],
        )
    )


def test_a_look_up_takes_no_network(profile: Profile) -> None:
    """It reads one bucket of a file, which takes less time than importing numpy."""
    with Replica.open(profile.replica_path) as replica:
        build(replica, {VALUE: ATTRIBUTES[0]}, name=NAME)

    taken = imported("lookup", NAME, VALUE.hex(), profile=profile.folder)

    assert "sqlite3" in taken
    assert not taken & (HEAVY - {"pydantic"} | {"asyncio"})  # by which typer reads options


@pytest.fixture
async def federation(dsn: str, tmp_path: Path) -> AsyncIterator[Federation]:
    """A coalition whose server runs."""
    async with run_federation(dsn, tmp_path) as federation:
        yield federation


ASKING = ["status", "member list", "hash-set list", "view list csam", "certificate list"]


async def test_what_asks_the_server_takes_no_columns(federation: Federation) -> None:
    """Nor what serves, nor what a trust root takes that was looked for within the hour."""
    await federation.create()

    for words in ASKING:
        taken = await asyncio.to_thread(imported, *words.split(), profile=federation.admin.folder)

        assert "aiohttp" in taken, words
        assert not taken & (COLUMNS | SERVER | {"tuf"}), words

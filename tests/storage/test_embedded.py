"""The embedded PostgreSQL: one at a time, gone with its owner, and there again after a crash."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hashshare.errors import ConflictError, UnavailableError
from hashshare.storage.embedded import UNSAFE_SETTINGS, run_embedded

OWNER = """
import os, signal, sys
from pathlib import Path
from hashshare.storage.embedded import UNSAFE_SETTINGS, run_embedded

with run_embedded(Path(sys.argv[1]), settings=UNSAFE_SETTINGS):
    os.kill(os.getpid(), signal.SIGKILL)
"""


async def _fetchval(dsn: str, statement: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def _postmaster(folder: Path) -> int:
    return int((folder / "data" / "postmaster.pid").read_text().split()[0])


async def test_what_was_committed_is_there_after_a_stop(tmp_path: Path) -> None:
    """It stops with the block, and the next one finds the data and other settings."""
    with run_embedded(tmp_path, settings=UNSAFE_SETTINGS) as dsn:
        await _fetchval(dsn, "CREATE TABLE kept AS SELECT 1 AS one")
    with run_embedded(tmp_path, settings={**UNSAFE_SETTINGS, "max_connections": "17"}) as dsn:
        assert await _fetchval(dsn, "SELECT one FROM kept") == 1
        assert await _fetchval(dsn, "SHOW max_connections") == "17"
    with pytest.raises(OSError, match=r".*"):
        await asyncpg.connect(dsn)


async def test_a_killed_server_recovers(tmp_path: Path) -> None:
    """What was committed survives a hard kill of PostgreSQL, and its stale files are no bar."""
    with run_embedded(tmp_path, settings=UNSAFE_SETTINGS) as dsn:
        await _fetchval(dsn, "CREATE TABLE kept AS SELECT 1 AS one")
        os.kill(_postmaster(tmp_path), signal.SIGKILL)
    with run_embedded(tmp_path, settings=UNSAFE_SETTINGS) as dsn:
        assert await _fetchval(dsn, "SELECT one FROM kept") == 1


def test_a_killed_owner_leaves_no_server_in_the_way(tmp_path: Path) -> None:
    """The next owner gets in at once, though the last one could clean up nothing."""
    killed = subprocess.run([sys.executable, "-c", OWNER, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    with run_embedded(tmp_path, settings=UNSAFE_SETTINGS) as dsn:
        assert asyncio.run(_fetchval(dsn, "SELECT 1")) == 1


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A second owner is refused and the first one lives on."""
    with run_embedded(tmp_path, settings=UNSAFE_SETTINGS):
        before = _postmaster(tmp_path)
        with pytest.raises(ConflictError), run_embedded(tmp_path):
            pass
        assert _postmaster(tmp_path) == before


async def test_a_folder_too_deep_for_a_socket(tmp_path: Path) -> None:
    """The address of a Unix socket has 108 bytes; a deeper folder works all the same."""
    with run_embedded(tmp_path / ("deep" * 30), settings=UNSAFE_SETTINGS) as dsn:
        assert await _fetchval(dsn, "SELECT 1") == 1


def test_a_setting_that_does_not_exist(tmp_path: Path) -> None:
    """A server that ends at once is an error, not a wait."""
    with pytest.raises(UnavailableError), run_embedded(tmp_path, settings={"no_such": "1"}):
        pass


async def test_the_log_holds_no_hash(tmp_path: Path) -> None:
    """PostgreSQL would write the values of a violated constraint, and the statement, to its log."""
    with run_embedded(tmp_path, settings=UNSAFE_SETTINGS) as dsn:
        await _fetchval(dsn, "CREATE TABLE hash (value text PRIMARY KEY)")
        with pytest.raises(asyncpg.UniqueViolationError):
            await _fetchval(dsn, "INSERT INTO hash VALUES ('5eC4e7'), ('5eC4e7')")
    log = (tmp_path / "log").read_text()
    assert "hash_pkey" in log
    assert "5eC4e7" not in log

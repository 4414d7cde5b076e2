"""A database that is older than what was signed for is refused, and nothing else is."""

from pathlib import Path

import pytest

from hashshare.errors import RollbackError
from hashshare.service.guard import Guard
from hashshare.service.log import LogService
from tests.support.coalition import ACME, Running, assertion, run_coalition


def guard_of(running: Running, folder: Path) -> Guard:
    """The guard of a coalition's server."""
    return Guard(folder / "newest.checkpoint", LogService(running.pool, running.coalition.log))


async def test_a_log_that_grows_is_accepted(dsn: str, tmp_path: Path) -> None:
    """At the first start, and at every other."""
    async with run_coalition(dsn, tmp_path) as running:
        guard = guard_of(running, tmp_path)
        await guard.verify()
        for number in range(1, 4):
            size = await guard.record()
            await guard.verify()
            await running.push(ACME, [assertion(number)])
            await guard.verify()
            assert await guard.record() > size


async def test_a_restored_backup_is_refused(dsn: str, tmp_path: Path) -> None:
    """The same coalition, in a database from before the last submission."""
    async with run_coalition(dsn, tmp_path / "one") as running:
        guard = guard_of(running, tmp_path)
        before = await guard.record()
        kept = guard.path.read_bytes()
        await running.push(ACME, [assertion(1)])
        assert await guard.record() > before
        signed_for = guard.path.read_bytes()
        # The backup: the database as it was, under the file as it is.
        await running.pool.execute("UPDATE log SET size = size - 1")
        await running.pool.execute("DELETE FROM log_node WHERE node_index = $1", before)
        with pytest.raises(RollbackError, match="later backup"):
            await guard.verify()
        guard.path.write_bytes(kept)
        await guard.verify()
        guard.path.write_bytes(signed_for)
        with pytest.raises(RollbackError):
            await guard.verify()


async def test_another_log_is_refused(dsn: str, tmp_path: Path) -> None:
    """As long as the other, and other leaves."""
    async with run_coalition(dsn, tmp_path) as running:
        guard = guard_of(running, tmp_path)
        await running.push(ACME, [assertion(1)])
        size = await guard.record()
        await running.pool.execute(
            "UPDATE log_node SET hash = $1 WHERE level = 0 AND node_index = $2",
            b"\x01" * 32,
            size - 1,
        )
        with pytest.raises(RollbackError, match="another log"):
            await guard.verify()

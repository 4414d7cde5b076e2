"""Two servers in processes of their own never sign two roots for one size of the log.

Whatever is parted: the database from its copy, or a publisher from the rest of the world.
"""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from hashshare.client import Client, Profile
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.policy import Basis
from hashshare.domain.records import AssertRecord
from hashshare.errors import HashshareError, RollbackError
from tests.support.copies import copy_database, drop_database
from tests.support.processes import (
    Serving,
    Watcher,
    copy_coalition,
    found,
    serving,
    share_blobs,
)

CUT_OFF = """
    SELECT pg_terminate_backend(pid)
      FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'hashshare'
       AND pid = ANY ($1::integer[])
"""
BACKENDS = """
    SELECT pid FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'hashshare'
"""


def record(number: int) -> AssertRecord:
    """A made-up hash."""
    value = number.to_bytes(4, "big") * 8
    return AssertRecord("", {HashAlgorithm.SHA256: value}, "A1", None, Basis.REVIEWED)


@dataclass(slots=True)
class Scene:
    """A coalition without a server, in two folders that share a blob store."""

    folder: Path
    dsn: str
    members: dict[str, Profile]

    @property
    def one(self) -> Path:
        return self.folder / "coalition"

    @property
    def two(self) -> Path:
        return self.folder / "second"

    @asynccontextmanager
    async def copied(self) -> AsyncIterator[str]:
        """Dump the database, and restore it beside itself."""
        dsn = copy_database(self.dsn)
        try:
            yield dsn
        finally:
            drop_database(dsn)


@pytest.fixture
async def scene(dsn: str, tmp_path: Path) -> Scene:
    """Two machines are prepared, and none runs."""
    members = await found(dsn, tmp_path)
    coalition = tmp_path / "coalition"
    blobs = tmp_path / "blobs"
    shutil.move(coalition / "data" / "blobs", blobs)
    share_blobs(coalition, blobs.as_uri())
    copy_coalition(coalition, tmp_path / "second")
    return Scene(tmp_path, dsn, members)


async def push(server: Serving, profile: Profile, *numbers: int) -> HashshareError | None:
    """Push to one server, once; return why it was refused."""
    async with Client(server.of(profile)) as client:
        client.session.attempts = 1
        try:
            await client.push("csam", [record(number) for number in numbers])
        except HashshareError as error:
            return error
    return None


@asynccontextmanager
async def watched(profile: Profile, *servers: Serving) -> AsyncIterator[Watcher]:
    """Look at every checkpoint that servers show."""
    watcher = Watcher({})
    tasks = [asyncio.create_task(watcher.watch(server.of(profile))) for server in servers]
    try:
        yield watcher
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def refused(server: Serving, profile: Profile) -> None:
    """Wait until a server signs nothing more, and says so."""
    async with Client(server.of(profile)) as client, asyncio.timeout(60):
        client.session.attempts = 1
        while True:
            try:
                await client.session.request("GET", "/v1/log/checkpoint")
            except RollbackError:
                return
            except HashshareError:
                pass
            await asyncio.sleep(0.05)


def only_one_root_for_each_size(watcher: Watcher, *profiles: Profile) -> None:
    """No size of the log has two roots, in checkpoints or receipts."""
    watcher.keep_receipts(*profiles)
    assert len(watcher.seen) > 1
    forks = {size for size, roots in watcher.seen.items() if len(roots) > 1}
    assert not forks


async def test_a_dump_restored_beside_the_live_database_signs_no_second_root(
    scene: Scene,
) -> None:
    """Two machines, each with its copy, take in different things at once."""
    acme, beta = scene.members["acme"], scene.members["beta"]
    async with (
        scene.copied() as dump,
        serving(scene.one, scene.dsn) as live,
        serving(scene.two, dump) as restored,
        watched(scene.members["admin"], live, restored) as watcher,
    ):
        results = await asyncio.gather(push(live, acme, 1, 2), push(restored, beta, 3, 4))
        # Nothing for one of them, and perhaps the publications were first.
        assert sum(error is not None for error in results) >= 1
        loser, member = (live, acme) if isinstance(results[0], RollbackError) else (restored, beta)
        await refused(loser, scene.members["admin"])
        assert isinstance(await push(loser, member, 5), RollbackError)
        winner, other = (restored, beta) if loser is live else (live, acme)
        assert await push(winner, other, 6) is None
        assert "nothing is signed" in loser.log_path.read_text()
    only_one_root_for_each_size(watcher, acme, beta)


async def test_a_dump_that_was_left_behind_is_not_served(scene: Scene) -> None:
    """It was restored beside the live one, which has gone on since."""
    acme = scene.members["acme"]
    async with scene.copied() as dump, serving(scene.one, scene.dsn) as live:
        assert await push(live, acme, 1) is None
        with pytest.raises(AssertionError, match="leaves were signed for"):
            async with serving(scene.two, dump):
                pass


async def test_a_member_shows_a_server_that_it_was_left_behind(scene: Scene) -> None:
    """A dump is served where nothing was recorded; the first member that knows more ends that."""
    acme, beta = scene.members["acme"], scene.members["beta"]
    async with scene.copied() as dump:
        async with serving(scene.one, scene.dsn) as live:
            assert await push(live, acme, 1) is None
            async with Client(live.of(acme)) as client:
                await client.follow()
        shutil.rmtree(scene.folder / "blobs" / "log")
        async with serving(scene.two, dump) as restored:
            async with Client(restored.of(beta)) as client:
                await client.follow()
            async with Client(restored.of(acme)) as client:
                with pytest.raises(RollbackError):
                    await client.follow()
            await refused(restored, beta)
            assert isinstance(await push(restored, beta, 2), RollbackError)
        with pytest.raises(AssertionError, match="leaves were signed for"):
            async with serving(scene.two, dump):
                pass


async def test_a_publisher_that_slept_through_an_election_signs_no_second_root(
    scene: Scene,
) -> None:
    """It is stopped at any moment, its connections are cut, and another takes its place."""
    acme, admin = scene.members["acme"], scene.members["admin"]
    async with (
        serving(scene.one, scene.dsn) as first,
        serving(scene.two, scene.dsn) as second,
        watched(admin, first, second) as watcher,
    ):
        connection = await asyncpg.connect(scene.dsn)
        try:
            for number in range(1, 5):
                asleep, awake = (first, second) if number % 2 else (second, first)
                pushing = asyncio.create_task(push(asleep, acme, 10 * number))
                await asyncio.sleep(0.04 * number)
                asleep.send(signal.SIGSTOP)
                await _cut_off_all(connection)
                # Not if the other one fell asleep while it held the record of what is signed.
                done = await _pushed(awake, acme, 10 * number + 1)
                asleep.send(signal.SIGCONT)
                await pushing
                assert done or await _pushed(awake, acme, 10 * number + 1)
                assert await _pushed(asleep, acme, 10 * number + 2)
        finally:
            await connection.close()
        await _published(second, admin)
    only_one_root_for_each_size(watcher, acme)


async def _cut_off_all(connection: asyncpg.Connection) -> None:
    """End the connections of both: the one that is awake opens new ones."""
    backends = [row["pid"] for row in await connection.fetch(BACKENDS)]
    await connection.fetch(CUT_OFF, backends)


async def _pushed(server: Serving, profile: Profile, number: int) -> bool:
    """Push until it succeeds, since connections are cut; False if another holds the record."""
    async with asyncio.timeout(60):
        while (error := await push(server, profile, number)) is not None:
            if "another server has held" in str(error):
                return False
            await asyncio.sleep(0.1)
    return True


async def _published(server: Serving, profile: Profile) -> None:
    """Wait until all that is in the log is published."""
    async with Client(server.of(profile)) as client, asyncio.timeout(60):
        while True:
            with suppress(HashshareError):
                size = (await client.follow()).history.size
                latest = (await client.latest("csam")).publication
                if latest.log_size >= size - 1:
                    return
            await asyncio.sleep(0.1)

"""Requests that are lost, and answers that are: each in both ways, and nothing is done twice."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from hashshare.client import Client
from hashshare.client.export import Format
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.policy import Basis
from hashshare.domain.records import AssertRecord
from hashshare.errors import ReplicaDamagedError, UnavailableError, VersionNotFoundError
from hashshare.service import snapshots
from tests.support.federation import Federation
from tests.support.relay import Answer, Relay, run_relay

LIST = "csam/all/sha256"
ROOT = Path(__file__).parents[2]


def records(*numbers: int) -> list[AssertRecord]:
    """Made-up hashes."""
    values = {n: (n * 0x9E3779B1 % 2**32).to_bytes(4, "big") * 8 for n in numbers}
    return [
        AssertRecord("", {HashAlgorithm.SHA256: values[n]}, "A1", None, Basis.REVIEWED)
        for n in numbers
    ]


@pytest.fixture
async def relay(federation: Federation) -> AsyncIterator[Relay]:
    """A member whose connection can be made to fail."""
    async with run_relay(federation, "acme") as relay:
        yield relay


async def log_size(federation: Federation) -> int:
    """Return the number of leaves."""
    size: int = await federation.pool.fetchval("SELECT size FROM log")
    return size


STEPS = ["GET /v1/self", "HEAD /v1/batches", "PUT /v1/batches", "POST /v1/submissions"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("lost", ["request", "answer"])
async def test_a_push_that_was_cut_off_is_accepted_once(relay: Relay, step: str, lost: str) -> None:
    """The same push again ends with one submission in the log, and its receipt kept."""
    before = await log_size(relay.federation)
    _fail(relay, step, lost)
    async with Client(relay.profile) as client:
        client.session.attempts = 1
        with pytest.raises(UnavailableError):
            await client.push("csam", records(1, 2))
    relay.attack, relay.before = None, lambda *_: True
    async with Client(relay.profile) as client:
        await client.push("csam", records(1, 2))
        assert await client.push("csam", records(1, 2)) == []
        assert (await client.whoami()).chain.sequence == 1
    assert await log_size(relay.federation) - before <= 2  # one submission, one publication
    assert len(list((relay.profile.folder / "receipts").iterdir())) == 1
    assert list((relay.profile.folder / "outbox").iterdir()) == []


@pytest.mark.parametrize("lost", ["request", "answer"])
async def test_what_is_lost_once_is_sent_again(relay: Relay, lost: str) -> None:
    """Within one push, without the caller's noticing."""
    seen: list[str] = []

    def once(method: str, path: str) -> bool:
        if _matches("POST /v1/submissions", method, path):
            seen.append(path)
            return len(seen) == 1
        return False

    if lost == "request":
        relay.before = lambda method, path: not once(method, path)
    else:

        def attack(answer: Answer) -> None:
            answer.cut = once(answer.method, answer.path)

        relay.attack = attack
    async with Client(relay.profile) as client:
        (pushed,) = await client.push("csam", records(1))
        assert pushed.counts.new == 1
        assert (await client.whoami()).chain.sequence == 1
    assert len(seen) == 2


def _matches(step: str, method: str, path: str) -> bool:
    return f"{method} {path}".startswith(step)


def _fail(relay: Relay, step: str, lost: str) -> None:
    if lost == "request":
        relay.before = lambda method, path: not _matches(step, method, path)
        return

    def attack(answer: Answer) -> None:
        if _matches(step, answer.method, answer.path):
            answer.cut = True
            answer.body = answer.body or b" "

    relay.attack = attack


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from hashshare.client import Client, Profile, push
from tests.client.test_faults import records

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    setattr(push.Pusher, sys.argv[2], die)
    async with Client(Profile.load(Path(sys.argv[1]))) as client:
        await client.push("csam", records(1, 2))

asyncio.run(main())
"""


@pytest.mark.parametrize("moment", ["_was_said", "_sign", "_send", "_upload", "_keep_receipt"])
async def test_a_killed_push_is_taken_up_again(relay: Relay, moment: str) -> None:
    """Killed hard before any of its steps, it is accepted once when it is run again."""
    died = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", KILLED, str(relay.federation.members["acme"].folder), moment],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    async with Client(relay.profile) as client:
        await client.push("csam", records(1, 2))
        assert await client.push("csam", records(1, 2)) == []
        assert (await client.whoami()).chain.sequence == 1
    assert len(list((relay.profile.folder / "receipts").iterdir())) == 1


async def test_two_machines_of_one_member_push_at_once(relay: Relay) -> None:
    """Each signs the same place in the chain; the later one signs again, and both are in."""
    async with Client(relay.profile) as one, Client(relay.profile) as other:
        await asyncio.gather(
            one.push("csam", records(1)),
            other.push("csam", records(2)),
            one.push("csam", records(3)),
        )
        assert (await one.whoami()).chain.sequence == 3


async def _with_snapshot(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "MIN_CHANGES", 1)
    async with Client(relay.federation.members["acme"]) as client, asyncio.timeout(30):
        (pushed,) = await client.push("csam", records(*range(1, 1201)))
        await relay.federation.published(pushed.log_index + 1)
        while True:
            with suppress(VersionNotFoundError):
                await client.session.request("GET", f"/v1/lists/{LIST}/snapshot")
                return
            await asyncio.sleep(0.05)


async def _pulls(admin: Client) -> list[tuple[str, int]]:
    """What the server says that acme was sent."""
    return [(p.list_name, p.version) for p in (await admin.admin.member("acme")).pulls]


async def test_a_download_goes_on_where_it_was_cut(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run asks for the rest only."""
    await _with_snapshot(relay, monkeypatch)

    def attack(answer: Answer) -> None:
        answer.cut = "/snapshots/" in answer.path

    relay.attack = attack
    async with Client(relay.profile) as client:
        client.session.attempts = 1
        with pytest.raises(UnavailableError):
            await client.pull(LIST)
    sizes: list[tuple[int, int]] = []

    def look(answer: Answer) -> None:
        if "/snapshots/" in answer.path:
            sizes.append((answer.status, len(answer.body)))

    (part,) = (relay.profile.folder / "downloads").glob("*.parquet")
    have = part.stat().st_size
    relay.attack = look
    async with Client(relay.profile) as client:
        (pulled,) = await client.pull(LIST)
    assert pulled.count == 1200
    assert have > 0
    assert [status for status, _ in sizes] == [206]
    async with Client(relay.federation.admin) as admin, asyncio.timeout(30):
        while (str(LIST), pulled.version) not in await _pulls(admin):
            await asyncio.sleep(0.05)


async def _damage(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


async def test_a_damaged_replica_is_found_and_healed(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never passed on; repaired from single buckets, each proven against the signed root."""
    await _with_snapshot(relay, monkeypatch)
    async with Client(relay.profile) as client:
        await client.pull(LIST)
        await _damage(
            relay.profile.replica_path,
            "UPDATE bucket SET data = CAST(substr(data, 1, 4) || zeroblob(32) ||"
            " substr(data, 37) AS BLOB) WHERE rowid IN (SELECT rowid FROM bucket LIMIT 2)",
        )
        found = await client.check(LIST, repair=False)
        assert (len(found.damaged), found.repaired) == (2, 0)
        with pytest.raises(ReplicaDamagedError):
            b"".join(client.export(LIST, Format.TXT))
        healed = await client.check(LIST, repair=True)
        assert (len(healed.damaged), healed.repaired) == (2, 2)
        assert (await client.check(LIST, repair=False)).damaged == []

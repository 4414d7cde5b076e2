"""Nothing is lost under load: writers and pollers together, on two servers of one database."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from hashshare.client import Client, Profile
from hashshare.domain.fold import Fold
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.members import Role
from hashshare.domain.names import MemberId, ViewId
from hashshare.domain.policy import Basis, DisputeReason
from hashshare.domain.records import AssertRecord, DisputeRecord, Record, WithdrawRecord
from hashshare.domain.statements import Operation
from hashshare.errors import VersionNotFoundError
from hashshare.http import Server
from hashshare.service import snapshots
from tests.support.federation import CSAM, Federation, copy_profile, run_beside

SHA256 = HashAlgorithm.SHA256
WRITERS = ("acme", "beta", "gamma")
SUBMISSIONS = 9
UNIVERSE = 4000
BIG = 1500
OPERATIONS = (Operation.ASSERT, Operation.WITHDRAW, Operation.DISPUTE)
"""What each writer may say; rulings are for reviewers."""


@dataclass
class Load:
    """What was submitted while others polled.

    Attributes:
        said: By place in the log: who said what.
        writing: How many writers are still at it.
    """

    said: dict[int, tuple[MemberId, list[Record]]] = field(default_factory=dict)
    writing: int = len(WRITERS)

    @property
    def size(self) -> int:
        """The log's size with the last of them."""
        return max(self.said) + 1

    def fold(self) -> Fold:
        """What they come to, by the plain rule."""
        fold = Fold()
        for index, (member, records) in sorted(self.said.items()):
            fold.apply(member, records, log_index=index)
        return fold


@pytest.fixture
async def beside(federation: Federation, dsn: str) -> AsyncIterator[Server]:
    """A second server; which of the two publishes is not known."""
    async with run_beside(federation, dsn) as server:
        yield server


def make_records(operation: Operation, numbers: list[int]) -> list[Record]:
    hashes = [{SHA256: random.Random(number).randbytes(32)} for number in numbers]
    if operation is Operation.WITHDRAW:
        return [WithdrawRecord("", each) for each in hashes]
    if operation is Operation.DISPUTE:
        return [DisputeRecord(each, DisputeReason.COLLISION) for each in hashes]
    return [AssertRecord("", each, "A1", None, Basis.REVIEWED) for each in hashes]


async def write(profile: Profile, load: Load, seed: int) -> None:
    """Submit small batches and some big ones; the same hashes as others, and the reverse of it."""
    source = random.Random(seed)
    async with Client(profile) as client:
        for number in range(SUBMISSIONS):
            is_big = number % 6 == seed % 6
            count = BIG if is_big else source.randint(1, 20)
            operation = Operation.ASSERT if is_big else source.choice(OPERATIONS)
            records = make_records(operation, source.sample(range(UNIVERSE), count))
            for pushed in await client.push("csam", records, operation=operation):
                kept = await client.records_of(pushed.statement_id)
                load.said[pushed.log_index] = (profile.member, kept)
    load.writing -= 1


async def poll(profile: Profile, load: Load, rest_seconds: float) -> list[int]:
    """Pull now and then, the last time when everything is published; return the versions seen."""
    seen = []
    async with Client(profile) as client, asyncio.timeout(120):
        while True:
            is_last = not load.writing
            if is_last:
                await until_published(client, load.size)
            pulled = await client.pull()
            seen.append(max((one.version for one in pulled), default=0))
            if is_last:
                return seen
            await asyncio.sleep(rest_seconds)


async def watch(profile: Profile, load: Load) -> None:
    """Follow each version, until everything is there."""
    async with Client(profile) as client, asyncio.timeout(120):
        async for pulled in client.watch():
            if load.writing or str(pulled.name) != "csam/confirmed/sha256":
                continue
            latest = (await client.latest("csam")).publication
            if latest.log_size >= load.size and pulled.version == latest.version:
                return


async def until_published(client: Client, log_size: int) -> None:
    while (await client.latest("csam")).publication.log_size < log_size:
        await asyncio.sleep(0.05)


async def compare(one: Profile, other: Profile, load: Load) -> int:
    """Ask both servers for the same things until the end; return how often they were compared."""
    compared = 0
    async with Client(one) as first, Client(other) as second:
        while load.writing:
            latest = (await first.latest("csam")).publication.version
            for version in range(max(1, latest - 2), latest + 1):
                for path in (
                    f"/v1/hash-sets/csam/publications/{version}",
                    f"/v1/lists/csam/all/sha256/deltas/{version // 2}/{version}",
                ):
                    ours, theirs = [await ask(each, path) for each in (first, second)]
                    assert ours == theirs
                    compared += 1
            await asyncio.sleep(0.2)
    return compared


async def ask(client: Client, path: str) -> bytes:
    try:
        _, body = await client.session.request("GET", path)
    except VersionNotFoundError:
        return b""
    return body


async def assert_holds_all(profile: Profile, load: Load) -> None:
    """Every list of the replica is what the fold says."""
    fold = load.fold()
    async with Client(profile) as client:
        await client.pull()
        with client.replica.reading() as reading:
            for name, view in CSAM.views.items():
                expected = fold.entries(view, SHA256, dict.fromkeys(map(MemberId, WRITERS), ""))
                held = {
                    value: attributes
                    for chunk in reading.entries(f"csam/{ViewId(name)}/sha256")
                    for value, attributes in chunk.entries()
                }
                assert held == expected, f"{profile.folder.name}, {name}"
                assert held or name == "confirmed"


async def test_nothing_is_lost_while_members_write_and_poll(
    federation: Federation, beside: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every replica, by whatever versions it came there, equals the fold of what was accepted."""
    monkeypatch.setattr(snapshots, "MIN_CHANGES", 200)
    await federation.join("gamma")
    reader = await federation.join("reader", (Role.READER,))
    second = beside.addresses.api_url
    writers = [
        federation.members["acme"],
        copy_profile(federation.members["beta"], "beta-2", api_url=second),
        federation.members["gamma"],
    ]
    pollers = [
        copy_profile(reader, f"reader-{number}", api_url=second if number % 2 else "")
        for number in range(6)
    ]
    load = Load()
    jobs = [write(profile, load, seed) for seed, profile in enumerate(writers)]
    rests = (0.0, 0.1, 0.4, 1.5)
    polls = [poll(*each) for each in zip(pollers, [load] * 4, rests, strict=False)]
    async with AsyncExitStack() as stack:
        watching = [asyncio.create_task(watch(profile, load)) for profile in pollers[4:]]
        for task in watching:
            stack.callback(task.cancel)
        comparing = (
            copy_profile(reader, "reader-a"),
            copy_profile(reader, "reader-b", api_url=second),
        )
        (*_, compared), seen = await asyncio.gather(
            asyncio.gather(*jobs, compare(*comparing, load)), asyncio.gather(*polls)
        )
        await asyncio.gather(*watching)
    assert len(load.said) >= SUBMISSIONS
    assert compared
    # They took different ways.
    assert len({len(set(versions)) for versions in seen}) > 1
    # One who has nothing yet, and those who followed, and the writers.
    fresh = copy_profile(reader, "reader-fresh", api_url=second)
    for profile in [*pollers, *writers, fresh]:
        await assert_holds_all(profile, load)


async def test_another_server_takes_over_publishing(federation: Federation, dsn: str) -> None:
    """When the one that published is gone, what was accepted is published all the same."""
    async with run_beside(federation, dsn) as beside:
        acme = federation.members["acme"]
        other = copy_profile(acme, "acme-2", api_url=beside.addresses.api_url)
        await federation.stop_publishing()
        async with Client(other) as client:
            (pushed,) = await client.push("csam", make_records(Operation.ASSERT, [1, 2, 3]))
            async with asyncio.timeout(30):
                await until_published(client, pushed.log_index + 1)
        # The server that publishes no more still serves what the other one published.
        async with Client(federation.members["beta"]) as client:
            pulled = {str(one.name): one.count for one in await client.pull()}
        assert pulled["csam/all/sha256"] == 3

"""A coalition with a member that pulls through a server that misbehaves."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from hashshare.client import Client
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.policy import Basis
from hashshare.domain.records import AssertRecord
from hashshare.errors import HashshareError
from hashshare.replica import Replica
from tests.support.federation import Federation
from tests.support.relay import Attack, Relay, run_relay

LIST = "csam/all/sha256"


def records(*numbers: int) -> list[AssertRecord]:
    """Made-up hashes, spread over the buckets."""
    return [
        AssertRecord(
            "",
            {HashAlgorithm.SHA256: n.to_bytes(2, "big") * 16},
            "A1",
            None,
            Basis.REVIEWED,
        )
        for n in numbers
    ]


@dataclass(slots=True)
class Scene:
    """A victim that holds a first version, and a server that has a second.

    Attributes:
        relay: Between the victim and the server.
    """

    federation: Federation
    relay: Relay

    async def push(self, *numbers: int) -> int:
        """Let another member push hashes; return the version that publishes them."""
        async with Client(self.federation.members["acme"]) as acme:
            (pushed,) = await acme.push("csam", records(*numbers))
        return await self.federation.published(pushed.log_index + 1)

    async def version(self) -> int:
        """Return the latest version that the server has."""
        version: int = await self.federation.pool.fetchval("SELECT max(version) FROM publication")
        return version

    async def refused(self, attack: Attack, error: type[HashshareError]) -> HashshareError:
        """Pull under attack: it is refused, changes nothing, and harms no later pull."""
        before = self.held()
        self.relay.attack = attack
        with pytest.raises(error) as caught:
            async with Client(self.relay.profile) as victim:
                await victim.pull()
        self.relay.attack = None
        assert self.held() == before
        async with Client(self.relay.profile) as victim:
            assert next(p for p in await victim.pull() if str(p.name) == LIST).count > 0
        return caught.value

    def held(self) -> tuple[object, ...]:
        """Return all that the victim's replica says."""
        path = self.relay.profile.replica_path
        if not path.exists():
            return ([], [None] * 2, [])
        with Replica.open(path, readonly=True) as replica, replica.reading() as reading:
            names = ("publication/csam", "log_index/csam")
            contents = (
                [list(chunk.entries()) for chunk in reading.entries(LIST)]
                if reading.find(LIST)
                else []
            )
            return (reading.lists(), [reading.get_state(name) for name in names], contents)


@pytest.fixture
async def stage(federation: Federation) -> AsyncIterator[Scene]:
    """The victim is beta, and nothing is pulled yet."""
    async with run_relay(federation, "beta") as relay:
        yield Scene(federation, relay)


@pytest.fixture
async def scene(stage: Scene) -> Scene:
    """The victim holds one version, and the next is there to be pulled."""
    await stage.push(1, 2, 3, 4)
    async with Client(stage.relay.profile) as victim:
        await victim.pull()
    await stage.push(5, 6, 7)
    return stage

"""The coalition's own keys are replaced, while its server runs and its members pull."""

import asyncio
from datetime import UTC, datetime

import pytest

from hashshare.client import Client, Profile
from hashshare.client.rotation import replace_publisher, rotate_governance
from hashshare.crypto.envelope import parse_envelope
from hashshare.crypto.keys import PrivateKey, read_private_key, write_private_key
from hashshare.domain.members import Member
from hashshare.domain.statements import PUBLICATION_TYPE
from hashshare.errors import KeyUnsafeError, NotFoundError, SignatureInvalidError, UnavailableError
from tests.client.test_faults import records
from tests.support.federation import Federation
from tests.support.hostile import genuine_leaves
from tests.support.relay import Answer, Relay, run_relay


def now() -> datetime:
    """This moment."""
    return datetime.now(UTC)


async def publish(federation: Federation, number: int) -> int:
    """Push a made-up hash, wait for its publication, pull it as another; return the version."""
    async with Client(federation.members["acme"]) as acme:
        (pushed,) = await acme.push("csam", records(number))
    version = await federation.published(pushed.log_index)
    async with Client(federation.members["beta"]) as beta:
        await beta.pull()
    return version


async def publisher_of_the_last(federation: Federation) -> str:
    """The key id that the newest publication is signed with."""
    envelopes = [parse_envelope(leaf) for leaf in await genuine_leaves(federation.pool)]
    last = [e for e in envelopes if e.payload_type == PUBLICATION_TYPE][-1]
    return last.signatures[0].key_id


async def change(profile: Profile, name: str) -> None:
    """Change the registry as an admin."""
    async with Client(profile) as client:
        await client.admin.put_member(name, Member(name=name), new=True, now=now())


def lose(relay: Relay, lost: str) -> None:
    """Lose the next version of the registry, or the answer to it."""
    step = "POST /v1/registry"

    def cut(answer: Answer) -> None:
        answer.cut = lost == "answer" and f"{answer.method} {answer.path}" == step

    relay.before = lambda method, path: lost != "request" or f"{method} {path}" != step
    relay.attack = cut


@pytest.mark.parametrize("lost", ["", "request", "answer"])
async def test_a_governance_key_is_replaced(federation: Federation, lost: str) -> None:
    """The new one governs from then on, the old one no more, whatever was lost on the way."""
    await publish(federation, 1)
    old = federation.admin.governance_key()
    federation.members["admin"] = federation.admin
    async with run_relay(federation, "admin") as relay:
        lose(relay, lost)
        async with Client(relay.profile) as client:
            if lost:
                client.session.attempts = 1
                with pytest.raises(UnavailableError):
                    await rotate_governance(client.admin, now=now())
                relay.attack, relay.before = None, lambda *_: True
            await rotate_governance(client.admin, now=now())
            registry = await client.admin.registry()
    assert registry.governance.keys == (federation.admin.governance_key().public.text,)
    assert old.public.text not in registry.governance.keys
    await change(federation.admin, "gamma")
    # Members who had seen the old one go on.
    await publish(federation, 2)

    path = federation.admin.folder / "keys/governance.pem"
    path.unlink()
    write_private_key(path, old)
    with pytest.raises(SignatureInvalidError):
        await change(federation.admin, "delta")
    async with Client(federation.admin) as client:
        with pytest.raises(NotFoundError, match="not among those that govern"):
            await rotate_governance(client.admin, now=now())


async def test_a_server_with_a_replaced_governance_key_waits(federation: Federation) -> None:
    """Its copy signs nothing more: who enrols waits for an admin, and is not turned away."""
    async with Client(federation.admin) as client:
        await rotate_governance(client.admin, now=now())
    await federation.join("gamma")
    async with Client(federation.admin) as client:
        pending = await client.admin.member("gamma")
        assert len(pending.pending_keys) == 1
        assert await client.admin.approve("gamma", now=now())


async def test_a_publisher_key_is_replaced(federation: Federation) -> None:
    """A running server goes on with the new one, and members pull before and after."""
    keys = federation.folder / "coalition/keys"
    before = await publish(federation, 1)
    old, new = read_private_key(keys / "publisher.pem").public, PrivateKey.generate()
    assert await publisher_of_the_last(federation) == old.key_id

    write_private_key(keys / "publisher-new.pem", new)
    # It is there, and signs nothing yet.
    assert await publish(federation, 2) > before
    assert await publisher_of_the_last(federation) == old.key_id
    async with Client(federation.admin) as client:
        assert await replace_publisher(client.admin, new.public, now=now())
        assert not await replace_publisher(client.admin, new.public, now=now())
    await publish(federation, 3)
    assert await publisher_of_the_last(federation) == new.public.key_id
    # A member that sees all of it only now believes what either signed in its place.
    await federation.join("late")
    async with Client(federation.members["late"]) as late:
        assert max(pulled.version for pulled in await late.pull()) > before


async def test_a_publisher_without_its_new_key_publishes_nothing(federation: Federation) -> None:
    """The old one is out at once; what was submitted meanwhile is published with the new one."""
    keys = federation.folder / "coalition/keys"
    version, new = await publish(federation, 1), PrivateKey.generate()
    async with Client(federation.admin) as client:
        await replace_publisher(client.admin, new.public, now=now())
    async with Client(federation.members["acme"]) as acme:
        (pushed,) = await acme.push("csam", records(2))
    await asyncio.sleep(1.5)
    newest = "SELECT max(version) FROM publication"
    assert await federation.pool.fetchval(newest) == version

    write_private_key(keys / "publisher-new.pem", new)
    assert await federation.published(pushed.log_index) == version + 1


async def test_a_key_of_another_purpose_publishes_nothing(federation: Federation) -> None:
    """No key is listed twice: governance would speak for the publisher."""
    governance = federation.admin.governance_key().public
    async with Client(federation.admin) as client:
        with pytest.raises(KeyUnsafeError):
            await replace_publisher(client.admin, governance, now=now())

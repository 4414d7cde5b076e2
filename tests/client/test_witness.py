"""Witnesses: what they sign, what they refuse, and what members demand of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hashshare.client import Client, Profile
from hashshare.client.session import Session
from hashshare.crypto.keys import PrivateKey
from hashshare.crypto.note import Checkpoint, SignedText, parse_note, sign_checkpoint
from hashshare.crypto.policy import NamedWitness
from hashshare.errors import (
    EquivocationError,
    FreezeError,
    KeyUnsafeError,
    MixAndMatchError,
    NotFoundError,
    PermissionDeniedError,
    QuorumMissingError,
    RollbackError,
    SignatureInvalidError,
    VerificationError,
)
from hashshare.wire.lists import CosignedDocument
from hashshare.witness.loop import WitnessLoop, make_key, open_logbook, witness_of
from tests.client.test_faults import records
from tests.support.federation import Federation
from tests.support.hostile import HostileLog, altered_publication, genuine_leaves
from tests.support.relay import Answer, run_relay

NAMES = ("acme", "beta", "gamma", "delta")


@pytest.fixture
async def coalition(federation: Federation) -> Federation:
    """Four members, each a witness; three of them must cosign."""
    for name in NAMES[2:]:
        await federation.join(name)
    await push(federation.members["acme"], 1)
    policy = ""
    for name in NAMES:
        verifier = make_key(federation.members[name])
        async with Client(federation.admin) as admin:
            policy = await admin.admin.add_witness(
                NamedWitness(name, verifier), None, now=datetime.now(UTC)
            )
    assert "group witnesses 3 acme beta gamma delta" in policy
    return federation


async def push(profile: Profile, *numbers: int) -> None:
    """Push made-up hashes."""
    async with Client(profile) as client:
        await client.push("csam", records(*numbers))


@asynccontextmanager
async def witness(profile: Profile) -> AsyncIterator[WitnessLoop]:
    """A member's witness, from where it was."""
    logbook = open_logbook(profile)
    async with Session.of(profile) as session:
        yield WitnessLoop(profile, session, logbook)
    logbook.close()


async def cosign(federation: Federation, *names: str) -> None:
    """Let witnesses do one step each."""
    for name in names:
        async with witness(federation.members[name]) as loop:
            await loop.step()


async def settled(federation: Federation, *names: str) -> None:
    """Let witnesses go on until what is pushed is published, and they have seen it."""
    await federation_published(federation)
    await cosign(federation, *names)


async def federation_published(federation: Federation) -> None:
    """Wait until every submission is covered by a publication."""
    query = """
        SELECT (SELECT max(log_index) FROM submission)
             < (SELECT max(log_size) FROM publication)
    """
    async with asyncio.timeout(30):
        while not await federation.pool.fetchval(query):
            await asyncio.sleep(0.05)


async def held(profile: Profile) -> int:
    """Pull, and return how many hashes are held."""
    async with Client(profile) as client:
        pulled = await client.pull()
        return next(p.count for p in pulled if str(p.name) == "csam/all/sha256")


async def test_members_are_shown_what_a_quorum_has_seen(coalition: Federation) -> None:
    """Two of four are too few, three are enough; a fourth changes nothing."""
    reader = coalition.members["delta"]
    await settled(coalition, "acme", "beta", "gamma")
    before = await held(reader)
    await push(coalition.members["acme"], 2)
    await settled(coalition, "acme", "beta")
    assert await held(reader) == before
    await cosign(coalition, "gamma")
    assert await held(reader) == before + 1
    await cosign(coalition, "delta")
    async with Client(reader) as client:
        position = await client.follow()
        assert position.seen_at is not None
        assert datetime.now(UTC) - position.seen_at < timedelta(minutes=1)


async def test_witnesses_of_a_busy_log_agree_on_a_size(coalition: Federation) -> None:
    """Though it grows between one and the next: all are offered the one that was begun."""
    await settled(coalition, "acme")
    await push(coalition.members["acme"], 2)
    await cosign(coalition, "beta")
    await push(coalition.members["acme"], 3)
    await cosign(coalition, "gamma")
    async with Client(coalition.members["delta"]) as client:
        assert (await client.follow()).seen_at is not None


async def test_an_admin_can_act_while_witnesses_are_away(coalition: Federation) -> None:
    """And replace those that do not come back."""
    await settled(coalition, "acme", "beta", "gamma")
    async with Client(coalition.admin) as admin:
        now = datetime.now(UTC)
        await admin.admin.remove_witness("gamma", None, now=now)
        await admin.admin.remove_witness("delta", 2, now=now)
        with pytest.raises(NotFoundError):
            await admin.admin.remove_witness("delta", None, now=now)
    await cosign(coalition, "acme", "beta")
    assert await held(coalition.members["gamma"]) == 1


async def test_a_server_without_a_quorum_is_not_believed(coalition: Federation) -> None:
    """It shows a longer log, well signed, that witnesses have not seen."""
    await settled(coalition, "acme", "beta", "gamma")
    await push(coalition.members["acme"], 2)
    await settled(coalition, "acme", "beta")
    async with run_relay(coalition, "delta") as relay:
        relay.attack = HostileLog(relay.log, await genuine_leaves(coalition.pool))
        with pytest.raises(QuorumMissingError):
            await held(relay.profile)


async def test_a_split_view_needs_the_witnesses(coalition: Federation) -> None:
    """A fork for one member alone: no witness cosigns it, and its log is refused."""
    # The last leaf is then a publication, and not the registry that names the witnesses.
    await push(coalition.members["acme"], 2)
    await settled(coalition, "acme", "beta", "gamma")
    async with run_relay(coalition, "delta") as relay:
        log = HostileLog(relay.log, await genuine_leaves(coalition.pool))
        log.leaves[-1] = altered_publication(
            log.leaves[-1], relay.publisher, created_at="2020-01-01T00:00:00Z"
        )
        relay.attack = log
        with pytest.raises(VerificationError):
            await held(relay.profile)
    async with run_relay(coalition, "acme") as relay:
        relay.attack = _pending(log)
        async with witness(relay.profile) as loop:
            with pytest.raises(EquivocationError):
                await loop.step()


def _pending(log: HostileLog) -> HostileLog:
    def answer(given: Answer) -> None:
        given.status, given.headers, given.body = 200, {}, log.note()

    log.lies["/v1/log/checkpoint/pending"] = answer
    return log


async def test_freeze(coalition: Federation) -> None:
    """What was true is shown for ever: the witnesses' times tell, first with a warning."""
    await settled(coalition, "acme", "beta", "gamma")
    reader = coalition.members["delta"]
    hour = timedelta(hours=1)
    patient = replace(reader, warn_after=-hour, stop_after=hour)
    async with Client(patient) as client:
        await client.pull()
        assert client.old_since is not None
    with pytest.raises(FreezeError):
        await held(replace(reader, warn_after=-hour, stop_after=-hour))
    async with Client(reader) as client:
        await client.pull()
        assert client.old_since is None


async def test_a_log_that_rests_is_confirmed_again(coalition: Federation) -> None:
    """After some minutes, and not at each step."""
    await settled(coalition, "acme", "beta", "gamma")
    async with witness(coalition.members["acme"]) as loop:
        assert await loop.step() is not None
        assert await loop.step() is None
        later = datetime.now(UTC) + timedelta(minutes=11)
        loop.clock = lambda: later
        assert await loop.step() is not None


async def test_a_witness_never_goes_back(coalition: Federation) -> None:
    """Started again, it remembers; a log that is shorter is not cosigned."""
    await settled(coalition, "acme")
    old = await genuine_leaves(coalition.pool)
    await push(coalition.members["acme"], 2)
    await settled(coalition, "acme")
    async with run_relay(coalition, "acme") as relay:
        log = _pending(HostileLog(relay.log, old[:-1]))

        def refuse(answer: Answer) -> None:
            answer.status, answer.body = 404, b""

        log.lies["/v1/log/consistency"] = refuse
        relay.attack = log
        async with witness(relay.profile) as loop:
            with pytest.raises(RollbackError):
                await loop.step()
    assert not any("cosignatures" in request for request in relay.requests)


async def _send(profile: Profile, note: bytes) -> None:
    async with Session.of(profile) as session:
        await session.send("POST", "/v1/log/cosignatures", note, CosignedDocument)


async def test_what_the_server_keeps(coalition: Federation) -> None:
    """Only what a witness of the policy has signed, of a checkpoint that the log had."""
    profile = coalition.members["acme"]
    async with Session.of(profile) as session:
        _, note = await session.request("GET", "/v1/log/checkpoint/pending")
    parsed = parse_note(note)
    ours = witness_of(profile)
    now = datetime.now(UTC)
    stranger = replace(ours, key=PrivateKey.generate())
    with pytest.raises(PermissionDeniedError):
        await _send(profile, note)
    line = stranger.cosign(parsed.text, now=now)
    with pytest.raises(PermissionDeniedError):
        await _send(profile, SignedText(parsed.text, (*parsed.signatures, line)).encode())
    posing = replace(line, key_id=ours.verifier.key_id)
    with pytest.raises(SignatureInvalidError):
        await _send(profile, SignedText(parsed.text, (*parsed.signatures, posing)).encode())
    async with run_relay(coalition, "acme") as relay:
        forked = sign_checkpoint(Checkpoint(relay.log.name, 3, b"\x01" * 32), relay.log)
    text = parse_note(forked).text
    with pytest.raises(MixAndMatchError):
        await _send(profile, SignedText(text, (ours.cosign(text, now=now),)).encode())


async def test_a_witness_key_is_used_for_nothing_else(coalition: Federation) -> None:
    """Neither twice in the policy, nor as a member's submission key."""
    admin_profile, now = coalition.admin, datetime.now(UTC)
    again = NamedWitness("again", make_key(coalition.members["acme"]))
    submitting = witness_of(coalition.members["acme"])
    submission = replace(submitting, key=coalition.members["acme"].submission_key())
    async with Client(admin_profile) as admin:
        for witness_ in (again, NamedWitness("other", submission.verifier)):
            with pytest.raises(KeyUnsafeError):
                await admin.admin.add_witness(witness_, None, now=now)


async def test_without_a_key_there_is_no_witness(federation: Federation) -> None:
    """And the error says what to do."""
    async with witness(federation.members["acme"]) as loop:
        with pytest.raises(NotFoundError, match="hashshare witness key"):
            await loop.step()

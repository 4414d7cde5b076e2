"""Auditors vouch for what they replayed: what it takes, what it says, and what it never does."""

import asyncio
import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hashshare.client import Client, Profile
from hashshare.client.audited import Audited, auditor_of, cosign_report, make_auditor_key
from hashshare.client.findings import Report
from hashshare.client.session import Session
from hashshare.crypto.keys import PrivateKey
from hashshare.crypto.note import SignedText, parse_checkpoint, parse_note, sign_checkpoint
from hashshare.crypto.policy import NamedWitness
from hashshare.domain.members import Role
from hashshare.errors import (
    ConflictError,
    EquivocationError,
    KeyUnsafeError,
    MalformedError,
    NotFoundError,
    PermissionDeniedError,
    QuorumMissingError,
    SignatureInvalidError,
)
from hashshare.wire.lists import AuditDocument, AuditList, CosignedDocument
from hashshare.witness.loop import WitnessLoop, make_key, open_logbook
from tests.client.test_audit import PUT_WORDS_INTO_THE_MOUTH_OF_BETA
from tests.client.test_faults import records
from tests.support.federation import Federation
from tests.support.hostile import HostileLog, genuine_leaves
from tests.support.relay import Answer, Attack, run_relay


@pytest.fixture
async def coalition(federation: Federation) -> Federation:
    """With something published, and an auditor that the policy lists."""
    watch = await federation.join("watch", (Role.AUDITOR,))
    await list_auditor(federation, watch)
    await push(federation, "acme", 1, 2)
    return federation


async def list_auditor(federation: Federation, profile: Profile) -> str:
    """Have an admin list a member's auditor; return the policy."""
    verifier = make_auditor_key(profile)
    async with Client(federation.admin) as admin:
        witness = NamedWitness(verifier.name, verifier)
        return await admin.admin.add_auditor(witness, now=datetime.now(UTC))


async def push(federation: Federation, member: str, *numbers: int) -> None:
    """Push made-up hashes, and wait until they are published."""
    async with Client(federation.members[member]) as client:
        (pushed,) = await client.push("csam", records(*numbers))
    # Asked of the database: members may have to wait for witnesses.
    covered = "SELECT coalesce(max(log_size), 0) FROM publication"
    async with asyncio.timeout(60):
        while await federation.pool.fetchval(covered) <= pushed.log_index:
            await asyncio.sleep(0.05)


async def vouch(profile: Profile, *, at: datetime | None = None) -> Report:
    """Audit, and vouch for it."""
    async with Client(profile) as client:
        report = await client.auditor.audit()
        now = at or datetime.now(UTC)
        await cosign_report(auditor_of(profile), client.session, report, now=now)
        return report


async def shown(profile: Profile) -> list[Audited]:
    """Return what a member is shown."""
    async with Client(profile) as client:
        await client.follow()
        return await client.audits()


async def kept(federation: Federation) -> int:
    """Return how many audits the server keeps."""
    count: int = await federation.pool.fetchval("SELECT count(*) FROM audit_cosignature")
    return count


async def test_an_auditor_vouches_for_what_it_replayed(coalition: Federation) -> None:
    """Every member is shown it, also when the log has grown since."""
    watch, acme = coalition.members["watch"], coalition.members["acme"]
    assert await shown(acme) == []
    report = await vouch(watch)
    (audited,) = await shown(acme)
    assert (audited.auditor, audited.checkpoint.size) == ("watch/audit", report.size)
    assert audited.checkpoint.root.hex() == report.root
    assert datetime.now(UTC) - audited.at < timedelta(minutes=1)
    await push(coalition, "beta", 3)
    assert await shown(acme) == [audited]
    later = await vouch(watch)
    assert [a.checkpoint.size for a in await shown(acme)] == [later.size]
    assert later.size > report.size


async def test_an_audit_that_finds_a_difference_is_not_vouched_for(coalition: Federation) -> None:
    """Nor one that saw not all: a cosignature says that every publication was compared."""
    acme = coalition.members["acme"]
    await push(coalition, "beta", 3)
    await list_auditor(coalition, acme)
    with pytest.raises(ConflictError):
        await vouch(acme)
    await coalition.pool.execute(PUT_WORDS_INTO_THE_MOUTH_OF_BETA)
    async with Client(acme) as client:
        again = [replace(r, classification="A2") for r in records(1, 2)]
        (pushed,) = await client.push("csam", again)
    await coalition.published(pushed.log_index + 1)
    with pytest.raises(ConflictError):
        await vouch(coalition.members["watch"])
    assert await kept(coalition) == 0


async def test_who_vouches_is_for_governance_to_say(coalition: Federation) -> None:
    """Not listed, without a key, or listed no more: nothing of it is kept, or shown."""
    admin, watch = coalition.admin, coalition.members["watch"]
    with pytest.raises(NotFoundError, match="witness key --auditor"):
        await vouch(admin)
    make_auditor_key(admin)
    with pytest.raises(PermissionDeniedError):
        await vouch(admin)
    await vouch(watch)
    async with Client(admin) as client:
        await client.admin.remove_witness("watch/audit", None, now=datetime.now(UTC))
        with pytest.raises(NotFoundError):
            await client.admin.remove_witness("watch/audit", None, now=datetime.now(UTC))
    assert await shown(coalition.members["acme"]) == []


async def test_no_quorum_counts_an_auditor(coalition: Federation) -> None:
    """It neither takes a witness's place, nor is anything offered to witnesses because of it."""
    watch, acme = coalition.members["watch"], coalition.members["acme"]
    policy = ""
    async with Client(coalition.admin) as admin:
        for name in ("acme", "beta"):
            witness = NamedWitness(name, make_key(coalition.members[name]))
            policy = await admin.admin.add_witness(witness, 1, now=datetime.now(UTC))
    assert "group witnesses 1 acme beta\ngroup auditors any watch/audit\nquorum witnesses" in policy
    # Who is listed or struck off as an auditor changes nothing of how many witnesses it takes.
    await list_auditor(coalition, acme)
    async with Client(coalition.admin) as admin:
        policy = await admin.admin.remove_witness("acme/audit", None, now=datetime.now(UTC))
    assert "group witnesses 1 acme beta\n" in policy
    with closing(open_logbook(acme)) as logbook:
        async with Session.of(acme) as session:
            before = await WitnessLoop(acme, session, logbook).step()
    assert before is not None
    await push(coalition, "beta", 3)
    async with Session.of(watch) as session:
        _, note = await session.request("GET", "/v1/log/checkpoint/newest")
        line = auditor_of(watch).cosign(parse_note(note).text, now=datetime.now(UTC))
        signed = SignedText(parse_note(note).text, (line,)).encode()
        await session.send("POST", "/v1/log/cosignatures", signed, CosignedDocument)
        _, offered = await session.request("GET", "/v1/log/checkpoint")
        assert parse_checkpoint(parse_note(offered).text) == before
    kept_for_witnesses = "SELECT count(*) FROM cosignature WHERE cosigner LIKE 'watch/audit %'"
    assert await coalition.pool.fetchval(kept_for_witnesses) == 0
    async with run_relay(coalition, "acme") as relay:

        def lengthen(answer: Answer) -> None:
            if answer.path == "/v1/log/checkpoint":
                answer.body = note + f"{line}\n".encode()

        relay.attack = lengthen
        async with Client(relay.profile) as client:
            with pytest.raises(QuorumMissingError):
                await client.follow()


async def test_an_auditors_key_is_used_for_nothing_else(coalition: Federation) -> None:
    """Else a witness would be taken for an auditor: neither may be added with the other's key."""
    watch, now = coalition.members["watch"], datetime.now(UTC)
    audits = auditor_of(watch).verifier
    async with Client(coalition.admin) as admin:
        for name in ("watch", "other"):
            with pytest.raises(KeyUnsafeError):
                await admin.admin.add_witness(NamedWitness(name, audits), None, now=now)
        submits = replace(auditor_of(watch), key=coalition.members["acme"].submission_key())
        with pytest.raises(KeyUnsafeError):
            await admin.admin.add_auditor(NamedWitness("acme/audit", submits.verifier), now=now)
        with pytest.raises(MalformedError):
            fresh = replace(auditor_of(watch), key=PrivateKey.generate()).verifier
            await admin.admin.add_auditor(NamedWitness("watch/audit", fresh), now=now)


async def test_an_audit_that_is_sent_again(coalition: Federation) -> None:
    """An earlier one takes no later one's place."""
    watch, now = coalition.members["watch"], datetime.now(UTC).replace(microsecond=0)
    await vouch(watch, at=now)
    await vouch(watch, at=now - timedelta(days=7))
    (audited,) = await shown(coalition.members["acme"])
    assert audited.at == now


async def test_audits_that_a_server_makes_up(coalition: Federation) -> None:
    """For more leaves, by a stranger, or of a fork: each is refused, and a fork is kept."""
    watch = coalition.members["watch"]
    await vouch(watch)
    async with run_relay(coalition, "acme") as relay:
        leaves = await genuine_leaves(coalition.pool)
        more = HostileLog(relay.log, [*leaves, b"more"])
        fork = HostileLog(relay.log, [*leaves[:-1], b"another"])
        now = datetime.now(UTC)
        genuine = auditor_of(watch)
        stranger = replace(genuine, key=PrivateKey.generate())
        posing = replace(
            stranger.cosign(more.checkpoint().text(), now=now), key_id=genuine.verifier.key_id
        )
        by_stranger = sign_checkpoint(more.checkpoint(), relay.log) + f"{posing}\n".encode()
        # The auditor itself was shown a fork, and is honest.
        line = genuine.cosign(fork.checkpoint().text(), now=now)
        of_fork = sign_checkpoint(fork.checkpoint(), relay.log) + f"{line}\n".encode()
        relay.attack = _showing(by_stranger)
        with pytest.raises(SignatureInvalidError):
            await shown(relay.profile)
        relay.attack = _showing(of_fork)
        with pytest.raises(EquivocationError) as raised:
            await shown(relay.profile)
        (evidence,) = relay.profile.folder.glob("evidence-*.json")
        assert any(str(evidence) in text for text in raised.value.__notes__)
        assert len(json.loads(evidence.read_text())["notes"]) == 2


def _showing(note: bytes) -> Attack:
    document = AuditDocument(auditor="watch/audit", note=note.decode())

    def attack(answer: Answer) -> None:
        if answer.path == "/v1/log/audits":
            answer.body = AuditList(audits=[document]).encode()

    return attack

"""The member's own chain, its keys, and what members compare with each other."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hashshare.client import Client, Profile
from hashshare.crypto.keys import PrivateKey, prove_possession, read_private_key
from hashshare.crypto.note import Checkpoint, NoteSigner, sign_checkpoint
from hashshare.errors import (
    EquivocationError,
    KeyUnsafeError,
    MalformedError,
    NotFoundError,
    SignatureInvalidError,
    UnavailableError,
)
from hashshare.wire.members import SubmissionKeyDone, SubmissionKeyRequest
from tests.client.test_faults import records
from tests.support.federation import Federation
from tests.support.hostile import HostileLog, genuine_leaves
from tests.support.relay import Answer, Relay, run_relay


def log_of(federation: Federation) -> NoteSigner:
    """The log's signer."""
    with_trust = federation.members["acme"]
    return NoteSigner(
        with_trust.trust.log, read_private_key(federation.folder / "coalition/keys/log.pem")
    )


async def push(profile: Profile, *numbers: int) -> int:
    """Push, and return the log index."""
    async with Client(profile) as client:
        (pushed,) = await client.push("csam", records(*numbers))
        return pushed.log_index


@pytest.mark.parametrize("lost", ["", "request", "answer"])
async def test_a_submission_key_is_replaced(federation: Federation, lost: str) -> None:
    """The new one signs from now on, the old one nothing more, and all of it is the member's."""
    async with run_relay(federation, "acme") as relay:
        before = await push(relay.profile, 1)
        old = relay.profile.submission_key().public
        _lose(relay, "POST /v1/submission-keys", lost)
        async with Client(relay.profile) as client:
            if lost:
                client.session.attempts = 1
                with pytest.raises(UnavailableError):
                    await client.replace_submission_key()
                relay.attack, relay.before = None, lambda *_: True
            assert await client.replace_submission_key()
            assert relay.profile.submission_key().public != old
            after = await push(relay.profile, 2)
            await client.pull()
            own = [s.log_index for s in client.chain.submissions()]
            assert own == [before, after]
            registry = await client.admin.registry()
        assert old.text in registry.members["acme"].retired_keys
        assert len(registry.members["acme"].submission_keys) == 1


def _lose(relay: Relay, step: str, lost: str) -> None:
    def reaches(method: str, path: str) -> bool:
        return lost != "request" or f"{method} {path}" != step

    def cut(answer: Answer) -> None:
        answer.cut = lost == "answer" and f"{answer.method} {answer.path}" == step

    relay.before, relay.attack = reaches, cut


async def test_a_retired_key_submits_nothing_more(federation: Federation) -> None:
    """An admin cuts it off; the member enrols another, and what was said stays."""
    acme = federation.members["acme"]
    await push(acme, 1)
    async with Client(federation.admin) as admin:
        await admin.admin.retire_key(
            "acme", acme.submission_key().public.text, reason="stolen", now=datetime.now(UTC)
        )
        with pytest.raises(NotFoundError):
            await admin.admin.retire_key("acme", "x", reason="again", now=datetime.now(UTC))
    with pytest.raises(SignatureInvalidError):
        await push(acme, 2)
    # Nor does it consent to another: whoever stole it would.
    async with Client(acme) as client, Client(federation.admin) as admin:
        assert not await client.replace_submission_key()
        await admin.admin.approve("acme", now=datetime.now(UTC))
        assert await client.replace_submission_key()
    await push(acme, 2)


async def test_a_stolen_certificate_replaces_no_submission_key(federation: Federation) -> None:
    """Stealing one is not stealing the other: the old key has to consent."""
    acme = federation.members["acme"]
    genuine, thiefs = acme.submission_key().public, PrivateKey.generate()
    async with Client(acme) as client:
        for consenting in (thiefs, federation.members["beta"].submission_key()):
            request = SubmissionKeyRequest(
                old=genuine.text,
                new=thiefs.public.text,
                consent=_proof(acme, consenting, thiefs.public.key_id),
                possession=_proof(acme, thiefs, acme.certificate().fingerprint),
            )
            with pytest.raises(KeyUnsafeError):
                await client.session.send("POST", "/v1/submission-keys", request, SubmissionKeyDone)
    async with Client(federation.admin) as admin:
        assert (await admin.admin.member("acme")).pending_keys == []
        registry = await admin.admin.registry()
    assert registry.members["acme"].submission_keys == (genuine.text,)


def _proof(profile: Profile, key: PrivateKey, context: str) -> bytes:
    return prove_possession(key, member=profile.member, origin=profile.trust.log, context=context)


async def test_a_lost_logbook_is_read_again(federation: Federation) -> None:
    """From the first leaf on; the receipts still tell what must be there."""
    acme = federation.members["acme"]
    await push(acme, 1)
    async with Client(acme) as client:
        size = (await client.follow()).history.size
    acme.logbook_path.unlink()
    async with Client(acme) as client:
        await client.pull()
        assert client.chain.submissions()
        assert (await client.follow()).history.size >= size


async def test_members_compare_what_they_were_shown(federation: Federation, tmp_path: Path) -> None:
    """Checkpoints of different sizes are of one history, or both are kept."""
    acme, beta = federation.members["acme"], federation.members["beta"]
    notes = []
    for profile, number in ((acme, 1), (beta, 2)):
        await push(profile, number)
        async with Client(profile) as client:
            await client.follow()
            (own,) = client.comparison.own()
            notes.append(own)
    file = tmp_path / "acme.checkpoint"
    file.write_bytes(notes[0].note)
    async with Client(beta) as client:
        comparison = client.comparison
        theirs = await comparison.read(str(file))
        here = await comparison.read(beta.api_url)
        ordered = await comparison.verify([*comparison.own(), *theirs, *here])
        assert [s.checkpoint for s in ordered][:2] == [n.checkpoint for n in notes]

        forked = Checkpoint(beta.trust.log, ordered[0].checkpoint.size, b"\x01" * 32)
        file.write_bytes(sign_checkpoint(forked, log_of(federation)))
        with pytest.raises(EquivocationError) as caught:
            await comparison.verify([*comparison.own(), *await comparison.read(str(file))])
    path = caught.value.__notes__[-1].removeprefix("evidence: ")
    assert len(json.loads(Path(path).read_text())["notes"]) == 2
    # The evidence itself is something to compare: another member comes to the same.
    async with Client(acme) as client:
        with pytest.raises(EquivocationError):
            await client.comparison.verify(await client.comparison.read(path))


async def test_a_split_view_is_found_by_comparing(federation: Federation) -> None:
    """Two members are shown two logs of different lengths; neither alone could tell."""
    acme, beta = federation.members["acme"], federation.members["beta"]
    await push(acme, 1)
    async with Client(acme) as client:
        await client.follow()
        (shown,) = client.comparison.own()
    async with run_relay(federation, "beta") as relay:
        leaves = await genuine_leaves(federation.pool)
        relay.attack = HostileLog(relay.log, leaves[:-2])
        async with Client(replace(relay.profile, folder=beta.folder)) as client:
            await client.follow()
            size = (await client.comparison.verify(client.comparison.own()))[0].checkpoint.size
            assert size < shown.checkpoint.size
            relay.attack = HostileLog(relay.log, [*leaves[:-2], leaves[-3], leaves[-1], leaves[-1]])
            with pytest.raises(EquivocationError):
                await client.comparison.verify([*client.comparison.own(), shown])


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 1000, b'{"notes":[]}', b'{"notes":[1]}'])
async def test_a_file_that_is_no_checkpoint(
    federation: Federation, tmp_path: Path, content: bytes
) -> None:
    """Says so."""
    file = tmp_path / "file"
    file.write_bytes(content)
    async with Client(federation.members["acme"]) as client:
        with pytest.raises(MalformedError):
            await client.comparison.read(str(file))
        with pytest.raises(NotFoundError):
            await client.comparison.read(str(tmp_path / "absent"))


async def test_a_checkpoint_by_nobody_is_not_compared(
    federation: Federation, tmp_path: Path
) -> None:
    """Anybody could have made it."""
    file = tmp_path / "file"
    signer = NoteSigner(federation.members["acme"].trust.log, PrivateKey.generate())
    file.write_bytes(sign_checkpoint(Checkpoint(signer.name, 1, bytes(32)), signer))
    async with Client(federation.members["acme"]) as client:
        with pytest.raises(SignatureInvalidError):
            await client.comparison.read(str(file))


async def test_a_profile_on_two_machines(federation: Federation) -> None:
    """Each hears of what the other has submitted, and adopts it once."""
    acme = federation.members["acme"]
    shutil.copytree(acme.folder, federation.folder / "second")
    second = replace(acme, folder=federation.folder / "second")
    await push(second, 1)
    async with Client(acme) as client:
        await client.follow()
        for stranger in client.chain.strangers():
            client.chain.adopt(stranger.statement_id)
        await client.verify_chain()
        with pytest.raises(NotFoundError):
            client.chain.adopt("ab" * 32)

"""The log's key and the CA are replaced while members, witnesses and the server go on."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hashshare.cli import server_certificate
from hashshare.cli.ceremony import TARGETS_KEY
from hashshare.client import Client, Profile
from hashshare.client.enrol import enrol
from hashshare.client.session import Session
from hashshare.crypto.certificates import Authority, Issued, new_tls_key
from hashshare.crypto.keys import KeyFiles, PrivateKey, read_private_key, write_private_key
from hashshare.crypto.note import Checkpoint, NoteSigner, parse_note, sign_checkpoint
from hashshare.errors import (
    ConflictError,
    HashshareError,
    NotFoundError,
    SignatureInvalidError,
    UnavailableError,
)
from hashshare.service.authorities import Authorities
from tests.cli.test_commands import sh
from tests.client.test_faults import records
from tests.client.test_witness import witness
from tests.support import est
from tests.support.federation import Federation
from tests.support.relay import Answer, run_relay
from tests.support.rooted import Rooted, keep


@pytest.fixture
def rooted(federation: Federation) -> Rooted:
    """The coalition's trust root, as ``init`` makes it."""
    return Rooted(federation.folder / "coalition")


async def done(*words: object, profile: Path | None = None) -> dict[str, object]:
    """Run a command that must succeed; what it says as JSON."""
    result = await sh(*words, "--json", profile=profile)
    assert result.code == 0, result.err
    found: dict[str, object] = json.loads(result.out.splitlines()[-1])
    return found


async def put_in_force(rooted: Rooted, *options: object) -> None:
    """Propose, sign and publish a trust document, by the commands."""
    await done("trust", "propose", rooted.folder, *options)
    draft = rooted.folder / "trust/drafts/targets.json"
    await done("trust", "sign", draft, "--key", rooted.folder / "keys" / TARGETS_KEY)
    await done("trust", "publish", rooted.folder)


async def checkpoint(session: Session) -> bytes:
    """The note that members are shown."""
    return (await session.request("GET", "/v1/log/checkpoint"))[1]


async def signed_by(session: Session) -> int:
    """How many keys sign it."""
    return len(parse_note(await checkpoint(session)).signatures)


async def test_the_key_of_the_log_is_replaced_while_all_go_on(
    federation: Federation, rooted: Rooted
) -> None:
    """Before, during and after; one that looked within the hour, and one that never did."""
    acme, beta = federation.members["acme"], federation.members["beta"]
    async with Client(acme) as running, Client(beta) as away:
        await running.push("csam", records(1))
        await running.pull()
        await away.pull()
        assert await signed_by(running.session) == 1
        key = (await done("rotate", "log-key", rooted.folder))["log_key"]
        assert await signed_by(running.session) == 2
        (pushed,) = await running.push("csam", records(2))
        await federation.published(pushed.log_index + 1)
        await running.pull()
        assert (await sh("rotate", "log-key", rooted.folder, "--retire")).code == 1
        await put_in_force(rooted, "--log-key", key)
        assert rooted.trust().log_key == key
        assert running.profile.trust.log_key != key
        assert (await keep(Profile.load(acme.folder))).log_key == key
        assert (await done("rotate", "log-key", rooted.folder, "--retire"))["log_key"] == key
        assert await signed_by(running.session) == 1
        # Its receipt is under a key that it has not heard of.
        (pushed,) = await running.push("csam", records(3))
        await federation.published(pushed.log_index + 1)
        for client in (running, away):
            await client.pull()
            assert client.profile.trust == rooted.trust()
            assert Profile.load(client.profile.folder).trust == rooted.trust()


async def test_a_key_that_was_replaced_signs_no_news(
    federation: Federation, rooted: Rooted
) -> None:
    """Whoever stole it can neither show members a log with it, nor stop the server."""
    former = read_private_key(rooted.folder / "keys/log.pem")
    key = (await done("rotate", "log-key", rooted.folder))["log_key"]
    await put_in_force(rooted, "--log-key", key)
    await done("rotate", "log-key", rooted.folder, "--retire")
    thief = NoteSigner(rooted.trust().log, former)
    forged = sign_checkpoint(Checkpoint(thief.name, 1_000, b"\x01" * 32), thief)
    async with Client(federation.members["acme"]) as client:
        await client.pull()
        with pytest.raises(SignatureInvalidError):
            await client.session.request("POST", "/v1/log/checkpoint", body=forged)
        await client.push("csam", records(1))

    def show(answer: Answer) -> None:
        if answer.path.startswith("/v1/log/checkpoint"):
            answer.body = forged

    async with run_relay(federation, "acme") as relay:
        relay.profile = replace(Profile.load(relay.profile.folder), api_url=relay.profile.api_url)
        relay.attack = show
        async with Client(relay.profile) as client:
            with pytest.raises(SignatureInvalidError):
                await client.pull()


async def test_witnesses_follow_the_logs_new_key(federation: Federation, rooted: Rooted) -> None:
    """The one that was running, and what the registry tells others."""
    acme = federation.members["acme"]
    verifier = (await done("witness", "key", profile=acme.folder))["key"]
    await done("witness", "add", "acme", verifier, profile=federation.admin.folder)
    async with witness(acme) as loop, Client(federation.members["beta"]) as reader:
        await loop.step()
        await reader.pull()
        key = (await done("rotate", "log-key", rooted.folder))["log_key"]
        await put_in_force(rooted, "--log-key", key)
        assert (await done("rotate", "log", profile=federation.admin.folder))["changed"]
        assert not (await done("rotate", "log", profile=federation.admin.folder))["changed"]
        await done("rotate", "log-key", rooted.folder, "--retire")
        assert await loop.step() is not None
        await reader.pull()
        registry = (await reader.follow()).history.registry
        assert registry is not None
        assert f"log {key}" in registry.witnesses
        assert (await reader.follow()).seen_at is not None


async def test_only_a_key_that_the_server_holds_is_proposed(
    federation: Federation, rooted: Rooted, tmp_path: Path
) -> None:
    """Else the trust document would stop every member."""
    stranger = NoteSigner(rooted.trust().log, PrivateKey.generate()).verifier
    refused = await sh("trust", "propose", rooted.folder, "--log-key", str(stranger))
    assert refused.code == 1
    assert "rotate log-key" in refused.err
    other = tmp_path / "other.pem"
    other.write_text(Authority.create("Other", now=datetime.now(UTC)).root.pem)
    refused = await sh("trust", "propose", rooted.folder, "--new-ca", other)
    assert refused.code == 1
    assert "rotate ca" in refused.err
    for words in (("log-key",), ("ca",)):
        assert (await sh("rotate", *words, rooted.folder, "--retire")).code == 1
        assert (await sh("rotate", *words, tmp_path)).code == 1
    with pytest.raises(NotFoundError):
        rooted.trust().without_authority("00")
    with pytest.raises(ConflictError):
        rooted.trust().without_authority(rooted.trust().authorities[0].fingerprint)


async def test_the_ca_is_replaced_while_all_go_on(
    federation: Federation, rooted: Rooted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that runs, one that was away, one that joins, and one that stays behind."""
    monkeypatch.setattr(server_certificate, "CHECK_SECONDS", 0.05)
    keeping = asyncio.create_task(
        server_certificate.keep_certificate(federation.server, rooted.folder)
    )
    acme, beta = federation.members["acme"], federation.members["beta"]
    (old,) = rooted.trust().authorities
    invitation = await federation.invite("gamma")
    async with Client(acme) as running:
        made = await done("rotate", "ca", rooted.folder)
        await put_in_force(rooted, "--new-ca", made["certificate"])
        new = rooted.trust().authorities[0]
        assert new.fingerprint == made["fingerprint"]
        # Whoever has not heard of it still gets through, and hears of it.
        await running.keep_trust()
        assert running.profile.trust.authorities == [new, old]
        assert len(running.session.tls.get_ca_certs()) == 2
        await running.renew()
        gamma = (await enrol(invitation, federation.folder / "gamma")).profile
        for profile in (running.profile, gamma):
            assert profile.certificate().is_issued_by(new)
        # Whoever renews over EST hears of both, and is certified by the new one, too.
        told = (await est.ask(beta, est.CA_CERTIFICATES)).certificates
        assert {one.fingerprint for one in told} == {new.fingerprint, old.fingerprint}
        request = est.sign(est.request_like(beta.certificate().certificate), new_tls_key())
        (renewed,) = (await est.ask(beta, est.REENROLMENT, request)).certificates
        assert renewed.is_issued_by(new)
        await got_through(gamma)
        await got_through(beta)
        assert (await keep(beta)).authorities == [new, old]
        assert beta.certificate().is_issued_by(old)
        for_server = Authorities(rooted.folder / "keys", rooted.trust).for_server()
        assert for_server.root.fingerprint == old.fingerprint
        assert shown_by(rooted).is_issued_by(old)
        await put_in_force(rooted, "--drop-ca", old.fingerprint)
        assert (await done("rotate", "ca", rooted.folder, "--retire"))["deleted"] == 1
        assert not (rooted.folder / "keys/ca.pem").exists()
        await running.keep_trust()
        await until_refused(Profile.load(beta.folder))
        assert running.profile.trust.authorities == [new]
        await running.push("csam", records(1))
        await running.pull()
    async with Client(Profile.load(acme.folder)) as again:
        await again.pull()
    assert shown_by(rooted).is_issued_by(new)
    keeping.cancel()


def shown_by(rooted: Rooted) -> Issued:
    """The server's own certificate."""
    return Issued.parse((rooted.folder / "keys/server-cert.pem").read_bytes())


async def got_through(profile: Profile) -> None:
    """A member asks who it is, on a connection of its own, once the server knows its CA."""
    async with asyncio.timeout(30):
        while True:
            try:
                async with Client(profile) as client:
                    client.session.attempts = 1
                    assert (await client.whoami()).member == profile.member
                    return
            except HashshareError:
                await asyncio.sleep(0.05)


async def until_refused(profile: Profile) -> None:
    """Wait until a member whose certificate is by the former CA is let in no more."""
    async with asyncio.timeout(30):
        while True:
            try:
                async with Client(profile) as client:
                    client.session.attempts = 1
                    await client.whoami()
            except (HashshareError, UnavailableError):
                return
            await asyncio.sleep(0.05)


def test_key_files_are_read_anew_when_one_comes_or_goes(tmp_path: Path) -> None:
    """And a folder without any is told from one that has some."""
    files = KeyFiles(tmp_path, "log")
    with pytest.raises(NotFoundError):
        files.read()
    first, second = PrivateKey.generate(), PrivateKey.generate()
    write_private_key(tmp_path / "log.pem", first)
    assert [key.public for key in files.read()] == [first.public]
    write_private_key(tmp_path / "log-2.pem", second)
    assert [key.public for key in files.read()] == [first.public, second.public]
    (tmp_path / "log.pem").unlink()
    assert [key.public for key in files.read()] == [second.public]
    (tmp_path / "log-2.pem").unlink()
    with pytest.raises(NotFoundError):
        files.read()

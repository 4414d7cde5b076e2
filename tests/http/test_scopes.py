"""Certificates with scopes: each does what it is for, and to it there is nothing else."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hashshare.client import Client, Profile
from hashshare.client.enrol import enrol
from hashshare.client.session import Session
from hashshare.crypto.keys import PrivateKey, write_private_key
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.policy import Basis
from hashshare.domain.records import AssertRecord
from hashshare.domain.scopes import Scope, ScopeKind
from hashshare.errors import (
    AlreadyExistsError,
    HashshareError,
    KeyUnsafeError,
    NotFoundError,
    PermissionDeniedError,
    SuspendedError,
    UnavailableError,
)
from tests.cli.test_commands import sh
from tests.http.test_access import ADMIN_ROUTES, answered
from tests.support.federation import CSAM, Federation, run_federation

PULL = Scope(ScopeKind.PULL, ("csam",))
PUSH = Scope(ScopeKind.PUSH, ("csam",))


def record(number: int) -> AssertRecord:
    """A made-up hash."""
    return AssertRecord("", {HashAlgorithm.SHA256: b"%032d" % number}, "A1", None, Basis.REVIEWED)


@pytest.fixture
async def federation(federation: Federation) -> Federation:
    """And a second hash set, with something in both."""
    await federation.create("other", CSAM)
    async with Client(federation.members["acme"]) as acme:
        for name in ("csam", "other"):
            (pushed,) = await acme.push(name, [record(1)])
            await federation.published(pushed.log_index + 1, name)
    return federation


async def script(federation: Federation, name: str, scope: Scope) -> Profile:
    """Return the profile of a script of acme."""
    async with Client(federation.members["acme"]) as acme:
        invitation, _ = await acme.certificates.add(name, scope, hours=1)
    joined = await enrol(invitation, federation.folder / name)
    assert joined.approved
    return joined.profile


async def test_a_certificate_for_pulling_pulls_its_hash_sets_only(federation: Federation) -> None:
    """It has no submission key; what it is not for does not exist, to the word."""
    profile = await script(federation, "reader", PULL)
    assert not (profile.folder / "keys" / "submission.pem").exists()
    async with Client(profile) as reader:
        assert {pulled.name.hash_set for pulled in await reader.pull()} == {"csam"}
        me = await reader.whoami()
        assert (me.contributes_to, me.roles) == ([], [])
        assert {name.split("/")[0] for name in me.lists} == {"csam"}
        assert [s.hash_set for s in await reader.hash_sets()] == ["csam"]
        for path in ("/v1/hash-sets/other", "/v1/lists/other/all/sha256/snapshot"):
            hidden = await answered(reader.session, path)
            missing = await answered(reader.session, path.replace("other", "absent"))
            assert hidden[0] == missing[0] == "NotFoundError"
            assert str(hidden[1]).replace("other", "absent") == missing[1]
        write_private_key(
            profile.folder / "keys" / "submission.pem",
            federation.members["acme"].submission_key(),
        )
        # Not even with a key that it has stolen.
        with pytest.raises(HashshareError):
            await reader.push("csam", [record(2)])
        with pytest.raises(NotFoundError, match="nothing here"):
            await reader.session.request("POST", "/v1/submissions", body=b"{}")


async def test_a_certificate_for_pushing_pushes_to_its_hash_sets_only(
    federation: Federation,
) -> None:
    """It reads nothing, and is answered the same for others' hash sets and for none."""
    profile = await script(federation, "writer", PUSH)
    async with Client(profile) as writer:
        (pushed,) = await writer.push("csam", [record(2)])
        assert pushed.counts.new == 1
        words = []
        for name in ("other", "absent"):
            with pytest.raises(PermissionDeniedError) as caught:
                await writer.push(name, [record(3)])
            words.append(str(caught.value).replace(name, ""))
        assert words[0] == words[1]
        me = await writer.whoami()
        assert (me.lists, me.contributes_to) == ([], ["csam"])
        for path in ("/v1/hash-sets", "/v1/hash-sets/csam", "/v1/lists/csam/all/sha256/snapshot"):
            with pytest.raises(NotFoundError, match="nothing here"):
                await writer.session.request("GET", path)
        # Its own key is bounded in the registry, so that the log takes nothing else by it.
        stolen = federation.members["acme"].tls_path.read_bytes()
        profile.tls_path.write_bytes(stolen)
    async with Client(profile) as writer:
        with pytest.raises(PermissionDeniedError):
            await writer.push("other", [record(3)])


@pytest.mark.parametrize("kind", list(ScopeKind))
async def test_a_certificate_with_a_scope_is_no_admins(
    federation: Federation, kind: ScopeKind
) -> None:
    """Though its member is one; nor does it make or revoke other certificates."""
    async with Client(federation.admin) as admin:
        invitation, _ = await admin.certificates.add("bot", Scope(kind), hours=1)
    joined = await enrol(invitation, federation.folder / "bot")
    own = [("GET", "/v1/self/certificates"), ("POST", "/v1/self/invitations"), ("GET", "/v1/trail")]
    async with Session.of(joined.profile) as session:
        for method, path in (*ADMIN_ROUTES, *own, ("GET", f"/v1/batches/{'0' * 64}")):
            with pytest.raises(NotFoundError, match="there is nothing here"):
                await session.request(method, path, body=b"{}" if method == "POST" else None)
        with pytest.raises(NotFoundError, match="there is nothing here"):
            await session.request("POST", f"/v1/self/certificates/{'0' * 64}/revoke", body=b"{}")


async def test_a_stolen_certificate_makes_no_other(federation: Federation, tmp_path: Path) -> None:
    """A submission key that has no scope has to consent: not a thief's, nor a script's."""
    acme = federation.members["acme"]
    writer = await script(federation, "writer", PUSH)
    own = (acme.folder / "keys" / "submission.pem").read_bytes()
    for key in (PrivateKey.generate(), writer.submission_key()):
        write_private_key(tmp_path / key.public.key_id, key)
        (tmp_path / key.public.key_id).replace(acme.folder / "keys" / "submission.pem")
        async with Client(acme) as thief:
            with pytest.raises(KeyUnsafeError):
                await thief.certificates.add("another", PULL, hours=1)
    (acme.folder / "keys" / "submission.pem").write_bytes(own)
    # Nor does a script replace the member's own key, or another script's, that it has stolen.
    another = await script(federation, "another", PUSH)
    scripts_own = another.folder / "keys" / "submission.pem"
    for stolen in (own, (writer.folder / "keys" / "submission.pem").read_bytes()):
        scripts_own.write_bytes(stolen)
        async with Client(another) as client:
            with pytest.raises(NotFoundError, match="whose key it is"):
                await client.replace_submission_key()
    async with Client(acme) as client:
        with pytest.raises(AlreadyExistsError):
            await client.certificates.add("writer", PULL, hours=1)


async def test_one_certificate_is_revoked_and_the_others_go_on(federation: Federation) -> None:
    """With those that followed it by renewal, and with the key that came with it."""
    acme = federation.members["acme"]
    writer = await script(federation, "writer", PUSH)
    reader = await script(federation, "reader", PULL)
    async with Client(writer) as client:
        before = (await client.whoami()).certificate
        await client.renew()
    async with Client(writer) as client:
        after = (await client.whoami()).certificate
        assert after.fingerprint != before.fingerprint
        assert (after.scope, after.label) == (before.scope, "writer")
        await client.push("csam", [record(2)])
    async with Client(acme) as client:
        assert await client.certificates.revoke("writer", reason="moved") == (2, True)
        with pytest.raises(NotFoundError):
            await client.certificates.revoke("writer", reason="again")
        registry = (await client.follow()).history.registry
        assert registry is not None
        assert writer.submission_key().public.text in registry.member("acme").retired_keys
    async with Client(writer) as client:
        client.session.attempts = 1
        with pytest.raises((SuspendedError, UnavailableError)):
            await client.whoami()
    async with Client(reader) as client:
        assert (await client.whoami()).certificate.label == "reader"
    async with Client(acme) as client:
        await client.push("csam", [record(4)])


async def test_an_admin_approves_a_key_with_its_scope(dsn: str, tmp_path: Path) -> None:
    """Where the server has no governance key."""
    async with run_federation(dsn, tmp_path, governance_on_server=False) as federation:
        await federation.create()
        acme = await federation.join("acme")
        async with Client(federation.admin) as admin:
            await admin.admin.approve("acme", now=datetime.now(UTC))
        async with Client(acme) as client, asyncio.timeout(30):
            invitation, _ = await client.certificates.add("writer", PUSH, hours=1)
        joined = await enrol(invitation, tmp_path / "writer")
        assert not joined.approved
        async with Client(federation.admin) as admin:
            await admin.admin.approve("acme", now=datetime.now(UTC))
            scopes = (await admin.admin.registry()).member("acme").key_scopes
        key = joined.profile.submission_key().public.text
        assert scopes == {key: PUSH.key_scope("writer")}


async def test_the_commands(federation: Federation, tmp_path: Path) -> None:
    """Add, list, revoke; and another's name is not there."""
    acme, folder = federation.members["acme"].folder, tmp_path / "eu"
    out = tmp_path / "eu.invitation"
    words = ("--scope", "both", "--hash-set", "csam", "--output", out)
    added = await sh("certificate", "add", "eu", *words, profile=acme)
    assert added.code == 0, added.err
    assert "push and pull: csam" in added.err
    assert (await sh("enrol", out, profile=folder)).code == 0
    assert (await sh("pull", profile=folder)).code == 0
    listed = (await sh("certificate", "list", "--json", profile=acme)).objects
    assert [row["name"] for row in listed] == ["-", "eu"]
    assert listed[1]["days_left"] >= 88
    revoked = await sh("certificate", "revoke", "eu", "--json", profile=acme)
    assert revoked.objects == [{"certificate": "eu", "revoked": 1, "keys_retired": True}]
    assert (await sh("certificate", "revoke", "eu", profile=acme)).code == 1
    assert (await sh("pull", profile=folder)).code != 0
    # A member with a retired key is changed like any other.
    changed = await sh("member", "set", "acme", "--title", "ACME", profile=federation.admin.folder)
    assert changed.code == 0, changed.err

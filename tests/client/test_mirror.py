"""A mirror gives what the server gave, verified alike; sources are tried in their order."""

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from hashshare.cli.mirror_server import keep_in_sync
from hashshare.client import Client, Profile
from hashshare.client.enrol import enrol
from hashshare.client.session import Session, member_context
from hashshare.crypto.certificates import Authority
from hashshare.domain.members import Role, Status
from hashshare.domain.names import HashSetId
from hashshare.domain.records import Record, WithdrawRecord
from hashshare.domain.scopes import Scope, ScopeKind
from hashshare.domain.statements import Operation
from hashshare.errors import (
    HashshareError,
    NotFoundError,
    PermissionDeniedError,
    SuspendedError,
    UnavailableError,
)
from hashshare.mirror import Archive, Mirror, syncing
from hashshare.mirror.certificate import issue_certificate, make_request
from hashshare.mirror.syncing import batch_path
from tests.client.test_faults import records
from tests.client.test_rotation_of_log_and_ca import done, put_in_force
from tests.support.federation import CSAM, Federation
from tests.support.mirrors import Mirrored, run_mirror
from tests.support.relay import run_relay
from tests.support.rooted import Rooted

LIST = "csam/all/sha256"
NOWHERE = "https://127.0.0.1:9"


@pytest.fixture
async def mirrored(federation: Federation) -> AsyncIterator[Mirrored]:
    """A mirror that an auditor runs; acme has pushed, and beta has pulled nothing yet."""
    watch = await federation.join("watch", (Role.AUDITOR,))
    async with run_mirror(federation, watch) as mirrored:
        await mirrored.push(1, 2, 3)
        yield mirrored


def alone(profile: Profile) -> Profile:
    """The profile of a member whose server cannot be reached."""
    return replace(profile, api_url=NOWHERE)


async def test_a_mirror_gives_what_the_server_gave(mirrored: Mirrored) -> None:
    """Lists, look-ups, exports and the audit, from the first version on, without the server."""
    synced = await mirrored.sync()
    assert (synced.batches, synced.missing) == (1, [])
    beta = alone(mirrored.federation.members["beta"])

    async with Client(beta, sources=[mirrored.url]) as client:
        first = {str(p.name): p for p in await client.pull()}
        for numbers in ((4, 5), (6,), (7, 8, 9)):
            await mirrored.push(*numbers)
            await mirrored.sync()
        await mirrored.push(10)
        synced = await mirrored.sync()
        later = {str(p.name): p for p in await client.pull()}
    # The deltas of four syncs are one to a member that was away.
    assert (first[LIST].count, later[LIST].count, later[LIST].changes) == (3, 10, 7)
    assert later[LIST].version == synced.versions[HashSetId("csam")]

    async with Client(alone(mirrored.operator), sources=[mirrored.url]) as client:
        report = await client.auditor.audit()
    assert report.is_complete
    assert (report.submissions, report.records) == (5, 10)


async def test_a_mirror_of_a_mirror(mirrored: Mirrored) -> None:
    """A copy is taken from a copy, and holds the same."""
    first = await mirrored.sync()
    other = replace(mirrored, folder=mirrored.federation.folder / "second")
    assert replace(await other.sync(mirrored.url), received=first.received) == first


async def test_who_was_away_before_the_mirror_began_takes_a_snapshot(mirrored: Mirrored) -> None:
    """From the version that it holds no delta leads on in the mirror."""
    beta = mirrored.federation.members["beta"]
    async with Client(beta) as client:
        await client.pull()
    await mirrored.push(4)
    await mirrored.push(5)
    await mirrored.sync()
    await mirrored.push(6)
    await mirrored.sync()
    async with Client(alone(beta), sources=[mirrored.url]) as client:
        pulled = {str(p.name): p for p in await client.pull()}
        assert not (await client.check(LIST, repair=False)).damaged
    assert (pulled[LIST].count, pulled[LIST].changes) == (6, None)


async def test_the_next_source_is_taken_when_one_is_away(mirrored: Mirrored) -> None:
    """And what was wrong with the first one is told."""
    beta = mirrored.federation.members["beta"]
    async with Client(beta, sources=[NOWHERE, beta.api_url]) as client:
        assert {p.count for p in await client.pull(LIST)} == {3}
        (skipped,) = client.skipped
    assert (skipped.url, type(skipped.error)) == (NOWHERE, UnavailableError)

    replace(beta, sources=(NOWHERE,)).save_settings()
    async with Client(Profile.load(beta.folder)) as client:
        assert await client.pull()
        assert [s.url for s in client.skipped] == [NOWHERE]


async def test_a_mirror_that_lags(mirrored: Mirrored) -> None:
    """A member that has seen more goes on with the next source, and never back."""
    await mirrored.sync()
    version = await mirrored.push(4)
    beta = mirrored.federation.members["beta"]
    async with Client(beta) as client:
        await client.pull()
    async with Client(beta, sources=[mirrored.url, beta.api_url]) as client:
        assert {p.version for p in await client.pull()} == {version}
        (skipped,) = client.skipped
    assert skipped.reason.startswith("lags: ")


async def test_who_may_read_a_mirror(mirrored: Mirrored) -> None:
    """Each member what the registry grants it, as far as the operator may read it as well."""
    federation = mirrored.federation
    await federation.create("secret", msgspec.structs.replace(CSAM, readers=("acme",)))
    gamma = await federation.join("gamma", (Role.READER,))
    async with Client(federation.members["acme"]) as acme:
        (pushed,) = await acme.push("secret", records(7))
    await federation.published(pushed.log_index + 1, "secret")
    await mirrored.sync()

    async with Client(alone(gamma), sources=[mirrored.url]) as client:
        assert {p.name.hash_set for p in await client.pull()} == {"csam"}
        with pytest.raises(NotFoundError):
            await client.pull("secret/all/sha256")
    async with Session(mirrored.url, Session.of(gamma).tls, attempts=1) as session:
        for path in (
            "/v1/lists/secret/all/sha256/deltas/0/1",
            "/v1/lists/secret/all/sha256/snapshot",
            "/v1/lists/secret/all/sha256/buckets/0?bits=0",
            "/v1/hash-sets/secret",
            "/v1/hash-sets/secret/publication",
            f"/v1/batches/{pushed_batch(mirrored)}",
        ):
            with pytest.raises(NotFoundError):
                await session.request("GET", path)

    # What the operator itself may not read is not there for anybody.
    async with run_mirror(federation, gamma) as poor:
        synced = await poor.sync()
        assert (set(synced.versions), synced.batches) == ({"csam"}, 0)
        reader = alone(federation.members["acme"])
        async with Client(reader, sources=[poor.url]) as client:
            with pytest.raises(NotFoundError):
                await client.pull("secret/all/sha256")
            assert await client.pull(LIST)


def pushed_batch(mirrored: Mirrored) -> str:
    """The digest of a batch that the mirror has."""
    connection = sqlite3.connect(mirrored.folder / "archive.sqlite")
    (row,) = connection.execute("SELECT sha256 FROM batch WHERE held = 1 LIMIT 1").fetchall()
    connection.close()
    return str(row[0])


async def test_who_is_out_is_refused_by_mirrors_after_their_next_sync(mirrored: Mirrored) -> None:
    """A revoked certificate, a suspended member, and who never was one."""
    federation = mirrored.federation
    beta, gamma = federation.members["beta"], await federation.join("gamma")
    await mirrored.sync()
    async with Client(alone(beta), sources=[mirrored.url]) as client:
        await client.pull()
    async with Client(federation.admin) as admin:
        now = datetime.now(UTC)
        lost = beta.certificate().fingerprint
        await admin.admin.revoke_certificate("beta", lost, reason="lost")
        await admin.admin.set_status("gamma", Status.SUSPENDED, reason="left", now=now)
    await mirrored.sync()
    for profile in (beta, gamma):
        async with Client(alone(profile), sources=[mirrored.url]) as client:
            with pytest.raises(SuspendedError):
                await client.pull()


async def test_a_certificate_with_a_scope_is_not_let_in(mirrored: Mirrored) -> None:
    """Neither before a sync knows of it nor after: a mirror cannot tell what it is for."""
    federation = mirrored.federation
    await mirrored.sync()
    async with Client(federation.members["acme"]) as acme:
        scope = Scope(ScopeKind.PULL, ("csam",))
        invitation, _ = await acme.certificates.add("reader", scope, hours=1)
    script = (await enrol(invitation, federation.folder / "reader")).profile
    for _ in range(2):
        async with Client(alone(script), sources=[mirrored.url]) as client:
            with pytest.raises(SuspendedError, match="scope"):
                await client.pull()
        await mirrored.sync()
    async with Client(script) as client:
        assert await client.pull()


async def test_a_new_trust_document_is_believed_of_every_source(mirrored: Mirrored) -> None:
    """What the server shows of the trust root holds for what a mirror gives, too."""
    await mirrored.sync()
    beta = mirrored.federation.members["beta"]
    async with Client(beta, sources=[mirrored.url]) as client:
        other = msgspec.structs.replace(beta.trust, ca="another")
        client.session.tls = member_context(beta)
        client._believe(replace(beta, trust=other))
        assert [v.profile.trust for v in client._sources.verifiers] == [other]
        assert [v.follower.profile.trust for v in client._sources.verifiers] == [other]
        assert [v.session.tls for v in client._sources.verifiers] == [client.session.tls]


async def test_a_running_mirror_follows_the_trust_root(
    mirrored: Mirrored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log's key and the CA are replaced; who has a certificate by the new one is let in."""
    monkeypatch.setattr(syncing, "TRUST_AGE", timedelta())
    federation = mirrored.federation
    rooted = Rooted(federation.folder / "coalition")
    async with Mirror.open(mirrored.operator, mirrored.folder) as mirror:
        await mirror.sync()
        keeping = asyncio.create_task(keep_in_sync(mirror, mirrored.server, 0.05))
        key = (await done("rotate", "log-key", rooted.folder))["log_key"]
        authority = await done("rotate", "ca", rooted.folder)
        await put_in_force(rooted, "--log-key", key, "--new-ca", authority["certificate"])
        await done("rotate", "log-key", rooted.folder, "--retire")
        gamma = await federation.join("gamma")
        assert gamma.certificate().is_issued_by(rooted.trust().authorities[0])
        await mirrored.push(4)
        async with Client(alone(gamma), sources=[mirrored.url]) as client, asyncio.timeout(60):
            client.session.attempts = 1
            while True:
                with suppress(HashshareError):
                    if {p.count for p in await client.pull(LIST)} == {4}:
                        break
                await asyncio.sleep(0.05)
        assert mirror.profile.trust == rooted.trust()
        keeping.cancel()


async def test_a_sync_that_was_cut_off_goes_on(mirrored: Mirrored) -> None:
    """At any request: readers see what was there before, and the next sync completes it."""
    await mirrored.sync()
    before = _note(mirrored)
    await mirrored.push(4)
    await mirrored.push(5)
    cut, left = 0, 0

    def passes(_method: str, _path: str) -> bool:
        nonlocal left
        left -= 1
        return left >= 0

    async with run_relay(mirrored.federation, "watch") as relay:
        relay.before = passes
        async with Mirror.open(relay.profile, mirrored.folder) as mirror:
            mirror.session.attempts = 1
            while _note(mirrored) == before:
                # One request more than the last time, and none after it.
                left = cut + 1
                try:
                    await mirror.sync()
                except UnavailableError:
                    assert _note(mirrored) == before
                    cut += 1
    assert cut > 2
    async with Client(alone(mirrored.operator), sources=[mirrored.url]) as client:
        assert (await client.auditor.audit()).is_complete
        assert {p.count for p in await client.pull(LIST)} == {5}


def _note(mirrored: Mirrored) -> bytes:
    archive = Archive.open(mirrored.folder / "archive.sqlite")
    try:
        return archive.note
    finally:
        archive.close()


async def test_a_killed_sync_goes_on(mirrored: Mirrored) -> None:
    """The command itself, killed while it works, again and again."""
    for number in range(4, 9):
        await mirrored.push(number)
    command = [sys.executable, "-m", "hashshare", "mirror", "sync", str(mirrored.folder)]
    environment = os.environ | {"HASHSHARE_PROFILE": str(mirrored.operator.folder)}
    for delay in (0.9, 1.1, 1.3, 1.5):
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=asyncio.subprocess.DEVNULL
        )
        await asyncio.sleep(delay)
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out
    beta = alone(mirrored.federation.members["beta"])
    async with Client(beta, sources=[mirrored.url]) as client:
        assert {p.count for p in await client.pull(LIST)} == {8}


async def test_a_redacted_batch_is_deleted_from_mirrors(mirrored: Mirrored) -> None:
    """What the law has deleted at the server goes at the next sync."""
    await mirrored.sync()
    sha256 = pushed_batch(mirrored)
    assert batch_path(mirrored.folder, sha256).exists()
    federation = mirrored.federation
    async with Client(federation.members["acme"]) as acme:
        withdrawn: list[Record] = [WithdrawRecord("", r.hashes) for r in records(1, 2, 3)]
        (pushed,) = await acme.push("csam", withdrawn, operation=Operation.WITHDRAW)
    await federation.published(pushed.log_index + 1)
    index = await federation.pool.fetchval("SELECT min(log_index) FROM submission")
    async with Client(federation.admin) as admin:
        await admin.admin.redact(index, reason="court order", now=datetime.now(UTC))
    synced = await mirrored.sync()
    assert synced.missing == []
    assert not batch_path(mirrored.folder, sha256).exists()


def test_no_mirror_takes_the_servers_name(tmp_path: Path) -> None:
    """Members would send it what is for the server."""
    now = datetime.now(UTC)
    authority = Authority.create("Test", now=now)
    request = make_request(tmp_path, member="acme")
    for hosts in (["hashes.example.org"], ["ok.example.org", "HASHES.example.org"], ["*.a.org"]):
        with pytest.raises(PermissionDeniedError):
            issue_certificate(
                authority, request, hosts=hosts, server_hosts=["hashes.example.org"], now=now
            )
    issued = issue_certificate(
        authority, request, hosts=["m.example.org"], server_hosts=["hashes.example.org"], now=now
    )
    assert (issued.hosts, issued.member) == (["m.example.org"], None)

"""Only who may: decided at each request, from the registry and the certificate."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from hashshare.client import Client, Profile
from hashshare.client.session import Session
from hashshare.domain.hash_sets import HashSet
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.members import Role, Status
from hashshare.domain.policy import Basis, View
from hashshare.domain.records import AssertRecord
from hashshare.errors import (
    HashshareError,
    NotFoundError,
    PermissionDeniedError,
    SuspendedError,
    UnavailableError,
)
from tests.support.federation import Federation

NOW = datetime.now(UTC)
RECORD = AssertRecord("", {HashAlgorithm.SHA256: b"\x07" * 32}, "A1", None, Basis.REVIEWED)


@pytest.fixture
async def federation(federation: Federation) -> Federation:
    """And a hash set for the first member alone."""
    secret = HashSet(
        title="Secret",
        algorithms=(HashAlgorithm.SHA256,),
        classifications=("A1",),
        contributors=("acme",),
        readers=("acme",),
        views={"all": View()},
    )
    await federation.create("secret", secret)
    async with Client(federation.members["acme"]) as acme:
        (pushed,) = await acme.push("secret", [RECORD])
        assert pushed.counts.new == 1
        async with asyncio.timeout(30):
            while (await _version(acme)) < 1:
                await asyncio.sleep(0.05)
    return federation


async def _version(client: Client) -> int:
    return next(s.version for s in await client.hash_sets() if s.hash_set == "secret")


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.REVOKED])
async def test_who_is_out_is_refused_at_the_next_request(
    federation: Federation, status: Status
) -> None:
    """And reinstated where that is possible."""
    async with Client(federation.admin) as admin, Client(federation.members["beta"]) as beta:
        await beta.whoami()
        await admin.admin.set_status("beta", status, reason="test", now=NOW)
        beta.session.attempts = 1
        async with asyncio.timeout(30):
            while True:
                try:
                    await beta.whoami()
                except SuspendedError:
                    break
                except UnavailableError:
                    continue
        await beta_is_out(federation.members["beta"])


async def beta_is_out(profile: Profile) -> None:
    """A new connection is no way around."""
    async with Client(profile) as beta:
        with pytest.raises(SuspendedError):
            await beta.whoami()


async def test_live_connections_of_who_is_out_are_cut(federation: Federation) -> None:
    """A request that waits for news ends, and so does a connection that is idle."""
    beta = federation.members["beta"]
    async with Client(federation.admin) as admin, Session.of(beta) as session:
        session.attempts = 1
        await session.request("GET", "/v1/self")
        log = await session.request("GET", "/v1/log/checkpoint")
        size = log[1].split(b"\n")[1].decode()
        headers = {"If-None-Match": f'"{int(size) + 1}"', "Prefer": "wait=50"}
        waiting = asyncio.create_task(
            session.request("GET", "/v1/hash-sets/csam/publication", headers=headers)
        )
        fingerprint = (await admin.admin.member("beta")).certificates[0].fingerprint
        await admin.admin.revoke_certificate("beta", fingerprint, reason="lost")
        with pytest.raises((UnavailableError, SuspendedError, HashshareError)):
            await asyncio.wait_for(_until_refused(session, waiting), 30)


async def _until_refused(session: Session, waiting: "asyncio.Task[tuple[int, bytes]]") -> None:
    await waiting
    while True:
        await session.request("GET", "/v1/self")
        await asyncio.sleep(0.02)


SECRET = "/v1/lists/secret/all/sha256"
ROUTES = [
    "/v1/hash-sets/secret",
    "/v1/hash-sets/secret/publication",
    "/v1/hash-sets/secret/publications/1",
    f"{SECRET}/snapshot",
    f"{SECRET}/snapshots/1",
    f"{SECRET}/deltas/0/1",
    f"{SECRET}/buckets/0?bits=0",
    f"/v1/hash-sets/secret/hashes/sha256/{'07' * 32}/provenance",
]


async def answered(session: Session, path: str) -> tuple[str, object]:
    """Return the kind of refusal and its words, without the request's id."""
    with pytest.raises(HashshareError) as caught:
        await session.request("GET", path)
    return type(caught.value).__name__, str(caught.value)


@pytest.mark.parametrize("path", ROUTES)
async def test_what_one_may_not_read_does_not_exist(federation: Federation, path: str) -> None:
    """The answer is that for a hash set that is not there, to the word."""
    async with Session.of(federation.members["beta"]) as session:
        hidden = await answered(session, path)
        missing = await answered(session, path.replace("secret", "absent"))
    assert hidden[0] == missing[0] == "NotFoundError"
    assert str(hidden[1]).replace("secret", "absent") == missing[1]
    async with Session.of(federation.members["acme"]) as session:
        if not path.endswith(("/snapshot", "/snapshots/1")):
            assert (await session.request("GET", path))[0] == 200


async def test_nobody_hears_of_what_they_may_not_read(federation: Federation) -> None:
    """Neither who asks for all hash sets, nor who pushes to one."""
    async with Client(federation.members["beta"]) as beta:
        assert [s.hash_set for s in await beta.hash_sets()] == ["csam"]
        assert not any("secret" in name for name in (await beta.whoami()).lists)
        words = []
        for name in ("secret", "absent"):
            with pytest.raises(PermissionDeniedError) as caught:
                await beta.push(name, [RECORD])
            words.append(str(caught.value).replace(name, ""))
        assert words[0] == words[1]


async def test_a_reader_may_not_push(federation: Federation) -> None:
    """It may read all that it is given."""
    reader = await federation.join("reader", (Role.READER,))
    async with Client(reader) as client:
        with pytest.raises(PermissionDeniedError):
            await client.push("csam", [RECORD])


ADMIN_ROUTES = [
    ("GET", "/v1/members"),
    ("GET", "/v1/members/acme"),
    ("POST", f"/v1/members/acme/certificates/{'0' * 64}/revoke"),
    ("POST", "/v1/invitations"),
    ("GET", "/v1/invitations"),
    ("DELETE", "/v1/invitations/00000000"),
    ("POST", "/v1/registry"),
    ("GET", "/v1/trail"),
    ("GET", "/v1/report"),
]


@pytest.mark.parametrize(("method", "path"), ADMIN_ROUTES)
async def test_what_is_for_admins_is_not_there_for_others(
    federation: Federation, method: str, path: str
) -> None:
    """Whatever they send."""
    body = json.dumps({"member": "acme"}).encode() if method == "POST" else None
    async with Session.of(federation.members["acme"]) as session:
        with pytest.raises(NotFoundError, match="there is nothing here"):
            await session.request(method, path, body=body)


async def test_a_submission_in_another_members_name_is_refused(federation: Federation) -> None:
    """The certificate of one, the signed submission of another."""
    acme, beta = federation.members["acme"], federation.members["beta"]
    stolen = Profile(
        folder=acme.folder,
        member=acme.member,
        coalition=acme.coalition,
        api_url=acme.api_url,
        enrol_url=acme.enrol_url,
        trust=acme.trust,
    )
    own = acme.tls_path.read_bytes()
    acme.tls_path.write_bytes(beta.tls_path.read_bytes())
    try:
        async with Client(stolen) as client:
            with pytest.raises(HashshareError):
                await client.push("csam", [RECORD])
    finally:
        acme.tls_path.write_bytes(own)
    async with Client(acme) as client:
        assert (await client.whoami()).chain.sequence == 1

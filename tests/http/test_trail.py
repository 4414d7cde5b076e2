"""The audit trail: all that should be in it is, what should not is not, and nobody changes it."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from hashshare.client import Client, Profile
from hashshare.client.session import Session
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.members import Role
from hashshare.domain.policy import Basis
from hashshare.domain.records import AssertRecord
from hashshare.errors import HashshareError, NotFoundError, SuspendedError
from hashshare.service.trail import TrailService
from tests.support.federation import Federation

VALUE = b"\x07" * 32
RECORD = AssertRecord("case-7", {HashAlgorithm.SHA256: VALUE}, "A1", None, Basis.REVIEWED)


async def entries(profile: Profile, **chosen: Any) -> list[Any]:
    async with Client(profile) as client:
        return [entry async for entry in client.admin.trail(**chosen)]


async def refused(profile: Profile, method: str, path: str, body: bytes | None = None) -> str:
    async with Session.of(profile) as session:
        with pytest.raises(HashshareError) as caught:
            await session.request(method, path, body=body)
    return type(caught.value).__name__


async def push(federation: Federation) -> None:
    async with Client(federation.members["acme"]) as acme:
        (pushed,) = await acme.push("csam", [RECORD])
        await federation.published(pushed.log_index + 1)


async def test_submissions_and_pulls_are_recorded(federation: Federation) -> None:
    """Who, which hash set or list, which versions."""
    await push(federation)
    async with Client(federation.members["beta"]) as beta:
        await beta.pull()

    (submitted,) = await entries(federation.admin, kind="submission")
    assert (submitted.member, submitted.action) == ("acme", "assert")
    assert submitted.facts["hash_set"] == "csam"
    assert submitted.facts["records"] == submitted.facts["new"] == 1
    pulled = await entries(federation.admin, kind="pull", member="beta")
    lists = {entry.facts["list"]: entry for entry in pulled}
    assert lists["csam/all/sha256"].facts["target"] >= 1
    assert all(entry.certificate for entry in pulled)


async def test_acts_of_admins_are_recorded_before_they_are_done(federation: Federation) -> None:
    """Also one that then fails; a registry with its version."""
    async with Client(federation.admin) as client:
        made = await client.admin.invite("acme", label="backup", hours=1)
        await client.admin.cancel_invitation(made.invitation_id)
        with pytest.raises(NotFoundError):
            await client.admin.revoke_certificate("acme", "0" * 64, reason="lost")

    acts = [e for e in await entries(federation.admin, kind="act") if e.member == "admin"]
    by_action = {entry.action: entry.facts for entry in acts}
    assert by_action["POST /v1/invitations"] == {"member": "acme", "label": "backup", "hours": 1}
    cancelled = by_action["DELETE /v1/invitations/{invitation_id}"]
    assert cancelled == {"invitation": made.invitation_id}
    revoked = by_action["POST /v1/members/{member}/certificates/{fingerprint}/revoke"]
    assert revoked == {"member": "acme", "certificate": "0" * 64, "reason": "lost"}
    assert by_action["POST /v1/registry"]["version"] >= 2


async def test_who_enrolled_is_recorded(federation: Federation) -> None:
    """Though nobody had a certificate when it began."""
    enrolled = [
        e.member for e in await entries(federation.admin, kind="act") if e.member != "admin"
    ]
    assert enrolled == ["acme", "beta"]


async def test_refusals_are_recorded_once_a_minute(federation: Federation) -> None:
    """The first at once; those like it together, with their number."""
    for _ in range(5):
        await refused(federation.members["acme"], "GET", "/v1/members")

    (first,) = await entries(federation.admin, kind="refusal", member="acme")
    assert (first.action, first.problem) == ("GET /v1/members", "not-found")
    assert first.facts == {}
    trail: TrailService = federation.server._services.trail
    await trail.flush()
    _, others = await entries(federation.admin, kind="refusal", member="acme")
    assert others.facts == {"times": 4}


async def test_to_look_for_a_newer_root_is_no_refusal(federation: Federation) -> None:
    """Each client asks for the root after the last one; whoever asks for else is noted."""
    async with Client(federation.members["acme"]) as client:
        await client.keep_trust()
        with pytest.raises(NotFoundError):
            await client.session.request("GET", "/v1/trust/targets/" + "0" * 64 + ".trust.json")
    (refusal,) = await entries(federation.admin, kind="refusal", member="acme")
    assert refusal.action == "GET /v1/trust/targets/{name}"


async def test_who_is_locked_out_is_known_by_the_certificate(federation: Federation) -> None:
    """Such a refusal comes before anybody asks who it is."""
    beta = federation.members["beta"]
    async with Client(federation.admin) as client:
        fingerprint = (await client.admin.member("beta")).certificates[0].fingerprint
        await client.admin.revoke_certificate("beta", fingerprint, reason="lost")
    async with asyncio.timeout(30):
        while await refused(beta, "GET", "/v1/log/checkpoint/none") != SuspendedError.__name__:
            await asyncio.sleep(0.05)

    found = await entries(federation.admin, kind="refusal", member="beta")
    assert {(e.problem, e.certificate) for e in found} == {("suspended", fingerprint)}


async def test_no_hash_value_gets_into_the_trail(federation: Federation) -> None:
    """Not from a path, not from a body, wherever it was put."""
    secret = VALUE.hex()
    acme = federation.members["acme"]
    await push(federation)
    async with Client(acme) as client:
        await client.provenance("csam", f"sha256:{secret}")
    for path in (
        f"/v1/hash-sets/{secret}",
        f"/v1/hash-sets/csam/hashes/sha1/{secret}/provenance",
        f"/v1/lists/csam/{secret}/sha256/snapshot",
        f"/v1/members/{secret[:32]}",
    ):
        await refused(acme, "GET", path)
    await refused(federation.admin, "DELETE", f"/v1/invitations/{secret}")
    await refused(federation.admin, "POST", "/v1/invitations", b'{"member":"%b"}' % secret.encode())
    wrong = json.dumps({"member": secret[:32]}).encode()
    await refused(federation.admin, "POST", "/v1/invitations", wrong)

    found = await entries(federation.admin)
    assert len(found) > 8
    assert secret[:16] not in "".join(entry.model_dump_json() for entry in found)


async def test_a_poll_without_news_is_not_recorded(federation: Federation) -> None:
    """Nothing of it is recorded."""
    await push(federation)
    async with Session.of(federation.members["beta"]) as session:
        path, headers = "/v1/log/checkpoint", {}
        async with session.stream(path) as (response, _):
            headers = {"If-None-Match": response.headers["ETag"]}
        before = len(await entries(federation.admin))
        # Whatever were written or asked now would fail, and the request with it.
        await federation.pool.execute("ALTER TABLE trail RENAME TO gone")
        for _ in range(20):
            assert (await session.request("GET", path, headers=headers))[0] == 304
        await federation.pool.execute("ALTER TABLE gone RENAME TO trail")
    assert len(await entries(federation.admin)) == before


@pytest.mark.parametrize(
    "statement",
    ["UPDATE trail SET member_id = 'beta'", "DELETE FROM trail", "TRUNCATE trail"],
)
async def test_the_trail_cannot_be_changed(federation: Federation, statement: str) -> None:
    """Not by whoever writes it, either."""
    before = await entries(federation.admin)
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await federation.pool.execute(statement)
    assert await entries(federation.admin) == before


async def test_the_trail_is_read_in_pages(federation: Federation) -> None:
    """Forwards and backwards, without a gap or a repetition; since and until are its bounds."""
    everything = await entries(federation.admin)
    async with Session.of(federation.admin) as session:
        for order in ("", "&order=newest"):
            numbers, at = [], ""
            while True:
                path = f"/v1/trail?limit=2{order}{at}"
                page = json.loads((await session.request("GET", path))[1])
                numbers += [entry["number"] for entry in page["entries"]]
                if page["next"] is None:
                    break
                at = f"&at={page['next']}"
            expected = [entry.number for entry in everything]
            assert numbers == (expected[::-1] if order else expected)

    newest = await entries(federation.admin, last=3)
    assert newest == everything[:-4:-1]
    now = datetime.now(UTC)
    assert await entries(federation.admin, since=now + timedelta(hours=1)) == []
    assert await entries(federation.admin, until=now - timedelta(hours=1)) == []
    assert await entries(federation.admin, since=now - timedelta(hours=1)) == everything


async def test_auditors_read_the_trail_and_others_do_not(federation: Federation) -> None:
    """To the others there is nothing here."""
    auditor = await federation.join("auditor", (Role.AUDITOR,))
    assert await entries(auditor, kind="act")
    with pytest.raises(NotFoundError, match="there is nothing here"):
        await entries(federation.members["acme"])


async def test_nothing_is_done_that_cannot_be_recorded(federation: Federation) -> None:
    """An invitation is refused while the trail cannot be written."""
    await federation.pool.execute("ALTER TABLE trail RENAME TO gone")
    async with Client(federation.admin) as client:
        client.session.attempts = 1
        with pytest.raises(HashshareError):
            await client.admin.invite("acme", label="", hours=1)
    await federation.pool.execute("ALTER TABLE gone RENAME TO trail")
    async with Client(federation.admin) as client:
        assert len((await client.admin.invitations()).invitations) == 2

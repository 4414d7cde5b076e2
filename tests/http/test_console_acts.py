"""Acts in the console: those that it does, and those that it proposes and cannot do."""

import html
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hashshare.client import Client, Profile
from hashshare.client.enrol import enrol
from hashshare.client.proposal import parse_proposal
from hashshare.domain.joining import Invitation
from hashshare.domain.members import Role, Status
from hashshare.domain.registry import Registry
from hashshare.errors import SignatureInvalidError, SuspendedError
from hashshare.wire.members import RegistryAppended, RegistryRequest
from tests.cli.test_commands import sh
from tests.client.test_proposal import second, status_of
from tests.http.test_console import SAME, browser, busy
from tests.support.federation import Federation

__all__ = ["busy", "second"]

VIEW: dict[str, Any] = {
    "change": "set-view",
    "hash_set": "csam",
    "view": "confirmed",
    "quorum": "1",
    "quorum_of": "members",
    "basis": "reviewed",
    "dispute_limit": "2",
    "show_members": "yes",
}
SUSPEND = {"change": "set-status", "member": "acme", "status": "suspended"}
ADD = {
    "change": "add-member",
    "member": "gamma",
    "name": "Gamma Ltd",
    "jurisdiction": "fr",
    "roles": ["reader", "contributor"],
}


async def post(
    session: aiohttp.ClientSession, path: str, form: dict[str, Any], status: int = 200
) -> bytes:
    """Send a form as the console's own pages do."""
    async with session.post(
        f"/console{path}", data=form, headers=SAME, allow_redirects=False
    ) as response:
        body = await response.read()
        assert response.status == status, body
        return body


async def download(federation: Federation, form: dict[str, Any], path: Path) -> Path:
    """Have the console propose a change, as its page does, and keep the file."""
    async with browser(federation.admin) as session:
        shown = (await post(session, "/proposals", form)).decode()
        fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', shown)
        sent = [(name, html.unescape(value)) for name, value in fields]
        async with session.post("/console/proposals/file", data=sent, headers=SAME) as response:
            assert response.status == 200
            assert "attachment" in response.headers["Content-Disposition"]
            path.write_bytes(await response.read())
    return path


async def registry_of(federation: Federation) -> Registry:
    """The one in force."""
    async with Client(federation.admin) as admin:
        return await admin.admin.registry()


async def test_an_invitation_of_the_console_enrols(federation: Federation) -> None:
    """It is shown once, and is as good as one of the command line; a cancelled one is not."""
    async with browser(federation.admin) as session:
        form = {"label": "a second data centre", "hours": "2"}
        shown = (await post(session, "/members/acme/invitations", form)).decode()
        text = re.search(r'aria-label="The invitation">([^<]+)<', shown)
        assert text is not None
        joined = await enrol(Invitation.parse(text[1]), federation.folder / "acme-2")
        async with Client(joined.profile) as client:
            assert (await client.whoami()).member == "acme"
        page = await (await session.get("/console/members/acme")).text()
        assert "a second data centre" in page
        assert text[1] not in page
        await post(session, "/members/acme/invitations", form)
        page = await (await session.get("/console/members/acme")).text()
        cancel = re.search(r'action="/console(/members/acme/invitations/[0-9a-f]+/cancel)"', page)
        assert cancel is not None
        await post(session, cancel[1], {}, 303)
        page = await (await session.get("/console/members/acme")).text()
        assert "cancelled" in page


async def test_a_certificate_is_revoked_in_the_console(federation: Federation) -> None:
    """For a reason; its holder is out at once, and the other certificates stay."""
    beta = federation.members["beta"]
    async with Client(beta) as client:
        fingerprint = (await client.whoami()).certificate.fingerprint
    path = f"/members/beta/certificates/{fingerprint}/revoke"
    async with browser(federation.admin) as session:
        await post(session, path, {"reason": " "}, 400)
        async with Client(beta) as client:
            await client.whoami()
        await post(session, path, {"reason": "a laptop was lost"}, 303)
        page = await (await session.get("/console/members/beta")).text()
        assert "a laptop was lost" in page
    async with Client(beta) as client:
        with pytest.raises(SuspendedError):
            await client.whoami()
    async with Client(federation.members["acme"]) as client:
        await client.whoami()


@pytest.mark.parametrize("form", [VIEW, SUSPEND, ADD, VIEW | {"change": "delete-view"}])
async def test_a_proposal_of_the_console_is_signed_elsewhere(
    federation: Federation, form: dict[str, Any], tmp_path: Path
) -> None:
    """It comes into force by the command line, and does what it said, and nothing besides."""
    before = await registry_of(federation)
    path = await download(federation, form, tmp_path / "registry.json")
    assert await registry_of(federation) == before
    seen = await sh("governance", "review", path, profile=federation.admin.folder)
    assert seen.code == 0, seen.err
    assert "missing    1" in seen.out
    signed = await sh("governance", "sign", path, profile=federation.admin.folder)
    assert signed.code == 0, signed.err
    after = await registry_of(federation)
    assert after.version == before.version + 1
    match form["change"]:
        case "set-view":
            view = after.hash_set("csam").views["confirmed"]
            assert (view.quorum, view.dispute_limit) == (1, 2)
            changed = {"hash_sets.csam.views.confirmed"}
        case "delete-view":
            assert "confirmed" not in after.hash_set("csam").views
            changed = {"hash_sets.csam.views.confirmed"}
        case "set-status":
            assert after.member("acme").status is Status.SUSPENDED
            changed = {"members.acme.status"}
        case _:
            added = after.member("gamma")
            assert (added.name, added.jurisdiction) == ("Gamma Ltd", "FR")
            assert added.roles == (Role.CONTRIBUTOR, Role.READER)
            changed = {"members.gamma"}
    told = re.findall(r"^(\S+): ", seen.out, re.MULTILINE)
    assert told
    assert all(any(one.startswith(what) for what in changed) for one in told)


async def test_keys_that_wait_are_approved_by_a_proposal(
    federation: Federation, second: Profile, tmp_path: Path
) -> None:
    """With two who govern, the second of them completes it."""
    joined = await enrol(await federation.invite_known("acme"), federation.folder / "acme-2")
    assert not joined.approved
    form = {"change": "approve-keys", "member": "acme"}
    path = await download(federation, form, tmp_path / "registry.json")
    first = await sh("governance", "sign", path, profile=federation.admin.folder)
    assert "1 more must sign" in first.err
    key = joined.profile.submission_key().public.text
    assert key not in (await registry_of(federation)).member("acme").submission_keys
    done = await sh("governance", "sign", path, profile=second.folder)
    assert "is in force" in done.err
    assert key in (await registry_of(federation)).member("acme").submission_keys
    async with browser(federation.admin) as session:
        await post(session, "/proposals", form, 404)


async def test_a_proposal_shows_what_enters_and_leaves(busy: Federation) -> None:
    """Before anybody has signed anything; and what changes nothing is said to change nothing."""
    async with browser(busy.admin) as session:
        page = (await post(session, "/proposals", VIEW)).decode()
        assert "hash_sets.csam.views.confirmed.quorum" in page
        row = re.search(r"csam/confirmed/sha256</th>(.*?)</tr>", page)
        assert row is not None
        # Before, after, enter, leave, change.
        assert re.findall(r">(\d+)<", row[1]) == ["0", "1", "1", "0", "0"]
        assert "acme (1 enter, 0 leave)" in row[1]
        same = VIEW | {"quorum": "2", "dispute_limit": "1"}
        assert "would change nothing" in (await post(session, "/proposals", same)).decode()


async def test_a_proposal_that_nobody_signed_puts_nothing_into_force(
    federation: Federation, tmp_path: Path
) -> None:
    """Neither sent as it is, nor with the signature of a key that does not govern."""
    path = await download(federation, SUSPEND, tmp_path / "registry.json")
    request = RegistryRequest.parse(path.read_bytes())
    async with Client(federation.admin) as client:
        with pytest.raises(SignatureInvalidError):
            await client.session.send("POST", "/v1/registry", request, RegistryAppended)
        current = await client.admin.registry()
        proposal = parse_proposal(path.read_bytes(), current, current.governance)
        assert proposal.missing == 1
        with pytest.raises(SignatureInvalidError):
            await client.admin.send(proposal)
    done = await sh("governance", "sign", path, profile=federation.members["acme"].folder)
    assert done.code != 0
    assert await status_of(federation, "acme") is Status.ACTIVE


async def test_a_proposal_of_the_console_that_was_overtaken(federation: Federation) -> None:
    """What was shown is what is downloaded: otherwise it is to be looked at again."""
    version = (await registry_of(federation)).version + 1
    async with browser(federation.admin) as session:
        sent = SUSPEND | {"version": str(version)}
        await post(session, "/proposals/file", sent)
        async with Client(federation.admin) as admin:
            await admin.admin.set_status(
                "beta", Status.SUSPENDED, reason="a question", now=datetime.now(UTC)
            )
        assert b"do it again" in await post(session, "/proposals/file", sent, 409)


@pytest.mark.parametrize(
    ("form", "status"),
    [
        (VIEW | {"quorum": "0"}, 400),
        (VIEW | {"quorum": "1001"}, 400),
        (VIEW | {"quorum": "\u0661"}, 400),
        (VIEW | {"quorum_of": "everybody"}, 400),
        (VIEW | {"basis": ""}, 400),
        (VIEW | {"weights": "acme=1"}, 400),
        (VIEW | {"weights": "acme"}, 400),
        (VIEW | {"released_to": "France"}, 400),
        (VIEW | {"sources": "nobody"}, 400),
        (VIEW | {"classifications": "C9"}, 400),
        (VIEW | {"view": "NOT AN ID"}, 400),
        (VIEW | {"hash_set": "other"}, 404),
        (VIEW | {"change": "delete-view", "view": "other"}, 404),
        (SUSPEND | {"status": "asleep"}, 400),
        (SUSPEND | {"member": "nobody"}, 404),
        (ADD | {"member": "acme"}, 409),
        (ADD | {"member": "../acme"}, 400),
        (ADD | {"jurisdiction": "f1"}, 400),
        (ADD | {"roles": ["king"]}, 400),
        ({"change": "set-key"}, 400),
        ({}, 400),
    ],
)
async def test_a_form_that_is_filled_in_badly(
    federation: Federation, form: dict[str, Any], status: int
) -> None:
    """Is refused with a page that says why, and nothing comes of it."""
    async with browser(federation.admin) as session:
        page = await post(session, "/proposals", form, status)
        assert b"<h1>" in page


async def acts(federation: Federation) -> dict[str, dict[str, Any]]:
    """All that an admin can send to the console but for a look at one hash."""
    async with Client(federation.members["beta"]) as client:
        fingerprint = (await client.whoami()).certificate.fingerprint
    await federation.invite_known("beta")
    async with Client(federation.admin) as admin:
        invitation = (await admin.admin.invitations()).invitations[-1].invitation_id
    return {
        "/members/beta/invitations": {"hours": "1"},
        f"/members/beta/invitations/{invitation}/cancel": {},
        f"/members/beta/certificates/{fingerprint}/revoke": {"reason": "none"},
        "/proposals": SUSPEND,
        "/proposals/file": SUSPEND | {"version": str((await registry_of(federation)).version + 1)},
    }


async def test_auditors_look_and_do_not_act(federation: Federation) -> None:
    """Their pages hold no form that acts, and the server takes none from them."""
    auditor = await federation.join("watch", (Role.AUDITOR,))
    sent = await acts(federation)
    before = await trail_of(federation)
    async with browser(auditor) as session:
        for path, form in sent.items():
            assert b"only admins" in await post(session, path, form, 403)
        for page in ("/members", "/members/beta", "/hash-sets", "/hash-sets/csam/views"):
            text = await (await session.get(f"/console{page}")).text()
            assert "<button" not in text, page
    async with browser(federation.members["acme"]) as session:
        for path, form in sent.items():
            assert b"for admins and auditors" in await post(session, path, form, 403)
    assert await trail_of(federation) == before


async def test_no_other_site_acts_by_an_admins_browser(federation: Federation) -> None:
    """Whatever the browser says that is not "our own page", and if it says nothing."""
    sent = await acts(federation)
    before = await trail_of(federation)
    async with browser(federation.admin) as session:
        for path, form in sent.items():
            for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):
                async with session.post(
                    f"/console{path}", data=form, headers=headers, allow_redirects=False
                ) as response:
                    assert response.status == 403, path
            # Nothing of it is done by following a link, either.
            async with session.get(f"/console{path}", allow_redirects=False) as response:
                assert response.status == 405, path
    assert await trail_of(federation) == before
    async with Client(federation.members["beta"]) as client:
        await client.whoami()


async def test_acts_of_the_console_are_in_the_trail(federation: Federation) -> None:
    """Who, what and why; a proposal is none yet."""
    async with browser(federation.admin) as session:
        for path, form in (await acts(federation)).items():
            status = 200 if path.endswith("/invitations") or "proposals" in path else 303
            await post(session, path, form, status)
    told = await trail_of(federation)
    routes = "/console/members/{member}"
    assert [action for action, _ in told] == [
        f"POST {routes}/invitations",
        f"POST {routes}/invitations/{{invitation}}/cancel",
        f"POST {routes}/certificates/{{fingerprint}}/revoke",
    ]
    assert all(facts["member"] == "beta" for _, facts in told)
    assert told[-1][1]["reason"] == "none"


async def trail_of(federation: Federation) -> list[tuple[str, dict[str, Any]]]:
    """What was done in the console, as the audit trail has it."""
    async with Client(federation.admin) as client:
        return [
            (entry.action, dict(entry.facts))
            async for entry in client.admin.trail()
            if entry.kind == "act" and "/console" in entry.action
        ]


async def test_who_is_revoked_stays_revoked(federation: Federation) -> None:
    """No form brings it back."""
    async with Client(federation.admin) as admin:
        await admin.admin.set_status(
            "acme", Status.REVOKED, reason="has left", now=datetime.now(UTC)
        )
    async with browser(federation.admin) as session:
        for status in (Status.ACTIVE, Status.SUSPENDED):
            form = SUSPEND | {"status": status.value}
            assert b"for good" in await post(session, "/proposals", form, 409)

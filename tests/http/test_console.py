"""The console: whom it lets in, what it tells browsers, and that names stay names."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import aiohttp
import msgspec
import pytest
import structlog

from hashshare.client import Client, Profile
from hashshare.client.session import pinned_context
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.members import Role
from hashshare.domain.policy import Basis, DisputeReason
from hashshare.domain.records import AssertRecord, DisputeRecord
from hashshare.domain.statements import Operation
from hashshare.http.console.frame import HEADERS
from tests.support.federation import Federation

VALUE = b"\x07" * 32
HOSTILE = "</title><script>alert(1)</script>\"'&"
PAGES = (
    "",
    "/members",
    "/members/acme",
    "/hash-sets",
    "/hash-sets/csam/views",
    "/hash-sets/csam/views?view=confirmed",
    "/submissions",
    "/cases",
    "/hash",
    "/log",
    "/trail",
    "/report",
)
FORM = {"hash_set": "csam", "algorithm": "sha256", "value": VALUE.hex()}
SAME = {"Sec-Fetch-Site": "same-origin"}


@asynccontextmanager
async def browser(profile: Profile) -> AsyncIterator[aiohttp.ClientSession]:
    tls = pinned_context(profile.trust.ca)
    tls.load_cert_chain(profile.tls_path)
    connector = aiohttp.TCPConnector(ssl=tls)
    async with aiohttp.ClientSession(profile.api_url, connector=connector) as session:
        yield session


@pytest.fixture
async def busy(federation: Federation) -> Federation:
    """A name and a comment that would be scripts; what is asserted is disputed."""
    record = AssertRecord("case-7", {HashAlgorithm.SHA256: VALUE}, "A1", None, Basis.REVIEWED)
    async with Client(federation.members["acme"]) as acme:
        (pushed,) = await acme.push("csam", [record])
        await federation.published(pushed.log_index + 1)
    dispute = DisputeRecord({HashAlgorithm.SHA256: VALUE}, DisputeReason.ADULT)
    async with Client(federation.members["beta"]) as beta:
        (pushed,) = await beta.push("csam", [dispute], operation=Operation.DISPUTE)
        await federation.published(pushed.log_index + 1)
    async with Client(federation.members["acme"]) as acme:
        (case,) = [found.case for found in await acme.cases.open()]
        await acme.cases.confirm(case, comment=HOSTILE)
    async with Client(federation.admin) as admin:
        member = (await admin.admin.registry()).member("beta")
        hostile = msgspec.structs.replace(member, name=HOSTILE)
        await admin.admin.put_member("beta", hostile, new=False, now=datetime.now(UTC))
    return federation


async def test_the_console_is_for_admins_and_auditors(federation: Federation) -> None:
    """All pages; others are told so on a page of its own."""
    auditor = await federation.join("watch", (Role.AUDITOR,))
    for profile, status in (
        (federation.admin, 200),
        (auditor, 200),
        (federation.members["acme"], 403),
    ):
        async with browser(profile) as session:
            for page in PAGES:
                async with session.get(f"/console{page}") as response:
                    text = await response.text()
                    assert (page, response.status) == (page, status)
                    assert response.content_type == "text/html"
                    assert ("for admins and auditors" in text) == (status == 403)
            async with session.post("/console/hash", data=FORM, headers=SAME) as response:
                assert (response.status == 403) == (status == 403)


async def test_nothing_of_the_console_is_framed_sniffed_or_kept(federation: Federation) -> None:
    """Pages, refusals and style sheets alike; and no page holds a script or a style of its own."""
    async with browser(federation.admin) as session:
        for page in (*PAGES, "/static/style.css", "/static/console.css", "/static/other"):
            async with session.get(f"/console{page}") as response:
                text = await response.text()
                assert {n: response.headers.get(n) for n in HEADERS} == HEADERS
                assert not re.search(r"<script|<style|\sstyle=|\son[a-z]+=|https?://", text)
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


async def test_hostile_names_stay_text_in_the_console(busy: Federation) -> None:
    """Of members, what they comment, and what stood in a query or a form."""
    async with browser(busy.admin) as session:
        async with session.get("/console/members") as response:
            members = await response.text()
        async with session.post("/console/hash", data=FORM, headers=SAME) as response:
            assert response.status == 200
            provenance = await response.text()
        async with session.get("/console/cases") as response:
            cases = await response.text()
        named = FORM | {"hash_set": HOSTILE}
        async with session.post("/console/hash", data=named, headers=SAME) as response:
            assert response.status == 404
            refused = await response.text()
        async with session.get("/console/trail", params={"member": HOSTILE}) as response:
            found = await response.text()
    for text in (members, cases, refused, found):
        assert "<script" not in text
        assert "&lt;script&gt;alert(1)" in text
    assert "adult" in provenance
    assert "case-7" in provenance


async def test_forms_are_taken_from_the_console_alone(federation: Federation) -> None:
    """Not from another site's page, nor from a sibling's, nor without a word of whose it is."""
    async with browser(federation.admin) as session:
        for headers in (
            {},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "none"},
            {"Origin": federation.admin.api_url},
        ):
            async with session.post("/console/hash", data=FORM, headers=headers) as response:
                assert response.status == 403
                assert "own pages only" in await response.text()


async def test_a_hash_that_is_looked_up_is_in_no_log(busy: Federation) -> None:
    """Neither the server's lines nor the audit trail, whether it was found or malformed."""
    with structlog.testing.capture_logs() as logs:
        async with browser(busy.admin) as session:
            for value in (VALUE.hex(), "ab" * 32, "zz" + VALUE.hex()):
                async with session.post(
                    "/console/hash", data=FORM | {"value": value}, headers=SAME
                ) as response:
                    assert response.status in {200, 400, 404}
    async with Client(busy.admin) as client:
        entries = [e.model_dump_json() async for e in client.admin.trail()]
    text = json.dumps(logs, default=str) + "".join(entries)
    assert "/console/hash" in text
    assert VALUE.hex() not in text
    assert "ab" * 32 not in text


async def test_the_pages_show_what_there_is(busy: Federation) -> None:
    """A word of each that nothing else would put there."""
    wanted = {
        "": "csam/all/sha256",
        "/members": "acme",
        "/hash-sets": "confirmed",
        "/cases": "adult",
        "/log": "— ",
        "/trail?kind=submission": "assert",
        "/report": "From submission to publication",
    }
    async with browser(busy.admin) as session:
        for page, word in wanted.items():
            async with session.get(f"/console{page}") as response:
                text = await response.text()
                assert response.status == 200
                assert re.search(word, text), page
        async with session.get("/console/trail?since=nonsense") as response:
            assert response.status == 400


async def test_submissions_are_shown_newest_first(busy: Federation) -> None:
    """Of all members or of one, and in pages."""
    async with browser(busy.admin) as session:
        page = await (await session.get("/console/submissions")).text()
        assert page.index("dispute</td>") < page.index("assert</td>")
        assert "waits" not in page
        of_acme = await (await session.get("/console/submissions?member=acme")).text()
        assert "dispute</td>" not in of_acme
        assert "assert</td>" in of_acme
        below = await (await session.get("/console/submissions?before=1")).text()
        assert "There are none." in below
        assert (await session.get("/console/submissions?before=x")).status == 400

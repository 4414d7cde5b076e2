"""Notices: each is told once, none is lost, and nothing unverified is told."""

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import aiohttp
import pytest
from aiohttp import web

from hashshare.client import Client, Profile
from hashshare.client.logbook import Logbook
from hashshare.client.noticeboard import Notice, Noticeboard, NoticeKind
from hashshare.client.notices import Watchman
from hashshare.client.telling import ATOM, Webhook, webhook_secret, write_feed
from hashshare.crypto.note import sign_checkpoint
from hashshare.domain.members import Status
from hashshare.errors import MalformedError, UnavailableError, VerificationError
from tests.cli.test_commands import run, sh
from tests.client.test_faults import records
from tests.support.federation import Federation
from tests.support.hostile import HostileLog, genuine_leaves
from tests.support.relay import run_relay

NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)


def notice(number: int, kind: NoticeKind = NoticeKind.DISPUTE) -> Notice:
    """A made-up notice."""
    return Notice(f"leaf/{number}", kind, NOW, f"text {number}", {"log_index": number}, number)


@asynccontextmanager
async def watching(profile: Profile, *, later: timedelta | None = None) -> AsyncIterator[Watchman]:
    """A watchman that begins at the end of the log, perhaps with a clock that is ahead."""
    with (
        closing(Noticeboard.open(profile.folder / "notices.sqlite")) as board,
        closing(Logbook.open(profile.folder / "noticed.sqlite")) as logbook,
    ):
        async with Client(profile) as client:
            watchman = Watchman(
                profile,
                client.session,
                logbook,
                board,
                clock=lambda: datetime.now(UTC) + (later or timedelta()),
            )
            watchman.begin_at(await client.follow())
            yield watchman


def texts(watchman: Watchman) -> list[str]:
    """What is to be told."""
    return [n.text for n in watchman.board.kept(size=watchman.logbook.size())]


async def suspend(federation: Federation, name: str, status: Status = Status.SUSPENDED) -> None:
    """Have an admin change a member's status."""
    async with Client(federation.admin) as client:
        await client.admin.set_status(name, status, reason="key lost", now=datetime.now(UTC))


async def test_what_the_log_says_is_told(federation: Federation) -> None:
    """From now on, and once; the past is not."""
    async with watching(federation.members["acme"]) as watchman:
        await watchman.look()
        assert texts(watchman) == []
        await suspend(federation, "beta")
        for _ in range(2):
            await watchman.look()
        (text,) = texts(watchman)
        assert "key lost" in text
        (first,) = watchman.board.untold("someone", size=watchman.logbook.size())
        watchman.board.told("someone", first)
        assert watchman.board.untold("someone", size=watchman.logbook.size()) == []
        assert len(watchman.board.untold("another", size=watchman.logbook.size())) == 1


async def test_what_is_not_verified_is_not_told(federation: Federation) -> None:
    """A server shows leaves that have not the root which it signs, and later one that they have."""
    async with watching(federation.members["acme"]) as watchman:
        await watchman.look()
    await suspend(federation, "beta")
    leaves = await genuine_leaves(federation.pool)
    async with run_relay(federation, "acme") as relay:
        log = HostileLog(relay.log, leaves)
        note = sign_checkpoint(replace(log.checkpoint(), root=b"\x01" * 32), relay.log)
        log.lies["/v1/log/checkpoint"] = lambda answer: setattr(answer, "body", note)
        async with watching(relay.profile) as watchman:
            relay.attack = log
            with pytest.raises(VerificationError):
                await watchman.look()
            kinds = {n.kind for n in watchman.board.kept(size=watchman.logbook.size())}
            assert kinds == {NoticeKind.ALARM}
    async with watching(federation.members["acme"]) as watchman:
        await watchman.look()
        assert [n.kind for n in watchman.board.kept(size=watchman.logbook.size())] == [
            NoticeKind.ALARM,
            NoticeKind.REGISTRY,
        ]


def test_what_was_heard_and_not_verified_is_dropped(tmp_path: Path) -> None:
    """A process was killed in between; the genuine statement of that place is told then."""
    with closing(Noticeboard.open(tmp_path / "notices.sqlite")) as board:
        board.put([notice(4), notice(5)])
        assert [n.leaf for n in board.kept(size=5)] == [4]
        board.drop_unverified(5)
        board.put([Notice("leaf/5", NoticeKind.REGISTRY, NOW, "genuine", {}, 5)])
        assert [n.text for n in board.kept(size=6)] == ["text 4", "genuine"]


async def test_admins_hear_of_members(federation: Federation) -> None:
    """Who lags, and whose certificate ends; members hear of their own."""
    async with Client(federation.members["acme"]) as acme:
        for number in (1, 2):
            (pushed,) = await acme.push("csam", records(number))
            await federation.published(pushed.log_index + 1)
            if number == 1:
                async with Client(federation.members["beta"]) as client:
                    await client.pull()
    async with watching(federation.admin) as watchman:
        await watchman.look()
        assert texts(watchman) == []
    async with watching(federation.admin, later=timedelta(days=85)) as watchman:
        for _ in range(2):
            await watchman.look()
        told = texts(watchman)
        assert len(told) == len(set(told))
        for part in (
            "beta has not pulled csam/all/sha256",
            "the newest certificate of acme ends",
            "the newest certificate of beta ends",
            "your certificate ends",
        ):
            assert sum(part in text for text in told) == 1, part
    async with watching(federation.members["acme"], later=timedelta(days=70)) as watchman:
        await watchman.look()
        (text,) = texts(watchman)
        assert text.startswith("your certificate ends")
    async with watching(federation.members["acme"], later=timedelta(days=84)) as watchman:
        await watchman.look()
        assert len(texts(watchman)) == 2


@dataclass(slots=True)
class Hook:
    """Receives notices.

    Attributes:
        fails: So many answers are failures, or lost.
    """

    key: bytes
    url: str = ""
    fails: list[int] = field(default_factory=list)
    received: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """Verify as Standard Webhooks says, and keep."""
        body = await request.read()
        identifier, moment = (request.headers[f"webhook-{n}"] for n in ("id", "timestamp"))
        assert abs(int(moment) - datetime.now(UTC).timestamp()) < 300
        signed = hmac.digest(self.key, f"{identifier}.{moment}.".encode() + body, "sha256")
        assert request.headers["webhook-signature"] == f"v1,{base64.b64encode(signed).decode()}"
        self.received.append((identifier + request.query_string, json.loads(body)))
        if self.fails:
            status = self.fails.pop()
            if status == 0:
                assert request.transport is not None
                request.transport.abort()
            headers = {"Location": f"{self.url}?elsewhere=1"} if status == 307 else {}
            return web.Response(status=status or 200, headers=headers)
        return web.Response(status=204)


@asynccontextmanager
async def hooked(key: bytes) -> AsyncIterator[Hook]:
    """A webhook on this machine."""
    hook = Hook(key)
    app = web.Application()
    app.router.add_post("/hook", hook.answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hook.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield hook
    await runner.cleanup()


@pytest.mark.parametrize("fails", [[], [500], [0], [307, 0, 429]])
async def test_a_webhook_is_told_until_it_acknowledges(tmp_path: Path, fails: list[int]) -> None:
    """The request failed, or its answer was lost: the same id comes again."""
    key = webhook_secret(tmp_path / "secret")
    assert webhook_secret(tmp_path / "secret") == key
    assert (tmp_path / "secret").stat().st_mode & 0o077 == 0
    async with hooked(key) as hook, aiohttp.ClientSession() as http:
        hook.fails = list(fails)
        await Webhook(hook.url, key).post(http, notice(1))
    assert [identifier for identifier, _ in hook.received] == ["leaf/1"] * (len(fails) + 1)
    assert hook.received[-1][1] == {
        "type": "hashshare.dispute",
        "timestamp": "2026-11-25T10:00:00Z",
        "data": {"log_index": 1, "text": "text 1"},
    }


async def test_a_webhook_that_is_away_loses_nothing(tmp_path: Path) -> None:
    """After some attempts it is given up until the next time."""
    async with hooked(b"k") as hook, aiohttp.ClientSession() as http:
        hook.fails = [500] * 5
        with pytest.raises(UnavailableError, match="500"):
            await Webhook(hook.url, b"k").post(http, notice(1))
    async with aiohttp.ClientSession() as http:
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await Webhook(hook.url, b"k").post(http, notice(1))
    for url in ("http://example.org/hook", "ftp://example.org", "http:/127.0.0.1"):
        with pytest.raises(MalformedError):
            Webhook(url, b"k")
    (tmp_path / "secret").write_text("whsec_!")
    with pytest.raises(MalformedError):
        webhook_secret(tmp_path / "secret")


def test_a_feed_is_well_formed(tmp_path: Path) -> None:
    """Whatever members call themselves; the newest comes first, and not without bound."""
    path = tmp_path / "feed.xml"
    hostile = Notice("leaf/0", NoticeKind.REGISTRY, NOW, "<b>&\x00\x0b]]>", {})
    write_feed(path, [hostile, *map(notice, range(1, 300))], coalition="A & B", log="a.example/log")
    feed = ET.parse(path).getroot()  # our own
    entries = feed.findall(f"{{{ATOM}}}entry")
    assert len(entries) == 200
    assert entries[0].findtext(f"{{{ATOM}}}id") == "tag:a.example/log,2026:leaf/299"
    write_feed(path, [hostile], coalition="A & B", log="a.example/log")
    (entry,) = ET.parse(path).getroot().findall(f"{{{ATOM}}}entry")  # our own
    assert entry.findtext(f"{{{ATOM}}}title") == "<b>&]]>"


async def test_the_command(federation: Federation, tmp_path: Path) -> None:
    """As people run it: by hand, and from cron with a webhook and a feed."""
    folder = federation.members["acme"].folder
    first = await sh("notices", profile=folder)
    assert (first.code, first.out) == (0, "")
    await suspend(federation, "beta")
    told = await sh("notices", "--json", profile=folder)
    assert [(o["kind"], o["version"] > 1) for o in told.objects] == [("registry", True)]
    assert (await sh("notices", profile=folder)).out == ""
    assert "key lost" in (await sh("notices", "--all", profile=folder)).out
    key = webhook_secret(folder / "keys" / "webhook.secret")
    async with hooked(key) as hook:
        words = ("notices", "--webhook", hook.url, "--feed", tmp_path / "feed.xml")
        for _ in range(2):
            assert (await sh(*words, profile=folder)).code == 0
    assert len(hook.received) == 1
    assert "key lost" in (tmp_path / "feed.xml").read_text()
    await suspend(federation, "beta", Status.ACTIVE)
    assert (await sh(*words, profile=folder)).code == 4


async def test_the_command_runs_alone(federation: Federation) -> None:
    """Two at once might drop what the other has heard."""
    folder = federation.members["acme"].folder
    codes = [
        done.code
        for done in await asyncio.gather(*(sh("notices", profile=folder) for _ in range(4)))
    ]
    assert set(codes) <= {0, 4}
    assert 0 in codes
    assert run("notices", "--help").code == 0

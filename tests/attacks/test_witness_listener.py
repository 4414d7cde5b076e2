"""Who can reach a witness, or sends its words again: what that must not achieve."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
import structlog

from hashshare.cli.witness_server import CertificateFiles, serve_application
from hashshare.client.session import Session
from hashshare.crypto.cosignature import verify_cosignature
from hashshare.crypto.note import SignedText, parse_note
from hashshare.wire.lists import CosignedDocument
from hashshare.witness import listener
from hashshare.witness.listener import WitnessListener
from hashshare.witness.loop import make_key, open_logbook, witness_of
from tests.client.test_asked_witness import (
    Asked,
    Certified,
    add,
    asked,
    certified,
    log_of,
    reachable,
    reaching,
)
from tests.support.federation import Federation

__all__ = ["asked", "certified", "reaching"]


@asynccontextmanager
async def crowded(federation: Federation, idle_seconds: float) -> AsyncIterator[Asked]:
    """A witness's listener that has eight places."""
    profile = federation.members["acme"]
    make_key(profile)
    with closing(open_logbook(profile)) as logbook:
        app = WitnessListener(profile, witness_of(profile), logbook).application()
        async with serve_application(
            app, "127.0.0.1", 0, None, max_connections=8, idle_seconds=idle_seconds
        ) as url:
            yield Asked(profile, url, log_of(federation, 3))


@asynccontextmanager
async def begun(url: str, count: int) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Open connections that stop in the middle of a request; gives what waits for their end."""
    port = int(url.rpartition(":")[2])
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    for _, writer in opened:
        writer.write(b"POST /add-checkpoint HTTP/1.1\r\n")
    try:
        yield [asyncio.create_task(_ended(reader)) for reader, _ in opened]
    finally:
        for _, writer in opened:
            writer.close()


async def _ended(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        assert await reader.read() == b""


async def test_connections_that_ask_nothing_hold_no_place(federation: Federation) -> None:
    """They are cut after a while, and who asks is answered."""
    async with (
        crowded(federation, idle_seconds=0.2) as asked,
        begun(asked.url, 40) as ends,
        asyncio.timeout(30),
    ):
        answered = 0
        while not answered:
            with suppress(aiohttp.ClientError):
                answered, _, _ = await asked.ask(asked.request(0, 3))
        assert answered == 200
        await asyncio.gather(*ends)


async def test_more_connections_than_there_are_places_for(federation: Federation) -> None:
    """They are closed as they come, so that memory and files are bounded."""
    async with (
        crowded(federation, idle_seconds=3600) as asked,
        begun(asked.url, 40) as ends,
        asyncio.timeout(30),
    ):
        while sum(end.done() for end in ends) < 32:
            await asyncio.sleep(0.05)


async def test_roots_without_end_fill_no_disk(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has the log's key can sign ever other roots; some are kept, and that is enough."""
    monkeypatch.setattr(listener, "MAX_EVIDENCE", 3)
    for number in range(6):
        forked = replace(asked.log, leaves=[b"x%d" % number, *asked.log.leaves[1:]])
        assert (await asked.ask(asked.request(5, 5, forked)))[0] == 422
    assert len(list(asked.profile.folder.glob("evidence-*.json"))) == 3


async def test_a_cosignature_that_is_sent_again(federation: Federation) -> None:
    """By whomever: it takes no later one's place, which would make the log look old to all."""
    profile = federation.members["acme"]
    await add(federation, "acme", "")
    witness = witness_of(profile)
    async with Session.of(profile) as session:
        _, note = await session.request("GET", "/v1/log/checkpoint/pending")
        text, now = parse_note(note).text, datetime.now(UTC).replace(microsecond=0)
        for at in (now, now - timedelta(hours=20)):
            signed = SignedText(text, (witness.cosign(text, now=at),)).encode()
            await session.send("POST", "/v1/log/cosignatures", signed, CosignedDocument)
        _, shown = await session.request("GET", "/v1/log/checkpoint")
    assert verify_cosignature(shown, witness.verifier) == now


async def test_a_witness_with_a_certificate_of_nobody(
    federation: Federation, certified: Certified
) -> None:
    """It is not even asked, so that the log's size stays between the server and its witnesses."""
    async with AsyncExitStack() as stack:
        witness = reachable(federation.members["acme"], certified.files)
        url = await stack.enter_async_context(witness)
        logs = stack.enter_context(structlog.testing.capture_logs())
        await add(federation, "acme", url)
        async with asyncio.timeout(30):
            while not any(entry["event"] == "no cosignature" for entry in logs):
                await asyncio.sleep(0.05)
        assert not any(entry["event"] == "checkpoint cosigned" for entry in logs)


def test_a_certificate_that_is_being_replaced(certified: Certified) -> None:
    """One file is new, or away, and the other not yet: the old pair serves on."""
    files: CertificateFiles = certified.files
    before: ssl.SSLContext = files.context()
    files.certificate.write_text("half of")
    assert files.context() is before
    files.certificate.unlink()
    assert files.context() is before

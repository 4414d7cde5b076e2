"""Wait: a thousand members in long poll, idle and then all woken by one publication."""

import asyncio
import time
from collections.abc import Iterator

import aiohttp

from benchmarks.references import tls_of
from benchmarks.rows import Row, Target, row
from benchmarks.stage import HASH_SET, Stage
from benchmarks.values import records
from hashshare.client import Client, Profile

_WAITING = 1_000
_PUBLICATION = f"/v1/hash-sets/{HASH_SET}/publication"
_SEED = 70_000
_IDLE_SECONDS = 5
_HANDSHAKES_AT_ONCE = 32
"""The server allows 64 of one address, and these are all of one."""


def run(stage: Stage) -> Iterator[Row]:
    """Yield what those who wait cost, and how soon they hear."""
    yield from asyncio.run(_measure(stage))


async def _measure(stage: Stage) -> list[Row]:
    profile = Profile.load(stage.beta)
    answered: list[float] = []
    failed = 0
    async with _many(profile) as http, Client(Profile.load(stage.acme)) as acme:
        async with http.get(profile.api_url + _PUBLICATION) as newest:
            headers = {"If-None-Match": newest.headers["ETag"], "Prefer": "wait=55"}

        async def wait() -> None:
            nonlocal failed
            try:
                async with http.get(profile.api_url + _PUBLICATION, headers=headers) as answer:
                    await answer.read()
                    failed += answer.status != 200
            except aiohttp.ClientError:
                failed += 1
            answered.append(time.perf_counter())

        waiting = [asyncio.create_task(wait()) for _ in range(_WAITING)]
        while True:
            if stage.meter.server_connections() >= _WAITING - failed:
                break
            await asyncio.sleep(0.2)
        with stage.meter.measure() as idle:
            await asyncio.sleep(_IDLE_SECONDS)
        early = len(answered) - failed
        await acme.push("bench", records([(_SEED, 10)]))
        begin = time.perf_counter()
        with stage.meter.measure() as woken:
            await asyncio.gather(*waiting)
    work = f"{_WAITING:,} connections of one member wait; all clients are one process"
    size, spread = stage.size, max(answered) - min(answered)
    return [
        row("waiting, server's CPU while idle", idle.server_cpu / idle.seconds, "cores", work=work,
            size=size),
        row("waiting, errors", float(failed + early), "errors", work=f"{work}; or answered early",
            size=size, target=Target("at most", 0)),
        row("waiting, receipt to the first who hears", min(answered) - begin, "s", work=work,
            size=size),
        row("waiting, from the first to the last", spread, "s", work=work, size=size),
        row("waiting, server's CPU to wake each", woken.server_cpu * 1000 / _WAITING, "ms",
            work=work, size=size),
    ]  # fmt: skip


def _many(profile: Profile) -> aiohttp.ClientSession:
    """Return a session that opens any number of connections, a few at once."""
    opening = asyncio.Semaphore(_HANDSHAKES_AT_ONCE)

    async def acquire(*_: object) -> None:
        await opening.acquire()

    async def release(*_: object) -> None:
        opening.release()

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_start.append(acquire)
    trace.on_connection_create_end.append(release)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls_of(profile), limit=0), trace_configs=[trace]
    )

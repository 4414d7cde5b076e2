"""Serve: members who ask whether there is news, alone and beside downloads."""

import asyncio
import statistics
import time
from collections.abc import Iterator

import aiohttp
import asyncpg
import psutil

from benchmarks.references import empty_server, tls_of
from benchmarks.rows import Reference, Row, Target, row
from benchmarks.stage import HASH_SET, LIST, Stage
from hashshare.client import Profile
from hashshare.client.session import Session
from hashshare.wire.lists import SnapshotDocument

_PUBLICATION = f"/v1/hash-sets/{HASH_SET}/publication"
_REQUESTS, _AT_ONCE = 2_000, 8
_POLLERS, _DOWNLOADS, _SECONDS = 100, 5, 10


def run(stage: Stage) -> Iterator[Row]:
    """Yield what polls cost, and how long they take under load."""
    profile = Profile.load(stage.beta)
    costs, empties, queries = [], [], []
    with empty_server(stage.folder / "coalition") as (url, process):
        for _ in range(stage.repeats):
            before = asyncio.run(_transactions(stage))
            with stage.meter.measure() as usage:
                asyncio.run(_ask(profile, profile.api_url))
            costs.append(usage.server_cpu * 1000 / _REQUESTS)
            queries.append((asyncio.run(_transactions(stage)) - before) / _REQUESTS)
            begin = _cpu(process)
            asyncio.run(_ask(profile, url))
            empties.append((_cpu(process) - begin) * 1000 / _REQUESTS)
    work = f"{_REQUESTS:,} polls answered 304, {_AT_ONCE} connections"
    empty = Reference("an empty aiohttp handler, same TLS", statistics.median(empties))
    yield row("poll, nothing new, server's CPU", costs, "ms", work=work, size=stage.size,
              reference=empty, target=Target("at most", 1.0))  # fmt: skip
    yield row("poll, nothing new, transactions each", queries, "transactions", work=work,
              size=stage.size)  # fmt: skip
    with stage.meter.measure() as usage:
        taken, errors, downloads = asyncio.run(_under_load(profile))
    work = (
        f"{_POLLERS} connections of one member poll each second for {_SECONDS} s, beside "
        f"{_DOWNLOADS} that download snapshots without a pause; all clients are one process"
    )
    cuts = statistics.quantiles(taken, n=100, method="inclusive")
    yield row("polls beside downloads, p50", cuts[49] * 1000, "ms", work=work, size=stage.size)
    yield row("polls beside downloads, p99", cuts[98] * 1000, "ms", work=work, size=stage.size,
              target=Target("at most", 100))  # fmt: skip
    yield row("polls beside downloads, errors", float(errors), "errors", work=work,
              size=stage.size, target=Target("at most", 0))  # fmt: skip
    yield row("polls beside downloads, downloaded", downloads / 1e6 / usage.seconds, "MB/s",
              work=work, size=stage.size)  # fmt: skip
    yield row("polls beside downloads, server's CPU", usage.server_cpu / usage.seconds, "cores",
              work=work, size=stage.size)  # fmt: skip


def _cpu(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))


async def _transactions(stage: Stage) -> int:
    """Return how many transactions our database has committed, as far as it has counted."""
    # Sessions report what they did after a second at the latest, when they are idle.
    await asyncio.sleep(1.5)
    connection = await asyncpg.connect(stage.database)
    try:
        counted = await connection.fetchval(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = 'hashshare'"
        )
    finally:
        await connection.close()
    return int(counted)


async def _ask(profile: Profile, url: str) -> None:
    """Poll as fast as it goes, for what the server has not got."""
    connector = aiohttp.TCPConnector(ssl=tls_of(profile), limit=_AT_ONCE)
    async with aiohttp.ClientSession(connector=connector) as http:
        async with http.get(profile.api_url + _PUBLICATION) as newest:
            headers = {"If-None-Match": newest.headers["ETag"]}

        async def several() -> None:
            for _ in range(_REQUESTS // _AT_ONCE):
                async with http.get(url + _PUBLICATION, headers=headers) as answer:
                    assert answer.status == 304, f"the server answered {answer.status}"

        await asyncio.gather(*(several() for _ in range(_AT_ONCE)))


async def _under_load(profile: Profile) -> tuple[list[float], int, int]:
    """Return how long polls took, how many failed, and the bytes of the downloads."""
    taken: list[float] = []
    failed = downloaded = 0
    async with Session.of(profile) as session:
        path = (await session.get(f"/v1/lists/{LIST}/snapshot", SnapshotDocument)).path
    connector = aiohttp.TCPConnector(ssl=tls_of(profile), limit=0)
    ends = time.perf_counter() + _SECONDS
    async with aiohttp.ClientSession(connector=connector) as http:
        async with http.get(profile.api_url + _PUBLICATION) as newest:
            headers = {"If-None-Match": newest.headers["ETag"]}

        async def poll(number: int) -> None:
            nonlocal failed
            await asyncio.sleep(number / _POLLERS)
            while (begin := time.perf_counter()) < ends:
                try:
                    async with http.get(profile.api_url + _PUBLICATION, headers=headers) as answer:
                        failed += answer.status != 304
                except aiohttp.ClientError:
                    failed += 1
                taken.append(time.perf_counter() - begin)
                await asyncio.sleep(max(0.0, begin + 1 - time.perf_counter()))

        async def download() -> None:
            nonlocal downloaded, failed
            while time.perf_counter() < ends:
                try:
                    async with http.get(profile.api_url + path) as answer:
                        failed += answer.status != 200
                        async for chunk in answer.content.iter_any():
                            downloaded += len(chunk)
                except aiohttp.ClientError:
                    failed += 1

        await asyncio.gather(*map(poll, range(_POLLERS)), *(download() for _ in range(_DOWNLOADS)))
    return taken, failed, downloaded

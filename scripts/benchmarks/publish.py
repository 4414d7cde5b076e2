"""Publish: from an accepted submission of ten hashes to another member's verified replica."""

import asyncio
import statistics
import time
from collections.abc import Iterator

from benchmarks.rows import Row, Target, row
from benchmarks.stage import LIST, Stage
from benchmarks.values import records, values
from hashshare.client import Client, Profile

_SEED = 10_000
_HASHES = 10
_PER_REPEAT = 10


def run(stage: Stage) -> Iterator[Row]:
    """Yield how long small submissions take to arrive, and what publishing them costs."""
    count = _PER_REPEAT * stage.repeats
    with stage.meter.measure() as usage:
        taken = asyncio.run(_measure(stage, count))
    work = f"{count} submissions of {_HASHES} hashes, one after another, a member watching"
    yield row("publish ten, receipt to replica", taken, "s", work=work, size=stage.size,
              target=Target("at most", 1.0))  # fmt: skip
    last = statistics.quantiles(taken, n=100, method="inclusive")[98]
    yield row("publish ten, receipt to replica, p99", last, "s", work=work, size=stage.size,
              target=Target("at most", 3.0))  # fmt: skip
    for label, spent in (("server's", usage.server_cpu), ("PostgreSQL's", usage.database_cpu)):
        yield row(f"publish ten, {label} CPU each", spent / count, "s", work=work, size=stage.size)
    yield row("publish ten, requests each", usage.requests / count, "requests",
              work=work, size=stage.size)  # fmt: skip


async def _measure(stage: Stage, count: int) -> list[float]:
    async with (
        Client(Profile.load(stage.acme)) as acme,
        Client(Profile.load(stage.beta)) as beta,
    ):
        await beta.pull()
        arrived = asyncio.Event()
        watching = asyncio.create_task(_watch(beta, arrived))
        try:
            return [await _one(acme, beta, arrived, _SEED + n) for n in range(count)]
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def _watch(beta: Client, arrived: asyncio.Event) -> None:
    async for _ in beta.watch():
        arrived.set()


async def _one(acme: Client, beta: Client, arrived: asyncio.Event, seed: int) -> float:
    part = [(seed, _HASHES)]
    last = values(part)[-32:].hex()
    await acme.push("bench", records(part))
    begin = time.perf_counter()
    async with asyncio.timeout(120):
        while (await beta.lookup(LIST, [last]))[0].attributes is None:
            await arrived.wait()
            arrived.clear()
    return time.perf_counter() - begin

"""Together: one, two and four members push at once; and small submissions at a steady rate."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.rows import Row, Target, row
from benchmarks.stage import Stage, start_work, wait_for_work, wait_published
from benchmarks.values import records
from hashshare.client import Client, Profile
from hashshare.errors import HashshareError

_SEED, _SEED_SMALL = 50_000, 60_000
_SIZES = (1, 10, 100, 1_000)
_EACH_SECOND, _SECONDS = 10, 10


def run(stage: Stage) -> Iterator[Row]:
    """Yield the rate of one, two and four members, and how long small submissions take."""
    members = [stage.acme, stage.beta, stage.gamma, stage.join("delta")]
    for number in (1, 2, 4):
        yield from _at_once(stage, members[:number])
    yield from _steady(stage, members)


def _at_once(stage: Stage, members: list[Path]) -> Iterator[Row]:
    """Push one large batch, in parts of the same size, each by another member."""
    count = stage.batch // len(members)
    last = 0.0
    rates = []
    for repeat in range(stage.repeats):
        seed = _SEED + 100 * repeat + 10 * len(members)
        working = [
            start_work("push", str(profile), f"{seed + number}:{count}")
            for number, profile in enumerate(members)
        ]
        done = [wait_for_work(process, "push") for process in working]
        # From the first request of whoever is first to the last receipt.
        begin = min(one["began_at"] for one in done)
        rates.append(count * len(members) / (max(one["ended_at"] for one in done) - begin))
        last = max(one["log_index"] for one in done)
        stage.wait_published(last)
    yield row(f"ingest, {len(members)} at once, rate", rates, "hashes/s", size=stage.size,
              work=f"{count:,} new hashes each, to the last receipt")  # fmt: skip


def _steady(stage: Stage, members: list[Path]) -> Iterator[Row]:
    for count in _SIZES:
        with stage.meter.measure() as usage:
            taken, failed, behind = asyncio.run(_submit(members, count))
        number = len(taken)
        work = f"{_EACH_SECOND} submissions a second of {count:,} new hashes, for {_SECONDS} s"
        name = f"submissions of {count:,}"
        yield row(f"{name}, p50", statistics.median(taken) * 1000, "ms", size=stage.size,
                  work=f"{work}; from records to the verified receipt")  # fmt: skip
        last = statistics.quantiles(taken, n=100, method="inclusive")[98]
        yield row(f"{name}, p99", last * 1000, "ms", work=work, size=stage.size)
        yield row(f"{name}, failed", float(failed), "errors", work=work, size=stage.size,
                  target=Target("at most", 0))  # fmt: skip
        yield row(f"{name}, until all is published", behind, "s", work=work, size=stage.size)
        yield row(f"{name}, server's CPU each", usage.server_cpu * 1000 / number, "ms", work=work,
                  size=stage.size)  # fmt: skip
        yield row(f"{name}, PostgreSQL's CPU each", usage.database_cpu * 1000 / number, "ms",
                  work=work, size=stage.size)  # fmt: skip


async def _submit(members: list[Path], count: int) -> tuple[list[float], int, float]:
    """Return how long each took, how many failed, and how long publishing went on after them."""
    taken: list[float] = []
    failed = 0
    last = 0

    async def submit(client: Client, number: int, begin: float) -> None:
        nonlocal failed, last
        await asyncio.sleep(max(0.0, begin - time.perf_counter()))
        begin = time.perf_counter()
        part = (_SEED_SMALL + count * 1_000 + number, count)
        try:
            (pushed,) = await client.push("bench", records([part]))
        except HashshareError:
            failed += 1
        else:
            last = max(last, pushed.log_index)
        taken.append(time.perf_counter() - begin)

    async def be(profile: Path, offset: int, begin: float) -> None:
        """One member submits one after the other: its statements are a chain."""
        async with Client(Profile.load(profile)) as client:
            for number in range(offset, _EACH_SECOND * _SECONDS, len(members)):
                await submit(client, number, begin + number / _EACH_SECOND)

    begin = time.perf_counter() + 1
    await asyncio.gather(*(be(each, offset, begin) for offset, each in enumerate(members)))
    ended = time.perf_counter()
    async with Client(Profile.load(members[0])) as client:
        await wait_published(client, last)
    return taken, failed, time.perf_counter() - ended

"""Load: members write and poll together for a while; at the end nothing is missing anywhere."""

import asyncio
from collections.abc import Iterator

from benchmarks.member import count_of
from benchmarks.rows import Row, Target, row
from benchmarks.stage import LIST, Stage, start_work, wait_for_work
from benchmarks.values import values
from hashshare.client import Client, Profile

_SECONDS = 20
_WRITERS_SEED = 100_000
_SEEDS_EACH = 10_000
_RESTS = (0.0, 0.3, 1.0, 3.0)
"""Seconds between the pulls of each poller."""


def run(stage: Stage) -> Iterator[Row]:
    """Yield how much was written meanwhile, and how much of it is not where it should be."""
    stage.pull(stage.beta)
    pollers = [stage.copy(stage.beta, f"poller-{number}") for number in range(len(_RESTS))]
    with stage.meter.measure() as usage:
        writing = [
            start_work("write", str(profile), str(_WRITERS_SEED + _SEEDS_EACH * number),
                       str(stage.batch // 10), str(_SECONDS))
            for number, profile in enumerate((stage.acme, stage.gamma, stage.join("epsilon")))
        ]  # fmt: skip
        polling = [
            start_work("poll", str(profile), str(rest), str(_SECONDS))
            for profile, rest in zip(pollers, _RESTS, strict=True)
        ]
        written = [wait_for_work(process, "write") for process in writing]
        polled = [wait_for_work(process, "poll") for process in polling]
    stage.wait_published(max(one["log_index"] for one in written))
    parts = [
        (int(one["seed"]) + number, int(count))
        for one in written
        for number, count in enumerate(_counts(one))
    ]
    total = sum(count for _, count in parts)
    lost = [asyncio.run(_count_lost(Profile.load(profile), parts)) for profile in pollers]
    work = (
        f"{len(writing)} members write batches of 1 to 100 hashes, each tenth of "
        f"{stage.batch // 10:,}, and {len(polling)} pull, for {_SECONDS} s"
    )
    size = stage.size
    # Without them nothing could be lost.
    yield row("load, submissions", float(len(parts)), "submissions", work=work, size=size,
              target=Target("at least", 1))  # fmt: skip
    yield row("load, hashes", float(total), "hashes", work=work, size=size)
    yield row("load, pulls", sum(one["pulls"] for one in polled), "pulls", work=work, size=size)
    yield row("load, hashes lost", [float(one) for one in lost], "hashes", size=size,
              work=f"{work}; looked up in each replica", target=Target("at most", 0))  # fmt: skip
    yield row("load, server's CPU", usage.server_cpu / usage.seconds, "cores", work=work, size=size)


def _counts(written: dict[str, float]) -> list[float]:
    """Return the sizes of a writer's submissions; see ``benchmarks.member.count_of``."""
    big = int(written["big"])
    return [count_of(number, big) for number in range(int(written["submissions"]))]


async def _count_lost(profile: Profile, parts: list[tuple[int, int]]) -> int:
    """Pull, and return how many of the hashes the replica has not got."""
    lost = 0
    async with Client(profile) as client:
        await client.pull()
        for part in parts:
            packed = values([part])
            hexes = [packed[at : at + 32].hex() for at in range(0, len(packed), 32)]
            lost += sum(found.attributes is None for found in await client.lookup(LIST, hexes))
    return lost

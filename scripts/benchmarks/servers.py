"""Servers: two of them on one database, which must say the same at all times."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.rows import Row, Target, row
from benchmarks.stage import HASH_SET, Stage, wait_published
from benchmarks.values import records
from hashshare.client import Client, Profile
from hashshare.client.session import Session

_SEED = 80_000
_SUBMISSIONS = 20
_PUBLICATION = f"/v1/hash-sets/{HASH_SET}/publication"

Seen = dict[str, tuple[float, bytes]]
"""By version: when it was seen, and what was said."""


def run(stage: Stage) -> Iterator[Row]:
    """Yield how far two servers differ, while members submit to both."""
    with stage.second_server() as url:
        one, other = asyncio.run(_measure(stage, url))
    both = one.keys() & other.keys()
    differing = sum(one[version][1] != other[version][1] for version in both)
    work = f"{_SUBMISSIONS} submissions to both in turn; a member waits for news at each"
    yield row("two servers, versions seen at both", float(len(both)), "versions", work=work,
              size=stage.size)  # fmt: skip
    yield row("two servers, versions that differ", float(differing), "versions", work=work,
              size=stage.size, target=Target("at most", 0))  # fmt: skip
    lag = [abs(one[version][0] - other[version][0]) * 1000 for version in both]
    yield row("two servers, one behind the other", statistics.median(lag), "ms",
              work=f"{work}; at most {max(lag):.0f} ms", size=stage.size)  # fmt: skip


async def _measure(stage: Stage, url: str) -> tuple[Seen, Seen]:
    first, second = Profile.load(stage.acme), Profile.load(stage.gamma)
    elsewhere = replace(second, api_url=url)
    seen: list[Seen] = [{}, {}]
    async with Client(first) as acme, Client(elsewhere) as gamma:
        begin = (await acme.latest(HASH_SET)).publication.version
        watching = [
            asyncio.create_task(_watch(each, kept, begin))
            for each, kept in zip((first, elsewhere), seen, strict=True)
        ]
        last = 0
        for number in range(_SUBMISSIONS):
            client = (acme, gamma)[number % 2]
            (pushed,) = await client.push(HASH_SET, records([(_SEED + number, 10)]))
            last = max(last, pushed.log_index)
            await asyncio.sleep(0.25)
        for client in (acme, gamma):
            await wait_published(client, last)
        await asyncio.sleep(1)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
    return seen[0], seen[1]


async def _watch(profile: Profile, seen: Seen, version: int) -> None:
    """Note each version as soon as the server tells of it."""
    async with Session.of(profile) as session:
        while True:
            headers = {"If-None-Match": f'"{version}"', "Prefer": "wait=20"}
            async with session.stream(_PUBLICATION, headers=headers) as (answer, chunks):
                body = b"".join([chunk async for chunk in chunks])
            if answer.status == 200:
                version = int(answer.headers["ETag"].strip('"'))
                seen[str(version)] = (time.perf_counter(), body)

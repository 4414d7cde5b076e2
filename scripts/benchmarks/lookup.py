"""Look-ups: in the replica, single and many at once; and in one bucket of the server."""

import asyncio
import time
from collections.abc import Iterator

from benchmarks.rows import Row, row
from benchmarks.stage import LIST, Stage
from benchmarks.values import values
from hashshare.client import Client, Profile

_SEED_ABSENT = 30_000
_FILL = 1_000
_MANY, _SINGLE, _REMOTE = 10_000, 200, 20


def run(stage: Stage) -> Iterator[Row]:
    """Yield how long a look-up takes."""
    stage.pull(stage.beta)
    yield from asyncio.run(_measure(stage))


async def _measure(stage: Stage) -> list[Row]:
    rows = []
    async with Client(Profile.load(stage.beta)) as client:
        for name, seed in (("present", _FILL), ("absent", _SEED_ABSENT)):
            hashes = _hexes(seed, min(_MANY, stage.batch))
            many = [await _local(client, hashes, len(hashes), name) for _ in range(stage.repeats)]
            single = [await _local(client, hashes[:_SINGLE], 1, name) for _ in range(stage.repeats)]
            work = f"in the replica, sha256, {name}; from text to attributes"
            rows += [
                row(f"look up {len(hashes):,} {name}, each", many, "µs", work=work,
                    size=stage.size),
                row(f"look up one {name}", single, "µs", work=work, size=stage.size),
            ]  # fmt: skip
        with stage.meter.measure() as usage:
            remote = [await _remote(client, text) for text in _hexes(_FILL, _REMOTE)]
    work = "a bucket of the server, proven against the signed root; the log is followed each time"
    rows += [
        row("look up one remotely", remote, "ms", work=work, size=stage.size),
        row("look up one remotely, server's CPU", usage.server_cpu * 1000 / _REMOTE, "ms",
            work=work, size=stage.size),
        row("look up one remotely, requests", usage.requests / _REMOTE, "requests", work=work,
            size=stage.size),
    ]  # fmt: skip
    return rows


def _hexes(seed: int, count: int) -> list[str]:
    packed = values([(seed, count)])
    return [packed[begin : begin + 32].hex() for begin in range(0, len(packed), 32)]


async def _local(client: Client, hashes: list[str], at_once: int, name: str) -> float:
    """Return microseconds a look-up."""
    begin = time.perf_counter()
    for number in range(0, len(hashes), at_once):
        found = await client.lookup(LIST, hashes[number : number + at_once])
        assert all((one.attributes is not None) == (name == "present") for one in found)
    return (time.perf_counter() - begin) * 1e6 / len(hashes)


async def _remote(client: Client, text: str) -> float:
    """Return milliseconds."""
    begin = time.perf_counter()
    found = await client.lookup_remote(LIST, text)
    assert found.attributes is not None
    return (time.perf_counter() - begin) * 1000

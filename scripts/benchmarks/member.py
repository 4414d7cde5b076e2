"""One member's work in a process of its own; prints what it took as one JSON object.

python -m benchmarks.member push PROFILE SEED:COUNT...
python -m benchmarks.member pull PROFILE
python -m benchmarks.member write PROFILE SEED BIG SECONDS
python -m benchmarks.member poll PROFILE REST SECONDS
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from benchmarks.values import records
from hashshare.client import Client, Profile
from hashshare.client.push import PushProgress

HASH_SET = "bench"


class _Timed(PushProgress):
    """Notes when a push comes to each stage."""

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        if name == "stage":
            self.__dict__.setdefault("times", {})[value] = (
                time.perf_counter(),
                time.process_time(),
            )


async def push(client: Client, specs: list[str]) -> dict[str, float]:
    """Push; what is told begins when the batch is packed, and ends with the verified receipt."""
    parts = [(int(seed), int(count)) for seed, count in (spec.split(":") for spec in specs)]
    progress = _Timed()
    begin = time.perf_counter()
    pushed = await client.push(HASH_SET, records(parts), progress=progress)
    times = progress.__dict__["times"]
    return {
        "packing": times["sending"][0] - begin,
        "seconds": times["done"][0] - times["sending"][0],
        "cpu": times["done"][1] - times["sending"][1],
        "began_at": times["sending"][0],
        "ended_at": times["done"][0],
        "log_index": pushed[-1].log_index,
        "new": sum(one.counts.new for one in pushed),
    }


async def pull(client: Client, _: list[str]) -> dict[str, float]:
    """Pull everything; from asked to verified and stored."""
    begin, cpu = time.perf_counter(), time.process_time()
    pulled = await client.pull()
    return {
        "seconds": time.perf_counter() - begin,
        "cpu": time.process_time() - cpu,
        "entries": sum(one.count for one in pulled),
        "lists": len(pulled),
        "snapshots": sum(one.changes is None for one in pulled),
    }


def count_of(number: int, big: int) -> int:
    """Return how many hashes the submission of that number has: each tenth is big."""
    return big if number % 10 == 9 else 1 + number * 37 % 100


async def write(client: Client, specs: list[str]) -> dict[str, float]:
    """Submit one batch after the other, until the time is over."""
    seed, big = int(specs[0]), int(specs[1])
    until = time.monotonic() + float(specs[2])
    number = last = 0
    while time.monotonic() < until:
        pushed = await client.push(HASH_SET, records([(seed + number, count_of(number, big))]))
        last = pushed[-1].log_index
        number += 1
    return {"seed": seed, "big": big, "submissions": number, "log_index": last}


async def poll(client: Client, specs: list[str]) -> dict[str, float]:
    """Pull, rest, and pull again, until the time is over."""
    rest = float(specs[0])
    until = time.monotonic() + float(specs[1])
    pulls = 0
    while time.monotonic() < until:
        await client.pull()
        pulls += 1
        await asyncio.sleep(rest)
    return {"pulls": pulls}


def peak_memory() -> int:
    """Return the most bytes that this process held, since it is itself.

    What the system tells of a child, ``ru_maxrss``, begins with its parent's.
    """
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


JOBS = {"push": push, "pull": pull, "write": write, "poll": poll}


async def main(words: list[str]) -> None:
    """Do what the command line says."""
    job, profile, *specs = words
    async with Client(Profile.load(Path(profile))) as client:
        done = await JOBS[job](client, specs)
        done |= {
            "sent": client.session.sent,
            "received": client.session.received,
            "memory": peak_memory(),
        }
    print(json.dumps(done))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))

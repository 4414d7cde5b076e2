"""One member's work in a process of its own; prints what it took as one JSON object.

python -m benchmarks.member push PROFILE SEED:COUNT...
python -m benchmarks.member pull PROFILE
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
        "log_index": pushed[-1].log_index,
        "new": sum(one.counts.new for one in pushed),
    }


async def pull(client: Client) -> dict[str, float]:
    """Pull everything; from asked to verified and stored."""
    begin, cpu = time.perf_counter(), time.process_time()
    pulled = await client.pull()
    return {
        "seconds": time.perf_counter() - begin,
        "cpu": time.process_time() - cpu,
        "entries": sum(one.count for one in pulled),
        "lists": len(pulled),
    }


async def main(words: list[str]) -> None:
    """Do what the command line says."""
    job, profile, *specs = words
    async with Client(Profile.load(Path(profile))) as client:
        done = await (push(client, specs) if job == "push" else pull(client))
        done |= {"sent": client.session.sent, "received": client.session.received}
    print(json.dumps(done))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))

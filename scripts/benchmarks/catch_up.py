"""Catch up: large changes, a long absence, a download that was killed, ten members at once."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.rows import Row, Target, row
from benchmarks.stage import (
    HASH_SET,
    LIST,
    Stage,
    Work,
    forget_replica,
    start_work,
    wait_for_work,
    wait_published,
)
from benchmarks.values import records
from hashshare.client import Client, Profile
from hashshare.client.session import Session
from hashshare.wire.lists import SnapshotDocument

_SEED, _SEED_AWAY = 40_000, 41_000
_CHANGES = (10_000, 1_000_000)
_AT_ONCE = 10
_HASHES = 10


def run(stage: Stage) -> Iterator[Row]:
    """Yield what it takes to come from an older version, or from none, to the newest."""
    stage.pull(stage.beta)
    yield from _large(stage)
    yield from _away(stage)
    yield from _killed(stage)
    yield from _at_once(stage)


def _large(stage: Stage) -> Iterator[Row]:
    for number, wanted in enumerate(_CHANGES):
        count = min(wanted, stage.batch)
        stage.push_and_publish(stage.acme, (_SEED + number, count))
        done = stage.pull(stage.beta)
        way = "a snapshot and a delta" if done["snapshots"] else "a delta"
        work = f"{count:,} new entries on {stage.size:,}, by {way}"
        yield row(f"catch up by {count:,}", done["seconds"], "s", work=work, size=stage.size)
        yield row(f"catch up by {count:,}, received bodies", done["received"] / count,
                  "bytes/change", work=work, size=stage.size)  # fmt: skip


def _away(stage: Stage) -> Iterator[Row]:
    away = stage.copy(stage.beta, "away")
    asyncio.run(_publish(stage))
    done = stage.pull(away)
    work = f"away for {stage.versions:,} versions of {_HASHES} hashes each"
    yield row("catch up after a long absence", done["seconds"], "s", work=work, size=stage.size)
    yield row("catch up after a long absence, received bodies", done["received"] / 1000, "kB",
              work=work, size=stage.size)  # fmt: skip


async def _publish(stage: Stage) -> None:
    """Make so many versions, one after another."""
    async with Client(Profile.load(stage.acme)) as acme:
        for number in range(stage.versions):
            (pushed,) = await acme.push(HASH_SET, records([(_SEED_AWAY + number, _HASHES)]))
            await wait_published(acme, pushed.log_index)


def _killed(stage: Stage) -> Iterator[Row]:
    profile = stage.copy(stage.beta, "killed")
    forget_replica(profile)
    snapshot = asyncio.run(_snapshot(Profile.load(profile)))
    process = start_work("pull", str(profile))
    kept = _kill_in_the_middle(process, profile / "downloads", snapshot.size)
    if kept is None:
        print("bench: skipped the resumed pull: the download was over before it could be killed")
        return
    done = stage.pull(profile)
    work = f"killed with {kept / snapshot.size:.0%} of the snapshot on disk, and pulled again"
    yield row("pull after a kill", done["seconds"], "s", work=work, size=stage.size)
    yield row("pull after a kill, received again", (done["received"] + kept) / snapshot.size - 1,
              "of the snapshot", work=f"{work}; the log's bodies are counted too",
              size=stage.size)  # fmt: skip


def _kill_in_the_middle(process: Work, folder: Path, size: int) -> int | None:
    """Kill a pull once a tenth is there; return how much is, None if it was too quick."""
    while process.poll() is None:
        kept = sum(path.stat().st_size for path in folder.glob("*.parquet"))
        if size / 10 < kept < size:
            process.kill()
            process.wait()
            # It may have come to its end meanwhile.
            kept = sum(path.stat().st_size for path in folder.glob("*.parquet"))
            return kept if kept < size else None
        time.sleep(0.002)
    return None


async def _snapshot(profile: Profile) -> SnapshotDocument:
    async with Session.of(profile) as session:
        return await session.get(f"/v1/lists/{LIST}/snapshot", SnapshotDocument)


def _at_once(stage: Stage) -> Iterator[Row]:
    profiles = [stage.copy(stage.beta, f"many-{number}") for number in range(_AT_ONCE)]
    for profile in profiles:
        forget_replica(profile)
    with stage.meter.measure() as usage:
        begin = time.perf_counter()
        working = [start_work("pull", str(profile)) for profile in profiles]
        done = [wait_for_work(process, "pull") for process in working]
        seconds = time.perf_counter() - begin
    assert all(one["entries"] == done[0]["entries"] for one in done)
    work = f"{_AT_ONCE} members pull everything at once, each a process of its own on this machine"
    yield row("pull all, ten at once, each", [one["seconds"] for one in done], "s", work=work,
              size=stage.size)  # fmt: skip
    yield row("pull all, ten at once, until the last", seconds, "s", size=stage.size,
              work=f"{work}; with the start of the processes")  # fmt: skip
    yield row("pull all, ten at once, server's CPU each", usage.server_cpu / _AT_ONCE, "s",
              work=work, size=stage.size)  # fmt: skip
    memory = statistics.median(one["memory"] for one in done) / 2**20
    yield row("pull all, ten at once, client's peak memory", memory, "MiB", work=work,
              size=stage.size, target=Target("at most", 512))  # fmt: skip

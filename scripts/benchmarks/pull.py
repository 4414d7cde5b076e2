"""Pull: the whole of a list, a delta, and nothing new, to a verified replica."""

import asyncio
import statistics
from collections.abc import Iterator

from benchmarks.meter import MIB, Usage
from benchmarks.references import bound_bytes, curl_and_hash
from benchmarks.rows import Reference, Row, Target, row
from benchmarks.stage import LIST, Stage, forget_replica
from hashshare.client import Profile
from hashshare.client.session import Session
from hashshare.wire.lists import SnapshotDocument

_SEED = 20_000
_CHANGE = 1_000

Measured = list[tuple[dict[str, float], Usage]]


def run(stage: Stage) -> Iterator[Row]:
    """Yield figures of pulling, by a member that has nothing, and by one that has all."""
    # The first one to ask has a snapshot made.
    forget_replica(stage.beta)
    first = stage.pull(stage.beta)
    yield row("pull all, the first to ask", first["seconds"], "s", size=stage.size,
              work="the snapshot is not made yet, or is older")  # fmt: skip
    measured, fetched = [], []
    profile = Profile.load(stage.beta)
    snapshot = asyncio.run(_snapshot(profile))
    for _ in range(stage.repeats):
        forget_replica(stage.beta)
        measured.append(_pull(stage))
        fetched.append(_curl(stage, profile, snapshot))
    yield from _full_rows(
        stage, measured, [taken for taken in fetched if taken is not None], snapshot
    )
    yield from _delta_rows(stage)
    nothing = [_pull(stage) for _ in range(stage.repeats)]
    yield row("pull nothing new", [done["seconds"] for done, _ in nothing], "s",
              work="a pull of a member that has all, log and all", size=stage.size)  # fmt: skip
    yield row("pull nothing new, server's CPU", [usage.server_cpu for _, usage in nothing], "s",
              work="all requests of it", size=stage.size)  # fmt: skip


def _pull(stage: Stage) -> tuple[dict[str, float], Usage]:
    with stage.meter.measure() as usage:
        done = stage.pull(stage.beta)
    return done, usage


async def _snapshot(profile: Profile) -> SnapshotDocument:
    async with Session.of(profile) as session:
        return await session.get(f"/v1/lists/{LIST}/snapshot", SnapshotDocument)


def _curl(stage: Stage, profile: Profile, snapshot: SnapshotDocument) -> float | None:
    fetched = curl_and_hash(profile, snapshot.path, stage.folder)
    if fetched is None:
        print("bench: skipped the reference of pulls: no curl or no sha256sum here")
        return None
    assert fetched[1] == snapshot.sha256, "curl got other bytes than the server describes"
    return fetched[0]


def _full_rows(
    stage: Stage, measured: Measured, fetched: list[float], snapshot: SnapshotDocument
) -> Iterator[Row]:
    size, entries = stage.size, snapshot.count
    work = f"a snapshot of {entries:,} entries, verified, in the replica; the log is known"
    curl = Reference("curl | sha256sum", statistics.median(fetched)) if fetched else None
    done, used = [one for one, _ in measured], [usage for _, usage in measured]
    yield row("pull all", [one["seconds"] for one in done], "s", work=work, size=size,
              reference=curl, target=Target("at most", 2.5, of="ratio"))  # fmt: skip
    bound = Reference("log2 C(2^256, N), attributes alike", bound_bytes(entries) / entries)
    yield row("pull all, snapshot", snapshot.size / entries, "bytes/entry", work=work, size=size,
              reference=bound, target=Target("at most", 1.08, of="ratio"))  # fmt: skip
    for label, values, unit in (
        ("client's CPU", [one["cpu"] for one in done], "s"),
        ("server's CPU", [usage.server_cpu for usage in used], "s"),
        ("PostgreSQL's CPU", [usage.database_cpu for usage in used], "s"),
        ("on the wire, with TLS", [usage.wire / entries for usage in used], "bytes/entry"),
        ("requests", [float(usage.requests) for usage in used], "requests"),
    ):
        yield row(f"pull all, {label}", values, unit, work=work, size=size)
    yield row("pull all, client's peak memory", [one["memory"] / MIB for one in done], "MiB",
              work=work, size=size, target=Target("at most", 512))  # fmt: skip


def _delta_rows(stage: Stage) -> Iterator[Row]:
    deltas = []
    for number in range(stage.repeats):
        stage.push_and_publish(stage.acme, (_SEED + number, _CHANGE))
        deltas.append(_pull(stage)[0])
    work = f"{_CHANGE:,} new entries on what the replica holds; all bodies, the log's too"
    yield row("pull a delta", [one["seconds"] for one in deltas], "s", work=work,
              size=stage.size, target=Target("at most", 0.5))  # fmt: skip
    yield row("pull a delta, received bodies", [one["received"] / 1000 for one in deltas], "kB",
              work=work, size=stage.size, target=Target("at most", 60))  # fmt: skip

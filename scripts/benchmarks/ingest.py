"""Ingest: a signed batch through mutual TLS to its receipt; new, known by others, half and half."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.meter import MIB, Usage
from benchmarks.references import BareDatabase
from benchmarks.rows import Reference, Row, Target, row
from benchmarks.stage import Stage
from benchmarks.values import Part

# Seeds of values; the hash set is filled from those from 1,000 on.
_FILL, _NEW, _HALF = 1_000, 1, 500
_MEANT_FOR = 1_000_000

Measured = list[tuple[dict[str, float], Usage]]


def fill(stage: Stage) -> Iterator[Row]:
    """Fill the hash set up to the size of the stage, from the member acme."""
    for number in range(stage.size // stage.batch):
        begin = time.monotonic()
        done = stage.push_and_publish(stage.acme, (_FILL + number, stage.batch))
        if number:
            continue
        work = f"a packed batch of {stage.batch:,} into an empty hash set, once"
        rate = stage.batch / done["seconds"]
        published = time.monotonic() - begin - done["packing"] - done["seconds"]
        yield row("fill, into an empty set, rate", rate, "hashes/s", size=stage.size,
                  work=f"{work}: from its first request to its receipt")  # fmt: skip
        yield row("fill, the first batch, receipt to publication", published, "s",
                  work=f"{work}, with the start of the client", size=stage.size)  # fmt: skip


def run(stage: Stage) -> Iterator[Row]:
    """Yield figures of pushing large batches into a hash set that is filled."""
    bare = BareDatabase(stage.database)
    for number in range(stage.size // stage.batch):
        bare.insert((_FILL + number, stage.batch))
    new: Measured = []
    bare_rates = []
    for number in range(stage.repeats):
        part = (_NEW + number, stage.batch)
        new.append(_push(stage, stage.acme, part))
        # In turn with ours, so that both meet the same weather.
        bare_rates.append(stage.batch / bare.insert(part))
    yield from _new_rows(stage, new, bare_rates)
    fresh = Reference("all new", statistics.median(_rates(stage, new)))
    known = [_push(stage, stage.beta, (_NEW + n, stage.batch)) for n in range(stage.repeats)]
    half = stage.batch // 2
    mixed = [
        _push(stage, stage.gamma, (_HALF + n, half), (_NEW + n, half)) for n in range(stage.repeats)
    ]
    yield row("ingest, known by another, rate", _rates(stage, known), "hashes/s", size=stage.size,
              work="the same batches, by another member", reference=fresh,
              target=Target("at least", 1.0, of="ratio"))  # fmt: skip
    yield row("ingest, half new, rate", _rates(stage, mixed), "hashes/s", size=stage.size,
              work="batches of which others have said half", reference=fresh)  # fmt: skip


def _new_rows(stage: Stage, measured: Measured, bare_rates: list[float]) -> Iterator[Row]:
    count, size = stage.batch, stage.size
    bare = Reference("bare COPY, anti-join, INSERT", statistics.median(bare_rates))
    work = f"a packed batch of {count:,} into {size:,}: from its first request to its receipt"
    yield row("ingest, all new, rate", _rates(stage, measured), "hashes/s", work=work, size=size,
              reference=bare, target=Target("at least", 0.7, "ratio", size=_MEANT_FOR))  # fmt: skip
    yield row("ingest, all new, rate, absolute", _rates(stage, measured), "hashes/s", work=work,
              size=size, target=Target("at least", 150_000, size=_MEANT_FOR))  # fmt: skip
    done, used = [one for one, _ in measured], [usage for _, usage in measured]
    for label, values, unit in (
        ("client's packing before", [one["packing"] for one in done], "s"),
        ("client's CPU", [one["cpu"] for one in done], "s"),
        ("server's CPU", [usage.server_cpu for usage in used], "s"),
        ("PostgreSQL's CPU", [usage.database_cpu for usage in used], "s"),
        ("sent bodies", [one["sent"] / count for one in done], "bytes/hash"),
        ("requests", [float(usage.requests) for usage in used], "requests"),
    ):
        yield row(f"ingest, all new, {label}", values, unit, work=work, size=size)
    yield row("ingest, all new, client's peak memory", [one["memory"] / MIB for one in done],
              "MiB", work=work, size=size, target=Target("at most", 512))  # fmt: skip


def _push(stage: Stage, profile: Path, *parts: Part) -> tuple[dict[str, float], Usage]:
    with stage.meter.measure() as usage:
        done = stage.push(profile, *parts)
    # Publishing must not disturb what is measured next.
    stage.wait_published(done["log_index"])
    return done, usage


def _rates(stage: Stage, measured: Measured) -> list[float]:
    return [stage.batch / done["seconds"] for done, _ in measured]

"""TAXII: the same hashes to and from OpenTAXII, which it installs: only where it is named."""

import json
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from benchmarks.open_taxii import (
    VERSION,
    OpenTaxii,
    OpenTaxiiError,
    TaxiiMember,
    run_open_taxii,
)
from benchmarks.rows import Reference, Row, row
from benchmarks.stage import Stage
from benchmarks.values import SIZE, Part, values

_SEED = 110_000
# It takes in one or two hundred a second, and large pieces cost it the least.
_COUNT = 2_000
_PIECE = 2_000
_REFERENCE = f"OpenTAXII {VERSION}, plain HTTP, one worker"
_MOMENT = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True, slots=True)
class Job:
    """Hashes that were pushed or fetched, and what that took.

    Attributes:
        moved: Bytes of bodies, both ways.
    """

    hashes: int
    seconds: float
    moved: float


@dataclass(frozen=True, slots=True)
class Turn:
    """One repeat: the same hashes pushed and then fetched, by ours and by theirs."""

    pushed: Job
    fetched: Job
    their_pushed: Job
    their_fetched: Job


def run(stage: Stage) -> Iterator[Row]:
    """Yield figures of both; none if OpenTAXII cannot be had here."""
    try:
        with run_open_taxii(stage.folder, stage.database) as server:
            turns = [_measure(stage, server, number) for number in range(stage.repeats)]
    except OpenTaxiiError as error:
        print(f"bench: skipped taxii: {error}", file=sys.stderr, flush=True)
        return
    yield from rows(turns, stage.size)


def rows(turns: Sequence[Turn], size: int) -> Iterator[Row]:
    """Yield the rate and the bytes of what was pushed and fetched, beside OpenTAXII's."""
    yield from _beside(
        "ingest",
        [(turn.pushed, turn.their_pushed) for turn in turns],
        f"a batch of {_COUNT:,} into {size:,} over TLS, to its receipt; OpenTAXII: envelopes of "
        f"{_PIECE:,} indicators into a collection that begins empty, until complete",
        size,
    )
    yield from _beside(
        "fetch",
        [(turn.fetched, turn.their_fetched) for turn in turns],
        f"a delta of {_COUNT:,} on {size:,}, verified, in the replica; OpenTAXII: the whole "
        f"collection in pages of {_PIECE:,}, parsed and not kept",
        size,
    )


def _beside(label: str, pairs: list[tuple[Job, Job]], work: str, size: int) -> Iterator[Row]:
    for figure, unit, of in (
        ("rate", "hashes/s", _rate),
        ("bodies both ways", "bytes/hash", _each),
    ):
        theirs = statistics.median(of(their) for _, their in pairs)
        yield row(f"against OpenTAXII, {label}, {figure}", [of(our) for our, _ in pairs], unit,
                  work=work, size=size, reference=Reference(_REFERENCE, theirs))  # fmt: skip


def _rate(job: Job) -> float:
    return job.hashes / job.seconds


def _each(job: Job) -> float:
    return job.moved / job.hashes


def _measure(stage: Stage, server: OpenTaxii, number: int) -> Turn:
    """Push and fetch by both, in turn, so that both meet the same weather."""
    part = (_SEED + number, _COUNT)
    return Turn(*_ours(stage, part), *_theirs(stage, server, part, _COUNT * (number + 1)))


def _ours(stage: Stage, part: Part) -> tuple[Job, Job]:
    # So that what is fetched below is a delta of these hashes alone.
    stage.pull(stage.beta)
    pushed = stage.push(stage.acme, part)
    stage.wait_published(pushed["log_index"])
    pulled = stage.pull(stage.beta)
    return _told(pushed), _told(pulled)


def _told(done: dict[str, float]) -> Job:
    return Job(_COUNT, done["seconds"], done["sent"] + done["received"])


def _theirs(stage: Stage, server: OpenTaxii, part: Part, total: int) -> tuple[Job, Job]:
    # Ours are packed before the clock starts, too.
    envelopes = _envelopes(part)
    pushed = _job(server, lambda one: sum(one.push(envelope) for envelope in envelopes))
    fetched = _job(server, lambda one: one.fetch(_PIECE))
    for job, expected in ((pushed, _COUNT), (fetched, total)):
        if job.hashes != expected:
            raise OpenTaxiiError(f"it has {job.hashes:,} objects where {expected:,} were pushed")
    return pushed, fetched


def _job(server: OpenTaxii, work: Callable[[TaxiiMember], int]) -> Job:
    """Do the work as a member of its own; it tells how many hashes that were."""
    with closing(server.connect()) as member:
        begin = time.perf_counter()
        count = work(member)
        return Job(count, time.perf_counter() - begin, member.moved)


def _envelopes(part: Part) -> list[bytes]:
    """Return the hashes as STIX 2.1 indicators, in envelopes of TAXII 2.1."""
    packed = values([part])
    objects = [_indicator(packed[at : at + SIZE]) for at in range(0, len(packed), SIZE)]
    return [
        json.dumps(
            {"more": False, "objects": objects[at : at + _PIECE]}, separators=(",", ":")
        ).encode()
        for at in range(0, len(objects), _PIECE)
    ]


def _indicator(value: bytes) -> dict[str, str]:
    """Return an indicator with what is required of one, and no more."""
    return {
        "type": "indicator",
        "spec_version": "2.1",
        "id": f"indicator--{uuid.UUID(bytes=value[:16], version=4)}",
        "created": _MOMENT,
        "modified": _MOMENT,
        "pattern": f"[file:hashes.'SHA-256' = '{value.hex()}']",
        "pattern_type": "stix",
        "valid_from": _MOMENT,
    }

"""Measures hashshare with made-up hashes, against what bounds it on the same machine.

Everything is real: TLS, PostgreSQL, and the server and each large client in a process of its
own. A figure is the median of its repeats. References are measured in the same run.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from benchmarks import (
    audit,
    catch_up,
    ingest,
    load,
    lookup,
    publish,
    pull,
    serve,
    servers,
    taxii,
    together,
    waiting,
)
from benchmarks.meter import MIB
from benchmarks.rows import Row, Target, print_table, read_json, row, to_markdown, write_json
from benchmarks.stage import Stage, open_stage

SIZES = {"100k": 100_000, "1m": 1_000_000, "10m": 10_000_000, "30m": 30_000_000}
# In this order: the later ones find what the earlier ones left, and none disturbs another.
SCENES: dict[str, Callable[[Stage], Iterator[Row]]] = {
    "pull": pull.run,
    "publish": publish.run,
    "lookup": lookup.run,
    "serve": serve.run,
    "waiting": waiting.run,
    "servers": servers.run,
    "ingest": ingest.run,
    "together": together.run,
    "catch-up": catch_up.run,
    "load": load.run,
    "audit": audit.run,
    "taxii": taxii.run,
}
# What installs something is measured only where it is named.
ON_REQUEST = {"taxii"}
EPILOG = "Example: scripts/bench --size 100k --only ingest --json figures.json"


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__, epilog=EPILOG)
    parser.add_argument("--size", choices=SIZES, default="1m", help="entries (default: 1m)")
    parser.add_argument("--only", choices=SCENES, action="append",
                        help="this scene; repeatable (default: all but taxii)")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    parser.add_argument("--repeat", type=int, default=3, help="times each (default: 3)")
    parser.add_argument("--versions", type=int, default=100, metavar="N",
                        help="for how many a client is away (default: 100)")  # fmt: skip
    parser.add_argument("--markdown", type=Path, nargs="+", metavar="FILE",
                        help="measure nothing; print what --json wrote, as a table")  # fmt: skip
    parser.add_argument("--list", action="store_true", help="say which scenes there are, and end")
    options = parser.parse_args()
    if options.list:
        for name, scene in SCENES.items():
            print(f"{name:8} {sys.modules[scene.__module__].__doc__}")
        return
    if options.markdown:
        print(to_markdown({path.stem: read_json(path) for path in options.markdown}))
        return
    if options.repeat < 1:
        parser.error("--repeat is at least 1")
    names = options.only or [name for name in SCENES if name not in ON_REQUEST]
    size = SIZES[options.size]
    rows = list(measure(names, size, options.repeat, options.versions))
    memory = psutil.virtual_memory().total / 2**30
    print_table(rows, f"{options.size} entries, {os.cpu_count()} cores, {memory:.0f} GiB")
    if options.json:
        write_json(rows, options.json)
    missed = [one.name for one in rows if one.met is False]
    print(f"targets missed: {', '.join(missed) or 'none'}")
    if small := [one.name for one in rows if one.target and one.met is None]:
        print(f"targets not judged at this size: {', '.join(small)}")


def measure(names: list[str], size: int, repeats: int, versions: int) -> Iterator[Row]:
    """Run the named scenes on one coalition and yield their figures."""
    with (
        tempfile.TemporaryDirectory(prefix="hashshare-bench-") as name,
        open_stage(Path(name), size, repeats, versions) as stage,
    ):
        print(f"bench: filling a hash set with {size:,}", flush=True)
        yield from ingest.fill(stage)
        yield from _memory(stage, "fill")
        for scene in (scene for scene in SCENES if scene in names):
            print(f"bench: {scene}", flush=True)
            stage.meter.forget_peaks()
            yield from SCENES[scene](stage)
            yield from _memory(stage, scene)


def _memory(stage: Stage, scene: str) -> Iterator[Row]:
    work = f"largest seen during {scene}, ten times a second; PostgreSQL's without shared buffers"
    for label, peak in (
        ("server", stage.meter.peak_server),
        ("PostgreSQL", stage.meter.peak_database),
    ):
        target = Target("at most", 512) if label == "server" else None
        yield row(f"{scene}, {label}'s peak memory", peak / MIB, "MiB", work=work,
                  size=stage.size, target=target)  # fmt: skip


if __name__ == "__main__":
    main()

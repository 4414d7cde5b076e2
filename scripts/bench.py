"""Measure the main job: one member pushes made-up hashes, another pulls them.

Everything is real: the command, TLS, PostgreSQL, and each in a process of its own. Memory is
the largest resident set seen, sampled ten times a second (for a tree of processes: their sum).
"""

import argparse
import asyncio
import json
import os
import random
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from hashshare.client import Client, Profile
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.policy import Basis
from hashshare.domain.records import AssertRecord

HASHSHARE = str(Path(sys.executable).with_name("hashshare"))
MIB = 1024 * 1024
QUIET_PUSHES = 20


@dataclass(frozen=True)
class Row:
    """One figure."""

    name: str
    value: float
    unit: str


class Peak:
    """Samples the resident memory of a process and its children."""

    def __init__(self, pid: int) -> None:
        self.server = self.database = 0
        self._process = psutil.Process(pid)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more samples."""
        self._stopped.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stopped.wait(0.1):
            try:
                self.server = max(self.server, self._process.memory_info().rss)
                children = self._process.children(recursive=True)
                self.database = max(self.database, sum(_private(child) for child in children))
            except psutil.Error:
                continue


def _private(process: psutil.Process) -> int:
    """Memory of its own: PostgreSQL's processes share most of theirs."""
    try:
        return int(process.memory_full_info().uss)
    except psutil.Error:
        return 0


def run(*words: object, profile: Path | None = None) -> list[dict[str, object]]:
    """Run hashshare and return what it says, one object a line."""
    environment = dict(os.environ)
    if profile is not None:
        environment["HASHSHARE_PROFILE"] = str(profile)
    done = subprocess.run(
        [HASHSHARE, *map(str, words), "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def timed(*words: object, profile: Path) -> tuple[float, int]:
    """Return how long a command took, in seconds, and its peak memory in bytes."""
    environment = dict(os.environ) | {"HASHSHARE_PROFILE": str(profile)}
    begin = time.perf_counter()
    process = subprocess.Popen(
        [HASHSHARE, *map(str, words)], env=environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"bench: hashshare {words[0]} failed")
    return time.perf_counter() - begin, usage.ru_maxrss * 1024


def write_hashes(path: Path, count: int, seed: int) -> None:
    """Write a CSV of random values; they are hashes of nothing."""
    source = random.Random(seed)  # noqa: S311 # made-up values
    with path.open("w") as file:
        file.write("sha256,classification\n")
        for _ in range(count):
            file.write(f"{source.randbytes(32).hex()},A1\n")


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def received_bytes() -> int:
    """Bytes that came in over loopback so far; nothing else should be busy there."""
    return int(psutil.net_io_counters(pernic=True)["lo"].bytes_recv)


def start(folder: Path) -> subprocess.Popen[str]:
    """Start the server and wait until it listens."""
    server = subprocess.Popen(
        [HASHSHARE, "serve", str(folder), "--json"],
        stdout=subprocess.PIPE,
        stderr=(folder / "server.log").open("w"),
        text=True,
    )
    assert server.stdout is not None
    if not server.stdout.readline():
        raise SystemExit(f"bench: the server did not start, see {folder / 'server.log'}")
    return server


def join(admin: Path, name: str, folder: Path) -> Path:
    """Invite and enrol a member, and return its profile."""
    invitation = run(
        "member", "invite", name, "--role", "contributor", "--role", "reader", profile=admin
    )[0]["invitation"]
    profile = folder / name
    run("enrol", invitation, profile=profile)
    return profile


def measure(folder: Path, count: int, change: int) -> list[Row]:
    """Run the whole of it and return the figures."""
    coalition = folder / "coalition"
    listen, enrol_listen = (f"127.0.0.1:{free_port()}" for _ in range(2))
    run("init", coalition, "--coalition", "Bench", "--listen", listen,
        "--enrol-listen", enrol_listen)  # fmt: skip
    server = start(coalition)
    peak = Peak(server.pid)
    try:
        admin = coalition / "admin"
        run("hash-set", "create", "bench", "--algorithms", "sha256", "--classifications", "A1",
            profile=admin)  # fmt: skip
        acme, beta = join(admin, "acme", folder), join(admin, "beta", folder)
        rows = []
        for name, number in (("all of it", count), (f"{change} more", change)):
            rows += _push_and_pull(folder, name, number, acme, beta)
        rows += asyncio.run(_publish_when_quiet(acme))
        rows += _audit(admin, count)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        peak.stop()
    rows.append(Row("server, peak memory", peak.server / MIB, "MiB"))
    rows.append(Row("PostgreSQL, peak memory of its own", peak.database / MIB, "MiB"))
    return rows


def _audit(admin: Path, count: int) -> list[Row]:
    taken, memory = timed("audit", profile=admin)
    return [
        Row("audit by replay, from the first leaf", taken, "s"),
        Row("audit by replay, rate", count / taken, "hashes/s"),
        Row("audit by replay, client's peak memory", memory / MIB, "MiB"),
    ]


def _push_and_pull(folder: Path, name: str, count: int, acme: Path, beta: Path) -> list[Row]:
    source = folder / f"{count}.csv"
    write_hashes(source, count, seed=count)
    version = _version(beta)
    taken, memory = timed("push", "bench", source, profile=acme)
    rows = [
        Row(f"push {name}", taken, "s"),
        Row(f"push {name}, rate", count / taken, "hashes/s"),
        Row(f"push {name}, client's peak memory", memory / MIB, "MiB"),
    ]
    begin = time.perf_counter()
    while _version(beta) == version:
        time.sleep(0.2)
    rows.append(Row(f"published {name}, after the receipt", time.perf_counter() - begin, "s"))
    before = received_bytes()
    taken, memory = timed("pull", profile=beta)
    rows += [
        Row(f"pull {name}", taken, "s"),
        Row(f"pull {name}, rate", count / taken, "hashes/s"),
        Row(f"pull {name}, on the wire", (received_bytes() - before) / count, "bytes/hash"),
        Row(f"pull {name}, client's peak memory", memory / MIB, "MiB"),
    ]
    return rows


async def _publish_when_quiet(acme: Path) -> list[Row]:
    """Push one hash at a time, by the library, and wait for its publication."""
    taken = []
    async with Client(Profile.load(acme)) as client:
        for number in range(QUIET_PUSHES):
            value = random.Random(-1 - number).randbytes(32)  # noqa: S311 # made-up values
            record = AssertRecord("", {HashAlgorithm.SHA256: value}, "A1", None, Basis.REVIEWED)
            (pushed,) = await client.push("bench", [record])
            begin = time.perf_counter()
            while True:
                latest = await client.latest("bench")
                if latest.publication.log_size > pushed.log_index:
                    break
                await asyncio.sleep(0.01)
            taken.append(time.perf_counter() - begin)
    return [
        Row("published one, after the receipt, median", statistics.median(taken), "s"),
        Row("published one, after the receipt, longest", max(taken), "s"),
    ]


def _version(profile: Path) -> object:
    return run("hash-set", "show", "bench", profile=profile)[0]["version"]


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--size", type=int, default=1_000_000, help="hashes (default: a million)")
    parser.add_argument("--change", type=int, default=1_000, help="hashes of the change after")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hashshare-bench-") as folder:
        rows = measure(Path(folder), options.size, options.change)
    for row in rows:
        print(f"{row.name:50} {row.value:14,.2f} {row.unit}")
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{'CPU of all commands':50} {own.ru_utime + own.ru_stime:14,.2f} s")
    if options.json:
        options.json.write_text(json.dumps([vars(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()

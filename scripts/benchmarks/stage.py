"""A coalition to measure: PostgreSQL, a server and members, each in processes of their own."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.meter import Meter
from benchmarks.values import Part
from hashshare.client import Client, Profile
from hashshare.errors import NotFoundError
from hashshare.storage.database import create_database
from hashshare.storage.embedded import run_embedded

HASHSHARE = str(Path(sys.executable).with_name("hashshare"))
HASH_SET = "bench"
LIST = f"{HASH_SET}/all/sha256"
# One profile stands for many members here, which the server would slow down.
_LIMITS = {"member_requests_per_second = 100.0": "member_requests_per_second = 1e6",
           "member_burst_requests = 500.0": "member_burst_requests = 1e6"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stage:
    """What the scenes measure.

    Attributes:
        folder: Of everything.
        database: URL of PostgreSQL's maintenance database, for a reference beside ours.
        meter: Of the server.
        admin: Profile of the admin.
        acme: Profile of one who pushes.
        beta: Profile of another.
        gamma: Profile of a third.
        size: Entries to begin with.
        repeats: How often to measure what can be repeated.
    """

    folder: Path
    database: str
    meter: Meter
    admin: Path
    acme: Path
    beta: Path
    gamma: Path
    size: int
    repeats: int

    @property
    def batch(self) -> int:
        """Hashes in a large submission."""
        return min(self.size, 1_000_000)

    def push(self, profile: Path, *parts: Part) -> dict[str, float]:
        """Push in a process of its own; see ``benchmarks.member``, with its peak memory."""
        return _work("push", str(profile), *(f"{seed}:{count}" for seed, count in parts))

    def pull(self, profile: Path) -> dict[str, float]:
        """Pull in a process of its own."""
        return _work("pull", str(profile))

    def wait_published(self, log_index: float) -> None:
        """Wait until everything up to this leaf is published."""
        asyncio.run(_wait_published(self.admin, int(log_index)))

    def push_and_publish(self, profile: Path, *parts: Part) -> dict[str, float]:
        """Push, and wait, so that publishing does not disturb what is measured next."""
        done = self.push(profile, *parts)
        self.wait_published(done["log_index"])
        return done


def forget_replica(profile: Path) -> None:
    """Delete what was pulled."""
    for path in profile.glob("replica.sqlite*"):
        path.unlink()


def run(*words: object, profile: Path | None = None) -> list[dict[str, object]]:
    """Run hashshare and return what it says, one object a line."""
    environment = dict(os.environ)
    if profile is not None:
        environment["HASHSHARE_PROFILE"] = str(profile)
    command = [HASHSHARE, *map(str, words), "--json"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def open_stage(folder: Path, size: int, repeats: int) -> Iterator[Stage]:
    """Make a coalition with an empty hash set, and run it as long as the block."""
    coalition = folder / "coalition"
    listen, enrol_listen = (f"127.0.0.1:{free_port()}" for _ in range(2))
    run("init", coalition, "--coalition", "Bench", "--listen", listen,
        "--enrol-listen", enrol_listen)  # fmt: skip
    settings = coalition / "settings.toml"
    text = settings.read_text()
    for usual, raised in _LIMITS.items():
        assert usual in text
        text = text.replace(usual, raised)
    settings.write_text(text)
    with run_embedded(folder / "postgres") as database:
        dsn = asyncio.run(create_database(database))
        server = _start(coalition, dsn)
        meter = Meter(server.pid, _postgres(), coalition / "server.log")
        try:
            admin = coalition / "admin"
            run("hash-set", "create", HASH_SET, "--algorithms", "sha256",
                "--classifications", "A1", profile=admin)  # fmt: skip
            acme, beta, gamma = (_join(admin, n, folder) for n in ("acme", "beta", "gamma"))
            yield Stage(folder, database, meter, admin, acme, beta, gamma, size, repeats)
        finally:
            meter.stop()
            server.send_signal(signal.SIGTERM)
            server.wait(60)


def _start(coalition: Path, dsn: str) -> "subprocess.Popen[str]":
    server = subprocess.Popen(
        [HASHSHARE, "serve", str(coalition), "--database", dsn, "--json"],
        stdout=subprocess.PIPE,
        stderr=(coalition / "server.log").open("w"),
        text=True,
    )
    assert server.stdout is not None
    if not server.stdout.readline():
        raise SystemExit(f"bench: the server did not start: {_tail(coalition / 'server.log')}")
    return server


def _tail(path: Path) -> str:
    return path.read_text()[-2000:]


def _postgres() -> int:
    """Return the process id of the PostgreSQL that this process started."""
    mine = psutil.Process().children()
    return int(next(child.pid for child in mine if child.name() == "postgres"))


def _join(admin: Path, name: str, folder: Path) -> Path:
    roles = ("--role", "contributor", "--role", "reader")
    invited = run("member", "invite", name, *roles, profile=admin)
    run("enrol", invited[0]["invitation"], profile=folder / name)
    return folder / name


def _work(*words: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.member", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        raise SystemExit(f"bench: {words[0]} failed")
    return {**json.loads(said), "memory": usage.ru_maxrss * 1024}


async def _wait_published(profile: Path, log_index: int) -> None:
    async with Client(Profile.load(profile)) as client:
        while True:
            try:
                latest = await client.latest(HASH_SET)
            except NotFoundError:
                latest = None
            if latest is not None and latest.publication.log_size > log_index:
                return
            await asyncio.sleep(0.1)


def timed_command(*words: str, profile: Path, fresh: str) -> tuple[float, int]:
    """Run a command of hashshare without the folder ``fresh`` of the profile; seconds, bytes."""
    shutil.rmtree(profile / fresh, ignore_errors=True)
    environment = dict(os.environ) | {"HASHSHARE_PROFILE": str(profile)}
    before = time.perf_counter()
    process = subprocess.Popen([HASHSHARE, *words], env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        raise SystemExit(f"bench: hashshare {words[0]} failed")
    return time.perf_counter() - before, usage.ru_maxrss * 1024

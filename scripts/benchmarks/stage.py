"""A coalition to measure: PostgreSQL, a server and members, each in processes of their own."""

import asyncio
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
Work = subprocess.Popen[bytes]
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
        dsn: URL of our database.
        meter: Of the server.
        admin: Profile of the admin.
        acme: Profile of one who pushes.
        beta: Profile of another.
        gamma: Profile of a third.
        size: Entries to begin with.
        repeats: How often to measure what can be repeated.
        versions: For how many of them a client is away.
    """

    folder: Path
    database: str
    dsn: str
    meter: Meter
    admin: Path
    acme: Path
    beta: Path
    gamma: Path
    size: int
    repeats: int
    versions: int = 100

    @property
    def batch(self) -> int:
        """Hashes in a large submission."""
        return min(self.size, 1_000_000)

    def push(self, profile: Path, *parts: Part) -> dict[str, float]:
        """Push in a process of its own; see ``benchmarks.member``, with its peak memory."""
        words = [f"{seed}:{count}" for seed, count in parts]
        return wait_for_work(start_work("push", str(profile), *words), "push")

    def pull(self, profile: Path) -> dict[str, float]:
        """Pull in a process of its own."""
        return wait_for_work(start_work("pull", str(profile)), "pull")

    def join(self, name: str) -> Path:
        """Return the profile of one more member."""
        return _join(self.admin, name, self.folder)

    def copy(self, profile: Path, name: str) -> Path:
        """Return a copy of a profile, as on a second machine of the same member."""
        return Path(shutil.copytree(profile, self.folder / name))

    @contextmanager
    def second_server(self) -> Iterator[str]:
        """Run another server on the same database, blobs and keys; its URL."""
        first, second = self.folder / "coalition", self.folder / "coalition-2"
        for part in ("keys", "genesis"):
            shutil.copytree(first / part, second / part)
        shutil.copy(first / "trust.json", second)
        (second / "data").mkdir()
        text = (first / "settings.toml").read_text()
        blobs = (first / "data" / "blobs").absolute().as_uri()
        assert 'blobs = ""' in text
        text = text.replace('blobs = ""', f'blobs = "{blobs}"')
        (second / "settings.toml").write_text(text)
        listen, enrol_listen = (f"127.0.0.1:{free_port()}" for _ in range(2))
        server = _start(second, self.dsn, "--listen", listen, "--enrol-listen", enrol_listen)
        try:
            yield f"https://{listen}"
        finally:
            _stop(server)

    def wait_published(self, log_index: float) -> None:
        """Wait until everything up to this leaf is published."""
        asyncio.run(_wait_published(self.admin, int(log_index)))

    def push_and_publish(self, profile: Path, *parts: Part) -> dict[str, float]:
        """Push, and wait, so that publishing does not disturb what is measured next."""
        done = self.push(profile, *parts)
        self.wait_published(done["log_index"])
        return done


def _raise_file_limit() -> None:
    """Allow as many connections as the system does, here and in the server."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


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
def open_stage(folder: Path, size: int, repeats: int, versions: int = 100) -> Iterator[Stage]:
    """Make a coalition with an empty hash set, and run it as long as the block."""
    _raise_file_limit()
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
            yield Stage(
                folder, database, dsn, meter, admin, acme, beta, gamma, size, repeats, versions
            )
        finally:
            meter.stop()
            _stop(server)


def _stop(server: "subprocess.Popen[str]") -> None:
    server.send_signal(signal.SIGTERM)
    server.wait(60)


def _start(coalition: Path, dsn: str, *options: str) -> "subprocess.Popen[str]":
    server = subprocess.Popen(
        [HASHSHARE, "serve", str(coalition), "--database", dsn, "--json", *options],
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


def start_work(*words: str) -> Work:
    """Start a member's work in a process of its own; see ``benchmarks.member``."""
    command = [sys.executable, "-m", "benchmarks.member", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def wait_for_work(process: Work, name: str) -> dict[str, float]:
    """Return what a started process tells of its work."""
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"bench: {name} failed")
    told: dict[str, float] = json.loads(said)
    return told


async def _wait_published(profile: Path, log_index: int) -> None:
    async with Client(Profile.load(profile)) as client:
        await wait_published(client, log_index)


async def wait_published(client: Client, log_index: int) -> int:
    """Wait until everything up to this leaf is published; return the version."""
    while True:
        # Nothing is published before the first submission.
        with suppress(NotFoundError):
            latest = (await client.latest(HASH_SET)).publication
            if latest.log_size > log_index:
                return latest.version
        await asyncio.sleep(0.05)


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

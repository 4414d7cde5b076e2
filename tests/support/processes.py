"""Servers in processes of their own, which can be stopped, continued and killed."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from hashshare.client import Profile
from hashshare.client.session import Session
from hashshare.crypto.note import parse_checkpoint, parse_note
from hashshare.crypto.receipt import parse_receipt
from hashshare.errors import HashshareError
from tests.support.federation import run_federation

ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class Serving:
    """A server that listens.

    Attributes:
        log_path: Where its standard error goes.
    """

    process: asyncio.subprocess.Process
    api_url: str
    log_path: Path

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self.process.send_signal(number)

    def of(self, profile: Profile) -> Profile:
        """Return a profile that talks to this server."""
        return replace(profile, api_url=self.api_url)


async def found(dsn: str, folder: Path) -> dict[str, Profile]:
    """Make a coalition in ``folder / "coalition"``, and return the profiles of its members."""
    async with run_federation(dsn, folder) as federation:
        await federation.create()
        for name in ("acme", "beta"):
            await federation.join(name)
        return {"admin": federation.admin, **federation.members}


def share_blobs(coalition: Path, url: str) -> None:
    """Let a coalition's folder name a blob store that other folders name, too."""
    settings = coalition / "settings.toml"
    settings.write_text(settings.read_text().replace('blobs = ""', f'blobs = "{url}"'))


def copy_coalition(coalition: Path, target: Path) -> Path:
    """Copy what a second machine needs: settings and keys, and nothing that was recorded."""
    shutil.copytree(coalition, target, ignore=shutil.ignore_patterns("data", "admin"))
    (target / "data").mkdir(mode=0o700)
    return target


@asynccontextmanager
async def serving(coalition: Path, dsn: str, *words: str) -> AsyncIterator[Serving]:
    """Run ``hashshare serve`` on free ports; kill it in the end."""
    log_path = coalition / f"serve-{len(list(coalition.glob('serve-*.log')))}.log"
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hashshare", "serve", str(coalition), "--json"),
            *("--database", dsn, "--listen", "127.0.0.1:0", "--enrol-listen", "127.0.0.1:0"),
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if not k.startswith("HASHSHARE_P")},
        )
    try:
        assert process.stdout is not None
        line = await process.stdout.readline()
        assert line, log_path.read_text()
        yield Serving(process, json.loads(line)["api_url"], log_path)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@dataclass(slots=True)
class Watcher:
    """Somebody to whom servers show their checkpoints.

    Attributes:
        seen: Every root that was signed, by size.
    """

    seen: dict[int, set[bytes]]

    def note(self, note: bytes) -> None:
        """Remember a checkpoint."""
        checkpoint = parse_checkpoint(parse_note(note).text)
        self.seen.setdefault(checkpoint.size, set()).add(checkpoint.root)

    async def watch(self, profile: Profile) -> None:
        """Ask again and again, until cancelled."""
        async with Session.of(profile) as session:
            session.attempts = 1
            while True:
                with suppress(HashshareError):
                    _, note = await session.request("GET", "/v1/log/checkpoint")
                    self.note(note)
                await asyncio.sleep(0.01)

    def keep_receipts(self, *profiles: Profile) -> None:
        """Remember the checkpoints in all receipts of these members."""
        for profile in profiles:
            for path in (profile.folder / "receipts").glob("*.receipt"):
                self.note(parse_receipt(path.read_bytes()).checkpoint)

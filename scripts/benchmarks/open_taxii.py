"""OpenTAXII in a virtual environment and a process of its own, and members who speak to it."""

import asyncio
import base64
import http.client
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil

from benchmarks.stage import free_port
from hashshare.storage.database import create_database

VERSION = "0.9.3"
# What it needs in versions that it works with: of itself it takes any, and fails with newer ones.
_REQUIREMENTS = (
    f"opentaxii=={VERSION}",
    "SQLAlchemy==1.4.54",
    "psycopg2-binary==2.9.13",
    "gunicorn==23.0.0",
)
_INSTALL_SECONDS = 600.0
_START_SECONDS = 60.0
_REQUEST_SECONDS = 300.0
_STOP_SECONDS = 30.0
_TAXII = "application/taxii+json;version=2.1"
_SCRIPTS = Path(__file__).resolve().parents[1]


class OpenTaxiiError(Exception):
    """OpenTAXII does not install, does not start, or refuses what it is asked for."""


@dataclass(frozen=True, slots=True)
class OpenTaxii:
    """Where an OpenTAXII listens, and its one collection and account."""

    port: int
    root: str
    collection: str
    user: str
    password: str

    def connect(self) -> "TaxiiMember":
        """Return a member with a connection of its own."""
        return TaxiiMember(self)


class TaxiiMember:
    """Speaks TAXII 2.1 to one collection: plain HTTP, and the account's password each time.

    Attributes:
        moved: Bytes of bodies, both ways.

    Raises:
        OpenTaxiiError: From all methods; there was no answer, or one that is not a success.
    """

    def __init__(self, server: OpenTaxii) -> None:
        self.moved = 0
        self._root = f"/taxii2/{server.root}"
        self._objects = f"{self._root}/collections/{server.collection}/objects/"
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", server.port, timeout=_REQUEST_SECONDS
        )
        account = base64.b64encode(f"{server.user}:{server.password}".encode()).decode()
        self._headers = {
            "Accept": _TAXII,
            "Content-Type": _TAXII,
            "Authorization": f"Basic {account}",
        }

    def push(self, envelope: bytes) -> int:
        """Add an envelope, wait until all is done, and return how many objects were taken in."""
        status = self._ask("POST", self._objects, envelope)
        while status["status"] != "complete":
            time.sleep(0.05)
            status = self._ask("GET", f"{self._root}/status/{status['id']}/")
        return int(status["success_count"])

    def fetch(self, limit: int) -> int:
        """Fetch all objects, ``limit`` a page, and return how many different ones there were."""
        found: set[str] = set()
        query: dict[str, object] = {"limit": limit}
        while True:
            page = self._ask("GET", f"{self._objects}?{urlencode(query)}")
            found.update(one["id"] for one in page.get("objects", []))
            if not page.get("more"):
                return len(found)
            query["next"] = page["next"]

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _ask(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        try:
            self._connection.request(method, path, body, self._headers)
            answer = self._connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise OpenTaxiiError(f"no answer to a {method}: {error!r:.200}") from error
        if answer.status not in {200, 202}:
            raise OpenTaxiiError(f"it answers {answer.status} to a {method}: {said!r:.200}")
        self.moved += len(body or b"") + len(said)
        told: dict[str, Any] = json.loads(said)
        return told


@contextmanager
def run_open_taxii(folder: Path, database: str) -> Iterator[OpenTaxii]:
    """Install it below ``folder``, and run it as long as the block.

    Args:
        folder: Where nothing is kept.
        database: URL of PostgreSQL's maintenance database; it gets one of its own beside that.

    Raises:
        OpenTaxiiError: It does not install or does not start.
    """
    folder = folder / "opentaxii"
    folder.mkdir()
    python = _install(folder)
    environment = _configure(folder, asyncio.run(create_database(database, "opentaxii")))
    made = folder / "made.json"
    _run([python, "-m", "benchmarks.open_taxii_app", str(made)], folder / "setup.log", environment)
    server = OpenTaxii(port=free_port(), **json.loads(made.read_text()))
    log = folder / "server.log"
    # One worker: it has one client at a time, and the two that its documentation tells of share
    # one connection to the database. A large envelope or page takes it long.
    options = ["--bind", f"127.0.0.1:{server.port}", "--workers", "1"]
    options += ["--timeout", f"{_REQUEST_SECONDS:.0f}"]
    command = [python, "-m", "gunicorn", *options, "benchmarks.open_taxii_app:app"]
    with _running(command, log, environment) as process:
        _wait_ready(server, process, log)
        yield server


def _install(folder: Path) -> str:
    """Return the Python of a new virtual environment that has OpenTAXII."""
    place, log = folder / "venv", folder / "install.log"
    python = str(place / "bin" / "python")
    environment = dict(os.environ)
    _run([sys.executable, "-m", "venv", str(place)], log, environment)
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    _run([*pip, *_REQUIREMENTS], log, environment)
    return python


def _configure(folder: Path, dsn: str) -> dict[str, str]:
    """Write its settings, and return the environment in which it finds them."""
    parameters = {"db_connection": dsn, "create_tables": True}
    settings = {
        "domain": "127.0.0.1",
        "support_basic_auth": True,
        "taxii1": None,
        "taxii2": {
            "persistence_api": {
                "class": "opentaxii.persistence.sqldb.Taxii2SQLDatabaseAPI",
                "parameters": parameters,
            },
            "title": "Bench",
            "public_discovery": True,
            "max_content_length": 200_000_000,
        },
        "auth_api": {
            "class": "opentaxii.auth.sqldb.SQLDatabaseAPI",
            "parameters": parameters | {"secret": secrets.token_hex()},
        },
        "logging": {"opentaxii": "warning", "root": "warning"},
    }
    # YAML takes JSON.
    path = folder / "settings.yml"
    path.write_text(json.dumps(settings))
    return dict(os.environ) | {"OPENTAXII_CONFIG": str(path), "PYTHONPATH": str(_SCRIPTS)}


def _run(command: Sequence[str], log: Path, environment: dict[str, str]) -> None:
    with _running(command, log, environment) as process:
        try:
            status = process.wait(_INSTALL_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise OpenTaxiiError(f"{log.stem} takes too long") from error
    if status:
        raise OpenTaxiiError(f"{log.stem} failed: {_last_line(log)}")


def _wait_ready(server: OpenTaxii, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until it answers.

    Raises:
        OpenTaxiiError: It has ended, or still does not.
    """
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None:
        try:
            with closing(server.connect()) as member:
                member.fetch(1)
        except OpenTaxiiError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
    raise OpenTaxiiError(f"it does not start: {_last_line(log)}")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it says nothing")[:300]


@contextmanager
def _running(
    command: Sequence[str], log: Path, environment: dict[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command as long as the block, and stop it and what it started, each by its id."""
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    try:
        yield process
    finally:
        with suppress(psutil.NoSuchProcess):
            _stop(psutil.Process(process.pid))
        process.wait()


def _stop(process: psutil.Process) -> None:
    family = [process, *process.children(recursive=True)]
    process.terminate()
    _, left = psutil.wait_procs(family, timeout=_STOP_SECONDS)
    for one in left:
        with suppress(psutil.NoSuchProcess):
            one.kill()

"""Processes that run the command, forked from one that has imported it.

Each is a process of its own, with its own arguments, environment, folder and files; only the
second or two that every start of Python spends on imports are spent once. Started as a program,
this module is the process that forks; ``run_command`` asks it.
"""

import atexit
import functools
import importlib
import json
import os
import pkgutil
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def run_command(
    words: list[str], environment: Mapping[str, str], *, folder: Path = ROOT, stdin: str = ""
) -> Ended:
    """Run ``hashshare`` with these words; may be called by several threads at once."""
    with tempfile.TemporaryDirectory() as place, socket.socket(socket.AF_UNIX) as connection:
        files = [Path(place, name) for name in ("stdin", "stdout", "stderr")]
        files[0].write_text(stdin)
        request = {
            "words": words,
            "environment": dict(environment),
            "folder": str(folder),
            "files": [str(path) for path in files],
        }
        connection.connect(str(_start().path))
        connection.sendall(json.dumps(request).encode())
        connection.shutdown(socket.SHUT_WR)
        code = int(connection.recv(16))
        return Ended(code, files[1].read_text(), files[2].read_text())


@dataclass(frozen=True, slots=True)
class _Forker:
    """The process that forks, and its socket."""

    process: "subprocess.Popen[bytes]"
    path: Path


@functools.cache
def _start() -> _Forker:
    """Start the process that forks, once."""
    place = Path(tempfile.mkdtemp(prefix="hashshare-fork-"))
    path = place / "socket"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.forking", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    atexit.register(_stop, process, place)
    assert process.stdout.readline() == b"ready\n"
    return _Forker(process, path)


def _stop(process: "subprocess.Popen[bytes]", place: Path) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait()
    shutil.rmtree(place)


def _serve(path: str) -> None:
    """Fork for every connection, until standard input ends."""
    import hashshare.cli  # only in this process
    import hashshare.client

    # Commands import what they take when they run; here it is imported before.
    for package in (hashshare.cli, hashshare.client):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(64)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            readable, _, _ = select.select([server, sys.stdin], [], [])
            if sys.stdin in readable:
                return
            connection, _ = server.accept()
            if os.fork() == 0:
                _answer(connection)
            connection.close()


def _answer(connection: socket.socket) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request = json.loads(connection.makefile("rb").read())
    child = os.fork()
    if child == 0:
        connection.close()
        _run(request)
    _, status = os.waitpid(child, 0)
    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _run(request: dict[str, Any]) -> NoReturn:
    """Be the command: as ``python -m hashshare`` is, but for what is imported already."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, path in enumerate(request["files"]):
        flags = os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY
        os.dup2(os.open(path, flags, 0o600), number)
    sys.argv = ["hashshare", *request["words"]]
    code = 0
    try:
        hashshare_main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 # as Python itself does
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def hashshare_main() -> None:
    """Run the command line."""
    from hashshare.cli import main

    main()


if __name__ == "__main__":
    _serve(sys.argv[1])

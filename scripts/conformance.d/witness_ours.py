"""Ask aics-witness for cosignatures, and let its client ask ours.

    witness_ours.py LABEL FOLDER WORK PYTHON

FOLDER is tests/vectors, WORK holds the configuration of aics-witness, and PYTHON has it installed.
One line a direction says what was verified; the exit code is 1 if anything failed.
"""

import asyncio
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import aiohttp
import msgspec

from hashshare.cli.coalition import Plan, create_coalition
from hashshare.cli.server import configure_logging
from hashshare.cli.witness_server import serve_application
from hashshare.crypto.add_checkpoint import SIZE_TYPE, AddCheckpoint, parse_size
from hashshare.crypto.cosignature import WitnessVerifier, verify_cosignature
from hashshare.crypto.encoding import decode_base64
from hashshare.crypto.note import NoteVerifier
from hashshare.witness.listener import WitnessListener
from hashshare.witness.loop import make_key, open_logbook, witness_of

SIZES = (0, 1, 2, 3, 7, 8, 255, 256, 257, 300)


class FailedError(Exception):
    """What ought to hold does not, or the other way round."""


def require(holds: bool, what: str) -> None:
    """Stop unless it holds."""
    if not holds:
        raise FailedError(what)


def request(folder: Path, old: int, new: int) -> AddCheckpoint:
    """Return what asks for the cosignature of a checkpoint of the vectors."""
    proof: list[bytes] = []
    if 0 < old < new:
        lines = (folder / f"consistency/{old}-to-{new}").read_text().split()
        proof = [decode_base64(line) for line in lines]
    return AddCheckpoint(old, tuple(proof), (folder / f"checkpoints/{new}").read_bytes())


@asynccontextmanager
async def their_witness(python: str, work: Path) -> AsyncIterator[str]:
    """Run aics-witness; give its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (work / "served").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            *(python, "-m", "aics_witness", "serve", "--listen", f"127.0.0.1:{port}"),
            stdout=log,
            stderr=log,
        )
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    break
                except ConnectionError:
                    await asyncio.sleep(0.1)
        writer.close()
        yield f"http://127.0.0.1:{port}/add-checkpoint"
    finally:
        process.terminate()
        await process.wait()


async def ask_theirs(folder: Path, work: Path, python: str) -> str:
    """Have each checkpoint cosigned; a fork, a rollback and a wrong proof are refused."""
    found = re.search(r"\S+\+[0-9a-f]{8}\+\S+", (work / "vkey").read_text())
    require(found is not None, "its verifier key is not printed")
    verifier = WitnessVerifier.parse(found[0] if found else "")
    async with their_witness(python, work) as url, aiohttp.ClientSession() as http:

        async def ask(asked: AddCheckpoint) -> tuple[int, str, bytes]:
            async with http.post(url, data=asked.encode()) as response:
                return response.status, response.content_type, await response.read()

        for old, new in pairwise(SIZES):
            asked = request(folder, old, new)
            status, _, answer = await ask(asked)
            require(status == 200, f"{old} to {new} is answered {status} {answer!r}")
            verify_cosignature(asked.note + answer, verifier)
        status, kind, answer = await ask(request(folder, 0, 8))
        require((status, kind, parse_size(answer)) == (409, SIZE_TYPE, 300), "a rollback")
        fork = AddCheckpoint(300, (), (folder / "forked-checkpoint").read_bytes())
        require((await ask(fork))[0] in {409, 422}, "a fork is not refused")
    return f"{len(SIZES) - 1} checkpoints cosigned, a rollback and a fork refused"


async def answer_theirs(folder: Path, work: Path, python: str) -> str:
    """Let its client have each checkpoint cosigned by our listener."""
    log = NoteVerifier.parse((folder / "keys/log.vkey").read_text().strip())
    plan = Plan(
        folder=work / "coalition",
        coalition="Conformance",
        log=log.name,
        admin="ours",
        listen="127.0.0.1:0",
        enrol_listen="127.0.0.1:0",
        public_url="",
        enrol_public_url="",
        hosts=["127.0.0.1"],
    )
    made = create_coalition(plan)
    profile = replace(made, trust=msgspec.structs.replace(made.trust, log_key=str(log)))
    key = make_key(profile)
    with closing(open_logbook(profile)) as logbook:
        app = WitnessListener(profile, witness_of(profile), logbook).application()
        async with serve_application(app, "127.0.0.1", 0, None) as url:
            script = Path(__file__).with_name("witness_theirs.py")
            process = await asyncio.create_subprocess_exec(
                *(python, str(script), str(folder), url, str(key)),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            told, why = await process.communicate()
    require(process.returncode == 0, why.decode().strip()[-300:])
    return told.decode().strip()


async def main() -> int:
    """Try both directions."""
    # What its requests are refused for is expected, and only hides the result.
    os.environ["HASHSHARE_LOG"] = "CRITICAL"
    configure_logging()
    label, folder, work, python = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    failed = 0
    for what, run in (("its witness", ask_theirs), ("our witness, its client", answer_theirs)):
        try:
            print(f"{label}: {what}: {await run(folder, work, python)}: ok", flush=True)
        except Exception as error:  # noqa: BLE001 # whatever it is, it is no success
            print(f"{label}: {what}: failed ({type(error).__name__}: {error})", flush=True)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

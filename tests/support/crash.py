"""A server process that is killed at a given moment: ``python crash.py DSN FOLDER MOMENT``.

The folder holds the coalition's keys, a batch and an envelope; the blobs go there too.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from hashshare.crypto import canonical
from hashshare.crypto.keys import read_private_key, write_private_key
from hashshare.crypto.note import NoteSigner
from hashshare.service.submit import SubmitService
from hashshare.storage.log import LogRepository
from hashshare.storage.submissions import SubmissionRepository
from tests.support.coalition import ACME, NOW, ORIGIN, Coalition, in_chunks, run_coalition

MOMENTS = {
    "before the transaction": (SubmitService, "_accept"),
    "before the leaf": (LogRepository, "append"),
    "before the commit": (SubmissionRepository, "append_touched"),
    "after the commit": (SubmitService, "_answer"),
}
"""Where the process dies, as the method that it would call next."""


def write_keys(coalition: Coalition, folder: Path) -> None:
    """Let another process be the same coalition, as far as acme is concerned."""
    write_private_key(folder / "log.pem", coalition.log.key)
    write_private_key(folder / "governance.pem", coalition.governance)
    write_private_key(folder / "publisher.pem", coalition.publisher)
    for member, author in coalition.authors.items():
        write_private_key(folder / f"{member}.pem", author.key)


def read_keys(folder: Path) -> Coalition:
    """Return the coalition whose keys were written."""
    coalition = Coalition(
        governance=read_private_key(folder / "governance.pem"),
        publisher=read_private_key(folder / "publisher.pem"),
        log=NoteSigner(ORIGIN, read_private_key(folder / "log.pem")),
    )
    for member, author in coalition.authors.items():
        author.key = read_private_key(folder / f"{member}.pem")
    return coalition


def die(*_: object, **__: object) -> NoReturn:
    """Leave no time for anything."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


async def run(dsn: str, folder: Path, moment: str) -> None:
    """Store the batch, submit the envelope, and die at the moment."""
    batch, envelope = (folder / "batch").read_bytes(), (folder / "envelope").read_bytes()
    async with run_coalition(dsn, folder / "blobs", coalition=read_keys(folder)) as running:
        await running.batches.store(canonical.digest(batch), in_chunks(batch), encoding="identity")
        owner, method = MOMENTS[moment]
        setattr(owner, method, die)
        await running.submissions.submit(envelope, peer_member=ACME, now=NOW)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))

"""The guard against a restored backup: what was signed last is kept outside of the database.

A database that was restored from before that would sign a second history. Beside it lies the
newest checkpoint, in a file that backups of the database do not hold.
"""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from hashshare.crypto.note import Checkpoint, parse_checkpoint, parse_note
from hashshare.errors import NotFoundError, RollbackError, UnavailableError
from hashshare.service.log import LogService
from hashshare.service.news import News

_LOG: Final = structlog.get_logger(__name__)
RETRY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Guard:
    """Keeps the newest checkpoint in a file, and holds the database to it."""

    path: Path
    log: LogService

    async def verify(self) -> None:
        """Refuse a database that is not the one, or older than the one, that was signed for.

        Raises:
            RollbackError: It lacks leaves, or has others.
            MalformedError: The file is damaged.
        """
        known = self._read()
        if known is None:
            return
        try:
            found = parse_checkpoint(parse_note(await self.log.checkpoint_at(known.size)).text)
        except NotFoundError as error:
            raise RollbackError(
                f"the database lacks leaves of the log, of which {known.size} were signed for:"
                f" restore a later backup (what was signed: {self.path})"
            ) from error
        if found != known:
            raise RollbackError(
                f"the database has another log than was signed for (what was signed: {self.path})"
            )

    async def record(self) -> int:
        """Keep the checkpoint of the whole log; durable once it returns. Return its size."""
        note = await self.log.checkpoint()
        size = parse_checkpoint(parse_note(note).text).size
        known = self._read()
        if known is None or known.size < size:
            await asyncio.to_thread(self._write, note)
        return size

    async def run(self, news: News) -> None:
        """Keep it up to date until cancelled."""
        await news.wait_until_known()
        while True:
            try:
                size = await self.record()
                await news.wait_for_log(after=size, timeout_seconds=60)
            except UnavailableError as error:
                _LOG.warning("newest checkpoint not kept", reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    def _read(self) -> Checkpoint | None:
        try:
            return parse_checkpoint(parse_note(self.path.read_bytes()).text)
        except FileNotFoundError:
            return None

    def _write(self, note: bytes) -> None:
        fresh = self.path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

"""What is newest, known without asking the database: versions, the log's size, membership."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Final

import structlog

from hashshare.domain.changes import Version
from hashshare.domain.names import HashSetId
from hashshare.errors import UnavailableError
from hashshare.storage.database import Pool, translated
from hashshare.storage.notices import MEMBERSHIP, NoticeRepository

log: Final = structlog.get_logger()

POLL_SECONDS: Final = 1.0
STALE_SECONDS: Final = 10.0
"""After so long without contact to the database, what is known is no longer given out."""


class News:
    """Follows the database in one task, ``run``, and answers every other task from memory.

    Notices come at once; each second everything is read anew, so that a lost notice delays
    by a second at most.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._versions: dict[HashSetId, Version] = {}
        self._log_size = 0
        self._membership_epoch = 0
        self._read_at: float | None = None
        self._changed = asyncio.Event()

    @property
    def log_size(self) -> int:
        """The log's size.

        Raises:
            UnavailableError: Not known, or not recently.
        """
        self._verify_fresh()
        return self._log_size

    @property
    def membership_epoch(self) -> int:
        """A number that grows whenever members, certificates or rights may have changed."""
        return self._membership_epoch

    def latest_version(self, hash_set: HashSetId) -> Version:
        """Return the latest version of a hash set, 0 when it has none or does not exist.

        Raises:
            UnavailableError: Not known, or not recently.
        """
        self._verify_fresh()
        return self._versions.get(hash_set, Version(0))

    async def wait_until_known(self) -> None:
        """Wait until the database was read for the first time."""
        while self._read_at is None:
            await self._changed.wait()

    async def wait_for_version(
        self, hash_set: HashSetId, *, after: Version, timeout_seconds: float
    ) -> Version:
        """Return the latest version as soon as it is above ``after``, or when the time is over."""
        await self._wait(lambda: self._versions.get(hash_set, 0) > after, timeout_seconds)
        return self.latest_version(hash_set)

    async def wait_for_log(self, *, after: int, timeout_seconds: float) -> int:
        """Return the log's size as soon as it is above ``after``, or when the time is over."""
        await self._wait(lambda: self._log_size > after, timeout_seconds)
        return self.log_size

    async def wait_for_membership(self, *, after: int, timeout_seconds: float) -> int:
        """Return ``membership_epoch`` as soon as it is above ``after``, or in time."""
        await self._wait(lambda: self._membership_epoch > after, timeout_seconds)
        return self._membership_epoch

    async def run(self) -> None:
        """Follow the database until cancelled; a lost connection is made again."""
        while True:
            try:
                with translated():
                    async with self._pool.acquire() as connection:
                        await self._follow(NoticeRepository(connection))
            except UnavailableError:
                log.warning("connection for news lost")
            await asyncio.sleep(POLL_SECONDS)

    async def _follow(self, repository: NoticeRepository) -> None:
        async with repository.listen(self._hear):
            # Notices were missed until here.
            self._membership_epoch += 1
            self._wake()
            while True:
                async with asyncio.timeout(STALE_SECONDS):
                    newest = await repository.read_newest()
                is_first = self._read_at is None
                self._read_at = monotonic()
                self._learn(newest.versions, newest.log_size)
                if is_first:
                    self._wake()
                await asyncio.sleep(POLL_SECONDS)

    def _hear(self, notice: str) -> None:
        match notice.split(" "):
            case ["publication", hash_set, version]:
                self._learn({HashSetId(hash_set): Version(int(version))}, 0)
            case ["log", size]:
                self._learn({}, int(size))
            case [kind] if kind == MEMBERSHIP:
                self._membership_epoch += 1
                self._wake()

    def _learn(self, versions: dict[HashSetId, Version], log_size: int) -> None:
        # What was read may be older than what was heard meanwhile.
        newer = {k: v for k, v in versions.items() if v > self._versions.get(k, 0)}
        if newer or log_size > self._log_size:
            self._versions.update(newer)
            self._log_size = max(self._log_size, log_size)
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait(self, is_news: Callable[[], bool], timeout_seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while not is_news():
                    await self._changed.wait()

    def _verify_fresh(self) -> None:
        if self._read_at is None or monotonic() - self._read_at > STALE_SECONDS:
            raise UnavailableError("the server is not in contact with its database")

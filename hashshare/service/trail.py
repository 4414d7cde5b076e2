"""The audit trail: recording it at little cost, and searching it."""

import asyncio
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Final

import structlog

from hashshare.domain.trail import Facts, TrailEntry
from hashshare.errors import UnavailableError
from hashshare.storage.database import Pool, snapshot, transaction
from hashshare.storage.trail import TrailFilter, TrailRepository, TrailRow

_LOG: Final = structlog.get_logger(__name__)

GATHER_SECONDS: Final = 60.0
"""Refusals of one kind within this time after the first become one more entry, with a number."""
MAX_PAGE: Final = 1000

_Key = tuple[str | None, str | None, str, str | None, tuple[tuple[str, str | int], ...]]


@dataclass(slots=True)
class _Gathered:
    """Refusals alike: one that was recorded, and how many came after it."""

    entry: TrailEntry
    since: float
    more: int = 0


@dataclass(frozen=True, slots=True)
class TrailService:
    """Keeps the audit trail.

    What gathers is bounded: by members and their certificates, by routes, by types of problems.
    """

    pool: Pool
    _gathered: dict[_Key, _Gathered] = field(default_factory=dict, init=False, repr=False)

    async def append(self, entry: TrailEntry) -> None:
        """Record an entry; durable once it returns.

        Raises:
            UnavailableError: The database cannot be reached. Then nothing should be done that
                the trail is to know of.
        """
        async with transaction(self.pool) as connection:
            await TrailRepository(connection).append(entry)

    async def append_refusal(self, entry: TrailEntry) -> None:
        """Record a refusal at once, and those like it in the next minute together.

        So a client that repeats itself does not fill the database. Where the database is out of
        reach, the refusal stands without its entry.
        """
        key = (
            entry.member,
            entry.fingerprint,
            entry.action,
            entry.problem,
            tuple(sorted(entry.facts.items())),
        )
        known = self._gathered.get(key)
        if known is not None:
            known.more += 1
            return
        self._gathered[key] = _Gathered(entry, monotonic())
        await self._append_if_possible(entry)

    async def search(
        self,
        chosen: TrailFilter,
        *,
        at: int | None = None,
        limit: int = MAX_PAGE,
        backwards: bool = False,
    ) -> list[TrailRow]:
        """Return a page of entries; see ``TrailRepository.read_page``."""
        async with snapshot(self.pool) as connection:
            return await TrailRepository(connection).read_page(
                chosen, at=at, limit=min(limit, MAX_PAGE), backwards=backwards
            )

    async def run(self) -> None:
        """Record what has gathered, until cancelled; then the rest."""
        try:
            while True:
                await asyncio.sleep(GATHER_SECONDS / 4)
                await self.flush(older_than=GATHER_SECONDS)
        finally:
            await self.flush()

    async def flush(self, *, older_than: float = 0.0) -> None:
        """Record what began to gather so many seconds ago, or earlier."""
        now = monotonic()
        ripe = [key for key, found in self._gathered.items() if now - found.since >= older_than]
        for key in ripe:
            found = self._gathered.pop(key)
            if found.more:
                facts: Facts = {**found.entry.facts, "times": found.more}
                await self._append_if_possible(replace(found.entry, facts=facts))

    async def _append_if_possible(self, entry: TrailEntry) -> None:
        try:
            await self.append(entry)
        except UnavailableError:
            _LOG.warning("refusal not recorded", member=entry.member, action=entry.action)

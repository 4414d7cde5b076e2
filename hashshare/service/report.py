"""Transparency reports: what the coalition did in a time, in numbers."""

import asyncio
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Final

from hashshare.domain.members import Status
from hashshare.domain.names import HashSetId, ListName, format_time
from hashshare.domain.registry import Registry
from hashshare.domain.release import may_read_list
from hashshare.domain.sandbox import SANDBOX
from hashshare.errors import MalformedError
from hashshare.service.feedback import read_report_feedback
from hashshare.service.registry import RegistryService
from hashshare.storage.database import Pool, snapshot
from hashshare.storage.log import LogRepository
from hashshare.storage.reports import ActivityRow, LagRow, ReportRepository, SizeRow
from hashshare.wire.report import (
    ReportCount,
    ReportDispute,
    ReportDocument,
    ReportLag,
    ReportLatency,
    ReportMember,
    ReportOverlap,
    ReportRetraction,
    ReportSize,
)

RECENT: Final = timedelta(days=30)
RECENT_FOR: Final = timedelta(minutes=1)
STEPS: Final = 48
"""Moments at which the sizes of lists are read, less one."""


@dataclass(frozen=True, slots=True)
class ReportService:
    """Makes reports, one at a time: counting reads every assertion."""

    pool: Pool
    registries: RegistryService
    _one: asyncio.Lock = field(init=False, repr=False, default_factory=asyncio.Lock)
    _recent: list[tuple[datetime, ReportDocument]] = field(
        init=False, repr=False, default_factory=list
    )
    _recently: asyncio.Lock = field(init=False, repr=False, default_factory=asyncio.Lock)

    async def recent(self, *, now: datetime) -> ReportDocument:
        """Return the report of the last thirty days, made up to a minute ago.

        Raises:
            UnavailableError: The database cannot be reached.
        """
        # Who opens a page again and again has nothing counted anew.
        async with self._recently:
            if not self._recent or now - self._recent[0][0] > RECENT_FOR:
                self._recent[:] = [(now, await self.make(now - RECENT, now, now=now))]
            return self._recent[0][1]

    async def make(self, begin: datetime, end: datetime, *, now: datetime) -> ReportDocument:
        """Return the report of a time; it sees one state of the database.

        Args:
            begin: Aware.
            end: Aware; what is after ``now`` has not happened.
            now: Aware.

        Raises:
            MalformedError: The time is empty.
            UnavailableError: The database cannot be reached.
        """
        end = min(end, now)
        if begin >= end:
            raise MalformedError("a report is of a time that has begun, and ends after it begins")
        registry = (await self.registries.current()).registry
        async with self._one, snapshot(self.pool) as connection:
            reports = ReportRepository(connection)
            counts = await reports.read_counts(begin, end)
            activity = await reports.read_activity(begin, end)
            overlaps = await reports.read_overlaps(end)
            latencies = await reports.read_latencies(begin, end)
            disputes = await reports.read_disputes(begin, end)
            retractions = await reports.read_retractions(begin, end)
            lags = await reports.read_lags(now)
            feedback = await read_report_feedback(connection, begin, end, now=now)
            sizes = await reports.read_sizes(all_lists(registry), begin, end, steps=STEPS)
            log_size = (await LogRepository(connection).read_head()).size
        return ReportDocument(
            coalition=registry.coalition,
            log=registry.log,
            log_size=log_size,
            begin=format_time(begin),
            end=format_time(end),
            made_at=format_time(now),
            members=_to_members(registry, activity),
            counts=[ReportCount(**asdict(row)) for row in counts],
            overlaps=[ReportOverlap(**asdict(row)) for row in overlaps],
            latencies=[ReportLatency(**asdict(row)) for row in latencies],
            disputes=[ReportDispute(**asdict(row)) for row in disputes],
            retractions=[ReportRetraction(**asdict(row)) for row in retractions],
            feedback=feedback,
            lags=list(to_lags(registry, lags)),
            sizes=[to_size(row) for row in sizes],
        )


def all_lists(registry: Registry) -> list[ListName]:
    """Return every list of the registry, sorted."""
    return [
        name
        for hash_set in sorted(registry.hash_sets)
        for name in registry.lists(HashSetId(hash_set))
    ]


def to_lags(registry: Registry, rows: list[LagRow]) -> Iterator[ReportLag]:
    """Yield who lags in which list: active members only, and also who never pulled.

    Nobody has to pull the sandbox.
    """
    known = {(row.member, row.list_name): row for row in rows}
    for name in all_lists(registry):
        for member_id, member in sorted(registry.members.items()):
            if member.status is not Status.ACTIVE or not may_read_list(registry, member_id, name):
                continue
            row = known.get((member_id, str(name)))
            if row is None and name.hash_set == SANDBOX:
                continue
            yield ReportLag(
                member=member_id,
                list_name=str(name),
                version=row.version if row else 0,
                pulled_at=format_time(row.pulled_at) if row else None,
                behind=row.behind if row else 0,
                behind_ms=row.behind_ms if row else 0,
            )


def to_size(row: SizeRow) -> ReportSize:
    """Return the size of a list as it crosses the wire."""
    return ReportSize(
        list_name=row.list_name,
        moment=format_time(row.moment),
        version=row.version,
        count=row.count,
    )


def _to_members(registry: Registry, rows: list[ActivityRow]) -> list[ReportMember]:
    known = {row.member: row for row in rows}
    return [
        ReportMember(
            name=member.name,
            status=member.status.value,
            **asdict(known.get(member_id, ActivityRow(member_id, 0, 0, 0, 0, 0))),
        )
        for member_id, member in sorted(registry.members.items())
    ]

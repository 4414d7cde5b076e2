"""Feedback: members report what hashes did for them; others see sums."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime

from hashshare.domain.feedback import Counts, Month, Reported, Shown, shown_of
from hashshare.domain.hashes import HashValue
from hashshare.domain.names import HashSetId
from hashshare.domain.release import reads_all_views
from hashshare.errors import MalformedError, NotFoundError
from hashshare.service.pull import PullService, Reader, sees_statements
from hashshare.storage.database import Connection, Pool, snapshot, transaction
from hashshare.storage.feedback import FeedbackRepository
from hashshare.wire.report import ReportFeedback


@dataclass(frozen=True, slots=True)
class FeedbackService:
    """Keeps reports, and shows what may be shown. May be used by several processes at once."""

    pool: Pool
    pull: PullService

    async def report(
        self,
        hash_set: HashSetId,
        month: Month,
        counts: Sequence[tuple[HashValue, Counts]],
        *,
        total: Counts | None,
        named: bool,
        reader: Reader,
        now: datetime,
    ) -> int | None:
        """Keep a page of a member's report; durable once it returns, and idempotent.

        Returns:
            How many of the hashes are known; None where ``reader`` may not know.

        Raises:
            NotFoundError: No such hash set, or ``reader`` may not know of it.
            MalformedError: The month is not one of the last, or a hash stands twice.
        """
        if not reader.registry.may_read(reader.member, hash_set):
            raise NotFoundError(f"no hash set {hash_set!r:.70}")
        month.verify_reportable(now.date())
        if len({value for value, _ in counts}) < len(counts):
            raise MalformedError("a hash stands twice in this page")
        async with transaction(self.pool) as connection:
            repository = FeedbackRepository(connection)
            if total is not None:
                await repository.replace_total(hash_set, reader.member, month, total, named=named)
            known = await repository.replace(hash_set, reader.member, month, counts, named=named)
        # Whoever may not see what others said is not told either by which hashes are known.
        sees_all = reads_all_views(reader.registry, reader.member, hash_set)
        return known if sees_all and sees_statements(hash_set, reader) else None

    async def read(
        self, hash_set: HashSetId, value: HashValue, *, reader: Reader, now: datetime
    ) -> list[Shown]:
        """Return what is shown of the feedback on a hash.

        Raises:
            NotFoundError: Whoever asks may see nothing of this hash's provenance.
        """
        await self.pull.provenance(hash_set, value, reader=reader)
        async with snapshot(self.pool) as connection:
            reported = await FeedbackRepository(connection).read_of_hash(hash_set, value)
        return shown_of(reported, today=now.date())


async def read_report_feedback(
    connection: Connection, begin: datetime, end: datetime, *, now: datetime
) -> list[ReportFeedback]:
    """Return what a transparency report shows of the months that begin in its time."""
    repository = FeedbackRepository(connection)
    today = now.date()
    first, before = _first_day(begin), _first_day(end)
    of_sets: dict[tuple[HashSetId, Month], list[Reported]] = defaultdict(list)
    for hash_set, reported in await repository.read_totals(first, before):
        of_sets[hash_set, reported.month].append(reported)
    found = [
        ReportFeedback(
            hash_set=hash_set,
            month=str(month),
            of="hash set",
            member=shown.member,
            members=shown.members,
            hashes=0,
            **asdict(shown.counts),
        )
        for (hash_set, month), reported in of_sets.items()
        for shown in shown_of(reported, today=today)
    ]
    found += [
        ReportFeedback(
            hash_set=row.hash_set,
            month=str(row.month),
            of="hashes",
            member=row.member,
            members=row.members,
            hashes=row.hashes,
            **asdict(row.counts),
        )
        for row in await repository.sum_of_hashes(first, before, today=today)
    ]
    return sorted(found, key=lambda row: (row.hash_set, row.month, row.of, row.member or "~"))


def _first_day(moment: datetime) -> date:
    """Return the first day that begins at ``moment`` or later."""
    day = moment.date()
    whole = moment.replace(hour=0, minute=0, second=0, microsecond=0) == moment
    return day if whole else date.fromordinal(day.toordinal() + 1)

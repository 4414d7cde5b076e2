"""The report that is kept for a minute."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hashshare.service.report import RECENT_FOR, ReportService
from tests.strategies import MEMBERS
from tests.support.coalition import assertion, run_coalition


async def test_the_recent_report_is_made_anew_each_minute(dsn: str, tmp_path: Path) -> None:
    """It tells nothing newer meanwhile, and all that came since after it."""
    async with run_coalition(dsn, tmp_path / "blobs") as running:
        reports, now = ReportService(running.pool, running.registries), datetime.now(UTC)
        first = await reports.recent(now=now)
        await running.push(MEMBERS[0], [assertion(1)])
        assert await reports.recent(now=now + RECENT_FOR) == first
        later = await reports.recent(now=now + RECENT_FOR + timedelta(microseconds=1))
        assert later.log_size == first.log_size + 1

"""The transparency report: its numbers are those of a coalition that can be counted by hand."""

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import msgspec
import pytest

from hashshare.client import Client, Profile
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.members import Role
from hashshare.domain.policy import Basis, Decision, DisputeReason
from hashshare.domain.records import AssertRecord, DisputeRecord, Record, RuleRecord, WithdrawRecord
from hashshare.domain.statements import Operation
from hashshare.errors import MalformedError, NotFoundError
from hashshare.pages.formats import ReportFormat
from hashshare.pages.render import render_report
from hashshare.storage.database import read_migrations
from hashshare.wire.report import ReportDocument
from tests.support.federation import Federation

HOSTILE = "</style><script>alert(1)</script>|`x`\"'&"


def hashes(number: int) -> dict[HashAlgorithm, bytes]:
    return {HashAlgorithm.SHA256: bytes([number]) * 32}


def said(number: int, classification: str = "A1") -> AssertRecord:
    return AssertRecord("", hashes(number), classification, None, Basis.REVIEWED)


async def push(
    federation: Federation, name: str, records: list[Record], operation: Operation
) -> None:
    async with Client(federation.members[name]) as client:
        (pushed,) = await client.push("csam", records, operation=operation)
        await federation.published(pushed.log_index + 1)


@pytest.fixture
async def busy(federation: Federation) -> Federation:
    """acme says 1, 2, 3, takes 3 back; beta says 2, 4, disputes 1; gamma pulls once, early."""
    gamma = await federation.join("gamma", (Role.READER,))
    async with Client(federation.admin) as admin:
        member = (await admin.admin.registry()).member("gamma")
        hostile = msgspec.structs.replace(member, name=HOSTILE)
        await admin.admin.put_member("gamma", hostile, new=False, now=datetime.now(UTC))
    three: list[Record] = [said(1), said(2), said(3, "A2")]
    await push(federation, "acme", three, Operation.ASSERT)
    await push(federation, "beta", [said(2), said(4)], Operation.ASSERT)
    async with Client(gamma) as client:
        await client.pull()
    disputed = DisputeRecord(hashes(1), DisputeReason.ADULT)
    await push(federation, "beta", [disputed], Operation.DISPUTE)
    await push(federation, "acme", [WithdrawRecord("", hashes(3))], Operation.WITHDRAW)
    async with Client(federation.members["beta"]) as client:
        await client.pull()
    return federation


async def report(profile: Profile, begin: int = -60, end: int = 60) -> ReportDocument:
    now = datetime.now(UTC)
    async with Client(profile) as client:
        return await client.admin.report(
            now + timedelta(minutes=begin), now + timedelta(minutes=end)
        )


async def test_the_numbers_are_right(busy: Federation) -> None:
    """Members, hashes, overlap, disputes, retractions, lag."""
    made = await report(busy.admin)

    members = {m.member: m for m in made.members}
    acme, beta = members["acme"], members["beta"]
    assert (acme.submissions, acme.asserted, acme.new, acme.withdrawn) == (2, 3, 3, 1)
    assert (beta.submissions, beta.asserted, beta.new, beta.disputed) == (2, 2, 1, 1)
    assert members["gamma"].submissions == 0

    counts = {(c.by, c.name): (c.held, c.added) for c in made.counts}
    assert counts == {
        ("all", ""): (3, 3),
        ("member", "acme"): (2, 2),
        ("member", "beta"): (2, 2),
        ("algorithm", "sha256"): (3, 3),
        ("classification", "A1"): (3, 3),
    }
    assert [(o.member, o.other, o.both) for o in made.overlaps] == [("acme", "beta", 1)]

    (latency,) = made.latencies
    assert (latency.published, latency.waiting) == (4, 0)
    assert latency.median_ms is not None
    assert latency.longest_ms is not None
    assert 0 < latency.median_ms <= latency.longest_ms

    (dispute,) = made.disputes
    assert (dispute.reason, dispute.opened, dispute.ended, dispute.open) == ("adult", 1, 0, 1)

    retractions = {(r.list_name, r.member): r for r in made.retractions}
    taken = retractions["csam/all/sha256", "beta"]
    assert (taken.retractions, taken.taken) == (2, 2)
    missed = retractions["csam/all/sha256", "gamma"]
    assert (missed.retractions, missed.taken, missed.median_ms) == (2, 0, None)

    lags = {(lag.list_name, lag.member): lag for lag in made.lags}
    assert lags["csam/all/sha256", "beta"].behind == 0
    behind = lags["csam/all/sha256", "gamma"]
    assert behind.behind == 2
    assert behind.behind_ms > 0
    assert lags["csam/all/sha256", "acme"].pulled_at is None
    assert next(s.count for s in made.sizes[::-1] if s.list_name == "csam/all/sha256") == 2


async def test_a_dispute_that_was_ruled_on_has_ended(busy: Federation) -> None:
    """However it was decided; one that comes after is open."""
    hotline = await busy.join("hotline", (Role.CONTRIBUTOR, Role.READER, Role.REVIEWER))
    ruling = RuleRecord(hashes(1), Decision.KEEP, "seen")
    await push(busy, "hotline", [ruling], Operation.RULE)
    (dispute,) = (await report(busy.admin)).disputes
    assert (dispute.opened, dispute.ended, dispute.open) == (1, 1, 0)
    again = DisputeRecord(hashes(1), DisputeReason.ADULT)
    async with Client(hotline) as client:
        await client.push("csam", [again], operation=Operation.DISPUTE)
    (dispute,) = (await report(busy.admin)).disputes
    assert (dispute.opened, dispute.ended, dispute.open) == (2, 1, 1)


async def test_a_report_is_of_its_time(busy: Federation) -> None:
    """What was before has not happened in it, and what is held still is."""
    now = datetime.now(UTC)
    async with Client(busy.admin) as client:
        later = await client.admin.report(now + timedelta(seconds=-1), now + timedelta(hours=1))
        before = await client.admin.report(now - timedelta(days=9), now - timedelta(days=8))
    for nothing in (before.counts, before.overlaps, before.disputes, before.sizes):
        assert nothing == []
    assert all(m.submissions == 0 for m in before.members)
    assert sum(c.held for c in later.counts if c.by == "all") == 3
    with pytest.raises(MalformedError):
        await report(busy.admin, 1, 2)
    with pytest.raises(MalformedError):
        await report(busy.admin, -1, -2)


class Tags(HTMLParser):
    """Gathers the tags of a page, and whatever would load something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loads: list[tuple[str, str | None]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [a for a in attrs if a[0] in {"src", "href", "style"} or a[0][:2] == "on"]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


async def test_html_stands_alone_and_escapes_names(busy: Federation) -> None:
    """It loads nothing, runs nothing, and shows a hostile name as it is spelled."""
    text = render_report(await report(busy.admin), ReportFormat.HTML)
    page = Tags()
    page.feed(text)
    assert page.loads == []
    assert "script" not in page.tags
    assert {"svg", "polyline", "table"} <= page.tags
    assert HOSTILE in "".join(page.words)
    assert "default-src 'none'" in text


async def test_markdown_escapes_names(busy: Federation) -> None:
    """A name is one cell of its table, and no HTML."""
    text = render_report(await report(busy.admin), ReportFormat.MARKDOWN)
    (row,) = (line for line in text.splitlines() if line.startswith("| gamma"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 9
    assert not re.search(r"(?<!\\)[<`]", row)


async def test_json_is_the_model(busy: Federation) -> None:
    """And comes back."""
    made = await report(busy.admin)
    text = render_report(made, ReportFormat.JSON)
    assert ReportDocument.parse(text.encode()) == made
    assert (bytes([1]) * 32).hex() not in text


async def test_members_make_no_reports(busy: Federation) -> None:
    """To them there is nothing here; an auditor makes them."""
    auditor = await busy.join("auditor", (Role.AUDITOR,))
    assert (await report(auditor)).coalition == "Test Coalition"
    with pytest.raises(NotFoundError, match="there is nothing here"):
        await report(busy.members["acme"])


async def test_older_publications_are_dated_by_what_was_signed(busy: Federation) -> None:
    """The migration reads the time from the log, to the second."""
    before = await busy.pool.fetch("SELECT version, published_at FROM publication ORDER BY version")
    await busy.pool.execute("UPDATE publication SET published_at = '2000-01-01'")
    (text,) = (t for n, t in read_migrations().items() if n.endswith("_published_at.sql"))
    (update,) = (part for part in text.split(";") if "UPDATE publication" in part)
    await busy.pool.execute(update)
    after = await busy.pool.fetch("SELECT version, published_at FROM publication ORDER BY version")
    assert len(after) == len(before) > 3
    for old, new in zip(before, after, strict=True):
        assert abs(old["published_at"] - new["published_at"]) < timedelta(seconds=30)

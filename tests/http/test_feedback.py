"""Feedback: counts that members report, and what others are shown of them."""

import asyncio
import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from hashshare.client import Client, Profile
from hashshare.client.enrol import enrol
from hashshare.client.feedback import FeedbackProgress, Row, read_counts, verify_counts
from hashshare.domain.feedback import MAX_COUNT, MAX_ROWS, Counts, Month
from hashshare.domain.hashes import HashAlgorithm, HashValue
from hashshare.domain.members import Role
from hashshare.domain.policy import Basis, View
from hashshare.domain.records import AssertRecord
from hashshare.domain.scopes import Scope, ScopeKind
from hashshare.errors import (
    BatchFaultsError,
    HashshareError,
    MalformedError,
    NotFoundError,
    UnavailableError,
)
from hashshare.wire.feedback import FeedbackShown
from hashshare.wire.report import ReportFeedback
from tests.cli.test_commands import sh
from tests.support.federation import CSAM, Federation
from tests.support.relay import Answer, run_relay

NOW = datetime.now(UTC)
LAST = Month((NOW.date().replace(day=1) - timedelta(days=1)).replace(day=1))
THIS = Month(NOW.date().replace(day=1))
FIVE = ("acme", "beta", "gamma", "delta")


def value(number: int) -> HashValue:
    """A made-up hash."""
    return HashValue(HashAlgorithm.SHA256, b"%032d" % number)


def row(number: int, matched: int = 1, false_positive: int = 0, not_matched: int = 0) -> Row:
    return value(number), Counts(matched, false_positive, not_matched)


@pytest.fixture
async def federation(federation: Federation) -> Federation:
    """Of four members, the last a reader; acme has said something of three hashes."""
    await federation.join("gamma")
    await federation.join("delta", (Role.READER,))
    records = [
        AssertRecord("", {n.algorithm: n.value}, "A1", None, Basis.REVIEWED)
        for n in map(value, range(1, 4))
    ]
    async with Client(federation.members["acme"]) as acme:
        (pushed,) = await acme.push("csam", records)
    await federation.published(pushed.log_index + 1)
    return federation


async def tell(
    profile: Profile, *rows: Row, month: Month = LAST, named: bool = False, hash_set: str = "csam"
) -> FeedbackProgress:
    progress = FeedbackProgress()
    async with Client(profile) as client:
        await client.feedback.report(hash_set, month, rows, named=named, progress=progress)
    return progress


async def seen(profile: Profile, number: int = 1) -> list[FeedbackShown]:
    async with Client(profile) as client:
        return await client.feedback.of_hash("csam", value(number))


async def reported(federation: Federation) -> list[ReportFeedback]:
    begin = datetime.combine(LAST.begin, datetime.min.time(), UTC)
    async with Client(federation.admin) as client:
        return (await client.admin.report(begin, NOW + timedelta(minutes=5))).feedback


async def stored(federation: Federation) -> list[tuple[object, ...]]:
    rows = await federation.pool.fetch(
        "SELECT member_id, hash_id, matched, false_positive, not_matched"
        "  FROM feedback JOIN member USING (member_no) ORDER BY 1, 2"
    )
    return [tuple(row) for row in rows]


async def test_others_see_sums_of_three_members(federation: Federation) -> None:
    """In provenance and in the report; never whose they are, nor what two reported."""
    for number, name in enumerate(FIVE):
        if number == 2:
            assert await seen(federation.members["delta"]) == []
            assert await reported(federation) == []
        await tell(federation.members[name], row(1, 10**number, number), row(2))
    expected = FeedbackShown(
        member=None,
        members=4,
        first=str(LAST),
        last=str(LAST),
        matched=1111,
        false_positive=6,
        not_matched=0,
    )
    for profile in (*federation.members.values(), federation.admin):
        assert await seen(profile) == [expected]
    (told,) = await reported(federation)
    assert (told.of, told.member, told.members, told.hashes) == ("hashes", None, 4, 2)
    assert (told.matched, told.false_positive) == (1115, 6)


async def test_a_total_of_a_hash_set_is_summed_likewise(federation: Federation) -> None:
    """And taken back with zeros."""
    for number, name in enumerate(FIVE[:3]):
        assert await reported(federation) == []
        async with Client(federation.members[name]) as client:
            await client.feedback.report_total("csam", LAST, Counts(10**number, 1, 7))
    (told,) = await reported(federation)
    assert (told.of, told.member, told.members, told.hashes) == ("hash set", None, 3, 0)
    assert (told.matched, told.false_positive, told.not_matched) == (111, 3, 21)
    async with Client(federation.members["acme"]) as client:
        await client.feedback.report_total("csam", LAST, Counts())
    assert await reported(federation) == []


async def test_who_says_so_is_named(federation: Federation) -> None:
    """At once, and nobody else with it."""
    await tell(federation.members["acme"], row(1, 5, 2), month=THIS, named=True)
    await tell(federation.members["beta"], row(1, 900), month=THIS)
    (shown,) = await seen(federation.members["delta"])
    assert (shown.member, shown.members, shown.matched, shown.false_positive) == ("acme", 1, 5, 2)
    (told,) = await reported(federation)
    assert (told.member, told.matched) == ("acme", 5)
    await tell(federation.members["acme"], row(1, 5, 2), month=THIS)
    assert await seen(federation.members["delta"]) == []


async def test_a_report_takes_the_place_of_the_one_before(federation: Federation) -> None:
    """Of the same hash and month, by the same member; zeros take it back."""
    acme, beta = federation.members["acme"], federation.members["beta"]
    await tell(beta, row(1, 70))
    await tell(acme, row(1, 5, 2), row(2, 3))
    await tell(acme, row(1, 5, 2), row(2, 3))
    await tell(acme, row(1, 6))
    first, second = [r[1] for r in await stored(federation) if r[0] == "acme"]
    assert await stored(federation) == [
        ("acme", first, 6, 0, 0),
        ("acme", second, 3, 0, 0),
        ("beta", first, 70, 0, 0),
    ]
    await tell(acme, row(1, 0), row(2, 0))
    assert await stored(federation) == [("beta", first, 70, 0, 0)]


@pytest.mark.parametrize("lost", ["request", "answer"])
async def test_feedback_that_was_cut_off_counts_once(federation: Federation, lost: str) -> None:
    """Sent again by the client itself, unnoticed."""
    async with run_relay(federation, "acme") as relay:
        tries: list[str] = []

        def once(method: str, path: str) -> bool:
            if method == "POST" and path.endswith("/feedback"):
                tries.append(path)
                return len(tries) == 1
            return False

        def attack(answer: Answer) -> None:
            answer.cut = once(answer.method, answer.path)

        if lost == "request":
            relay.before = lambda method, path: not once(method, path)
        else:
            relay.attack = attack
        await tell(relay.profile, row(1, 5))
    assert len(tries) == 2
    assert [r[2:] for r in await stored(federation)] == [(5, 0, 0)]


async def test_a_report_that_was_broken_off_is_repeated(federation: Federation) -> None:
    """What had arrived is replaced."""

    def rows(count: int) -> list[Row]:
        return [row(1, 5), row(2, 6), *(row(n) for n in range(10, count)), row(3, 7)]

    async with run_relay(federation, "acme") as relay:
        asked: list[str] = []

        def first_only(method: str, path: str) -> bool:
            asked.append(path)
            return method != "POST" or len(asked) == 1

        relay.before = first_only
        async with Client(relay.profile) as client:
            client.session.attempts = 1
            progress = FeedbackProgress()
            with pytest.raises(UnavailableError):
                await client.feedback.report("csam", LAST, rows(MAX_ROWS + 20), progress=progress)
            assert (progress.done, progress.known) == (MAX_ROWS, 2)
    assert [r[2] for r in await stored(federation)] == [5, 6]
    done = await tell(federation.members["acme"], *rows(MAX_ROWS + 20))
    assert (done.done, done.known) == (MAX_ROWS + 13, 3)
    assert [r[2] for r in await stored(federation)] == [5, 6, 7]


async def test_feedback_of_a_hash_set_that_one_may_not_read(federation: Federation) -> None:
    """It does not exist; nor does anything that is reported of it."""
    secret = msgspec.structs.replace(CSAM, readers=("acme",), contributors=("acme",))
    await federation.create("secret", secret)
    words = []
    for name in ("secret", "absent"):
        with pytest.raises(NotFoundError) as caught:
            await tell(federation.members["beta"], row(1), hash_set=name)
        words.append(str(caught.value).replace(name, ""))
    assert words[0] == words[1]
    assert await stored(federation) == []
    with pytest.raises(NotFoundError):
        await seen(federation.members["beta"], 99)


async def test_feedback_does_not_tell_which_hashes_there_are(federation: Federation) -> None:
    """Where members do not see what others said; elsewhere it tells how many are left out."""
    assert (await tell(federation.members["beta"], row(1), row(99))).known == 1
    hidden = msgspec.structs.replace(CSAM, views={"all": View(show_members=False)})
    await federation.create("hidden", hidden)
    async with Client(federation.members["acme"]) as acme:
        record = AssertRecord("", {value(1).algorithm: value(1).value}, "A1", None, Basis.REVIEWED)
        await acme.push("hidden", [record])
    for number in (1, 99):
        done = await tell(federation.members["beta"], row(number), hash_set="hidden")
        assert done.known is None
        async with Client(federation.members["beta"]) as beta:
            with pytest.raises(NotFoundError, match="nothing is known of this hash"):
                await beta.feedback.of_hash("hidden", value(number))


HOSTILE: list[tuple[str, object]] = [
    ("matched", -1),
    ("matched", MAX_COUNT + 1),
    ("matched", 10**30),
    ("matched", 1.5),
    ("matched", "1"),
    ("matched", True),
    ("matched", None),
    ("algorithm", "sha257"),
    ("hash", "ab"),
    ("hash", value(1).value.hex().upper() + "A"),
    ("hash", "0" * 64),
    ("member", "beta"),
]


@pytest.mark.parametrize(("name", "hostile"), HOSTILE)
async def test_counts_that_are_none(federation: Federation, name: str, hostile: object) -> None:
    """Negative, huge, or of another kind; nor does a report speak for another member."""
    good = {"algorithm": "sha256", "hash": value(1).value.hex(), "matched": 1}
    body = {"month": str(LAST), "named": False, "total": None, "hashes": [good | {name: hostile}]}
    async with Client(federation.members["acme"]) as acme:
        with pytest.raises(MalformedError) as caught:
            await acme.session.request(
                "POST", "/v1/hash-sets/csam/feedback", body=msgspec.json.encode(body)
            )
    assert value(1).value.hex()[:8] not in str(caught.value)
    assert await stored(federation) == []


async def test_sums_beyond_every_number_of_the_database(federation: Federation) -> None:
    """Three members whose counts are as large as can be do not break the report."""
    await federation.pool.execute(
        "INSERT INTO feedback SELECT hash_set_no, n, $1, member_no, false, $2, $2, $2"
        "  FROM hash_set, member, generate_series(1, 4_000) AS n WHERE hash_set_id = 'csam'"
        "   AND member_id IN ('acme', 'beta', 'gamma')",
        LAST.begin,
        MAX_COUNT,
    )
    (told,) = await reported(federation)
    assert told.matched == 3 * 4_000 * MAX_COUNT


async def test_a_page_is_bounded(federation: Federation) -> None:
    """In hashes, in months, and in what it says of one hash."""
    acme = federation.members["acme"]
    async with Client(acme) as client:
        with pytest.raises(MalformedError):
            hashes = [
                {"algorithm": "sha256", "hash": value(n).value.hex(), "matched": 1}
                for n in range(MAX_ROWS + 1)
            ]
            body = {"month": str(LAST), "named": False, "total": None, "hashes": hashes}
            await client.session.request(
                "POST", "/v1/hash-sets/csam/feedback", body=msgspec.json.encode(body)
            )
    with pytest.raises(MalformedError, match="stands twice"):
        await tell(acme, row(1), row(1, 2))
    for month in ("1999-01", "2999-01"):
        with pytest.raises(MalformedError, match="last 24 months"):
            await tell(acme, row(1), month=Month.parse(month))
    assert await stored(federation) == []


async def test_a_certificate_that_pulls_reports_and_one_that_pushes_does_not(
    federation: Federation,
) -> None:
    """What matches is what pulls; another hash set does not exist to it."""
    await federation.create("other", CSAM)
    profiles = {}
    for kind in ScopeKind:
        async with Client(federation.members["acme"]) as acme:
            scope = Scope(kind, ("csam",))
            invitation, _ = await acme.certificates.add(f"for-{kind}", scope, hours=1)
        joined = await enrol(invitation, federation.folder / f"for-{kind}")
        profiles[kind] = joined.profile
    await tell(profiles[ScopeKind.PULL], row(1, 3))
    assert [r[2] for r in await stored(federation)] == [3]
    await tell(profiles[ScopeKind.BOTH], row(1, 4))
    assert [r[2] for r in await stored(federation)] == [4]
    with pytest.raises(NotFoundError, match="nothing here"):
        await tell(profiles[ScopeKind.PUSH], row(1))
    for kind in (ScopeKind.PULL, ScopeKind.BOTH):
        with pytest.raises(NotFoundError, match="no hash set"):
            await tell(profiles[kind], row(1), hash_set="other")


async def test_of_feedback_no_log_and_no_trail_holds_a_hash(federation: Federation) -> None:
    """The trail has that there was a report, for which month, and no numbers."""
    digits = value(1).value.hex()
    with capture_logs() as logs:
        await tell(federation.members["acme"], row(1, 271828, 31415))
        await seen(federation.members["acme"])
        with pytest.raises(HashshareError):
            await tell(federation.members["acme"], row(1), month=Month.parse("1999-01"))
    text = repr(logs)
    assert "request answered" in text
    async with Client(federation.admin) as admin:
        entries = [e async for e in admin.admin.trail(member="acme")]
    text += repr(entries)
    for secret in (digits, digits[:16], "271828", "31415"):
        assert secret not in text
    (act,) = [e for e in entries if e.action == "POST /v1/hash-sets/{hash_set}/feedback"][:1]
    assert act.kind == "act"
    assert act.facts == {"hash_set": "csam", "month": str(LAST), "named": 0}


async def test_members_that_report_the_same_hashes_at_once(federation: Federation) -> None:
    """None waits for another for ever."""
    for _ in range(3):
        await asyncio.gather(
            *(
                tell(federation.members[name], *(row(n) for n in order))
                for name, order in zip(FIVE, [(1, 2, 3), (3, 2, 1), (2, 1), (3, 1)], strict=True)
            )
        )
    assert len(await stored(federation)) == 10


def write(path: Path, *lines: list[object]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return path


HEAD: list[object] = ["algorithm", "hash", "matched", "false_positive", "not_matched"]


def test_faulty_files_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    """Each row that is wrong is named, and no hash is repeated in the message."""
    digits = value(1).value.hex()
    path = write(
        tmp_path / "f.csv",
        HEAD,
        ["sha256", digits, 1, 0, 0],
        ["sha256", digits.upper(), 1, 0, 0],
        ["sha256", value(2).value.hex(), -1, "", ""],
        ["sha256", value(3).value.hex(), MAX_COUNT + 1],
        ["md5", digits, 1],
        ["sha256", value(4).value.hex(), "", "", 9],
    )
    with pytest.raises(BatchFaultsError) as caught:
        verify_counts(path)
    assert [fault.line for fault in caught.value.faults] == [3, 4, 5, 6]
    assert caught.value.faults[0].reason == "the same hash as in line 2"
    assert digits not in str(caught.value.faults)
    for head in (["hash"], ["algorithm", "hash", "size"], ["algorithm", "hash", "hash"], []):
        with pytest.raises(MalformedError, match="the first line"):
            verify_counts(write(tmp_path / "f.csv", list(head), ["x"]))
    good = write(tmp_path / "f.csv", HEAD[:2], ["SHA256", f" {digits.upper()} "])
    assert list(read_counts(good)) == [(value(1), Counts())]
    with pytest.raises(MalformedError, match="there is no file"):
        verify_counts(tmp_path / "absent.csv")


async def test_the_commands(federation: Federation, tmp_path: Path) -> None:
    """From the file to the provenance, with a hint for what is listed wrongly."""
    path = write(tmp_path / "last.csv", HEAD, ["sha256", value(1).value.hex(), 4, 1, 90])
    write(tmp_path / "more.csv", HEAD, ["sha256", value(1).value.hex(), 4], ["md5", "ab" * 16, 1])
    profile = federation.admin.folder
    for name in FIVE[:3]:
        profile = federation.members[name].folder
        done = await sh("feedback", "csam", path, "--period", LAST, profile=profile)
        assert "1 hashes: 4 matched, 1 false positives, 90 not matched" in done.out
        assert "hint: " in done.err
        assert "hashshare dispute csam" in done.err
    words = ["provenance", "csam", str(value(1))]
    shown = await sh(*words, profile=profile)
    assert "3 members" in shown.out
    as_json = await sh(*words, "--json", profile=profile)
    (line,) = [msgspec.json.decode(t) for t in as_json.out.splitlines() if '"feedback"' in t]
    assert (line["member"], line["members"], line["false_positive"]) == (None, 3, 3)
    more = ["feedback", "csam", tmp_path / "more.csv", "--period", str(LAST)]
    done = await sh(*more, profile=profile)
    assert "1 hashes left out: csam does not know them" in done.err
    total = ["feedback", "csam", "--period", str(LAST), "--matched", "12", "--json"]
    done = await sh(*total, profile=profile)
    assert msgspec.json.decode(done.out)["matched"] == 12
    wrong = ["feedback", "csam", "--period", str(LAST)]
    done = await sh(*wrong, profile=profile)
    assert done.code == 2
    assert "give a FILE" in done.err

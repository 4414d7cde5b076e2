"""Release by the reader's jurisdiction: elsewhere a view is not there, by no way to it."""

from datetime import UTC, datetime

import msgspec
import pytest

from hashshare.client import Client, Profile
from hashshare.client.feedback import FeedbackProgress
from hashshare.client.session import Session
from hashshare.domain.feedback import Counts, Month
from hashshare.domain.hashes import HashAlgorithm, HashValue
from hashshare.domain.members import Role
from hashshare.domain.policy import Basis, DisputeReason, View
from hashshare.domain.records import AssertRecord, DisputeRecord
from hashshare.domain.statements import Operation
from hashshare.errors import NotFoundError
from tests.cli.test_commands import sh
from tests.http.test_access import answered
from tests.support.federation import CONTRIBUTOR, CSAM, Federation
from tests.support.mirrors import run_mirror

HIDDEN = "two/local/sha256"
OPEN = "two/open/sha256"
PATHS = [
    f"/v1/lists/{HIDDEN}/{rest}"
    for rest in ("snapshot", "snapshots/1", "deltas/0/1", "buckets/0?bits=0")
]
COUNTRIES = {"acme": "FR", "beta": "DE", "gamma": "FR"}


def value(number: int) -> HashValue:
    """A made-up hash."""
    return HashValue(HashAlgorithm.SHA256, b"%032d" % number)


async def settle(federation: Federation, countries: dict[str, str]) -> None:
    async with Client(federation.admin) as admin:
        registry = await admin.admin.registry()
        for name, country in countries.items():
            moved = msgspec.structs.replace(registry.member(name), jurisdiction=country)
            await admin.admin.put_member(name, moved, new=False, now=datetime.now(UTC))


async def say(federation: Federation, name: str, *numbers: int) -> int:
    records = [
        AssertRecord("", {HashAlgorithm.SHA256: value(n).value}, "A1", None, Basis.REVIEWED)
        for n in numbers
    ]
    async with Client(federation.members[name]) as client:
        (pushed,) = await client.push("two", records)
    return await federation.published(pushed.log_index + 1, "two")


@pytest.fixture
async def federation(federation: Federation) -> Federation:
    """Hash 1 is in the view that is released to France, hash 2 in both."""
    await federation.join("gamma", (*CONTRIBUTOR, Role.REVIEWER))
    await settle(federation, COUNTRIES)
    views = {"open": View(quorum=2), "local": View(released_to=("FR",))}
    await federation.create("two", msgspec.structs.replace(CSAM, views=views))
    await say(federation, "acme", 1, 2)
    await say(federation, "gamma", 2)
    return federation


async def lists_of(profile: Profile) -> set[str]:
    """What a member pulls of the hash set, which must be what it is told of."""
    async with Client(profile) as client:
        pulled = {str(p.name) for p in await client.pull() if p.name.hash_set == "two"}
        (told,) = [s for s in await client.hash_sets() if s.hash_set == "two"]
        assert set(told.lists) == pulled
        assert {name.split("/")[1] for name in told.lists} == set(told.views)
        assert {n for n in (await client.whoami()).lists if n.startswith("two/")} == pulled
        return {name for name in pulled if name.endswith("/sha256")}


async def test_a_view_is_pulled_where_it_is_released(federation: Federation) -> None:
    """Elsewhere the rest is; admins and auditors pull all."""
    watch = await federation.join("watch", (Role.AUDITOR,))
    both = {HIDDEN, OPEN}
    for profile, expected in (
        (federation.members["acme"], both),
        (federation.members["beta"], {OPEN}),
        (federation.admin, both),
        (watch, both),
    ):
        assert await lists_of(profile) == expected


async def test_a_view_that_is_not_released_does_not_exist(federation: Federation) -> None:
    """The answer is that for a view that is not there, to the word."""
    async with Session.of(federation.members["beta"]) as session:
        for path in PATHS:
            hidden = await answered(session, path)
            missing = await answered(session, path.replace("/local/", "/absent/"))
            assert hidden[0] == missing[0] == "NotFoundError"
            assert str(hidden[1]).replace("/local/", "/absent/") == missing[1]
    async with Session.of(federation.members["acme"]) as session:
        await session.request("GET", PATHS[2])
    async with Client(federation.members["beta"]) as beta:
        with pytest.raises(NotFoundError):
            await beta.pull(HIDDEN)
        with pytest.raises(NotFoundError):
            await beta.lookup_remote(HIDDEN, value(1))
        assert (await beta.lookup_remote(OPEN, value(2))).attributes


async def test_a_hash_of_a_view_that_is_not_released_is_not_known(federation: Federation) -> None:
    """Neither by its provenance nor by feedback; what the member said itself it sees."""
    async with Client(federation.members["beta"]) as beta:
        words = []
        for number in (1, 99):
            with pytest.raises(NotFoundError) as caught:
                await beta.provenance("two", value(number))
            with pytest.raises(NotFoundError) as also:
                await beta.feedback.of_hash("two", value(number))
            words.append({str(caught.value), str(also.value)})
        assert words[0] == words[1]
        assert len(words[0]) == 1
        assert len((await beta.provenance("two", value(2))).assertions) == 2
        month = Month(datetime.now(UTC).date().replace(day=1))
        progress = FeedbackProgress()
        await beta.feedback.report("two", month, [(value(1), Counts(1))], progress=progress)
        assert progress.known is None
    await say(federation, "beta", 3)
    async with Client(federation.members["beta"]) as beta:
        assert [s.member for s in (await beta.provenance("two", value(3))).assertions] == ["beta"]
    async with Client(federation.members["acme"]) as acme:
        assert len((await acme.provenance("two", value(1))).assertions) == 1


async def test_a_reviewer_elsewhere_sees_no_case_of_it(federation: Federation) -> None:
    """But those in which it has a part itself."""
    elsewhere = await federation.join("delta", (Role.REVIEWER,))
    async with Client(federation.members["gamma"]) as gamma:
        dispute = DisputeRecord({HashAlgorithm.SHA256: value(1).value}, DisputeReason.ADULT)
        await gamma.push("two", [dispute], operation=Operation.DISPUTE)
        (case,) = await gamma.cases.open()
        assert case.hashes == 1
    async with Client(elsewhere) as client:
        assert await client.cases.open() == []
        with pytest.raises(NotFoundError):
            await client.cases.values(case.case, own=False)


async def test_who_moves_reads_what_is_released_there(federation: Federation) -> None:
    """From the next pull on; what it holds of another country grows old."""
    beta = federation.members["beta"]
    assert await lists_of(beta) == {OPEN}
    await settle(federation, {"beta": "FR"})
    assert await lists_of(beta) == {HIDDEN, OPEN}
    await settle(federation, {"beta": "DE"})
    version = await say(federation, "acme", 4)
    assert await lists_of(beta) == {OPEN}
    async with Client(beta) as client:
        held = {state.name: state.version for state in client.lists()}
    assert held[OPEN] == version > held[HIDDEN]


async def test_mirrors_release_what_the_server_does(federation: Federation) -> None:
    """To each reader, and no more than the operator reads itself."""
    acme, beta = federation.members["acme"], federation.members["beta"]
    async with run_mirror(federation, acme) as mirror:
        await mirror.sync()
        async with Client(beta, sources=[mirror.url]) as client:
            assert {str(p.name) for p in await client.pull() if p.name.algorithm == "sha256"} >= {
                OPEN
            }
            with pytest.raises(NotFoundError):
                await client.pull(HIDDEN)
        async with Session(mirror.url, Session.of(beta).tls, attempts=1) as session:
            for path in PATHS:
                hidden = await answered(session, path)
                missing = await answered(session, path.replace("/local/", "/absent/"))
                assert hidden[0] == missing[0] == "NotFoundError"
                assert str(hidden[1]).replace("/local/", "/absent/") == missing[1]
    async with run_mirror(federation, beta) as mirror:
        await mirror.sync()
        async with Session(mirror.url, Session.of(acme).tls, attempts=1) as session:
            await session.request("GET", f"/v1/lists/{OPEN}/snapshot")
            for path in PATHS:
                assert (await answered(session, path))[0] == "NotFoundError"


async def test_the_commands_of_release(federation: Federation) -> None:
    """A view is released, and to all again; what is no country is refused in a sentence."""
    admin, beta = federation.admin.folder, federation.members["beta"]
    done = await sh("view", "set", "two/open", "--released-to", "FR,BE", profile=admin)
    assert done.code == 0, done.err
    assert await lists_of(beta) == set()
    done = await sh("view", "set", "two/open", "--released-to", "", profile=admin)
    assert done.code == 0, done.err
    assert await lists_of(beta) == {OPEN}
    done = await sh("view", "set", "two/open", "--released-to", "Germany", profile=admin)
    assert done.code == 1
    assert "a country is written in two capital letters" in done.err

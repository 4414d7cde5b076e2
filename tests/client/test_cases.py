"""Cases from the dispute to the decision: who is told, who may answer, who decides."""

from datetime import UTC, datetime

import pytest

from hashshare.client import Client, Profile
from hashshare.client.findings import Verdict
from hashshare.client.selecting import Selection
from hashshare.domain.hash_sets import HashSet
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.members import Role
from hashshare.domain.policy import Basis, Decision, DisputeReason, View
from hashshare.domain.records import (
    AssertRecord,
    DisputeRecord,
    Record,
    RuleRecord,
    WithdrawRecord,
)
from hashshare.domain.statements import Operation
from hashshare.errors import (
    BatchFaultsError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
)
from tests.support.federation import Federation

NOW = datetime.now(UTC)
LIST = "csam/all/sha256"
VALUES = [{HashAlgorithm.SHA256: bytes([n]) * 32} for n in range(1, 5)]
ASSERTED: list[Record] = [AssertRecord("", v, "A1", None, Basis.REVIEWED) for v in VALUES]
DISPUTED: list[Record] = [DisputeRecord(v, DisputeReason.ADULT) for v in VALUES[:2]]


async def push(
    federation: Federation, profile: Profile, records: list[Record], operation: Operation
) -> int:
    """Push, and wait for the publication; return the log index."""
    async with Client(profile) as client:
        (pushed,) = await client.push("csam", records, operation=operation)
    await federation.published(pushed.log_index + 1)
    return pushed.log_index


async def listed(profile: Profile) -> int:
    """How many hashes a member's list has."""
    async with Client(profile) as client:
        await client.pull(LIST)
        return next(state.count for state in client.lists() if state.name == LIST)


async def disputed(federation: Federation) -> int:
    """Let acme assert four hashes, and beta dispute two of them."""
    await push(federation, federation.members["acme"], ASSERTED, Operation.ASSERT)
    return await push(federation, federation.members["beta"], DISPUTED, Operation.DISPUTE)


async def cases_of(profile: Profile) -> dict[int, int]:
    """The open cases of a member, with how many of their hashes it asserts."""
    async with Client(profile) as client:
        return {case.case: case.yours for case in await client.cases.open()}


async def test_a_dispute_opens_a_case_for_those_whom_it_concerns(federation: Federation) -> None:
    """Who asserts, who disputes, reviewers, admins, auditors; nobody else."""
    case = await disputed(federation)
    reviewer = await federation.join("reviewer", (Role.READER, Role.REVIEWER))
    watch = await federation.join("watch", (Role.AUDITOR,))
    gamma = await federation.join("gamma")
    assert await cases_of(federation.members["acme"]) == {case: 2}
    for profile in (federation.members["beta"], reviewer, watch, federation.admin):
        assert await cases_of(profile) == {case: 0}
    assert await cases_of(gamma) == {}
    async with Client(gamma) as client:
        with pytest.raises(NotFoundError):
            await client.cases.values(case, own=False)
        with pytest.raises(NotFoundError):
            await client.cases.confirm(case, comment="")
    async with Client(federation.members["acme"]) as acme:
        (found,) = await acme.cases.open()
        assert (found.member, found.reasons, found.hashes) == ("beta", ["adult"], 2)
        hashes = [one async for one in acme.cases.hashes(case)]
        assert [one.asserted_by for one in hashes] == [["acme"]] * 2


async def test_who_asserts_confirms_and_who_does_not_may_not(federation: Federation) -> None:
    """The answer is there for those who decide; it changes no list."""
    case = await disputed(federation)
    async with Client(federation.members["acme"]) as acme:
        await acme.cases.confirm(case, comment="first")
        await acme.cases.confirm(case, comment="reviewed by two")
    async with Client(federation.members["beta"]) as beta:
        with pytest.raises(PermissionDeniedError):
            await beta.cases.confirm(case, comment="no")
    async with Client(federation.admin) as admin:
        (found,) = await admin.cases.open()
        assert [(c.member, c.comment) for c in found.confirmations] == [("acme", "reviewed by two")]
    assert await listed(federation.members["beta"]) == 2


async def test_a_case_ends_when_its_disputes_do(federation: Federation) -> None:
    """Who disputed takes it back; or who asserted does, and then it concerns it no more."""
    case = await disputed(federation)
    beta = federation.members["beta"]
    await push(
        federation,
        federation.members["acme"],
        [WithdrawRecord("", VALUES[0])],
        Operation.WITHDRAW,
    )
    assert await cases_of(federation.members["acme"]) == {case: 1}
    taken_back: list[Record] = [WithdrawRecord("", v) for v in VALUES[:2]]
    await push(federation, beta, taken_back, Operation.WITHDRAW)
    assert await cases_of(federation.admin) == {}
    assert await listed(beta) == 3


@pytest.mark.parametrize(("decision", "left"), [(Decision.KEEP, 4), (Decision.REMOVE, 2)])
async def test_a_reviewer_closes_a_case(
    federation: Federation, decision: Decision, left: int
) -> None:
    """By a ruling in the log, which every reader verifies and the audit replays."""
    case = await disputed(federation)
    reviewer = await federation.join("reviewer", (Role.READER, Role.REVIEWER))
    async with Client(reviewer) as client:
        values = await client.cases.values(case, own=False)
    ruled: list[Record] = [
        RuleRecord({value.algorithm: value.value}, decision, "seen by two") for value in values
    ]
    await push(federation, reviewer, ruled, Operation.RULE)
    assert await cases_of(federation.admin) == {}
    assert await listed(federation.members["acme"]) == left
    # A repetition is one: what was disputed since is settled by it.
    await push(federation, reviewer, ruled, Operation.RULE)
    watch = await federation.join("watch", (Role.AUDITOR,))
    async with Client(watch) as client:
        report = await client.auditor.audit()
        assert [s.verdict for s in report.hash_sets.values()] == [Verdict.AGREED]
        said = await client.provenance("csam", values[0])
        assert [(s.member, s.verdict) for s in said.assertions] == [
            ("acme", "assert"), ("beta", "dispute"), ("reviewer", decision.value),
            ("reviewer", decision.value),
        ]  # fmt: skip
        assert said.assertions[2].reason == "seen by two"


@pytest.mark.parametrize("role", [Role.READER, Role.CONTRIBUTOR, Role.AUDITOR])
async def test_nobody_but_reviewers_and_admins_decides(federation: Federation, role: Role) -> None:
    """A member that disputes does not settle it."""
    await disputed(federation)
    other = await federation.join("other", (role,))
    ruled: list[Record] = [RuleRecord(VALUES[0], Decision.REMOVE, "so")]
    async with Client(other) as client:
        with pytest.raises(PermissionDeniedError, match="may not rule"):
            await client.push("csam", ruled, operation=Operation.RULE)


async def test_where_names_are_hidden_a_case_names_nobody(federation: Federation) -> None:
    """But to those who decide, and to each its own."""
    hidden = HashSet(
        title="Hidden",
        algorithms=(HashAlgorithm.SHA256,),
        classifications=("A1",),
        views={"all": View(show_members=False)},
    )
    await federation.create("hidden", hidden)
    async with Client(federation.members["acme"]) as acme:
        await acme.push("hidden", ASSERTED)
    async with Client(federation.members["beta"]) as beta:
        (pushed,) = await beta.push("hidden", DISPUTED, operation=Operation.DISPUTE)
        (found,) = await beta.cases.open()
        assert found.member == "beta"
        assert [one.asserted_by async for one in beta.cases.hashes(pushed.log_index)] == [[], []]
    async with Client(federation.members["acme"]) as acme:
        await acme.cases.confirm(pushed.log_index, comment="")
        (found,) = await acme.cases.open()
        assert (found.member, found.confirmations[0].member) == (None, "acme")
    async with Client(federation.members["beta"]) as beta:
        assert (await beta.cases.open())[0].confirmations[0].member is None
    async with Client(federation.admin) as admin:
        (found,) = await admin.cases.open()
        assert (found.member, found.confirmations[0].member) == ("beta", "acme")


@pytest.mark.parametrize("words", ["", 'a "quote"', "back\\slash", "caf\u00e9", "x" * 201])
async def test_a_reason_that_has_no_one_spelling_is_refused(
    federation: Federation, words: str
) -> None:
    """By the server too."""
    ruled: list[Record] = [RuleRecord(VALUES[0], Decision.REMOVE, words)]
    async with Client(federation.admin) as admin:
        with pytest.raises(BatchFaultsError):
            await admin.push("csam", ruled, operation=Operation.RULE)


async def test_what_a_stolen_key_said_is_taken_out_and_comes_back(federation: Federation) -> None:
    """All since a leaf, or of one key, or one submission; previewed, audited, undone."""
    acme = federation.members["acme"]
    first = await push(federation, acme, ASSERTED[:1], Operation.ASSERT)
    second = await push(federation, acme, ASSERTED[1:], Operation.ASSERT)
    assert await listed(federation.members["beta"]) == 4
    watch = await federation.join("watch", (Role.AUDITOR,))
    async with Client(federation.admin) as client:
        admin = client.admin
        (span,) = await admin.select("acme", Selection(since=first + 1))
        assert (span.first, span.last) == (second, second)
        (whole,) = await admin.select("acme", Selection(key_id=acme.submission_key().public.key_id))
        assert (whole.first, whole.last) == (first, second)
        with pytest.raises(NotFoundError):
            await admin.select("acme", Selection(since=second + 1))
        with pytest.raises(NotFoundError):
            await admin.select("beta", Selection())
        done = await admin.edit(
            lambda r: r.with_disregarded("acme", [span]), reason="stolen", now=NOW
        )
        assert done is not None
        await federation.published(done.log_index + 1)
        assert await listed(federation.members["beta"]) == 1
        undone = await admin.edit(
            lambda r: r.with_disregarded("acme", []), reason="not stolen", now=NOW
        )
        assert undone is not None
        await federation.published(undone.log_index + 1)
    assert await listed(federation.members["beta"]) == 4
    async with Client(watch) as client:
        report = await client.auditor.audit()
        assert [s.verdict for s in report.hash_sets.values()] == [Verdict.AGREED]


async def test_a_batch_with_the_latest_ruling_is_not_deleted(federation: Federation) -> None:
    """Like one with something in force; once another ruling holds, it is."""
    ruled: list[Record] = [RuleRecord(VALUES[0], Decision.REMOVE, "seen")]
    first = await push(federation, federation.admin, ruled, Operation.RULE)
    async with Client(federation.admin) as client:
        with pytest.raises(ConflictError):
            await client.admin.redact(first, reason="court order", now=NOW)
    await push(federation, federation.admin, ruled, Operation.RULE)
    async with Client(federation.admin) as client:
        await client.admin.redact(first, reason="court order", now=NOW)

"""Bounded disputes and rulings: what the server settles is what every reader of the log finds."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.domain.hash_sets import DisputeBound
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.history import History, named_documents
from hashshare.domain.joining import Trust
from hashshare.domain.members import Role
from hashshare.domain.names import MemberId
from hashshare.domain.policy import Decision, DisputeReason, View
from hashshare.domain.records import DisputeRecord, Record, RuleRecord
from hashshare.domain.registry import Keys
from hashshare.domain.spans import Span
from hashshare.domain.statements import Submission
from hashshare.errors import MalformedError, PermissionDeniedError
from hashshare.service.publish import Publisher
from hashshare.storage.database import snapshot
from hashshare.storage.log import LogRepository
from tests.strategies import MEMBERS
from tests.support.coalition import ADMIN, BETA, ORIGIN, Running, assertion, run_coalition
from tests.support.examples import with_database
from tests.support.publishing import Story, start_story

ACME = MEMBERS[0]
START = datetime(2026, 11, 23, 10, tzinfo=UTC)
SELECT_ALONE = "SELECT log_index, alone FROM submission ORDER BY log_index"
numbers = count(1)


class Clock:
    """The publisher's."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
async def running(dsn: str, tmp_path: Path) -> AsyncIterator[Running]:
    async with run_coalition(dsn, tmp_path / "blobs") as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def publisher(running: Running, tmp_path: Path, clock: Clock) -> Iterator[Publisher]:
    publisher = Publisher(
        running.pool,
        running.blobs,
        tmp_path / "replica.sqlite",
        lambda: [running.coalition.publisher],
        clock=clock,
    )
    yield publisher
    publisher.close()


async def read_history(running: Running) -> tuple[History, dict[int, bool]]:
    """Read the whole log as any client does; and which submissions count alone by it."""
    async with snapshot(running.pool) as connection:
        log = LogRepository(connection)
        leaves = await log.read_entries(0, (await log.read_head()).size)
    documents = {}
    for version, named in named_documents(leaves):
        documents[named.sha256] = (await running.registries.read(version)).document
    history = History(_trust(running))
    # In two parts, with what was written down between them.
    half = len(leaves) // 2
    found = history.extend(leaves[:half], documents)
    history = History.decode(history.trust, history.encode(), history.registry_document)
    found += history.extend(leaves[half:], documents)
    return history, {s.index: s.alone for s in found if isinstance(s.statement, Submission)}


def _trust(running: Running) -> Trust:
    coalition = running.coalition
    return Trust(
        ca="",
        coalition="Coalition",
        governance=Keys(keys=(coalition.governance.public.text,)),
        log=ORIGIN,
        log_key=str(coalition.log.verifier),
        publishers=Keys(keys=(coalition.publisher.public.text,)),
    )


def disputes(first: int, number: int) -> list[Record]:
    """Disputes of made-up hashes."""
    return [
        DisputeRecord({HashAlgorithm.MD5: n.to_bytes(16, "big")}, DisputeReason.OTHER)
        for n in range(first, first + number)
    ]


steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(MEMBERS[:2]), st.integers(1, 4)),
        st.tuples(st.sampled_from(MEMBERS[:2]), st.integers(1, 4)),
        st.integers(-3, 30),
        st.sampled_from(
            [None, DisputeBound(hours=24, records=5), DisputeBound(hours=2, records=3)]
        ),
    ),
    max_size=12,
)


@given(steps)
@with_database
@pytest.mark.timeout(300)
async def test_every_reader_settles_alike_which_disputes_count_alone(
    running: Running,
    publisher: Publisher,
    clock: Clock,
    steps: list[tuple[MemberId, int] | int | DisputeBound | None],
) -> None:
    """Whatever is disputed when, however the bound and the publisher's clock move."""
    bound = DisputeBound(hours=24, records=4)
    story = await start_story(running, f"set-{next(numbers)}", dispute_bound=bound)
    for step in steps:
        match step:
            case (member, number):
                await story.running.push(
                    member, disputes(100 * next(numbers), number), hash_set=story.hash_set
                )
            case int():
                # Backwards too: a publisher's clock may be wrong.
                clock.now = max(START, clock.now + timedelta(hours=step))
                await publisher.publish_once(story.hash_set)
            case _:
                await story.reform(dispute_bound=step or msgspec.UNSET)
    _, found = await read_history(running)
    rows = await running.pool.fetch(SELECT_ALONE)
    assert {row["log_index"]: row["alone"] for row in rows} == found


async def _start(running: Running, bound: DisputeBound) -> Story:
    story = await start_story(
        running, "bounded", views={"all": View(basis="any")}, dispute_bound=bound
    )
    await story.push(BETA, [assertion(n) for n in range(6)])
    return story


async def _listed(running: Running, publisher: Publisher, story: Story, replica: Path) -> int:
    row = await publisher.publish_once(story.hash_set)
    if row is not None:
        await story.verify(row, replica)
    (contents,) = (c for n, c in story.expected().items() if n.algorithm is HashAlgorithm.SHA256)
    return len(contents)


async def test_one_member_does_not_take_out_a_whole_lot(
    running: Running, publisher: Publisher, clock: Clock, tmp_path: Path
) -> None:
    """What is over the bound waits for a second member, or for a reviewer."""
    story = await _start(running, DisputeBound(hours=24, records=2))
    replica = tmp_path / "replica.sqlite"

    async def dispute(member: MemberId, *which: int, alone: bool) -> None:
        records: list[Record] = [
            DisputeRecord(assertion(n).hashes, DisputeReason.ADULT) for n in which
        ]
        result = await running.push(member, records, hash_set=story.hash_set)
        story.fold.apply(member, records, log_index=result.log_index, alone=alone)

    assert await _listed(running, publisher, story, replica) == 6
    await dispute(ACME, 0, 1, alone=True)
    assert await _listed(running, publisher, story, replica) == 4
    await dispute(ACME, 2, 3, 4, 5, alone=False)
    assert await _listed(running, publisher, story, replica) == 4
    await dispute(MEMBERS[2], 2, alone=True)
    assert await _listed(running, publisher, story, replica) == 3
    rulings: list[Record] = [RuleRecord(assertion(3).hashes, Decision.REMOVE, "seen")]
    await story.push(BETA, rulings)
    assert await _listed(running, publisher, story, replica) == 2
    # A day later it may do so again.
    clock.now += timedelta(hours=25)
    await story.push(BETA, [assertion(9)])
    assert await _listed(running, publisher, story, replica) == 3
    await dispute(ACME, 9, alone=True)
    assert await _listed(running, publisher, story, replica) == 2


async def test_only_reviewers_and_admins_rule(running: Running) -> None:
    """Neither a contributor, nor one who was a reviewer."""
    ruling: list[Record] = [RuleRecord(assertion(1).hashes, Decision.REMOVE, "seen")]
    await running.push(BETA, ruling)
    await running.push(ADMIN, ruling)
    registry = (await running.registries.current()).registry
    member = msgspec.structs.replace(registry.members[BETA], roles=(Role.CONTRIBUTOR,))
    await running.change_registry(registry.with_member(BETA, member))
    with pytest.raises(PermissionDeniedError, match="may not rule"):
        await running.push(BETA, ruling)
    await running.push(BETA, disputes(1, 1))


async def test_nothing_is_disregarded_before_it_is_said(running: Running) -> None:
    """Or a member could be silenced without anybody's noticing."""
    done = await running.push(BETA, [assertion(1)])
    registry = (await running.registries.current()).registry
    ahead = registry.with_disregarded(BETA, [Span(first=0, last=done.log_index + 1)])
    with pytest.raises(MalformedError, match="cannot be disregarded"):
        await running.change_registry(ahead)
    until = registry.with_disregarded(BETA, [Span(first=0, last=done.log_index)])
    await running.change_registry(until)
    history, _ = await read_history(running)
    assert history.registry == until


@pytest.mark.parametrize(
    "fields",
    [
        {"weights": {}},
        {"weights": {"nobody": 2}},
        {"excluded_sources": ()},
        {"excluded_sources": ("nobody",)},
        {"excluded_sources": ("beta", "acme")},
        {"excluded_classifications": ()},
        {"excluded_classifications": ("Z9",)},
    ],
)
async def test_a_view_that_says_nothing_or_names_nobody_is_refused(
    running: Running, fields: dict[str, Any]
) -> None:
    """Each meaning has one spelling."""
    registry = (await running.registries.current()).registry
    with pytest.raises(MalformedError):
        registry.with_view("csam", "all", View(**fields))

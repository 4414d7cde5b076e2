"""The SQL of views against ``domain.policy.attributes_in``."""

import dataclasses
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import asyncpg
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hashshare.domain.fold import Fold, Opinion
from hashshare.domain.hashes import HashAlgorithm, HashValue
from hashshare.domain.members import Member
from hashshare.domain.names import MemberId
from hashshare.domain.policy import (
    Basis,
    Decision,
    DisputeReason,
    Media,
    QuorumOf,
    View,
    attributes_in,
)
from hashshare.domain.records import AssertRecord, DisputeRecord, Record, RuleRecord
from hashshare.domain.registry import Keys, Registry
from hashshare.domain.spans import Span
from hashshare.storage import (
    cases,
    election,
    evaluation,
    evaluation_sql,
    notices,
    provenance,
    publications,
    snapshots,
)
from hashshare.storage.evaluation import EvaluationRepository
from tests.strategies import (
    CLASSIFICATIONS,
    JURISDICTIONS,
    MEMBERS,
    RECORD_IDS,
    disregarded,
    histories,
    views,
)
from tests.support.examples import with_database

REGISTRY = Registry(
    coalition="Test",
    log="test.example/log",
    version=1,
    governance=Keys(keys=()),
    publishers=Keys(keys=()),
    members={m: Member(name=m, jurisdiction=JURISDICTIONS[m]) for m in MEMBERS},
)

INSERT_MEMBERS = "INSERT INTO member (member_id) SELECT unnest($1::text[])"
INSERT_HASH_SET = "INSERT INTO hash_set (hash_set_id) VALUES ('s') RETURNING hash_set_no"
INSERT_HASH = "INSERT INTO hash VALUES ($1, $2, $3, $4)"
COUNT_HASHES = "UPDATE hash_set SET last_hash_id = $2 WHERE hash_set_no = $1"
INSERT_ASSERTION = """
    INSERT INTO assertion (hash_set_no, hash_id, member_no, sequence, record, classification,
                           media, basis, ended_in)
    SELECT $1, $2, member_no, $4, $5, $6, $7, $8, $9 FROM member WHERE member_id = $3
"""
INSERT_DISPUTE = """
    INSERT INTO dispute (hash_set_no, hash_id, member_no, sequence, reason, ended_in)
    SELECT $1, $2, member_no, $4, $5, $6 FROM member WHERE member_id = $3
"""
INSERT_SUBMISSION = """
    INSERT INTO submission (log_index, statement_id, member_no, hash_set_no, operation, sequence,
                            batch, records, hashes, new, known, unchanged, ended, accepted_at,
                            alone)
    SELECT $1, int8send($1), member_no, $2, 'assert', $1 + 1, sha256(''), 0, 0, 0, 0, 0, 0, now(),
           $4
      FROM member WHERE member_id = $3
"""
INSERT_RULING = """
    INSERT INTO ruling (hash_set_no, hash_id, member_no, sequence, decision, reason)
    SELECT $1, $2, member_no, $4, $5, $6 FROM member WHERE member_id = $3
"""
INSERT_TOUCHED = """
    INSERT INTO touched (hash_set_no, log_index, part, hash_ids) VALUES ($1, $2, 0, $3)
"""

History = list[tuple[MemberId, list[Record]]]


# All members meet on the same two hashes, and views take in most of what they say: so that
# opinions differ, latest ones replace earlier ones, and disputes do not always decide.
meeting = st.sampled_from(
    [{HashAlgorithm.PDQ: bytes([n]) * 32} for n in (1, 2)] + [{HashAlgorithm.MD5: b"\x01" * 16}]
)
asserted = st.builds(
    AssertRecord,
    record=st.sampled_from(RECORD_IDS),
    hashes=meeting,
    classification=st.sampled_from(CLASSIFICATIONS[:2]),
    media=st.sampled_from([None, Media.IMAGE, Media.VIDEO]),
    basis=st.sampled_from(Basis),
)
disputed = st.builds(DisputeRecord, hashes=meeting, reason=st.just(DisputeReason.OTHER))
ruled = st.builds(
    RuleRecord, hashes=meeting, decision=st.sampled_from(Decision), reason=st.just("seen")
)
dense_histories = st.lists(
    st.tuples(
        st.sampled_from(MEMBERS),
        st.one_of(
            st.lists(asserted, min_size=1, max_size=4, unique_by=lambda r: r.record),
            st.lists(asserted, min_size=1, max_size=4, unique_by=lambda r: r.record),
            st.lists(disputed, min_size=1, max_size=1),
            st.lists(disputed, min_size=1, max_size=1),
            st.lists(ruled, min_size=1, max_size=1),
        ),
    ),
    min_size=4,
    max_size=10,
)
wide_views = st.builds(
    View,
    quorum=st.integers(1, 2),
    quorum_of=st.sampled_from(QuorumOf),
    basis=st.just("any"),
    dispute_limit=st.integers(2, 3),
    show_members=st.booleans(),
    weights=st.just(msgspec.UNSET)
    | st.dictionaries(st.sampled_from(MEMBERS), st.integers(2, 3), min_size=1),
)

# One hash that a trusted reviewer reviewed and one that it relayed, with another's word.
TRUSTED = MEMBERS[0]
_BOTH = [{HashAlgorithm.PDQ: bytes([n]) * 32} for n in (1, 2)]
WEIGHED: History = [
    (
        TRUSTED,
        [
            AssertRecord("r1", _BOTH[0], "A1", None, Basis.REVIEWED),
            AssertRecord("r2", _BOTH[1], "A1", None, Basis.RELAYED),
        ],
    ),
    (MEMBERS[2], [AssertRecord("r1", _BOTH[1], "A2", None, Basis.REVIEWED)]),
]


# A dispute that is settled and one that is not; and of two rulings the later one holds.
_REVIEWED = [AssertRecord(f"r{n}", h, "A1", None, Basis.REVIEWED) for n, h in enumerate(_BOTH)]
SETTLED: History = [
    (MEMBERS[0], list(_REVIEWED)),
    (MEMBERS[1], [DisputeRecord(h, DisputeReason.OTHER) for h in _BOTH]),
    (MEMBERS[2], [RuleRecord(_BOTH[0], Decision.KEEP, "seen")]),
]
RULED: History = [
    (MEMBERS[0], list(_REVIEWED)),
    (MEMBERS[2], [RuleRecord(_BOTH[0], Decision.REMOVE, "seen")]),
    (MEMBERS[2], [RuleRecord(h, Decision.KEEP, "seen") for h in _BOTH]),
    (MEMBERS[2], [RuleRecord(_BOTH[1], Decision.REMOVE, "seen")]),
]


def _given(history: History, **fields: Any) -> dict[str, Any]:
    return {
        "history": history,
        "view": View(basis="any", **fields),
        "covered": 0,
        "log_size": len(history),
        "batch_size": 5,
        "alone": [True] * 10,
        "unheard": {},
    }


async def _store_opinion(
    connection: asyncpg.Connection, place: tuple[int, int, MemberId], opinion: Opinion
) -> None:
    if (held := opinion.dispute) is not None:
        row = (*place, held.log_index + 1, held.reason, None)
        await connection.execute(INSERT_DISPUTE, *row)
    for ruling in opinion.rulings:
        decided = (ruling.log_index + 1, ruling.decision, ruling.reason)
        await connection.execute(INSERT_RULING, *place, *decided)
    for a in opinion.assertions.values():
        said = (a.log_index + 1, a.record, a.classification, a.media, a.basis, None)
        await connection.execute(INSERT_ASSERTION, *place, *said)


async def store(
    connection: asyncpg.Connection,
    fold: Fold,
    touched: list[set[HashValue]],
    said: list[tuple[MemberId, bool]],
) -> tuple[int, dict[HashValue, int]]:
    """Write a fold's state into the tables, as submissions leave it."""
    # There is no log for them to stand in.
    await connection.execute("SET LOCAL session_replication_role = replica")
    await connection.execute(INSERT_MEMBERS, MEMBERS)
    hash_set_no = await connection.fetchval(INSERT_HASH_SET)
    for log_index, (member, alone) in enumerate(said):
        await connection.execute(INSERT_SUBMISSION, log_index, hash_set_no, member, alone)
    ids = {value: number for number, value in enumerate(fold.opinions, 1)}
    await connection.execute(COUNT_HASHES, hash_set_no, len(ids))
    for value, hash_id in ids.items():
        place = (hash_set_no, hash_id)
        await connection.execute(INSERT_HASH, *place, value.algorithm, value.value)
        for member, opinion in fold.opinions[value].items():
            await _store_opinion(connection, (*place, member), opinion)
        # What was said and taken back stays in the tables.
        ended = (100, "old", "B1", Media.AUDIO, Basis.REVIEWED, 101)
        await connection.execute(INSERT_ASSERTION, *place, MEMBERS[0], *ended)
        await connection.execute(INSERT_DISPUTE, *place, MEMBERS[0], 100, "other", 101)
    for log_index, values in enumerate(touched):
        if values:
            changed = sorted(ids[value] for value in values)
            await connection.execute(INSERT_TOUCHED, hash_set_no, log_index, changed)
    return hash_set_no, ids


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@given(
    history=st.one_of(histories, dense_histories),
    view=st.one_of(views, wide_views),
    covered=st.integers(0, 8),
    log_size=st.integers(0, 8),
    batch_size=st.integers(1, 5),
    alone=st.lists(st.booleans(), min_size=10, max_size=10),
    unheard=disregarded,
)
@example(**_given(WEIGHED, quorum=2, weights={TRUSTED: 2}))
@example(**_given(WEIGHED, quorum=3, weights={TRUSTED: 2}))
@example(**_given(WEIGHED, excluded_classifications=("A1",)))
@example(**_given(WEIGHED, excluded_sources=(TRUSTED,)))
@example(**_given(SETTLED, quorum=1))
@example(**_given(RULED, quorum=1))
@with_database
async def test_a_view_in_sql_equals_the_domain(
    connection: asyncpg.Connection,
    history: History,
    view: View,
    covered: int,
    log_size: int,
    batch_size: int,
    alone: list[bool],
    unheard: dict[MemberId, tuple[Span, ...]],
) -> None:
    """Of all hashes, and of those that some last submissions touched."""
    fold = Fold()
    touched = [
        fold.apply(m, records, log_index=i, alone=alone[i])
        for i, (m, records) in enumerate(history)
    ]
    said = [(member, alone[i]) for i, (member, _) in enumerate(history)]
    transaction = connection.transaction()
    await transaction.start()
    try:
        hash_set_no, _ = await store(connection, fold, touched, said)
        for start in (None, covered):
            chosen = fold.opinions if start is None else set().union(*touched[start:log_size])
            expected = {}
            for value in chosen:
                counted = fold.said(value, unheard)
                expected[value] = attributes_in(
                    view, counted.stances, JURISDICTIONS, counted.ruling
                )
            registry = _disregarding(unheard)
            found = await evaluate(
                connection, registry, hash_set_no, view, start, log_size, batch_size
            )
            assert found == expected
    finally:
        await transaction.rollback()


def _disregarding(unheard: dict[MemberId, tuple[Span, ...]]) -> Registry:
    members = {
        m: msgspec.structs.replace(member, disregarded=unheard.get(MemberId(m)) or msgspec.UNSET)
        for m, member in REGISTRY.members.items()
    }
    registry: Registry = msgspec.structs.replace(REGISTRY, members=members)
    return registry


async def evaluate(
    connection: asyncpg.Connection,
    registry: Registry,
    hash_set_no: int,
    view: View,
    covered: int | None,
    log_size: int,
    batch_size: int,
) -> dict[HashValue, bytes | None]:
    repository = EvaluationRepository(connection)
    dense = await repository.measure(hash_set_no, covered=covered, log_size=log_size)
    # As if they lay apart: they are then looked up one after the other.
    sparse = dataclasses.replace(dense, highest=dense.highest + 1000)
    ways = []
    for span in (dense, sparse):
        found: list[tuple[HashValue, bytes | None]] = []
        async for part in repository.evaluate(span, view, registry, batch_size=batch_size):
            assert 1 <= len(part.values) <= batch_size
            values = [HashValue(part.algorithm, value) for value in part.values]
            found += zip(values, part.attributes, strict=True)
        for (one, _), (other, _) in pairwise(found):
            assert _order(one) < _order(other)
        ways.append(found)
    assert ways[0] == ways[1]
    return dict(ways[0])


def _order(value: HashValue) -> tuple[HashAlgorithm, bytes]:
    return value.algorithm, value.algorithm.key(value.value)


MODULES = [
    cases,
    election,
    evaluation,
    evaluation_sql,
    notices,
    provenance,
    publications,
    snapshots,
]
STATEMENTS = {
    f"{module.__name__}.{name}": text
    for module in MODULES
    for name, text in vars(module).items()
    if name.isupper() and isinstance(text, str) and not name.startswith("_") and " " in text
}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_every_statement_is_valid(connection: asyncpg.Connection, name: str) -> None:
    """PostgreSQL parses it, and every table, column and type it names exists."""
    await connection.prepare(STATEMENTS[name])

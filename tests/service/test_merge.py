"""SQL against the fold: after any history both hold the same, row by row."""

from pathlib import Path

import asyncpg
from hypothesis import given

from hashshare.domain.fold import Fold
from hashshare.domain.hashes import HashAlgorithm, HashValue
from hashshare.domain.names import MemberId
from hashshare.domain.records import Record, WithdrawRecord
from hashshare.service.submit import SubmissionResult
from hashshare.storage.database import Connection
from tests.strategies import histories
from tests.support.coalition import run_coalition
from tests.support.examples import with_database

SELECT_ASSERTIONS = """
    SELECT algorithm, value, member_id, record, classification, media, basis, log_index
      FROM assertion
           JOIN hash USING (hash_set_no, hash_id)
           JOIN member USING (member_no)
           JOIN submission ON submission.member_no = assertion.member_no
                          AND submission.sequence = assertion.sequence
     WHERE ended_in IS NULL
"""
SELECT_DISPUTES = """
    SELECT algorithm, value, member_id, reason, log_index
      FROM dispute
           JOIN hash USING (hash_set_no, hash_id)
           JOIN member USING (member_no)
           JOIN submission ON submission.member_no = dispute.member_no
                          AND submission.sequence = dispute.sequence
     WHERE ended_in IS NULL
"""
SELECT_RULINGS = """
    SELECT algorithm, value, member_id, decision, reason, log_index
      FROM ruling
           JOIN hash USING (hash_set_no, hash_id)
           JOIN member USING (member_no)
           JOIN submission ON submission.member_no = ruling.member_no
                          AND submission.sequence = ruling.sequence
"""
SELECT_TOUCHED = """
    SELECT algorithm, value
      FROM touched CROSS JOIN LATERAL unnest(hash_ids) AS hash_id
           JOIN hash USING (hash_set_no, hash_id)
     WHERE log_index = $1
"""
SELECT_HASH_IDS = """
    SELECT hash_id, last_hash_id FROM hash JOIN hash_set USING (hash_set_no) ORDER BY hash_id
"""
SELECT_UNSORTED = """
    SELECT log_index FROM touched
     WHERE hash_ids <> (SELECT array_agg(DISTINCT id ORDER BY id) FROM unnest(hash_ids) AS id)
"""

EMPTY = """
    TRUNCATE leaf, log_node, member, hash_set, hash, assertion, dispute, ruling
        RESTART IDENTITY CASCADE;
    UPDATE log SET size = 0, frontier = '', root = sha256('');
"""

State = set[tuple[object, ...]]


async def empty(dsn: str) -> None:
    """Make the database as it was: one serves all examples."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(EMPTY)
    finally:
        await connection.close()


async def read_state(connection: Connection) -> State:
    """All that is in force in the database."""
    assertions = await connection.fetch(SELECT_ASSERTIONS)
    disputes = await connection.fetch(SELECT_DISPUTES)
    rulings = await connection.fetch(SELECT_RULINGS)
    return {tuple(row) for row in [*assertions, *disputes, *rulings]}


def state_of(fold: Fold) -> State:
    """All that is in force in the fold."""
    state: State = set()
    for value, opinions in fold.opinions.items():
        for member, opinion in opinions.items():
            key = (value.algorithm.value, value.value, member)
            for a in opinion.assertions.values():
                media = None if a.media is None else a.media.value
                content = (a.record, a.classification, media, a.basis.value, a.log_index)
                state.add((*key, *content))
            if opinion.dispute is not None:
                state.add((*key, opinion.dispute.reason.value, opinion.dispute.log_index))
            for r in opinion.rulings:
                state.add((*key, r.decision.value, r.reason, r.log_index))
    return state


def differing(before: State, after: State) -> set[HashValue]:
    """The hashes on which two states are not the same."""
    return {
        HashValue(HashAlgorithm(str(row[0])), bytes(row[1]))  # type: ignore[call-overload] # a row is not typed
        for row in before ^ after
    }


@given(history=histories)
@with_database
async def test_the_database_is_the_fold(
    dsn: str, tmp_path: Path, history: list[tuple[MemberId, list[Record]]]
) -> None:
    """After every submission: assertions, disputes, touched hashes, dense ids and counts."""
    await empty(dsn)
    async with run_coalition(dsn, tmp_path) as running, running.pool.acquire() as connection:
        fold: Fold = Fold()
        before: State = set()
        spoken: set[HashValue] = set()
        for member, records in history:
            added = named_by(records) - spoken if can_add(records) else set()
            spoken |= added
            result = await running.push(member, records)
            fold.apply(member, records, log_index=result.log_index)

            after = await read_state(connection)
            assert after == state_of(fold)
            touched = await connection.fetch(SELECT_TOUCHED, result.log_index)
            values = {HashValue(HashAlgorithm(algorithm), value) for algorithm, value in touched}
            assert values == differing(before, after)
            assert len(touched) == len(values)
            verify_counts(result, records, added, values)
            before = after
        assert await connection.fetch(SELECT_UNSORTED) == []
        ids = await connection.fetch(SELECT_HASH_IDS)
        assert [row["hash_id"] for row in ids] == list(range(1, len(ids) + 1))
        assert all(row["last_hash_id"] == len(ids) for row in ids)


def verify_counts(
    result: SubmissionResult, records: list[Record], added: set[HashValue], touched: set[HashValue]
) -> None:
    """What the member is told is what happened."""
    named = named_by(records)
    counts = result.counts
    assert (counts.records, counts.hashes) == (len(records), len(named))
    assert counts.new + counts.known + counts.unchanged == counts.hashes
    assert counts.unchanged == len(named - touched)
    assert counts.new == len(added)


def named_by(records: list[Record]) -> set[HashValue]:
    """The hashes that a batch names."""
    return {HashValue(a, v) for record in records for a, v in record.hashes.items()}


def can_add(records: list[Record]) -> bool:
    """Whether a batch may name hashes that were not there."""
    return not isinstance(records[0], WithdrawRecord)

"""Merges one batch into a hash set: what ``domain.fold`` does to one submission."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hashshare.domain.columns import BatchColumns, Numbers
from hashshare.domain.statements import Operation
from hashshare.storage.assertions import AssertionRepository, Author, Mentions
from hashshare.storage.hashes import DistinctHashes, HashRepository, to_distinct
from hashshare.storage.submissions import SubmissionCounts

if TYPE_CHECKING:
    from hashshare.storage.database import Connection


@dataclass(frozen=True, slots=True, eq=False)
class PreparedBatch:
    """A batch that was found acceptable, ready to be merged."""

    columns: BatchColumns
    hashes: DistinctHashes


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """What merging a batch came to.

    Attributes:
        counts: For its member.
        touched: The hashes whose stances changed, ascending.
    """

    counts: SubmissionCounts
    touched: Numbers


def prepare_batch(columns: BatchColumns) -> PreparedBatch:
    """Do what takes time and no database. Call it in a worker thread."""
    return PreparedBatch(columns, to_distinct(columns))


async def merge_batch(connection: "Connection", author: Author, batch: PreparedBatch) -> Merged:
    """Merge ``batch``, in a transaction that has locked the author's row.

    Locks the hash set's row if and only if there are hashes to add.
    """
    hashes = HashRepository(connection)
    await hashes.prepare()
    if batch.columns.operation is Operation.WITHDRAW:
        return await _withdraw(connection, author, batch)
    ids, horizon = await hashes.resolve(author.hash_set_no, batch.hashes)
    if batch.columns.operation is Operation.RULE:
        return await _rule(connection, author, batch, ids, horizon)
    known = ids > 0
    changed, ended = await _merge_known(connection, author, batch, ids)
    new = 0
    if not known.all():
        new = await hashes.add(author.hash_set_no, batch.hashes, ids, horizon=horizon)
        # Some may by now be another member's. But none is known to this one.
        await _say_new(AssertionRepository(connection, author), _mentions(batch, ids, ~known))
    unchanged = int(known.sum()) - len(changed)
    counts = SubmissionCounts(
        records=batch.columns.count,
        hashes=len(ids),
        new=new,
        known=len(ids) - new - unchanged,
        unchanged=unchanged,
        ended=ended,
    )
    # No hash is in both: what was changed was known.
    return Merged(counts, np.sort(np.concatenate([changed, ids[~known]])))


async def _rule(
    connection: "Connection", author: Author, batch: PreparedBatch, ids: Numbers, horizon: int
) -> Merged:
    new = 0
    if not (ids > 0).all():
        hashes = HashRepository(connection)
        new = await hashes.add(author.hash_set_no, batch.hashes, ids, horizon=horizon)
    await AssertionRepository(connection, author).rule(_mentions(batch, ids, ids > 0))
    counts = SubmissionCounts(
        records=batch.columns.count,
        hashes=len(ids),
        new=new,
        known=len(ids) - new,
        unchanged=0,
        ended=0,
    )
    return Merged(counts, np.sort(ids))


async def _merge_known(
    connection: "Connection", author: Author, batch: PreparedBatch, ids: Numbers
) -> tuple[Numbers, int]:
    mentions = _mentions(batch, ids, ids > 0)
    repository = AssertionRepository(connection, author)
    if len(mentions.ids) and not await repository.may_have_spoken(mentions.ids):
        await _say_new(repository, mentions)
        return np.sort(ids[ids > 0]), 0
    if batch.columns.operation is Operation.ASSERT:
        return await repository.assert_known(mentions)
    return await repository.dispute_known(mentions)


async def _say_new(repository: AssertionRepository, mentions: Mentions) -> None:
    if mentions.batch.operation is Operation.ASSERT:
        await repository.assert_new(mentions)
    else:
        await repository.dispute_new(mentions)


async def _withdraw(connection: "Connection", author: Author, batch: PreparedBatch) -> Merged:
    ids, _ = await HashRepository(connection).resolve(author.hash_set_no, batch.hashes)
    named = ids[ids > 0]
    texts = batch.columns.ids
    records = [texts[n] for n in np.flatnonzero(texts.lengths).tolist()]
    touched, ended = await AssertionRepository(connection, author).withdraw(named, records)
    changed = int(np.isin(named, touched).sum())
    counts = SubmissionCounts(
        records=batch.columns.count,
        hashes=len(ids),
        new=0,
        known=changed,
        unchanged=len(ids) - changed,
        ended=ended,
    )
    return Merged(counts, touched)


def _mentions(
    batch: PreparedBatch, ids: Numbers, which: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> Mentions:
    """Return the mentions of the hashes at the positions in ``which``."""
    hashes = batch.hashes
    if which.all():
        return Mentions(batch.columns, ids[hashes.positions], hashes.records)
    chosen = which[hashes.positions]
    return Mentions(batch.columns, ids[hashes.positions[chosen]], hashes.records[chosen])

"""Assertions and disputes: what the members have in force, changed as ``domain.fold`` says.

Every row belongs to one member, and is changed only in a transaction that has locked that
member's row. So all that is known about a hash before the submission can be settled without
a lock on the hash set, in parallel with other members.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from hashshare.domain.columns import BatchColumns, Numbers
from hashshare.storage.copying import (
    Chosen,
    Constant,
    Field,
    Varied,
    constant_int4,
    constant_int8,
    encode_rows,
    to_int4,
)

if TYPE_CHECKING:
    from hashshare.storage.database import Connection

HAS_SPOKEN: Final = """
    -- $1 hash_set_no, $2 member_no
    SELECT EXISTS (SELECT FROM submission WHERE hash_set_no = $1 AND member_no = $2)
"""

# Goes along the index from one id to the other: a million hashes in a tenth of a second.
HAS_SPOKEN_BETWEEN: Final = """
    -- $1 hash_set_no, $2 member_no, $3 lowest hash id, $4 highest
    SELECT EXISTS (SELECT FROM assertion
                    WHERE hash_set_no = $1 AND hash_id BETWEEN $3 AND $4 AND member_no = $2
                      AND ended_in IS NULL)
        OR EXISTS (SELECT FROM dispute
                    WHERE hash_set_no = $1 AND hash_id BETWEEN $3 AND $4 AND member_no = $2
                      AND ended_in IS NULL)
"""

_SCATTERED: Final = 8

# In all statements below: $1 hash_set_no, $2 member_no. Statistics lag behind a bulk import by
# minutes, and with wrong ones a join may take hours. So none of them leaves a choice: what is
# staged or named is gone through, and OFFSET 0 keeps the look-up of each from being reordered.

COMPARE_ASSERTIONS: Final = """
    -- For each staged assertion that has one in force of the same key: its position, and
    -- whether that says the same.
    SELECT string_agg(int4send(position) || int4send(same::integer), ''::bytea)
      FROM staged_assertion AS staged CROSS JOIN LATERAL (
           SELECT (classification, media, basis)
                  IS NOT DISTINCT FROM (staged.classification, staged.media, staged.basis) AS same
             FROM assertion
            WHERE hash_set_no = $1 AND hash_id = staged.hash_id AND member_no = $2
              AND record = staged.record AND ended_in IS NULL
           OFFSET 0) AS present
"""

COMPARE_DISPUTES: Final = """
    -- $3 hash ids, $4 the reason for each; the same for disputes
    SELECT string_agg(int4send(position::integer) || int4send(same::integer), ''::bytea)
      FROM unnest($3::integer[], $4::text[]) WITH ORDINALITY AS named (hash_id, reason, position)
           CROSS JOIN LATERAL (
           SELECT reason = named.reason AS same
             FROM dispute
            WHERE hash_set_no = $1 AND hash_id = named.hash_id AND member_no = $2
              AND ended_in IS NULL
           OFFSET 0) AS present
"""

# The next four return the id of the hash of each row that they ended, packed.

END_ASSERTIONS: Final = """
    -- $3 sequence, $4 hash ids, $5 the record id of each
    WITH ended AS (
        UPDATE assertion SET ended_in = $3
         WHERE ctid = ANY (ARRAY(
               SELECT place
                 FROM unnest($4::integer[], $5::text[]) AS named (hash_id, record)
                      CROSS JOIN LATERAL (
                      SELECT ctid AS place
                        FROM assertion
                       WHERE hash_set_no = $1 AND hash_id = named.hash_id AND member_no = $2
                         AND record = named.record AND ended_in IS NULL
                      OFFSET 0) AS present))
        RETURNING hash_id
    )
    SELECT string_agg(int4send(hash_id), ''::bytea) FROM ended
"""

END_ASSERTIONS_OF_HASHES: Final = """
    -- $3 sequence, $4 hash ids
    WITH ended AS (
        UPDATE assertion SET ended_in = $3
         WHERE ctid = ANY (ARRAY(
               SELECT place
                 FROM unnest($4::integer[]) AS named (hash_id) CROSS JOIN LATERAL (
                      SELECT ctid AS place
                        FROM assertion
                       WHERE hash_set_no = $1 AND hash_id = named.hash_id AND member_no = $2
                         AND ended_in IS NULL
                      OFFSET 0) AS present))
        RETURNING hash_id
    )
    SELECT string_agg(int4send(hash_id), ''::bytea) FROM ended
"""

END_ASSERTIONS_OF_RECORDS: Final = """
    -- $3 sequence, $4 record ids
    WITH ended AS (
        UPDATE assertion SET ended_in = $3
         WHERE ctid = ANY (ARRAY(
               SELECT place
                 FROM unnest($4::text[]) AS named (record) CROSS JOIN LATERAL (
                      SELECT ctid AS place
                        FROM assertion
                       WHERE hash_set_no = $1 AND member_no = $2 AND record = named.record
                         AND record <> '' AND ended_in IS NULL
                      OFFSET 0) AS present))
        RETURNING hash_id
    )
    SELECT string_agg(int4send(hash_id), ''::bytea) FROM ended
"""

END_DISPUTES: Final = """
    -- $3 sequence, $4 hash ids
    WITH ended AS (
        UPDATE dispute SET ended_in = $3
         WHERE ctid = ANY (ARRAY(
               SELECT place
                 FROM unnest($4::integer[]) AS named (hash_id) CROSS JOIN LATERAL (
                      SELECT ctid AS place
                        FROM dispute
                       WHERE hash_set_no = $1 AND hash_id = named.hash_id AND member_no = $2
                         AND ended_in IS NULL
                      OFFSET 0) AS present))
        RETURNING hash_id
    )
    SELECT string_agg(int4send(hash_id), ''::bytea) FROM ended
"""


@dataclass(frozen=True, slots=True)
class Author:
    """Who says something of a hash set, and in which of its submissions."""

    hash_set_no: int
    member_no: int
    sequence: int


@dataclass(frozen=True, slots=True, eq=False)
class Mentions:
    """Hashes that have an id, as records of a batch name them.

    Attributes:
        batch: Has the records.
        ids: For each mention the hash.
        records: For each mention the number of the record.
    """

    batch: BatchColumns
    ids: Numbers
    records: Numbers

    def by_id(self) -> "Mentions":
        """Return the same in the order of ids, which is that of the indexes."""
        if (self.ids[1:] >= self.ids[:-1]).all():
            return self
        return self.take(np.argsort(self.ids, kind="stable"))

    def take(self, which: NDArray[np.bool_] | NDArray[np.integer]) -> "Mentions":
        """Return some of them, chosen as numpy does."""
        return Mentions(self.batch, self.ids[which], self.records[which])


@dataclass(frozen=True, slots=True)
class AssertionRepository:
    """Changes what one member has in force, on one connection, always in a transaction."""

    connection: "Connection"
    author: Author

    async def may_have_spoken(self, ids: Numbers) -> bool:
        """Return False only if the member has nothing in force on any of these hashes."""
        key = (self.author.hash_set_no, self.author.member_no)
        spoken: bool = await self.connection.fetchval(HAS_SPOKEN, *key)
        lowest, highest = int(ids.min()), int(ids.max())
        # A batch of another member has ids close together. Scattered ones are looked up singly.
        if spoken and highest - lowest < _SCATTERED * len(ids):
            spoken = await self.connection.fetchval(HAS_SPOKEN_BETWEEN, *key, lowest, highest)
        return spoken

    async def assert_known(self, mentions: Mentions) -> tuple[Numbers, int]:
        """Assert hashes of which the member may have said something before.

        Returns:
            The hashes whose stance may have changed, each once, and how many of the
            member's own disputes ended.
        """
        if not len(mentions.ids):
            return mentions.ids, 0
        mentions = mentions.by_id()
        fields = [to_int4(np.arange(len(mentions.ids))), to_int4(mentions.ids)]
        await self.connection.copy_to_table(
            "staged_assertion",
            source=encode_rows([*fields, *_contents(mentions)], len(mentions.ids)),
            format="binary",
        )
        packed = await self._fetch(COMPARE_ASSERTIONS)
        present, same = packed[0::2], packed[1::2] > 0
        replaced = mentions.take(present[~same])
        texts = mentions.batch.ids
        await self._end(
            END_ASSERTIONS, replaced.ids.tolist(), [texts[n] for n in replaced.records.tolist()]
        )
        said = np.ones(len(mentions.ids), dtype=np.bool_)
        said[present[same]] = False
        await self.assert_new(mentions.take(said))
        disputed = await self._end(END_DISPUTES, np.unique(mentions.ids).tolist())
        return np.union1d(mentions.ids[said], disputed), len(disputed)

    async def assert_new(self, mentions: Mentions) -> None:
        """Assert what the member has not in force."""
        if not len(mentions.ids):
            return
        mentions = mentions.by_id()
        await self.connection.copy_to_table(
            "assertion",
            source=encode_rows(
                [*self._keys(mentions), *_contents(mentions)], len(mentions.ids)
            ),
            columns=["hash_set_no", "hash_id", "member_no", "sequence",
                     "record", "classification", "media", "basis"],
            format="binary",
        )  # fmt: skip

    async def withdraw(self, ids: Numbers, records: list[str]) -> tuple[Numbers, int]:
        """End all that the member has on these hashes, and these records of its.

        Returns:
            The hashes whose stance changed, each once, and how many assertions and disputes
            ended.
        """
        named = np.sort(ids).tolist()
        parts = [
            await self._end(END_ASSERTIONS_OF_HASHES, named),
            await self._end(END_DISPUTES, named),
            await self._end(END_ASSERTIONS_OF_RECORDS, sorted(records)),
        ]
        changed = np.concatenate(parts)
        return np.unique(changed), len(changed)

    async def dispute_known(self, mentions: Mentions) -> tuple[Numbers, int]:
        """Dispute hashes of which the member may have said something before.

        Returns:
            The hashes whose stance changed, each once, and how many assertions ended.
        """
        if not len(mentions.ids):
            return mentions.ids, 0
        mentions = mentions.by_id()
        ids, kinds = mentions.ids.tolist(), mentions.batch.kinds
        reasons = [kinds[kind][0] for kind in mentions.batch.kind[mentions.records].tolist()]
        ended = await self._end(END_ASSERTIONS_OF_HASHES, ids)
        packed = await self._fetch(COMPARE_DISPUTES, ids, reasons)
        # Ordinality counts from 1.
        present, same = packed[0::2] - 1, packed[1::2] > 0
        await self._end(END_DISPUTES, mentions.ids[present[~same]].tolist())
        said = np.ones(len(ids), dtype=np.bool_)
        said[present[same]] = False
        await self.dispute_new(mentions.take(said))
        return np.union1d(ended, mentions.ids[said]), len(ended)

    async def dispute_new(self, mentions: Mentions) -> None:
        """Dispute what the member has no dispute on in force."""
        if not len(mentions.ids):
            return
        mentions = mentions.by_id()
        await self.connection.copy_to_table(
            "dispute",
            source=encode_rows([*self._keys(mentions), _content(mentions, 0)], len(mentions.ids)),
            columns=["hash_set_no", "hash_id", "member_no", "sequence", "reason"],
            format="binary",
        )

    async def rule(self, mentions: Mentions) -> None:
        """Decide about hashes; what was decided before stays written."""
        if not len(mentions.ids):
            return
        mentions = mentions.by_id()
        await self.connection.copy_to_table(
            "ruling",
            source=encode_rows(
                [*self._keys(mentions), _content(mentions, 0), _content(mentions, 1)],
                len(mentions.ids),
            ),
            columns=["hash_set_no", "hash_id", "member_no", "sequence", "decision", "reason"],
            format="binary",
        )

    async def _end(self, statement: str, named: "Sequence[object]", *more: object) -> Numbers:
        if not named:
            return np.zeros(0, dtype=np.int32)
        return await self._fetch(statement, self.author.sequence, named, *more)

    async def _fetch(self, statement: str, *arguments: object) -> Numbers:
        packed: bytes | None = await self.connection.fetchval(
            statement, self.author.hash_set_no, self.author.member_no, *arguments
        )
        return np.frombuffer(packed or b"", dtype=">i4").astype(np.int32)

    def _keys(self, mentions: Mentions) -> "Sequence[Field]":
        return (
            constant_int4(self.author.hash_set_no),
            to_int4(mentions.ids),
            constant_int4(self.author.member_no),
            constant_int8(self.author.sequence),
        )


def _contents(mentions: Mentions) -> Sequence[Field]:
    """Return record, classification, media and basis of each mention."""
    record = Varied(mentions.batch.ids, mentions.records)
    return (record, *(_content(mentions, part) for part in range(3)))


def _content(mentions: Mentions, part: int) -> Field:
    options = [
        None if kind[part] is None else str(kind[part]).encode() for kind in mentions.batch.kinds
    ]
    if len(set(options)) == 1:
        return Constant(options[0])
    return Chosen(options, mentions.batch.kind[mentions.records])

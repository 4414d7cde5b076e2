"""Assertions and disputes: what the members have in force, changed as ``domain.fold`` says.

Every row belongs to one member, and is changed only in a transaction that has locked that
member's row. So all that is known about a hash before the submission can be settled without
a lock on the hash set, in parallel with other members.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

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

# In all statements: $1 hash_set_no, $2 member_no, $3 sequence of the submission. Each returns
# the ids of the hashes that it changed, packed, once for each row that it changed.

END_REPLACED_ASSERTIONS: Final = """
    WITH changed AS (
        UPDATE assertion SET ended_in = $3
          FROM staged_assertion AS staged
         WHERE assertion.hash_set_no = $1 AND assertion.member_no = $2
           AND assertion.hash_id = staged.hash_id AND assertion.record = staged.record
           AND assertion.ended_in IS NULL
           AND (assertion.classification, assertion.media, assertion.basis)
               IS DISTINCT FROM (staged.classification, staged.media, staged.basis)
        RETURNING assertion.hash_id
    )
    SELECT string_agg(int4send(hash_id), ''::bytea) FROM changed
"""

# After the replaced ones have ended, whatever is still in force says the same.
INSERT_ASSERTIONS: Final = """
    WITH changed AS (
        INSERT INTO assertion (hash_set_no, hash_id, member_no, sequence,
                               record, classification, media, basis)
        SELECT $1::integer, hash_id, $2::integer, $3::bigint,
               record, classification, media, basis
          FROM staged_assertion AS staged
         WHERE NOT EXISTS (
               SELECT FROM assertion
                WHERE assertion.hash_set_no = $1 AND assertion.member_no = $2
                  AND assertion.hash_id = staged.hash_id AND assertion.record = staged.record
                  AND assertion.ended_in IS NULL)
        RETURNING hash_id
    )
    SELECT string_agg(int4send(hash_id), ''::bytea) FROM changed
"""

END_ASSERTIONS_OF_HASHES: Final = """
    -- $4 hash ids
    WITH changed AS (
        UPDATE assertion SET ended_in = $3
          FROM unnest($4::integer[]) AS named (hash_id)
         WHERE assertion.hash_set_no = $1 AND assertion.member_no = $2
           AND assertion.hash_id = named.hash_id AND assertion.ended_in IS NULL
        RETURNING assertion.hash_id
    )
    SELECT string_agg(int4send(hash_id), ''::bytea) FROM changed
"""

END_ASSERTIONS_OF_RECORDS: Final = """
    -- $4 record ids
    WITH changed AS (
        UPDATE assertion SET ended_in = $3
          FROM unnest($4::text[]) AS named (record)
         WHERE assertion.hash_set_no = $1 AND assertion.member_no = $2
           AND assertion.record = named.record AND assertion.record <> ''
           AND assertion.ended_in IS NULL
        RETURNING assertion.hash_id
    )
    SELECT string_agg(int4send(hash_id), ''::bytea) FROM changed
"""

END_DISPUTES: Final = """
    -- $4 hash ids
    WITH changed AS (
        UPDATE dispute SET ended_in = $3
          FROM unnest($4::integer[]) AS named (hash_id)
         WHERE dispute.hash_set_no = $1 AND dispute.member_no = $2
           AND dispute.hash_id = named.hash_id AND dispute.ended_in IS NULL
        RETURNING dispute.hash_id
    )
    SELECT string_agg(int4send(hash_id), ''::bytea) FROM changed
"""

END_REPLACED_DISPUTES: Final = """
    -- $4 hash ids, $5 the reason for each
    WITH changed AS (
        UPDATE dispute SET ended_in = $3
          FROM unnest($4::integer[], $5::text[]) AS named (hash_id, reason)
         WHERE dispute.hash_set_no = $1 AND dispute.member_no = $2
           AND dispute.hash_id = named.hash_id AND dispute.ended_in IS NULL
           AND dispute.reason <> named.reason
        RETURNING dispute.hash_id
    )
    SELECT string_agg(int4send(hash_id), ''::bytea) FROM changed
"""

INSERT_DISPUTES: Final = """
    -- $4 hash ids, $5 the reason for each
    WITH changed AS (
        INSERT INTO dispute (hash_set_no, hash_id, member_no, sequence, reason)
        SELECT $1::integer, hash_id, $2::integer, $3::bigint, reason
          FROM unnest($4::integer[], $5::text[]) AS named (hash_id, reason)
         WHERE NOT EXISTS (
               SELECT FROM dispute
                WHERE dispute.hash_set_no = $1 AND dispute.member_no = $2
                  AND dispute.hash_id = named.hash_id AND dispute.ended_in IS NULL)
        RETURNING hash_id
    )
    SELECT string_agg(int4send(hash_id), ''::bytea) FROM changed
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
        order = np.argsort(self.ids, kind="stable")
        return Mentions(self.batch, self.ids[order], self.records[order])


@dataclass(frozen=True, slots=True)
class AssertionRepository:
    """Changes what one member has in force, on one connection, always in a transaction."""

    connection: "Connection"
    author: Author

    async def assert_known(self, mentions: Mentions) -> tuple[Numbers, int]:
        """Assert hashes of which the member may have said something before.

        Returns:
            The hashes whose stance may have changed, each once, and how many of the
            member's own disputes ended.
        """
        if not len(mentions.ids):
            return mentions.ids, 0
        ordered = mentions.by_id()
        fields = [to_int4(ordered.ids), *_contents(ordered)]
        await self.connection.copy_to_table(
            "staged_assertion", source=encode_rows(fields, len(ordered.ids)), format="binary"
        )
        await self._change(END_REPLACED_ASSERTIONS)
        added = await self._change(INSERT_ASSERTIONS)
        disputed = await self._change(END_DISPUTES, np.unique(ordered.ids).tolist())
        return np.union1d(added, disputed), len(disputed)

    async def assert_new(self, mentions: Mentions) -> None:
        """Assert hashes of which the member has never said anything."""
        if not len(mentions.ids):
            return
        ordered = mentions.by_id()
        fields = [*self._keys(ordered), *_contents(ordered)]
        await self.connection.copy_to_table(
            "assertion",
            source=encode_rows(fields, len(ordered.ids)),
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
        named = ids.tolist()
        parts = [
            await self._change(END_ASSERTIONS_OF_HASHES, named),
            await self._change(END_DISPUTES, named),
            await self._change(END_ASSERTIONS_OF_RECORDS, records),
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
        ids = mentions.ids.tolist()
        kinds = mentions.batch.kinds
        reasons = [kinds[kind][0] for kind in mentions.batch.kind[mentions.records].tolist()]
        ended = await self._change(END_ASSERTIONS_OF_HASHES, ids)
        await self._change(END_REPLACED_DISPUTES, ids, reasons)
        added = await self._change(INSERT_DISPUTES, ids, reasons)
        return np.union1d(ended, added), len(ended)

    async def dispute_new(self, mentions: Mentions) -> None:
        """Dispute hashes of which the member has never said anything."""
        if not len(mentions.ids):
            return
        ordered = mentions.by_id()
        fields = [*self._keys(ordered), _content(ordered, 0)]
        await self.connection.copy_to_table(
            "dispute",
            source=encode_rows(fields, len(ordered.ids)),
            columns=["hash_set_no", "hash_id", "member_no", "sequence", "reason"],
            format="binary",
        )

    async def _change(self, statement: str, *named: list[int] | list[str]) -> Numbers:
        if named and not named[0]:
            return np.zeros(0, dtype=np.int32)
        author = self.author
        packed: bytes | None = await self.connection.fetchval(
            statement, author.hash_set_no, author.member_no, author.sequence, *named
        )
        return np.frombuffer(packed or b"", dtype=">i4").astype(np.int32)

    def _keys(self, mentions: Mentions) -> Sequence[Field]:
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

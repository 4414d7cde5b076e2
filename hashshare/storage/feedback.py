"""What members report that hashes did for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from hashshare.domain.feedback import MIN_REPORTERS, Counts, Month, Reported
from hashshare.domain.hashes import HashValue
from hashshare.domain.names import HashSetId, MemberId
from hashshare.storage.database import Connection, Record

# In order of ids, so that two reports at once wait for each other and do not block each other.
REPLACE_FEEDBACK: Final = """
    -- $1 hash_set_id, $2 member_id, $3 month, $4 named, $5 algorithms, $6 values, $7 matched,
    -- $8 false_positive, $9 not_matched
    WITH told AS (
        SELECT hash_set_no, hash_id, member_no, matched, false_positive, not_matched,
               matched + false_positive + not_matched = 0 AS nothing
          FROM unnest($5::text[], $6::bytea[], $7::bigint[], $8::bigint[], $9::bigint[])
               AS report (algorithm, value, matched, false_positive, not_matched)
               JOIN hash_set ON hash_set_id = $1
               JOIN member ON member_id = $2
               -- OFFSET 0: as in hashes.py, each by the index.
               CROSS JOIN LATERAL (
                   SELECT hash_id
                     FROM hash
                    WHERE hash.hash_set_no = hash_set.hash_set_no AND hash.value = report.value
                      AND hash.algorithm = report.algorithm
                   OFFSET 0
               ) AS known
    ),
    gone AS (
        DELETE FROM feedback USING told
         WHERE feedback.hash_set_no = told.hash_set_no AND feedback.hash_id = told.hash_id
           AND feedback.member_no = told.member_no AND month = $3 AND nothing
    ),
    kept AS (
        INSERT INTO feedback (hash_set_no, hash_id, month, member_no, named, matched,
                              false_positive, not_matched)
        SELECT hash_set_no, hash_id, $3, member_no, $4, matched, false_positive, not_matched
          FROM told WHERE NOT nothing ORDER BY hash_id
        ON CONFLICT (hash_set_no, hash_id, month, member_no)
        DO UPDATE SET named = excluded.named, matched = excluded.matched,
                      false_positive = excluded.false_positive, not_matched = excluded.not_matched
    )
    SELECT count(*) FROM told
"""

REPLACE_TOTAL: Final = """
    -- $1 hash_set_id, $2 member_id, $3 month, $4 named, $5 matched, $6 false_positive,
    -- $7 not_matched
    INSERT INTO feedback_total (hash_set_no, month, member_no, named, matched, false_positive,
                                not_matched)
    SELECT hash_set_no, $3, member_no, $4, $5, $6, $7
      FROM hash_set CROSS JOIN member
     WHERE hash_set_id = $1 AND member_id = $2
    ON CONFLICT (hash_set_no, month, member_no)
    DO UPDATE SET named = excluded.named, matched = excluded.matched,
                  false_positive = excluded.false_positive, not_matched = excluded.not_matched
"""

DELETE_TOTAL: Final = """
    -- $1 hash_set_id, $2 member_id, $3 month
    DELETE FROM feedback_total USING hash_set, member
     WHERE feedback_total.hash_set_no = hash_set.hash_set_no AND hash_set_id = $1
       AND feedback_total.member_no = member.member_no AND member_id = $2 AND month = $3
"""

SELECT_OF_HASH: Final = """
    -- $1 hash_set_id, $2 algorithm, $3 value
    SELECT member_id, month, named, matched, false_positive, not_matched
      FROM hash_set JOIN hash USING (hash_set_no)
           JOIN feedback USING (hash_set_no, hash_id)
           JOIN member USING (member_no)
     WHERE hash_set_id = $1 AND algorithm = $2 AND value = $3
"""

SELECT_TOTALS: Final = """
    -- $1 first month, $2 before this day
    SELECT hash_set_id, member_id, month, named, matched, false_positive, not_matched
      FROM feedback_total JOIN hash_set USING (hash_set_no) JOIN member USING (member_no)
     WHERE month >= $1 AND month < $2
     ORDER BY hash_set_id, month, member_id
"""

# The rule of domain.feedback, by the hash and month.
SUM_OF_HASHES: Final = """
    -- $1 first month, $2 before this day, $3 least members, $4 today
    WITH thing AS (
        SELECT hash_set_no, hash_id, month, count(*) FILTER (WHERE NOT named) AS unnamed
          FROM feedback
         WHERE month >= $1 AND month < $2
         GROUP BY hash_set_no, hash_id, month
    )
    SELECT hash_set_id, month, CASE WHEN named THEN member_id END AS member_id,
           count(DISTINCT member_no) AS members, count(DISTINCT hash_id) AS hashes,
           sum(matched) AS matched, sum(false_positive) AS false_positive,
           sum(not_matched) AS not_matched
      FROM thing JOIN feedback USING (hash_set_no, hash_id, month)
           JOIN hash_set USING (hash_set_no) JOIN member USING (member_no)
     WHERE named OR (unnamed >= $3 AND month < date_trunc('month', $4::date::timestamp)::date)
     GROUP BY 1, 2, 3
     ORDER BY 1, 2, 3 NULLS LAST
"""


@dataclass(frozen=True, slots=True)
class SumRow:
    """A sum over hashes of a hash set in a month.

    Attributes:
        member: Who, if it lets its name be shown; None for the others together.
        members: How many.
        hashes: How many distinct ones.
    """

    hash_set: HashSetId
    month: Month
    member: MemberId | None
    members: int
    hashes: int
    counts: Counts


@dataclass(frozen=True, slots=True)
class FeedbackRepository:
    """Reads and replaces feedback, on one connection."""

    connection: Connection

    async def replace(
        self,
        hash_set: HashSetId,
        member: MemberId,
        month: Month,
        counts: Sequence[tuple[HashValue, Counts]],
        *,
        named: bool,
    ) -> int:
        """Keep what a member reports of hashes, and return how many the hash set knows.

        Args:
            hash_set: Hashes that it does not know are left out.
            member: What it reported of these hashes in this month before is replaced.
            month: Of the report.
            counts: Of distinct hashes.
            named: Whether the member lets its name be shown.
        """
        known: int = await self.connection.fetchval(
            REPLACE_FEEDBACK,
            hash_set,
            member,
            month.begin,
            named,
            [value.algorithm.value for value, _ in counts],
            [value.value for value, _ in counts],
            [of_hash.matched for _, of_hash in counts],
            [of_hash.false_positive for _, of_hash in counts],
            [of_hash.not_matched for _, of_hash in counts],
        )
        return known

    async def replace_total(
        self, hash_set: HashSetId, member: MemberId, month: Month, total: Counts, *, named: bool
    ) -> None:
        """Keep what a member reports of a whole hash set in a month."""
        if total == Counts():
            await self.connection.execute(DELETE_TOTAL, hash_set, member, month.begin)
            return
        await self.connection.execute(
            REPLACE_TOTAL,
            hash_set,
            member,
            month.begin,
            named,
            total.matched,
            total.false_positive,
            total.not_matched,
        )

    async def read_of_hash(self, hash_set: HashSetId, value: HashValue) -> list[Reported]:
        """Return all that members ever reported of a hash; not for others' eyes as it is."""
        rows = await self.connection.fetch(
            SELECT_OF_HASH, hash_set, value.algorithm.value, value.value
        )
        return [_to_reported(row) for row in rows]

    async def read_totals(self, first: date, before: date) -> list[tuple[HashSetId, Reported]]:
        """Return what members reported of whole hash sets; not for others' eyes as it is.

        Args:
            first: Of months that begin on this day or later,
            before: and before this one.
        """
        rows = await self.connection.fetch(SELECT_TOTALS, first, before)
        return [(HashSetId(row["hash_set_id"]), _to_reported(row)) for row in rows]

    async def sum_of_hashes(self, first: date, before: date, *, today: date) -> list[SumRow]:
        """Return the sums over hashes that others may be shown."""
        rows = await self.connection.fetch(SUM_OF_HASHES, first, before, MIN_REPORTERS, today)
        return [
            SumRow(
                hash_set=HashSetId(row["hash_set_id"]),
                month=Month(row["month"]),
                member=MemberId(row["member_id"]) if row["member_id"] is not None else None,
                members=row["members"],
                hashes=row["hashes"],
                counts=_to_counts(row),
            )
            for row in rows
        ]


def _to_reported(row: Record) -> Reported:
    return Reported(MemberId(row["member_id"]), Month(row["month"]), row["named"], _to_counts(row))


def _to_counts(row: Record) -> Counts:
    # A sum is numeric: it may be more than a bigint holds.
    return Counts(int(row["matched"]), int(row["false_positive"]), int(row["not_matched"]))

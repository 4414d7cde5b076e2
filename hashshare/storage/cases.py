"""Cases: submissions with disputes that are in force and that no ruling has settled."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hashshare.domain.hashes import HashAlgorithm, HashValue
from hashshare.domain.names import HashSetId, MemberId
from hashshare.storage.database import Connection

# Of each: $1 member_id of the one who asks, $2 hash sets that it may read, $3 those in which it
# may see every case. In the others it sees what it disputes, or asserts.
_OPEN: Final = """
    WITH asking AS (
        SELECT member_no AS asking_no FROM member WHERE member_id = $1
    ),
    concerning AS (
        SELECT dispute.hash_set_no, dispute.hash_id, dispute.member_no, dispute.reason,
               submission.log_index, hash_set_id,
               EXISTS (SELECT FROM assertion
                        WHERE assertion.hash_set_no = dispute.hash_set_no
                          AND assertion.hash_id = dispute.hash_id
                          AND assertion.member_no = asking_no AND ended_in IS NULL) AS mine,
               dispute.member_no = asking_no OR hash_set_id = ANY ($3::text[]) AS shown
          FROM dispute
               JOIN submission USING (hash_set_no, member_no, sequence)
               JOIN hash_set USING (hash_set_no)
               CROSS JOIN asking
         WHERE dispute.ended_in IS NULL AND hash_set_id = ANY ($2::text[])
           AND NOT EXISTS (
               SELECT FROM ruling JOIN submission AS later
                             ON later.member_no = ruling.member_no
                            AND later.sequence = ruling.sequence
                WHERE ruling.hash_set_no = dispute.hash_set_no
                  AND ruling.hash_id = dispute.hash_id
                  AND later.log_index > submission.log_index)
    )
"""

_CASES: Final = """
    -- $4 only above this log index, $5 limit
    SELECT log_index, statement_id, member_id, concerning.hash_set_id, accepted_at, alone,
           count(*) AS disputed,
           count(*) FILTER (WHERE mine) AS asserted,
           array_agg(DISTINCT reason ORDER BY reason) AS reasons
      FROM concerning JOIN submission USING (log_index)
           JOIN member ON member.member_no = submission.member_no
     WHERE (shown OR mine) AND log_index > $4
     GROUP BY log_index, statement_id, member_id, concerning.hash_set_id, accepted_at, alone
     ORDER BY log_index
     LIMIT $5
"""

_DISPUTED: Final = """
    -- $4 log index of the case, $5 only above this hash id, $6 limit
    SELECT hash_id, algorithm, value, reason, mine,
           ARRAY(SELECT DISTINCT member_id
                   FROM assertion JOIN member USING (member_no)
                  WHERE assertion.hash_set_no = concerning.hash_set_no
                    AND assertion.hash_id = concerning.hash_id AND ended_in IS NULL
                  ORDER BY member_id) AS asserted_by
      FROM concerning JOIN hash USING (hash_set_no, hash_id)
     WHERE (shown OR mine) AND log_index = $4 AND hash_id > $5
     ORDER BY hash_id
     LIMIT $6
"""

SELECT_CASES: Final = _OPEN + _CASES
SELECT_DISPUTED: Final = _OPEN + _DISPUTED

SELECT_CONFIRMATIONS: Final = """
    -- $1 log indexes
    SELECT log_index, member_id, comment, confirmed_at
      FROM confirmation JOIN member USING (member_no)
     WHERE log_index = ANY ($1::bigint[])
     ORDER BY confirmed_at, member_id
"""

REPLACE_CONFIRMATION: Final = """
    -- $1 log index, $2 member_id, $3 comment, $4 confirmed_at
    INSERT INTO confirmation (log_index, member_no, comment, confirmed_at)
    SELECT $1, member_no, $3, $4 FROM member WHERE member_id = $2
    ON CONFLICT (log_index, member_no)
    DO UPDATE SET comment = excluded.comment, confirmed_at = excluded.confirmed_at
"""


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks, and what it may see.

    Attributes:
        readable: Hash sets of which it may know.
        reviewed: Those in which it sees every case.
    """

    member: MemberId
    readable: Sequence[HashSetId]
    reviewed: Sequence[HashSetId]


@dataclass(frozen=True, slots=True)
class CaseRow:
    """A case, as far as it concerns the one who asks.

    Attributes:
        log_index: Of the submission that disputes; the name of the case.
        statement_id: Of that submission.
        member: Who disputes.
        alone: Whether its disputes count while nobody else disputes the same.
        disputed: Hashes that are in dispute.
        asserted: Those of them that the one who asks asserts.
        reasons: Each once.
    """

    log_index: int
    statement_id: str
    member: MemberId
    hash_set: HashSetId
    accepted_at: datetime
    alone: bool
    disputed: int
    asserted: int
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class DisputedHash:
    """One hash of a case.

    Attributes:
        hash_id: Orders them.
        mine: Whether the one who asks asserts it.
        asserted_by: Who does.
    """

    hash_id: int
    value: HashValue
    reason: str
    mine: bool
    asserted_by: list[MemberId]


@dataclass(frozen=True, slots=True)
class ConfirmationRow:
    """That a member stands by what it asserts."""

    log_index: int
    member: MemberId
    comment: str
    confirmed_at: datetime


@dataclass(frozen=True, slots=True)
class CaseRepository:
    """Reads cases, and keeps what members answer to them, on one connection."""

    connection: Connection

    async def read_cases(self, asking: Asking, *, after: int, limit: int) -> list[CaseRow]:
        """Return the open cases that concern a member, oldest first, above log index ``after``."""
        rows = await self.connection.fetch(SELECT_CASES, *_arguments(asking), after, limit)
        return [
            CaseRow(
                log_index=row["log_index"],
                statement_id=row["statement_id"].hex(),
                member=MemberId(row["member_id"]),
                hash_set=HashSetId(row["hash_set_id"]),
                accepted_at=row["accepted_at"],
                alone=row["alone"],
                disputed=row["disputed"],
                asserted=row["asserted"],
                reasons=row["reasons"],
            )
            for row in rows
        ]

    async def read_disputed(
        self, asking: Asking, log_index: int, *, after: int, limit: int
    ) -> list[DisputedHash]:
        """Return the open hashes of a case that concern a member, above hash id ``after``."""
        rows = await self.connection.fetch(
            SELECT_DISPUTED, *_arguments(asking), log_index, after, limit
        )
        return [
            DisputedHash(
                hash_id=row["hash_id"],
                value=HashValue(HashAlgorithm(row["algorithm"]), row["value"]),
                reason=row["reason"],
                mine=row["mine"],
                asserted_by=row["asserted_by"],
            )
            for row in rows
        ]

    async def read_confirmations(self, log_indexes: Sequence[int]) -> list[ConfirmationRow]:
        """Return who stands by what it asserts of the hashes of these cases."""
        rows = await self.connection.fetch(SELECT_CONFIRMATIONS, log_indexes)
        return [
            ConfirmationRow(
                row["log_index"], MemberId(row["member_id"]), row["comment"], row["confirmed_at"]
            )
            for row in rows
        ]

    async def confirm(
        self, log_index: int, member: MemberId, *, comment: str, now: datetime
    ) -> None:
        """Note that a member stands by what it asserts; replaces what it answered before."""
        await self.connection.execute(REPLACE_CONFIRMATION, log_index, member, comment, now)


def _arguments(asking: Asking) -> tuple[str, list[str], list[str]]:
    return asking.member, list(asking.readable), list(asking.reviewed)

"""Who ever said what of one hash, and in which submission."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hashshare.domain.hashes import HashValue
from hashshare.domain.names import HashSetId, MemberId
from hashshare.storage.database import Connection, Record

READ_PROVENANCE: Final = """
    -- $1 hash_set_id, $2 algorithm, $3 value
    WITH chosen AS (
        SELECT hash_set_no, hash_id
          FROM hash_set JOIN hash USING (hash_set_no)
         WHERE hash_set_id = $1 AND algorithm = $2 AND value = $3
    ),
    said AS (
        SELECT member_no, sequence, ended_in, 'assert' AS verdict, record, classification, media,
               basis, NULL AS reason
          FROM chosen JOIN assertion USING (hash_set_no, hash_id)
         UNION ALL
        SELECT member_no, sequence, ended_in, 'dispute', '', NULL, NULL, NULL, reason
          FROM chosen JOIN dispute USING (hash_set_no, hash_id)
         UNION ALL
        SELECT member_no, sequence, NULL, decision, '', NULL, NULL, NULL, reason
          FROM chosen JOIN ruling USING (hash_set_no, hash_id)
    )
    SELECT member_id, verdict, record, classification, media, basis, reason,
           submission.accepted_at, submission.log_index, ending.log_index AS ended_log_index,
           leaf.entry
      FROM said
           JOIN member USING (member_no)
           JOIN submission ON submission.member_no = said.member_no
                          AND submission.sequence = said.sequence
           JOIN leaf ON leaf.log_index = submission.log_index
           LEFT JOIN submission AS ending
                  ON ending.member_no = said.member_no AND ending.sequence = said.ended_in
     ORDER BY submission.log_index, record COLLATE "C"
"""


@dataclass(frozen=True, slots=True)
class Statement:
    """That a member asserted or disputed a hash, or ruled on it.

    Attributes:
        member: Who.
        verdict: ``assert``, ``dispute``, or of a ruling ``keep`` or ``remove``.
        record: The member's own id of the item, "" if it gave none.
        classification: Of an assertion.
        media: Of an assertion, if stated.
        basis: Of an assertion.
        reason: Of a dispute or ruling.
        since: When its submission was accepted.
        log_index: Of that submission.
        ended_log_index: Of the submission that ended it, None while in force.
        envelope: Of the submission, as it is in the log.
    """

    member: MemberId
    verdict: str
    record: str
    classification: str | None
    media: str | None
    basis: str | None
    reason: str | None
    since: datetime
    log_index: int
    ended_log_index: int | None
    envelope: bytes


@dataclass(frozen=True, slots=True)
class ProvenanceRepository:
    """Reads who said what, on one connection."""

    connection: Connection

    async def read(self, hash_set: HashSetId, value: HashValue) -> list[Statement]:
        """Return all that was ever said of a hash in a hash set, oldest first."""
        rows = await self.connection.fetch(
            READ_PROVENANCE, hash_set, str(value.algorithm), value.value
        )
        return [_to_statement(row) for row in rows]


def _to_statement(row: Record) -> Statement:
    return Statement(
        member=MemberId(row["member_id"]),
        verdict=row["verdict"],
        record=row["record"],
        classification=row["classification"],
        media=row["media"],
        basis=row["basis"],
        reason=row["reason"],
        since=row["accepted_at"],
        log_index=row["log_index"],
        ended_log_index=row["ended_log_index"],
        envelope=row["entry"],
    )

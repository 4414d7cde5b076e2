"""Submissions that were accepted, each member's chain of them, and what they touched."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from asyncpg.exceptions import UniqueViolationError

from hashshare.crypto.envelope import parse_envelope
from hashshare.domain.columns import Numbers
from hashshare.domain.disputes import BEGINNING, begin_of, counts_alone
from hashshare.domain.documents import decode_document
from hashshare.domain.hash_sets import DisputeBound
from hashshare.domain.names import HashSetId, MemberId, parse_time
from hashshare.domain.statements import ChainHead, Operation, Publication, Submission
from hashshare.errors import ConflictError, NotFoundError
from hashshare.storage.database import verify_in_transaction

if TYPE_CHECKING:
    from hashshare.storage.database import Connection, Record

# Not FOR UPDATE, which would also stop the foreign keys of other transactions.
LOCK_MEMBER: Final = """
    -- $1 member_id
    SELECT member_no, sequence, last_id FROM member WHERE member_id = $1 FOR NO KEY UPDATE
"""

SELECT_MEMBER: Final = """
    -- $1 member_id
    SELECT member_no, sequence, last_id FROM member WHERE member_id = $1
"""

UPDATE_CHAIN: Final = """
    -- $1 member_no, $2 sequence, $3 last_id
    UPDATE member SET sequence = $2, last_id = $3 WHERE member_no = $1
"""

SELECT_HASH_SET: Final = """
    -- $1 hash_set_id
    SELECT hash_set_no FROM hash_set WHERE hash_set_id = $1
"""

INSERT_SUBMISSION: Final = """
    -- $1 log_index, $2 statement_id, $3 member_no, $4 hash_set_no, $5 operation, $6 sequence,
    -- $7 batch, $8 records, $9 hashes, $10 new, $11 known, $12 unchanged, $13 ended,
    -- $14 accepted_at, $15 disputed_at, $16 alone
    INSERT INTO submission (log_index, statement_id, member_no, hash_set_no, operation, sequence,
                            batch, records, hashes, new, known, unchanged, ended, accepted_at,
                            disputed_at, alone)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
"""

INSERT_TOUCHED: Final = """
    -- $1 hash_set_no, $2 log_index, $3 part, $4 hash_ids
    INSERT INTO touched (hash_set_no, log_index, part, hash_ids) VALUES ($1, $2, $3, $4)
"""

SELECT_NEWEST: Final = """
    -- $1 hash_set_ids, $2 member_id or '', $3 below this log index, $4 limit
    SELECT log_index, member_id, hash_set_id, operation, records, new, known, unchanged, ended,
           accepted_at,
           (SELECT min(published_at)
              FROM publication
             WHERE publication.hash_set_no = submission.hash_set_no
               AND publication.log_size > submission.log_index) AS published_at
      FROM submission JOIN member USING (member_no) JOIN hash_set USING (hash_set_no)
     WHERE hash_set_id = ANY ($1::text[]) AND ($2 = '' OR member_id = $2) AND log_index < $3
     ORDER BY log_index DESC
     LIMIT $4
"""

SELECT_SUBMISSION: Final = """
    -- $1 statement_id
    SELECT log_index, statement_id, member_id, hash_set_id, operation, submission.sequence, batch,
           records, hashes, new, known, unchanged, ended, accepted_at
      FROM submission JOIN member USING (member_no) JOIN hash_set USING (hash_set_no)
     WHERE statement_id = $1
"""

SELECT_SUBMISSIONS: Final = """
    -- $1 member_id, $2 after this log index, $3 limit
    SELECT log_index, statement_id, member_id, hash_set_id, operation, submission.sequence, batch,
           records, hashes, new, known, unchanged, ended, accepted_at
      FROM submission JOIN member USING (member_no) JOIN hash_set USING (hash_set_no)
     WHERE member_id = $1 AND log_index > $2
     ORDER BY log_index
     LIMIT $3
"""

SELECT_BATCH_OWNERS: Final = """
    -- $1 batch
    SELECT DISTINCT member_id
      FROM submission JOIN member USING (member_no)
     WHERE batch = $1
"""

SELECT_IN_FORCE: Final = """
    -- $1 batch
    SELECT EXISTS (
               SELECT 1
                 FROM submission
                      JOIN assertion USING (hash_set_no, member_no, sequence)
                WHERE batch = $1 AND ended_in IS NULL
           ) OR EXISTS (
               SELECT 1
                 FROM submission
                      JOIN dispute USING (hash_set_no, member_no, sequence)
                WHERE batch = $1 AND ended_in IS NULL
           ) OR EXISTS (
               -- Of the rulings about a hash the latest holds.
               SELECT 1
                 FROM submission
                      JOIN ruling USING (hash_set_no, member_no, sequence)
                WHERE batch = $1 AND NOT EXISTS (
                      SELECT 1
                        FROM ruling AS other
                             JOIN submission AS later
                               ON later.member_no = other.member_no
                              AND later.sequence = other.sequence
                       WHERE other.hash_set_no = ruling.hash_set_no
                         AND other.hash_id = ruling.hash_id
                         AND later.log_index > submission.log_index)
           )
"""

SELECT_NEWEST_PUBLICATION: Final = """
    -- $1 hash_set_no
    SELECT entry
      FROM publication JOIN leaf USING (log_index)
     WHERE hash_set_no = $1
     ORDER BY version DESC
     LIMIT 1
"""

SUM_DISPUTED: Final = """
    -- $1 member_no, $2 hash_set_no, $3 only after this time
    SELECT coalesce(sum(records), 0)::bigint
      FROM submission
     WHERE member_no = $1 AND hash_set_no = $2 AND disputed_at > $3
"""

_TOUCHED_A_ROW: Final = 65_536


@dataclass(frozen=True, slots=True)
class SubmissionCounts:
    """What a submission came to.

    Attributes:
        records: Of its batch.
        hashes: Distinct ones that it names.
        new: Hashes that the hash set did not have.
        known: Hashes that it had, on which the member's stance changed.
        unchanged: Hashes on which it said nothing else than before.
        ended: Assertions and disputes that were taken back, not counting those that were
            replaced by another of the same kind.
    """

    records: int
    hashes: int
    new: int
    known: int
    unchanged: int
    ended: int


@dataclass(frozen=True, slots=True)
class MemberChain:
    """A member's number in the database, and the head of its chain of submissions."""

    member_no: int
    head: ChainHead


@dataclass(frozen=True, slots=True)
class Disputed:
    """How the disputes of a submission count, where a bound is in force.

    Attributes:
        at: The time at its place, by the log.
        alone: Whether they count while nobody else disputes the same.
    """

    at: datetime
    alone: bool


@dataclass(frozen=True, slots=True)
class AcceptedSubmission:
    """One submission that is in the log.

    Attributes:
        disputed: Not read back.
    """

    log_index: int
    statement_id: str
    member: MemberId
    hash_set: HashSetId
    operation: Operation
    sequence: int
    batch: str
    counts: SubmissionCounts
    accepted_at: datetime
    disputed: "Disputed | None" = None


@dataclass(frozen=True, slots=True)
class SubmissionRow:
    """A submission as admins look at it.

    Attributes:
        published_at: When the first version that covers it was published; None: it waits.
    """

    log_index: int
    member_id: str
    hash_set_id: str
    operation: str
    records: int
    new: int
    known: int
    unchanged: int
    ended: int
    accepted_at: datetime
    published_at: datetime | None


@dataclass(frozen=True, slots=True)
class SubmissionRepository:
    """Reads and appends submissions on one connection."""

    connection: "Connection"

    async def lock_chain(self, member: str) -> MemberChain:
        """Keep other submissions of the member out until the transaction ends.

        Take this lock before every other.

        Raises:
            NotFoundError: There is no such member.
        """
        verify_in_transaction(self.connection)
        return _to_chain(await self.connection.fetchrow(LOCK_MEMBER, member), member)

    async def read_chain(self, member: str) -> MemberChain:
        """Return where the member's chain stands now.

        Raises:
            NotFoundError: There is no such member.
        """
        return _to_chain(await self.connection.fetchrow(SELECT_MEMBER, member), member)

    async def read_hash_set_no(self, hash_set: str) -> int:
        """Return a hash set's number in the database.

        Raises:
            NotFoundError: There is no such hash set.
        """
        number: int | None = await self.connection.fetchval(SELECT_HASH_SET, hash_set)
        if number is None:
            raise NotFoundError(f"no hash set {hash_set!r:.70}")
        return number

    async def append(self, accepted: AcceptedSubmission, *, member_no: int, number: int) -> None:
        """Record a submission whose leaf was just appended, and advance its member's chain.

        Args:
            accepted: What is recorded.
            member_no: Of its member.
            number: Of its hash set.

        Raises:
            ConflictError: The member has a submission of that sequence.
        """
        verify_in_transaction(self.connection)
        statement_id, counts = bytes.fromhex(accepted.statement_id), accepted.counts
        try:
            await self.connection.execute(
                INSERT_SUBMISSION, accepted.log_index, statement_id, member_no, number,
                accepted.operation.value, accepted.sequence, bytes.fromhex(accepted.batch),
                counts.records, counts.hashes, counts.new, counts.known, counts.unchanged,
                counts.ended, accepted.accepted_at,
                accepted.disputed.at if accepted.disputed else None,
                accepted.disputed is None or accepted.disputed.alone,
            )  # fmt: skip
        except UniqueViolationError as error:
            raise ConflictError("the member has a submission of that sequence") from error
        await self.connection.execute(UPDATE_CHAIN, member_no, accepted.sequence, statement_id)

    async def settle_disputes(
        self, bound: DisputeBound, *, member_no: int, number: int, records: int
    ) -> Disputed:
        """Return how the disputes of a submission count that comes next in the log.

        The log must be locked.
        """
        verify_in_transaction(self.connection)
        entry: bytes | None = await self.connection.fetchval(SELECT_NEWEST_PUBLICATION, number)
        at = BEGINNING
        if entry is not None:
            publication = decode_document(parse_envelope(entry).payload, Publication)
            at = parse_time(publication.created_at)
        begin = begin_of(bound, at)
        earlier: int = await self.connection.fetchval(SUM_DISPUTED, member_no, number, begin)
        return Disputed(at, counts_alone(bound, records, [(at, earlier)], at))

    async def append_touched(self, number: int, log_index: int, ids: Numbers) -> None:
        """Record which hashes of hash set ``number`` a submission changed, in ascending order."""
        await self.connection.executemany(INSERT_TOUCHED, list(_touched(number, log_index, ids)))

    async def find(self, statement_id: str) -> AcceptedSubmission | None:
        """Return the submission with that id, None if there is none."""
        row = await self.connection.fetchrow(SELECT_SUBMISSION, bytes.fromhex(statement_id))
        return None if row is None else _to_submission(row)

    async def read_page(
        self, member: MemberId, *, after: int, limit: int
    ) -> list[AcceptedSubmission]:
        """Return submissions of a member, the oldest first, above log index ``after``."""
        rows = await self.connection.fetch(SELECT_SUBMISSIONS, member, after, limit)
        return [_to_submission(row) for row in rows]

    async def read_newest(
        self, hash_sets: Sequence[str], member: str, *, below: int, limit: int
    ) -> list[SubmissionRow]:
        """Return submissions to these hash sets, newest first; of all members if "" is given."""
        rows = await self.connection.fetch(SELECT_NEWEST, hash_sets, member, below, limit)
        return [SubmissionRow(**row) for row in rows]

    async def read_batch_owners(self, batch: str) -> set[MemberId]:
        """Return the members with an accepted submission of that batch."""
        rows = await self.connection.fetch(SELECT_BATCH_OWNERS, bytes.fromhex(batch))
        return {MemberId(row["member_id"]) for row in rows}

    async def is_in_force(self, batch: str) -> bool:
        """Return whether anything of that batch has an effect still."""
        found: bool = await self.connection.fetchval(SELECT_IN_FORCE, bytes.fromhex(batch))
        return found


def to_accepted(
    submission: Submission,
    *,
    statement_id: str,
    log_index: int,
    counts: SubmissionCounts,
    disputed: Disputed | None = None,
    now: datetime,
) -> AcceptedSubmission:
    """Return the record of a submission that is about to be accepted."""
    return AcceptedSubmission(
        log_index=log_index,
        statement_id=statement_id,
        member=MemberId(submission.member),
        hash_set=HashSetId(submission.hash_set),
        operation=submission.operation,
        sequence=submission.sequence,
        batch=submission.batch.sha256,
        counts=counts,
        accepted_at=now,
        disputed=disputed,
    )


def _touched(
    number: int, log_index: int, ids: Numbers
) -> Iterator[tuple[int, int, int, list[int]]]:
    for part, begin in enumerate(range(0, len(ids), _TOUCHED_A_ROW)):
        yield number, log_index, part, ids[begin : begin + _TOUCHED_A_ROW].tolist()


def _to_chain(row: "Record | None", member: str) -> MemberChain:
    if row is None:
        raise NotFoundError(f"no member {member!r:.70}")
    return MemberChain(row["member_no"], ChainHead(row["sequence"], row["last_id"].hex()))


def _to_submission(row: "Record") -> AcceptedSubmission:
    return AcceptedSubmission(
        log_index=row["log_index"],
        statement_id=row["statement_id"].hex(),
        member=MemberId(row["member_id"]),
        hash_set=HashSetId(row["hash_set_id"]),
        operation=Operation(row["operation"]),
        sequence=row["sequence"],
        batch=row["batch"].hex(),
        counts=SubmissionCounts(
            records=row["records"],
            hashes=row["hashes"],
            new=row["new"],
            known=row["known"],
            unchanged=row["unchanged"],
            ended=row["ended"],
        ),
        accepted_at=row["accepted_at"],
    )

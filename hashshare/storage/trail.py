"""The audit trail. Only grows; the database refuses all else."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from hashshare.domain.names import MemberId
from hashshare.domain.trail import TrailEntry, TrailKind

if TYPE_CHECKING:
    from hashshare.storage.database import Connection, Record

# Who is refused before it is known who it is, is known by the certificate all the same.
INSERT_TRAIL: Final = """
    -- $1 kind, $2 member_id, $3 fingerprint, $4 action, $5 problem, $6 facts
    INSERT INTO trail (kind, member_id, fingerprint, action, problem, facts)
    VALUES ($1, coalesce($2, (SELECT member_id FROM certificate WHERE fingerprint = $3)),
            $3, $4, $5, $6)
"""

SELECT_TRAIL: Final = """
    -- $1 member_id, $2 kind, $3 since, $4 until, each or null; $5 after entry_no or null, $6 limit
    SELECT entry_no, recorded_at, kind, member_id, fingerprint, action, problem, facts
      FROM trail
     WHERE ($1::text IS NULL OR member_id = $1)
       AND ($2::text IS NULL OR kind = $2)
       AND ($3::timestamptz IS NULL OR recorded_at >= $3)
       AND ($4::timestamptz IS NULL OR recorded_at < $4)
       AND ($5::bigint IS NULL OR (recorded_at, entry_no)
            > (SELECT recorded_at, entry_no FROM trail WHERE entry_no = $5))
     ORDER BY recorded_at, entry_no
     LIMIT $6
"""

SELECT_TRAIL_BACKWARDS: Final = """
    -- $1 member_id, $2 kind, $3 since, $4 until, each or null; $5 before entry_no or null, $6 limit
    SELECT entry_no, recorded_at, kind, member_id, fingerprint, action, problem, facts
      FROM trail
     WHERE ($1::text IS NULL OR member_id = $1)
       AND ($2::text IS NULL OR kind = $2)
       AND ($3::timestamptz IS NULL OR recorded_at >= $3)
       AND ($4::timestamptz IS NULL OR recorded_at < $4)
       AND ($5::bigint IS NULL OR (recorded_at, entry_no)
            < (SELECT recorded_at, entry_no FROM trail WHERE entry_no = $5))
     ORDER BY recorded_at DESC, entry_no DESC
     LIMIT $6
"""


@dataclass(frozen=True, slots=True)
class TrailFilter:
    """Which entries are meant; None for any.

    Attributes:
        since: The earliest, aware.
        until: From here on none, aware.
    """

    member: str | None = None
    kind: TrailKind | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class TrailRow:
    """An entry that was recorded, and when."""

    number: int
    recorded_at: datetime
    entry: TrailEntry


@dataclass(frozen=True, slots=True)
class TrailRepository:
    """Reads and appends on one connection; never begins a transaction."""

    connection: "Connection"

    async def append(self, entry: TrailEntry) -> None:
        """Record an entry."""
        fingerprint = None if entry.fingerprint is None else bytes.fromhex(entry.fingerprint)
        await self.connection.execute(
            INSERT_TRAIL,
            entry.kind.value,
            entry.member,
            fingerprint,
            entry.action,
            entry.problem,
            json.dumps(dict(entry.facts)),
        )

    async def read_page(
        self, chosen: TrailFilter, *, at: int | None, limit: int, backwards: bool
    ) -> list[TrailRow]:
        """Return entries in the order of time, or against it.

        Args:
            chosen: Which.
            at: Number of the entry where the page before ended; None for the first page.
            limit: At most so many.
            backwards: The newest first.
        """
        rows = await self.connection.fetch(
            SELECT_TRAIL_BACKWARDS if backwards else SELECT_TRAIL,
            chosen.member,
            None if chosen.kind is None else chosen.kind.value,
            chosen.since,
            chosen.until,
            at,
            limit,
        )
        return [_to_row(row) for row in rows]


def _to_row(row: "Record") -> TrailRow:
    fingerprint = row["fingerprint"]
    return TrailRow(
        number=row["entry_no"],
        recorded_at=row["recorded_at"],
        entry=TrailEntry(
            kind=TrailKind(row["kind"]),
            member=None if row["member_id"] is None else MemberId(row["member_id"]),
            action=row["action"],
            facts=json.loads(row["facts"]),
            fingerprint=None if fingerprint is None else fingerprint.hex(),
            problem=row["problem"],
        ),
    )

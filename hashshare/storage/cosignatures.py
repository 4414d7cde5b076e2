"""What witnesses have said of checkpoints."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hashshare.storage.database import Connection

REPLACE_COSIGNATURE: Final = """
    -- $1 size, $2 cosigner, $3 line, $4 now
    INSERT INTO cosignature (size, cosigner, line, received_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (size, cosigner) DO UPDATE
       SET line = excluded.line, received_at = excluded.received_at
"""

SELECT_COSIGNATURES: Final = """
    SELECT size, line, received_at FROM cosignature ORDER BY size DESC, cosigner
"""

# One that is sent again, by whomever, takes no later one's place.
REPLACE_AUDIT: Final = """
    -- $1 cosigner, $2 size, $3 line, $4 signed at, $5 now
    INSERT INTO audit_cosignature AS kept (cosigner, size, line, signed_at, received_at)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (cosigner) DO UPDATE
       SET size = excluded.size, line = excluded.line,
           signed_at = excluded.signed_at, received_at = excluded.received_at
     WHERE (kept.size, kept.signed_at) < (excluded.size, excluded.signed_at)
"""

SELECT_AUDITS: Final = "SELECT cosigner, size, line FROM audit_cosignature ORDER BY cosigner"

DELETE_BELOW: Final = """
    -- $1 size
    DELETE FROM cosignature WHERE size < $1
"""


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A size of the log that witnesses have cosigned.

    Attributes:
        lines: Signature lines of a note, by cosigner.
        first_at: When the first of them came.
    """

    size: int
    lines: tuple[str, ...]
    first_at: datetime


@dataclass(frozen=True, slots=True)
class AuditCosignature:
    """What an auditor audited last.

    Attributes:
        cosigner: Tells its key from others.
        line: Signature line of a note.
    """

    cosigner: str
    size: int
    line: str


@dataclass(frozen=True, slots=True)
class CosignatureRepository:
    """Reads and writes cosignatures on one connection."""

    connection: Connection

    async def put(self, size: int, cosigner: str, line: str, *, now: datetime) -> None:
        """Keep a cosignature; it takes the place of an earlier one of the same size."""
        await self.connection.execute(REPLACE_COSIGNATURE, size, cosigner, line, now)

    async def read(self) -> list[Cosigned]:
        """Return all that is kept, the largest size first."""
        found: dict[int, list[tuple[str, datetime]]] = {}
        for row in await self.connection.fetch(SELECT_COSIGNATURES):
            found.setdefault(row["size"], []).append((row["line"], row["received_at"]))
        return [
            Cosigned(size, tuple(line for line, _ in rows), min(at for _, at in rows))
            for size, rows in found.items()
        ]

    async def put_audit(
        self, audit: AuditCosignature, *, signed_at: datetime, now: datetime
    ) -> None:
        """Keep an auditor's cosignature, unless one of more, or a later one, is kept."""
        values = (audit.cosigner, audit.size, audit.line, signed_at, now)
        await self.connection.execute(REPLACE_AUDIT, *values)

    async def read_audits(self) -> list[AuditCosignature]:
        """Return what each auditor audited last."""
        rows = await self.connection.fetch(SELECT_AUDITS)
        return [AuditCosignature(row["cosigner"], row["size"], row["line"]) for row in rows]

    async def forget_below(self, size: int) -> None:
        """Delete the cosignatures of smaller sizes: a larger one has a quorum."""
        await self.connection.execute(DELETE_BELOW, size)

"""The journal of a profile: what is under way, and what was accepted.

A statement is written here before it is sent, so that after a crash, or when the answer was
lost, the same bytes are sent again and get the same receipt.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from hashshare.errors import ReplicaDamagedError, UnavailableError

SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS submission (
        statement_id TEXT    NOT NULL PRIMARY KEY,
        hash_set     TEXT    NOT NULL,
        operation    TEXT    NOT NULL,
        content      TEXT    NOT NULL,
        batch        TEXT    NOT NULL,
        envelope     BLOB    NOT NULL,
        log_index    INTEGER,
        receipt      BLOB
    ) STRICT
"""
INSERT: Final = """
    INSERT OR REPLACE INTO submission
           (statement_id, hash_set, operation, content, batch, envelope)
    VALUES (?, ?, ?, ?, ?, ?)
"""
DELETE: Final = "DELETE FROM submission WHERE statement_id = ? AND receipt IS NULL"
ACCEPT: Final = "UPDATE submission SET log_index = ?, receipt = ? WHERE statement_id = ?"
COLUMNS: Final = "statement_id, hash_set, operation, content, batch, envelope, log_index, receipt"
SELECT_PENDING: Final = f"SELECT {COLUMNS} FROM submission WHERE receipt IS NULL ORDER BY rowid"  # noqa: S608 # a constant
SELECT_ACCEPTED: Final = f"""
    SELECT {COLUMNS} FROM submission
     WHERE receipt IS NOT NULL AND hash_set = ? ORDER BY log_index DESC
"""  # noqa: S608 # a constant


SELECT_RECEIPTS: Final = """
    SELECT statement_id, log_index, receipt FROM submission
     WHERE receipt IS NOT NULL ORDER BY log_index
"""
SELECT_IDS: Final = "SELECT statement_id FROM submission"


@dataclass(frozen=True, slots=True)
class Received:
    """A submission for which there is a receipt."""

    statement_id: str
    log_index: int
    receipt: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One submission.

    Attributes:
        statement_id: Hex.
        content: Digest of the batch's lines without the salted header, hex.
        batch: Digest of the batch, hex.
        envelope: The bytes to be sent.
        log_index: None until it was accepted.
        receipt: None until it was accepted.
    """

    statement_id: str
    hash_set: str
    operation: str
    content: str
    batch: str
    envelope: bytes
    log_index: int | None = None
    receipt: bytes | None = None


class Journal:
    """The file. One at a time writes; each method is durable once it returns."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the journal at ``path``, and make it if there is none.

        Raises:
            ReplicaDamagedError: The file is damaged.
        """
        try:
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(SCHEMA)
        except sqlite3.OperationalError as error:
            raise UnavailableError(f"the journal cannot be used now: {error}") from error
        except sqlite3.DatabaseError as error:
            raise ReplicaDamagedError("the journal (journal.sqlite) is damaged") from error
        return cls(connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def begin(self, entry: Entry, *, instead_of: str | None = None) -> None:
        """Write a submission that is about to be sent, perhaps signed anew."""
        self._connection.execute("BEGIN IMMEDIATE")
        if instead_of is not None:
            self._connection.execute(DELETE, (instead_of,))
        row = (entry.statement_id, entry.hash_set, entry.operation, entry.content, entry.batch)
        self._connection.execute(INSERT, (*row, entry.envelope))
        self._connection.execute("COMMIT")

    def accept(self, statement_id: str, *, log_index: int, receipt: bytes) -> None:
        """Write the receipt of a submission."""
        self._connection.execute(ACCEPT, (log_index, receipt, statement_id))

    def forget(self, statement_id: str) -> None:
        """Drop a submission that was refused."""
        self._connection.execute(DELETE, (statement_id,))

    def pending(self) -> list[Entry]:
        """Return what was begun and not accepted, oldest first."""
        return [Entry(*row) for row in self._connection.execute(SELECT_PENDING)]

    def accepted(self, hash_set: str) -> list[Entry]:
        """Return the accepted submissions to a hash set, newest first."""
        return [Entry(*row) for row in self._connection.execute(SELECT_ACCEPTED, (hash_set,))]

    def received(self) -> list[Received]:
        """Return all that there is a receipt for, in the order of the log."""
        return [Received(*row) for row in self._connection.execute(SELECT_RECEIPTS)]

    def statement_ids(self) -> set[str]:
        """Return the ids of all that was ever signed here and not refused."""
        return {row[0] for row in self._connection.execute(SELECT_IDS)}

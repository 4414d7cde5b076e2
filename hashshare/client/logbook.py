"""The logbook of a profile: how far its member has verified the log, and what it found there.

It outlives the replica, which can be deleted and pulled anew: what was seen once cannot be
taken back by a server that then shows another history.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from hashshare.domain.history import History
from hashshare.domain.joining import Trust
from hashshare.errors import MalformedError, ReplicaDamagedError, UnavailableError

BUSY_SECONDS: Final = 60

SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS position (
        only     INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
        size     INTEGER NOT NULL,
        note     BLOB    NOT NULL,
        history  BLOB    NOT NULL,
        registry BLOB    NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS own_submission (
        statement_id TEXT    NOT NULL PRIMARY KEY,
        log_index    INTEGER NOT NULL,
        adopted      INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE IF NOT EXISTS cosigned (
        only INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
        note BLOB    NOT NULL
    ) STRICT;
"""
SELECT_POSITION: Final = "SELECT note, history, registry FROM position"
SELECT_SIZE: Final = "SELECT size FROM position"
REPLACE_POSITION: Final = """
    INSERT OR REPLACE INTO position (only, size, note, history, registry) VALUES (1, ?, ?, ?, ?)
"""
INSERT_OWN: Final = """
    INSERT INTO own_submission (statement_id, log_index) VALUES (?, ?)
    ON CONFLICT (statement_id) DO NOTHING
"""
SELECT_OWN: Final = "SELECT statement_id, log_index, adopted FROM own_submission ORDER BY log_index"
BEGIN_COSIGNING: Final = "INSERT OR IGNORE INTO cosigned (only, note) SELECT 1, note FROM position"
SELECT_COSIGNED: Final = "SELECT note FROM cosigned"
REPLACE_COSIGNED: Final = "INSERT OR REPLACE INTO cosigned (only, note) VALUES (1, ?)"
ADOPT: Final = "UPDATE own_submission SET adopted = 1 WHERE statement_id = ?"


@dataclass(frozen=True, slots=True)
class OwnSubmission:
    """A submission in the log that a key of this profile signed.

    Attributes:
        adopted: Whether the member has said that it knows of it, though the journal does not.
    """

    statement_id: str
    log_index: int
    adopted: bool


@dataclass(frozen=True, slots=True)
class Position:
    """How far the log was verified.

    Attributes:
        history: What it comes to until there.
        note: The checkpoint that signs it, with all its signatures; b"" at the beginning.
        seen_at: When a quorum of witnesses had seen it; None if none is demanded.
    """

    history: History
    note: bytes
    seen_at: datetime | None = None


class Logbook:
    """The file. Each method is durable once it returns; several processes may use it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> "Logbook":
        """Open the logbook at ``path``, and make it if there is none.

        Raises:
            ReplicaDamagedError: The file is damaged.
            UnavailableError: It cannot be used now.
        """
        with _translated():
            path.touch(mode=0o600)
            connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
            )
            # EXTRA syncs the folder, too: a commit survives a power cut that follows at once.
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
        return cls(connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def position(self, trust: Trust) -> Position:
        """Return how far the log was verified.

        Raises:
            ReplicaDamagedError: The file is damaged.
        """
        with _translated():
            row = self._connection.execute(SELECT_POSITION).fetchone()
        if row is None:
            return Position(History(trust), b"")
        try:
            return Position(History.decode(trust, row[1], row[2]), row[0])
        except MalformedError as error:
            raise ReplicaDamagedError("the logbook (log.sqlite) is damaged") from error

    def size(self) -> int:
        """Return how many leaves were verified."""
        with _translated():
            row = self._connection.execute(SELECT_SIZE).fetchone()
        return int(row[0]) if row else 0

    def advance(self, position: Position, own: Iterable[tuple[str, int]], *, base: int) -> bool:
        """Write how far the log is verified now.

        Args:
            position: Where it is verified to.
            own: Ids and places of what keys of this profile signed since the one before.
            base: From which size on it was verified.

        Returns:
            False, and nothing is written, if another process has moved it meanwhile: what
            both have accepted must be one history.
        """
        history = position.history
        state = (history.size, position.note, history.encode(), history.registry_document)
        with _translated(), self._transaction() as connection:
            if self.size() != base:
                return False
            connection.execute(REPLACE_POSITION, state)
            connection.executemany(INSERT_OWN, own)
        return True

    def own_submissions(self) -> list[OwnSubmission]:
        """Return what keys of this profile signed, in the order of the log."""
        with _translated():
            rows = self._connection.execute(SELECT_OWN).fetchall()
        return [OwnSubmission(row[0], row[1], bool(row[2])) for row in rows]

    def adopt(self, statement_id: str) -> bool:
        """Note that the member knows of a submission; return whether there is one."""
        with _translated():
            return self._connection.execute(ADOPT, (statement_id,)).rowcount > 0

    def begin_cosigning(self) -> None:
        """Take what was read so far as cosigned, if nothing else is kept: it may have been."""
        with _translated():
            self._connection.execute(BEGIN_COSIGNING)

    def cosigned(self) -> bytes:
        """Return the newest checkpoint that this witness has cosigned, b"" if there is none."""
        with _translated():
            row = self._connection.execute(SELECT_COSIGNED).fetchone()
        return bytes(row[0]) if row else b""

    def cosign(self, before: bytes, note: bytes) -> bool:
        """Write that ``note`` is cosigned, which extends ``before``.

        Returns:
            False, and nothing is written, if ``before`` is no longer the newest: what is
            cosigned must be one history.
        """
        with _translated(), self._transaction() as connection:
            if self.cosigned() != before:
                return False
            connection.execute(REPLACE_COSIGNED, (note,))
        return True

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise UnavailableError(f"the logbook cannot be used now: {error}") from error
    except sqlite3.DatabaseError as error:
        raise ReplicaDamagedError("the logbook (log.sqlite) is damaged") from error

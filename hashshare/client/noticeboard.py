"""The notice board of a profile: what a person should hear of, and who was told.

A notice is kept before it is told, and told again until that was acknowledged: no crash loses
one, and each has an id by which the hearer tells a repetition.
"""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from hashshare.domain.names import format_time, parse_time
from hashshare.errors import ReplicaDamagedError, UnavailableError

SCHEMA: Final = """
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS notice (
        number INTEGER NOT NULL PRIMARY KEY,
        id     TEXT    NOT NULL UNIQUE,
        kind   TEXT    NOT NULL,
        at     TEXT    NOT NULL,
        text   TEXT    NOT NULL,
        data   TEXT    NOT NULL,
        leaf   INTEGER
    ) STRICT;
    CREATE TABLE IF NOT EXISTS told (
        hearer TEXT    NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (hearer, number)
    ) STRICT;
    COMMIT;
"""
INSERT: Final = """
    INSERT INTO notice (id, kind, at, text, data, leaf) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO NOTHING
"""
DELETE_UNVERIFIED: Final = "DELETE FROM notice WHERE leaf >= ?"
SELECT_ALL: Final = """
    SELECT id, kind, at, text, data, leaf FROM notice
     WHERE leaf IS NULL OR leaf < ? ORDER BY number
"""
SELECT_UNTOLD: Final = """
    SELECT id, kind, at, text, data, leaf FROM notice
     WHERE (leaf IS NULL OR leaf < ?)
       AND number NOT IN (SELECT number FROM told WHERE hearer = ?)
     ORDER BY number
"""
INSERT_TOLD: Final = """
    INSERT OR IGNORE INTO told (hearer, number) SELECT ?, number FROM notice WHERE id = ?
"""


class NoticeKind(StrEnum):
    """What a notice is about."""

    AGREEMENT = "agreement"
    ALARM = "alarm"
    APPROVAL = "approval"
    CERTIFICATE = "certificate"
    DISPUTE = "dispute"
    LAG = "lag"
    REDACTION = "redaction"
    REGISTRY = "registry"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a person should hear of.

    Attributes:
        id: The same however often it is noticed.
        at: When it happened, or was noticed.
        text: One line; never holds a hash.
        data: The same for programs.
        leaf: The statement of the log that says it; None if it is not in the log.
    """

    id: str
    kind: NoticeKind
    at: datetime
    text: str
    data: dict[str, str | int]
    leaf: int | None = None


class Noticeboard:
    """The file. Each method is durable once it returns; several processes may use it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the board at ``path``, and make it if there is none.

        Raises:
            ReplicaDamagedError: The file is damaged.
            UnavailableError: It cannot be used now.
        """
        try:
            path.touch(mode=0o600)
            connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=60
            )
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(SCHEMA)
        except sqlite3.OperationalError as error:
            raise UnavailableError(f"the notice board cannot be used now: {error}") from error
        except sqlite3.DatabaseError as error:
            raise ReplicaDamagedError("the notice board (notices.sqlite) is damaged") from error
        return cls(connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def put(self, notices: Iterable[Notice]) -> None:
        """Keep notices, each once; what is of the log may still turn out to be nothing."""
        self._connection.executemany(INSERT, map(_to_row, notices))

    def drop_unverified(self, size: int) -> None:
        """Forget what was read of the log beyond the ``size`` leaves that are verified."""
        self._connection.execute(DELETE_UNVERIFIED, (size,))

    def kept(self, *, size: int) -> list[Notice]:
        """Return all notices, the oldest first; those of the log up to ``size`` leaves."""
        return [_to_notice(row) for row in self._connection.execute(SELECT_ALL, (size,))]

    def untold(self, hearer: str, *, size: int) -> list[Notice]:
        """Return what somebody has not acknowledged yet, the oldest first.

        Args:
            hearer: Such as a URL.
            size: Of the log, as far as it is verified.
        """
        rows = self._connection.execute(SELECT_UNTOLD, (size, hearer))
        return [_to_notice(row) for row in rows]

    def told(self, hearer: str, notice: Notice) -> None:
        """Keep that somebody has acknowledged a notice."""
        self._connection.execute(INSERT_TOLD, (hearer, notice.id))


def _to_row(notice: Notice) -> tuple[str, str, str, str, str, int | None]:
    at, data = format_time(notice.at), json.dumps(notice.data, sort_keys=True)
    return (notice.id, notice.kind, at, notice.text, data, notice.leaf)


def _to_notice(row: tuple[str, str, str, str, str, int | None]) -> Notice:
    with suppress(ValueError):
        return Notice(
            row[0], NoticeKind(row[1]), parse_time(row[2]), row[3], json.loads(row[4]), row[5]
        )
    raise ReplicaDamagedError("the notice board (notices.sqlite) is damaged")

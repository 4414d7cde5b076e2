"""The file of a replica: how it is made and opened, its connections and transactions."""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from hashshare.errors import ReplicaDamagedError, UnavailableError
from hashshare.replica.reading import Reading
from hashshare.replica.store import SCHEMA, SELECT_LISTS, to_state, translated

if TYPE_CHECKING:
    from hashshare.replica.writing import Writing

APPLICATION_ID: Final = 0x68736872
SCHEMA_VERSION: Final = 1

BUSY_SECONDS: Final = 60
CACHE_KIB: Final = 16 * 1024
LONG_WAL_BYTES: Final = 64 * 1024 * 1024
PAGE_BYTES: Final = 16 * 1024
"""Holds two buckets or more: with SQLite's own 4 KiB each takes several pages, chained."""


class Replica:
    """One file of lists. May be used from several threads, and by several processes.

    One transaction writes at a time; readers see the state before it until it commits.
    """

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self.path = path
        self._readonly = readonly
        self._guard = threading.Lock()
        self._opened: list[sqlite3.Connection] = []
        self._idle: list[sqlite3.Connection] = []
        self._is_closed = False

    @classmethod
    def open(cls, path: Path, *, readonly: bool = False) -> Self:
        """Open the file at ``path``, and make it if there is none.

        Finds damage to the file's structure near its beginning; damage to what it holds is
        found by ``Reading.damaged``.

        Raises:
            ReplicaDamagedError: It is no replica, of a newer release, or damaged.
            UnavailableError: ``readonly``, and there is no file yet; or it cannot be opened.
        """
        if readonly and not path.exists():
            raise UnavailableError("there is no replica yet")
        replica = cls(path, readonly=readonly)
        try:
            with translated(), replica._connection() as connection:
                replica._prepare(connection)
        except BaseException:
            replica.close()
            raise
        return replica

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection; an open transaction is rolled back."""
        with self._guard:
            self._is_closed = True
            opened, self._opened, self._idle = self._opened, [], []
        for connection in opened:
            connection.close()

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """Give one consistent view, unaffected by what is written meanwhile.

        Raises:
            ReplicaDamagedError: The file is damaged.
            UnavailableError: It cannot be read now.
        """
        with translated(), self._connection() as connection:
            connection.execute("BEGIN")
            yield Reading(connection)

    @contextmanager
    def writing(self) -> "Iterator[Writing]":
        """Give a transaction, which commits at the end, or changes nothing if it raises.

        Durable once it returns. Waits for another one to end, at most a minute.

        Raises:
            ReplicaDamagedError: The file is damaged.
            UnavailableError: It cannot be written now.
        """
        # Here, since a look-up does not take numpy, which takes longer than the look-up does.
        from hashshare.replica.writing import Writing

        with translated(), self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield Writing(connection)
            connection.commit()
            # From here on a failure must not be reported: the transaction is durable.
            self._shorten_wal(connection)

    @contextmanager
    def filling(self) -> "Iterator[Writing]":
        """Give a transaction as ``writing`` does, for whole lists.

        While the replica has no list, and nobody else has the file open, its pages are written
        once, in their place, instead of to the WAL first: half of the time of a first pull. Those
        who read then wait until the end; there is nothing to be read yet.

        Raises:
            ReplicaDamagedError: The file is damaged.
            UnavailableError: It cannot be written now.
        """
        with translated(), self._connection() as connection:
            direct = not connection.execute(SELECT_LISTS).fetchall() and self._leave_wal(connection)
        try:
            with self.writing() as writing:
                yield writing
        finally:
            if direct:
                self._return_to_wal()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that is outside of a transaction, and end what it was used for."""
        connection = self._take()
        try:
            yield connection
        finally:
            try:
                # Does nothing after a commit.
                connection.rollback()
            except sqlite3.Error:
                # Of a transaction that cannot be ended nothing becomes durable: it goes with
                # its connection.
                connection.close()
            else:
                self._give_back(connection)

    def _take(self) -> sqlite3.Connection:
        with self._guard:
            if self._is_closed:
                raise UnavailableError("the replica is closed")
            if self._idle:
                return self._idle.pop()
        connection = self._connect()
        with self._guard:
            self._opened.append(connection)
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._guard:
            if not self._is_closed:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self) -> sqlite3.Connection:
        if not self._readonly:
            # What members must not show to others, nor to others on their own machine.
            self.path.touch(mode=0o600)
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={'ro' if self._readonly else 'rw'}",
            uri=True,
            isolation_level=None,
            timeout=BUSY_SECONDS,
            # One thread after the other uses it.
            check_same_thread=False,
        )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if not _is_prepared(connection):
            if self._readonly:
                raise UnavailableError("there is no replica yet")
            # One at a time: SQLite does not wait for those who change to WAL at once.
            with _locked(self.path.parent):
                if not _is_prepared(connection):
                    _make_tables(connection)
        for row in connection.execute(SELECT_LISTS):
            to_state(row)
        if not self._readonly and connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            # One that was filled when its process was killed.
            _enter_wal(connection)

    def _leave_wal(self, connection: sqlite3.Connection) -> bool:
        """Let the next transaction write in place; False if somebody else has the file open.

        Crash-safe as before: SQLite keeps what it overwrites in a journal until the commit.
        """
        with self._guard:
            idle, self._idle = self._idle, []
            self._opened = [one for one in self._opened if one not in idle]
        for other in idle:
            other.close()
        try:
            found = connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
        except sqlite3.OperationalError:
            return False
        return bool(found == "delete")

    def _return_to_wal(self) -> None:
        # The transaction is durable, or failed for its own reason, which must be seen.
        with suppress(UnavailableError), translated(), self._connection() as connection:
            _enter_wal(connection)

    def _shorten_wal(self, connection: sqlite3.Connection) -> None:
        """Give the space back that a long transaction took, unless a reader still needs it."""
        wal = self.path.with_name(self.path.name + "-wal")
        if not wal.exists() or wal.stat().st_size < LONG_WAL_BYTES:
            return
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep out others, threads and processes, who do the same for a file of this folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_prepared(connection: sqlite3.Connection) -> bool:
    """Return whether the tables are there.

    Raises:
        ReplicaDamagedError: There are others.
    """
    # In one transaction: tables that another process makes meanwhile are not somebody else's.
    connection.execute("BEGIN")
    try:
        found = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    finally:
        connection.rollback()
    if (found, version) == (APPLICATION_ID, SCHEMA_VERSION):
        return True
    if tables:
        raise ReplicaDamagedError("the file is no replica of this release")
    return False


def _enter_wal(connection: sqlite3.Connection) -> None:
    # Somebody who reads keeps it from happening: it is done when the file is opened next.
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode = WAL").fetchall()


def _make_tables(connection: sqlite3.Connection) -> None:
    # Before anything is in the file; one that was made with other pages keeps them.
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA journal_mode = WAL")
    # In one transaction: a crash leaves all of it or nothing.
    connection.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.commit()

"""The tables of a replica, what is read from them, and what SQLite's errors become."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from hashshare.domain.buckets import EMPTY_BUCKET
from hashshare.domain.hashes import HashAlgorithm
from hashshare.errors import NotFoundError, ReplicaDamagedError, UnavailableError

MAX_BUCKETS: Final = 1 << 20

# A bucket's id is its list's number times 2^20, plus its index. An empty bucket has no row.
SCHEMA: Final = (
    """
    CREATE TABLE list (
        list_no   INTEGER PRIMARY KEY,
        name      TEXT    NOT NULL UNIQUE,
        algorithm TEXT    NOT NULL,
        version   INTEGER NOT NULL,
        bits      INTEGER NOT NULL,
        count     INTEGER NOT NULL,
        root      BLOB    NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE bucket (
        bucket_id INTEGER PRIMARY KEY,
        data      BLOB NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE tile (
        list_no    INTEGER NOT NULL,
        level      INTEGER NOT NULL,
        tile_index INTEGER NOT NULL,
        hashes     BLOB    NOT NULL,
        PRIMARY KEY (list_no, level, tile_index)
    ) STRICT
    """,
    """
    CREATE TABLE attributes (
        tag        BLOB NOT NULL PRIMARY KEY,
        attributes BLOB NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE state (
        name  TEXT NOT NULL PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)

SELECT_LIST: Final = """
    SELECT list_no, name, algorithm, version, bits, count, root FROM list WHERE name = ?
"""
SELECT_LISTS: Final = """
    SELECT list_no, name, algorithm, version, bits, count, root FROM list ORDER BY name
"""
SELECT_BUCKET: Final = "SELECT data FROM bucket WHERE bucket_id = ?"
SELECT_BUCKETS: Final = "SELECT bucket_id, data FROM bucket WHERE bucket_id >= ? AND bucket_id < ?"

_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

ListRow = tuple[int, str, str, int, int, int, bytes]


@dataclass(frozen=True, slots=True)
class ListState:
    """One list of a replica.

    Attributes:
        list_no: Of this file alone.
        name: ``csam/confirmed/sha256``.
        algorithm: Of its hashes.
        version: Of its hash set.
        bits: It has 2**bits buckets.
        count: Entries.
        root: 32 bytes; equal to the signed one.
    """

    list_no: int
    name: str
    algorithm: HashAlgorithm
    version: int
    bits: int
    count: int
    root: bytes

    @property
    def buckets(self) -> int:
        """How many buckets it has, empty ones too."""
        return 1 << self.bits

    def bucket_id(self, index: int) -> int:
        """Return the id under which the bucket at ``index`` is stored."""
        return self.list_no * MAX_BUCKETS + index


@contextmanager
def translated() -> Iterator[None]:
    """Turn SQLite's errors into ours.

    Raises:
        ReplicaDamagedError: The file is damaged.
        UnavailableError: It is locked, full, closed, or cannot be opened.
    """
    try:
        yield
    except sqlite3.IntegrityError:
        raise  # Our mistake, and neither the file's nor the caller's.
    except sqlite3.Error as error:
        if _tells_damage(error):
            raise ReplicaDamagedError("the replica's file is damaged") from error
        raise UnavailableError(f"the replica cannot be used now: {error}") from error


def _tells_damage(error: sqlite3.Error) -> bool:
    # Only these, since a damaged replica may be deleted: not a full disk, not a closed one.
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # The one that Python raises by itself: text that is not UTF-8.
        return isinstance(error, sqlite3.OperationalError)
    return code & 0xFF in _DAMAGE


def find_list(connection: sqlite3.Connection, name: str) -> ListState | None:
    """Return the list of that name, None if the replica has none."""
    row = connection.execute(SELECT_LIST, (name,)).fetchone()
    return None if row is None else to_state(row)


def read_list(connection: sqlite3.Connection, name: str) -> ListState:
    """Return the list of that name.

    Raises:
        NotFoundError: The replica has none.
    """
    state = find_list(connection, name)
    if state is None:
        raise NotFoundError(f"this replica has no list {name!r:.160}")
    return state


def to_state(row: ListRow) -> ListState:
    """Return the list that a row of the table holds.

    Raises:
        ReplicaDamagedError: It holds what this code never writes.
    """
    list_no, name, algorithm, version, bits, count, root = row
    if algorithm not in _ALGORITHMS or not 0 <= bits <= 20:
        raise ReplicaDamagedError("a list of the replica is damaged")
    return ListState(list_no, name, HashAlgorithm(algorithm), version, bits, count, root)


_ALGORITHMS: Final = frozenset(map(str, HashAlgorithm))


def read_bucket(connection: sqlite3.Connection, state: ListState, index: int) -> bytes:
    """Return the bytes of one bucket, as they are in the file."""
    row = connection.execute(SELECT_BUCKET, (state.bucket_id(index),)).fetchone()
    data: bytes = EMPTY_BUCKET if row is None else row[0]
    return data


def read_buckets(
    connection: sqlite3.Connection, state: ListState, first: int, end: int
) -> list[bytes]:
    """Return the bytes of the buckets from ``first`` to ``end``, not included."""
    buckets = [EMPTY_BUCKET] * (end - first)
    offset = state.bucket_id(first)
    for bucket_id, data in connection.execute(SELECT_BUCKETS, (offset, state.bucket_id(end))):
        buckets[bucket_id - offset] = data
    return buckets

"""The state of an audit: the fold's opinions in a file, so that its memory is bounded.

The rule is ``domain.fold``, over as many hashes at a time as one chunk of records touches.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from hashshare.domain.fold import Disregarded, Fold, Opinion, Said, said_of
from hashshare.domain.hashes import HashAlgorithm, HashValue
from hashshare.domain.names import MemberId
from hashshare.domain.records import AssertRecord, Record, WithdrawRecord
from hashshare.errors import ReplicaDamagedError, UnavailableError

CHUNK: Final = 8192

SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS opinion (
        -- Hash set and algorithm, then the hash as lists are ordered.
        place    BLOB NOT NULL PRIMARY KEY,
        value    BLOB NOT NULL,
        opinions BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS record (
        hash_set INTEGER NOT NULL,
        member   TEXT    NOT NULL,
        record   TEXT    NOT NULL,
        place    BLOB    NOT NULL,
        PRIMARY KEY (hash_set, member, record, place)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS touched (
        place BLOB NOT NULL PRIMARY KEY
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS state (
        name  TEXT NOT NULL PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT;
"""
SELECT_STATE: Final = "SELECT value FROM state WHERE name = ?"
REPLACE_STATE: Final = "INSERT OR REPLACE INTO state (name, value) VALUES (?, ?)"
SELECT_OPINION: Final = "SELECT value, opinions FROM opinion WHERE place = ?"
REPLACE_OPINION: Final = "INSERT OR REPLACE INTO opinion (place, value, opinions) VALUES (?, ?, ?)"
SELECT_RECORD: Final = """
    SELECT o.place, o.value, o.opinions FROM record AS r JOIN opinion AS o USING (place)
     WHERE r.hash_set = ? AND r.member = ? AND r.record = ?
"""
INSERT_RECORD: Final = """
    INSERT OR IGNORE INTO record (hash_set, member, record, place) VALUES (?, ?, ?, ?)
"""
INSERT_TOUCHED: Final = "INSERT OR IGNORE INTO touched (place) VALUES (?)"
DELETE_TOUCHED: Final = "DELETE FROM touched WHERE place >= ? AND place < ?"
SELECT_ALL: Final = """
    SELECT value, opinions FROM opinion WHERE place >= ? AND place < ? ORDER BY place
"""
SELECT_TOUCHED: Final = """
    SELECT o.value, o.opinions FROM touched AS t JOIN opinion AS o USING (place)
     WHERE t.place >= ? AND t.place < ? ORDER BY t.place
"""

_Opinions = dict[str, Opinion]
_ALGORITHMS: Final = sorted(HashAlgorithm)
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Opinions).decode


class OpinionFile:
    """What every member has in force on every hash, by hash set. For one thread at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> "OpinionFile":
        """Open the file at ``path``, and make it if there is none.

        Raises:
            ReplicaDamagedError: It is damaged; delete it, and audit from the beginning.
            UnavailableError: It cannot be used now.
        """
        with _translated():
            path.touch(mode=0o600)
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA cache_size = -65536")
            connection.executescript(SCHEMA)
        return cls(connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all that is done in the block, or nothing; the file holds it once it is left."""
        with _translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def get_state(self, name: str) -> bytes | None:
        """Return what ``put_state`` wrote."""
        row = self._connection.execute(SELECT_STATE, (name,)).fetchone()
        return None if row is None else row[0]

    def put_state(self, name: str, value: bytes) -> None:
        """Remember ``value``."""
        self._connection.execute(REPLACE_STATE, (name, value))

    def apply(
        self,
        hash_set: int,
        member: MemberId,
        records: Iterable[Record],
        *,
        log_index: int,
        alone: bool = True,
    ) -> None:
        """Take in one submission; its hashes are touched until ``forget_touched``."""
        chunk: list[Record] = []
        for record in records:
            chunk.append(record)
            if len(chunk) == CHUNK:
                self._apply(hash_set, member, chunk, log_index, alone)
                chunk = []
        if chunk:
            self._apply(hash_set, member, chunk, log_index, alone)

    def said(
        self,
        hash_set: int,
        algorithm: HashAlgorithm,
        disregarded: Disregarded,
        *,
        touched_only: bool,
    ) -> Iterator[tuple[bytes, Said]]:
        """Yield the hashes of one algorithm in the order of lists, with what counts of them."""
        first = _prefix(hash_set, algorithm)
        after = (int.from_bytes(first, "big") + 1).to_bytes(len(first), "big")
        query = SELECT_TOUCHED if touched_only else SELECT_ALL
        with _translated():
            for value, opinions in self._connection.execute(query, (first, after)):
                decoded = {MemberId(m): o for m, o in _decode(opinions).items()}
                yield value, said_of(decoded, disregarded)

    def forget_touched(self, hash_set: int) -> None:
        """Begin anew to notice which hashes of a hash set submissions touch."""
        span = (hash_set.to_bytes(2, "big"), (hash_set + 1).to_bytes(2, "big"))
        self._connection.execute(DELETE_TOUCHED, span)

    def _apply(
        self, hash_set: int, member: MemberId, records: list[Record], log_index: int, alone: bool
    ) -> None:
        fold = Fold()
        for record in records:
            self._load(fold, hash_set, member, record)
        fold.apply(member, records, log_index=log_index, alone=alone)
        rows = [
            (_place(hash_set, value), value.value, _encode(opinions))
            for value, opinions in fold.opinions.items()
        ]
        # In the order of the table, which is then written from its beginning to its end.
        rows.sort()
        self._connection.executemany(REPLACE_OPINION, rows)
        self._connection.executemany(INSERT_TOUCHED, ((row[0],) for row in rows))
        self._connection.executemany(INSERT_RECORD, _named(hash_set, member, records))

    def _load(self, fold: Fold, hash_set: int, member: MemberId, record: Record) -> None:
        """Bring into ``fold`` what is known of the hashes that ``record`` is about."""
        if isinstance(record, WithdrawRecord) and record.record:
            found = self._connection.execute(SELECT_RECORD, (hash_set, member, record.record))
            for place, value, opinions in found:
                key = HashValue(_ALGORITHMS[place[2]], value)
                if key not in fold.opinions:
                    _put(fold, key, opinions)
            return
        for algorithm, raw in record.hashes.items():
            key = HashValue(algorithm, raw)
            if key in fold.opinions:
                continue
            row = self._connection.execute(SELECT_OPINION, (_place(hash_set, key),)).fetchone()
            if row is not None:
                _put(fold, key, row[1])


def _put(fold: Fold, key: HashValue, opinions: bytes) -> None:
    fold.opinions[key].update({MemberId(m): o for m, o in _decode(opinions).items()})


def _named(
    hash_set: int, member: MemberId, records: Iterable[Record]
) -> Iterator[tuple[int, str, str, bytes]]:
    for record in records:
        if isinstance(record, AssertRecord) and record.record:
            for algorithm, raw in record.hashes.items():
                place = _place(hash_set, HashValue(algorithm, raw))
                yield hash_set, member, record.record, place


def _prefix(hash_set: int, algorithm: HashAlgorithm) -> bytes:
    return hash_set.to_bytes(2, "big") + bytes([_ALGORITHMS.index(algorithm)])


def _place(hash_set: int, value: HashValue) -> bytes:
    return _prefix(hash_set, value.algorithm) + value.algorithm.key(value.value)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise UnavailableError(f"the audit's file cannot be used now: {error}") from error
    except sqlite3.DatabaseError as error:
        raise ReplicaDamagedError("the audit's file is damaged; delete it") from error

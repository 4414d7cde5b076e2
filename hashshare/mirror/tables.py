"""The tables of a mirror's archive, and what SQLite's errors become."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from hashshare.errors import ReplicaDamagedError, UnavailableError

# Leaves from the confirmed size on were downloaded, and are not believed yet. Nodes of level 0
# are not kept: they are the hashes of the leaves.
SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS leaf (
        log_index INTEGER NOT NULL PRIMARY KEY,
        entry     BLOB    NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS node (
        level      INTEGER NOT NULL,
        node_index INTEGER NOT NULL,
        hash       BLOB    NOT NULL,
        PRIMARY KEY (level, node_index)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS document (
        sha256   TEXT NOT NULL PRIMARY KEY,
        document BLOB NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS registry (
        version   INTEGER NOT NULL PRIMARY KEY,
        log_index INTEGER NOT NULL,
        sha256    TEXT    NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS publication (
        hash_set  TEXT    NOT NULL,
        version   INTEGER NOT NULL,
        log_index INTEGER NOT NULL,
        PRIMARY KEY (hash_set, version)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS batch (
        sha256    TEXT    NOT NULL,
        member    TEXT    NOT NULL,
        log_index INTEGER NOT NULL,
        size      INTEGER NOT NULL,
        held      INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (sha256, member)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS redaction (
        sha256 TEXT NOT NULL PRIMARY KEY
    ) STRICT;
    CREATE TABLE IF NOT EXISTS snapshot (
        list    TEXT    NOT NULL,
        version INTEGER NOT NULL,
        count   INTEGER NOT NULL,
        size    INTEGER NOT NULL,
        sha256  TEXT    NOT NULL,
        PRIMARY KEY (list, version)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS state (
        name  TEXT NOT NULL PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
"""

SELECT_STATE: Final = "SELECT value FROM state WHERE name = ?"
PUT_STATE: Final = "INSERT OR REPLACE INTO state (name, value) VALUES (?, ?)"

SELECT_LEAVES: Final = """
    SELECT entry FROM leaf WHERE log_index >= ? AND log_index < ? ORDER BY log_index
"""
PUT_LEAF: Final = "INSERT OR REPLACE INTO leaf (log_index, entry) VALUES (?, ?)"
DELETE_LEAVES: Final = "DELETE FROM leaf WHERE log_index >= ?"
SELECT_END: Final = "SELECT coalesce(max(log_index) + 1, 0) FROM leaf"

SELECT_NODES: Final = """
    SELECT hash FROM node WHERE level = ? AND node_index >= ? AND node_index < ?
     ORDER BY node_index
"""
INSERT_NODE: Final = "INSERT INTO node (level, node_index, hash) VALUES (?, ?, ?)"

SELECT_DOCUMENT: Final = "SELECT document FROM document WHERE sha256 = ?"
PUT_DOCUMENT: Final = "INSERT OR IGNORE INTO document (sha256, document) VALUES (?, ?)"
INSERT_REGISTRY: Final = "INSERT INTO registry (version, log_index, sha256) VALUES (?, ?, ?)"
SELECT_REGISTRY: Final = """
    SELECT log_index, document FROM registry JOIN document USING (sha256)
     WHERE version = ? AND log_index < ?
"""
SELECT_LAST_REGISTRY: Final = "SELECT max(version) FROM registry WHERE log_index < ?"

INSERT_PUBLICATION: Final = """
    INSERT INTO publication (hash_set, version, log_index) VALUES (?, ?, ?)
"""
SELECT_PUBLICATION: Final = """
    SELECT log_index FROM publication WHERE hash_set = ? AND version = ? AND log_index < ?
"""
SELECT_LAST_PUBLICATION: Final = """
    SELECT coalesce(max(version), 0) FROM publication WHERE hash_set = ? AND log_index < ?
"""

INSERT_BATCH: Final = """
    INSERT OR IGNORE INTO batch (sha256, member, log_index, size) VALUES (?, ?, ?, ?)
"""
SELECT_OWNERS: Final = "SELECT member FROM batch WHERE sha256 = ?"
SELECT_MISSING: Final = """
    SELECT DISTINCT sha256, size FROM batch
     WHERE held = 0 AND (? OR member = ?) AND sha256 NOT IN (SELECT sha256 FROM redaction)
     ORDER BY log_index
"""
HOLD_BATCH: Final = "UPDATE batch SET held = 1 WHERE sha256 = ?"
INSERT_REDACTION: Final = "INSERT OR IGNORE INTO redaction (sha256) VALUES (?)"
SELECT_REDACTIONS: Final = "SELECT sha256 FROM redaction"

PUT_SNAPSHOT: Final = """
    INSERT OR REPLACE INTO snapshot (list, version, count, size, sha256) VALUES (?, ?, ?, ?, ?)
"""
SELECT_SNAPSHOTS: Final = """
    SELECT version, count, size, sha256 FROM snapshot WHERE list = ? ORDER BY version DESC
"""
DELETE_SNAPSHOT: Final = "DELETE FROM snapshot WHERE list = ? AND version = ?"


@contextmanager
def translated() -> Iterator[None]:
    """Turn SQLite's errors into ours.

    Raises:
        ReplicaDamagedError: The file is damaged.
        UnavailableError: It cannot be used now.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        raise UnavailableError(f"the mirror's archive cannot be used now: {error}") from error
    except sqlite3.DatabaseError as error:
        raise ReplicaDamagedError("the mirror's archive (archive.sqlite) is damaged") from error

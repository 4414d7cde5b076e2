"""Snapshots: which lists need one, and which blobs hold them."""

from dataclasses import dataclass
from typing import Final

from hashshare.domain.changes import Version
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.names import HashSetId, ListName, ViewId
from hashshare.storage.database import Connection
from hashshare.storage.publications import key_of

READ_DUE_SNAPSHOTS: Final = """
    -- $1 share, $2 least number of changes
    SELECT hash_set_id, view, algorithm, latest.version
      FROM hash_set
           CROSS JOIN LATERAL (
               SELECT max(version) AS version
                 FROM publication
                WHERE publication.hash_set_no = hash_set.hash_set_no
           ) AS latest
           JOIN list_state USING (hash_set_no, version)
           LEFT JOIN LATERAL (
               SELECT max(version) AS version
                 FROM snapshot
                WHERE (snapshot.hash_set_no, snapshot.view, snapshot.algorithm)
                      = (list_state.hash_set_no, list_state.view, list_state.algorithm)
           ) AS previous ON true
           LEFT JOIN LATERAL (
               SELECT sum(step.changes) AS changes
                 FROM list_state AS step
                WHERE (step.hash_set_no, step.view, step.algorithm)
                      = (list_state.hash_set_no, list_state.view, list_state.algorithm)
                  AND step.version > previous.version
           ) AS since ON true
     WHERE listed
       AND (previous.version IS NULL
            OR since.changes > greatest($1::float8 * count, $2::float8))
"""

READ_SNAPSHOT: Final = """
    -- $1 hash_set_id, $2 view, $3 algorithm, $4 version, null for the latest
    SELECT version, sha256, size, count
      FROM snapshot JOIN hash_set USING (hash_set_no)
     WHERE hash_set_id = $1 AND view = $2 AND algorithm = $3
       AND ($4::bigint IS NULL OR version = $4)
     ORDER BY version DESC
     LIMIT 1
"""

INSERT_SNAPSHOT: Final = """
    -- $1 hash_set_id, $2 view, $3 algorithm, $4 version, $5 sha256, $6 size, $7 count
    INSERT INTO snapshot (hash_set_no, view, algorithm, version, sha256, size, count)
    SELECT hash_set_no, $2, $3, $4, $5, $6, $7
      FROM hash_set
     WHERE hash_set_id = $1
        ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A Parquet file of a list, kept as a blob.

    Attributes:
        version: Of the list.
        sha256: Digest of the file, lower-case hex; names the blob.
        size: Of the file, in bytes.
        count: Entries.
    """

    version: Version
    sha256: str
    size: int
    count: int


@dataclass(frozen=True, slots=True)
class SnapshotRepository:
    """Reads and writes snapshots on one connection."""

    connection: Connection

    async def read_due(self, *, share: float, min_changes: int) -> dict[ListName, Version]:
        """Return the lists without a snapshot, or with one from which they differ by much.

        With each its latest version.

        Args:
            share: More than this share of the entries has changed.
            min_changes: And more than this number.
        """
        return {
            ListName(
                HashSetId(row["hash_set_id"]), ViewId(row["view"]), HashAlgorithm(row["algorithm"])
            ): row["version"]
            for row in await self.connection.fetch(READ_DUE_SNAPSHOTS, share, min_changes)
        }

    async def read(self, name: ListName, version: Version | None = None) -> SnapshotRow | None:
        """Return the latest snapshot of a list, or that of one version; None if there is none."""
        row = await self.connection.fetchrow(READ_SNAPSHOT, *key_of(name), version)
        if row is None:
            return None
        return SnapshotRow(row["version"], row["sha256"].hex(), row["size"], row["count"])

    async def append(self, name: ListName, row: SnapshotRow) -> None:
        """Record a snapshot whose blob is stored; a second one of the same version is ignored."""
        await self.connection.execute(
            INSERT_SNAPSHOT,
            *key_of(name),
            row.version,
            bytes.fromhex(row.sha256),
            row.size,
            row.count,
        )

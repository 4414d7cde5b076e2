"""Publications, the state of each list at each version, and the changes in between."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from asyncpg.exceptions import UniqueViolationError

from hashshare.domain.changes import Version
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.names import HashSetId, ListName, ViewId
from hashshare.errors import ConflictError
from hashshare.storage.changes import PackedRun
from hashshare.storage.database import Connection, Record, verify_in_transaction

READ_STATE: Final = """
    -- Of every hash set: where it stands, and whether a submission waits.
    SELECT hash_set_no, hash_set_id, version, log_index, log_size, registry_version, statement_id,
           EXISTS (
               SELECT FROM submission
                WHERE submission.hash_set_no = hash_set.hash_set_no
                  AND submission.log_index >= coalesce(log_size, 0)
           ) AS submitted
      FROM hash_set
           LEFT JOIN LATERAL (
               SELECT version, log_index, log_size, registry_version, statement_id
                 FROM publication
                WHERE publication.hash_set_no = hash_set.hash_set_no
                ORDER BY version DESC
                LIMIT 1
           ) AS latest ON true
"""

READ_PUBLICATION: Final = """
    -- $1 hash_set_id, $2 version
    SELECT hash_set_no, hash_set_id, version, log_index, log_size, registry_version, statement_id
      FROM publication JOIN hash_set USING (hash_set_no)
     WHERE hash_set_id = $1 AND version = $2
"""

INSERT_PUBLICATION: Final = """
    -- $1 hash_set_no, $2 version, $3 log_index, $4 log_size, $5 registry_version, $6 statement_id
    INSERT INTO publication
           (hash_set_no, version, log_index, log_size, registry_version, statement_id)
    VALUES ($1, $2, $3, $4, $5, $6)
"""

READ_LATEST_LISTS: Final = """
    -- $1 hash_set_no
    SELECT DISTINCT ON (view, algorithm)
           view, algorithm, version, listed, count, bits, root, changes
      FROM (
        SELECT view, algorithm, version, listed, count, bits, root, changes
          FROM list_state
         WHERE hash_set_no = $1
           AND version = (SELECT max(version) FROM publication WHERE hash_set_no = $1)
         UNION ALL
        SELECT view, algorithm, version, listed, count, bits, root, changes
          FROM list_state
         WHERE hash_set_no = $1 AND NOT listed
      ) AS state
     ORDER BY view, algorithm, version DESC
"""

READ_LISTS_AT: Final = """
    -- $1 hash_set_id, $2 view, $3 algorithm, $4 versions
    SELECT view, algorithm, version, listed, count, bits, root, changes
      FROM list_state JOIN hash_set USING (hash_set_no)
     WHERE hash_set_id = $1 AND view = $2 AND algorithm = $3 AND version = ANY ($4::bigint[])
"""

COUNT_CHANGES: Final = """
    -- $1 hash_set_id, $2 view, $3 algorithm, $4 base, $5 target
    SELECT coalesce(sum(changes), 0)::bigint
      FROM list_state JOIN hash_set USING (hash_set_no)
     WHERE hash_set_id = $1 AND view = $2 AND algorithm = $3 AND version > $4 AND version <= $5
"""

READ_STEPS: Final = """
    -- $1 hash_set_id, $2 view, $3 algorithm, $4 base
    SELECT view, algorithm, version, listed, count, bits, root, changes
      FROM list_state JOIN hash_set USING (hash_set_no)
     WHERE hash_set_id = $1 AND view = $2 AND algorithm = $3 AND version > $4 AND changes > 0
     ORDER BY version
"""

INSERT_LIST: Final = """
    -- $1 hash_set_no, $2 view, $3 algorithm, $4 version, $5 listed, $6 count, $7 bits, $8 root,
    -- $9 changes
    INSERT INTO list_state
           (hash_set_no, view, algorithm, version, listed, count, bits, root, changes)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""

INSERT_RUN: Final = """
    -- $1 hash_set_no, $2 view, $3 algorithm, $4 version, $5 part, $6 first_key, $7 last_key,
    -- $8 changes
    INSERT INTO change_run
           (hash_set_no, view, algorithm, version, part, first_key, last_key, changes)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""

READ_RUNS: Final = """
    -- $1 hash_set_id, $2 view, $3 algorithm, $4 base, $5 target,
    -- $6 from this key on or null, $7 before this key or null
    SELECT version, part, changes
      FROM change_run JOIN hash_set USING (hash_set_no)
     WHERE hash_set_id = $1 AND view = $2 AND algorithm = $3 AND version > $4 AND version <= $5
       AND ($6::bytea IS NULL OR last_key >= $6)
       AND ($7::bytea IS NULL OR first_key < $7)
     ORDER BY version, part
"""


@dataclass(frozen=True, slots=True)
class PublicationRow:
    """A publication as the database has it.

    Attributes:
        hash_set_no: Of its hash set.
        hash_set: The same by name.
        version: Its version.
        log_index: Where its statement is in the log.
        log_size: How much of the log it covers.
        registry_version: The registry that it follows.
        statement_id: Lower-case hex.
    """

    hash_set_no: int
    hash_set: HashSetId
    version: Version
    log_index: int
    log_size: int
    registry_version: int
    statement_id: str


@dataclass(frozen=True, slots=True)
class HashSetState:
    """Where a hash set stands.

    Attributes:
        hash_set_no: Its number.
        hash_set: Its id.
        latest: Its latest publication, None before the first.
        submitted: Whether there are submissions that ``latest`` does not cover.
    """

    hash_set_no: int
    hash_set: HashSetId
    latest: PublicationRow | None
    submitted: bool


@dataclass(frozen=True, slots=True)
class ListState:
    """A list at one version.

    Attributes:
        view: Of its hash set.
        algorithm: Of its hashes.
        version: The version.
        listed: Whether it was published, or is of a view that was deleted in this version.
        count: Entries.
        bits: Buckets are ``2 ** bits``.
        root: Of its buckets, 32 bytes.
        changes: From the version before.
    """

    view: ViewId
    algorithm: HashAlgorithm
    version: Version
    listed: bool
    count: int
    bits: int
    root: bytes
    changes: int


@dataclass(frozen=True, slots=True)
class PublicationRepository:
    """Reads and writes publications on one connection, and so in one transaction at most."""

    connection: Connection

    async def read_states(self) -> list[HashSetState]:
        """Return where every hash set stands."""
        return [_to_hash_set_state(row) for row in await self.connection.fetch(READ_STATE)]

    async def read(self, hash_set: HashSetId, version: Version) -> PublicationRow | None:
        """Return one publication, None when there is none of that version."""
        row = await self.connection.fetchrow(READ_PUBLICATION, hash_set, version)
        return _to_publication(row) if row else None

    async def append(self, row: PublicationRow) -> None:
        """Record a publication, whose lists and runs are there already. Call it in a transaction.

        Raises:
            ConflictError: Another publisher made this version.
        """
        verify_in_transaction(self.connection)
        try:
            await self.connection.execute(
                INSERT_PUBLICATION,
                row.hash_set_no,
                row.version,
                row.log_index,
                row.log_size,
                row.registry_version,
                bytes.fromhex(row.statement_id),
            )
        except UniqueViolationError as error:
            raise _conflict(row.hash_set, row.version) from error

    async def read_latest_lists(self, hash_set_no: int) -> list[ListState]:
        """Return the state of each list at the latest version, and of those no longer listed."""
        rows = await self.connection.fetch(READ_LATEST_LISTS, hash_set_no)
        return [_to_list_state(row) for row in rows]

    async def read_lists_at(
        self, name: ListName, versions: Sequence[Version]
    ) -> dict[Version, ListState]:
        """Return the state of one list at each of these versions at which it has one."""
        rows = await self.connection.fetch(READ_LISTS_AT, *key_of(name), versions)
        return {state.version: state for state in map(_to_list_state, rows)}

    async def count_changes(self, name: ListName, *, base: Version, target: Version) -> int:
        """Return how many changes the versions after ``base`` up to ``target`` have together."""
        number: int = await self.connection.fetchval(COUNT_CHANGES, *key_of(name), base, target)
        return number

    async def append_list(self, hash_set_no: int, state: ListState) -> None:
        """Record the state of a list at a new version. Call it in a transaction.

        Raises:
            ConflictError: Another publisher made this version.
        """
        verify_in_transaction(self.connection)
        try:
            await self.connection.execute(
                INSERT_LIST,
                hash_set_no,
                state.view,
                state.algorithm,
                state.version,
                state.listed,
                state.count,
                state.bits,
                state.root,
                state.changes,
            )
        except UniqueViolationError as error:
            raise _conflict(state.view, state.version) from error

    async def append_run(
        self, hash_set_no: int, name: ListName, version: Version, part: int, run: PackedRun
    ) -> None:
        """Record changes that a new version makes in a list. Call it in a transaction.

        Args:
            hash_set_no: Of the list.
            name: The list.
            version: The new version.
            part: Counts the runs of this list and version, from 0.
            run: Comes, in key order, after all of the parts before.

        Raises:
            ConflictError: Another publisher made this version.
        """
        verify_in_transaction(self.connection)
        place = (hash_set_no, name.view, str(name.algorithm), version, part)
        try:
            await self.connection.execute(INSERT_RUN, *place, run.first_key, run.last_key, run.data)
        except UniqueViolationError as error:
            raise _conflict(name.hash_set, version) from error

    async def read_runs(
        self,
        name: ListName,
        *,
        base: Version,
        target: Version,
        first_key: bytes | None = None,
        before_key: bytes | None = None,
    ) -> list[tuple[Version, bytes]]:
        """Return packed changes of the versions after ``base`` up to ``target``, in order.

        Args:
            name: The list.
            base: The version before the first one.
            target: The last one.
            first_key: Only runs with keys that are not below this, and perhaps some below.
            before_key: Only runs with keys below this, and perhaps some that are not.
        """
        rows = await self.connection.fetch(
            READ_RUNS, *key_of(name), base, target, first_key, before_key
        )
        return [(Version(row["version"]), row["changes"]) for row in rows]

    async def read_steps(self, name: ListName, *, base: Version) -> list[ListState]:
        """Return the states of a list after ``base`` that changed it, oldest first."""
        return [
            _to_list_state(row)
            for row in await self.connection.fetch(READ_STEPS, *key_of(name), base)
        ]


def key_of(name: ListName) -> tuple[str, str, str]:
    """Return the columns that a list is found by."""
    return name.hash_set, name.view, str(name.algorithm)


def _conflict(what: str, version: Version) -> ConflictError:
    return ConflictError(f"another publisher made version {version} of {what!r:.70}")


def _to_publication(row: Record) -> PublicationRow:
    return PublicationRow(
        hash_set_no=row["hash_set_no"],
        hash_set=HashSetId(row["hash_set_id"]),
        version=Version(row["version"]),
        log_index=row["log_index"],
        log_size=row["log_size"],
        registry_version=row["registry_version"],
        statement_id=row["statement_id"].hex(),
    )


def _to_hash_set_state(row: Record) -> HashSetState:
    return HashSetState(
        hash_set_no=row["hash_set_no"],
        hash_set=HashSetId(row["hash_set_id"]),
        latest=_to_publication(row) if row["version"] is not None else None,
        submitted=row["submitted"],
    )


def _to_list_state(row: Record) -> ListState:
    return ListState(
        view=ViewId(row["view"]),
        algorithm=HashAlgorithm(row["algorithm"]),
        version=Version(row["version"]),
        listed=row["listed"],
        count=row["count"],
        bits=row["bits"],
        root=row["root"],
        changes=row["changes"],
    )

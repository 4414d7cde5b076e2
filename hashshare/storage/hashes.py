"""The dictionary of a hash set: each hash once, with a dense id."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from hashshare.domain.columns import BatchColumns, Bytes2D, Numbers, first_of_equals
from hashshare.domain.hashes import HashAlgorithm
from hashshare.storage.copying import Constant, Field, Fixed, constant_int4, encode_rows, to_int4

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashshare.storage.database import Connection

# Kept for as long as the connection is; "IF NOT EXISTS" makes them at its first use.
CREATE_STAGED_HASH: Final = """
    CREATE TEMPORARY TABLE IF NOT EXISTS staged_hash (
        position  integer NOT NULL,
        algorithm text    COLLATE "C" NOT NULL,
        value     bytea   NOT NULL
    ) ON COMMIT DELETE ROWS
"""
CREATE_STAGED_ASSERTION: Final = """
    CREATE TEMPORARY TABLE IF NOT EXISTS staged_assertion (
        position       integer NOT NULL,
        hash_id        integer NOT NULL,
        record         text    COLLATE "C" NOT NULL,
        classification text    COLLATE "C" NOT NULL,
        media          text    COLLATE "C",
        basis          text    COLLATE "C" NOT NULL
    ) ON COMMIT DELETE ROWS
"""

# Statistics lag behind a bulk import by minutes: indexes are to be used whatever they say. And
# a plan that was made when a table was empty must not be kept.
CONFIGURE: Final = """
    SELECT set_config('enable_seqscan', 'off', true),
           set_config('enable_bitmapscan', 'off', true),
           set_config('plan_cache_mode', 'force_custom_plan', true),
           set_config('client_min_messages', 'warning', true)
"""

SELECT_LAST_ID: Final = """
    -- $1 hash_set_no
    SELECT last_hash_id FROM hash_set WHERE hash_set_no = $1
"""

# Not FOR UPDATE, which would also stop the foreign keys of other transactions.
LOCK_LAST_ID: Final = """
    -- $1 hash_set_no
    SELECT last_hash_id FROM hash_set WHERE hash_set_no = $1 FOR NO KEY UPDATE
"""

UPDATE_LAST_ID: Final = """
    -- $1 hash_set_no, $2 last_hash_id
    UPDATE hash_set SET last_hash_id = $2 WHERE hash_set_no = $1
"""

SELECT_KNOWN: Final = """
    -- $1 hash_set_no
    -- OFFSET 0 keeps the look-up of each staged hash from being turned into a join, which at a
    -- million hashes against ten million is three times slower at its best.
    SELECT string_agg(int4send(position) || int4send(hash_id), ''::bytea)
      FROM staged_hash AS staged CROSS JOIN LATERAL (
           SELECT hash_id
             FROM hash
            WHERE hash_set_no = $1 AND value = staged.value AND algorithm = staged.algorithm
           OFFSET 0) AS known
"""

SELECT_ADDED: Final = """
    -- $1 hash_set_no, $2 only ids above this one
    SELECT algorithm, string_agg(int4send(hash_id) || value, ''::bytea) AS packed
      FROM hash
     WHERE hash_set_no = $1 AND hash_id > $2
     GROUP BY algorithm
"""


@dataclass(frozen=True, slots=True, eq=False)
class DistinctHashes:
    """The hashes of a batch, each once, and which of its records name them.

    The position of a hash counts over all columns.

    Attributes:
        columns: By algorithm; values ascending.
        positions: For each mention the position of the hash.
        records: For each mention the number of the record.
    """

    columns: tuple[tuple[HashAlgorithm, Bytes2D], ...]
    positions: Numbers
    records: Numbers

    def __len__(self) -> int:
        return sum(len(values) for _, values in self.columns)


def to_distinct(batch: BatchColumns) -> DistinctHashes:
    """Return the hashes of ``batch``, each once. Takes time for a million."""
    columns: list[tuple[HashAlgorithm, Bytes2D]] = []
    positions, records = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    begin = 0
    for column in batch.hashes:
        first = first_of_equals(column.values)
        values = column.values if first.all() else column.values[first]
        columns.append((column.algorithm, values))
        positions.append((np.cumsum(first, dtype=np.int32) + (begin - 1)).astype(np.int32))
        records.append(column.records)
        begin += len(values)
    return DistinctHashes(tuple(columns), np.concatenate(positions), np.concatenate(records))


@dataclass(frozen=True, slots=True)
class HashRepository:
    """Looks up and adds hashes on one connection, always in a transaction."""

    connection: "Connection"

    async def prepare(self) -> None:
        """Make the connection ready for the rest of the transaction."""
        await self.connection.fetchrow(CONFIGURE)
        await self.connection.execute(CREATE_STAGED_HASH)
        await self.connection.execute(CREATE_STAGED_ASSERTION)

    async def resolve(self, hash_set_no: int, hashes: DistinctHashes) -> tuple[Numbers, int]:
        """Return the id of each hash, 0 where it has none yet, and the horizon.

        The horizon is an id up to which nothing was missed: hashes are never removed, so
        that later only those above it have to be looked at. Takes no lock.
        """
        ids = np.zeros(len(hashes), dtype=np.int32)
        horizon: int = await self.connection.fetchval(SELECT_LAST_ID, hash_set_no)
        if not len(hashes):
            return ids, horizon
        begin = 0
        for algorithm, values in hashes.columns:
            await self._stage(algorithm, values, begin)
            begin += len(values)
        if horizon:
            packed = await self.connection.fetchval(SELECT_KNOWN, hash_set_no)
            pairs = np.frombuffer(packed or b"", dtype=">i4").reshape(-1, 2)
            ids[pairs[:, 0]] = pairs[:, 1]
        return ids, horizon

    async def add(
        self, hash_set_no: int, hashes: DistinctHashes, ids: Numbers, *, horizon: int
    ) -> int:
        """Give every hash that has none an id, and return how many were added.

        Locks the hash set until the end of the transaction, so that ids are dense.

        Args:
            hash_set_no: The hash set.
            hashes: What was resolved before, in this transaction.
            ids: What ``resolve`` gave; 0 is replaced.
            horizon: The same.
        """
        last: int = await self.connection.fetchval(LOCK_LAST_ID, hash_set_no)
        if last > horizon:
            await self._resolve_added(hash_set_no, hashes, ids, above=horizon)
        missing = np.flatnonzero(ids == 0)
        if not len(missing):
            return 0
        ids[missing] = np.arange(last + 1, last + 1 + len(missing), dtype=np.int32)
        begin = 0
        for algorithm, values in hashes.columns:
            end = begin + len(values)
            chosen = missing[(missing >= begin) & (missing < end)]
            # All new is the bulk import: no copy of the values then.
            added = values if len(chosen) == len(values) else values[chosen - begin]
            await self._insert(hash_set_no, ids[chosen], algorithm, added)
            begin = end
        await self.connection.execute(UPDATE_LAST_ID, hash_set_no, last + len(missing))
        return len(missing)

    async def _stage(self, algorithm: HashAlgorithm, values: Bytes2D, begin: int) -> None:
        fields: Sequence[Field] = (
            to_int4(np.arange(begin, begin + len(values))),
            Constant(algorithm.value.encode()),
            Fixed(values),
        )
        await self.connection.copy_to_table(
            "staged_hash", source=encode_rows(fields, len(values)), format="binary"
        )

    async def _resolve_added(
        self, hash_set_no: int, hashes: DistinctHashes, ids: Numbers, *, above: int
    ) -> None:
        """Set the ids of hashes that others have added meanwhile."""
        rows = await self.connection.fetch(SELECT_ADDED, hash_set_no, above)
        packed: dict[str, bytes] = {row["algorithm"]: row["packed"] for row in rows}
        begin = 0
        for algorithm, values in hashes.columns:
            if algorithm.value in packed:
                _match(values, packed[algorithm.value], ids[begin : begin + len(values)])
            begin += len(values)

    async def _insert(
        self, hash_set_no: int, ids: Numbers, algorithm: HashAlgorithm, values: Bytes2D
    ) -> None:
        if not len(ids):
            return
        fields: Sequence[Field] = (
            constant_int4(hash_set_no),
            to_int4(ids),
            Constant(algorithm.value.encode()),
            Fixed(values),
        )
        await self.connection.copy_to_table(
            "hash",
            source=encode_rows(fields, len(ids)),
            columns=["hash_set_no", "hash_id", "algorithm", "value"],
            format="binary",
        )


def _match(values: Bytes2D, packed: bytes, ids: Numbers) -> None:
    """Set ``ids`` of those of the sorted ``values`` that are among the packed (id, value)."""
    size = values.shape[1]
    added = np.frombuffer(packed, dtype=np.dtype([("hash_id", ">i4"), ("value", f"S{size}")]))
    # As numpy's byte strings, which sort as bytes do; they only disregard zeros at the end,
    # which makes no difference between strings of one length.
    sorted_values = np.ascontiguousarray(values).view(f"S{size}").ravel()
    places = np.searchsorted(sorted_values, added["value"])
    places[places == len(values)] = 0
    found = sorted_values[places] == added["value"]
    ids[places[found]] = added["hash_id"][found]

"""Snapshots: whole lists as Parquet files, made from the replica in the background."""

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

import structlog

from hashshare.domain.changes import Version
from hashshare.domain.names import ListName
from hashshare.errors import HashshareError
from hashshare.replica import ListState as ReplicaState
from hashshare.replica import Replica
from hashshare.service.news import News
from hashshare.storage.blobs import Blobs
from hashshare.storage.database import Pool, snapshot, transaction
from hashshare.storage.snapshots import SnapshotRepository, SnapshotRow
from hashshare.wire.parquet import write_snapshot

_LOG: Final = structlog.get_logger(__name__)

CHANGED_SHARE: Final = 0.05
"""A list of which more than this share has changed since its snapshot gets a new one."""

MIN_CHANGES: Final = 1000
"""Fewer changes than this are no reason: a delta of that size costs a member nothing."""

BEHIND_SECONDS: Final = 0.1

MAX_REST_SECONDS: Final = 2.0
"""Between two rounds it rests as long as the last one took, and at most so long."""


async def read_due(pool: Pool) -> dict[ListName, Version]:
    """Return the lists that have no snapshot near what is published, and their latest versions.

    Raises:
        UnavailableError: The database cannot be used now.
    """
    async with snapshot(pool) as connection:
        return await SnapshotRepository(connection).read_due(
            share=CHANGED_SHARE, min_changes=MIN_CHANGES
        )


@dataclass(frozen=True, slots=True)
class SnapshotBuilder:
    """Writes the snapshots that are due."""

    pool: Pool
    blobs: Blobs
    replica_path: Path

    async def run(self, news: News) -> None:
        """Write snapshots until cancelled, after publications."""
        took = MAX_REST_SECONDS
        while True:
            try:
                size, begin = news.log_size, monotonic()
                await self.build_due()
                took = monotonic() - begin
                if await read_due(self.pool):
                    # The replica had not got it yet: nobody tells when it has.
                    await asyncio.sleep(BEHIND_SECONDS)
                    continue
                while await news.wait_for_log(after=size, timeout_seconds=60) == size:
                    pass
            except HashshareError as error:
                _LOG.warning("snapshot not written", reason=str(error))
            # Several publications in a row need one snapshot.
            await asyncio.sleep(min(took, MAX_REST_SECONDS))

    async def build_due(self) -> list[SnapshotRow]:
        """Write every snapshot that is due, and return what was written.

        Durable and idempotent: one that was stored and not recorded is stored again under
        the same name, or its blob is referred to by nothing.

        Raises:
            UnavailableError: The database, the blobs or the replica cannot be used now.
        """
        due = await read_due(self.pool)
        return [
            row
            for name, version in due.items()
            if (row := await self._build(name, version)) is not None
        ]

    async def _build(self, name: ListName, version: Version) -> SnapshotRow | None:
        with tempfile.TemporaryDirectory(prefix="hashshare-snapshot-") as folder:
            path = Path(folder) / "snapshot.parquet"
            state = await asyncio.to_thread(self._write, name, version, path)
            if state is None:
                return None
            # Before the row that names it.
            blob = await self.blobs.add_artifact_file(path)
        row = SnapshotRow(Version(state.version), blob.sha256, blob.size, state.count)
        async with transaction(self.pool) as connection:
            await SnapshotRepository(connection).append(name, row)
        _LOG.info("snapshot written", list=str(name), version=row.version, size=row.size)
        return row

    def _write(self, name: ListName, version: Version, path: Path) -> ReplicaState | None:
        """Write the list as the replica has it, which may be ahead; None if it is behind.

        It is behind for a moment after each publication: the database commits first.
        """
        with (
            Replica.open(self.replica_path, readonly=True) as replica,
            replica.reading() as reading,
        ):
            state = reading.find(str(name))
            if state is None or state.version < version:
                return None
            write_snapshot(path, reading.entries(str(name)), count=state.count)
            return state

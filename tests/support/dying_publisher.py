"""A process that publishes, and kills itself at a given point; run by tests of crashes.

Arguments: the database's URL, the blobs' folder, the replica's file, the publisher's key file,
the hash set, and the point.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hashshare.crypto.keys import read_private_key
from hashshare.domain.names import HashSetId
from hashshare.replica import Replica
from hashshare.replica.writing import Writing
from hashshare.service.following import Follower
from hashshare.service.publish import Publisher
from hashshare.service.snapshots import SnapshotBuilder
from hashshare.storage.blobs import Blob, Blobs
from hashshare.storage.database import open_pool

POINTS = [
    "before the replica is changed",
    "after the replica is changed",
    "before postgresql commits",
    "after postgresql committed",
    "after the replica committed",
    "before the snapshot is stored",
    "after the snapshot is stored",
]


class Dying:
    """Kills the process, without any cleaning up, when it comes to its point."""

    point = ""

    def at(self, point: str) -> None:
        if point == self.point:
            os.kill(os.getpid(), signal.SIGKILL)


DYING = Dying()


class DyingReplica(Replica):
    @contextmanager
    def writing(self) -> Iterator[Writing]:
        with super().writing() as writing:
            DYING.at("before the replica is changed")
            yield writing
            DYING.at("after postgresql committed")
        DYING.at("after the replica committed")


class DyingBlobs(Blobs):
    async def add_artifact_file(self, path: Path) -> Blob:
        DYING.at("before the snapshot is stored")
        blob = await super().add_artifact_file(path)
        DYING.at("after the snapshot is stored")
        return blob


class DyingPublisher(Publisher):
    """Its replica and blobs are those above."""

    def replace_parts(self, path: Path, blobs: Blobs) -> None:
        self._replica.close()
        self._replica = DyingReplica.open(path)
        self._follower = Follower(self._pool, self._worker, self._replica)
        self._snapshots = SnapshotBuilder(self._pool, DyingBlobs(blobs.store), path)

    async def _append(self, *arguments):  # type: ignore[no-untyped-def] # passed on
        DYING.at("after the replica is changed")
        row = await super()._append(*arguments)
        DYING.at("before postgresql commits")
        return row


async def main() -> None:
    dsn, folder, replica, key, hash_set, DYING.point = sys.argv[1:]
    async with open_pool(dsn, min_size=1, max_size=4) as pool:
        blobs = Blobs.open(folder)
        publisher = DyingPublisher(
            pool, blobs, Path(replica), lambda: [read_private_key(Path(key))]
        )
        publisher.replace_parts(Path(replica), blobs)
        await publisher.publish_once(HashSetId(hash_set))
        await publisher.build_snapshots()


if __name__ == "__main__":
    asyncio.run(main())

"""What the server processes tell each other: LISTEN and NOTIFY, a hint over polling.

A notice is sent with the transaction that makes it true. What it says is also in the tables,
so that a lost one costs time only.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from hashshare.domain.changes import Version
from hashshare.domain.names import HashSetId
from hashshare.storage.database import Connection

CHANNEL: Final = "hashshare"
MEMBERSHIP: Final = "membership"

NOTIFY: Final = """
    -- $1 channel, $2 payload
    SELECT pg_notify($1, $2)
"""

READ_NEWEST: Final = """
    SELECT log.size AS log_size, hash_set_id, version
      FROM log
           LEFT JOIN hash_set ON true
           LEFT JOIN LATERAL (
               SELECT max(version) AS version
                 FROM publication
                WHERE publication.hash_set_no = hash_set.hash_set_no
           ) AS latest ON true
"""


@dataclass(frozen=True, slots=True)
class Newest:
    """What is newest in the database.

    Attributes:
        log_size: Leaves in the log.
        versions: The latest version of each hash set that has one.
    """

    log_size: int
    versions: dict[HashSetId, Version]


@dataclass(frozen=True, slots=True)
class NoticeRepository:
    """Sends and hears notices on one connection."""

    connection: Connection

    async def send_publication(self, hash_set: HashSetId, version: Version) -> None:
        """Tell of a publication once the transaction commits."""
        await self.connection.execute(NOTIFY, CHANNEL, f"publication {hash_set} {version}")

    async def send_log(self, size: int) -> None:
        """Tell of a new size of the log once the transaction commits."""
        await self.connection.execute(NOTIFY, CHANNEL, f"log {size}")

    async def send_membership(self) -> None:
        """Tell that members, certificates or rights changed, once the transaction commits."""
        await self.connection.execute(NOTIFY, CHANNEL, MEMBERSHIP)

    async def read_newest(self) -> Newest:
        """Return what is newest now."""
        rows = await self.connection.fetch(READ_NEWEST)
        versions = {
            HashSetId(row["hash_set_id"]): Version(row["version"])
            for row in rows
            if row["version"] is not None
        }
        return Newest(log_size=rows[0]["log_size"] if rows else 0, versions=versions)

    @asynccontextmanager
    async def listen(self, hear: Callable[[str], None]) -> AsyncIterator[None]:
        """Call ``hear`` with each notice as long as the block lasts."""

        def receive(*notice: object) -> None:
            hear(str(notice[-1]))

        await self.connection.add_listener(CHANNEL, receive)
        try:
            yield
        finally:
            if self.connection.is_closed():
                # Makes a lost connection forget its listeners: the pool takes none back.
                self.connection.terminate()
            else:
                await self.connection.remove_listener(CHANNEL, receive)

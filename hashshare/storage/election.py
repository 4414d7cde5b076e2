"""Which of several server processes publishes: whoever holds an advisory lock."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from hashshare.storage.database import Connection

# Any number that no other application of this database takes: "publis" in ASCII.
_PUBLISHER_LOCK: Final = 0x7075626C6973

TRY_LOCK: Final = """
    -- $1 number
    SELECT pg_try_advisory_lock($1)
"""

UNLOCK: Final = """
    -- $1 number
    SELECT pg_advisory_unlock($1)
"""

PING: Final = "SELECT 1"


@dataclass(frozen=True, slots=True)
class Election:
    """A candidacy on one connection, of which it must have the sole use.

    Whoever loses its connection has lost the office, perhaps without knowing yet. Two that
    both believe to hold it collide when they publish, and one of them changes nothing.
    """

    connection: Connection

    @asynccontextmanager
    async def run_for_office(self) -> AsyncIterator[bool]:
        """Yield whether this process now publishes; if so, until the block is left."""
        won: bool = await self.connection.fetchval(TRY_LOCK, _PUBLISHER_LOCK)
        try:
            yield won
        finally:
            if won and not self.connection.is_closed():
                await self.connection.execute(UNLOCK, _PUBLISHER_LOCK)

    async def verify_in_office(self) -> None:
        """Find out whether the connection still lives.

        Raises:
            asyncpg.InterfaceError: It does not; to be translated by the caller.
        """
        await self.connection.execute(PING)

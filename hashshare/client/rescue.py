"""Rescue: reading what a server's own database has lost from a server or mirror that has it.

Everything is verified before it is given on: the signatures of each statement, the chains, and
that the whole is the tree that the log's key signed, of which the database holds the beginning.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from hashshare.client.following import MAX_NOTE_BYTES, Follower
from hashshare.client.session import Session
from hashshare.crypto.note import Checkpoint, verify_checkpoint
from hashshare.domain.history import History, Logged
from hashshare.errors import EquivocationError, HashshareError, NotFoundError, VerificationError

_NEWEST: Final = ("/v1/log/checkpoint/newest", "/v1/log/checkpoint")


@dataclass(frozen=True, slots=True)
class Found:
    """The leaves that a source has beyond those of the database.

    Attributes:
        leaves: Their bytes, in order.
        logged: What they say.
        documents: The registries that they name, by digest.
        checkpoint: Signed by the log, and met by all leaves together.
        redactions: Batches that were deleted, each with the leaf that says so.
    """

    leaves: list[bytes]
    logged: list[Logged]
    documents: dict[str, bytes]
    checkpoint: Checkpoint
    redactions: dict[str, int]


@dataclass(frozen=True, slots=True)
class Rescuer:
    """Reads one source, as one of its members.

    Attributes:
        follower: Fetches leaves from it.
    """

    session: Session
    follower: Follower

    async def find(self, history: History) -> Found:
        """Return what the source has beyond ``history``, verified; ``history`` then has it, too.

        Args:
            history: What the database holds.

        Raises:
            EquivocationError: The database's log is not the beginning of the source's.
            VerificationError: A statement may not stand in its place, or the log did not sign it.
            NotFoundError: The source has less than the database.
            UnavailableError: It cannot be reached.
        """
        begin = history.size
        checkpoint = verify_checkpoint(await self._newest(), history.trust.log_verifier)
        if checkpoint.size < begin:
            raise NotFoundError(
                f"the source has {checkpoint.size} leaves, and the database has {begin}"
            )
        leaves, logged, documents = list[bytes](), list[Logged](), dict[str, bytes]()
        try:
            while history.size < checkpoint.size:
                part = await self.follower.fetch_leaves(history.size, checkpoint.size)
                named = await self.follower.fetch_registries(part)
                logged += await asyncio.to_thread(history.extend, part, named)
                leaves += part
                documents |= named
        except VerificationError as error:
            error.add_note("nothing was changed")
            raise
        if history.frontier.root() != checkpoint.root:
            raise EquivocationError(
                f"the {begin} leaves of the database are not the first ones of the source's log"
            )
        return Found(leaves, logged, documents, checkpoint, dict(history.redactions))

    @asynccontextmanager
    async def batch(self, sha256: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give the bytes of a batch as they come, as zstd; not verified.

        Raises:
            NotFoundError: The source does not have it, or not for this member.
        """
        async with self.session.stream(f"/v1/batches/{sha256}") as (_, chunks):
            yield chunks

    async def _newest(self) -> bytes:
        # A mirror may only have what witnesses have cosigned.
        for path in _NEWEST[:-1]:
            try:
                _, note = await self.session.request("GET", path, max_bytes=MAX_NOTE_BYTES)
            except HashshareError:
                continue
            return note
        _, note = await self.session.request("GET", _NEWEST[-1], max_bytes=MAX_NOTE_BYTES)
        return note

"""Recovery: leaves that a restored database lacks are appended again, by what took them in.

Each statement goes the way that it went at first, with the same checks and the same merge. A
publication is made anew from the hashes, by the publisher's code, and must come to exactly the
statement that was signed. So a database that was recovered holds what it held, and killed at any
moment it holds a beginning of that: the same command goes on.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from hashshare.crypto.envelope import parse_envelope
from hashshare.domain.history import History, Logged, named_documents
from hashshare.domain.joining import Trust
from hashshare.domain.names import MemberId, parse_time
from hashshare.domain.statements import Publication, Redaction, RegistryStatement, Submission
from hashshare.errors import ConflictError, EquivocationError
from hashshare.service.publish import PlannedEdition, Publisher
from hashshare.service.redaction import RedactionService
from hashshare.service.registry import RegistryService
from hashshare.service.submit import SubmitService
from hashshare.storage.database import Pool, snapshot, translated
from hashshare.storage.election import Election
from hashshare.storage.log import LogRepository

_PART: Final = 256


@asynccontextmanager
async def alone(pool: Pool) -> AsyncIterator[None]:
    """Keep every publisher out of a database until the block is left.

    Raises:
        ConflictError: A server publishes.
    """
    with translated():
        async with pool.acquire() as connection, Election(connection).run_for_office() as won:
            if not won:
                raise ConflictError("a server runs on this database: stop all of them")
            yield


@dataclass(slots=True)
class RecoveryProgress:
    """How many of the missing leaves are in the database again."""

    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class RecoveryService:
    """Appends leaves to a database that no server uses.

    Attributes:
        registries: Like the others, over a guard without records: the database is behind them.
        publisher: Makes the versions that are missing.
    """

    pool: Pool
    registries: RegistryService
    submissions: SubmitService
    redactions: RedactionService
    publisher: Publisher

    async def read_history(self, trust: Trust) -> History:
        """Return what the database's own leaves come to, every statement verified.

        Raises:
            VerificationError: One of them may not stand in its place.
            EquivocationError: The tree in the database is not that of its leaves.
        """
        history = History(trust)
        async with snapshot(self.pool) as connection:
            head = await LogRepository(connection).read_head()
        while history.size < head.size:
            async with snapshot(self.pool) as connection:
                count = min(_PART, head.size - history.size)
                leaves = await LogRepository(connection).read_entries(history.size, count)
            documents = {
                named.sha256: (await self.registries.read(version)).document
                for version, named in named_documents(leaves)
            }
            history.extend(leaves, documents)
        if history.frontier.root() != head.root:
            raise EquivocationError("the tree in the database is not that of its leaves")
        return history

    async def append(
        self,
        leaves: Sequence[bytes],
        logged: Sequence[Logged],
        documents: dict[str, bytes],
        progress: RecoveryProgress,
    ) -> None:
        """Append verified leaves, whose batches are stored. Durable leaf by leaf.

        Args:
            leaves: From the end of the database's log on.
            logged: What they say.
            documents: The registries among them, by digest.
            progress: Is told how far it is.

        Raises:
            RootMismatchError: A publication is not what the database comes to: the dump was
                taken in the middle of one. An earlier dump is not.
            ConflictError: Something else was appended meanwhile.
        """
        progress.total = len(leaves)
        await self.publisher.catch_up()
        planned = _Planned(self.publisher, logged)
        try:
            for leaf, entry in zip(leaves, logged, strict=True):
                await planned.look(entry.index)
                index = await self._append(leaf, entry, documents, planned)
                if index != entry.index:
                    raise ConflictError(f"leaf {entry.index} came into the log as leaf {index}")
                progress.done += 1
        finally:
            await planned.close()

    async def _append(
        self, leaf: bytes, entry: Logged, documents: dict[str, bytes], planned: "_Planned"
    ) -> int:
        """Append one leaf and return its index."""
        match entry.statement:
            case Submission(member=member, created_at=created_at):
                now = parse_time(created_at)
                done = await self.submissions.submit(leaf, peer_member=MemberId(member), now=now)
                return done.log_index
            case RegistryStatement(document=document, created_at=created_at):
                now = parse_time(created_at)
                put = await self.registries.append(leaf, documents[document.sha256], now=now)
                return put.log_index
            case Redaction():
                return (await self.redactions.redact(leaf)).log_index
            case Publication():
                async with planned.taken(entry.index) as edition:
                    return (await self.publisher.republish(edition, parse_envelope(leaf))).log_index


class _Planned:
    """The publications to come, each with the database as it was when it covered all of it.

    Between that moment and its own leaf others may have come into the log, as they did at first.
    """

    def __init__(self, publisher: Publisher, logged: Sequence[Logged]) -> None:
        self._publisher = publisher
        self._open: dict[int, tuple[AsyncExitStack, PlannedEdition]] = {}
        self._due: dict[int, list[tuple[int, Publication]]] = {}
        for entry in logged:
            if isinstance(entry.statement, Publication):
                # What was begun before the dump is made from the dump.
                size = max(entry.statement.log_size, logged[0].index)
                self._due.setdefault(size, []).append((entry.index, entry.statement))

    async def look(self, size: int) -> None:
        """Look at the database, which has ``size`` leaves, for what covers just these."""
        for index, statement in self._due.pop(size, []):
            stack = AsyncExitStack()
            planned = await stack.enter_async_context(self._publisher.planned(statement))
            self._open[index] = (stack, planned)

    @asynccontextmanager
    async def taken(self, index: int) -> AsyncIterator[PlannedEdition]:
        """Give what was planned for that leaf, and forget it in the end."""
        stack, planned = self._open.pop(index)
        async with stack:
            yield planned

    async def close(self) -> None:
        """Give back what was not taken."""
        for stack, _ in self._open.values():
            await stack.aclose()

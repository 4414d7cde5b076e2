"""The guard: the one place that signs checkpoints, and never two of one size.

What was signed is recorded outside of the database, by compare-and-swap, after the leaves are
committed and before the checkpoint leaves this module:

1. PostgreSQL commits leaves. Killed here, they are in the log, and nobody has a root over them.
2. The record moves to a checkpoint that extends the one it held. Killed here, or the answer lost,
   the next attempt finds it where it should be.
3. The checkpoint is handed out.

So a record is never ahead of a database that is whole: a database that lacks leaves which the
record covers was restored from before, or is a copy that another server has left behind.

Source: docs/adr/0013-what-is-signed-is-recorded-first.md.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from hashshare.crypto.merkle import EMPTY_ROOT
from hashshare.crypto.note import (
    Checkpoint,
    NoteSigner,
    parse_checkpoint,
    parse_note,
    sign_checkpoint,
    verify_checkpoint,
)
from hashshare.crypto.receipt import Receipt
from hashshare.errors import ConflictError, MixAndMatchError, RollbackError, UnavailableError
from hashshare.service.news import News
from hashshare.storage.database import Pool, snapshot
from hashshare.storage.log import LogRepository, Place
from hashshare.storage.newest import NewestRecord

if TYPE_CHECKING:
    from hashshare.storage.database import Connection

_LOG: Final = structlog.get_logger(__name__)
RETRY_SECONDS: Final = 1.0

# Each time another server has recorded a larger checkpoint in between.
_ATTEMPTS: Final = 16


@dataclass(slots=True, eq=False)
class Guard:
    """Signs the checkpoints of the log in one database, and holds that database to the records.

    May be used by several tasks, and beside other processes with guards on the same records.

    Attributes:
        signers: Gives the log's keys, of one name, at each signature: while a key is replaced,
            checkpoints are signed by the old one and the new one.
        records: In the order in which they are moved: what servers share comes first, since
            there the servers of two copies of a database find out about each other.
    """

    pool: Pool
    signers: Callable[[], Sequence[NoteSigner]]
    records: Sequence[NewestRecord] = ()
    _known: Checkpoint = field(init=False)
    _refusal: str = field(init=False, default="")
    _refused: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _moving: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._known = Checkpoint(self.origin, 0, EMPTY_ROOT)

    @property
    def origin(self) -> str:
        """Names the log."""
        return self.signers()[0].name

    def verify_signing(self) -> None:
        """Refuse to go on once it was found that this database was left behind.

        Called before anything is appended, so that what lies in the database can be mended.

        Raises:
            RollbackError: It was found; for good, as long as this process lives.
        """
        if self._refusal:
            raise RollbackError(self._refusal)

    async def verify(self) -> None:
        """Refuse a database that is not the one, or older than the one, that was signed for.

        Raises:
            RollbackError: It lacks leaves, or has others.
            MalformedError: A record is damaged.
            MixAndMatchError: A record is of another log.
        """
        for record in self.records:
            await self._verify_against(self._parse((await record.read()).note), str(record))

    async def checkpoint(self, size: int | None = None) -> bytes:
        """Return the signed checkpoint of the first ``size`` leaves, by default of all.

        Always the same bytes for a size, in this process and in every other, until a key of the
        log is replaced.

        Raises:
            NotFoundError: The log is not that long.
            RollbackError: The database is not the one that was signed for; nothing is signed.
            UnavailableError: The database or a record cannot be used now.
        """
        return self._sign(await self._vouch(size))

    async def receipt(self, place: Place) -> bytes:
        """Return the receipt for a leaf, under the checkpoint that ends with it.

        The same place gives the same bytes, so that receipts need not be kept. Raises as
        ``checkpoint`` does.
        """
        vouched = await self._vouch(place.index + 1)
        if vouched.root != place.root:
            # The transaction that found the place saw another database.
            raise self._refuse(vouched.size, "the database has changed under the server")
        return Receipt(place.index, place.proof, self._sign(vouched)).encode()

    async def learn(self, note: bytes) -> None:
        """Take notice of a checkpoint that somebody else holds of this log.

        One that this log's key signed for more leaves than the database has says that the
        database was left behind: the records keep it, and nothing more is signed, after another
        start neither. What the key did not sign changes nothing.

        Args:
            note: As it came from the network, with whatever cosignatures.

        Raises:
            MalformedError: It is no checkpoint.
            SignatureInvalidError: This log did not sign it.
            MixAndMatchError: It is of another log, or of a tree that this one never had.
            RollbackError: The database lacks leaves of it; nothing more is signed.
        """
        claimed = verify_checkpoint(note, *(signer.verifier for signer in self.signers()))
        async with snapshot(self.pool) as connection:
            # Read after it was signed: whoever signed it from here had committed before.
            log = LogRepository(connection)
            head = await log.read_head()
            has_it = claimed.size <= head.size
            if has_it and await log.read_root(claimed.size) == claimed.root:
                return
        if has_it:
            _LOG.error("two roots are signed for one size of the log", size=claimed.size)
            raise MixAndMatchError("this log never had that checkpoint, but its key signed it")
        # Before anything else may fail, so that this process stops at once.
        error = self._refuse(claimed.size, f"the database has {head.size} leaves (a member told)")
        for record in self.records:
            await self._keep(record, claimed)
        raise error

    async def _keep(self, record: NewestRecord, claimed: Checkpoint) -> None:
        """Let a record hold what was learnt, if it does not hold more."""
        # The same bytes as in the note, whose cosignatures are not for here.
        note = self._sign(claimed)
        for _ in range(_ATTEMPTS):
            held = await record.read()
            if self._parse(held.note).size >= claimed.size:
                return
            with suppress(ConflictError):
                await record.swap(held, note)
                return
        raise UnavailableError("other servers keep recording newer checkpoints, try again")

    async def run(self, news: News) -> None:
        """Keep the records up to date, though nobody asks for a checkpoint.

        Returns when nothing more may be signed.
        """
        tasks = [
            asyncio.create_task(self._follow(news)),
            asyncio.create_task(self._refused.wait()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, news: News) -> None:
        await news.wait_until_known()
        while True:
            try:
                size = (await self._vouch(None)).size
                await news.wait_for_log(after=size, timeout_seconds=60)
            except RollbackError:
                return
            except UnavailableError as error:
                _LOG.warning("newest checkpoint not recorded", reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _vouch(self, size: int | None) -> Checkpoint:
        """Return a checkpoint that all records cover, and that extends what they held before."""
        while True:
            self.verify_signing()
            known = self._known
            async with snapshot(self.pool) as connection:
                # In one snapshot, so that it is this database that extends what is known.
                head = await self._verify_extends(connection, known, "this server")
                wanted = head
                if size is not None and size != head.size:
                    root = await LogRepository(connection).read_root(size)
                    wanted = Checkpoint(self.origin, size, root)
            if wanted.size <= known.size:
                return wanted
            size = wanted.size
            async with self._moving:
                # Another task may have moved them while this one waited: one write for all.
                if self._known.size < size:
                    self._known = await self._move_records(wanted)

    async def _move_records(self, wanted: Checkpoint) -> Checkpoint:
        moved = [await self._move(record) for record in self.records]
        return min(moved, key=lambda checkpoint: checkpoint.size, default=wanted)

    async def _move(self, record: NewestRecord) -> Checkpoint:
        """Bring a record to the head of the log, and return that."""
        for _ in range(_ATTEMPTS):
            held = await record.read()
            # Read after the record: whoever moved it there had committed before.
            head = await self._verify_against(self._parse(held.note), str(record))
            note = self._sign(head)
            try:
                if held.note != note:
                    await record.swap(held, note)
            except ConflictError:
                continue
            return head
        raise UnavailableError("other servers keep recording newer checkpoints, try again")

    async def _verify_against(self, recorded: Checkpoint, where: str) -> Checkpoint:
        async with snapshot(self.pool) as connection:
            return await self._verify_extends(connection, recorded, where)

    def _sign(self, checkpoint: Checkpoint) -> bytes:
        return sign_checkpoint(checkpoint, *self.signers())

    def _parse(self, note: bytes) -> Checkpoint:
        if not note:
            return Checkpoint(self.origin, 0, EMPTY_ROOT)
        checkpoint = parse_checkpoint(parse_note(note).text)
        if checkpoint.origin != self.origin:
            raise MixAndMatchError(f"a record of the log {checkpoint.origin!r:.80}")
        return checkpoint

    async def _verify_extends(
        self, connection: "Connection", signed: Checkpoint, where: str
    ) -> Checkpoint:
        """Return the head of the log; refuse a log that does not extend what was signed."""
        log = LogRepository(connection)
        head = await log.read_head()
        if head.size < signed.size:
            raise self._refuse(signed.size, f"the database has {head.size} leaves ({where})")
        root = head.root if head.size == signed.size else await log.read_root(signed.size)
        if root != signed.root:
            raise self._refuse(signed.size, f"the database has another log ({where})")
        return Checkpoint(signed.origin, head.size, head.root)

    def _refuse(self, size: int, found: str) -> RollbackError:
        self._refusal = (
            f"nothing is signed: {size} leaves were signed for, and {found};"
            " restore the latest backup, and bring the rest back: hashshare recover"
        )
        if not self._refused.is_set():
            _LOG.error(
                "nothing is signed",
                signed_for=size,
                found=found,
                remedy="stop all servers of this database, then: hashshare recover",
            )
        self._refused.set()
        return RollbackError(self._refusal)

"""What was signed is recorded first; a database that does not extend it gets nothing signed."""

import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from hashshare.crypto.keys import PrivateKey
from hashshare.crypto.note import (
    Checkpoint,
    NoteSigner,
    parse_checkpoint,
    parse_note,
    sign_checkpoint,
)
from hashshare.domain.statements import Operation
from hashshare.errors import (
    ConflictError,
    HashshareError,
    MalformedError,
    MixAndMatchError,
    RollbackError,
    SignatureInvalidError,
    UnavailableError,
)
from hashshare.service.guard import Guard
from hashshare.service.log import LogService
from hashshare.service.witnessing import WitnessService
from hashshare.storage.newest import FileRecord, Held, NewestRecord, ObjectRecord
from tests.support.coalition import ACME, NOW, Coalition, Running, assertion, run_coalition
from tests.support.copies import copy_database, drop_database


def size_of(note: bytes) -> int:
    """How many leaves a checkpoint covers."""
    return parse_checkpoint(parse_note(note).text).size


def guard_of(running: Running, *records: NewestRecord) -> Guard:
    """The guard of a server that starts now."""
    return Guard(running.pool, lambda: [running.coalition.log], records)


@pytest.fixture(params=["file", "object"])
def record(request: pytest.FixtureRequest, tmp_path: Path) -> NewestRecord:
    """Each kind of record, empty."""
    if request.param == "file":
        return FileRecord(tmp_path / "records" / "newest.checkpoint")
    return ObjectRecord(MemoryStore())


@asynccontextmanager
async def two_copies(dsn: str, folder: Path) -> AsyncIterator[tuple[Running, Running]]:
    """A coalition on a database, and on a dump of it that was restored beside it."""
    coalition = Coalition()
    async with run_coalition(dsn, folder / "one", coalition=coalition) as running:
        await running.push(ACME, [assertion(1)])
    other = copy_database(dsn)
    try:
        async with (
            run_coalition(dsn, folder / "one", coalition=coalition) as one,
            run_coalition(other, folder / "one", coalition=coalition) as two,
        ):
            yield one, two
    finally:
        drop_database(other)


async def test_a_record_is_swapped_only_for_what_was_read(record: NewestRecord) -> None:
    """Of two that read the same, one writes."""
    nothing = await record.read()
    assert nothing.note == b""
    await record.swap(nothing, b"one")
    with pytest.raises(ConflictError):
        await record.swap(nothing, b"two")
    first = await record.read()
    await record.swap(first, b"three")
    with pytest.raises(ConflictError):
        await record.swap(first, b"four")
    assert (await record.read()).note == b"three"


async def test_of_many_at_once_one_swaps(record: NewestRecord) -> None:
    """Whoever comes first; no write is lost."""
    for number in range(5):
        held = await record.read()
        notes = [b"%d %d" % (number, n) for n in range(8)]
        done = await asyncio.gather(
            *(record.swap(held, note) for note in notes), return_exceptions=True
        )
        won = [note for note, result in zip(notes, done, strict=True) if result is None]
        assert [(await record.read()).note] == won


async def test_a_log_that_grows_is_accepted(dsn: str, tmp_path: Path, record: NewestRecord) -> None:
    """At the first start, and at every other."""
    async with run_coalition(dsn, tmp_path) as running:
        for number in range(1, 4):
            guard = guard_of(running, record)
            await guard.verify()
            note = await guard.checkpoint()
            assert (await record.read()).note == note
            assert size_of(note) == number
            await running.push(ACME, [assertion(number)])
            await guard.verify()


async def test_a_smaller_checkpoint_moves_no_record(
    dsn: str, tmp_path: Path, record: NewestRecord
) -> None:
    """And is the same bytes as ever."""
    async with run_coalition(dsn, tmp_path) as running:
        guard = guard_of(running, record)
        first = await guard.checkpoint()
        await running.push(ACME, [assertion(1)])
        newest = await guard.checkpoint()
        assert await guard.checkpoint(1) == first
        assert (await record.read()).note == newest


async def test_many_at_once_are_signed_for_together(
    dsn: str, tmp_path: Path, record: NewestRecord
) -> None:
    """Two servers of one database, and several requests of each."""
    async with run_coalition(dsn, tmp_path) as running:
        guards = [guard_of(running, record) for _ in range(2)]
        for number in range(1, 6):
            await running.push(ACME, [assertion(number)])
            notes = await asyncio.gather(*(g.checkpoint() for g in guards for _ in range(3)))
            assert {size_of(note) for note in notes} == {number + 1}
            assert (await record.read()).note == notes[0]


async def test_a_restored_backup_is_refused(dsn: str, tmp_path: Path, record: NewestRecord) -> None:
    """The same coalition, in a database from before the last submission."""
    async with two_copies(dsn, tmp_path) as (live, restored):
        await live.push(ACME, [assertion(2)])
        assert size_of(await guard_of(live, record).checkpoint()) == 3

        guard = guard_of(restored, record)
        with pytest.raises(RollbackError, match="3 leaves were signed for"):
            await guard.verify()
        with pytest.raises(RollbackError):
            await guard.checkpoint()
        # Nor what both have: it does not know any more what it is.
        with pytest.raises(RollbackError):
            await guard.checkpoint(1)
        await guard_of(live, record).verify()


async def test_another_log_is_refused(dsn: str, tmp_path: Path, record: NewestRecord) -> None:
    """As long as the other, and longer, with other leaves."""
    async with two_copies(dsn, tmp_path) as (live, restored):
        await live.push(ACME, [assertion(2)])
        await guard_of(live, record).checkpoint()
        restored.coalition.authors[ACME].sequence -= 1
        restored.coalition.authors[ACME].previous = (
            await restored.submissions.list_submissions(ACME)
        )[-1].statement_id
        for number in (3, 4):
            await restored.push(ACME, [assertion(number)])
            with pytest.raises(RollbackError, match="another log"):
                await guard_of(restored, record).verify()
            with pytest.raises(RollbackError, match="another log"):
                await guard_of(restored, record).checkpoint()


async def test_a_database_that_goes_back_under_a_server_is_refused(
    dsn: str, tmp_path: Path, record: NewestRecord
) -> None:
    """Restored while it runs: even checkpoints that it signed before are not signed again."""
    async with run_coalition(dsn, tmp_path) as running:
        guard = guard_of(running, record)
        await running.push(ACME, [assertion(1)])
        await guard.checkpoint()
        await running.pool.execute("UPDATE log SET size = size - 1, root = $1", b"\x01" * 32)
        with pytest.raises(RollbackError):
            await guard.checkpoint(1)
        with pytest.raises(RollbackError):
            guard.verify_signing()


async def test_the_servers_of_two_copies_sign_one_root_for_each_size(
    dsn: str, tmp_path: Path, record: NewestRecord
) -> None:
    """Both take in something at once: whoever is first goes on, the other signs nothing more."""
    async with two_copies(dsn, tmp_path) as copies:
        guards = [guard_of(running, record) for running in copies]
        for guard in guards:
            await guard.checkpoint()
        sign = copies[0].coalition.authors[ACME].sign
        for number, running in enumerate(copies):
            batch = await running.store([assertion(10 + number)])
            await running.send(ACME, sign(batch, Operation.ASSERT))

        done = await asyncio.gather(*(g.checkpoint() for g in guards), return_exceptions=True)
        refused = [result for result in done if isinstance(result, BaseException)]
        assert [type(error) for error in refused] == [RollbackError]
        (note,) = [result for result in done if isinstance(result, bytes)]
        assert (await record.read()).note == note


async def test_a_server_that_hears_of_more_signs_nothing_more(
    dsn: str, tmp_path: Path, record: NewestRecord
) -> None:
    """By a member or a witness; it remembers that over a new start."""
    async with two_copies(dsn, tmp_path) as (live, restored):
        note = await guard_of(live).checkpoint()
        guard = guard_of(restored, record)
        await guard.learn(note)
        assert await guard.checkpoint() == note

        await live.push(ACME, [assertion(2)])
        note = await guard_of(live).checkpoint()
        with pytest.raises(RollbackError):
            await guard.learn(note)
        assert (await record.read()).note == note
        for refusing in (guard, guard_of(restored, record)):
            with pytest.raises(RollbackError):
                await refusing.checkpoint(1)
        # Once the leaves are there again it is the same record that lets it go on.
        assert await guard_of(live, record).checkpoint() == note


async def test_a_cosignature_of_more_than_there_is_stops_the_server(
    dsn: str, tmp_path: Path
) -> None:
    """What a witness cosigned, the log had signed."""
    async with two_copies(dsn, tmp_path) as (live, restored):
        await live.push(ACME, [assertion(2)])
        note = await guard_of(live).checkpoint()
        guard = guard_of(restored)
        service = WitnessService(
            restored.pool, LogService(restored.pool, guard), restored.registries
        )
        with pytest.raises(RollbackError):
            await service.cosign(note, now=NOW)
        with pytest.raises(RollbackError):
            guard.verify_signing()


async def test_a_claim_that_the_log_did_not_sign_stops_nothing(
    dsn: str, tmp_path: Path, record: NewestRecord
) -> None:
    """Another key's, another log's, a broken signature, a fork, a mere text."""
    async with run_coalition(dsn, tmp_path) as running:
        await running.push(ACME, [assertion(1)])
        signer, guard = running.coalition.log, guard_of(running, record)
        newest = await guard.checkpoint()
        more = Checkpoint(signer.name, 1_000_000, b"\x01" * 32)
        genuine = sign_checkpoint(more, signer)
        stranger = NoteSigner(signer.name, PrivateKey.generate())
        elsewhere = NoteSigner("other.example/log", signer.key)
        claims: list[tuple[bytes, type[HashshareError]]] = [
            (sign_checkpoint(more, stranger), SignatureInvalidError),
            (
                sign_checkpoint(replace(more, origin=elsewhere.name), elsewhere),
                SignatureInvalidError,
            ),
            (sign_checkpoint(replace(more, origin=elsewhere.name), signer), MixAndMatchError),
            (genuine.replace(b"1000000", b"1000001"), SignatureInvalidError),
            (genuine.split(b"\n\n")[0] + b"\n", MalformedError),
            (sign_checkpoint(replace(more, size=1), signer), MixAndMatchError),
            (b"", MalformedError),
        ]
        for claim, error in claims:
            with pytest.raises(error):
                await guard.learn(claim)
            assert await guard.checkpoint() == newest
        assert (await record.read()).note == newest


@dataclass(frozen=True, slots=True)
class Failing:
    """A record whose writes fail as they are told: before, or after they were done."""

    inner: NewestRecord
    plan: list[str] = field(default_factory=list)

    async def read(self) -> Held:
        return await self.inner.read()

    async def swap(self, held: Held, note: bytes) -> None:
        fault = self.plan.pop() if self.plan else ""
        if fault == "not written":
            raise UnavailableError("not written")
        await self.inner.swap(held, note)
        if fault:
            raise UnavailableError("written, and the answer lost")


@pytest.mark.parametrize("fault", ["not written", "answer lost"])
async def test_what_is_not_known_to_be_recorded_is_not_signed(
    dsn: str, tmp_path: Path, record: NewestRecord, fault: str
) -> None:
    """The leaf is committed; the next attempt signs it, in this process or after a new start."""
    async with run_coalition(dsn, tmp_path) as running:
        failing = Failing(record)
        guard = guard_of(running, failing)
        await guard.checkpoint()
        for number, again in enumerate([guard, guard_of(running, record)], 1):
            await running.push(ACME, [assertion(number)])
            failing.plan.append(fault)
            with pytest.raises(UnavailableError):
                await guard.checkpoint()
            await again.verify()
            assert size_of(await again.checkpoint()) == number + 1


async def test_what_servers_share_is_moved_first(dsn: str, tmp_path: Path) -> None:
    """The one that loses has not spoilt its own file, and starts again on the right database."""
    shared = FileRecord(tmp_path / "shared" / "newest.checkpoint")
    own = [FileRecord(tmp_path / name / "newest.checkpoint") for name in ("one", "two")]
    async with two_copies(dsn, tmp_path) as copies:
        guards = [guard_of(c, shared, mine) for c, mine in zip(copies, own, strict=True)]
        for guard in guards:
            await guard.checkpoint()
        sign = copies[0].coalition.authors[ACME].sign
        for number, running in enumerate(copies):
            batch = await running.store([assertion(10 + number)])
            await running.send(ACME, sign(batch, Operation.ASSERT))
        await guards[0].checkpoint()
        with pytest.raises(RollbackError):
            await guards[1].checkpoint()
        assert size_of((await own[1].read()).note) == 2
        await guard_of(copies[0], shared, own[1]).verify()


async def test_a_record_of_another_log_is_refused(
    dsn: str, tmp_path: Path, record: NewestRecord
) -> None:
    """The folder of another coalition."""
    async with run_coalition(dsn, tmp_path) as running:
        other = Checkpoint("other.example/log", 1, b"\x01" * 32)
        await record.swap(Held(), sign_checkpoint(other, running.coalition.log))
        with pytest.raises(MixAndMatchError):
            await guard_of(running, record).verify()


async def test_who_sleeps_with_the_record_does_not_hold_others_for_ever(tmp_path: Path) -> None:
    """A process that is stopped while it moves the record: the others are told, and go on after."""
    record = FileRecord(tmp_path / "newest.checkpoint", patience=0.2)
    await record.swap(Held(), b"one")
    with (tmp_path / "newest.lock").open("ab") as sleeping:
        fcntl.flock(sleeping, fcntl.LOCK_EX)
        with pytest.raises(UnavailableError, match="another server has held"):
            await record.swap(Held(b"one"), b"two")
        assert await record.read() == Held(b"one")
    await record.swap(Held(b"one"), b"two")
    assert await record.read() == Held(b"two")

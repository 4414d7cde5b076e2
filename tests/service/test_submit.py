"""Submissions: accepted once and whole, or refused and nothing changed."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import msgspec
import pytest
import zstandard

from hashshare.crypto import canonical
from hashshare.crypto.envelope import Envelope
from hashshare.crypto.keys import PrivateKey
from hashshare.crypto.receipt import parse_receipt, verify_receipt
from hashshare.domain.members import Status
from hashshare.domain.names import MemberId
from hashshare.domain.policy import DisputeReason
from hashshare.domain.records import DisputeRecord, WithdrawRecord
from hashshare.domain.statements import (
    BATCH_MEDIA_TYPE,
    NO_PREVIOUS,
    BatchManifest,
    Operation,
)
from hashshare.errors import (
    BatchFaultsError,
    DigestMismatchError,
    HashshareError,
    MalformedError,
    MixAndMatchError,
    NotFoundError,
    PermissionDeniedError,
    SequenceMismatchError,
    SignatureInvalidError,
    TooLargeError,
    UnavailableError,
)
from hashshare.service.batches import BatchLimits
from hashshare.service.submit import Accepted, SubmissionResult, SubmitService
from tests.support.coalition import (
    ACME,
    ADMIN,
    BETA,
    CONTRIBUTORS,
    GAMMA,
    HASH_SET,
    NOW,
    Author,
    Running,
    assertion,
    in_chunks,
    make_batch,
    run_coalition,
)
from tests.support.state import read_all, verify_consistent

LIMITS = BatchLimits(max_bytes=100_000, max_records=100)


@pytest.fixture
async def running(dsn: str, tmp_path: Path) -> AsyncIterator[Running]:
    """A coalition in which acme has pushed two hashes."""
    async with run_coalition(dsn, tmp_path / "blobs", limits=LIMITS) as running:
        await running.push(ACME, [assertion(1), assertion(2, record="r2")])
        yield running
        await verify_consistent(running.pool)


def manifest(batch: bytes, **changes: object) -> BatchManifest:
    """The manifest of a batch, some fields replaced."""
    fields = {
        "count": batch.count(b"\n") - 1,
        "media_type": BATCH_MEDIA_TYPE,
        "sha256": canonical.digest(batch),
        "size": len(batch),
    }
    return BatchManifest(**{**fields, **changes})  # type: ignore[arg-type] # one dict for all


def acme(running: Running) -> Author:
    """The author whose chain goes on."""
    return running.coalition.authors[ACME]


async def refuse(running: Running, error: type[HashshareError], sent: bytes) -> None:
    """Send an envelope; it is refused in that way and nothing is changed."""
    before = await read_all(running.pool)
    with pytest.raises(error) as caught:
        await running.submissions.submit(sent, peer_member=ACME, now=NOW)
    assert type(caught.value) is error
    assert await read_all(running.pool) == before


async def test_a_receipt_proves_the_leaf(running: Running) -> None:
    """Offline, with the log's key alone; and the same bytes come when it is asked for again."""
    author = acme(running)
    envelope = author.sign(await running.store([assertion(3)]), Operation.ASSERT)
    result = await running.send(ACME, envelope)

    verifier = running.coalition.log.verifier
    checkpoint = verify_receipt(parse_receipt(result.receipt), envelope.encode(), verifier)
    assert (checkpoint.size, result.log_index, result.repeated) == (3, 2, False)
    read = await running.submissions.read_submission(result.statement_id, ACME)
    assert (read.receipt, read.counts, read.repeated) == (result.receipt, result.counts, True)


async def test_a_repetition_gets_the_first_receipt(running: Running) -> None:
    """Also when the log, the chain and the registry have gone on; and changes nothing."""
    author = acme(running)
    envelope = author.sign(await running.store([assertion(3)]), Operation.ASSERT)
    first = await running.send(ACME, envelope)
    author.advance(envelope)
    await running.push(ACME, [assertion(4)])
    await running.push(BETA, [assertion(3)])
    registry = (await running.registries.current()).registry
    suspended = msgspec.structs.replace(registry.members[ACME], status=Status.SUSPENDED)
    await running.change_registry(registry.with_member(ACME, suspended))

    before = await read_all(running.pool)
    again = await running.send(ACME, envelope)
    assert (again.receipt, again.counts, again.log_index) == (
        first.receipt,
        first.counts,
        first.log_index,
    )
    assert again.repeated
    assert await read_all(running.pool) == before


async def test_the_same_at_once_is_accepted_once(running: Running) -> None:
    """All are answered with one receipt."""
    envelope = acme(running).sign(await running.store([assertion(3)]), Operation.ASSERT)
    results = await asyncio.gather(*(running.send(ACME, envelope) for _ in range(5)))

    assert len({result.receipt for result in results}) == 1
    assert sorted(result.repeated for result in results) == [False, True, True, True, True]


async def test_what_is_counted(running: Running) -> None:
    """New, known, unchanged and ended, for each operation."""
    beta = await running.push(BETA, [assertion(1), assertion(3)])
    again = await running.push(ACME, [assertion(1), assertion(2, record="r2", classification="B1")])
    hashes = assertion(1).hashes
    disputed = await running.push(BETA, [DisputeRecord(hashes, DisputeReason.ADULT)])
    taken = await running.push(ACME, [WithdrawRecord("r2", {}), WithdrawRecord("", hashes)])
    back = await running.push(BETA, [assertion(1)])

    def counted(result: SubmissionResult) -> tuple[int, ...]:
        counts = result.counts
        return (counts.new, counts.known, counts.unchanged, counts.ended)

    assert counted(beta) == (1, 1, 0, 0)
    assert counted(again) == (0, 1, 1, 0)
    assert counted(disputed) == (0, 1, 0, 1)
    assert counted(taken) == (0, 1, 0, 2)
    assert counted(back) == (0, 1, 0, 1)


Spoil = Callable[[Author, bytes], Envelope]

REFUSALS: dict[str, tuple[type[HashshareError], Spoil]] = {
    "a key that is not acme's": (
        SignatureInvalidError,
        lambda author, batch: Author(
            ACME, PrivateKey.generate(), author.sequence, author.previous
        ).sign(batch, Operation.ASSERT),
    ),
    "a key id that is not the signer's": (
        SignatureInvalidError,
        lambda author, batch: author.sign(batch, Operation.ASSERT, key_id="ab" * 32),
    ),
    "another log": (
        MixAndMatchError,
        lambda author, batch: author.sign(batch, Operation.ASSERT, log="other.example/log"),
    ),
    "no such member": (
        PermissionDeniedError,
        lambda author, batch: author.sign(batch, Operation.ASSERT, member="delta"),
    ),
    "another member's name": (
        SignatureInvalidError,
        lambda author, batch: author.sign(batch, Operation.ASSERT, member=BETA),
    ),
    "no such hash set": (
        PermissionDeniedError,
        lambda author, batch: author.sign(batch, Operation.ASSERT, hash_set="other"),
    ),
    "a gap in the sequence": (
        SequenceMismatchError,
        lambda author, batch: author.sign(batch, Operation.ASSERT, sequence=3),
    ),
    "a sequence that was used": (
        SequenceMismatchError,
        lambda author, batch: author.sign(
            batch, Operation.ASSERT, sequence=1, previous=NO_PREVIOUS
        ),
    ),
    "another previous one": (
        SequenceMismatchError,
        lambda author, batch: author.sign(batch, Operation.ASSERT, previous="ab" * 32),
    ),
    "another media type": (
        MalformedError,
        lambda author, batch: author.sign(
            batch, Operation.ASSERT, batch=manifest(batch, media_type="text/csv")
        ),
    ),
    "a batch that is not stored": (
        NotFoundError,
        lambda author, batch: author.sign(
            batch, Operation.ASSERT, batch=manifest(batch, sha256="ab" * 32)
        ),
    ),
    "another size": (
        DigestMismatchError,
        lambda author, batch: author.sign(
            batch, Operation.ASSERT, batch=manifest(batch, size=len(batch) + 1)
        ),
    ),
    "another count": (
        BatchFaultsError,
        lambda author, batch: author.sign(batch, Operation.ASSERT, batch=manifest(batch, count=7)),
    ),
    "no records": (
        MalformedError,
        lambda author, batch: author.sign(batch, Operation.ASSERT, batch=manifest(batch, count=0)),
    ),
    "another operation than the lines'": (
        BatchFaultsError,
        lambda author, batch: author.sign(batch, Operation.DISPUTE),
    ),
    "too many records": (
        TooLargeError,
        lambda author, batch: author.sign(
            batch, Operation.ASSERT, batch=manifest(batch, count=101)
        ),
    ),
    "too many bytes": (
        TooLargeError,
        lambda author, batch: author.sign(
            batch, Operation.ASSERT, batch=manifest(batch, size=100_001)
        ),
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_changes_nothing(running: Running, name: str) -> None:
    """Each by its class; and afterwards the right one is accepted."""
    error, spoil = REFUSALS[name]
    batch = await running.store([assertion(3)])
    await refuse(running, error, spoil(acme(running), batch).encode())

    await running.send(ACME, acme(running).sign(batch, Operation.ASSERT))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1],
        lambda data: data + b" ",
        lambda data: b" " + data,
        lambda data: data.replace(b'"payload":', b'"payload": '),
        lambda _: b"",
        lambda _: b"{}",
        lambda _: b"[" * 100_000,
        lambda data: data + b" " * 65_536,
        lambda data: data.replace(b"submission.v1", b"publication.v1"),
    ],
)
async def test_another_form_of_an_envelope_is_refused(
    running: Running, spoil: Callable[[bytes], bytes]
) -> None:
    """One spelling, and at most 65,535 bytes."""
    envelope = acme(running).sign(await running.store([assertion(3)]), Operation.ASSERT)
    await refuse(running, MalformedError, spoil(envelope.encode()))


async def test_a_flipped_bit_is_refused(running: Running) -> None:
    """Anywhere in the envelope."""
    data = acme(running).sign(await running.store([assertion(3)]), Operation.ASSERT).encode()
    before = await read_all(running.pool)
    for place in range(0, len(data), 17):
        flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(HashshareError):
            await running.submissions.submit(flipped, peer_member=ACME, now=NOW)
    assert await read_all(running.pool) == before


async def test_the_next_one_is_named(running: Running) -> None:
    """A client that lost its place learns it from the refusal."""
    author = acme(running)
    batch = await running.store([assertion(3)])
    with pytest.raises(SequenceMismatchError) as caught:
        await running.send(ACME, author.sign(batch, Operation.ASSERT, sequence=9))

    assert (caught.value.sequence, caught.value.previous) == (2, author.previous)


async def test_a_member_submits_only_in_its_own_name(running: Running) -> None:
    """A stolen submission key needs the certificate too."""
    envelope = acme(running).sign(await running.store([assertion(3)]), Operation.ASSERT)
    with pytest.raises(PermissionDeniedError):
        await running.send(BETA, envelope)


async def test_who_may_not_contribute_is_refused(running: Running) -> None:
    """An admin is no contributor by that."""
    author = running.coalition.authors[ADMIN]
    envelope = author.sign(await running.store([assertion(3)]), Operation.ASSERT)
    with pytest.raises(PermissionDeniedError):
        await running.send(ADMIN, envelope)


async def test_a_suspended_member_is_refused(running: Running) -> None:
    """From the registry on that says so."""
    envelope = acme(running).sign(await running.store([assertion(3)]), Operation.ASSERT)
    registry = (await running.registries.current()).registry
    suspended = msgspec.structs.replace(registry.members[ACME], status=Status.SUSPENDED)
    await running.change_registry(registry.with_member(ACME, suspended))

    await refuse(running, PermissionDeniedError, envelope.encode())


async def test_a_revoked_key_is_refused(running: Running) -> None:
    """From the registry on that does not list it."""
    envelope = acme(running).sign(await running.store([assertion(3)]), Operation.ASSERT)
    registry = (await running.registries.current()).registry
    key = PrivateKey.generate().public.text
    (old,) = registry.members[ACME].submission_keys
    await running.change_registry(registry.with_submission_key(ACME, key, instead_of=old))

    await refuse(running, SignatureInvalidError, envelope.encode())


async def test_the_registry_in_force_decides(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that is suspended while its batch is being read is refused all the same."""
    envelope = acme(running).sign(await running.store([assertion(3)]), Operation.ASSERT)
    registry = (await running.registries.current()).registry
    suspended = msgspec.structs.replace(registry.members[ACME], status=Status.SUSPENDED)
    await _meanwhile(
        running,
        monkeypatch,
        lambda: running.change_registry(registry.with_member(ACME, suspended)),
    )
    with pytest.raises(PermissionDeniedError):
        await running.send(ACME, envelope)


async def test_a_registry_that_allows_it_delays_only(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The submission is verified again under the new one."""
    envelope = acme(running).sign(await running.store([assertion(3)]), Operation.ASSERT)
    registry = (await running.registries.current()).registry
    later = registry.with_member(BETA, registry.members[BETA])
    await _meanwhile(running, monkeypatch, lambda: running.change_registry(later))

    result = await running.send(ACME, envelope)
    assert result.log_index == 3


async def test_faults_are_told_by_line(running: Running) -> None:
    """The whole batch is refused."""
    batch = make_batch(
        [assertion(3), assertion(4, classification="Z9"), assertion(5), assertion(3)]
    )
    await running.store_bytes(batch)
    before = await read_all(running.pool)
    with pytest.raises(BatchFaultsError) as caught:
        await running.send(ACME, acme(running).sign(batch, Operation.ASSERT))

    assert [(fault.line, fault.field) for fault in caught.value.faults] == [
        (3, "classification"),
        (5, "hashes.sha256"),
    ]
    assert await read_all(running.pool) == before


async def test_a_batch_is_stored_once(running: Running) -> None:
    """Compressed or not, it is the same batch, and comes back as it was."""
    batch = make_batch([assertion(n) for n in range(50)])
    name, frame = canonical.digest(batch), zstandard.compress(batch)
    store = running.batches.store

    assert await store(name, in_chunks(frame, 7), encoding="zstd")
    assert not await store(name, in_chunks(batch), encoding="identity")
    assert await running.batches.has(name)
    await running.send(ACME, acme(running).sign(batch, Operation.ASSERT))
    for reader in (ACME, ADMIN):
        stored = await running.batches.open(name, peer_member=reader)
        data = b"".join([chunk async for chunk in stored])
        assert zstandard.ZstdDecompressor().decompressobj().decompress(data) == batch
    with pytest.raises(NotFoundError):
        await running.batches.open(name, peer_member=BETA)


BATCH = make_batch([assertion(7)])
BAD_BATCHES: dict[str, tuple[type[HashshareError], bytes, str]] = {
    "another digest": (DigestMismatchError, BATCH + b"x", "identity"),
    "another digest, compressed": (DigestMismatchError, zstandard.compress(BATCH + b"x"), "zstd"),
    "not compressed": (MalformedError, BATCH, "zstd"),
    "truncated": (MalformedError, zstandard.compress(BATCH)[:-1], "zstd"),
    "two frames": (MalformedError, zstandard.compress(BATCH) + zstandard.compress(b""), "zstd"),
    "a bomb": (TooLargeError, zstandard.compress(bytes(10_000_000)), "zstd"),
    "too large": (TooLargeError, bytes(100_001), "identity"),
    "too large, compressed": (TooLargeError, zstandard.compress(os.urandom(100_001)), "zstd"),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
async def test_a_bad_batch_is_not_stored(running: Running, tmp_path: Path, name: str) -> None:
    """And leaves no file behind."""
    error, body, encoding = BAD_BATCHES[name]
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    with pytest.raises(error):
        await running.batches.store(
            canonical.digest(BATCH),
            in_chunks(body),
            encoding=encoding,  # type: ignore[arg-type] # of the table
        )
    assert not await running.batches.has(canonical.digest(BATCH))
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == files


async def test_members_that_push_at_once(running: Running) -> None:
    """No deadlock, no gap, each chain in order; and what is in force is the fold's."""
    running_pushes = [
        _push_many(running, member, offset) for offset, member in enumerate(CONTRIBUTORS)
    ]
    await asyncio.gather(*running_pushes)

    await verify_consistent(running.pool)
    live = await running.pool.fetchval("SELECT count(*) FROM assertion WHERE ended_in IS NULL")
    disputes = await running.pool.fetchval("SELECT count(*) FROM dispute WHERE ended_in IS NULL")
    known = await running.pool.fetchval("SELECT count(DISTINCT value) FROM hash")
    assert (live, disputes, known) == await _folded(running)


async def test_a_client_that_leaves_does_not_undo(running: Running) -> None:
    """Its submission goes on, and the repetition is answered."""
    envelope = acme(running).sign(await running.store([assertion(3)]), Operation.ASSERT)
    request = asyncio.create_task(running.send(ACME, envelope))
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await running.submissions.drain()

    assert (await running.send(ACME, envelope)).repeated


@pytest.mark.parametrize("moment", ["append", "append_touched", "lock_chain"])
async def test_a_connection_lost_before_the_commit_changes_nothing(
    running: Running, dsn: str, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The member is told to try again, and then it is the first time."""
    envelope = acme(running).sign(await running.store([assertion(3)]), Operation.ASSERT)
    before = await read_all(running.pool)
    _at(monkeypatch, moment, lambda pid: _terminate(dsn, pid))
    with pytest.raises(UnavailableError):
        await running.send(ACME, envelope)
    monkeypatch.undo()

    assert await read_all(running.pool) == before
    assert not (await running.send(ACME, envelope)).repeated


async def test_an_answer_lost_after_the_commit_is_given_again(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repetition gets the receipt that the first would have got."""
    envelope = acme(running).sign(await running.store([assertion(3)]), Operation.ASSERT)

    def lose(*_: object, **__: object) -> SubmissionResult:
        raise UnavailableError("lost")

    with monkeypatch.context() as patch:
        patch.setattr("hashshare.service.submit.SubmitService._answer", lose)
        with pytest.raises(UnavailableError):
            await running.send(ACME, envelope)

    result = await running.send(ACME, envelope)
    assert (result.repeated, result.log_index) == (True, 2)
    verify_receipt(parse_receipt(result.receipt), envelope.encode(), running.coalition.log.verifier)


async def test_own_submissions_are_listed(running: Running) -> None:
    """In log order, a page at a time, and only one's own."""
    await running.push(BETA, [assertion(1)])
    second = await running.push(ACME, [assertion(5)])

    listed = await running.submissions.list_submissions(ACME)
    assert [(s.sequence, s.log_index, s.hash_set) for s in listed] == [
        (1, 1, HASH_SET),
        (2, 3, HASH_SET),
    ]
    after = await running.submissions.list_submissions(ACME, after=1)
    assert [s.statement_id for s in after] == [second.statement_id]
    with pytest.raises(NotFoundError):
        await running.submissions.read_submission(second.statement_id, GAMMA)


async def _push_many(running: Running, member: MemberId, offset: int) -> None:
    for turn in range(6):
        numbers = range(turn * 5 + offset, turn * 5 + offset + 20)
        if turn == 4:
            records = [WithdrawRecord("", assertion(n).hashes) for n in numbers]
            await running.push(member, records)
        elif turn == 5:
            reason = DisputeReason.COLLISION
            await running.push(
                member, [DisputeRecord(assertion(n).hashes, reason) for n in numbers]
            )
        else:
            await running.push(member, [assertion(n) for n in numbers])


async def _folded(running: Running) -> tuple[int, int, int]:
    """Replay the log from the stored batches: assertions and disputes in force, hashes named."""
    from hashshare.domain.fold import Fold
    from hashshare.storage.blobs import BlobKind
    from hashshare.wire.batch import BatchRules, parse_batch
    from hashshare.wire.compression import inflate

    fold, named = Fold(), set()
    rows = await running.pool.fetch("""
        SELECT log_index, member_id, operation, records, batch
          FROM submission JOIN member USING (member_no) ORDER BY log_index
    """)
    hash_set = (await running.registries.current()).registry.hash_set(HASH_SET)
    for row in rows:
        rules = BatchRules(
            Operation(row["operation"]),
            frozenset(hash_set.algorithms),
            frozenset(hash_set.classifications),
            row["records"],
        )
        stored = running.blobs.read_blocking(BlobKind.BATCH, row["batch"].hex())
        records = list(parse_batch(inflate(stored, max_bytes=10**6), rules).records())
        fold.apply(MemberId(row["member_id"]), records, log_index=row["log_index"])
        if not isinstance(records[0], WithdrawRecord):
            named |= {value for record in records for value in record.hashes.values()}
    opinions = [opinion for by_member in fold.opinions.values() for opinion in by_member.values()]
    live = sum(len(opinion.assertions) for opinion in opinions)
    return live, sum(opinion.dispute is not None for opinion in opinions), len(named)


async def _meanwhile(
    running: Running, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[None]]
) -> None:
    """Let ``act`` happen once, after the next submission was verified and before it is merged."""
    accept = SubmitService._accept

    async def accept_later(self: SubmitService, *arguments: object) -> Accepted:
        monkeypatch.undo()
        await act()
        return await accept(self, *arguments)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(SubmitService, "_accept", accept_later)


def _at(
    monkeypatch: pytest.MonkeyPatch, moment: str, act: Callable[[int], Awaitable[None]]
) -> None:
    """Let ``act`` happen when a method of the submission repository is called."""
    from hashshare.storage.submissions import SubmissionRepository

    method = getattr(SubmissionRepository, moment)

    async def acting(self: SubmissionRepository, *arguments: object, **named: object) -> object:
        await act(await self.connection.fetchval("SELECT pg_backend_pid()"))
        return await method(self, *arguments, **named)

    monkeypatch.setattr(SubmissionRepository, moment, acting)


async def _terminate(dsn: str, pid: int) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
    await connection.close()

"""A mirror that lies: what it gives is refused, and the next source is asked."""

import hashlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hashshare.client import Client
from hashshare.crypto.keys import read_private_key
from hashshare.crypto.note import Checkpoint, NoteSigner, sign_checkpoint
from hashshare.domain.members import Role
from hashshare.errors import (
    ConflictError,
    DigestMismatchError,
    EquivocationError,
    FreezeError,
    HashshareError,
    MalformedError,
    RootMismatchError,
    SignatureInvalidError,
    VerificationError,
)
from hashshare.mirror import Mirror
from hashshare.wire.lists import ProofDocument
from tests.client.test_mirror import LIST, alone
from tests.client.test_witness import coalition, settled, witness  # noqa: F401 # a fixture
from tests.support.federation import Federation
from tests.support.mirrors import Mirrored, run_mirror
from tests.support.relay import Answer, run_relay


@pytest.fixture
async def mirrored(federation: Federation) -> AsyncIterator[Mirrored]:
    """A mirror in sync; beta holds the first of two versions."""
    watch = await federation.join("watch", (Role.AUDITOR,))
    async with run_mirror(federation, watch) as mirrored:
        await mirrored.push(1, 2, 3)
        await mirrored.sync()
        async with Client(federation.members["beta"]) as beta:
            await beta.pull()
        await mirrored.push(4, 5)
        await mirrored.sync()
        yield mirrored


def edit(mirrored: Mirrored, statement: str, *values: object) -> None:
    """Change the mirror's archive behind its back."""
    connection = sqlite3.connect(mirrored.folder / "archive.sqlite")
    with connection:
        assert connection.execute(statement, values).rowcount > 0
    connection.close()


def flip(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def tamper_checkpoint(mirrored: Mirrored) -> None:
    """Claim another root."""
    stranger = b"test.example/log\n99\n" + b"A" * 43 + b"=\n\n\xe2\x80\x94 test.example/log AAAA\n"
    edit(mirrored, "UPDATE state SET value = ? WHERE name = 'note'", stranger)


def tamper_tile(mirrored: Mirrored) -> None:
    """Swap the last leaf for the first."""
    edit(
        mirrored,
        "UPDATE leaf SET entry = (SELECT entry FROM leaf WHERE log_index = 0)"
        " WHERE log_index = (SELECT max(log_index) FROM leaf)",
    )


def tamper_leaf(mirrored: Mirrored) -> None:
    """Say what the publication says of fewer leaves."""
    edit(
        mirrored,
        "UPDATE leaf SET entry = CAST(replace(entry, 'sig', 'gis') AS BLOB) WHERE log_index > 8",
    )


def tamper_deltas(mirrored: Mirrored) -> None:
    """Flip a bit in each."""
    for path in (mirrored.folder / "deltas").rglob("*.zst"):
        flip(path)


def swap_deltas(mirrored: Mirrored) -> None:
    """Give one list's delta for another's: genuine, and in the wrong place."""
    for path in (mirrored.folder / "deltas/csam/all/md5").glob("*.zst"):
        other = mirrored.folder / "deltas" / LIST / path.name
        path.replace(other)
    for path in (mirrored.folder / "deltas" / LIST).glob("*.zst"):
        first = next((mirrored.folder / "deltas/csam/confirmed/sha256").glob("*.zst"))
        path.write_bytes(first.read_bytes())


TAMPERED: dict[str, tuple[Callable[[Mirrored], None], tuple[type[HashshareError], ...]]] = {
    "checkpoint": (tamper_checkpoint, (MalformedError, SignatureInvalidError)),
    "tile": (tamper_tile, (VerificationError, ConflictError)),
    "leaf": (tamper_leaf, (MalformedError, VerificationError)),
    "delta": (tamper_deltas, (VerificationError,)),
    "another list's delta": (swap_deltas, (VerificationError,)),
}


@pytest.mark.parametrize("what", TAMPERED)
async def test_a_mirror_that_was_tampered_with(mirrored: Mirrored, what: str) -> None:
    """In any of its files: it is refused, nothing changes, and the next source is taken."""
    tamper, errors = TAMPERED[what]
    tamper(mirrored)
    beta = mirrored.federation.members["beta"]
    async with Client(alone(beta), sources=[mirrored.url]) as client:
        before = client.lists()
        with pytest.raises(errors):
            await client.pull(LIST)
        assert client.lists() == before
    async with Client(beta, sources=[mirrored.url, beta.api_url]) as client:
        assert {p.count for p in await client.pull(LIST)} == {5}
        (skipped,) = client.skipped
    assert skipped.url == mirrored.url
    assert skipped.reason.startswith("gave what does not hold: ")


@pytest.mark.parametrize("what", ["a flipped bit", "another list's"])
async def test_a_mirrors_snapshot_that_was_tampered_with(mirrored: Mirrored, what: str) -> None:
    """A file of another digest, or one that is well-formed and holds something else."""
    gamma = await mirrored.federation.join("gamma")
    await mirrored.sync()
    for path in (mirrored.folder / "deltas").rglob("0-*.zst"):
        path.unlink()
    (path,) = (mirrored.folder / "snapshots" / LIST).glob("*.parquet")
    if what == "a flipped bit":
        flip(path)
    else:
        (other,) = (mirrored.folder / "snapshots/csam/confirmed/sha256").glob("*.parquet")
        data = other.read_bytes()
        path.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        edit(
            mirrored,
            "UPDATE snapshot SET sha256 = ?, size = ?, version = ? WHERE list = ?",
            *(digest, len(data), int(path.stem), LIST),
        )
    async with Client(gamma, sources=[mirrored.url, gamma.api_url]) as client:
        assert {p.count for p in await client.pull(LIST)} == {5}
        (skipped,) = client.skipped
    expected = DigestMismatchError if what == "a flipped bit" else RootMismatchError
    assert isinstance(skipped.error, expected)


async def test_a_mirror_that_proves_nothing(mirrored: Mirrored) -> None:
    """Leaves and proof are wrong, the checkpoint genuine: the next source clears the log of it."""
    beta = mirrored.federation.members["beta"]
    async with run_relay(mirrored.federation, "beta") as relay:

        def lie(answer: Answer) -> None:
            if answer.path.startswith("/v1/log/consistency"):
                answer.body = ProofDocument(proof=[bytes(32)]).encode()
            if answer.path.startswith("/v1/log/entries?"):
                answer.body = answer.body[:-3] + b"AAA"

        relay.attack = lie
        known = Client(beta, sources=[relay.profile.api_url, beta.api_url])
        async with known as client:
            assert {p.count for p in await client.pull(LIST)} == {5}
            (skipped,) = client.skipped
    assert isinstance(skipped.error, VerificationError | MalformedError)


@pytest.mark.parametrize("size", ["same", "larger"])
async def test_a_mirror_that_shows_another_history(mirrored: Mirrored, size: str) -> None:
    """Signed with the log's own key: pulling stops, whatever the next source says."""
    federation, beta = mirrored.federation, mirrored.federation.members["beta"]
    async with Client(beta) as client:
        known = (await client.follow()).history
    key = read_private_key(federation.folder / "coalition/keys/log.pem")
    log = beta.trust.log
    forked = Checkpoint(log, known.size + (size == "larger"), b"\x07" * 32)
    note = sign_checkpoint(forked, NoteSigner(log, key))
    edit(mirrored, "UPDATE state SET value = ? WHERE name = 'note'", note)
    edit(
        mirrored,
        "INSERT INTO leaf SELECT max(log_index) + 1, entry FROM leaf",
    )
    async with Client(beta, sources=[mirrored.url, beta.api_url]) as client:
        with pytest.raises(EquivocationError) as caught:
            await client.pull(LIST)
    assert any("evidence" in note for note in caught.value.__notes__)
    kept = [path.read_text() for path in beta.folder.glob("evidence-*.json")]
    assert any(note.decode().splitlines()[2] in text for text in kept)


async def test_a_mirror_that_withholds_news(coalition: Federation) -> None:  # noqa: F811
    """The witnesses' times tell, and the next source is asked."""
    await settled(coalition, "acme", "beta", "gamma")
    operator = coalition.members["delta"]
    async with run_mirror(coalition, operator) as mirrored:
        await mirrored.sync()
        later = datetime.now(UTC) + timedelta(minutes=4)
        for name in ("acme", "beta", "gamma"):
            async with witness(coalition.members[name]) as loop:
                loop.clock = lambda: later
                await loop.step()
        ahead = timedelta(minutes=-2)
        reader = replace(operator, warn_after=ahead, stop_after=ahead)
        async with Client(reader, sources=[mirrored.url, reader.api_url]) as client:
            assert await client.pull()
            assert [type(s.error) for s in client.skipped] == [FreezeError]


async def test_a_mirror_keeps_no_lie_of_its_source(mirrored: Mirrored) -> None:
    """What the source gives is refused; readers see what was there, and the next sync mends it."""
    await mirrored.push(6)
    async with run_relay(mirrored.federation, "watch") as relay:

        def lie(answer: Answer) -> None:
            if "/log/entries" in answer.path or "/deltas/" in answer.path:
                answer.body = answer.body[:-3] + b"AAA"

        relay.attack = lie
        async with Mirror.open(relay.profile, mirrored.folder) as mirror:
            with pytest.raises((VerificationError, MalformedError)):
                await mirror.sync()
    beta = alone(mirrored.federation.members["beta"])
    async with Client(beta, sources=[mirrored.url]) as client:
        assert {p.count for p in await client.pull(LIST)} == {5}
        await mirrored.sync()
        assert {p.count for p in await client.pull(LIST)} == {6}

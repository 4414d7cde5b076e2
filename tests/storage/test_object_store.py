"""Blobs in an object store: the same promises as in a folder, against a server of the S3 API."""

import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping

import obstore
import pytest

from hashshare.errors import ConflictError, NotFoundError, TooLargeError, UnavailableError
from hashshare.storage.blobs import BlobKind, Blobs
from hashshare.storage.newest import shared_record
from tests.support.object_store import BUCKET, run_object_store

# More than one part of an upload.
DATA = bytes(range(256)) * 100_000


@pytest.fixture(scope="module")
def variables() -> Iterator[Mapping[str, str]]:
    with run_object_store() as variables:
        yield variables


@pytest.fixture
def blobs(variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Blobs:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Blobs.open(f"s3://{BUCKET}/{hashlib.sha256(repr(monkeypatch).encode()).hexdigest()}")


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for begin in range(0, len(data), 1_000_000):
        yield data[begin : begin + 1_000_000]


async def read(blobs: Blobs, name: str, *, offset: int = 0) -> bytes:
    parts = [part async for part in blobs.read(BlobKind.ARTIFACT, name, offset=offset)]
    return b"".join(parts)


def names(blobs: Blobs) -> list[str]:
    return [meta["path"] for part in obstore.list(blobs.store) for meta in part]


async def test_what_is_written_is_read(blobs: Blobs) -> None:
    """By its digest, from any offset, in the loop or in a thread; the same twice is one blob."""
    blob = await blobs.add_artifact(chunks(DATA), max_bytes=len(DATA))
    assert await blobs.add_artifact(chunks(DATA), max_bytes=len(DATA)) == blob

    assert (blob.sha256, blob.size) == (hashlib.sha256(DATA).hexdigest(), len(DATA))
    assert await blobs.find_size(BlobKind.ARTIFACT, blob.sha256) == len(DATA)
    assert await read(blobs, blob.sha256) == DATA
    assert await read(blobs, blob.sha256, offset=9_000_001) == DATA[9_000_001:]
    assert b"".join(blobs.read_blocking(BlobKind.ARTIFACT, blob.sha256)) == DATA
    assert names(blobs) == [f"artifacts/{blob.sha256[:2]}/{blob.sha256}"]


async def test_what_is_not_kept_leaves_nothing(blobs: Blobs) -> None:
    """Also when parts of it were uploaded already."""
    with pytest.raises(TooLargeError):
        await blobs.add_artifact(chunks(DATA), max_bytes=len(DATA) - 1)
    async with blobs.draft(max_bytes=len(DATA)) as draft:
        await draft.write(DATA)
    assert names(blobs) == []


async def test_what_is_removed_is_not_found(blobs: Blobs) -> None:
    """And may be removed again."""
    blob = await blobs.add_artifact(chunks(b"once"), max_bytes=4)
    for _ in range(2):
        await blobs.remove(BlobKind.ARTIFACT, blob.sha256)
    assert await blobs.find_size(BlobKind.ARTIFACT, blob.sha256) is None
    with pytest.raises(NotFoundError):
        await read(blobs, blob.sha256)


async def test_a_store_that_is_away_is_not_a_blob_that_is_missing(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member is told to try again, and not that there is no such batch."""
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_RETRIES", "0")
    away = Blobs.open(f"s3://{BUCKET}")
    with pytest.raises(UnavailableError):
        await away.find_size(BlobKind.ARTIFACT, "00" * 32)


async def test_the_newest_checkpoint_is_swapped_on_condition(blobs: Blobs) -> None:
    """Of two servers that read the same, one writes: the store itself sees to it."""
    record = shared_record(blobs.store)
    nothing = await record.read()
    await record.swap(nothing, b"one")
    with pytest.raises(ConflictError):
        await record.swap(nothing, b"another one")
    held = await record.read()
    await record.swap(held, b"two")
    with pytest.raises(ConflictError):
        await record.swap(held, b"another two")
    assert (await record.read()).note == b"two"

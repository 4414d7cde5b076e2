"""Blobs are there whole, or not at all."""

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hashshare.errors import NotFoundError, TooLargeError, UnavailableError
from hashshare.storage.blobs import BlobKind, Blobs

DATA = bytes(range(256)) * 20_000


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for begin in range(0, len(data), 100_000):
        yield data[begin : begin + 100_000]


async def read(blobs: Blobs, name: str, *, offset: int = 0) -> bytes:
    parts = [part async for part in blobs.read(BlobKind.ARTIFACT, name, offset=offset)]
    return b"".join(parts)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("prefix", ["", "file://"])
async def test_what_is_written_is_read(tmp_path: Path, prefix: str) -> None:
    """By its digest, from any offset, in the loop or in a thread."""
    blobs = Blobs.open(f"{prefix}{tmp_path}")
    blob = await blobs.add_artifact(chunks(DATA), max_bytes=len(DATA))

    assert (blob.sha256, blob.size) == (hashlib.sha256(DATA).hexdigest(), len(DATA))
    assert await blobs.find_size(BlobKind.ARTIFACT, blob.sha256) == len(DATA)
    assert await read(blobs, blob.sha256) == DATA
    assert await read(blobs, blob.sha256, offset=1_000_001) == DATA[1_000_001:]
    assert b"".join(blobs.read_blocking(BlobKind.ARTIFACT, blob.sha256)) == DATA


async def test_a_file_is_added(tmp_path: Path) -> None:
    """The same twice is one blob."""
    blobs = Blobs.open(str(tmp_path / "blobs"))
    (tmp_path / "file").write_bytes(DATA)

    first = await blobs.add_artifact_file(tmp_path / "file")
    assert await blobs.add_artifact_file(tmp_path / "file") == first
    assert await read(blobs, first.sha256) == DATA
    assert len(files(tmp_path / "blobs")) == 1


async def test_what_is_not_kept_leaves_nothing(tmp_path: Path) -> None:
    """Whether it was too large, or the writer failed or gave up."""
    blobs = Blobs.open(str(tmp_path))
    with pytest.raises(TooLargeError):
        await blobs.add_artifact(chunks(DATA), max_bytes=len(DATA) - 1)
    with pytest.raises(ZeroDivisionError):
        async with blobs.draft(max_bytes=len(DATA)) as draft:
            await draft.write(DATA)
            raise ZeroDivisionError
    async with blobs.draft(max_bytes=1):
        pass

    assert files(tmp_path) == []


async def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    """Also after it was removed."""
    blobs = Blobs.open(str(tmp_path))
    blob = await blobs.add_artifact(chunks(DATA), max_bytes=len(DATA))
    await blobs.remove(BlobKind.ARTIFACT, blob.sha256)
    await blobs.remove(BlobKind.ARTIFACT, blob.sha256)

    assert await blobs.find_size(BlobKind.ARTIFACT, blob.sha256) is None
    with pytest.raises(NotFoundError):
        await read(blobs, blob.sha256)


async def test_a_blob_is_synced_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk shows at the sync, and then there is no such blob."""

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    blobs = Blobs.open(str(tmp_path))
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UnavailableError):
        await blobs.add_artifact(chunks(DATA), max_bytes=len(DATA))

    assert files(tmp_path) == []

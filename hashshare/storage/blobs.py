"""Batches and artifacts: immutable blobs named by digest, in a folder or an object store.

A blob is durable and complete from the moment that it can be read by its name: it is written
under a temporary name, synced, and then given its own. So a transaction may name it, and a
crash before that leaves a file that nothing refers to.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Final, Self
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from hashshare.errors import NotFoundError, TooLargeError, UnavailableError

CHUNK_BYTES: Final = 1024 * 1024

_INCOMING: Final = "incoming"


class BlobKind(StrEnum):
    """What a blob is, which is the folder that it lies in."""

    BATCH = "batches"
    """A batch as zstd, named by the digest of the NDJSON inside."""
    ARTIFACT = "artifacts"
    """A file that is served as it is, named by its own digest."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Names a stored artifact: its digest (lower-case hex) and its size in bytes."""

    sha256: str
    size: int


class Draft:
    """A blob that is being written; gone without a trace unless ``keep`` is called.

    Attributes:
        size: Bytes written so far.
    """

    def __init__(self, store: ObjectStore, *, max_bytes: int) -> None:
        self.size = 0
        self._store = store
        self._path = f"{_INCOMING}/{uuid4().hex}"
        self._max_bytes = max_bytes
        self._digest = hashlib.sha256()
        self._writer = obstore.open_writer_async(
            store, self._path, buffer_size=8 * CHUNK_BYTES, max_concurrency=2
        )

    @property
    def sha256(self) -> str:
        """Digest of the bytes written so far."""
        return self._digest.hexdigest()

    async def write(self, data: bytes) -> None:
        """Append ``data``.

        Raises:
            TooLargeError: The blob would be over its limit.
            UnavailableError: It cannot be written.
        """
        self.size += len(data)
        if self.size > self._max_bytes:
            raise TooLargeError(f"more than {self._max_bytes} bytes")
        if len(data) > CHUNK_BYTES // 4:
            await asyncio.to_thread(self._digest.update, data)
        else:
            self._digest.update(data)
        with _translated():
            await self._writer.write(data)

    async def keep(self, kind: BlobKind, name: str) -> None:
        """Give the blob its name. Durable once this returns; idempotent by name."""
        with _translated():
            await self._writer.close()
            folder = _folder_of(self._store)
            if folder is None:
                await obstore.rename_async(self._store, self._path, _path(kind, name))
            else:
                await asyncio.to_thread(_keep_file, folder, self._path, _path(kind, name))

    async def discard(self) -> None:
        """Remove what was written, unless it was kept."""
        with _translated():
            # What was buffered is written first: a writer cannot be aborted. After keep() this
            # fails, since it is closed.
            with suppress(OSError, BaseError):
                await self._writer.close()
            with suppress(FileNotFoundError):
                await obstore.delete_async(self._store, self._path)


@dataclass(frozen=True, slots=True)
class Blobs:
    """The blobs of one coalition. May be used by several tasks and processes at once."""

    store: ObjectStore

    @classmethod
    def open(cls, url: str) -> Self:
        """Return the blobs at ``url``: ``file:///...``, ``s3://...``, ``gs://...``, ``az://...``.

        Raises:
            UnavailableError: There is no such kind of store, or it is not configured.
        """
        if "://" not in url:
            return cls(LocalStore(prefix=Path(url).resolve(), mkdir=True))
        with _translated():
            if url.startswith("file://"):
                return cls(LocalStore.from_url(url, mkdir=True))
            return cls(from_url(url))

    @asynccontextmanager
    async def draft(self, *, max_bytes: int) -> AsyncIterator[Draft]:
        """Begin a blob; what is not kept when the block is left is removed.

        Args:
            max_bytes: More is refused while it is written.
        """
        draft = Draft(self.store, max_bytes=max_bytes)
        try:
            yield draft
        finally:
            await draft.discard()

    async def add_artifact(self, chunks: AsyncIterator[bytes], *, max_bytes: int) -> Blob:
        """Store an artifact and return its name. Durable once this returns; idempotent.

        Raises:
            TooLargeError: It has more than ``max_bytes``.
            UnavailableError: It cannot be written.
        """
        async with self.draft(max_bytes=max_bytes) as draft:
            async for chunk in chunks:
                await draft.write(chunk)
            blob = Blob(draft.sha256, draft.size)
            await draft.keep(BlobKind.ARTIFACT, blob.sha256)
        return blob

    async def add_artifact_file(self, path: Path) -> Blob:
        """Store the artifact that is the file ``path``; see ``add_artifact``."""
        with await asyncio.to_thread(_open, path) as file:
            size = os.fstat(file.fileno()).st_size
            return await self.add_artifact(_chunks_of(file), max_bytes=size)

    async def find_size(self, kind: BlobKind, name: str) -> int | None:
        """Return the size of a blob in bytes, as stored, None if there is none."""
        with _translated():
            try:
                meta = await obstore.head_async(self.store, _path(kind, name))
            except FileNotFoundError:
                return None
            return int(meta["size"])

    async def read(self, kind: BlobKind, name: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the bytes of a blob from ``offset`` on, in chunks of about a megabyte.

        Raises:
            NotFoundError: There is no such blob.
            UnavailableError: It cannot be read.
        """
        folder = _folder_of(self.store)
        with _translated():
            if folder is not None:
                # The library hands files out by 8 KiB, which costs twenty times the CPU.
                with await asyncio.to_thread(_open, folder / _path(kind, name), offset) as file:
                    async for chunk in _chunks_of(file):
                        yield chunk
                return
            if offset:
                result = await obstore.get_async(
                    self.store, _path(kind, name), options={"range": {"offset": offset}}
                )
            else:
                result = await obstore.get_async(self.store, _path(kind, name))
            async for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)

    def read_blocking(self, kind: BlobKind, name: str) -> Iterator[bytes]:
        """Yield what ``read`` does, for use in a worker thread."""
        folder = _folder_of(self.store)
        with _translated():
            if folder is not None:
                with _open(folder / _path(kind, name)) as file:
                    while chunk := file.read(CHUNK_BYTES):
                        yield chunk
                return
            result = obstore.get(self.store, _path(kind, name))
            for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)

    async def remove(self, kind: BlobKind, name: str) -> None:
        """Remove a blob that nothing refers to any more; idempotent."""
        with _translated(), suppress(FileNotFoundError):
            await obstore.delete_async(self.store, _path(kind, name))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError("there is no such blob") from error
    except (OSError, BaseError) as error:
        raise UnavailableError("the blob store cannot be used now, try again") from error


def _path(kind: BlobKind, name: str) -> str:
    return f"{kind}/{name[:2]}/{name}"


def _folder_of(store: ObjectStore) -> Path | None:
    """Return where a local store lies, None for one that is durable by itself."""
    if not isinstance(store, LocalStore):
        return None
    if store.prefix is None:
        raise RuntimeError("a local store must have a folder")
    return Path(store.prefix)


def _keep_file(folder: Path, temporary: str, final: str) -> None:
    # The store does not sync. The bytes must be on disk before the name is, and the name
    # before the transaction that mentions it.
    target = folder / final
    _sync(folder / temporary)
    target.parent.mkdir(parents=True, exist_ok=True)
    (folder / temporary).replace(target)
    for path in (target.parent, target.parent.parent, folder):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path, offset: int = 0) -> BinaryIO:
    file = path.open("rb")
    file.seek(offset)
    return file


async def _chunks_of(file: BinaryIO) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
        yield chunk

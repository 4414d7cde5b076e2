"""Batches: what members upload, before the statements that name them."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

import zstandard

from hashshare.domain.members import Role
from hashshare.domain.names import MemberId
from hashshare.domain.statements import BatchManifest
from hashshare.errors import (
    DigestMismatchError,
    MalformedError,
    NotFoundError,
    TooLargeError,
)
from hashshare.service.merge import PreparedBatch, prepare_batch
from hashshare.service.registry import RegistryService
from hashshare.storage.blobs import BlobKind, Blobs
from hashshare.storage.database import Pool, snapshot
from hashshare.storage.submissions import SubmissionRepository
from hashshare.wire.batch import BatchRules, read_batch
from hashshare.wire.compression import Inflater


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch may be.

    Attributes:
        max_bytes: Not compressed; as well as compressed.
        max_records: Lines after the header.
    """

    max_bytes: int = 512 * 1024 * 1024
    max_records: int = 2_000_000

    def verify(self, manifest: BatchManifest) -> None:
        """Refuse what is announced to be over a limit, or empty.

        Raises:
            TooLargeError: It is over a limit.
            MalformedError: It has no record.
        """
        if manifest.size > self.max_bytes:
            raise TooLargeError(f"a batch has at most {self.max_bytes} bytes")
        if manifest.count > self.max_records:
            raise TooLargeError(f"a batch has at most {self.max_records} records")
        if manifest.count == 0:
            raise MalformedError("a batch has at least one record")


@dataclass(frozen=True, slots=True)
class BatchService:
    """Stores batches and reads them. May be used by several tasks and processes at once."""

    pool: Pool
    blobs: Blobs
    registries: RegistryService
    limits: BatchLimits = BatchLimits()

    async def has(self, sha256: str) -> bool:
        """Return whether a batch is stored."""
        return await self.blobs.find_size(BlobKind.BATCH, sha256) is not None

    async def store(
        self, sha256: str, chunks: AsyncIterator[bytes], *, encoding: Literal["identity", "zstd"]
    ) -> bool:
        """Store a batch and return True, or False if it is there already.

        Durable once it returns; idempotent. Its lines are looked at when it is submitted.

        Args:
            sha256: Digest of the NDJSON, lower-case hex.
            chunks: The body; not read to its end when the batch is there already.
            encoding: Of the body.

        Raises:
            DigestMismatchError: The NDJSON has another digest.
            MalformedError: It is not exactly one zstd frame.
            TooLargeError: It is over the limit, before or after decompression.
            UnavailableError: It cannot be stored now.
        """
        if await self.has(sha256):
            return False
        limit = self.limits.max_bytes
        intake = _Inflating(limit) if encoding == "zstd" else _Deflating(limit)
        async with self.blobs.draft(max_bytes=limit) as draft:
            async for chunk in chunks:
                await draft.write(await asyncio.to_thread(intake.feed, chunk))
            await draft.write(intake.finish())
            if intake.sha256 != sha256:
                raise DigestMismatchError("the batch does not have the digest in its name")
            await draft.keep(BlobKind.BATCH, sha256)
        return True

    async def open(self, sha256: str, *, peer_member: MemberId) -> AsyncIterator[bytes]:
        """Return the bytes of a stored batch, as zstd, for those who may have it.

        Raises:
            NotFoundError: There is none, or the member is neither one who submitted it nor
                an admin or auditor.
        """
        registry = (await self.registries.current()).registry
        async with snapshot(self.pool) as connection:
            owners = await SubmissionRepository(connection).read_batch_owners(sha256)
        if peer_member not in owners:
            roles = registry.member(peer_member).roles
            if Role.ADMIN not in roles and Role.AUDITOR not in roles:
                raise NotFoundError("there is no such batch")
        if not await self.has(sha256):
            raise NotFoundError("there is no such batch")
        return self.blobs.read(BlobKind.BATCH, sha256)

    def prepare_blocking(self, manifest: BatchManifest, rules: BatchRules) -> PreparedBatch:
        """Read a stored batch whole, check it, and return what merging needs. For a thread.

        Raises:
            DigestMismatchError: It has not the digest or size that is announced.
            BatchFaultsError: Lines are faulty, or not as many as announced.
            UnavailableError: It cannot be read now.
        """
        compressed = self.blobs.read_blocking(BlobKind.BATCH, manifest.sha256)
        return prepare_batch(
            read_batch(compressed, manifest, rules, max_bytes=self.limits.max_bytes)
        )


class _Inflating:
    """Checks a batch that comes as zstd, and stores it as it comes."""

    def __init__(self, max_bytes: int) -> None:
        self._inflater = Inflater(max_bytes=max_bytes)
        self._digest = hashlib.sha256()

    def feed(self, chunk: bytes) -> bytes:
        for plain in self._inflater.feed(chunk):
            self._digest.update(plain)
        return chunk

    def finish(self) -> bytes:
        self._inflater.finish()
        return b""

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class _Deflating:
    """Compresses a batch that comes plain."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._deflater = zstandard.ZstdCompressor().compressobj()
        self._digest = hashlib.sha256()

    def feed(self, chunk: bytes) -> bytes:
        self._left -= len(chunk)
        if self._left < 0:
            raise TooLargeError("the batch is over the limit")
        self._digest.update(chunk)
        return self._deflater.compress(chunk)

    def finish(self) -> bytes:
        return self._deflater.flush()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

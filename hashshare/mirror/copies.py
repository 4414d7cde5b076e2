"""What readers get of the lists of a mirror: deltas, snapshots, buckets."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hashshare.crypto.envelope import parse_envelope
from hashshare.crypto.merkle import leaf_hash
from hashshare.domain.buckets import EMPTY_BUCKET
from hashshare.domain.documents import decode_document
from hashshare.domain.names import ListName
from hashshare.domain.statements import Publication, PublishedList
from hashshare.errors import ConflictError, VersionNotFoundError
from hashshare.mirror.archive import Archive, KeptSnapshot
from hashshare.mirror.shelf import Shelf, write_net
from hashshare.mirror.syncing import snapshot_path
from hashshare.replica import BucketProof, Replica
from hashshare.wire.delta import FORMAT, DeltaHeader

MOST_MERGES: Final = 2
"""Deltas over several versions are merged for so many readers at once; others wait."""
PIECE_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class ListCopies:
    """Reads the copies of lists in a mirror's folder. Only what readers are shown is given."""

    folder: Path
    archive: Archive
    replica: Callable[[], Replica]
    _merging: asyncio.Semaphore = field(
        init=False, repr=False, default_factory=lambda: asyncio.Semaphore(MOST_MERGES)
    )

    async def delta(self, name: ListName, base: int, target: int) -> AsyncIterator[bytes]:
        """Return the net change between two versions, one zstd frame.

        Raises:
            VersionNotFoundError: It is not here, and cannot be made of what is.
        """
        if base > target:
            raise VersionNotFoundError(f"there is no delta back from {base} to {target}")
        shelf = Shelf(self.folder / "deltas")
        ends = self._published(name, base), self._published(name, target)
        if target and ends[1] is None:
            raise VersionNotFoundError(f"{name} has no version {target} here")
        files = shelf.chain(
            name, base, target, is_unchanged=lambda version: self._is_unchanged(name, version)
        )
        if files == [shelf.path(name, base, target)]:
            return read_pieces(files[0])
        roots = [_root_of(end) for end in ends]
        header = DeltaHeader(
            base=base,
            base_root=roots[0],
            changes=0,
            format=FORMAT,
            list=str(name),
            target=target,
            target_root=roots[1],
        )
        return self._merge(files, name, header)

    async def _merge(
        self, files: list[Path], name: ListName, header: DeltaHeader
    ) -> AsyncIterator[bytes]:
        with tempfile.TemporaryDirectory(prefix="hashshare-delta-") as folder:
            path = Path(folder) / "delta.zst"
            async with self._merging:
                await asyncio.to_thread(write_net, files, name.algorithm, header, path)
            async for piece in read_pieces(path):
                yield piece

    def _is_unchanged(self, name: ListName, version: int) -> bool:
        """Return whether a list is the same in a version and the next one."""
        before, after = self._published(name, version), self._published(name, version + 1)
        return before is not None and before == after

    def _published(self, name: ListName, version: int) -> PublishedList | None:
        found = self.archive.find_publication(name.hash_set, version)
        if found is None:
            return None
        publication = decode_document(parse_envelope(found[1]).payload, Publication)
        return publication.find(name.view, name.algorithm)

    def snapshot(self, name: ListName, version: int | None = None) -> KeptSnapshot:
        """Return the newest snapshot of a list, or the one of a version.

        Raises:
            VersionNotFoundError: There is none.
        """
        for kept in self.archive.snapshots(str(name)):
            if version in {None, kept.version} and self.snapshot_path(name, kept).exists():
                return kept
        raise VersionNotFoundError(f"there is no snapshot of {name} here")

    def snapshot_path(self, name: ListName, kept: KeptSnapshot) -> Path:
        """Return the file of a snapshot."""
        return snapshot_path(self.folder, str(name), kept.version)

    async def bucket(self, name: ListName, index: int, bits: int) -> BucketProof:
        """Return one bucket of a list with its proof.

        Raises:
            NotFoundError: There is no such list or bucket here.
            ConflictError: The list is cut into another number of buckets.
        """
        return await asyncio.to_thread(self._read_bucket, name, index, bits)

    def _read_bucket(self, name: ListName, index: int, bits: int) -> BucketProof:
        with self.replica().reading() as reading:
            state = reading.state(str(name))
            if state.bits != bits:
                raise ConflictError(
                    f"version {state.version} of {name} has {state.bits} bits, not {bits}"
                )
            return reading.read_bucket(str(name), index)


def _root_of(published: PublishedList | None) -> str:
    return leaf_hash(EMPTY_BUCKET).hex() if published is None else published.root


async def read_pieces(path: Path, *, offset: int = 0) -> AsyncIterator[bytes]:
    """Yield a file from a byte on, read outside of the event loop."""
    with path.open("rb") as file:
        file.seek(offset)
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece

"""What was downloaded for a list, and how it is read: strictly, a piece at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hashshare.domain.changes import Change
from hashshare.domain.names import ListName
from hashshare.domain.statements import PublishedList
from hashshare.errors import MalformedError, MixAndMatchError
from hashshare.replica import ListState
from hashshare.wire.compression import Inflater
from hashshare.wire.delta import DeltaReader
from hashshare.wire.lists import SnapshotDocument

MAX_ENTRY_BYTES: Final = 4096
"""No entry of a snapshot or delta takes more; bounds what is read."""
MAX_CHANGES: Final = 200_000_000


@dataclass(frozen=True, slots=True)
class Offer:
    """A list to be pulled.

    Attributes:
        target: What its publication says of it.
        snapshot: The newest one, if it was asked for and there is one.
    """

    name: ListName
    target: PublishedList
    snapshot: SnapshotDocument | None

    def choose(self, state: ListState | None, version: int) -> SnapshotDocument | None:
        """Return the snapshot if it is nearer to ``version``, which is wanted, than ``state``."""
        if self.snapshot is None:
            return None
        base, held = (0, 0) if state is None else (state.version, state.count)
        # One that was published in the meantime is ahead of what was verified.
        fits = base < self.snapshot.version <= version
        closer = abs(self.target.count - self.snapshot.count) < abs(self.target.count - held)
        return self.snapshot if fits and closer else None


def is_same(state: ListState, target: PublishedList) -> bool:
    """Whether what the replica has of a list is what a publication says of it."""
    return (state.count, state.bits, state.root.hex()) == (target.count, target.bits, target.root)


@dataclass(frozen=True, slots=True)
class Download:
    """What was downloaded for one list, not believed yet.

    Attributes:
        held: The version that the replica had.
        base: The version that the delta starts from.
        version: The version that is to be reached.
        snapshot: Its description and file, None if none was taken.
        delta: Its compressed file, None if none was needed.
    """

    name: ListName
    target: PublishedList
    held: int
    base: int
    version: int
    snapshot: tuple[SnapshotDocument, Path] | None
    delta: Path | None
    received: int

    def delete(self) -> None:
        """Remove the files."""
        for path in (self.delta, None if self.snapshot is None else self.snapshot[1]):
            if path is not None:
                path.unlink(missing_ok=True)


def changes_of(path: Path, reader: DeltaReader, download: Download) -> Iterator[Change]:
    """Read a delta from its file: inflated within bounds, strict, and of the right ends."""
    inflater = Inflater(max_bytes=MAX_CHANGES * MAX_ENTRY_BYTES)
    with path.open("rb") as file:
        while chunk := file.read(65_536):
            for piece in inflater.feed(chunk):
                yield from reader.feed(piece)
                if reader.header is not None and reader.seen == 0:
                    _verify_header(reader, download)
    inflater.finish()
    reader.finish()
    _verify_header(reader, download)


def _verify_header(reader: DeltaReader, download: Download) -> None:
    header = reader.header
    if header is None:
        raise MalformedError("the delta has no header")
    found = (header.list, header.base, header.target, header.target_root)
    target = download.target
    if found != (str(download.name), download.base, download.version, target.root):
        raise MixAndMatchError("the delta is of another list, or between other versions")

"""The deltas of a mirror: files as they came, and what several of them come to together.

A delta is put here before the replica takes it in, and counts once the replica has its target:
the root was then the signed one.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from pathlib import Path
from typing import Final

import zstandard

from hashshare.domain.changes import Change
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.names import ListName
from hashshare.errors import VersionNotFoundError
from hashshare.wire.compression import inflate
from hashshare.wire.delta import DeltaHeader, DeltaReader, encode_delta

MAX_CHANGES: Final = 200_000_000
MAX_BYTES: Final = MAX_CHANGES * 4096
_NAME: Final = re.compile(r"(0|[1-9][0-9]{0,17})-([1-9][0-9]{0,17})\.zst")


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder of deltas.

    Attributes:
        folder: Has a folder for each list.
    """

    folder: Path

    def path(self, name: ListName, base: int, target: int) -> Path:
        """Return where a delta is, or would be."""
        return self.folder / str(name) / f"{base}-{target}.zst"

    def put(self, name: ListName, base: int, target: int, delta: Path) -> None:
        """Keep a delta as well under its name; durable once it returns."""
        path = self.path(name, base, target)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        os.link(delta, fresh)
        sync_file(fresh)
        fresh.replace(path)

    def drop(self, name: ListName) -> None:
        """Forget all deltas of a list."""
        shutil.rmtree(self.folder / str(name), ignore_errors=True)

    def size_after(self, name: ListName, version: int) -> int:
        """Return how many bytes the deltas have that start at ``version`` or later."""
        return sum(
            self.path(name, base, target).stat().st_size
            for base, target in self._ends(name)
            if base >= version
        )

    def chain(
        self, name: ListName, base: int, target: int, *, is_unchanged: Callable[[int], bool]
    ) -> list[Path]:
        """Return the deltas that lead from ``base`` to ``target``, in their order.

        Args:
            name: Of the list.
            base: A version.
            target: Not below it, and one that the replica has reached.
            is_unchanged: Whether the list is the same in a version and the next one.

        Raises:
            VersionNotFoundError: They are not all here.
        """
        steps: dict[int, int] = {}
        for first, last in self._ends(name):
            if last <= target:
                steps[first] = max(last, steps.get(first, 0))
        files, version = [], base
        while version < target:
            if version in steps:
                files.append(self.path(name, version, steps[version]))
                version = steps[version]
            elif version and is_unchanged(version):
                version += 1
            else:
                raise VersionNotFoundError(f"there is no delta of {name} from {base} here")
        return files

    def _ends(self, name: ListName) -> list[tuple[int, int]]:
        folder = self.folder / str(name)
        if not folder.is_dir():
            return []
        found = map(_NAME.fullmatch, os.listdir(folder))  # noqa: PTH208 # names are all we need
        return [(int(match[1]), int(match[2])) for match in found if match]


def write_net(files: list[Path], algorithm: HashAlgorithm, header: DeltaHeader, path: Path) -> None:
    """Write the delta that does the same as ``files`` one after the other.

    Args:
        files: Of one list, each starting where the one before ends.
        algorithm: Of the list.
        header: Its number of changes is not looked at.
        path: Overwritten.

    Raises:
        MalformedError: One of the files is damaged.
    """
    # The number comes first on the wire, so that they are merged twice, instead of being held.
    changes = sum(1 for _ in _net(files, algorithm))
    counted = DeltaHeader(
        base=header.base,
        base_root=header.base_root,
        changes=changes,
        format=header.format,
        list=header.list,
        target=header.target,
        target_root=header.target_root,
    )
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    with path.open("wb") as file:
        for lines in encode_delta(counted, _net(files, algorithm)):
            file.write(compressor.compress(lines))
        file.write(compressor.flush())


def _net(files: list[Path], algorithm: HashAlgorithm) -> Iterator[Change]:
    """Yield one change for each entry that is not, in the end, as absent as it was before.

    What an entry said before is not in the files: one that came to say the same again is still
    given as a change, which does no harm.
    """
    runs = [_read(path, algorithm, number) for number, path in enumerate(files)]
    ordered = merge(*runs, key=lambda item: item[:2])
    for _, group in groupby(ordered, key=lambda item: item[0]):
        changes = [change for _, _, change in group]
        first, last = changes[0], changes[-1]
        if first.before is not None or last.after is not None:
            yield Change(first.value, first.before, last.after)


def _read(path: Path, algorithm: HashAlgorithm, number: int) -> Iterator[tuple[bytes, int, Change]]:
    reader = DeltaReader(algorithm, max_changes=MAX_CHANGES)
    for piece in inflate(read_file(path), max_bytes=MAX_BYTES):
        for change in reader.feed(piece):
            yield algorithm.key(change.value), number, change
    reader.finish()


def read_file(path: Path) -> Iterator[bytes]:
    """Yield a file, piece by piece."""
    with path.open("rb") as file:
        while piece := file.read(65_536):
            yield piece


def sync_file(path: Path) -> None:
    """Make a file's bytes durable."""
    with path.open("rb") as file:
        os.fsync(file.fileno())

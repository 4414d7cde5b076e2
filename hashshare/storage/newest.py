"""The newest signed checkpoint, kept outside of the database, and changed by compare-and-swap.

In a file of the server's folder, or in an object store that several servers share. A backup of
the database must not hold it: it is what a restored database is held to.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

import obstore
from obstore.exceptions import AlreadyExistsError as ObjectExistsError
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import LocalStore, ObjectStore

from hashshare.errors import ConflictError, UnavailableError

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutMode, UpdateVersion

OBJECT: Final = "log/newest.checkpoint"
_LOOK_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class Held:
    """What a record held when it was read.

    Attributes:
        note: A signed checkpoint; b"" when there is none yet.
        version: By which the store knows this very state; None in a file.
    """

    note: bytes = b""
    version: "UpdateVersion | None" = None


class NewestRecord(Protocol):
    """Where the newest checkpoint is kept. May be used by several processes at once."""

    def __str__(self) -> str:
        """Name the place, for people."""

    async def read(self) -> Held:
        """Return what it holds.

        Raises:
            UnavailableError: It cannot be read now.
        """

    async def swap(self, held: Held, note: bytes) -> None:
        """Put ``note`` in the place of ``held``; durable once it returns.

        Raises:
            ConflictError: It holds something else by now, which is left.
            UnavailableError: It cannot be written now, or was written and the answer lost.
        """


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file, and a lock beside it which the system takes back when a process dies.

    Attributes:
        path: Of the file.
        patience: So many seconds another process may hold the lock: one that is stopped while it
            does would otherwise keep all who wait, and say nothing.
    """

    path: Path
    patience: float = 5.0

    def __str__(self) -> str:
        return str(self.path)

    async def read(self) -> Held:
        """Return what the file holds."""
        return await asyncio.to_thread(self._read)

    async def swap(self, held: Held, note: bytes) -> None:
        """Replace the file, which is whole at any moment, and sync it."""
        await asyncio.to_thread(self._swap, held, note)

    def _read(self) -> Held:
        with _translated():
            try:
                return Held(self.path.read_bytes())
            except FileNotFoundError:
                return Held()

    def _swap(self, held: Held, note: bytes) -> None:
        with _translated(), self._locked():
            if self._read() != held:
                raise ConflictError(f"{self} has changed meanwhile")
            fresh = self.path.with_suffix(".new")
            with fresh.open("wb") as file:
                file.write(note)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
            # Else the name may be the old file's again after a loss of power.
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # The lock is on a file of its own: the record itself is replaced.
        with self.path.with_suffix(".lock").open("ab") as file:
            deadline = time.monotonic() + self.patience
            while not _try_lock(file):
                if time.monotonic() > deadline:
                    raise UnavailableError(
                        "another server has held the record of the newest checkpoint for "
                        f"{self.patience:g} s; if its process is stopped, let it go on or end it"
                    )
                time.sleep(_LOOK_SECONDS)
            yield


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """An object of a store that can put on condition, such as S3, GCS or Azure."""

    store: ObjectStore

    def __str__(self) -> str:
        return f"{OBJECT} in the blob store"

    async def read(self) -> Held:
        """Return what the object holds, and its version."""
        with _translated():
            try:
                result = await obstore.get_async(self.store, OBJECT)
            except FileNotFoundError:
                return Held()
            note = bytes(await result.bytes_async())
        return Held(note, _version_of(result.meta))

    async def swap(self, held: Held, note: bytes) -> None:
        """Put the object if its version is still that of ``held``."""
        mode: PutMode = held.version or "create"
        with _translated():
            try:
                # In one request: only so does the condition hold for it.
                await obstore.put_async(self.store, OBJECT, note, mode=mode, use_multipart=False)
            except (ObjectExistsError, PreconditionError) as error:
                raise ConflictError(f"{self} has changed meanwhile") from error


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def shared_record(store: ObjectStore) -> NewestRecord:
    """Return the record that all servers of a blob store share."""
    if isinstance(store, LocalStore) and store.prefix is not None:
        return FileRecord(Path(store.prefix) / OBJECT)
    return ObjectRecord(store)


def _version_of(meta: "ObjectMeta") -> "UpdateVersion":
    version: UpdateVersion = {"e_tag": meta["e_tag"]}
    if meta["version"] is not None:
        version["version"] = meta["version"]
    return version


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OSError, BaseError) as error:
        raise UnavailableError(
            "the record of the newest checkpoint cannot be used now, try again"
        ) from error

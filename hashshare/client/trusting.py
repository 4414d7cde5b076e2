"""Keeping up with the trust root: which trust document is in force, as people signed it offline.

Source: docs/protocol.md, "The trust root"; TUF 1.0.34, section 5.
"""

import asyncio
import fcntl
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
from tuf.api import exceptions
from tuf.api.metadata import Root, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from hashshare.client.profile import Profile
from hashshare.client.session import Session, member_context
from hashshare.crypto.trust_metadata import TARGET, parse, verify_keys
from hashshare.domain.documents import encode_document
from hashshare.domain.joining import MAX_TRUST_BYTES, Trust, parse_trust
from hashshare.errors import (
    FreezeError,
    HashshareError,
    MixAndMatchError,
    NotFoundError,
    RollbackError,
    SignatureInvalidError,
    TooLargeError,
    TooManyRequestsError,
    UnavailableError,
    VerificationError,
)

TRUST_AGE: Final = timedelta(hours=1)
"""How old what is known of the trust root may be, for who is at it all the time."""
MAX_METADATA_BYTES: Final = 64 * 1024
LOCK_SECONDS: Final = 0.05
_CONFIG: Final = UpdaterConfig(
    max_root_rotations=1000,
    root_max_length=MAX_METADATA_BYTES,
    timestamp_max_length=MAX_METADATA_BYTES,
    snapshot_max_length=MAX_METADATA_BYTES,
    targets_max_length=MAX_METADATA_BYTES,
)


@dataclass(slots=True)
class TrustKeeper:
    """Keeps one profile's trust document up to date, and the session that was opened by it.

    Attributes:
        profile: As it is believed now.
    """

    profile: Profile
    session: Session

    async def keep(self, *, max_age: timedelta = timedelta()) -> bool:
        """Believe the trust document in force, if it was looked for longer ago than ``max_age``.

        Returns:
            Whether it is another one than before.

        Raises:
            VerificationError: What the server shows does not hold, or has expired.
            UnavailableError: The server cannot be reached, and what is known has not expired.
        """
        checked = self.profile.folder / "trust" / "checked"
        with suppress(FileNotFoundError):
            if datetime.now(UTC).timestamp() - checked.stat().st_mtime < max_age.total_seconds():
                return False
        trust = await refresh_trust(self.profile, self.session)
        if checked.parent.exists():
            checked.touch()
        if trust is None:
            return False
        self.profile = self.profile.replace_trust(trust)
        self.session.tls = member_context(self.profile)
        return True

    async def renew(self) -> Profile | None:
        """Return the profile with a newer trust document; None if there is none."""
        return self.profile if await self.keep() else None


async def refresh_trust(profile: Profile, session: Session) -> Trust | None:
    """Return the trust document in force if it is another than the profile's, verified.

    Raises:
        FreezeError: What is shown has expired; newer metadata may be withheld.
        RollbackError: Something older is shown than was seen before.
        SignatureInvalidError: Too few have signed it.
        KeyUnsafeError: A key of a root proves nothing.
        MixAndMatchError: The document is of another log or coalition.
        UnavailableError: The server cannot be reached, and what is known has not expired.
        VerificationError: Something else in it does not hold.
    """
    root = profile.trust.root
    if isinstance(root, msgspec.UnsetType):
        return None
    folder = profile.sub_folder("trust")
    async with _alone(folder):
        data = await _in_thread(folder, root.encode(), session)
    if data == encode_document(profile.trust):
        return None
    trust = parse_trust(data)
    if (trust.log, trust.coalition, trust.root) != (
        profile.trust.log,
        profile.trust.coalition,
        profile.trust.root,
    ):
        raise MixAndMatchError("the trust document is of another log, coalition or trust root")
    return trust


@asynccontextmanager
async def _alone(folder: Path) -> AsyncIterator[None]:
    """Wait until no other process uses the folder, which the library wants for itself."""
    with (folder / "lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(LOCK_SECONDS)
        yield


async def _in_thread(folder: Path, root: bytes, session: Session) -> bytes:
    """Let the library, which is not async, work beside the loop that fetches for it."""
    loop = asyncio.get_running_loop()
    # Not one of the loop's own threads: those look names up for the requests that it waits for.
    executor = ThreadPoolExecutor(1, thread_name_prefix="trust")
    try:
        return await loop.run_in_executor(executor, _update, folder, root, _Fetcher(session, loop))
    finally:
        executor.shutdown(wait=False)


def _update(folder: Path, root: bytes, fetcher: "_Fetcher") -> bytes:
    base = "https://server/v1/trust"
    try:
        updater = Updater(
            str(folder),
            f"{base}/metadata/",
            target_dir=str(folder),
            target_base_url=f"{base}/targets/",
            fetcher=fetcher,
            config=_CONFIG,
            bootstrap=root,
        )
        updater.refresh()
        found = updater.get_targetinfo(TARGET)
        if found is None or found.length > MAX_TRUST_BYTES:
            raise VerificationError("the trust root names no trust document")
        path = updater.find_cached_target(found) or updater.download_target(found)
        return Path(path).read_bytes()
    except exceptions.DownloadLengthMismatchError as error:
        raise TooLargeError("metadata of the trust root is longer than it may be") from error
    except exceptions.DownloadError as error:
        raise _unavailable(folder, error) from error
    except exceptions.ExpiredMetadataError as error:
        raise FreezeError(
            f"what the server shows of the trust root has expired: {error}"
        ) from error
    except exceptions.BadVersionNumberError as error:
        raise RollbackError(f"the trust root was newer before: {error}") from error
    except exceptions.UnsignedMetadataError as error:
        raise SignatureInvalidError(f"the trust root: {error}") from error
    except exceptions.RepositoryError as error:
        raise VerificationError(f"the trust root does not hold: {error}") from error


def _unavailable(folder: Path, error: exceptions.DownloadError) -> HashshareError:
    """Return why something could not be fetched: our own error, or that it is withheld too long."""
    cause = error.__cause__
    if isinstance(cause, HashshareError) and not isinstance(
        cause, UnavailableError | TooManyRequestsError
    ):
        return cause
    try:
        seen = parse((folder / "timestamp.json").read_bytes(), Timestamp).signed
    except FileNotFoundError:
        seen = None
    if seen is not None and seen.is_expired(datetime.now(UTC)):
        return FreezeError("the server withholds the trust root, and what is known has expired")
    if isinstance(cause, HashshareError):
        return cause
    return UnavailableError("the trust root cannot be fetched")


@dataclass(slots=True)
class _Fetcher(FetcherInterface):
    """Fetches over the member's session, from the thread in which the metadata is verified."""

    session: Session
    loop: asyncio.AbstractEventLoop

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = urlsplit(url).path
        request = self.session.request("GET", path, max_bytes=MAX_METADATA_BYTES)
        try:
            _, body = asyncio.run_coroutine_threadsafe(request, self.loop).result()
        except NotFoundError as error:
            # How a client finds the last root.
            raise exceptions.DownloadHTTPError("not found", 404) from error
        if path.endswith(".root.json"):
            verify_keys(parse(body, Root).signed)
        # No generator: what is raised in here is an answer to whoever asked for the URL.
        return iter([body])

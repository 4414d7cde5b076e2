"""Following the trust root with the library that The Update Framework's authors keep.

Apart from ``trusting``, since what it imports takes longer than most commands do.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tuf.api import exceptions
from tuf.api.metadata import Root, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from hashshare.client.session import Session
from hashshare.crypto.trust_metadata import TARGET, parse, verify_keys
from hashshare.domain.joining import MAX_TRUST_BYTES
from hashshare.errors import (
    FreezeError,
    HashshareError,
    NotFoundError,
    RollbackError,
    SignatureInvalidError,
    TooLargeError,
    TooManyRequestsError,
    UnavailableError,
    VerificationError,
)

MAX_METADATA_BYTES: Final = 64 * 1024
_CONFIG: Final = UpdaterConfig(
    max_root_rotations=1000,
    root_max_length=MAX_METADATA_BYTES,
    timestamp_max_length=MAX_METADATA_BYTES,
    snapshot_max_length=MAX_METADATA_BYTES,
    targets_max_length=MAX_METADATA_BYTES,
)


async def update_trust(folder: Path, root: bytes, session: Session) -> bytes:
    """Return the trust document in force; raises as ``trusting.refresh_trust`` does.

    Args:
        folder: For the library's own use.
        root: The first root, which is trusted.
        session: To the server.
    """
    # The library is not async: it works beside the loop that fetches for it.
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

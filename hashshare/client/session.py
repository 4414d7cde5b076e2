"""The connection to the server: TLS with both ends known, bounded answers, our errors."""

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self, TypeVar

import aiohttp
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from hashshare import __version__
from hashshare.client.profile import Profile
from hashshare.crypto.certificates import Issued
from hashshare.errors import ExpiredError, TooLargeError, TooManyRequestsError, UnavailableError
from hashshare.wire.document import WireDocument
from hashshare.wire.problem import decode_problem

MAX_DOCUMENT_BYTES: Final = 64 * 1024 * 1024
MAX_PROBLEM_BYTES: Final = 64 * 1024
CHUNK_BYTES: Final = 256 * 1024
READ_BYTES: Final = 1024 * 1024
"""With the library's 64 KiB it stops and goes on reading a download all the time."""
ATTEMPTS: Final = 6
MAX_WAIT_SECONDS: Final = 30.0

D = TypeVar("D", bound=WireDocument)
Body = bytes | Callable[[], AsyncIterator[bytes]] | None


@dataclass(slots=True)
class Session:
    """Talks to one server. Every request is idempotent, and so is tried again.

    Attributes:
        base_url: ``https://host:port``.
        tls: With the CA that is trusted, and the certificate that is shown; may be replaced, for
            connections from then on.
        sent: Bytes of bodies sent so far.
        received: Bytes of bodies received so far, as on the wire.
    """

    base_url: str
    tls: ssl.SSLContext
    attempts: int = ATTEMPTS
    sent: int = 0
    received: int = 0
    _http: aiohttp.ClientSession | None = field(default=None, repr=False)

    @classmethod
    def of(cls, profile: Profile) -> Self:
        """Return the session of a member."""
        return cls(profile.api_url, member_context(profile))

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=8),
            timeout=aiohttp.ClientTimeout(total=None, connect=20, sock_read=90),
            headers={"User-Agent": f"hashshare/{__version__}"},
            auto_decompress=False,
            read_bufsize=READ_BYTES,
            skip_auto_headers=["Accept-Encoding"],
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def get(self, path: str, kind: type[D], *, max_bytes: int = MAX_DOCUMENT_BYTES) -> D:
        """Return the document at ``path``.

        Raises:
            HashshareError: As the server's problem says.
            UnavailableError: The server cannot be reached.
            MalformedError: The answer is no such document.
            TooLargeError: It is over ``max_bytes``.
        """
        _, body = await self.request("GET", path, max_bytes=max_bytes)
        return kind.parse(body)

    async def send(
        self, method: str, path: str, document: WireDocument | bytes, kind: type[D]
    ) -> D:
        """Send a document and return the one that is answered; raises as ``get`` does."""
        body = document if isinstance(document, bytes) else document.encode()
        _, answered = await self.request(method, path, body=body)
        return kind.parse(answered)

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Body = None,
        headers: dict[str, str] | None = None,
        max_bytes: int = MAX_DOCUMENT_BYTES,
    ) -> tuple[int, bytes]:
        """Send a request, again if need be, and return status and body; raises as ``get`` does."""
        async for attempt in self._retrying():
            with attempt:
                async with self._open(method, path, body, headers) as response:
                    chunks = [chunk async for chunk in _bounded(response, max_bytes)]
                    self.received += sum(map(len, chunks))
                    return response.status, b"".join(chunks)
        raise RuntimeError("retrying ends with an answer or an error")

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        *,
        method: str = "GET",
        body: Body = None,
        headers: dict[str, str] | None = None,
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, AsyncIterator[bytes]]]:
        """Give a response and its body as it comes; not tried again. Raises as ``get`` does."""
        async with self._open(method, path, body, headers) as response:
            yield response, self._count(response)

    async def _count(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        with translated():
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                self.received += len(chunk)
                yield chunk

    def _retrying(self) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception_type((UnavailableError, TooManyRequestsError)),
            stop=stop_after_attempt(self.attempts),
            wait=_wait,
            reraise=True,
        )

    @asynccontextmanager
    async def _open(
        self, method: str, path: str, body: Body, headers: dict[str, str] | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._http is None:
            raise RuntimeError("use the session as a context")
        data: object = body() if callable(body) else body
        if isinstance(data, bytes) and len(data) > READ_BYTES:
            # In one piece it would hold up every other task while it is sent.
            data = io.BytesIO(data)
        with translated():
            async with self._http.request(
                method,
                self.base_url + path,
                data=data,
                headers=headers,
                allow_redirects=False,
                ssl=self.tls,
            ) as response:
                if response.status >= 400:
                    raise await _to_error(response)
                yield response


def member_context(profile: Profile) -> ssl.SSLContext:
    """Return the context that trusts a profile's CA and shows its certificate.

    Raises:
        UnavailableError: The certificate or its key cannot be read.
    """
    tls = pinned_context(profile.trust.ca)
    try:
        tls.load_cert_chain(profile.tls_path)
    except (OSError, ssl.SSLError) as error:
        raise UnavailableError("the profile's TLS key or certificate cannot be read") from error
    return tls


def pinned_context(ca: str) -> ssl.SSLContext:
    """Return a context that trusts servers of this CA only, by TLS 1.3 only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    Issued.parse(ca.encode())
    context.load_verify_locations(cadata=ca)
    return context


class translated:  # noqa: N801 # used like a function
    """Turns the errors of the network into ours.

    Raises:
        UnavailableError: The server cannot be reached, or the connection was lost.
        ExpiredError: The server says that our certificate has ended.
    """

    def __enter__(self) -> None:
        """Do nothing yet."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if "ALERT_CERTIFICATE_EXPIRED" in str(error):
            raise ExpiredError(
                "the certificate of this profile has expired; ask an admin for an invitation"
            ) from error
        if isinstance(error, ssl.SSLError | aiohttp.ClientSSLError):
            raise UnavailableError(f"TLS with the server failed: {_tls_reason(error)}") from error
        if isinstance(error, aiohttp.ClientError | asyncio.TimeoutError | OSError):
            reason = _tls_reason(error) if "SSL" in str(error) else type(error).__name__
            raise UnavailableError(f"the server cannot be reached: {reason}") from error


def _tls_reason(error: BaseException) -> str:
    text = str(error)
    for sign, meaning in (
        ("CERTIFICATE_REQUIRED", "it wants a client certificate"),
        ("UNKNOWN_CA", "it does not accept our certificate's CA"),
        ("CERTIFICATE_VERIFY_FAILED", "its certificate is not by the coalition's pinned CA"),
    ):
        if sign in text:
            return meaning
    return type(error).__name__


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, TooManyRequestsError):
        return min(error.retry_after_seconds, MAX_WAIT_SECONDS)
    return float(wait_random_exponential(multiplier=0.2, max=MAX_WAIT_SECONDS)(state))


async def _to_error(response: aiohttp.ClientResponse) -> Exception:
    chunks = [chunk async for chunk in _bounded(response, MAX_PROBLEM_BYTES)]
    after = response.headers.get("Retry-After", "")
    return decode_problem(
        b"".join(chunks),
        status=response.status,
        retry_after_seconds=int(after) if after.isdecimal() and len(after) < 6 else None,
    )


async def _bounded(response: aiohttp.ClientResponse, max_bytes: int) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        size += len(chunk)
        if size > max_bytes:
            raise TooLargeError(f"the server's answer has more than {max_bytes} bytes")
        yield chunk

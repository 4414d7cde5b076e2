"""Running a witness that is asked: with a certificate of its own, or behind a proxy."""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiohttp import web

from hashshare.cli.output import output
from hashshare.cli.server import stop_requested
from hashshare.client.profile import Profile
from hashshare.client.session import Session
from hashshare.client.trusting import TrustKeeper
from hashshare.errors import MalformedError
from hashshare.http.site import TLSSite
from hashshare.http.tls import enrol_context
from hashshare.witness.listener import WitnessListener
from hashshare.witness.loop import open_logbook, witness_of

MAX_CONNECTIONS: Final = 256
"""More are closed as they come: nothing is known of who asks."""
IDLE_SECONDS: Final = 75.0
"""A connection that has asked nothing for so long is cut: it holds a place."""
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(slots=True)
class CertificateFiles:
    """A certificate and its key, which another program may renew while they are in use.

    Raises:
        MalformedError: They cannot be used.
        OSError: They cannot be read.
    """

    certificate: Path
    key: Path
    _made_from: tuple[int, int] = field(default=(0, 0), init=False)
    _context: ssl.SSLContext = field(init=False)

    def __post_init__(self) -> None:
        self._read()

    def context(self) -> ssl.SSLContext:
        """Return the TLS of a connection that begins now."""
        # One file may be new and the other not yet: until both are, the old ones serve.
        with suppress(MalformedError, OSError):
            if self._times() != self._made_from:
                self._read()
        return self._context

    def _read(self) -> None:
        times = self._times()
        try:
            self._context = enrol_context(
                key=self.key.read_bytes(), certificate=self.certificate.read_text()
            )
        except (ssl.SSLError, ValueError) as error:
            raise MalformedError("the certificate and the key do not fit together") from error
        self._made_from = times

    def _times(self) -> tuple[int, int]:
        return self.certificate.stat().st_mtime_ns, self.key.stat().st_mtime_ns


@asynccontextmanager
async def serve_application(
    app: web.Application,
    host: str,
    port: int,
    files: CertificateFiles | None,
    *,
    max_connections: int = MAX_CONNECTIONS,
    idle_seconds: float = IDLE_SECONDS,
) -> AsyncIterator[str]:
    """Serve until the block is left; give the URL.

    Args:
        app: What is served.
        host: Address to listen on.
        port: 0 lets the system choose.
        files: None for plain HTTP.
        max_connections: At once.
        idle_seconds: See ``IDLE_SECONDS``.

    Raises:
        OSError: The address cannot be used.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=idle_seconds,
        max_line_size=4096,
        max_field_size=4096,
        shutdown_timeout=2.0,
    )
    await runner.setup()
    try:
        site = TLSSite(
            runner,
            files.context if files else lambda: None,
            name="witness",
            max_connections=max_connections,
        )
        chosen = await site.start(host, port)
        try:
            yield f"{'https' if files else 'http'}://{host}:{chosen}"
        finally:
            await site.stop()
    finally:
        await runner.cleanup()


async def serve_witness(
    profile: Profile, host: str, port: int, files: CertificateFiles | None
) -> None:
    """Cosign what is shown until the process is told to stop; the rest is ``serve_application``'s.

    Raises:
        NotFoundError: The profile has no witness key.
        OSError: The address cannot be used.
    """
    with closing(open_logbook(profile)) as logbook:
        listener = WitnessListener(profile, witness_of(profile), logbook)
        async with (
            Session.of(profile) as session,
            serve_application(listener.application(), host, port, files) as url,
        ):
            output.record({"url": url}, text=f"witnessing {profile.trust.log} at {url}")
            sys.stdout.flush()
            keeping = asyncio.create_task(listener.keep_trust(TrustKeeper(profile, session)))
            await stop_requested().wait()
            keeping.cancel()

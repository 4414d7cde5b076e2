"""Running a witness that is asked: with a certificate of its own, or behind a proxy."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiohttp import web

from hashshare.errors import MalformedError
from hashshare.http.site import TLSSite
from hashshare.http.tls import enrol_context

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
        self.context()

    def context(self) -> ssl.SSLContext:
        """Return the TLS of a connection that begins now."""
        found = (self.certificate.stat().st_mtime_ns, self.key.stat().st_mtime_ns)
        if found != self._made_from:
            try:
                self._context = enrol_context(
                    key=self.key.read_bytes(), certificate=self.certificate.read_text()
                )
            except ssl.SSLError as error:
                raise MalformedError("the certificate and the key do not fit together") from error
            self._made_from = found
        return self._context


@asynccontextmanager
async def serve_application(
    app: web.Application, host: str, port: int, files: CertificateFiles | None
) -> AsyncIterator[str]:
    """Serve until the block is left; give the URL.

    Args:
        app: What is served.
        host: Address to listen on.
        port: 0 lets the system choose.
        files: None for plain HTTP.

    Raises:
        OSError: The address cannot be used.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        if files is None:
            await web.TCPSite(runner, host, port).start()
            yield f"http://{host}:{runner.addresses[0][1]}"
            return
        site = TLSSite(runner, files.context, name="witness")
        chosen = await site.start(host, port)
        try:
            yield f"https://{host}:{chosen}"
        finally:
            await site.stop()
    finally:
        await runner.cleanup()

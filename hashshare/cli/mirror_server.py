"""Running a mirror, and certifying one."""

import asyncio
import signal
import ssl
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog

from hashshare.cli.coalition_keys import read_trust
from hashshare.cli.output import output
from hashshare.client.profile import Profile
from hashshare.config import ServerSettings, parse_listen
from hashshare.crypto.certificates import Issued
from hashshare.errors import HashshareError
from hashshare.http import Endpoints
from hashshare.http.tls import api_context
from hashshare.mirror import Mirror, MirrorServer
from hashshare.mirror.certificate import issue_certificate, read_certificate
from hashshare.service.authorities import Authorities

_LOG: Final = structlog.get_logger(__name__)

WARN_BEFORE: Final = timedelta(days=30)


async def serve_mirror(
    profile: Profile, folder: Path, listen: str, source: str | None, every: float
) -> None:
    """Serve the copy in ``folder`` until the process is told to stop.

    Args:
        profile: Of the member that runs the mirror.
        folder: The mirror's.
        listen: ``host:port``.
        source: Where the copy is taken from; None for the server.
        every: Seconds between syncs; 0 for none.
    """
    now = datetime.now(UTC)
    _, issued = read_certificate(folder, now=now)
    if issued.not_after - now < WARN_BEFORE:
        output.say(f"warning: the mirror's certificate ends at {issued.not_after:%Y-%m-%d}")
    host, port = parse_listen(listen)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        mirror = None
        if every:
            mirror = await stack.enter_async_context(Mirror.open(profile, folder, source=source))
        server = await stack.enter_async_context(
            MirrorServer(
                folder,
                operator=profile.member,
                endpoints=Endpoints(host, port),
                tls=_context(folder, profile),
            )
        )
        output.record(
            {"url": server.url, "log": profile.trust.log, "folder": str(folder)},
            text=f"serving a mirror of {profile.trust.log} at {server.url}",
        )
        sys.stdout.flush()
        syncing = asyncio.create_task(keep_in_sync(mirror, server, every)) if mirror else None
        await stopping.wait()
        if syncing is not None:
            syncing.cancel()
            await asyncio.gather(syncing, return_exceptions=True)


async def keep_in_sync(mirror: Mirror, server: MirrorServer, every: float) -> None:
    """Sync again and again; whatever is wrong with the source, what is here goes on serving."""
    trust = mirror.profile.trust
    while True:
        try:
            synced = await mirror.sync()
            if synced.received:
                _LOG.debug("synced", size=synced.size)
            if mirror.profile.trust != trust:
                server.tls = _context(mirror.folder, mirror.profile)
                trust = mirror.profile.trust
        except HashshareError as error:
            _LOG.warning("not synced", reason=str(error), kind=type(error).__name__)
        except OSError as error:
            _LOG.error("not synced", reason=str(error))
        await asyncio.sleep(every)


def _context(folder: Path, profile: Profile) -> ssl.SSLContext:
    key, issued = read_certificate(folder, now=datetime.now(UTC))
    return api_context(key=key, certificate=issued.pem, ca=profile.trust.ca)


def certify_mirror(coalition: Path, csr: str, hosts: list[str]) -> Issued:
    """Issue a mirror's certificate by the CA in a coalition's folder.

    Raises:
        MalformedError: The request, or a name, is not in its form.
        PermissionDeniedError: A name is one of the server's own.
    """
    keys = coalition / "keys"
    settings = ServerSettings.load(coalition)
    # As the server's own: by the CA that every member trusts.
    authority = Authorities(keys, partial(read_trust, coalition)).for_server()
    urls = (settings.public_url, settings.enrol_public_url)
    taken = [urlsplit(url).hostname or "" for url in urls if url]
    taken += Issued.parse((keys / "server-cert.pem").read_bytes()).hosts
    return issue_certificate(authority, csr, hosts=hosts, server_hosts=taken, now=datetime.now(UTC))

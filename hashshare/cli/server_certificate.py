"""The server's own certificate: by the coalition's CA, renewed by the server itself in time."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from hashshare.crypto.certificates import Authority, Issued, parse_tls_key
from hashshare.http import Server
from hashshare.http.tls import api_context, enrol_context

_LOG: Final = structlog.get_logger(__name__)

RENEW_BEFORE: Final = timedelta(days=30)
CHECK_SECONDS: Final = 12 * 3600.0


def renew_certificate(keys: Path, *, now: datetime) -> Issued:
    """Return the server's certificate; a new one, for the same key and hosts, if it ends soon.

    Args:
        keys: The folder of the coalition's keys.
        now: This moment.
    """
    path = keys / "server-cert.pem"
    present = Issued.parse(path.read_bytes())
    if present.not_after - now > RENEW_BEFORE:
        return present
    authority = Authority.from_pem(
        (keys / "ca.pem").read_bytes(), (keys / "ca-cert.pem").read_bytes()
    )
    key = parse_tls_key((keys / "server.pem").read_bytes())
    issued = authority.issue_server(key.public_key(), hosts=present.hosts, now=now)
    fresh = path.with_suffix(".new")
    with fresh.open("w") as file:
        file.write(issued.pem)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    _LOG.info("server certificate renewed", not_after=issued.not_after.isoformat())
    return issued


async def keep_certificate(server: Server, keys: Path) -> None:
    """Have a running server use a new certificate before the present one ends; never returns."""
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        try:
            issued = await asyncio.to_thread(renew_certificate, keys, now=datetime.now(UTC))
        except OSError as error:
            # The present one holds for weeks: no reason to stop serving.
            _LOG.error("server certificate not renewed", reason=str(error))
            continue
        key, ca = (keys / "server.pem").read_bytes(), (keys / "ca-cert.pem").read_text()
        server.exchange_tls(
            api=api_context(key=key, certificate=issued.pem, ca=ca),
            enrol=enrol_context(key=key, certificate=issued.pem),
        )

"""The server's own certificate: by the coalition's CA, renewed by the server itself in time."""

import asyncio
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from hashshare.cli.coalition_keys import read_trust
from hashshare.crypto.certificates import Issued, parse_tls_key
from hashshare.errors import HashshareError
from hashshare.http import Server
from hashshare.http.tls import api_context, enrol_context
from hashshare.service.authorities import Authorities

_LOG: Final = structlog.get_logger(__name__)

RENEW_BEFORE: Final = timedelta(days=30)
CHECK_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Shown:
    """What the server shows in TLS, and whom it lets in.

    Attributes:
        key: Its private key, PEM.
        certificate: Its certificate, PEM.
        ca: Certificates of the authorities that certify members, PEM.
    """

    key: bytes = field(repr=False)
    certificate: str
    ca: str


def renew_certificate(folder: Path, *, now: datetime) -> Shown:
    """Return what the server shows; a new certificate, for the same key and hosts, if need be.

    That is if it ends soon, or is by an authority that not every member trusts.

    Args:
        folder: Of the coalition.
        now: This moment.
    """
    keys = folder / "keys"
    path = keys / "server-cert.pem"
    trust = read_trust(folder)
    authorities = Authorities(keys, lambda: trust)
    present, pem = Issued.parse(path.read_bytes()), (keys / "server.pem").read_bytes()
    wanted = trust.authorities[-1]
    if present.not_after - now <= RENEW_BEFORE or not present.is_issued_by(wanted):
        key = parse_tls_key(pem).public_key()
        present = authorities.for_server().issue_server(key, hosts=present.hosts, now=now)
        _write(path, present.pem)
        _LOG.info("server certificate renewed", not_after=present.not_after.isoformat())
    return Shown(pem, present.pem, trust.ca)


def _write(path: Path, pem: str) -> None:
    fresh = path.with_suffix(".new")
    with fresh.open("w") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


async def keep_certificate(server: Server, folder: Path) -> None:
    """Have a running server follow its folder: certificates that end, and authorities that change.

    Never returns.
    """
    before: Shown | None = None
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        try:
            shown = await asyncio.to_thread(renew_certificate, folder, now=datetime.now(UTC))
        except (OSError, HashshareError) as error:
            # The present one holds for weeks: no reason to stop serving.
            _LOG.error("server certificate not renewed", reason=str(error))
            continue
        if shown != before:
            before = shown
            server.exchange_tls(
                api=api_context(key=shown.key, certificate=shown.certificate, ca=shown.ca),
                enrol=enrol_context(key=shown.key, certificate=shown.certificate),
            )

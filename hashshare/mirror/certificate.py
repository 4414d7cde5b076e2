"""A mirror's certificate: asked for by the member that runs it, issued where the CA's key is."""

import ipaddress
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from hashshare.crypto.certificates import (
    Authority,
    Issued,
    make_csr,
    new_tls_key,
    parse_csr,
    parse_tls_key,
    tls_key_to_pem,
)
from hashshare.errors import MalformedError, NotFoundError, PermissionDeniedError


def make_request(folder: Path, *, member: str) -> str:
    """Return a request for a certificate, in PEM; make the mirror's key if there is none."""
    path = folder / "keys" / "mirror.pem"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(tls_key_to_pem(new_tls_key()))
            os.fsync(file.fileno())
    return make_csr(parse_tls_key(path.read_bytes()), member=member)


def issue_certificate(
    authority: Authority,
    request: str,
    *,
    hosts: list[str],
    server_hosts: Iterable[str],
    now: datetime,
) -> Issued:
    """Return the certificate of a mirror, for names that the operator has chosen.

    Args:
        authority: The coalition's CA.
        request: Of the mirror; no name in it counts.
        hosts: Under which members reach the mirror.
        server_hosts: Under which they reach the server.
        now: This moment.

    Raises:
        PermissionDeniedError: One of ``hosts`` is the server's, or a pattern: who has such a
            certificate could receive what members send to the server.
        MalformedError: ``request`` or one of ``hosts`` is not in its form.
        KeyUnsafeError: The request's key is of a kind not accepted.
    """
    taken = {host.lower() for host in server_hosts}
    for host in hosts:
        if "*" in host or (host.lower() in taken and not _is_loopback(host)):
            raise PermissionDeniedError(f"no mirror may be called {host}")
    return authority.issue_server(parse_csr(request), hosts=hosts, now=now)


def read_certificate(folder: Path, *, now: datetime) -> tuple[bytes, Issued]:
    """Return the mirror's key, PEM, and its certificate.

    Raises:
        NotFoundError: There is none yet, or it has expired.
        MalformedError: It is not the one of this key.
    """
    keys = folder / "keys"
    try:
        key = (keys / "mirror.pem").read_bytes()
        issued = Issued.parse((keys / "mirror-cert.pem").read_bytes())
    except FileNotFoundError as error:
        raise NotFoundError(
            "this mirror has no certificate (keys/mirror-cert.pem); ask the coalition's operator "
            "for one with the output of: hashshare mirror request"
        ) from error
    if parse_tls_key(key).public_key() != issued.certificate.public_key():
        raise MalformedError("the mirror's certificate is of another key")
    if now >= issued.not_after:
        raise NotFoundError("the mirror's certificate has expired; ask for another")
    return key, issued


def _is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a host by this name; for trying things out."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

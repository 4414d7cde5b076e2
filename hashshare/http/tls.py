"""TLS of the two listeners: 1.3 only, and refusals that the peer and the operator can read.

asyncio drops the alert that tells a client why its certificate was refused, and says nothing
itself (CPython gh-98078); with the context made here the alert can still be sent.
"""

import ssl
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

ALERT: Final = "alert"


class _AlertKeeper(ssl.SSLObject):
    """Hands out what OpenSSL wanted to send when a handshake failed."""

    outgoing: ssl.MemoryBIO

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            setattr(error, ALERT, self.outgoing.read())
            raise


class _AlertKeepingContext(ssl.SSLContext):
    sslobject_class = _AlertKeeper

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        *args: Any,  # noqa: ANN401 # as the base class has them
        **kwargs: Any,  # noqa: ANN401
    ) -> ssl.SSLObject:
        wrapped = cast("_AlertKeeper", super().wrap_bio(incoming, outgoing, *args, **kwargs))
        wrapped.outgoing = outgoing
        return wrapped


def api_context(*, key: bytes, certificate: str, ca: str) -> ssl.SSLContext:
    """Return the context of the API: a client certificate of the coalition's CA is required.

    Args:
        key: The server's private key, PEM.
        certificate: Its certificate, PEM.
        ca: Certificate of the coalition's CA, PEM.
    """
    context = enrol_context(key=key, certificate=certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=ca)
    return context


def enrol_context(*, key: bytes, certificate: str) -> ssl.SSLContext:
    """Return the context of the enrolment listener, which asks for no client certificate."""
    context = _AlertKeepingContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # A resumed session would bypass revocation and expiry.
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    # OpenSSL reads keys from files only.
    with TemporaryDirectory() as folder:
        path = Path(folder) / "server.pem"
        path.touch(mode=0o600)
        path.write_bytes(key + certificate.encode())
        context.load_cert_chain(path)
    return context

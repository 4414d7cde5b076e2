"""Who may shake hands: certificates of the coalition's CA, over TLS 1.3, and nobody else."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hashshare.cli import server_certificate
from hashshare.client import Client
from hashshare.client.session import Session, pinned_context
from hashshare.crypto.certificates import (
    Authority,
    Issued,
    new_tls_key,
    parse_tls_key,
    tls_key_to_pem,
)
from hashshare.domain.names import MemberId
from hashshare.errors import ExpiredError, NotEnrolledError
from hashshare.wire.members import SelfDocument
from tests.support.federation import Federation, run_federation

NOW = datetime.now(UTC)


@pytest.fixture
async def federation(dsn: str, tmp_path: Path) -> AsyncIterator[Federation]:
    """A coalition with one member."""
    async with run_federation(dsn, tmp_path) as federation:
        await federation.join("acme")
        yield federation


def coalition_ca(federation: Federation) -> Authority:
    """The coalition's own CA."""
    keys = federation.folder / "coalition/keys"
    return Authority.from_pem((keys / "ca.pem").read_bytes(), (keys / "ca-cert.pem").read_bytes())


def write(folder: Path, authority: Authority, kind: str, now: datetime = NOW) -> Path:
    """Write a key with a certificate of ``authority``."""
    key = new_tls_key()
    if kind == "server":
        issued = authority.issue_server(key.public_key(), hosts=["acme.example"], now=now)
    else:
        issued = authority.issue_client(key.public_key(), member=MemberId("acme"), now=now)
    path = folder / "stranger.pem"
    path.write_bytes(tls_key_to_pem(key) + issued.pem.encode())
    return path


Credentials = Callable[[Federation], Path | None]
REFUSED: dict[str, tuple[Credentials, str]] = {
    "no certificate": (lambda _: None, "CERTIFICATE_REQUIRED"),
    "another CA of the same name": (
        lambda f: write(f.folder, Authority.create("Test Coalition", now=NOW), "client"),
        "ALERT|UNKNOWN_CA|DECRYPT",
    ),
    "another CA": (
        lambda f: write(f.folder, Authority.create("Other", now=NOW), "client"),
        "UNKNOWN_CA",
    ),
    "an expired certificate": (
        lambda f: write(f.folder, coalition_ca(f), "client", NOW - timedelta(days=400)),
        "EXPIRED",
    ),
    "a certificate that is not valid yet": (
        lambda f: write(f.folder, coalition_ca(f), "client", NOW + timedelta(days=30)),
        "ALERT",
    ),
    "a server's certificate": (
        lambda f: write(f.folder, coalition_ca(f), "server"),
        "UNSUPPORTED_CERTIFICATE|ALERT",
    ),
}


async def shake_hands(federation: Federation, context: ssl.SSLContext) -> ssl.SSLObject:
    """Connect to the API, and return once a request was answered."""
    url = urlsplit(federation.server.addresses.api_url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port, ssl=context)
    try:
        # With TLS 1.3 a client hears of a refusal with the first answer.
        writer.write(b"GET /v1/self HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        return tls
    finally:
        writer.close()


@pytest.mark.parametrize(("credentials", "reason"), REFUSED.values(), ids=REFUSED)
async def test_others_are_refused_and_told_why(
    federation: Federation, credentials: Credentials, reason: str
) -> None:
    """The client reads an alert, not a connection that is just gone."""
    context = pinned_context(federation.admin.trust.ca)
    path = credentials(federation)
    if path is not None:
        context.load_cert_chain(path)
    with pytest.raises(ssl.SSLError, match=reason):
        await shake_hands(federation, context)


async def test_a_member_gets_through_with_tls_1_3(federation: Federation) -> None:
    """And no session ticket, which would bypass revocation and expiry."""
    context = pinned_context(federation.admin.trust.ca)
    context.load_cert_chain(federation.members["acme"].tls_path)
    tls = await shake_hands(federation, context)
    assert tls.version() == "TLSv1.3"
    assert tls.session is None or not tls.session.has_ticket


async def test_tls_1_2_is_refused(federation: Federation) -> None:
    """Even with a good certificate."""
    context = pinned_context(federation.admin.trust.ca)
    context.load_cert_chain(federation.members["acme"].tls_path)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        await shake_hands(federation, context)


async def test_a_certificate_that_no_member_has_is_not_enough(federation: Federation) -> None:
    """The CA issued it, but the server knows of no such certificate: names in it count nothing."""
    context = pinned_context(federation.admin.trust.ca)
    context.load_cert_chain(write(federation.folder, coalition_ca(federation), "client"))
    async with Session(federation.server.addresses.api_url, context) as session:
        with pytest.raises(NotEnrolledError):
            await session.get("/v1/self", SelfDocument)


async def test_whose_certificate_has_ended_is_told_so(federation: Federation) -> None:
    """At once, and in words: not that a server cannot be reached, or withholds something."""
    acme, then = federation.members["acme"], NOW - timedelta(days=400)
    path = write(federation.folder, coalition_ca(federation), "client", then)
    path.replace(acme.tls_path)
    async with Client(acme) as client:
        with pytest.raises(ExpiredError, match="ask an admin for an invitation"):
            await client.pull()
        with pytest.raises(ExpiredError):
            await client.whoami()


async def test_enrolment_asks_for_no_certificate(federation: Federation) -> None:
    """Whoever has none yet gets through there, and only there."""
    context = pinned_context(federation.admin.trust.ca)
    async with Session(federation.server.addresses.enrol_url, context) as session:
        status, _ = await session.request("GET", "/health")
        assert status == 200


async def test_the_server_renews_its_own_certificate(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In time, for the same hosts, without a restart, and again where it could not be written."""
    folder = federation.folder / "coalition"
    keys = folder / "keys"
    old = Issued.parse((keys / "server-cert.pem").read_bytes())
    assert server_certificate.renew_certificate(folder, now=NOW).certificate == old.pem
    key = parse_tls_key((keys / "server.pem").read_bytes())
    ending = coalition_ca(federation).issue_server(
        key.public_key(), hosts=old.hosts, now=NOW - timedelta(days=380)
    )
    (keys / "server-cert.pem").write_text(ending.pem)
    monkeypatch.setattr(server_certificate, "CHECK_SECONDS", 0.01)
    (keys / "server-cert.new").mkdir()
    keeping = asyncio.create_task(server_certificate.keep_certificate(federation.server, folder))
    await asyncio.sleep(0.2)
    assert not keeping.done()
    (keys / "server-cert.new").rmdir()
    context = pinned_context(federation.admin.trust.ca)
    context.load_cert_chain(federation.members["acme"].tls_path)
    async with asyncio.timeout(30):
        while True:
            tls = await shake_hands(federation, context)
            der = tls.getpeercert(binary_form=True)
            assert der is not None
            if (shown := Issued.parse_der(der)) != old:
                break
    keeping.cancel()
    assert shown.hosts == old.hosts
    assert shown.not_after - NOW > timedelta(days=390)
    assert shown == Issued.parse((keys / "server-cert.pem").read_bytes())

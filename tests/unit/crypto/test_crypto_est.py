"""Requests as EST sends them, and certificates as it answers: whose, and in which form."""

import base64
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import AttributeOID, ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from hashshare.crypto.certificates import Authority
from hashshare.crypto.est import encode_certificates, parse_reenrolment
from hashshare.errors import KeyUnsafeError, MalformedError, PermissionDeniedError

NOW = datetime(2026, 11, 28, tzinfo=UTC)
CA = Authority.create("Coalition", now=NOW)
# Its signatures are the last 64 bytes of a request, so that one can be changed and signed again.
KEY = ed25519.Ed25519PrivateKey.generate()
SHOWN = CA.issue_client(KEY.public_key(), member="acme", now=NOW)
URI = "urn:hashshare:member:acme"
CHANGE_SUBJECT_NAME = x509.ObjectIdentifier("1.3.6.1.5.5.7.7.36")

Builder = x509.CertificateSigningRequestBuilder


def builder(name: str = "acme", *names: str) -> Builder:
    """A request for ``name`` and, as alternative names, these URIs or the right one."""
    uris = [x509.UniformResourceIdentifier(uri) for uri in names or (URI,)]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return Builder().subject_name(subject).add_extension(x509.SubjectAlternativeName(uris), False)


def signed(request: Builder) -> bytes:
    """Its DER."""
    return request.sign(KEY, None).public_bytes(serialization.Encoding.DER)


def changed(request: Builder, old: bytes, new: bytes) -> bytes:
    """The DER of a request with other bytes of the same length in it, signed again."""
    der = signed(request)
    text = x509.load_der_x509_csr(der).tbs_certrequest_bytes
    assert (text.count(old), len(old)) == (1, len(new))
    other = text.replace(old, new)
    return der.replace(text, other)[:-64] + KEY.sign(other)


def parse(der: bytes) -> object:
    """What comes of it."""
    return parse_reenrolment(base64.b64encode(der), shown=SHOWN)


def spaced(der: bytes) -> bytes:
    """Base64 with all that RFC 8951 has readers bear, anywhere."""
    return b" \t\r\n".join(bytes([digit]) for digit in base64.b64encode(der))


@pytest.mark.parametrize("spell", [base64.b64encode, base64.encodebytes, spaced])
def test_a_request_for_what_was_shown(spell: Callable[[bytes], bytes]) -> None:
    """White space does not count."""
    assert parse_reenrolment(spell(signed(builder())), shown=SHOWN) == KEY.public_key()


def test_a_challenge_password_counts_nothing() -> None:
    """It would bind a request to a TLS connection before 1.3; OpenSSL also asks people for one."""
    request = builder().add_attribute(AttributeOID.CHALLENGE_PASSWORD, b"hello")
    assert parse(signed(request)) == KEY.public_key()


OTHERS = {
    "another subject": builder("admin"),
    "a longer subject": Builder()
    .subject_name(
        x509.Name([*SHOWN.certificate.subject, x509.NameAttribute(NameOID.ORGANIZATION_NAME, "A")])
    )
    .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URI)]), False),
    "another name": builder("acme", "urn:hashshare:member:admin"),
    "one name more": builder("acme", URI, "urn:hashshare:member:admin"),
    "no alternative name": Builder().subject_name(SHOWN.certificate.subject),
    "another kind of name": Builder()
    .subject_name(SHOWN.certificate.subject)
    .add_extension(x509.SubjectAlternativeName([x509.DNSName(URI)]), False),
    "a change of the name": builder().add_attribute(CHANGE_SUBJECT_NAME, b"admin"),
}


@pytest.mark.parametrize("request_", OTHERS.values(), ids=OTHERS)
def test_a_request_for_other_names_is_refused(request_: Builder) -> None:
    """They are neither given nor left out without a word."""
    with pytest.raises(PermissionDeniedError, match="CN=acme"):
        parse(signed(request_))


ATTRIBUTE = builder().add_attribute(AttributeOID.CHALLENGE_PASSWORD, b"hello")
USAGE = builder().add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
UNREADABLE = {
    "alternative names twice": (USAGE, b"\x55\x1d\x25", b"\x55\x1d\x11"),
    "a name of no known kind": (builder(), b"\x86\x19urn", b"\xa5\x19urn"),
    "a name that is not ASCII": (builder(), b"\x86\x19urn", b"\x86\x19\xffrn"),
    "a subject that is not UTF-8": (builder(), b"\x0c\x04acme", b"\x0c\x04ac\xffe"),
    "an attribute of two values": (ATTRIBUTE, b"\x0c\x05hello", b"\x0c\x01h\x0c\x02lo"),
}


@pytest.mark.parametrize(("request_", "old", "new"), UNREADABLE.values(), ids=UNREADABLE)
def test_names_that_cannot_be_read_are_refused(request_: Builder, old: bytes, new: bytes) -> None:
    """Though they are signed."""
    with pytest.raises(MalformedError, match="cannot be read"):
        parse(changed(request_, old, new))


def test_a_flipped_bit_in_a_request_gives_no_other_key() -> None:
    """Nor another error. That of a signature's unused bits is not looked at by the library."""
    der = signed(builder())
    for bit in range(8 * len(der)):
        spoilt = bytearray(der)
        spoilt[bit // 8] ^= 1 << bit % 8
        with suppress(MalformedError, KeyUnsafeError):
            assert parse(bytes(spoilt)) == KEY.public_key()


@given(st.binary())
def test_any_body_is_a_request_or_malformed(body: bytes) -> None:
    """As it is, and as base64."""
    for spelled in (body, base64.b64encode(body)):
        with pytest.raises(MalformedError):
            parse_reenrolment(spelled, shown=SHOWN)


def test_a_request_has_one_spelling() -> None:
    """PEM is none, and what follows the padding is not left out."""
    der = signed(builder())
    request = x509.load_der_x509_csr(der)
    good = base64.b64encode(der)
    for body in (
        request.public_bytes(serialization.Encoding.PEM),
        good.rstrip(b"=") + b"====",
        good + b"AAAA",
        good[:-4],
        der,
    ):
        with pytest.raises(MalformedError):
            parse_reenrolment(body, shown=SHOWN)


def test_certificates_are_read_by_others() -> None:
    """All of them, from one line: not every reader bears white space."""
    body = encode_certificates([SHOWN, CA.root])
    found = pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))
    assert set(found) == {SHOWN.certificate, CA.root.certificate}
    assert re.fullmatch(r"[A-Za-z0-9+/]+=*", body)

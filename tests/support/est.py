"""A client of EST (RFC 7030) that is nothing but aiohttp and cryptography."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs7

from hashshare.client import Profile
from hashshare.client.session import member_context, pinned_context
from hashshare.crypto.certificates import Issued

CA_CERTIFICATES = "/.well-known/est/cacerts"
REENROLMENT = "/.well-known/est/simplereenroll"

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | dsa.DSAPrivateKey


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        """Its media type, without parameters."""
        return self.headers["Content-Type"].partition(";")[0]

    @property
    def certificates(self) -> list[Issued]:
        """The certificates in it."""
        der = base64.b64decode(self.body)
        return [Issued(found) for found in pkcs7.load_der_pkcs7_certificates(der)]


async def ask(
    profile: Profile,
    path: str,
    body: bytes | None = None,
    *,
    method: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request on a connection of its own, with the profile's certificate."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=member_context(profile))) as http,
        http.request(
            method or ("GET" if body is None else "POST"),
            profile.api_url + path,
            data=body,
            headers={"Content-Type": "application/pkcs10", **(headers or {})},
        ) as response,
    ):
        return Answer(response.status, response.headers, await response.read())


async def ask_as_stranger(profile: Profile, path: str, body: bytes | None = None) -> Answer:
    """Send one request to the enrolment listener, without a certificate."""
    tls = pinned_context(profile.trust.ca)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as http,
        http.request("GET" if body is None else "POST", profile.enrol_url + path, data=body) as got,
    ):
        return Answer(got.status, got.headers, await got.read())


def request_like(shown: x509.Certificate) -> x509.CertificateSigningRequestBuilder:
    """Return a request for the names of a certificate, yet to be signed."""
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    builder = x509.CertificateSigningRequestBuilder().subject_name(shown.subject)
    return builder.add_extension(names.value, names.critical)


def encode(request: x509.CertificateSigningRequest) -> bytes:
    """Return a request as EST sends it."""
    return base64.encodebytes(request.public_bytes(serialization.Encoding.DER))


def sign(builder: x509.CertificateSigningRequestBuilder, key: Key) -> bytes:
    """Return a signed request as EST sends it."""
    plain = isinstance(key, ed25519.Ed25519PrivateKey)
    return encode(builder.sign(key, None if plain else hashes.SHA256()))


def own_key(profile: Profile) -> Key:
    """Return the TLS key of a profile."""
    key = serialization.load_pem_private_key(profile.tls_path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def write_tls(path: Path, key: Key, certificate: Issued) -> None:
    """Write a key and its certificate, as a profile keeps them."""
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(pem + certificate.pem.encode())

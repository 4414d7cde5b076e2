"""The coalition's certificate authority: P-256, leaves for 90 days, names not from the CSR."""

import hashlib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hashshare.errors import ExpiredError, KeyUnsafeError, MalformedError

MAX_CSR_BYTES: Final = 64 * 1024
CLIENT_DAYS: Final = 90
SERVER_DAYS: Final = 397
AUTHORITY_DAYS: Final = 3650
BACKDATE: Final = timedelta(minutes=5)
"""For clocks that run behind."""

_MEMBER_URI: Final = "urn:hashshare:member:"
_HOST: Final = re.compile(r"(?=.{1,253}\Z)(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
UNREADABLE: Final = (ValueError, UnsupportedAlgorithm, x509.InvalidVersion)
"""What reading a certificate or request of somebody else's making can raise."""

ClientKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


def fingerprint(der: bytes) -> str:
    """Return the SHA-256 of a certificate's DER, lower-case hex."""
    return hashlib.sha256(der).hexdigest()


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with what is remembered of it.

    Attributes:
        certificate: As signed.
    """

    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")

    @property
    def der(self) -> bytes:
        """The certificate as DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the DER, lower-case hex."""
        return fingerprint(self.der)

    @property
    def not_before(self) -> datetime:
        """From when on it is valid."""
        return self.certificate.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """Until when it is valid."""
        return self.certificate.not_valid_after_utc

    @property
    def hosts(self) -> list[str]:
        """DNS names and addresses that a server with it has; none in a client's."""
        names = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return [
            str(name.value)
            for name in names.value
            if isinstance(name, x509.DNSName | x509.IPAddress)
        ]

    @property
    def member(self) -> str | None:
        """The member that a client's certificate was issued to; None in a server's."""
        names = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        for uri in names.value.get_values_for_type(x509.UniformResourceIdentifier):
            if uri.startswith(_MEMBER_URI):
                return uri.removeprefix(_MEMBER_URI)
        return None

    @classmethod
    def parse(cls, pem: bytes) -> Self:
        """Read one certificate in PEM.

        Raises:
            MalformedError: ``pem`` is not that.
        """
        try:
            return cls(x509.load_pem_x509_certificate(pem))
        except UNREADABLE as error:
            raise MalformedError("not a certificate in PEM") from error

    @classmethod
    def parse_all(cls, pem: bytes) -> list[Self]:
        """Read one or more certificates in PEM.

        Raises:
            MalformedError: ``pem`` is not that.
        """
        try:
            return [cls(found) for found in x509.load_pem_x509_certificates(pem)]
        except UNREADABLE as error:
            raise MalformedError("not certificates in PEM") from error

    def is_issued_by(self, other: Self) -> bool:
        """Return whether the key of another certificate signed this one."""
        try:
            self.certificate.verify_directly_issued_by(other.certificate)
        except (*UNREADABLE, TypeError, InvalidSignature):
            return False
        return True

    @classmethod
    def parse_der(cls, der: bytes) -> Self:
        """Read one certificate in DER.

        Raises:
            MalformedError: ``der`` is not that.
        """
        try:
            return cls(x509.load_der_x509_certificate(der))
        except UNREADABLE as error:
            raise MalformedError("not a certificate in DER") from error


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority with its key."""

    key: ec.EllipticCurvePrivateKey
    root: Issued

    @classmethod
    def create(cls, coalition: str, *, now: datetime) -> Self:
        """Return a new authority; its root is valid for ten years."""
        key = new_tls_key()
        # A common name has at most 64 characters (RFC 5280, appendix A).
        name = _name(f"{coalition} CA"[:64])
        until = now + timedelta(days=AUTHORITY_DAYS)
        builder = _builder(name, name, key.public_key(), now, until)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        builder = builder.add_extension(_usage(authority=True), critical=True)
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
        return cls(key, Issued(builder.sign(key, hashes.SHA256())))

    @classmethod
    def from_pem(cls, key: bytes, root: bytes) -> Self:
        """Read an authority from the PEM of its key and of its certificate.

        Raises:
            MalformedError: They are not that, or do not belong together.
        """
        private, issued = parse_tls_key(key), Issued.parse(root)
        try:
            public = issued.certificate.public_key()
        except UNREADABLE as error:
            raise MalformedError("the key in the CA's certificate is of no known kind") from error
        if private.public_key() != public:
            raise MalformedError("the CA's key and certificate do not belong together")
        return cls(private, issued)

    def issue_client(
        self, key: ClientKey, *, member: str, now: datetime, days: int = CLIENT_DAYS
    ) -> Issued:
        """Return a certificate with which ``member`` can connect, and nothing else.

        It ends with the authority's own at the latest.

        Raises:
            ExpiredError: The authority's certificate has expired.
        """
        uri = x509.UniformResourceIdentifier(f"{_MEMBER_URI}{member}")
        return self._issue(key, _name(member), [uri], ExtendedKeyUsageOID.CLIENT_AUTH, now, days)

    def issue_server(
        self, key: ClientKey, *, hosts: Sequence[str], now: datetime, days: int = SERVER_DAYS
    ) -> Issued:
        """Return a certificate for a server that is reached under ``hosts``.

        It ends with the authority's own at the latest.

        Args:
            key: The server's.
            hosts: At least one; DNS names and IP addresses, without a port.
            now: Aware.
            days: How long it is valid.

        Raises:
            ExpiredError: The authority's certificate has expired.
            MalformedError: One of ``hosts`` is neither a DNS name nor an address.
        """
        names = [_host(host) for host in hosts]
        return self._issue(
            key, _name(hosts[0][:64]), names, ExtendedKeyUsageOID.SERVER_AUTH, now, days
        )

    def _issue(
        self,
        key: ClientKey,
        subject: x509.Name,
        names: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        now: datetime,
        days: int,
    ) -> Issued:
        if now >= self.root.not_after:
            raise ExpiredError("the certificate of the coalition's CA has expired")
        issuer = self.root.certificate.subject
        until = min(now + timedelta(days=days), self.root.not_after)
        builder = _builder(subject, issuer, key, now, until)
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(authority=False), True),
            (x509.ExtendedKeyUsage([usage]), False),
            (x509.SubjectAlternativeName(names), False),
            (x509.SubjectKeyIdentifier.from_public_key(key), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False),
        ]
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return Issued(builder.sign(self.key, hashes.SHA256()))


def new_tls_key() -> ec.EllipticCurvePrivateKey:
    """Return a new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def tls_key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the key as unencrypted PKCS #8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def parse_tls_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Read what ``tls_key_to_pem`` writes.

    Raises:
        MalformedError: ``pem`` is not an unencrypted elliptic-curve key.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise MalformedError("not a private key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise MalformedError("not an elliptic-curve key")
    return key


def make_csr(key: ec.EllipticCurvePrivateKey, *, member: str) -> str:
    """Return a certificate signing request in PEM; it proves possession of ``key``."""
    request = x509.CertificateSigningRequestBuilder().subject_name(_name(member))
    signed = request.sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode("ascii")


def parse_csr(pem: str) -> ClientKey:
    """Return the public key of a request, of which nothing else is used.

    Raises:
        MalformedError: ``pem`` is no request, or is too long.
        KeyUnsafeError: It is not signed by its key, or the key is of a kind not accepted.
    """
    if len(pem) > MAX_CSR_BYTES:
        raise MalformedError(f"a request has at most {MAX_CSR_BYTES} bytes")
    try:
        request = x509.load_pem_x509_csr(pem.encode("ascii"))
    except UNREADABLE as error:
        raise MalformedError("not a certificate signing request in PEM") from error
    return certified_key(request)


def certified_key(request: x509.CertificateSigningRequest) -> ClientKey:
    """Return the public key of a request; its signature proves possession of it.

    Raises:
        MalformedError: The key or the signature cannot be read.
        KeyUnsafeError: It is not signed by its key, or the key is of a kind not accepted.
    """
    try:
        valid, key = request.is_signature_valid, request.public_key()
    except UNREADABLE as error:
        raise MalformedError("the request's key or signature is of no known kind") from error
    if not valid:
        raise KeyUnsafeError("the request is not signed by its key")
    return _acceptable(key)


def _acceptable(key: CertificatePublicKeyTypes) -> ClientKey:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey):
        if isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
            return key
    elif isinstance(key, rsa.RSAPublicKey) and 2048 <= key.key_size <= 4096:
        return key
    raise KeyUnsafeError("a TLS key is P-256, P-384, Ed25519, or RSA of 2048 to 4096 bits")


def spki_of(key: ClientKey) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a key."""
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ClientKey,
    now: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_to_seconds(now) - BACKDATE)
        .not_valid_after(_to_seconds(until))
    )


def _to_seconds(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError as error:
        if not _HOST.fullmatch(host):
            raise MalformedError(f"neither a DNS name nor an address: {host!r:.40}") from error
        return x509.DNSName(host)


def to_pkcs12(
    key: ec.EllipticCurvePrivateKey,
    certificate: Issued,
    authorities: Sequence[Issued],
    *,
    name: str,
    password: str,
) -> bytes:
    """Return a key and its certificate as browsers import them (RFC 7292), encrypted.

    Args:
        key: Private.
        certificate: Of that key.
        authorities: Go with it.
        name: Shown by the browser.
        password: Of the file.
    """
    return pkcs12.serialize_key_and_certificates(
        name.encode(),
        key,
        certificate.certificate,
        [authority.certificate for authority in authorities],
        serialization.BestAvailableEncryption(password.encode()),
    )

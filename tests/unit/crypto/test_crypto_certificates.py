"""The coalition's CA: whom it names, for what, for how long, and what it refuses to sign."""

import base64
import ipaddress
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from hashshare.crypto import certificates
from hashshare.crypto.certificates import Authority, Issued, make_csr, new_tls_key, parse_csr
from hashshare.errors import ExpiredError, KeyUnsafeError, MalformedError

NOW = datetime(2026, 11, 23, 10, 0, 0, 987_654, tzinfo=UTC)
SECOND = NOW.replace(microsecond=0)
CA = Authority.create("Coalition", now=NOW)
KEY = new_tls_key()

SigningKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | dsa.DSAPrivateKey
)


def _san(issued: Issued) -> x509.SubjectAlternativeName:
    return issued.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def _to_pem(label: str, der: bytes) -> str:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n"


def _csr(key: SigningKey) -> str:
    plain = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = request.sign(key, None if plain else hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def _file_pem(issued: Issued) -> bytes:
    return issued.pem.encode()


def test_a_client_certificate_names_the_member() -> None:
    """As common name and as URI, for TLS clients, and for nothing else."""
    issued = CA.issue_client(KEY.public_key(), member="acme", now=NOW)
    extensions = issued.certificate.extensions

    (name,) = issued.certificate.subject
    assert (name.oid, name.value) == (NameOID.COMMON_NAME, "acme")
    assert list(_san(issued)) == [x509.UniformResourceIdentifier("urn:hashshare:member:acme")]
    usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert not constraints.value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert issued.certificate.public_key() == KEY.public_key()
    issued.certificate.verify_directly_issued_by(CA.root.certificate)


def test_a_client_certificate_is_valid_for_90_days() -> None:
    """From five minutes ago, for clocks that are behind; whole seconds, UTC."""
    issued = CA.issue_client(KEY.public_key(), member="acme", now=NOW)

    assert issued.not_before == SECOND - timedelta(minutes=5)
    assert issued.not_after == SECOND + timedelta(days=90)
    elsewhere = NOW.astimezone(timezone(timedelta(hours=9)))
    again = CA.issue_client(KEY.public_key(), member="acme", now=elsewhere)
    assert (again.not_before, again.not_after) == (issued.not_before, issued.not_after)
    assert again.fingerprint != issued.fingerprint, "serial numbers are random"


def test_the_longest_member_id_fits() -> None:
    """63 characters; a common name has at most 64."""
    issued = CA.issue_client(KEY.public_key(), member="a" * 63, now=NOW)

    assert list(_san(issued)) == [
        x509.UniformResourceIdentifier("urn:hashshare:member:" + "a" * 63)
    ]


def test_a_server_certificate_names_its_hosts() -> None:
    """DNS names and addresses, each as what it is; for TLS servers only."""
    hosts = ["hashshare.example", "*.pods.example", "localhost", "127.0.0.1", "::1"]

    issued = CA.issue_server(KEY.public_key(), hosts=hosts, now=NOW)

    assert list(_san(issued)) == [
        *map(x509.DNSName, hosts[:3]),
        x509.IPAddress(ipaddress.IPv4Address("127.0.0.1")),
        x509.IPAddress(ipaddress.IPv6Address("::1")),
    ]
    usages = issued.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert issued.not_after == SECOND + timedelta(days=397)


def test_a_long_host_name_is_not_cut() -> None:
    """Only the common name is, which nobody verifies."""
    host = ".".join(["a" * 60] * 4)

    assert list(_san(CA.issue_server(KEY.public_key(), hosts=[host], now=NOW))) == [
        x509.DNSName(host)
    ]


NO_HOSTS = [
    "",
    "a b",
    "a:443",
    "[::1]",
    "127.0.0.1:80",
    "ü.example",
    "a..b",
    ".a",
    "a.",
    "a\n",
    "a.*",
    "https://a",
    "a" * 64,
    ".".join(["a" * 60] * 5),
]


@pytest.mark.parametrize("host", NO_HOSTS)
def test_what_is_no_host_is_refused(host: str) -> None:
    """Such a certificate would match nothing."""
    with pytest.raises(MalformedError):
        CA.issue_server(KEY.public_key(), hosts=["good.example", host], now=NOW)


def test_a_certificate_does_not_outlive_the_authority() -> None:
    """It ends with the CA's at the latest, and after that there is none."""
    end = CA.root.not_after
    assert end == SECOND + timedelta(days=3650)

    last = CA.issue_client(KEY.public_key(), member="acme", now=end - timedelta(days=1))
    assert last.not_after == end
    with pytest.raises(ExpiredError):
        CA.issue_client(KEY.public_key(), member="acme", now=end)
    with pytest.raises(ExpiredError):
        CA.issue_server(KEY.public_key(), hosts=["a"], now=end)


def test_the_root() -> None:
    """May sign certificates of leaves, and no other CA's."""
    extensions = CA.root.certificate.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)

    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.crl_sign) == (True, True)
    assert not usage.value.digital_signature
    CA.root.certificate.verify_directly_issued_by(CA.root.certificate)


@pytest.mark.parametrize("name", ["", "x" * 200])
def test_any_coalition_gets_a_root(name: str) -> None:
    """However long its name is."""
    root = Authority.create(name, now=NOW).root

    assert len(root.certificate.subject) == 1


def test_an_authority_is_read_as_it_was_written() -> None:
    """Key and root, from PEM; and it goes on issuing."""
    read = Authority.from_pem(certificates.tls_key_to_pem(CA.key), _file_pem(CA.root))

    assert read.root == CA.root
    issued = read.issue_client(KEY.public_key(), member="acme", now=NOW)
    issued.certificate.verify_directly_issued_by(CA.root.certificate)


def test_an_authority_is_one_key_and_its_root() -> None:
    """Not any two."""
    key, other = certificates.tls_key_to_pem(CA.key), Authority.create("Other", now=NOW)
    leaf = CA.issue_client(KEY.public_key(), member="acme", now=NOW)

    for root in (_file_pem(other.root), _file_pem(leaf), b"", key):
        with pytest.raises(MalformedError):
            Authority.from_pem(key, root)
    with pytest.raises(MalformedError):
        Authority.from_pem(b"", _file_pem(CA.root))


def test_a_root_with_a_key_of_an_unknown_kind_is_refused() -> None:
    """The certificate is read, its key is not."""
    der = CA.root.der.replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030109"))

    with pytest.raises(MalformedError):
        Authority.from_pem(
            certificates.tls_key_to_pem(CA.key), _to_pem("CERTIFICATE", der).encode()
        )


def test_a_certificate_is_read_as_it_was_written() -> None:
    """PEM and DER; its fingerprint is that of the DER."""
    issued = CA.issue_client(KEY.public_key(), member="acme", now=NOW)

    assert Issued.parse(_file_pem(issued)) == Issued.parse_der(issued.der) == issued
    assert issued.fingerprint == certificates.fingerprint(issued.der)
    assert issued.fingerprint == issued.certificate.fingerprint(hashes.SHA256()).hex()


def test_a_key_is_read_as_it_was_written() -> None:
    """PEM and back."""
    again = certificates.parse_tls_key(certificates.tls_key_to_pem(KEY))

    assert certificates.spki_of(again.public_key()) == certificates.spki_of(KEY.public_key())


def _key_pem(key: SigningKey, password: bytes | None = None) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption(),
    )


@pytest.mark.parametrize(
    "pem",
    [b"", b"\xff", _key_pem(ed25519.Ed25519PrivateKey.generate()), _key_pem(KEY, b"secret")],
    ids=["nothing", "no PEM", "another kind", "encrypted"],
)
def test_other_files_hold_no_key(pem: bytes) -> None:
    """Each is malformed, and nothing else comes out."""
    with pytest.raises(MalformedError):
        certificates.parse_tls_key(pem)


@given(st.binary())
def test_any_bytes_are_a_certificate_or_malformed(data: bytes) -> None:
    """No other error comes out."""
    for parse in (Issued.parse, Issued.parse_der):
        with suppress(MalformedError):
            parse(data)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_a_flipped_bit_gives_no_other_error() -> None:
    """Every single one of a certificate: another certificate, or malformed."""
    der = CA.root.der
    for bit in range(8 * len(der)):
        spoilt = bytearray(der)
        spoilt[bit // 8] ^= 1 << bit % 8
        with suppress(MalformedError):
            assert Issued.parse_der(bytes(spoilt)).fingerprint != CA.root.fingerprint
        with suppress(MalformedError):
            Issued.parse(_to_pem("CERTIFICATE", bytes(spoilt)).encode())


RSA_2048 = rsa.generate_private_key(65537, 2048)
ACCEPTED: dict[str, SigningKey] = {
    "P-256": KEY,
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    "RSA 2048": RSA_2048,
}
REFUSED: dict[str, SigningKey] = {
    "P-521": ec.generate_private_key(ec.SECP521R1()),
    "P-224": ec.generate_private_key(ec.SECP224R1()),
    "secp256k1": ec.generate_private_key(ec.SECP256K1()),
    "Ed448": ed448.Ed448PrivateKey.generate(),
    "RSA 1024": rsa.generate_private_key(65537, 1024),
    "RSA 2047": rsa.generate_private_key(65537, 2047),
    "RSA 4104": rsa.generate_private_key(65537, 4104),
    "DSA": dsa.generate_private_key(2048),
}


@pytest.mark.parametrize("key", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted_keys(key: SigningKey) -> None:
    """Each gets a certificate that OpenSSL can load with it."""
    public = parse_csr(_csr(key))

    issued = CA.issue_client(public, member="acme", now=NOW)

    assert issued.certificate.public_key() == key.public_key()


@pytest.mark.parametrize("key", REFUSED.values(), ids=REFUSED.keys())
def test_refused_keys(key: SigningKey) -> None:
    """Weak ones, and those that not every TLS library knows."""
    with pytest.raises(KeyUnsafeError):
        parse_csr(_csr(key))


def test_our_own_request_is_accepted() -> None:
    """What ``make_csr`` makes has the key in it."""
    assert parse_csr(make_csr(KEY, member="acme")) == KEY.public_key()


def test_nothing_but_the_key_is_taken_from_a_request() -> None:
    """Not the name it asks for, and not the rights."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")])
    uri = x509.UniformResourceIdentifier("urn:hashshare:member:admin")
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(KEY, hashes.SHA256())
    )
    pem = request.public_bytes(serialization.Encoding.PEM).decode()

    issued = CA.issue_client(parse_csr(pem), member="acme", now=NOW)

    expected = CA.issue_client(KEY.public_key(), member="acme", now=NOW)
    assert issued.certificate.subject == expected.certificate.subject
    assert list(issued.certificate.extensions) == list(expected.certificate.extensions)


def test_a_request_for_the_key_of_somebody_else_is_refused() -> None:
    """The signature proves who has the key."""
    other = new_tls_key()
    der = x509.load_pem_x509_csr(_csr(KEY).encode()).public_bytes(serialization.Encoding.DER)
    spki = certificates.spki_of(KEY.public_key())
    assert der.count(spki) == 1
    stolen = der.replace(spki, certificates.spki_of(other.public_key()))

    with pytest.raises(KeyUnsafeError):
        parse_csr(_to_pem("CERTIFICATE REQUEST", stolen))


@pytest.mark.parametrize("key", [KEY, RSA_2048], ids=["P-256", "RSA"])
def test_a_flipped_bit_in_a_request_gives_no_other_error(key: SigningKey) -> None:
    """Every single one; the version too, which once raised an error of the library's own."""
    der = x509.load_pem_x509_csr(_csr(key).encode()).public_bytes(serialization.Encoding.DER)
    for bit in range(8 * len(der)):
        spoilt = bytearray(der)
        spoilt[bit // 8] ^= 1 << bit % 8
        with suppress(MalformedError, KeyUnsafeError):
            assert parse_csr(_to_pem("CERTIFICATE REQUEST", bytes(spoilt))) == key.public_key()


@given(st.text() | st.binary().map(lambda data: _to_pem("CERTIFICATE REQUEST", data)))
def test_any_text_is_a_request_or_refused(text: str) -> None:
    """No other error comes out."""
    with pytest.raises(MalformedError):
        parse_csr(text)


def test_a_request_has_a_limit() -> None:
    """Nothing longer is parsed, though the request in it is good."""
    good = _csr(KEY)

    with pytest.raises(MalformedError):
        parse_csr(good + "\n" * certificates.MAX_CSR_BYTES)


def _context(
    tmp_path: Path, purpose: ssl.Purpose, leaf: Issued, key: ec.EllipticCurvePrivateKey
) -> ssl.SSLContext:
    chain = tmp_path / f"{leaf.fingerprint}.pem"
    chain.write_bytes(_file_pem(leaf) + certificates.tls_key_to_pem(key))
    context = ssl.create_default_context(purpose, cadata=CA_NOW.root.pem)
    context.load_cert_chain(chain)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


# Only here: OpenSSL takes the time from the clock.
CA_NOW = Authority.create("Coalition", now=datetime.now(UTC))


def _issue(purpose: str, key: ec.EllipticCurvePrivateKey) -> Issued:
    now = datetime.now(UTC)
    if purpose == "client":
        return CA_NOW.issue_client(key.public_key(), member="acme", now=now)
    return CA_NOW.issue_server(key.public_key(), hosts=["127.0.0.1"], now=now)


def _shake_hands(tmp_path: Path, client: str, server: str) -> tuple[Issued, ssl.SSLObject]:
    """Return the client's certificate and the server's end; each shows one for that purpose."""
    client_key, server_key = new_tls_key(), new_tls_key()
    shown = _issue(client, client_key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_context = _context(tmp_path, ssl.Purpose.SERVER_AUTH, shown, client_key)
    # The purpose is what is looked at here: a client's certificate has no host.
    client_context.check_hostname = server == "server"
    ends = [
        client_context.wrap_bio(to_client, to_server, server_hostname="127.0.0.1"),
        _context(
            tmp_path, ssl.Purpose.CLIENT_AUTH, _issue(server, server_key), server_key
        ).wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(3):
        for end in ends:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return shown, ends[1]


def test_client_and_server_shake_hands(tmp_path: Path) -> None:
    """Both verify the other, strictly; the server sees the certificate by its fingerprint."""
    shown, end = _shake_hands(tmp_path, "client", "server")

    seen = end.getpeercert(binary_form=True)
    assert seen is not None
    assert certificates.fingerprint(seen) == shown.fingerprint
    assert end.version() == "TLSv1.3"


@pytest.mark.parametrize(("client", "server"), [("server", "server"), ("client", "client")])
def test_a_certificate_is_of_no_use_for_the_other_purpose(
    tmp_path: Path, client: str, server: str
) -> None:
    """No member can pose as the server to others, by OpenSSL's reading of RFC 5280."""
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        _shake_hands(tmp_path, client, server)

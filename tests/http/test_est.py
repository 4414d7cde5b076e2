"""EST (RFC 7030): a certificate is renewed by whoever holds it, as it is, and by nobody else."""

import asyncio
import base64
import gzip
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hashshare.client import Client, Profile
from hashshare.client.enrol import enrol
from hashshare.crypto.certificates import MAX_CSR_BYTES, new_tls_key, spki_of
from hashshare.domain.members import Status
from hashshare.domain.scopes import Scope, ScopeKind
from hashshare.errors import NotFoundError
from tests.http.test_tls import coalition_ca, write
from tests.http.test_trail import entries
from tests.support.est import (
    CA_CERTIFICATES,
    REENROLMENT,
    Answer,
    Key,
    ask,
    ask_as_stranger,
    own_key,
    request_like,
    sign,
    write_tls,
)
from tests.support.federation import Federation, copy_profile, run_federation

NOW = datetime.now(UTC)
Builder = x509.CertificateSigningRequestBuilder


@pytest.fixture
def acme(federation: Federation) -> Profile:
    """A member, which asks."""
    return federation.members["acme"]


def like(profile: Profile) -> Builder:
    """A request for the certificate that a member has."""
    return request_like(profile.certificate().certificate)


def for_names(*names: x509.GeneralName, subject: str = "acme") -> Builder:
    """A request for other names."""
    request = Builder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
    if names:
        request = request.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return request


def uri(member: str) -> x509.GeneralName:
    """The alternative name of a member."""
    return x509.UniformResourceIdentifier(f"urn:hashshare:member:{member}")


async def issued(federation: Federation) -> int:
    """How many certificates the server has issued."""
    count: int = await federation.pool.fetchval("SELECT count(*) FROM certificate")
    return count


async def refused(
    federation: Federation,
    body: bytes | None,
    status: int,
    *,
    path: str = REENROLMENT,
    headers: dict[str, str] | None = None,
) -> str:
    """Acme asks and is refused in words; nothing was issued, and nothing is lost by it."""
    acme, before = federation.members["acme"], await issued(federation)
    got = await ask(acme, path, body, headers=headers)
    words = in_words(got, status)
    assert await issued(federation) == before
    assert (await ask(acme, REENROLMENT, sign(like(acme), own_key(acme)))).status == 200
    return words


def in_words(got: Answer, status: int) -> str:
    """Why it was refused."""
    assert (got.status, got.kind) == (status, "text/plain"), got
    words = got.body.decode()
    assert len(words) > 4
    assert not words.startswith("{")
    return words


KEYS = {
    "the same key": lambda profile: own_key(profile),
    "another key": lambda _: new_tls_key(),
    "P-384": lambda _: ec.generate_private_key(ec.SECP384R1()),
    "RSA": lambda _: rsa.generate_private_key(65537, 2048),
    "Ed25519": lambda _: ed25519.Ed25519PrivateKey.generate(),
}


@pytest.mark.parametrize("key_of", KEYS.values(), ids=KEYS)
async def test_a_certificate_is_renewed(
    federation: Federation, acme: Profile, key_of: Callable[[Profile], Key]
) -> None:
    """It says the same for ninety days more, lets its member in, and so does the one before."""
    key, old = key_of(acme), acme.certificate()
    got = await ask(acme, REENROLMENT, sign(like(acme), key))

    assert got.status == 200, got
    assert got.headers["Content-Type"] == "application/pkcs7-mime; smime-type=certs-only"
    # RFC 7030 section 4.2.3: only the certificate that was issued.
    (new,) = got.certificates
    assert new.certificate.public_key() == key.public_key()
    assert new.certificate.subject == old.certificate.subject
    assert new.member == "acme"
    assert new.fingerprint != old.fingerprint
    assert new.not_after - datetime.now(UTC) > timedelta(days=89)
    assert new.is_issued_by(coalition_ca(federation).root)
    renewed = copy_profile(acme, "renewed")
    write_tls(renewed.tls_path, key, new)
    for profile in (renewed, acme):
        async with Client(profile) as client:
            assert (await client.whoami()).member == "acme"


async def test_a_renewal_is_recorded_like_our_own(federation: Federation, acme: Profile) -> None:
    """Who, with which certificate; the other way of asking is all that differs."""
    with_est = acme.certificate().fingerprint
    assert (await ask(acme, REENROLMENT, sign(like(acme), new_tls_key()))).status == 200
    async with Client(acme) as client:
        await client.renew()
    acts = {entry.action: entry for entry in await entries(federation.admin, kind="act")}
    own, est = acts["POST /v1/renewals"], acts[f"POST {REENROLMENT}"]
    assert (est.member, est.certificate) == ("acme", with_est)
    assert (est.kind, est.member, est.facts) == (own.kind, own.member, own.facts)


async def test_the_cas_certificates_are_there_for_all(
    federation: Federation, acme: Profile
) -> None:
    """For members, and for those who have no certificate yet."""
    for got in (await ask(acme, CA_CERTIFICATES), await ask_as_stranger(acme, CA_CERTIFICATES)):
        assert (got.status, got.headers["Content-Type"]) == (200, "application/pkcs7-mime")
        assert got.certificates == [coalition_ca(federation).root]


OTHERS = {
    "another member's subject": for_names(uri("acme"), subject="admin"),
    "another member's certificate": for_names(uri("admin"), subject="admin"),
    "another member's alternative name": for_names(uri("admin")),
    "one alternative name more": for_names(uri("acme"), uri("admin")),
    "a host": for_names(uri("acme"), x509.DNSName("hashes.example.org")),
    "no alternative name": for_names(),
    "the names in another order": for_names(x509.DNSName("acme"), uri("acme")),
}


@pytest.mark.parametrize("request_", OTHERS.values(), ids=OTHERS)
async def test_a_request_for_other_names_is_refused(
    federation: Federation, request_: Builder
) -> None:
    """The certificate that is shown says what is renewed (RFC 7030 section 4.2.2)."""
    words = await refused(federation, sign(request_, new_tls_key()), 403)
    assert "expected the subject CN=acme" in words


async def test_rights_in_a_request_count_nothing(federation: Federation, acme: Profile) -> None:
    """A CA, a server: what comes is a member's certificate like the one before."""
    asked = (
        like(acme)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    (new,) = (await ask(acme, REENROLMENT, sign(asked, new_tls_key()))).certificates
    extensions = new.certificate.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]


async def until_out(profile: Profile) -> None:
    """Wait until the server has heard that a member, or its certificate, is out."""
    async with asyncio.timeout(30):
        while (await ask(profile, CA_CERTIFICATES)).status != 403:
            await asyncio.sleep(0.02)


async def test_a_revoked_certificate_is_not_renewed(federation: Federation, acme: Profile) -> None:
    """Though its member has others."""
    async with Client(acme) as client:
        await client.renew()
    lost = copy_profile(acme, "lost")
    async with Client(federation.admin) as admin:
        fingerprint = lost.certificate().fingerprint
        await admin.admin.revoke_certificate("acme", fingerprint, reason="lost")
    await until_out(lost)
    before = await issued(federation)
    got = await ask(lost, REENROLMENT, sign(like(lost), new_tls_key()))
    assert "revoked" in in_words(got, 403)
    assert await issued(federation) == before


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.REVOKED])
async def test_a_member_that_is_out_renews_nothing(
    federation: Federation, acme: Profile, status: Status
) -> None:
    """And once it is reinstated, its certificate is still there to be renewed."""
    request = sign(like(acme), new_tls_key())
    before = await issued(federation)
    async with Client(federation.admin) as admin:
        await admin.admin.set_status("acme", status, reason="test", now=NOW)
        await until_out(acme)
        assert status.value in in_words(await ask(acme, REENROLMENT, request), 403)
        assert await issued(federation) == before
        if status is Status.SUSPENDED:
            await admin.admin.set_status("acme", Status.ACTIVE, reason="test", now=NOW)
            async with asyncio.timeout(30):
                while (await ask(acme, REENROLMENT, request)).status != 200:
                    await asyncio.sleep(0.02)


async def test_a_certificate_that_was_not_enrolled_is_not_renewed(
    federation: Federation, acme: Profile
) -> None:
    """Whoever has stolen the CA's key, and certified itself, gets nothing by it."""
    stolen = copy_profile(acme, "stolen")
    write(federation.folder, coalition_ca(federation), "client").replace(stolen.tls_path)
    before = await issued(federation)
    in_words(await ask(stolen, REENROLMENT, sign(like(stolen), new_tls_key())), 403)
    assert await issued(federation) == before


WEAK = {
    "RSA of 1024 bits": rsa.generate_private_key(65537, 1024),
    "P-224": ec.generate_private_key(ec.SECP224R1()),
    "secp256k1": ec.generate_private_key(ec.SECP256K1()),
    "DSA": dsa.generate_private_key(2048),
}


@pytest.mark.parametrize("key", WEAK.values(), ids=WEAK)
async def test_a_weak_key_is_refused(federation: Federation, acme: Profile, key: Key) -> None:
    """By the rules that hold for our own renewal."""
    assert "P-256" in await refused(federation, sign(like(acme), key), 422)


async def test_a_tampered_signature_is_refused(federation: Federation, acme: Profile) -> None:
    """A bit of it, or the key under it: whoever asks has the private key."""
    key = new_tls_key()
    der = base64.b64decode(sign(like(acme), key))
    flipped = der[:-1] + bytes([der[-1] ^ 1])
    spki = spki_of(key.public_key())
    assert der.count(spki) == 1
    stolen = der.replace(spki, spki_of(new_tls_key().public_key()))
    for spoilt in (flipped, stolen):
        words = await refused(federation, base64.encodebytes(spoilt), 422)
        assert "not signed by its key" in words


async def test_what_is_no_request_is_refused(federation: Federation, acme: Profile) -> None:
    """Garbage, garbage in base64, DER without it, PEM, half a request, two of them."""
    good = sign(like(acme), new_tls_key())
    der = base64.b64decode(good)
    pem = x509.load_der_x509_csr(der).public_bytes(serialization.Encoding.PEM)
    for body in (
        b"",
        b"\xff\xfe\x00",
        b"not base64!",
        base64.b64encode(b"garbage"),
        der,
        pem,
        good[: len(good) // 2],
        good + good,
        acme.certificate().pem.encode(),
        base64.b64encode(acme.certificate().der),
    ):
        await refused(federation, body, 400)


async def test_a_request_that_is_too_long_is_refused(federation: Federation, acme: Profile) -> None:
    """Though there is a good one in it."""
    good = sign(like(acme), new_tls_key())
    await refused(federation, good + b"\n" * MAX_CSR_BYTES, 413)


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "identity, gzip"])
async def test_a_compressed_request_is_refused(
    federation: Federation, acme: Profile, encoding: str
) -> None:
    """Nothing is unpacked, so nothing bursts."""
    body = gzip.compress(sign(like(acme), new_tls_key()))
    words = await refused(federation, body, 400, headers={"Content-Encoding": encoding})
    assert "compressed" in words


@pytest.mark.parametrize("kind", list(ScopeKind))
async def test_a_certificate_with_a_scope_keeps_it(
    federation: Federation, acme: Profile, kind: ScopeKind
) -> None:
    """And its name, by which it is revoked with all that followed it."""
    scope = Scope(kind, ("csam",))
    async with Client(acme) as client:
        invitation, _ = await client.certificates.add("bot", scope, hours=1)
    bot = (await enrol(invitation, federation.folder / "bot")).profile
    assert (await ask(bot, CA_CERTIFICATES)).status == 200
    key = new_tls_key()
    (new,) = (await ask(bot, REENROLMENT, sign(like(bot), key))).certificates
    async with Client(bot) as client:
        before = (await client.whoami()).certificate
    write_tls(bot.tls_path, key, new)
    async with Client(bot) as client:
        after = (await client.whoami()).certificate
        assert after.fingerprint == new.fingerprint
        assert (after.label, after.scope) == ("bot", before.scope)
        assert after.scope is not None
        with pytest.raises(NotFoundError, match="nothing here"):
            await client.certificates.list()
    async with Client(acme) as client:
        assert (await client.certificates.revoke("bot", reason="moved"))[0] == 2


async def test_the_other_methods_are_refused(federation: Federation, acme: Profile) -> None:
    """Looking at where one renews gives nothing, and changes nothing."""
    before = await issued(federation)
    for method in ("GET", "PUT", "DELETE"):
        got = await ask(acme, REENROLMENT, method=method)
        in_words(got, 405)
        assert got.headers["Allow"] == "POST"
    in_words(await ask(acme, CA_CERTIFICATES, b"x"), 405)
    assert (await ask(acme, REENROLMENT, method="HEAD")).status == 405
    assert await issued(federation) == before


@pytest.mark.parametrize("operation", ["simpleenroll", "serverkeygen", "fullcmc", "csrattrs"])
async def test_nobody_joins_by_est(federation: Federation, acme: Profile, operation: str) -> None:
    """To join takes an invitation and a submission key, and no other operation is there."""
    path = f"/.well-known/est/{operation}"
    request = sign(like(acme), new_tls_key())
    await refused(federation, request, 404, path=path)
    for unknown in (path, REENROLMENT):
        in_words(await ask_as_stranger(acme, unknown, request), 404)


async def test_refusals_are_recorded(federation: Federation, acme: Profile) -> None:
    """With the type of the problem, though the answer is in words."""
    await ask(acme, REENROLMENT, sign(for_names(uri("admin")), new_tls_key()))
    (refusal,) = await entries(federation.admin, kind="refusal", member="acme")
    assert (refusal.action, refusal.problem) == (f"POST {REENROLMENT}", "permission-denied")


async def test_over_the_rate_is_said_with_the_time_to_wait(dsn: str, tmp_path: Path) -> None:
    """In words, and where programs look for it."""
    limits = {"member_burst_requests": 5.0, "member_requests_per_second": 0.1}
    async with run_federation(dsn, tmp_path, limits=limits) as federation:
        acme = await federation.join("acme")
        while (got := await ask(acme, CA_CERTIFICATES)).status == 200:
            pass
    in_words(got, 429)
    assert int(got.headers["Retry-After"]) >= 1

"""Joining: one invitation, one member, one pair of keys."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from hashshare.client import Client
from hashshare.client.enrol import enrol
from hashshare.client.session import Session, pinned_context
from hashshare.crypto.certificates import make_csr, new_tls_key
from hashshare.crypto.keys import PrivateKey, prove_possession
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.joining import Invitation
from hashshare.domain.policy import Basis
from hashshare.domain.records import AssertRecord
from hashshare.errors import (
    AlreadyExistsError,
    DigestMismatchError,
    HashshareError,
    InvitationInvalidError,
    KeyUnsafeError,
    MalformedError,
    PermissionDeniedError,
)
from hashshare.wire.members import EnrolmentDone, EnrolmentRequest
from tests.support.federation import Federation, run_federation

SMALL_ORDER = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


@pytest.fixture
async def federation(dsn: str, tmp_path: Path) -> AsyncIterator[Federation]:
    """A coalition that has just begun."""
    async with run_federation(dsn, tmp_path) as federation:
        await federation.create()
        yield federation


def request_for(
    federation: Federation, invitation: Invitation, **fields: object
) -> EnrolmentRequest:
    """What a member sends, with some of it changed."""
    key = PrivateKey.generate()
    request = EnrolmentRequest(
        csr=make_csr(new_tls_key(), member=invitation.member),
        possession=prove_possession(
            key,
            member=invitation.member,
            origin=federation.admin.trust.log,
            context=invitation.token_digest,
        ),
        submission_key=key.public.text,
        token=invitation.token,
    )
    return request.model_copy(update=fields)


async def send(federation: Federation, request: EnrolmentRequest | bytes) -> EnrolmentDone:
    """Send it, without a certificate."""
    tls = pinned_context(federation.admin.trust.ca)
    async with Session(federation.server.addresses.enrol_url, tls, attempts=1) as session:
        return await session.send("POST", "/v1/enrolments", request, EnrolmentDone)


async def test_an_invitation_works_once(federation: Federation) -> None:
    """For the same keys it may be repeated, as the answer may have been lost; for others not."""
    invitation = await federation.invite("acme")
    request = request_for(federation, invitation)
    first = await send(federation, request)
    assert (await send(federation, request)).certificate == first.certificate
    with pytest.raises(InvitationInvalidError):
        await send(federation, request_for(federation, invitation))
    async with Client(federation.admin) as admin:
        assert len((await admin.admin.member("acme")).certificates) == 1


async def test_wrong_invitations_are_refused(federation: Federation) -> None:
    """Unknown, revoked, and another's; the same answer to all."""
    unknown = msgspec.structs.replace(await federation.invite("acme"), token="x" * 43)
    with pytest.raises(InvitationInvalidError) as unknown_error:
        await send(federation, request_for(federation, unknown))
    revoked = await federation.invite("acme")
    async with Client(federation.admin) as admin:
        for row in (await admin.admin.invitations()).invitations:
            await admin.admin.cancel_invitation(row.invitation_id)
    with pytest.raises(InvitationInvalidError) as revoked_error:
        await send(federation, request_for(federation, revoked))
    assert str(unknown_error.value) == str(revoked_error.value)


async def test_an_expired_invitation_is_refused(federation: Federation) -> None:
    """An hour is over in the database."""
    invitation = await federation.invite("acme")
    await federation.pool.execute(
        "UPDATE invitation SET created_at = created_at - interval '2 hours',"
        " expires_at = expires_at - interval '2 hours'"
    )
    with pytest.raises(InvitationInvalidError):
        await send(federation, request_for(federation, invitation))


async def test_keys_that_prove_nothing_are_refused(federation: Federation) -> None:
    """A small-order key, one that the sender does not have, and one that is another's."""
    invitation = await federation.invite("acme")
    other = PrivateKey.generate()
    proof = prove_possession(other, member="beta", origin="x", context=invitation.token_digest)
    for fields, error in (
        ({"submission_key": SMALL_ORDER}, KeyUnsafeError),
        ({"submission_key": other.public.text}, KeyUnsafeError),
        ({"submission_key": other.public.text, "possession": proof}, KeyUnsafeError),
        ({"submission_key": "no key"}, MalformedError),
        ({"csr": "no request"}, MalformedError),
        ({"token": ""}, HashshareError),
    ):
        with pytest.raises(error):
            await send(federation, request_for(federation, invitation, **fields))
    acme = await federation.join("taken")
    taken = acme.submission_key()
    proof = prove_possession(
        taken,
        member=invitation.member,
        origin=federation.admin.trust.log,
        context=invitation.token_digest,
    )
    fields = {"submission_key": taken.public.text, "possession": proof}
    with pytest.raises(KeyUnsafeError, match="listed already"):
        await send(federation, request_for(federation, invitation, **fields))
    # Nothing of that has used the invitation up.
    assert (await send(federation, request_for(federation, invitation))).member == "acme"


async def test_names_in_the_request_count_nothing(federation: Federation) -> None:
    """The invitation says who it is."""
    invitation = await federation.invite("acme")
    csr = make_csr(new_tls_key(), member="admin")
    assert (await send(federation, request_for(federation, invitation, csr=csr))).member == "acme"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"token":1}', b"\xff\xfe"])
async def test_garbage_is_refused(federation: Federation, body: bytes) -> None:
    """With a problem that says so."""
    with pytest.raises(MalformedError):
        await send(federation, body)


async def test_an_impostor_with_the_invitations_address_is_found_out(
    federation: Federation, tmp_path: Path
) -> None:
    """The invitation holds the digest of what the server must show."""
    invitation = await federation.invite("acme")
    for field in ("trust_digest", "ca_fingerprint"):
        forged = msgspec.structs.replace(invitation, **{field: "0" * 64})
        with pytest.raises(DigestMismatchError):
            await enrol(forged, tmp_path / field)
    assert (await enrol(invitation, tmp_path / "genuine")).approved


async def test_private_keys_stay_on_the_machine(federation: Federation, tmp_path: Path) -> None:
    """The folder and its files are for their owner alone, and no second profile replaces one."""
    invitation = await federation.invite("acme")
    folder = tmp_path / "acme"
    joined = await enrol(invitation, folder)
    for path in (folder / "keys").iterdir():
        assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(AlreadyExistsError):
        await enrol(invitation, folder)
    async with Client(joined.profile) as client:
        before = joined.profile.tls_path.read_bytes()
        await client.renew()
        assert joined.profile.tls_path.read_bytes() != before
    async with Client(joined.profile) as client:
        assert (await client.whoami()).member == "acme"


async def test_without_the_governance_key_an_admin_approves(dsn: str, tmp_path: Path) -> None:
    """Until then the member reads, and its submissions are refused."""
    async with run_federation(dsn, tmp_path, governance_on_server=False) as federation:
        await federation.create()
        joined = await enrol(await federation.invite("acme"), tmp_path / "acme")
        record = AssertRecord("", {HashAlgorithm.SHA256: b"\x07" * 32}, "A1", None, Basis.REVIEWED)
        assert not joined.approved
        async with Client(joined.profile) as acme, Client(federation.admin) as admin:
            with pytest.raises((PermissionDeniedError, HashshareError)):
                await acme.push("csam", [record])
            await admin.admin.approve("acme", now=federation_now())
            await asyncio.sleep(0)
            (pushed,) = await acme.push("csam", [record])
            assert pushed.counts.new == 1


def federation_now() -> datetime:
    """This moment."""
    return datetime.now(UTC)

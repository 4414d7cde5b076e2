"""Joining: from an invitation to a profile. Private keys never leave the machine."""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from hashshare.client.profile import Profile
from hashshare.client.session import Session, pinned_context
from hashshare.crypto import canonical
from hashshare.crypto.certificates import (
    Issued,
    make_csr,
    new_tls_key,
    parse_tls_key,
    tls_key_to_pem,
)
from hashshare.crypto.keys import (
    PrivateKey,
    prove_possession,
    read_private_key,
    write_private_key,
)
from hashshare.domain.documents import encode_document
from hashshare.domain.joining import MAX_TRUST_BYTES, Invitation, Trust, parse_trust
from hashshare.domain.names import MemberId
from hashshare.errors import AlreadyExistsError, DigestMismatchError, MixAndMatchError
from hashshare.wire.members import (
    EnrolmentDone,
    EnrolmentRequest,
    RenewalDone,
    RenewalRequest,
    SubmissionKeyDone,
    SubmissionKeyRequest,
)


@dataclass(frozen=True, slots=True)
class Joined:
    """What enrolling came to.

    Attributes:
        approved: Whether submissions are accepted from now on; else an admin has to approve.
    """

    profile: Profile
    approved: bool
    not_after: str


async def enrol(invitation: Invitation, folder: Path) -> Joined:
    """Make keys in ``folder``, have them certified, and write the profile.

    May be repeated with the same invitation and folder when the answer was lost.

    Raises:
        AlreadyExistsError: ``folder`` holds a profile.
        DigestMismatchError: The server's trust document is not the invitation's.
        InvitationInvalidError: The invitation is unknown, used, or expired.
        UnavailableError: The server cannot be reached.
    """
    if (folder / "profile.toml").exists():
        raise AlreadyExistsError("there is a profile already; name another folder")
    trust = await _fetch_trust(invitation)
    (folder / "keys").mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    tls_key = _tls_key(folder)
    request = EnrolmentRequest(
        csr=make_csr(tls_key, member=invitation.member), token=invitation.token
    )
    if invitation.pull_only is not True:
        submission_key = _submission_key(folder)
        proof = prove_possession(
            submission_key,
            member=invitation.member,
            origin=trust.log,
            context=invitation.token_digest,
        )
        request = request.model_copy(
            update={"possession": proof, "submission_key": submission_key.public.text}
        )
    async with Session(invitation.enrol_url, pinned_context(trust.ca)) as session:
        done = await session.send("POST", "/v1/enrolments", request, EnrolmentDone)
    profile = Profile(
        folder=folder,
        member=MemberId(invitation.member),
        coalition=trust.coalition,
        api_url=invitation.api_url,
        enrol_url=invitation.enrol_url,
        trust=trust,
    )
    write_tls(profile, tls_key, done.certificate)
    (folder / "trust.json").write_bytes(encode_document(trust))
    # Last: with this file the profile is whole.
    profile.save_settings()
    return Joined(profile, done.approved, done.not_after)


async def renew(profile: Profile, session: Session) -> str:
    """Replace the TLS key and certificate by new ones; return until when they are valid.

    Raises:
        UnavailableError: The server cannot be reached.
        ExpiredError: The certificate has expired; ask an admin for an invitation.
    """
    key = new_tls_key()
    request = RenewalRequest(csr=make_csr(key, member=profile.member))
    done = await session.send("POST", "/v1/renewals", request, RenewalDone)
    write_tls(profile, key, done.certificate)
    return done.not_after


async def replace_submission_key(profile: Profile, session: Session) -> bool:
    """Sign with a new submission key from now on; return whether it is in force.

    If not, an admin has to approve it; repeat this then. The old key is kept, since what it
    signed is still this member's.

    Raises:
        UnavailableError: The server cannot be reached; repeat it.
    """
    keys = profile.folder / "keys"
    fresh = keys / "submission.new"
    if not fresh.exists():
        write_private_key(fresh, PrivateKey.generate())
    new, old = read_private_key(fresh), profile.submission_key()
    member, origin = profile.member, profile.trust.log
    request = SubmissionKeyRequest(
        old=old.public.text,
        new=new.public.text,
        consent=prove_possession(old, member=member, origin=origin, context=new.public.key_id),
        possession=prove_possession(
            new, member=member, origin=origin, context=profile.certificate().fingerprint
        ),
    )
    done = await session.send("POST", "/v1/submission-keys", request, SubmissionKeyDone)
    if done.approved:
        former = keys / f"submission-{old.public.key_id[:16]}.pem"
        if not former.exists():
            write_private_key(former, old)
        # From here on the new one signs; killed before, this is repeated.
        fresh.replace(keys / "submission.pem")
    return done.approved


def write_tls(profile: Profile, key: EllipticCurvePrivateKey, certificate: str) -> None:
    """Store a TLS key with its certificate, in one file, so that they always fit.

    Raises:
        MixAndMatchError: The certificate is of another key.
    """
    if Issued.parse(certificate.encode()).certificate.public_key() != key.public_key():
        raise MixAndMatchError("the server certified another key")
    fresh = profile.tls_path.with_suffix(".new")
    _write_secret(fresh, tls_key_to_pem(key) + certificate.encode())
    fresh.replace(profile.tls_path)


async def _fetch_trust(invitation: Invitation) -> Trust:
    # Nothing is verified yet but the digest, which covers all that is fetched here.
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    path = f"/v1/trust?digest={invitation.trust_digest}"
    async with Session(invitation.enrol_url, unverified) as session:
        _, data = await session.request("GET", path, max_bytes=MAX_TRUST_BYTES)
    if canonical.digest(data) != invitation.trust_digest:
        raise DigestMismatchError("the server is not the one that the invitation is for")
    trust = parse_trust(data)
    if Issued.parse(trust.ca.encode()).fingerprint != invitation.ca_fingerprint:
        raise DigestMismatchError("the CA is not the one that the invitation is for")
    return trust


def _tls_key(folder: Path) -> EllipticCurvePrivateKey:
    path = folder / "keys" / "tls.pem"
    if not path.exists():
        _write_secret(path, tls_key_to_pem(new_tls_key()))
    return parse_tls_key(path.read_bytes())


def _submission_key(folder: Path) -> PrivateKey:
    path = folder / "keys" / "submission.pem"
    if not path.exists():
        write_private_key(path, PrivateKey.generate())
    return read_private_key(path)


def _write_secret(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())

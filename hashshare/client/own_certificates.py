"""Several certificates of one member: for scripts and data centres, with names and scopes."""

import secrets
from dataclasses import dataclass

import msgspec

from hashshare.client.profile import Profile
from hashshare.client.session import Session
from hashshare.crypto import canonical
from hashshare.crypto.certificates import Issued
from hashshare.crypto.keys import prove_possession
from hashshare.domain.documents import encode_document
from hashshare.domain.joining import Invitation
from hashshare.domain.scopes import Scope
from hashshare.errors import NotFoundError
from hashshare.wire.members import (
    CertificateDocument,
    OwnCertificateList,
    OwnInvitationMade,
    OwnInvitationRequest,
    OwnRevocationDone,
    RevocationRequest,
    ScopeDocument,
)

_MIN_PREFIX = 8


@dataclass(frozen=True, slots=True)
class OwnCertificates:
    """Makes and revokes certificates of this profile's member, without an admin."""

    profile: Profile
    session: Session

    async def add(self, name: str, scope: Scope, *, hours: int) -> tuple[Invitation, str]:
        """Return an invitation for one more certificate, and until when it can be used.

        The profile's submission key consents, so that whoever has stolen the certificate alone
        cannot make another.

        Raises:
            AlreadyExistsError: One of that name is in use.
            NotFoundError: This profile's own certificate has a scope: to it there is nothing here.
            KeyUnsafeError: This profile's submission key is not in force, or has a scope.
        """
        trust, token = self.profile.trust, secrets.token_urlsafe(32)
        invitation = Invitation(
            api_url=self.profile.api_url,
            ca_fingerprint=Issued.parse(trust.ca.encode()).fingerprint,
            coalition=trust.coalition,
            enrol_url=self.profile.enrol_url,
            member=self.profile.member,
            pull_only=msgspec.UNSET if scope.pushes else True,
            token=token,
            trust_digest=canonical.digest(encode_document(trust)),
        )
        key = self.profile.submission_key()
        request = OwnInvitationRequest(
            name=name,
            scope=ScopeDocument(
                kind=scope.kind.value,
                hash_sets=None if scope.hash_sets is None else list(scope.hash_sets),
            ),
            expires_in_hours=hours,
            token_digest=invitation.token_digest,
            key=key.public.text,
            consent=prove_possession(
                key,
                member=self.profile.member,
                origin=trust.log,
                context=scope.digest(name, invitation.token_digest),
            ),
        )
        made = await self.session.send("POST", "/v1/self/invitations", request, OwnInvitationMade)
        return invitation, made.expires_at

    async def list(self) -> list[CertificateDocument]:
        """Return all certificates of this member, oldest first."""
        return (await self.session.get("/v1/self/certificates", OwnCertificateList)).certificates

    async def revoke(self, name: str, *, reason: str) -> tuple[int, bool]:
        """Revoke what has this name, renewed ones too, or whose fingerprint begins so.

        A fingerprint of one with a scope stands for its name: its key came with the first.

        Returns:
            How many were revoked, and whether none of their keys signs anything more.

        Raises:
            NotFoundError: None in use is called so.
        """
        known = await self.list()
        begin = [c for c in known if len(name) >= _MIN_PREFIX and c.fingerprint.startswith(name)]
        names = {name} | {c.label for c in begin if c.scope is not None}
        found = [c for c in known if c in begin or (c.scope is not None and c.label in names)]
        if not any(certificate.revoked_at is None for certificate in found):
            raise NotFoundError(f"no certificate {name!r:.70} is in use")
        retired = True
        # Those that are revoked too: retiring their key may have failed.
        for certificate in found:
            done = await self.session.send(
                "POST",
                f"/v1/self/certificates/{certificate.fingerprint}/revoke",
                RevocationRequest(reason=reason),
                OwnRevocationDone,
            )
            retired = retired and done.keys_retired
        return sum(certificate.revoked_at is None for certificate in found), retired

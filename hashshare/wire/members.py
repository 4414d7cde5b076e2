"""Documents on members: who one is, the registry, invitations, enrolment, certificates."""

from typing import Literal

from pydantic import Field

from hashshare.wire.document import Base64, Digest, Id, WireDocument


class ScopeDocument(WireDocument):
    """What a certificate is for; ``hash_sets`` are sorted, null for all."""

    kind: Literal["pull", "push", "both"]
    hash_sets: list[Id] | None = None


class CertificateDocument(WireDocument):
    """A certificate of a member; times are like ``2026-11-23T10:00:00Z``."""

    fingerprint: Digest
    label: str
    not_after: str
    revoked_at: str | None = None
    reason: str | None = None
    last_seen_at: str | None = None
    scope: ScopeDocument | None = None


class ChainDocument(WireDocument):
    """Where a member's chain of submissions stands."""

    sequence: int = Field(ge=0)
    last_id: Digest


class SelfDocument(WireDocument):
    """Who the caller is, and what it may."""

    member: Id
    name: str
    roles: list[str]
    status: str
    certificate: CertificateDocument
    chain: ChainDocument
    lists: list[str]
    contributes_to: list[Id]
    server_version: str
    agreement_until: str | None = None


class RegistryDocument(WireDocument):
    """A version of the registry: its signed statement and the document that it names."""

    document: Base64
    envelope: Base64
    log_index: int = Field(ge=0)


class RegistryRequest(WireDocument):
    """The next version of the registry, signed by governance."""

    document: Base64
    envelope: Base64


class PreviewRequest(WireDocument):
    """The next version of the registry as it might be, signed by nobody."""

    document: Base64


class RegistryAppended(WireDocument):
    """The registry is in force."""

    version: int
    log_index: int
    receipt: str


class InvitationRequest(WireDocument):
    """Asks for an invitation of a member of the registry."""

    member: Id
    label: str = Field(default="", max_length=64)
    expires_in_hours: int = Field(default=72, ge=1)


class InvitationMade(WireDocument):
    """A new invitation. Its text is a secret."""

    invitation: str
    invitation_id: str
    expires_at: str


class InvitationDocument(WireDocument):
    """An invitation, without its secret."""

    invitation_id: str
    member: Id
    label: str
    created_at: str
    expires_at: str
    used_at: str | None
    revoked_at: str | None


class InvitationList(WireDocument):
    """All invitations, oldest first."""

    invitations: list[InvitationDocument]


class EnrolmentRequest(WireDocument):
    """Sent by who holds an invitation; without a key where that is for pulling only."""

    csr: str = Field(max_length=65_536)
    possession: Base64 | None = None
    submission_key: str | None = Field(default=None, max_length=64)
    token: str = Field(max_length=128)


class EnrolmentDone(WireDocument):
    """The certificate. Unless ``approved``, an admin has yet to list the submission key."""

    approved: bool
    certificate: str
    member: Id
    not_after: str
    registry_version: int


class OwnInvitationRequest(WireDocument):
    """Asks for another certificate of the same member, for a script or a data centre.

    Attributes:
        token_digest: Of the token that the member made, which goes into the invitation.
        key: A submission key of the member.
        consent: Its signature over member, log and the digest of name, scope and token.
    """

    name: str = Field(min_length=1, max_length=64)
    scope: ScopeDocument
    expires_in_hours: int = Field(default=72, ge=1)
    token_digest: Digest
    key: str = Field(max_length=64)
    consent: Base64


class OwnInvitationMade(WireDocument):
    """The invitation is known; its text is made by who made its token."""

    invitation_id: str
    expires_at: str


class OwnCertificateList(WireDocument):
    """All certificates of the caller's member, oldest first."""

    certificates: list[CertificateDocument]


class OwnRevocationDone(WireDocument):
    """The certificate is revoked. Unless ``keys_retired``, an admin has to retire its key."""

    keys_retired: bool


class RenewalRequest(WireDocument):
    """Asks for a new certificate of the same member."""

    csr: str = Field(max_length=65_536)
    label: str | None = Field(default=None, max_length=64)


class SubmissionKeyRequest(WireDocument):
    """Asks to sign submissions with another key from now on.

    Attributes:
        consent: Signature of the old key over member, log and the new key's id.
        possession: Signature of the new key over member, log and certificate.
    """

    old: str = Field(max_length=64)
    new: str = Field(max_length=64)
    consent: Base64
    possession: Base64


class SubmissionKeyDone(WireDocument):
    """Says whether the new key is in force, or waits for an admin."""

    approved: bool


class RenewalDone(WireDocument):
    """The new certificate."""

    certificate: str
    not_after: str


class PullDocument(WireDocument):
    """Up to which version a member pulled a list."""

    list_name: str
    version: int
    pulled_at: str


class PendingScope(WireDocument):
    """Name and bounds of a submission key that waits for an admin."""

    name: str
    hash_sets: list[Id] | None = None


class AgreementDocument(WireDocument):
    """What a member has accepted: the SHA-256 of the text, who signed, and when reading stops."""

    text: Digest
    signed_by: str
    signed_at: str
    until: str


class MemberDocument(WireDocument):
    """A member as admins see it."""

    member: Id
    name: str
    jurisdiction: str
    roles: list[str]
    status: str
    submission_keys: list[str]
    pending_keys: list[str]
    pending_scopes: dict[str, PendingScope] = Field(default_factory=dict)
    certificates: list[CertificateDocument]
    pulls: list[PullDocument]
    chain: ChainDocument
    agreement: AgreementDocument | None = None


class MemberList(WireDocument):
    """All members."""

    members: list[MemberDocument]


class RevocationRequest(WireDocument):
    """Why a certificate is revoked."""

    reason: str = Field(min_length=1, max_length=200)


class AdmissionList(WireDocument):
    """SHA-256 of each certificate that mirrors let in: in force, and without a scope."""

    fingerprints: list[Digest]

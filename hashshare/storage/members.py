"""What the server keeps of members besides the registry: certificates, invitations, pulls."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import asyncpg

from hashshare.crypto.certificates import Issued
from hashshare.domain.names import MemberId
from hashshare.domain.scopes import Scope, ScopeKind
from hashshare.errors import AlreadyExistsError, NotFoundError

if TYPE_CHECKING:
    from hashshare.storage.database import Connection, Record

SELECT_CERTIFICATE: Final = """
    -- $1 fingerprint
    SELECT fingerprint, member_id, label, not_before, not_after, der, revoked_at, reason,
           last_seen_at, scope, scope_hash_sets
      FROM certificate
     WHERE fingerprint = $1
"""

SELECT_CERTIFICATES: Final = """
    -- $1 member_id or null for all
    SELECT fingerprint, member_id, label, not_before, not_after, der, revoked_at, reason,
           last_seen_at, scope, scope_hash_sets
      FROM certificate
     WHERE $1::text IS NULL OR member_id = $1
     ORDER BY member_id, not_before, fingerprint
"""

INSERT_CERTIFICATE: Final = """
    -- $1 fingerprint, $2 member_id, $3 label, $4 not_before, $5 not_after, $6 der, $7 scope,
    -- $8 scope_hash_sets
    INSERT INTO certificate
           (fingerprint, member_id, label, not_before, not_after, der, scope, scope_hash_sets)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (fingerprint) DO NOTHING
"""

REVOKE_CERTIFICATE: Final = """
    -- $1 fingerprint, $2 member_id, $3 now, $4 reason
    UPDATE certificate
       SET revoked_at = coalesce(revoked_at, $3), reason = coalesce(reason, $4)
     WHERE fingerprint = $1 AND member_id = $2
    RETURNING fingerprint
"""

SELECT_ADMITTED: Final = """
    -- $1 now
    SELECT fingerprint FROM certificate
     WHERE revoked_at IS NULL AND scope IS NULL AND not_after > $1
     ORDER BY fingerprint
"""

MARK_SEEN: Final = """
    -- $1 fingerprint, $2 now
    UPDATE certificate SET last_seen_at = $2 WHERE fingerprint = $1
"""

INSERT_INVITATION: Final = """
    -- $1 token_digest, $2 invitation_id, $3 member_id, $4 label, $5 created_at, $6 expires_at,
    -- $7 scope, $8 scope_hash_sets
    INSERT INTO invitation
           (token_digest, invitation_id, member_id, label, created_at, expires_at, scope,
            scope_hash_sets)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""

LOCK_INVITATION: Final = """
    -- $1 token_digest
    SELECT token_digest, invitation_id, member_id, label, created_at, expires_at, used_by,
           used_at, fingerprint, revoked_at, scope, scope_hash_sets
      FROM invitation
     WHERE token_digest = $1
       FOR UPDATE
"""

SELECT_INVITATIONS: Final = """
    SELECT token_digest, invitation_id, member_id, label, created_at, expires_at, used_by,
           used_at, fingerprint, revoked_at, scope, scope_hash_sets
      FROM invitation
     ORDER BY created_at, invitation_id
"""

USE_INVITATION: Final = """
    -- $1 token_digest, $2 used_by, $3 now, $4 fingerprint
    UPDATE invitation SET used_by = $2, used_at = $3, fingerprint = $4 WHERE token_digest = $1
"""

REVOKE_INVITATION: Final = """
    -- $1 invitation_id, $2 now
    UPDATE invitation SET revoked_at = coalesce(revoked_at, $2)
     WHERE invitation_id = $1
    RETURNING invitation_id
"""

INSERT_ENROLMENT: Final = """
    -- $1 submission_key, $2 member_id, $3 fingerprint, $4 now
    INSERT INTO enrolment (submission_key, member_id, fingerprint, enrolled_at)
    VALUES ($1, $2, $3, $4)
"""

SELECT_ENROLMENTS: Final = """
    -- $1 member_id or null for all
    SELECT submission_key, enrolment.member_id, enrolled_at, label, scope, scope_hash_sets,
           fingerprint
      FROM enrolment JOIN certificate USING (fingerprint)
     WHERE $1::text IS NULL OR enrolment.member_id = $1
     ORDER BY enrolled_at, submission_key
"""

UPSERT_PULL: Final = """
    -- $1 member_id, $2 list_name, $3 version, $4 now
    INSERT INTO pull (member_id, list_name, version, pulled_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (member_id, list_name) DO UPDATE
       SET version = excluded.version, pulled_at = excluded.pulled_at
"""

SELECT_PULLS: Final = """
    -- $1 member_id or null for all
    SELECT member_id, list_name, version, pulled_at
      FROM pull
     WHERE $1::text IS NULL OR member_id = $1
     ORDER BY member_id, list_name
"""


@dataclass(frozen=True, slots=True)
class CertificateRow:
    """A certificate that was issued.

    Attributes:
        fingerprint: SHA-256 of the DER, hex.
        label: Tells several of one member apart.
        revoked_at: None while it is valid.
        scope: What it is for; None for all that its member may do.
    """

    fingerprint: str
    member: MemberId
    label: str
    not_before: datetime
    not_after: datetime
    der: bytes
    revoked_at: datetime | None
    reason: str | None
    last_seen_at: datetime | None
    scope: Scope | None = None


@dataclass(frozen=True, slots=True)
class InvitationRow:
    """An invitation that was made.

    Attributes:
        used_by: Digest of the keys that used it, None until then.
        fingerprint: Of the certificate that they were given.
        scope: Of that certificate.
    """

    token_digest: bytes
    invitation_id: str
    member: MemberId
    label: str
    created_at: datetime
    expires_at: datetime
    used_by: bytes | None
    used_at: datetime | None
    fingerprint: str | None
    revoked_at: datetime | None
    scope: Scope | None = None


@dataclass(frozen=True, slots=True)
class EnrolmentRow:
    """A submission key whose possession a member has proven.

    Attributes:
        label: Of the certificate that it was enrolled with.
        scope: Of that certificate.
        fingerprint: Of that certificate, hex.
    """

    submission_key: str
    member: MemberId
    enrolled_at: datetime
    label: str
    scope: Scope | None
    fingerprint: str


@dataclass(frozen=True, slots=True)
class PullRow:
    """Up to which version a member has pulled a list."""

    member: MemberId
    list_name: str
    version: int
    pulled_at: datetime


@dataclass(frozen=True, slots=True)
class MembersRepository:
    """Reads and writes on one connection; never begins a transaction."""

    connection: "Connection"

    async def find_certificate(self, fingerprint: str) -> CertificateRow | None:
        """Return the certificate, None if it was not issued here."""
        row = await self.connection.fetchrow(SELECT_CERTIFICATE, bytes.fromhex(fingerprint))
        return None if row is None else _to_certificate(row)

    async def read_certificates(self, member: str | None = None) -> list[CertificateRow]:
        """Return the certificates of a member, or of all."""
        return [
            _to_certificate(row) for row in await self.connection.fetch(SELECT_CERTIFICATES, member)
        ]

    async def append_certificate(self, row: CertificateRow) -> None:
        """Record a certificate; one that is known stays as it is."""
        await self.connection.execute(
            INSERT_CERTIFICATE,
            bytes.fromhex(row.fingerprint),
            row.member,
            row.label,
            row.not_before,
            row.not_after,
            row.der,
            *_of_scope(row.scope),
        )

    async def revoke_certificate(
        self, member: str, fingerprint: str, *, now: datetime, reason: str
    ) -> None:
        """Revoke a certificate; idempotent.

        Raises:
            NotFoundError: The member has no such certificate.
        """
        found = await self.connection.fetchval(
            REVOKE_CERTIFICATE, bytes.fromhex(fingerprint), member, now, reason
        )
        if found is None:
            raise NotFoundError("the member has no such certificate")

    async def read_admitted(self, now: datetime) -> list[str]:
        """Return the fingerprints of certificates that mirrors let in."""
        rows = await self.connection.fetch(SELECT_ADMITTED, now)
        return [row["fingerprint"].hex() for row in rows]

    async def mark_seen(self, fingerprint: str, now: datetime) -> None:
        """Record that a certificate was used."""
        await self.connection.execute(MARK_SEEN, bytes.fromhex(fingerprint), now)

    async def append_invitation(self, row: InvitationRow) -> None:
        """Record an invitation."""
        await self.connection.execute(
            INSERT_INVITATION,
            row.token_digest,
            row.invitation_id,
            row.member,
            row.label,
            row.created_at,
            row.expires_at,
            *_of_scope(row.scope),
        )

    async def lock_invitation(self, token_digest: bytes) -> InvitationRow | None:
        """Return the invitation with this token, locked, None if there is none."""
        row = await self.connection.fetchrow(LOCK_INVITATION, token_digest)
        return None if row is None else _to_invitation(row)

    async def read_invitations(self) -> list[InvitationRow]:
        """Return all invitations, oldest first."""
        return [_to_invitation(row) for row in await self.connection.fetch(SELECT_INVITATIONS)]

    async def use_invitation(
        self, token_digest: bytes, *, used_by: bytes, fingerprint: str, now: datetime
    ) -> None:
        """Record who used a locked invitation."""
        await self.connection.execute(
            USE_INVITATION, token_digest, used_by, now, bytes.fromhex(fingerprint)
        )

    async def revoke_invitation(self, invitation_id: str, *, now: datetime) -> None:
        """Make an invitation invalid; idempotent.

        Raises:
            NotFoundError: There is none.
        """
        if await self.connection.fetchval(REVOKE_INVITATION, invitation_id, now) is None:
            raise NotFoundError(f"no invitation {invitation_id!r:.40}")

    async def append_enrolment(
        self, submission_key: str, member: MemberId, *, fingerprint: str, now: datetime
    ) -> None:
        """Record a submission key whose possession was proven.

        Raises:
            AlreadyExistsError: The key was enrolled before.
        """
        try:
            await self.connection.execute(
                INSERT_ENROLMENT, submission_key, member, bytes.fromhex(fingerprint), now
            )
        except asyncpg.UniqueViolationError as error:
            raise AlreadyExistsError("this submission key was enrolled before") from error

    async def read_enrolments(self, member: str | None = None) -> list[EnrolmentRow]:
        """Return the submission keys that were enrolled, by a member or by all."""
        rows = await self.connection.fetch(SELECT_ENROLMENTS, member)
        return [
            EnrolmentRow(
                row["submission_key"],
                row["member_id"],
                row["enrolled_at"],
                row["label"],
                _to_scope(row),
                row["fingerprint"].hex(),
            )
            for row in rows
        ]

    async def record_pull(
        self, member: MemberId, list_name: str, version: int, *, now: datetime
    ) -> None:
        """Record up to which version a member has been sent a list."""
        await self.connection.execute(UPSERT_PULL, member, list_name, version, now)

    async def read_pulls(self, member: str | None = None) -> list[PullRow]:
        """Return what a member, or all, pulled last."""
        rows = await self.connection.fetch(SELECT_PULLS, member)
        return [
            PullRow(row["member_id"], row["list_name"], row["version"], row["pulled_at"])
            for row in rows
        ]


def _to_certificate(row: "Record") -> CertificateRow:
    return CertificateRow(
        fingerprint=row["fingerprint"].hex(),
        member=MemberId(row["member_id"]),
        label=row["label"],
        not_before=row["not_before"],
        not_after=row["not_after"],
        der=row["der"],
        revoked_at=row["revoked_at"],
        reason=row["reason"],
        last_seen_at=row["last_seen_at"],
        scope=_to_scope(row),
    )


def _to_scope(row: "Record") -> Scope | None:
    sets = row["scope_hash_sets"]
    if row["scope"] is None:
        return None
    return Scope(ScopeKind(row["scope"]), None if sets is None else tuple(sets))


def _of_scope(scope: Scope | None) -> tuple[str | None, list[str] | None]:
    if scope is None:
        return None, None
    return scope.kind.value, None if scope.hash_sets is None else list(scope.hash_sets)


def _to_invitation(row: "Record") -> InvitationRow:
    fingerprint = row["fingerprint"]
    return InvitationRow(
        token_digest=row["token_digest"],
        invitation_id=row["invitation_id"],
        member=MemberId(row["member_id"]),
        label=row["label"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        used_by=row["used_by"],
        used_at=row["used_at"],
        fingerprint=None if fingerprint is None else fingerprint.hex(),
        revoked_at=row["revoked_at"],
        scope=_to_scope(row),
    )


def row_of(
    issued: Issued, member: MemberId, label: str, scope: Scope | None = None
) -> CertificateRow:
    """Return the row of a certificate that was just issued."""
    return CertificateRow(
        fingerprint=issued.fingerprint,
        member=member,
        label=label,
        not_before=issued.not_before,
        not_after=issued.not_after,
        der=issued.der,
        revoked_at=None,
        reason=None,
        last_seen_at=None,
        scope=scope,
    )

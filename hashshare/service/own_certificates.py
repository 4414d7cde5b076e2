"""A member's own certificates, for a script or a data centre: made and revoked by itself."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from hashshare.crypto.keys import PublicKey, verify_possession
from hashshare.domain.scopes import Scope
from hashshare.errors import AlreadyExistsError, KeyUnsafeError, MalformedError
from hashshare.service.approval import Approval
from hashshare.service.directory import Peer
from hashshare.service.membership import MAX_INVITATION_HOURS, MAX_LABEL
from hashshare.storage.database import Pool, snapshot, transaction
from hashshare.storage.members import CertificateRow, InvitationRow, MembersRepository
from hashshare.storage.notices import NoticeRepository


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """What a member asks for.

    Attributes:
        name: Tells it apart from the member's others that are in use.
        token_digest: Of the token that the member made, hex.
        key: A submission key of the member.
        consent: Its proof, whose context is ``scope.digest(name, token_digest)``.
    """

    name: str
    scope: Scope
    hours: int
    token_digest: str
    key: str
    consent: bytes


@dataclass(frozen=True, slots=True)
class OwnCertificates:
    """Lets members have several certificates, each with a name and a scope."""

    pool: Pool
    approval: Approval
    origin: str

    async def invite(
        self, peer: Peer, request: CertificateRequest, *, now: datetime
    ) -> InvitationRow:
        """Return an invitation for another certificate of the member that asks; works once.

        A stolen certificate alone makes no other: a submission key of the member consents, one
        that has no scope. Idempotent: the answer may have been lost.

        Raises:
            MalformedError: A name, a time or a scope is out of bounds.
            AlreadyExistsError: There is a certificate of that name in use, or the token is.
            KeyUnsafeError: The key is not one of the member, has a scope, or has not consented.
        """
        _verify_request(request)
        member = peer.coalition.member(peer.member)
        if request.key not in member.submission_keys or request.key in (member.key_scopes or {}):
            raise KeyUnsafeError("consent comes from a submission key of the member itself")
        verify_possession(
            PublicKey.parse(request.key),
            request.consent,
            member=peer.member,
            origin=self.origin,
            context=request.scope.digest(request.name, request.token_digest),
        )
        row = InvitationRow(
            token_digest=bytes.fromhex(request.token_digest),
            invitation_id=secrets.token_hex(4),
            member=peer.member,
            label=request.name,
            created_at=now,
            expires_at=now + timedelta(hours=request.hours),
            used_by=None,
            used_at=None,
            fingerprint=None,
            revoked_at=None,
            scope=request.scope,
        )
        async with transaction(self.pool) as connection:
            repository = MembersRepository(connection)
            known = await repository.read_certificates(peer.member)
            if any(c.label == request.name and _in_use(c, now) for c in known):
                raise AlreadyExistsError(f"a certificate {request.name!r:.70} is in use already")
            before = await repository.lock_invitation(row.token_digest)
            if before is not None:
                return _verify_same(before, row)
            await repository.append_invitation(row)
        return row

    async def list(self, peer: Peer) -> list[CertificateRow]:
        """Return all certificates of the member that asks, oldest first."""
        async with snapshot(self.pool) as connection:
            return await MembersRepository(connection).read_certificates(peer.member)

    async def revoke(self, peer: Peer, fingerprint: str, *, reason: str, now: datetime) -> bool:
        """Revoke one certificate, and the submission key that came with it if it has a scope.

        Live connections are cut. Idempotent.

        Returns:
            Whether none of its keys signs anything more; if not, an admin has to retire them.

        Raises:
            NotFoundError: The member has no such certificate.
        """
        async with transaction(self.pool) as connection:
            repository = MembersRepository(connection)
            await repository.revoke_certificate(peer.member, fingerprint, now=now, reason=reason)
            found = await repository.find_certificate(fingerprint)
            enrolled = await repository.read_enrolments(peer.member)
            await NoticeRepository(connection).send_membership()
        if found is None or found.scope is None:
            return True
        keys = frozenset(r.submission_key for r in enrolled if r.fingerprint == fingerprint)
        return await self.approval.retire_keys(
            peer.member, keys, reason=f"{peer.member} revoked its certificate: {reason}", now=now
        )


def _verify_same(before: InvitationRow, row: InvitationRow) -> InvitationRow:
    if (before.member, before.label, before.scope) != (row.member, row.label, row.scope):
        raise AlreadyExistsError("this token is in use already")
    return before


def _in_use(row: CertificateRow, now: datetime) -> bool:
    return row.revoked_at is None and now < row.not_after


def _verify_request(request: CertificateRequest) -> None:
    if not 1 <= request.hours <= MAX_INVITATION_HOURS:
        raise MalformedError(f"an invitation lasts 1 to {MAX_INVITATION_HOURS} hours")
    if not 1 <= len(request.name) <= MAX_LABEL or not request.name.isprintable():
        raise MalformedError(f"a certificate's name has 1 to {MAX_LABEL} printable characters")
    sets = request.scope.hash_sets
    if sets is not None and (not sets or list(sets) != sorted(set(sets))):
        raise MalformedError("hash sets are written sorted, each once, at least one")

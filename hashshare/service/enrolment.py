"""Enrolment: taking in the keys of members, those of certificates and those of submissions."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from hashshare.crypto.certificates import ClientKey, Issued, parse_csr, spki_of
from hashshare.crypto.keys import PublicKey, verify_possession
from hashshare.domain.joining import Trust
from hashshare.domain.members import Status
from hashshare.domain.names import MemberId
from hashshare.domain.registry import Registry
from hashshare.domain.scopes import Scope
from hashshare.errors import (
    InvitationInvalidError,
    KeyUnsafeError,
    MalformedError,
    NotFoundError,
    SuspendedError,
)
from hashshare.service.approval import Approval
from hashshare.service.authorities import Authorities
from hashshare.service.directory import Peer
from hashshare.service.registry import RegistryService
from hashshare.storage.database import Connection, Pool, transaction
from hashshare.storage.members import InvitationRow, MembersRepository, row_of

_LOG: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What an organization that enrols is given.

    Attributes:
        approved: Whether the registry lists its submission key; if not, an admin has to.
    """

    certificate: Issued
    member: MemberId
    approved: bool
    registry_version: int


@dataclass(frozen=True, slots=True)
class EnrolmentService:
    """Takes in the keys of members.

    Attributes:
        trust: Gives the trust document in force.
        approval: Lists in the registry the keys of those who enrol, if this server may.
    """

    pool: Pool
    authorities: Authorities
    registries: RegistryService
    trust: Callable[[], Trust]
    approval: Approval

    async def enrol(
        self,
        *,
        token: str,
        csr: str,
        submission_key: str | None,
        possession: bytes | None,
        now: datetime,
    ) -> Enrolled:
        """Give a certificate to whoever holds an invitation, and list its submission key.

        Idempotent for the same token and keys: the answer may have been lost. Without a
        submission key where the invitation is for a certificate that only pulls.

        Raises:
            InvitationInvalidError: The token is unknown, expired, revoked, or was used with
                other keys.
            KeyUnsafeError: A key is not acceptable, or its possession not proven.
            MalformedError: The request or the key is not in its form.
            AlreadyExistsError: The submission key was enrolled before.
            SuspendedError: The member is not active.
        """
        tls_key = parse_csr(csr)
        public = None if submission_key is None else PublicKey.parse(submission_key)
        token_digest = hashlib.sha256(token.encode()).digest()
        registry = (await self.registries.current()).registry
        async with transaction(self.pool) as connection:
            repository = MembersRepository(connection)
            row = await repository.lock_invitation(token_digest)
            raw = b"" if public is None else public.raw
            used_by = hashlib.sha256(spki_of(tls_key) + raw).digest()
            invitation = _verify_invitation(row, used_by, now)
            _verify_is_key_wanted(invitation.scope, public)
            _verify_may_enrol(registry, invitation.member, public)
            if public is not None:
                verify_possession(
                    public,
                    possession or b"",
                    member=invitation.member,
                    origin=self.trust().log,
                    context=token_digest.hex(),
                )
            issued = await self._issue_once(connection, invitation, tls_key, public, used_by, now)
        approved, version = True, registry.version
        if public is not None:
            scope = invitation.scope
            approved, version = await self.approval.list_key(
                invitation.member,
                public,
                now=now,
                scope=None if scope is None else scope.key_scope(invitation.label),
            )
        _LOG.info("member enrolled", member=invitation.member, approved=approved)
        return Enrolled(issued, invitation.member, approved, version)

    async def replace_submission_key(
        self, peer: Peer, *, new: str, possession: bytes, old: str, consent: bytes, now: datetime
    ) -> bool:
        """Take another submission key for the member that asks, and retire the old one.

        Whoever has stolen the certificate alone cannot: the old key consents. Idempotent: the
        answer may have been lost.

        Args:
            peer: Who asks.
            new: The new key.
            possession: Proves that it is the caller's; its context is the certificate.
            old: The key that it replaces.
            consent: The old key's own proof of possession; its context is the new key's id.
            now: Recorded as the time of enrolment.

        Returns:
            Whether it is in force. If not, as when the old one was retired already, an admin has
            to approve it.

        Raises:
            KeyUnsafeError: The key is not acceptable, or possession of one is not proven.
            MalformedError: A key is not in its form.
            NotFoundError: The member has not the old key.
        """
        public, former = PublicKey.parse(new), PublicKey.parse(old)
        fingerprint = peer.certificate.fingerprint
        for key, proof, context in (
            (public, possession, fingerprint),
            (former, consent, public.key_id),
        ):
            verify_possession(
                key, proof, member=peer.member, origin=self.trust().log, context=context
            )
        registry = (await self.registries.current()).registry
        member = registry.member(peer.member)
        if old not in {*member.submission_keys, *member.retired_keys}:
            raise NotFoundError("the key to be replaced is not one of this member")
        bounds = (member.key_scopes or {}).get(old)
        name = None if peer.scope is None else peer.certificate.label
        # Neither does a script replace the member's own key, should it have that one too.
        if name != (None if bounds is None else bounds.name):
            raise NotFoundError("a key with a scope is replaced by those whose key it is")
        _verify_may_enrol(registry, peer.member, public)
        async with transaction(self.pool) as connection:
            repository = MembersRepository(connection)
            known = await repository.read_enrolments(peer.member)
            if public.text not in {row.submission_key for row in known}:
                await repository.append_enrolment(
                    public.text, peer.member, fingerprint=fingerprint, now=now
                )
        # A retired key may be in a thief's hands, and consents to nothing.
        approved = public.text in member.submission_keys
        if not approved and old in member.submission_keys:
            approved, _ = await self.approval.list_key(peer.member, public, now=now, instead_of=old)
        _LOG.info("submission key replaced", member=peer.member, approved=approved)
        return approved

    async def _issue_once(
        self,
        connection: Connection,
        invitation: InvitationRow,
        tls_key: ClientKey,
        public: PublicKey | None,
        used_by: bytes,
        now: datetime,
    ) -> Issued:
        repository = MembersRepository(connection)
        if invitation.fingerprint is not None:
            row = await repository.find_certificate(invitation.fingerprint)
            if row is None:
                raise NotFoundError("the certificate of this enrolment is gone")
            return Issued.parse_der(row.der)
        issued = self.authorities.for_members().issue_client(
            tls_key, member=invitation.member, now=now
        )
        await repository.append_certificate(
            row_of(issued, invitation.member, invitation.label, invitation.scope)
        )
        if public is not None:
            await repository.append_enrolment(
                public.text, invitation.member, fingerprint=issued.fingerprint, now=now
            )
        await repository.use_invitation(
            invitation.token_digest, used_by=used_by, fingerprint=issued.fingerprint, now=now
        )
        return issued


def _verify_invitation(row: InvitationRow | None, used_by: bytes, now: datetime) -> InvitationRow:
    # One answer for all but the last, so that guessing tells nothing.
    if row is None or row.revoked_at is not None:
        raise InvitationInvalidError("this invitation is not valid; ask an admin for another")
    if row.used_by is not None:
        if row.used_by != used_by:
            raise InvitationInvalidError("this invitation was used; ask an admin for another")
        return row
    if now >= row.expires_at:
        raise InvitationInvalidError("this invitation has expired; ask an admin for another")
    return row


def _verify_is_key_wanted(scope: Scope | None, public: PublicKey | None) -> None:
    wanted = scope is None or scope.pushes
    if wanted != (public is not None):
        raise MalformedError("a submission key is enrolled by those who submit, and only by them")


def _verify_may_enrol(registry: Registry, member: MemberId, public: PublicKey | None) -> None:
    if registry.member(member).status is not Status.ACTIVE:
        raise SuspendedError(f"member {member} is not active")
    listed = {*registry.governance.keys, *registry.publishers.keys}
    for other_id, other in registry.members.items():
        listed.update(other.retired_keys)
        if other_id != member:
            listed.update(other.submission_keys)
    if public is not None and public.text in listed:
        raise KeyUnsafeError(
            "this key is listed already: for another purpose or member, or as retired"
        )

"""Membership: invitations, enrolment, renewal, revocation."""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from hashshare.crypto import canonical
from hashshare.crypto.certificates import ClientKey, Issued, parse_csr, spki_of
from hashshare.crypto.keys import PublicKey, verify_possession
from hashshare.domain.documents import encode_document
from hashshare.domain.joining import Invitation, Trust
from hashshare.domain.members import Status
from hashshare.domain.names import MemberId
from hashshare.domain.registry import Registry
from hashshare.domain.scopes import Scope
from hashshare.domain.statements import ChainHead
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
from hashshare.storage.database import Connection, Pool, snapshot, transaction
from hashshare.storage.members import (
    CertificateRow,
    EnrolmentRow,
    InvitationRow,
    MembersRepository,
    PullRow,
)
from hashshare.storage.notices import NoticeRepository
from hashshare.storage.submissions import SubmissionRepository

_LOG: Final = structlog.get_logger(__name__)

MAX_INVITATION_HOURS: Final = 30 * 24
MAX_LABEL: Final = 64


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
class MemberRecord:
    """What the server knows of a member besides the registry.

    Attributes:
        pending: Submission keys that it enrolled and the registry does not list.
    """

    certificates: list[CertificateRow]
    pending: list[EnrolmentRow]
    pulls: list[PullRow]
    chain: ChainHead


@dataclass(frozen=True, slots=True)
class MembershipService:
    """Lets organizations in and out.

    Attributes:
        trust: Gives the trust document in force.
        approval: Lists in the registry the keys of those who enrol, if this server may.
    """

    pool: Pool
    authorities: Authorities
    registries: RegistryService
    trust: Callable[[], Trust]
    approval: Approval

    async def invite(
        self,
        member: MemberId,
        *,
        label: str,
        hours: int,
        api_url: str,
        enrol_url: str,
        now: datetime,
    ) -> tuple[Invitation, InvitationRow]:
        """Return a new invitation for a member of the registry; works once.

        Raises:
            NotFoundError: No such member.
            MalformedError: The label or the time is out of bounds.
        """
        if not 1 <= hours <= MAX_INVITATION_HOURS:
            raise MalformedError(f"an invitation lasts 1 to {MAX_INVITATION_HOURS} hours")
        _verify_label(label)
        (await self.registries.current()).registry.member(member)
        invitation = Invitation(
            api_url=api_url,
            ca_fingerprint=self.authorities.for_members().root.fingerprint,
            coalition=self.trust().coalition,
            enrol_url=enrol_url,
            member=member,
            token=secrets.token_urlsafe(32),
            trust_digest=canonical.digest(encode_document(self.trust())),
        )
        row = InvitationRow(
            token_digest=bytes.fromhex(invitation.token_digest),
            invitation_id=secrets.token_hex(4),
            member=member,
            label=label,
            created_at=now,
            expires_at=now + timedelta(hours=hours),
            used_by=None,
            used_at=None,
            fingerprint=None,
            revoked_at=None,
        )
        async with transaction(self.pool) as connection:
            await MembersRepository(connection).append_invitation(row)
        _LOG.info("member invited", member=member, invitation=row.invitation_id)
        return invitation, row

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

    async def renew(
        self, peer: Peer, *, key: ClientKey, label: str | None, now: datetime
    ) -> Issued:
        """Return a new certificate for the member that asks; the old one stays valid.

        Args:
            peer: Who asks.
            key: Proven to be the peer's, by a request that it signed.
            label: The new one's name; None for that of the old one.
            now: From when on it is valid.

        Raises:
            MalformedError: The label is out of bounds.
        """
        # A certificate with a scope is known by its name, which stays.
        keep = label is None or peer.scope is not None
        chosen = peer.certificate.label if keep or label is None else label
        _verify_label(chosen)
        issued = self.authorities.for_members().issue_client(key, member=peer.member, now=now)
        async with transaction(self.pool) as connection:
            await MembersRepository(connection).append_certificate(
                _to_row(issued, peer.member, chosen, peer.scope)
            )
        _LOG.info("certificate renewed", member=peer.member)
        return issued

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

    async def register(self, issued: Issued, *, member: MemberId, label: str) -> None:
        """Record a certificate that was issued offline, such as the first admin's."""
        async with transaction(self.pool) as connection:
            await MembersRepository(connection).append_certificate(_to_row(issued, member, label))

    async def revoke_certificate(
        self, member: str, fingerprint: str, *, reason: str, now: datetime
    ) -> None:
        """Revoke one certificate: live connections that use it are cut. Idempotent.

        Raises:
            NotFoundError: The member has no such certificate.
        """
        async with transaction(self.pool) as connection:
            await MembersRepository(connection).revoke_certificate(
                member, fingerprint, now=now, reason=reason
            )
            await NoticeRepository(connection).send_membership()
        _LOG.info("certificate revoked", member=member, reason=reason)

    async def read_admitted(self, *, now: datetime) -> list[str]:
        """Return which certificates mirrors let in: those in force that have no scope.

        A mirror cannot tell what a scope allows, which stands in no log.
        """
        async with snapshot(self.pool) as connection:
            return await MembersRepository(connection).read_admitted(now)

    async def revoke_invitation(self, invitation_id: str, *, now: datetime) -> None:
        """Make an invitation invalid. Idempotent.

        Raises:
            NotFoundError: There is none.
        """
        async with transaction(self.pool) as connection:
            await MembersRepository(connection).revoke_invitation(invitation_id, now=now)

    async def list_invitations(self) -> list[InvitationRow]:
        """Return all invitations, oldest first."""
        async with snapshot(self.pool) as connection:
            return await MembersRepository(connection).read_invitations()

    async def read_member(self, member: str) -> MemberRecord:
        """Return what the server knows of a member of the registry.

        Raises:
            NotFoundError: No such member.
        """
        registry = (await self.registries.current()).registry
        found = registry.member(member)
        listed = {*found.submission_keys, *found.retired_keys}
        async with snapshot(self.pool) as connection:
            repository = MembersRepository(connection)
            enrolled = await repository.read_enrolments(member)
            return MemberRecord(
                certificates=await repository.read_certificates(member),
                pending=[row for row in enrolled if row.submission_key not in listed],
                pulls=await repository.read_pulls(member),
                chain=(await SubmissionRepository(connection).read_chain(member)).head,
            )

    async def read_chain(self, member: MemberId) -> ChainHead:
        """Return where a member's chain of submissions stands."""
        async with snapshot(self.pool) as connection:
            return (await SubmissionRepository(connection).read_chain(member)).head

    async def record_pull(
        self, member: MemberId, list_name: str, version: int, *, now: datetime
    ) -> None:
        """Record up to which version a member has been sent a list."""
        async with transaction(self.pool) as connection:
            await MembersRepository(connection).record_pull(member, list_name, version, now=now)

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
            _to_row(issued, invitation.member, invitation.label, invitation.scope)
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


def _verify_label(label: str) -> None:
    if len(label) > MAX_LABEL or not label.isprintable():
        raise MalformedError(f"a label has at most {MAX_LABEL} printable characters")


def _to_row(
    issued: Issued, member: MemberId, label: str, scope: Scope | None = None
) -> CertificateRow:
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

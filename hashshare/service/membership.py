"""Membership: invitations, renewal, revocation, and what is known of each member."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from hashshare.crypto import canonical
from hashshare.crypto.certificates import ClientKey, Issued
from hashshare.domain.documents import encode_document
from hashshare.domain.joining import Invitation, Trust
from hashshare.domain.names import MemberId
from hashshare.domain.statements import ChainHead
from hashshare.errors import (
    MalformedError,
)
from hashshare.service.authorities import Authorities
from hashshare.service.directory import Peer
from hashshare.service.registry import RegistryService
from hashshare.storage.database import Pool, snapshot, transaction
from hashshare.storage.members import (
    CertificateRow,
    EnrolmentRow,
    InvitationRow,
    MembersRepository,
    PullRow,
    row_of,
)
from hashshare.storage.notices import NoticeRepository
from hashshare.storage.submissions import SubmissionRepository

_LOG: Final = structlog.get_logger(__name__)

MAX_INVITATION_HOURS: Final = 30 * 24
MAX_LABEL: Final = 64


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
    """Invites organizations, and lets them out.

    Attributes:
        trust: Gives the trust document in force.
    """

    pool: Pool
    authorities: Authorities
    registries: RegistryService
    trust: Callable[[], Trust]

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
                row_of(issued, peer.member, chosen, peer.scope)
            )
        _LOG.info("certificate renewed", member=peer.member)
        return issued

    async def register(self, issued: Issued, *, member: MemberId, label: str) -> None:
        """Record a certificate that was issued offline, such as the first admin's."""
        async with transaction(self.pool) as connection:
            await MembersRepository(connection).append_certificate(row_of(issued, member, label))

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


def _verify_label(label: str) -> None:
    if len(label) > MAX_LABEL or not label.isprintable():
        raise MalformedError(f"a label has at most {MAX_LABEL} printable characters")

"""Who the caller is; and for admins: members, invitations, certificates."""

from datetime import datetime
from typing import Final

import msgspec
from aiohttp import web

from hashshare import __version__
from hashshare.crypto.certificates import parse_csr
from hashshare.crypto.encoding import parse_digest
from hashshare.domain.agreements import Agreement
from hashshare.domain.names import MemberId, format_time
from hashshare.domain.registry import Registry
from hashshare.domain.release import readable_lists
from hashshare.domain.scopes import Scope
from hashshare.http.context import (
    ADDRESSES,
    PEER,
    answer,
    now,
    read_document,
    require_admin,
    services,
)
from hashshare.http.trail import record_act
from hashshare.service.membership import MemberRecord
from hashshare.storage.members import CertificateRow, InvitationRow
from hashshare.wire.members import (
    AdmissionList,
    AgreementDocument,
    CertificateDocument,
    ChainDocument,
    InvitationDocument,
    InvitationList,
    InvitationMade,
    InvitationRequest,
    MemberDocument,
    MemberList,
    PendingScope,
    PullDocument,
    RenewalDone,
    RenewalRequest,
    RevocationRequest,
    ScopeDocument,
    SelfDocument,
    SubmissionKeyDone,
    SubmissionKeyRequest,
)

routes: Final = web.RouteTableDef()


@routes.get("/v1/self")
async def get_self(request: web.Request) -> web.StreamResponse:
    """Answer with who the caller is, and what it may."""
    peer = request[PEER]
    registry, member = peer.registry, peer.registry.member(peer.member)
    chain = await services(request).membership.read_chain(peer.member)
    readable = registry.readable_sets(peer.member)
    document = SelfDocument(
        member=peer.member,
        name=member.name,
        roles=[role.value for role in member.roles],
        status=member.status.value,
        certificate=to_certificate(peer.certificate),
        chain=ChainDocument(sequence=chain.sequence, last_id=chain.last_id),
        lists=[str(n) for s in readable for n in readable_lists(registry, peer.member, s)],
        contributes_to=[s for s in sorted(peer.coalition.hash_sets) if peer.may_contribute(s)],
        server_version=__version__,
        agreement_until=member.agreement.until if member.agreement else None,
    )
    return answer(document)


@routes.post("/v1/renewals")
async def post_renewal(request: web.Request) -> web.StreamResponse:
    """Give the caller a new certificate; its present one stays valid."""
    body = await read_document(request, RenewalRequest)
    issued = await services(request).membership.renew(
        request[PEER], key=parse_csr(body.csr), label=body.label, now=now()
    )
    document = RenewalDone(certificate=issued.pem, not_after=format_time(issued.not_after))
    return answer(document, status=201)


@routes.post("/v1/submission-keys")
async def post_submission_key(request: web.Request) -> web.StreamResponse:
    """Let the caller sign with another submission key, and retire the one before."""
    body = await read_document(request, SubmissionKeyRequest)
    approved = await services(request).enrolments.replace_submission_key(
        request[PEER],
        new=body.new,
        possession=body.possession,
        old=body.old,
        consent=body.consent,
        now=now(),
    )
    return answer(SubmissionKeyDone(approved=approved), status=201)


@routes.get("/v1/admissions")
async def list_admissions(request: web.Request) -> web.StreamResponse:
    """Answer with the certificates that mirrors let in: those in force that have no scope."""
    admitted = await services(request).membership.read_admitted(now=now())
    return answer(AdmissionList(fingerprints=admitted))


@routes.get("/v1/members")
async def list_members(request: web.Request) -> web.StreamResponse:
    """Answer with all members."""
    registry = require_admin(request).registry
    membership = services(request).membership
    documents = [
        _to_member(member_id, registry, await membership.read_member(member_id))
        for member_id in sorted(registry.members)
    ]
    return answer(MemberList(members=documents))


@routes.get("/v1/members/{member}")
async def get_member(request: web.Request) -> web.StreamResponse:
    """Answer with one member."""
    registry, member_id = require_admin(request).registry, request.match_info["member"]
    record = await services(request).membership.read_member(member_id)
    return answer(_to_member(member_id, registry, record))


@routes.post("/v1/members/{member}/certificates/{fingerprint}/revoke")
async def revoke_certificate(request: web.Request) -> web.StreamResponse:
    """Revoke a certificate; its live connections are cut."""
    require_admin(request)
    fingerprint = parse_digest(request.match_info["fingerprint"])
    body = await read_document(request, RevocationRequest)
    member = request.match_info["member"]
    await record_act(request, certificate=fingerprint, reason=body.reason)
    await services(request).membership.revoke_certificate(
        member, fingerprint, reason=body.reason, now=now()
    )
    return web.Response(status=204)


@routes.post("/v1/invitations")
async def post_invitation(request: web.Request) -> web.StreamResponse:
    """Make an invitation."""
    require_admin(request)
    body = await read_document(request, InvitationRequest)
    await record_act(request, member=body.member, label=body.label, hours=body.expires_in_hours)
    addresses = request.app[ADDRESSES]
    invitation, row = await services(request).membership.invite(
        MemberId(body.member),
        label=body.label,
        hours=body.expires_in_hours,
        api_url=addresses.api_url,
        enrol_url=addresses.enrol_url,
        now=now(),
    )
    document = InvitationMade(
        invitation=str(invitation),
        invitation_id=row.invitation_id,
        expires_at=format_time(row.expires_at),
    )
    return answer(document, status=201)


@routes.get("/v1/invitations")
async def list_invitations(request: web.Request) -> web.StreamResponse:
    """Answer with all invitations, without their secrets."""
    require_admin(request)
    rows = await services(request).membership.list_invitations()
    return answer(InvitationList(invitations=[_to_invitation(row) for row in rows]))


@routes.delete("/v1/invitations/{invitation_id}")
async def delete_invitation(request: web.Request) -> web.StreamResponse:
    """Make an invitation invalid."""
    require_admin(request)
    invitation_id = request.match_info["invitation_id"]
    await record_act(request, invitation=invitation_id[:8])
    await services(request).membership.revoke_invitation(invitation_id, now=now())
    return web.Response(status=204)


def to_certificate(row: CertificateRow) -> CertificateDocument:
    """Return what callers are told of a certificate."""
    return CertificateDocument(
        fingerprint=row.fingerprint,
        label=row.label,
        not_after=format_time(row.not_after),
        revoked_at=_format(row.revoked_at),
        reason=row.reason,
        last_seen_at=_format(row.last_seen_at),
        scope=to_scope_document(row.scope),
    )


def _to_invitation(row: InvitationRow) -> InvitationDocument:
    return InvitationDocument(
        invitation_id=row.invitation_id,
        member=row.member,
        label=row.label,
        created_at=format_time(row.created_at),
        expires_at=format_time(row.expires_at),
        used_at=_format(row.used_at),
        revoked_at=_format(row.revoked_at),
    )


def _to_agreement(agreement: Agreement | msgspec.UnsetType) -> AgreementDocument | None:
    if isinstance(agreement, msgspec.UnsetType):
        return None
    return AgreementDocument(**msgspec.structs.asdict(agreement))


def _to_member(member_id: str, registry: Registry, record: MemberRecord) -> MemberDocument:
    member = registry.member(member_id)
    return MemberDocument(
        member=member_id,
        name=member.name,
        jurisdiction=member.jurisdiction,
        roles=[role.value for role in member.roles],
        status=member.status.value,
        submission_keys=list(member.submission_keys),
        pending_keys=[row.submission_key for row in record.pending],
        pending_scopes={
            row.submission_key: PendingScope(name=row.label, hash_sets=_sets_of(row.scope))
            for row in record.pending
            if row.scope is not None
        },
        certificates=[to_certificate(row) for row in record.certificates],
        pulls=[
            PullDocument(
                list_name=row.list_name,
                version=row.version,
                pulled_at=format_time(row.pulled_at),
            )
            for row in record.pulls
        ],
        chain=ChainDocument(sequence=record.chain.sequence, last_id=record.chain.last_id),
        agreement=_to_agreement(member.agreement),
    )


def to_scope_document(scope: Scope | None) -> ScopeDocument | None:
    """Return what callers are told of a scope."""
    if scope is None:
        return None
    return ScopeDocument(kind=scope.kind.value, hash_sets=_sets_of(scope))


def _sets_of(scope: Scope) -> list[str] | None:
    return None if scope.hash_sets is None else list(scope.hash_sets)


def _format(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)

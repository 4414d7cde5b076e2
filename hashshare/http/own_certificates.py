"""The caller's own certificates: for a script or a data centre, with a name and a scope."""

from typing import Final

from aiohttp import web

from hashshare.crypto.encoding import parse_digest
from hashshare.domain.names import format_time
from hashshare.domain.scopes import Scope, ScopeKind
from hashshare.http.context import PEER, answer, now, read_document, services
from hashshare.http.members import to_certificate
from hashshare.http.trail import record_act
from hashshare.service.own_certificates import CertificateRequest
from hashshare.wire.members import (
    OwnCertificateList,
    OwnInvitationMade,
    OwnInvitationRequest,
    OwnRevocationDone,
    RevocationRequest,
)

routes: Final = web.RouteTableDef()


@routes.get("/v1/self/certificates")
async def list_certificates(request: web.Request) -> web.StreamResponse:
    """Answer with all certificates of the caller's member."""
    rows = await services(request).own_certificates.list(request[PEER])
    return answer(OwnCertificateList(certificates=[to_certificate(row) for row in rows]))


@routes.post("/v1/self/invitations")
async def post_invitation(request: web.Request) -> web.StreamResponse:
    """Let the caller's member have another certificate."""
    body = await read_document(request, OwnInvitationRequest)
    sets = body.scope.hash_sets
    wanted = CertificateRequest(
        name=body.name,
        scope=Scope(ScopeKind(body.scope.kind), None if sets is None else tuple(sets)),
        hours=body.expires_in_hours,
        token_digest=body.token_digest,
        key=body.key,
        consent=body.consent,
    )
    await record_act(request, label=body.name, scope=str(wanted.scope))
    row = await services(request).own_certificates.invite(request[PEER], wanted, now=now())
    document = OwnInvitationMade(
        invitation_id=row.invitation_id, expires_at=format_time(row.expires_at)
    )
    return answer(document, status=201)


@routes.post("/v1/self/certificates/{fingerprint}/revoke")
async def revoke_certificate(request: web.Request) -> web.StreamResponse:
    """Revoke a certificate of the caller's member, and the submission key that came with it."""
    fingerprint = parse_digest(request.match_info["fingerprint"])
    body = await read_document(request, RevocationRequest)
    await record_act(request, certificate=fingerprint, reason=body.reason)
    retired = await services(request).own_certificates.revoke(
        request[PEER], fingerprint, reason=body.reason, now=now()
    )
    return answer(OwnRevocationDone(keys_retired=retired))

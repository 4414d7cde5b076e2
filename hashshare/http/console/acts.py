"""Members, and what an admin does about them alone: invitations, and revoking certificates.

The rest is governance's, and proposed: see ``proposals``.
"""

from typing import Final

from aiohttp import web

from hashshare.crypto.encoding import parse_digest
from hashshare.domain.members import Role, Status
from hashshare.domain.names import MemberId
from hashshare.errors import MalformedError
from hashshare.http.console.frame import acting, go_to, page, read_form, visitor
from hashshare.http.context import ADDRESSES, now, services
from hashshare.http.trail import record_act

routes: Final = web.RouteTableDef()

_HOURS: Final = 5


@routes.get("/console/members")
async def members(request: web.Request) -> web.StreamResponse:
    """Show all members with their certificates, and the invitations."""
    peer, membership = visitor(request), services(request).membership
    records = {name: await membership.read_member(name) for name in sorted(peer.coalition.members)}
    invitations = await membership.list_invitations()
    return page(
        request,
        "members.html",
        records=records,
        invitations=invitations,
        now=now(),
        roles=list(Role),
    )


@routes.get("/console/members/{member}")
async def member(request: web.Request) -> web.StreamResponse:
    """Show one member, with what can be done about it."""
    visitor(request)
    name, membership = request.match_info["member"], services(request).membership
    record = await membership.read_member(name)
    invitations = [row for row in await membership.list_invitations() if row.member == name]
    return page(
        request,
        "member.html",
        name=name,
        record=record,
        invitations=invitations,
        now=now(),
        statuses=list(Status),
    )


@routes.post("/console/members/{member}/invitations")
async def invite(request: web.Request) -> web.StreamResponse:
    """Make an invitation, and show it this once."""
    acting(request)
    form = await read_form(request)
    hours = form.get("hours", "")
    if not (hours.isascii() and hours.isdigit() and len(hours) < _HOURS):
        raise MalformedError("how long an invitation lasts is a number of hours")
    name, label = request.match_info["member"], form.get("label", "").strip()
    await record_act(request, member=name, label=label, hours=int(hours))
    addresses = request.app[ADDRESSES]
    invitation, row = await services(request).membership.invite(
        MemberId(name),
        label=label,
        hours=int(hours),
        api_url=addresses.api_url,
        enrol_url=addresses.enrol_url,
        now=now(),
    )
    return page(request, "invited.html", name=name, invitation=str(invitation), row=row)


@routes.post("/console/members/{member}/invitations/{invitation}/cancel")
async def cancel_invitation(request: web.Request) -> web.StreamResponse:
    """Make an invitation invalid."""
    acting(request)
    await read_form(request)
    invitation = request.match_info["invitation"]
    await record_act(request, invitation=invitation[:8])
    await services(request).membership.revoke_invitation(invitation, now=now())
    return go_to(_page_of(request))


@routes.post("/console/members/{member}/certificates/{fingerprint}/revoke")
async def revoke_certificate(request: web.Request) -> web.StreamResponse:
    """Revoke a certificate; its live connections are cut."""
    acting(request)
    form = await read_form(request)
    fingerprint = parse_digest(request.match_info["fingerprint"])
    reason = form.get("reason", "").strip()
    if not reason:
        raise MalformedError("a certificate is revoked for a reason: say which")
    await record_act(request, certificate=fingerprint, reason=reason)
    await services(request).membership.revoke_certificate(
        request.match_info["member"], fingerprint, reason=reason, now=now()
    )
    return go_to(_page_of(request))


def _page_of(request: web.Request) -> str:
    # Whoever acts on a member that there is not was refused before.
    return f"/console/members/{request.match_info['member']}"

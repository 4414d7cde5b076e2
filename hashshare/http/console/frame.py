"""What all pages of the console share: their headers, whom they let in, and reading forms."""

from typing import TYPE_CHECKING, Final

from aiohttp import web

from hashshare.domain.members import Role
from hashshare.errors import HashshareError, MalformedError, PermissionDeniedError
from hashshare.http.context import PEER
from hashshare.http.middlewares import Handler, route_of
from hashshare.pages.render import render
from hashshare.service.directory import Peer
from hashshare.wire.problem import PROBLEM_TYPES

if TYPE_CHECKING:
    from multidict import MultiDictProxy

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""With every answer: nothing is loaded from elsewhere, framed, sniffed or kept."""

_FORM_BYTES: Final = 65_536


@web.middleware
async def guard_console(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give whatever answers in the console its headers, and refusals a page."""
    if not route_of(request).startswith("/console"):
        return await handler(request)
    try:
        response = await handler(request)
    except HashshareError as error:
        status = PROBLEM_TYPES[type(error)].status
        response = _respond(render("console/refused.html", reason=str(error)), status=status)
    response.headers.update(HEADERS)
    return response


def page(request: web.Request, template: str, **values: object) -> web.StreamResponse:
    """Return a page, filled in; each knows the visitor, the registry, and where it is."""
    peer = request[PEER]
    common = {
        "peer": peer,
        "registry": peer.coalition,
        "here": route_of(request),
        "may_act": Role.ADMIN in peer.coalition.member(peer.member).roles,
    }
    return _respond(render(f"console/{template}", **common, **values))


def go_to(path: str) -> web.StreamResponse:
    """Send the browser to another page, so that reloading it repeats no act."""
    return web.Response(status=303, headers={"Location": path})


def visitor(request: web.Request) -> Peer:
    """Return the peer, if it is an auditor or an admin.

    Raises:
        PermissionDeniedError: It is not.
    """
    peer = request[PEER]
    if not {Role.ADMIN, Role.AUDITOR} & set(peer.coalition.member(peer.member).roles):
        raise PermissionDeniedError("the console is for admins and auditors")
    return peer


def acting(request: web.Request) -> Peer:
    """Return the peer, if it is an admin.

    Raises:
        PermissionDeniedError: It is not.
    """
    peer = visitor(request)
    if Role.ADMIN not in peer.coalition.member(peer.member).roles:
        raise PermissionDeniedError("only admins may do that")
    return peer


async def read_form(request: web.Request) -> "MultiDictProxy[str]":
    """Read a form that one of our own pages sent.

    Raises:
        PermissionDeniedError: Another site's page sent it, or no browser.
        MalformedError: It is too long, or no form.
    """
    # Browsers say this themselves, and no page can make them say otherwise. Not Origin: with our
    # Referrer-Policy it is "null".
    if request.headers.get("Sec-Fetch-Site") != "same-origin":
        raise PermissionDeniedError("forms are taken from the console's own pages only")
    if request.content_length is None or request.content_length > _FORM_BYTES:
        raise MalformedError(f"a form has at most {_FORM_BYTES} bytes")
    if request.content_type != "application/x-www-form-urlencoded":
        raise MalformedError("this is no form")
    # Of this content type it holds no files.
    return await request.post()  # type: ignore[return-value]


def _respond(text: str, *, status: int = 200) -> web.StreamResponse:
    return web.Response(text=text, status=status, content_type="text/html")

"""The console: pages for admins and auditors, in a browser that shows a client certificate.

Whatever comes from members is text to the templates, which escape it. Hash values stand in no URL.
"""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Final

from aiohttp import web

from hashshare.domain.changes import parse_number
from hashshare.domain.hashes import HashAlgorithm, HashValue, parse_algorithm, parse_value
from hashshare.domain.members import Role
from hashshare.domain.names import HashSetId, format_time, parse_time
from hashshare.domain.trail import TrailKind
from hashshare.errors import HashshareError, MalformedError, PermissionDeniedError
from hashshare.http.context import PEER, now, services
from hashshare.http.middlewares import Handler, route_of
from hashshare.http.trail import parse_filter, to_document
from hashshare.pages.render import render, report_values, static_text
from hashshare.service.directory import Peer
from hashshare.wire.problem import PROBLEM_TYPES

routes: Final = web.RouteTableDef()

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

_MONTH: Final = timedelta(days=30)
_TRAIL_ROWS: Final = 100
_FORM_BYTES: Final = 4096
_NO_BOUND: Final = 2**53
_STATIC: Final = {
    "style.css": "text/css",
    "console.css": "text/css",
    "icon.svg": "image/svg+xml",
}


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


def _respond(text: str, *, status: int = 200) -> web.StreamResponse:
    return web.Response(text=text, status=status, content_type="text/html")


def _visitor(request: web.Request) -> Peer:
    """Return the peer, if it is an auditor or an admin.

    Raises:
        PermissionDeniedError: It is not.
    """
    peer = request[PEER]
    if not {Role.ADMIN, Role.AUDITOR} & set(peer.coalition.member(peer.member).roles):
        raise PermissionDeniedError("the console is for admins and auditors")
    return peer


def _page(request: web.Request, template: str, **values: object) -> web.StreamResponse:
    peer = request[PEER]
    common = {"peer": peer, "registry": peer.coalition, "here": route_of(request)}
    return _respond(render(f"console/{template}", **common, **values))


@routes.get("/console")
async def overview(request: web.Request) -> web.StreamResponse:
    """Show how the coalition fares: the last thirty days."""
    _visitor(request)
    report = await services(request).reports.make(now() - _MONTH, now(), now=now())
    return _page(request, "overview.html", **report_values(report))


@routes.get("/console/members")
async def members(request: web.Request) -> web.StreamResponse:
    """Show all members with their certificates, and the invitations."""
    peer, membership = _visitor(request), services(request).membership
    records = {name: await membership.read_member(name) for name in sorted(peer.coalition.members)}
    invitations = await membership.list_invitations()
    return _page(request, "members.html", records=records, invitations=invitations, now=now())


@routes.get("/console/hash-sets")
async def hash_sets(request: web.Request) -> web.StreamResponse:
    """Show the hash sets and the policies of their views."""
    _visitor(request)
    return _page(request, "hash_sets.html")


@routes.get("/console/cases")
async def cases(request: web.Request) -> web.StreamResponse:
    """Show open cases, oldest first."""
    found = await services(request).cases.list_cases(_visitor(request))
    return _page(request, "cases.html", cases=found)


@routes.get("/console/log")
async def log(request: web.Request) -> web.StreamResponse:
    """Show the newest checkpoint, the witnesses, and what auditors vouch for."""
    _visitor(request)
    found = services(request)
    size = found.news.log_size
    note = (await found.witnessing.checkpoint(size)).decode()
    audits = await found.witnessing.audits()
    return _page(request, "log.html", note=note, audits=audits, size=size)


@routes.get("/console/submissions")
async def submissions(request: web.Request) -> web.StreamResponse:
    """Show the newest submissions, of all members or of one, and when they were published."""
    peer, query = _visitor(request), request.query
    member, before = query.get("member", ""), query.get("before", "")
    rows = await services(request).submit.list_newest(
        peer.registry.readable_sets(peer.member),
        member,
        below=parse_number(before) if before else _NO_BOUND,
        limit=_TRAIL_ROWS,
    )
    older = rows[-1].log_index if len(rows) == _TRAIL_ROWS else 0
    found = [
        asdict(row)
        | {
            "accepted_at": format_time(row.accepted_at),
            "published_at": row.published_at and format_time(row.published_at),
        }
        for row in rows
    ]
    return _page(request, "submissions.html", submissions=found, member=member, older=older)


@routes.get("/console/trail")
async def search_trail(request: web.Request) -> web.StreamResponse:
    """Show the newest entries of the audit trail that were asked for."""
    _visitor(request)
    query = {name: request.query.get(name, "") for name in ("member", "kind", "since", "until")}
    chosen = parse_filter(query | _moments(query))
    before = request.query.get("before", "")
    rows = await services(request).trail.search(
        chosen,
        at=parse_number(before) if before else None,
        limit=_TRAIL_ROWS,
        backwards=True,
    )
    entries = [to_document(row) for row in rows]
    older = rows[-1].number - 1 if len(rows) == _TRAIL_ROWS else 0
    return _page(
        request, "trail.html", entries=entries, query=query, kinds=list(TrailKind), older=older
    )


@routes.get("/console/report")
async def show_report(request: web.Request) -> web.StreamResponse:
    """Show the transparency report of the time that was asked for, or of thirty days."""
    _visitor(request)
    query = {name: request.query.get(name, "") for name in ("since", "until")}
    asked = {name: parse_time(text) for name, text in _moments(query).items()}
    until: datetime = asked.get("until", now())
    since: datetime = asked.get("since", until - _MONTH)
    report = await services(request).reports.make(since, until, now=now())
    return _page(request, "report.html", query=query, **report_values(report))


@routes.get("/console/hash")
async def ask_hash(request: web.Request) -> web.StreamResponse:
    """Show the form that asks for a hash."""
    _visitor(request)
    algorithms = list(HashAlgorithm)
    return _page(
        request,
        "hash.html",
        asked=None,
        algorithms=algorithms,
        statements=[],
        presences=[],
        feedback=[],
    )


@routes.post("/console/hash")
async def show_hash(request: web.Request) -> web.StreamResponse:
    """Show all that members ever said of one hash, and who holds it."""
    peer = _visitor(request)
    form = await _read_form(request)
    name = str(form.get("hash_set", ""))
    algorithm = parse_algorithm(str(form.get("algorithm", "")))
    value = HashValue(algorithm, parse_value(algorithm, str(form.get("value", "")).strip().lower()))
    hash_set, found = HashSetId(name), services(request)
    statements = await found.pull.provenance(hash_set, value, reader=peer)
    presences = await found.retractions.read(peer.registry, hash_set, value)
    feedback = await found.feedback.read(hash_set, value, reader=peer, now=now())
    asked = {"hash_set": name, "algorithm": str(algorithm), "value": str(form["value"]).strip()}
    return _page(
        request,
        "hash.html",
        asked=asked,
        algorithms=list(HashAlgorithm),
        statements=statements,
        presences=presences,
        feedback=feedback,
    )


@routes.get("/console/static/{name}")
async def static(request: web.Request) -> web.StreamResponse:
    """Answer with one of our style sheets, or the icon."""
    name = request.match_info["name"]
    if name not in _STATIC:
        raise MalformedError("there is no such file")
    return web.Response(text=static_text(name), content_type=_STATIC[name])


async def _read_form(request: web.Request) -> Mapping[str, object]:
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
    return await request.post()


def _moments(query: Mapping[str, str]) -> dict[str, str]:
    """Return the days that were asked for as times; whoever asks for a day means from its begin.

    Raises:
        MalformedError: One is no day.
    """
    try:
        return {
            name: format_time(datetime.fromisoformat(f"{query[name]}T00:00:00+00:00"))
            for name in ("since", "until")
            if query[name]
        }
    except ValueError as error:
        raise MalformedError("a day is like 2026-11-23") from error

"""The pages that show: the overview, lists, cases, one hash, the log, the trail, reports."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Final

from aiohttp import web

from hashshare.domain.changes import parse_number
from hashshare.domain.hashes import HashAlgorithm, HashValue, parse_algorithm, parse_value
from hashshare.domain.names import HashSetId, format_time, parse_time
from hashshare.domain.trail import TrailKind
from hashshare.errors import MalformedError
from hashshare.http.console.frame import page, read_form, visitor
from hashshare.http.context import now, services
from hashshare.http.trail import parse_filter, to_document
from hashshare.pages.render import report_values, static_text

routes: Final = web.RouteTableDef()

_MONTH: Final = timedelta(days=30)
_TRAIL_ROWS: Final = 100
_NO_BOUND: Final = 2**53
_STATIC: Final = {
    "style.css": "text/css",
    "console.css": "text/css",
    "icon.svg": "image/svg+xml",
}


@routes.get("/console")
async def overview(request: web.Request) -> web.StreamResponse:
    """Show how the coalition fares: the last thirty days."""
    visitor(request)
    report = await services(request).reports.recent(now=now())
    return page(request, "overview.html", **report_values(report))


@routes.get("/console/hash-sets")
async def hash_sets(request: web.Request) -> web.StreamResponse:
    """Show the hash sets and the policies of their views."""
    visitor(request)
    return page(request, "hash_sets.html")


@routes.get("/console/cases")
async def cases(request: web.Request) -> web.StreamResponse:
    """Show open cases, oldest first."""
    found = await services(request).cases.list_cases(visitor(request))
    return page(request, "cases.html", cases=found)


@routes.get("/console/log")
async def log(request: web.Request) -> web.StreamResponse:
    """Show the newest checkpoint, the witnesses, and what auditors vouch for."""
    visitor(request)
    found = services(request)
    size = found.news.log_size
    note = (await found.witnessing.checkpoint(size)).decode()
    audits = await found.witnessing.audits()
    return page(request, "log.html", note=note, audits=audits, size=size)


@routes.get("/console/submissions")
async def submissions(request: web.Request) -> web.StreamResponse:
    """Show the newest submissions, of all members or of one, and when they were published."""
    peer, query = visitor(request), request.query
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
    return page(request, "submissions.html", submissions=found, member=member, older=older)


@routes.get("/console/trail")
async def search_trail(request: web.Request) -> web.StreamResponse:
    """Show the newest entries of the audit trail that were asked for."""
    visitor(request)
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
    return page(
        request, "trail.html", entries=entries, query=query, kinds=list(TrailKind), older=older
    )


@routes.get("/console/report")
async def show_report(request: web.Request) -> web.StreamResponse:
    """Show the transparency report of the time that was asked for, or of thirty days."""
    visitor(request)
    query = {name: request.query.get(name, "") for name in ("since", "until")}
    asked = {name: parse_time(text) for name, text in _moments(query).items()}
    until: datetime = asked.get("until", now())
    since: datetime = asked.get("since", until - _MONTH)
    report = await services(request).reports.make(since, until, now=now())
    return page(request, "report.html", query=query, **report_values(report))


@routes.get("/console/hash")
async def ask_hash(request: web.Request) -> web.StreamResponse:
    """Show the form that asks for a hash."""
    visitor(request)
    algorithms = list(HashAlgorithm)
    return page(
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
    peer = visitor(request)
    form = await read_form(request)
    name = str(form.get("hash_set", ""))
    algorithm = parse_algorithm(str(form.get("algorithm", "")))
    value = HashValue(algorithm, parse_value(algorithm, str(form.get("value", "")).strip().lower()))
    hash_set, found = HashSetId(name), services(request)
    statements = await found.pull.provenance(hash_set, value, reader=peer)
    presences = await found.retractions.read(peer.registry, hash_set, value)
    feedback = await found.feedback.read(hash_set, value, reader=peer, now=now())
    asked = {"hash_set": name, "algorithm": str(algorithm), "value": str(form["value"]).strip()}
    return page(
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

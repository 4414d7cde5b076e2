"""The audit trail: what each request leaves in it, and reading it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from aiohttp import web

from hashshare.domain.changes import parse_number
from hashshare.domain.names import MemberId, format_time, parse_time
from hashshare.domain.trail import Facts, TrailEntry, TrailKind
from hashshare.errors import HashshareError, MalformedError, NotFoundError
from hashshare.http.context import PEER, answer, require_auditor, services
from hashshare.http.middlewares import Handler, peer_fingerprint, route_of
from hashshare.service.trail import MAX_PAGE
from hashshare.storage.trail import TrailFilter, TrailRow
from hashshare.wire.problem import PROBLEM_TYPES
from hashshare.wire.trail import TrailEntryDocument, TrailPage

routes: Final = web.RouteTableDef()

_FACTS: Final = web.RequestKey("trail_facts", dict[str, str | int])
_RECORDED: Final = web.RequestKey("trail_recorded", bool)

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# Submissions are recorded in their own transaction; the others change nothing of the coalition.
_NO_ACTS: Final = frozenset(
    {
        "/v1/batches/{sha256}",
        "/v1/submissions",
        "/v1/log/cosignatures",
        "/v1/previews",
        "/console/hash",
        "/console/proposals",
        "/console/proposals/file",
    }
)
# The least status that is the server's fault, or nobody's.
_FAULT: Final = 500


@web.middleware
async def keep_trail(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Record refusals, and acts that their handler has not recorded itself.

    A request that was answered without either costs nothing.
    """
    try:
        response = await handler(request)
    except HashshareError as error:
        problem = PROBLEM_TYPES[type(error)]
        if problem.status < _FAULT and not _is_an_answer(request, error):
            entry = _entry_of(request, TrailKind.REFUSAL, _known_names(request), problem.name)
            await services(request).trail.append_refusal(entry)
        raise
    done = request.method not in _READING and route_of(request) not in _NO_ACTS
    if done and not request.get(_RECORDED):
        facts = {**_known_names(request), **request.get(_FACTS, {})}
        await services(request).trail.append(_entry_of(request, TrailKind.ACT, facts))
    return response


def _is_an_answer(request: web.Request, error: HashshareError) -> bool:
    """Whether clients go on asking until they are told no."""
    # What a member has to send; what the last root is.
    return request.method == "HEAD" or (
        isinstance(error, NotFoundError) and route_of(request) == "/v1/trust/metadata/{name}"
    )


def annotate_act(request: web.Request, **facts: str | int) -> None:
    """Say what the act was about that is recorded once the handler is done."""
    request[_FACTS] = facts


async def record_act(request: web.Request, **facts: str | int) -> None:
    """Record an act before it is done: nothing that is in no signed log may happen unrecorded.

    Raises:
        UnavailableError: It could not be recorded, and must not be done.
    """
    request[_RECORDED] = True
    registry = request[PEER].registry
    known = {n: v for n, v in facts.items() if n != "member" or v in registry.members}
    entry = _entry_of(request, TrailKind.ACT, {**_known_names(request), **known})
    await services(request).trail.append(entry)


async def record_pull(request: web.Request, action: str, **facts: str | int) -> None:
    """Record that the peer is about to be sent something that members share."""
    await services(request).trail.append(
        TrailEntry(TrailKind.PULL, request[PEER].member, action, facts, request[PEER].fingerprint)
    )


@routes.get("/v1/trail")
async def get_trail(request: web.Request) -> web.StreamResponse:
    """Answer with a page of the audit trail."""
    require_auditor(request)
    query = request.query
    limit = parse_number(query.get("limit", str(MAX_PAGE)))
    rows = await services(request).trail.search(
        parse_filter(request.query),
        at=parse_number(query["at"]) if "at" in query else None,
        limit=limit,
        backwards=query.get("order") == "newest",
    )
    more = bool(rows) and len(rows) == min(limit, MAX_PAGE)
    return answer(
        TrailPage(
            entries=[to_document(row) for row in rows], next=rows[-1].number if more else None
        ),
        headers={"Cache-Control": "no-store"},
    )


def parse_filter(query: Mapping[str, str]) -> TrailFilter:
    """Read ``?member=&kind=&since=&until=``; what is empty is any.

    Raises:
        MalformedError: One of them is not in its form.
    """
    try:
        kind = TrailKind(query["kind"]) if query.get("kind") else None
    except ValueError as error:
        kinds = ", ".join(TrailKind)
        raise MalformedError(f"a kind is one of {kinds}") from error
    return TrailFilter(
        member=query.get("member") or None,
        kind=kind,
        since=_moment(query.get("since")),
        until=_moment(query.get("until")),
    )


def to_document(row: TrailRow) -> TrailEntryDocument:
    """Return the entry as it crosses the wire."""
    entry = row.entry
    return TrailEntryDocument(
        number=row.number,
        recorded_at=format_time(row.recorded_at),
        kind=entry.kind.value,
        member=entry.member,
        certificate=entry.fingerprint,
        action=entry.action,
        problem=entry.problem,
        facts=dict(entry.facts),
    )


def _moment(text: str | None) -> datetime | None:
    return parse_time(text) if text else None


def _entry_of(
    request: web.Request, kind: TrailKind, facts: Facts, problem: str | None = None
) -> TrailEntry:
    peer = request.get(PEER)
    # Who enrols is nobody yet; the handler says who it is now.
    enrolled = facts.get("member") if kind is TrailKind.ACT else None
    member = enrolled if peer is None else peer.member
    return TrailEntry(
        kind=kind,
        member=None if member is None else MemberId(str(member)),
        action=f"{request.method} {route_of(request)}",
        facts=facts,
        fingerprint=peer_fingerprint(request.transport),
        problem=problem,
    )


def _known_names(request: web.Request) -> dict[str, str | int]:
    """Return what the path names, as far as the registry knows it: the rest could be anything."""
    peer, info = request.get(PEER), request.match_info
    if peer is None:
        return {}
    registry = peer.registry
    known = {"member": registry.members, "hash_set": registry.hash_sets}
    return {name: info[name] for name in known if info.get(name) in known[name]}

"""Proposals: changes of the registry that an admin puts together here, and signs elsewhere.

A page shows what a change alters, and what would enter and leave each list. The file that it
gives is signed by ``hashshare governance sign``, with a key that no server and no page has.

Source: docs/adr/0019.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from aiohttp import web

from hashshare.domain.changes import parse_number
from hashshare.domain.differences import differences
from hashshare.domain.documents import encode_document
from hashshare.domain.members import KeyScope, Member, Role, Status
from hashshare.domain.names import format_time
from hashshare.domain.policy import Media, QuorumOf, View
from hashshare.domain.policy_texts import parse_countries, parse_terms, parse_weights
from hashshare.domain.registry import Registry
from hashshare.domain.statements import seal_registry
from hashshare.errors import ConflictError, MalformedError, NotFoundError, RegistryConflictError
from hashshare.http.console.frame import acting, page, read_form, visitor
from hashshare.http.context import now, services
from hashshare.wire.members import RegistryRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from multidict import MultiDictProxy

    from hashshare.wire.preview import PreviewList

    Form = MultiDictProxy[str]

D = TypeVar("D", Member, View)

routes: Final = web.RouteTableDef()

PREVIEW_SECONDS: Final = 60.0
_MAX_REASON: Final = 500


@dataclass(frozen=True, slots=True)
class Draft:
    """A change that was put together.

    Attributes:
        what: In a word or two.
        current: The registry in force.
        proposed: The next version.
    """

    what: str
    current: Registry
    proposed: Registry


@routes.get("/console/hash-sets/{hash_set}/views")
async def edit_view(request: web.Request) -> web.StreamResponse:
    """Show the policy of a view in a form, or that of a new one."""
    peer = visitor(request)
    hash_set, name = request.match_info["hash_set"], request.query.get("view", "")
    known = peer.coalition.hash_set(hash_set).views.get(name)
    if name and known is None:
        raise NotFoundError(f"there is no view {name!r:.70}")
    return page(
        request,
        "view.html",
        hash_set=hash_set,
        name=name,
        view=known or View(),
        quorums=list(QuorumOf),
        media=list(Media),
    )


@routes.post("/console/proposals")
async def show_proposal(request: web.Request) -> web.StreamResponse:
    """Show what a change would do; nothing is changed."""
    acting(request)
    form = await read_form(request)
    draft = await _draft(request, form)
    changes = list(differences(draft.current, draft.proposed))
    fields = [(name, value) for name, value in form.items() if name != "version"]
    return page(
        request,
        "proposal.html",
        draft=draft,
        changes=changes,
        lists=await _preview(request, draft) if changes else [],
        fields=[*fields, ("version", str(draft.proposed.version))],
    )


@routes.post("/console/proposals/file")
async def send_proposal(request: web.Request) -> web.StreamResponse:
    """Answer with the change as a file that governance signs."""
    acting(request)
    form = await read_form(request)
    draft = await _draft(request, form)
    version = draft.proposed.version
    if parse_number(form.get("version", "")) != version:
        raise RegistryConflictError("the registry has moved on since this was shown: do it again")
    reason = form.get("reason", "").strip() or draft.what
    if len(reason) > _MAX_REASON:
        raise MalformedError(f"a reason has at most {_MAX_REASON} characters")
    envelope, document = seal_registry(
        draft.proposed, [], reason=reason, created_at=format_time(now())
    )
    return web.Response(
        body=RegistryRequest(document=document, envelope=envelope).encode(),
        content_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="registry-{version}.json"'},
    )


async def _draft(request: web.Request, form: "Form") -> Draft:
    current = (await services(request).registries.current()).registry
    change = _CHANGES.get(form.get("change", ""))
    if change is None:
        raise MalformedError("this form proposes nothing that is known here")
    what, proposed = await change(request, form, current)
    return Draft(what, current, proposed)


async def _preview(request: web.Request, draft: Draft) -> "list[PreviewList] | None":
    """Return what becomes of the lists; None if it takes too long to wait for."""
    try:
        async with asyncio.timeout(PREVIEW_SECONDS):
            return await services(request).previews.count(encode_document(draft.proposed))
    except TimeoutError:
        return None


async def _add_member(_: web.Request, form: "Form", registry: Registry) -> tuple[str, Registry]:
    name = form.get("member", "").strip()
    member = Member(
        name=form.get("name", "").strip() or name,
        jurisdiction=form.get("jurisdiction", "").strip().upper(),
        roles=tuple(sorted(_parse_role(role) for role in form.getall("roles", []))),
    )
    return f"add member {name}", registry.with_member(name, _accepted(member), new=True)


async def _set_status(_: web.Request, form: "Form", registry: Registry) -> tuple[str, Registry]:
    name, wanted = form.get("member", ""), form.get("status", "")
    member = registry.member(name)
    try:
        status = Status(wanted)
    except ValueError as error:
        raise MalformedError(f"a status is one of {', '.join(Status)}") from error
    if member.status is Status.REVOKED and status is not Status.REVOKED:
        raise ConflictError(f"member {name} is revoked, which is for good")
    changed: Member = msgspec.structs.replace(member, status=status)
    return f"let member {name} be {status}", registry.with_member(name, changed)


async def _approve_keys(
    request: web.Request, form: "Form", registry: Registry
) -> tuple[str, Registry]:
    name = form.get("member", "")
    record = await services(request).membership.read_member(name)
    if not record.pending:
        raise NotFoundError(f"no key of member {name} waits for approval")
    changed = registry
    for row in record.pending:
        scope = None
        if row.scope is not None:
            sets = row.scope.hash_sets
            scope = KeyScope(name=row.label, hash_sets=msgspec.UNSET if sets is None else sets)
        changed = changed.with_submission_key(name, row.submission_key, scope=scope)
    # Several edits, one version.
    proposed: Registry = msgspec.structs.replace(changed, version=registry.version + 1)
    return f"approve the keys of {name}", proposed


async def _set_view(_: web.Request, form: "Form", registry: Registry) -> tuple[str, Registry]:
    hash_set, name = form.get("hash_set", ""), form.get("view", "").strip()
    known = registry.hash_set(hash_set).views.get(name, View())
    view: View = msgspec.structs.replace(
        known,
        quorum=_parse_count(form, "quorum"),
        quorum_of=form.get("quorum_of", ""),
        basis=form.get("basis", ""),
        dispute_limit=_parse_count(form, "dispute_limit"),
        show_members="show_members" in form,
        classifications=_chosen(form, "classifications") or None,
        sources=_chosen(form, "sources") or None,
        media=_chosen(form, "media") or None,
        excluded_classifications=_chosen(form, "excluded_classifications") or msgspec.UNSET,
        excluded_sources=_chosen(form, "excluded_sources") or msgspec.UNSET,
        weights=parse_weights(form.get("weights", "")) or msgspec.UNSET,
        released_to=parse_countries(form.get("released_to", "")) or msgspec.UNSET,
        terms=parse_terms(form.get("terms", "")) or msgspec.UNSET,
        excluded_terms=parse_terms(form.get("excluded_terms", "")) or msgspec.UNSET,
    )
    return f"set view {hash_set}/{name}", registry.with_view(hash_set, name, _accepted(view))


async def _delete_view(_: web.Request, form: "Form", registry: Registry) -> tuple[str, Registry]:
    hash_set, name = form.get("hash_set", ""), form.get("view", "")
    if name not in registry.hash_set(hash_set).views:
        raise NotFoundError(f"there is no view {name!r:.70}")
    return f"delete view {hash_set}/{name}", registry.with_view(hash_set, name, None)


_CHANGES: Final[
    dict[str, "Callable[[web.Request, Form, Registry], Awaitable[tuple[str, Registry]]]"]
] = {
    "add-member": _add_member,
    "set-status": _set_status,
    "approve-keys": _approve_keys,
    "set-view": _set_view,
    "delete-view": _delete_view,
}


def _chosen(form: "Form", name: str) -> tuple[str, ...]:
    return tuple(sorted(set(form.getall(name, []))))


def _parse_count(form: "Form", name: str) -> int:
    text = form.get(name, "")
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:5]) <= 1000):
        raise MalformedError(f"{name.replace('_', ' ')} is a number from 1 to 1000")
    return int(text)


def _parse_role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError as error:
        raise MalformedError(f"a role is one of {', '.join(Role)}") from error


def _accepted(document: D) -> D:
    """Return a document whose fields were texts of a form, as one that is in its form.

    Raises:
        MalformedError: A field is not.
    """
    try:
        return msgspec.convert(msgspec.to_builtins(document), type(document))
    except msgspec.ValidationError as error:
        raise MalformedError(f"{error!s:.200}") from error

"""The registry: who is in the coalition, and under which rules."""

from contextlib import aclosing
from typing import Final

from aiohttp import web

from hashshare.domain.changes import parse_number
from hashshare.http.context import (
    answer,
    now,
    read_document,
    require_admin,
    send_chunks,
    services,
)
from hashshare.http.trail import annotate_act
from hashshare.service.registry import CurrentRegistry
from hashshare.wire.members import (
    PreviewRequest,
    RegistryAppended,
    RegistryDocument,
    RegistryRequest,
)

routes: Final = web.RouteTableDef()


@routes.get("/v1/registry")
async def get_registry(request: web.Request) -> web.StreamResponse:
    """Answer with the registry in force."""
    return answer(_to_document(await services(request).registries.current()))


@routes.get("/v1/registry/{version}")
async def get_version(request: web.Request) -> web.StreamResponse:
    """Answer with one version of the registry."""
    version = parse_number(request.match_info["version"])
    return answer(_to_document(await services(request).registries.read(version)))


@routes.post("/v1/registry")
async def post_registry(request: web.Request) -> web.StreamResponse:
    """Put the next version into force, signed by governance."""
    require_admin(request)
    body = await read_document(request, RegistryRequest)
    appended = await services(request).registries.append(body.envelope, body.document, now=now())
    annotate_act(request, version=appended.version, log_index=appended.log_index)
    document = RegistryAppended(
        version=appended.version,
        log_index=appended.log_index,
        receipt=appended.receipt.decode(),
    )
    return answer(document, status=201)


@routes.post("/v1/previews")
async def post_preview(request: web.Request) -> web.StreamResponse:
    """Answer with what a registry would make of the lists; nothing comes into force."""
    require_admin(request)
    body = await read_document(request, PreviewRequest)
    most = request.query.get("changes")
    preview = await services(request).previews.open(
        body.document, most=None if most is None else parse_number(most)
    )
    response = web.StreamResponse(headers={"Content-Encoding": "zstd", "Cache-Control": "no-store"})
    response.content_type = "application/x-ndjson"
    async with aclosing(preview):
        return await send_chunks(request, response, preview)


def _to_document(current: CurrentRegistry) -> RegistryDocument:
    return RegistryDocument(
        document=current.document, envelope=current.envelope, log_index=current.log_index
    )

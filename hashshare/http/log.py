"""The log: checkpoint, tiles, entries, proofs. Source: C2SP tlog-tiles."""

from typing import Final

from aiohttp import web

from hashshare.crypto.note import MAX_NOTE_BYTES, parse_checkpoint, parse_note
from hashshare.crypto.tiles import TILE_WIDTH, parse_tile_path
from hashshare.domain.changes import parse_number
from hashshare.errors import MalformedError
from hashshare.http.context import (
    IMMUTABLE,
    REVALIDATE,
    answer,
    now,
    read_body,
    services,
    wait_seconds,
)
from hashshare.wire.lists import AuditDocument, AuditList, CosignedDocument, ProofDocument

routes: Final = web.RouteTableDef()


@routes.get("/v1/log/checkpoint")
async def get_checkpoint(request: web.Request) -> web.StreamResponse:
    """Answer with the newest checkpoint; with ``Prefer: wait`` when there is a newer one."""
    news = services(request).news
    size = news.log_size
    known = request.headers.get("If-None-Match")
    if known == f'"{size}"':
        size = await news.wait_for_log(after=size, timeout_seconds=wait_seconds(request))
        if known == f'"{size}"':
            return web.Response(status=304, headers={"ETag": known})
    note = await services(request).witnessing.checkpoint(size)
    return _answer_note(note, size)


@routes.post("/v1/log/checkpoint")
async def post_checkpoint(request: web.Request) -> web.StreamResponse:
    """Hear of a checkpoint that the caller holds, and that is larger than ours."""
    note = await read_body(request, max_bytes=MAX_NOTE_BYTES)
    await services(request).log.guard.learn(note)
    return web.Response(status=204)


@routes.get("/v1/log/checkpoint/pending")
async def get_pending(request: web.Request) -> web.StreamResponse:
    """Answer with the checkpoint that witnesses are to cosign."""
    size = services(request).news.log_size
    return _answer_note(await services(request).witnessing.pending(size, now=now()), size)


@routes.get("/v1/log/checkpoint/newest")
async def get_newest(request: web.Request) -> web.StreamResponse:
    """Answer with the checkpoint of the whole log, whoever has seen it; for admins."""
    note = await services(request).log.checkpoint()
    return _answer_note(note, parse_checkpoint(parse_note(note).text).size)


@routes.post("/v1/log/cosignatures")
async def post_cosignatures(request: web.Request) -> web.StreamResponse:
    """Keep the cosignatures of a checkpoint."""
    note = await read_body(request, max_bytes=MAX_NOTE_BYTES)
    kept = await services(request).witnessing.cosign(note, now=now())
    return answer(CosignedDocument(kept=kept))


@routes.get("/v1/log/audits")
async def get_audits(request: web.Request) -> web.StreamResponse:
    """Answer with what each auditor of the trust policy audited last."""
    audits = [
        AuditDocument(auditor=audited.auditor, note=audited.note.decode())
        for audited in await services(request).witnessing.audits()
    ]
    return answer(AuditList(audits=audits), headers=REVALIDATE)


def _answer_note(note: bytes, size: int) -> web.Response:
    return web.Response(
        body=note,
        content_type="text/plain",
        charset="utf-8",
        headers={"ETag": f'"{size}"', "Cache-Control": "no-cache"},
    )


@routes.get("/v1/log/tile/{path:.+}")
async def get_tile(request: web.Request) -> web.StreamResponse:
    """Answer with a tile of hashes, or a bundle of entries."""
    tile = parse_tile_path(request.match_info["path"])
    body = await services(request).log.tile(tile)
    return web.Response(body=body, content_type="application/octet-stream", headers=IMMUTABLE)


@routes.get("/v1/log/entries")
async def get_entries(request: web.Request) -> web.StreamResponse:
    """Answer with a bundle of ``?count=`` entries, at most 256, from ``?first=`` on."""
    query = request.query
    first, count = parse_number(query.get("first", "")), parse_number(query.get("count", ""))
    if not 1 <= count <= TILE_WIDTH:
        raise MalformedError(f"a bundle has 1 to {TILE_WIDTH} entries")
    body = await services(request).log.entries(first, count)
    return web.Response(body=body, content_type="application/octet-stream", headers=IMMUTABLE)


@routes.get("/v1/log/entries/{index}")
async def get_entry(request: web.Request) -> web.StreamResponse:
    """Answer with one leaf."""
    body = await services(request).log.entry(parse_number(request.match_info["index"]))
    return web.Response(body=body, content_type="application/vnd.dsse+json", headers=IMMUTABLE)


@routes.get("/v1/log/inclusion")
async def get_inclusion(request: web.Request) -> web.StreamResponse:
    """Answer with the proof that leaf ``?index=`` is in the tree of ``?size=``."""
    query = request.query
    index, size = parse_number(query.get("index", "")), parse_number(query.get("size", ""))
    proof = await services(request).log.inclusion(index, size)
    return answer(ProofDocument(proof=proof), headers=IMMUTABLE)


@routes.get("/v1/log/consistency")
async def get_consistency(request: web.Request) -> web.StreamResponse:
    """Answer with the proof that the tree of ``?new=`` extends the tree of ``?old=``."""
    query = request.query
    old, new = parse_number(query.get("old", "")), parse_number(query.get("new", ""))
    proof = await services(request).log.consistency(old, new)
    return answer(ProofDocument(proof=proof), headers=IMMUTABLE)

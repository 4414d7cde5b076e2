"""The trust root: metadata and trust documents, as TUF clients ask for them."""

import asyncio
from typing import Final

from aiohttp import web

from hashshare.http.context import IMMUTABLE, services

routes: Final = web.RouteTableDef()


@routes.get("/v1/trust/metadata/{name}")
async def get_metadata(request: web.Request) -> web.StreamResponse:
    """Answer with ``timestamp.json``, or with ``N.root.json`` and others that never change."""
    name = request.match_info["name"]
    body = await asyncio.to_thread(services(request).ceremony.read_metadata, name)
    headers = {"Cache-Control": "no-cache"} if name == "timestamp.json" else IMMUTABLE
    return web.Response(body=body, content_type="application/json", headers=headers)


@routes.get("/v1/trust/targets/{name}")
async def get_target(request: web.Request) -> web.StreamResponse:
    """Answer with a trust document."""
    ceremony = services(request).ceremony
    body = await asyncio.to_thread(ceremony.read_target, request.match_info["name"])
    return web.Response(body=body, content_type="application/json", headers=IMMUTABLE)

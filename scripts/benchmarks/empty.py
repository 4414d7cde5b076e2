"""A server that answers 304 to everything, behind the TLS of a coalition: PORT KEYS."""

import asyncio
import sys
from pathlib import Path

import uvloop
from aiohttp import web

from hashshare.http.tls import api_context


async def _nothing(request: web.Request) -> web.Response:
    del request
    return web.Response(status=304)


async def main(port: int, keys: Path) -> None:
    """Serve until terminated."""
    app = web.Application()
    app.router.add_get("/{path:.*}", _nothing)
    tls = api_context(
        key=(keys / "server.pem").read_bytes(),
        certificate=(keys / "server-cert.pem").read_text(),
        ca=(keys / "ca-cert.pem").read_text(),
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2])))

"""Hands the console of a server whose clock was moved to a browser whose clock was not.

``demo_bridge.py PROFILE`` prints an address of loopback, and serves it by plain HTTP until it is
ended. It shows the profile's certificate to the server; to the browser that is of the future.
"""

import asyncio
import sys
from pathlib import Path

import aiohttp
from aiohttp import web

from hashshare.client import Profile
from hashshare.client.session import pinned_context


def main() -> None:
    """Serve until the process is ended."""
    profile = Profile.load(Path(sys.argv[1]))
    tls = pinned_context(profile.trust.ca)
    tls.load_cert_chain(profile.tls_path)

    async def hand_on(request: web.Request) -> web.Response:
        connector = aiohttp.TCPConnector(ssl=tls)
        async with (
            aiohttp.ClientSession(profile.api_url, connector=connector) as session,
            session.get(request.path_qs) as answer,
        ):
            policy = {"Content-Security-Policy": answer.headers["Content-Security-Policy"]}
            return web.Response(
                body=await answer.read(),
                status=answer.status,
                content_type=answer.content_type,
                headers=policy,
            )

    async def run() -> None:
        application = web.Application()
        application.router.add_get("/console{rest:.*}", hand_on)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()

    asyncio.run(run())


if __name__ == "__main__":
    main()

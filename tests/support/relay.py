"""A server that misbehaves: it has the real server's keys, and answers as an attack wants it."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import aiohttp
from aiohttp import web

from hashshare.client import Profile
from hashshare.client.session import Session
from hashshare.crypto.keys import PrivateKey, read_private_key
from hashshare.crypto.note import NoteSigner
from hashshare.http.tls import api_context
from tests.support.federation import Federation


@dataclass(slots=True)
class Answer:
    """What the real server answers, to be changed at will.

    Attributes:
        cut: Whether the connection is lost after half of the body.
    """

    method: str
    path: str
    status: int
    headers: dict[str, str]
    body: bytes
    cut: bool = False


Attack = Callable[[Answer], Awaitable[None] | None]


@dataclass(slots=True)
class Relay:
    """Passes requests on, and lets an attack see each answer before it goes back.

    Attributes:
        profile: The member's, leading to this server.
        attack: What is done to answers; None passes them on as they are.
        before: May lose a request: answers whether it reaches the real server at all.
        requests: Methods and paths so far.
    """

    federation: Federation
    profile: Profile
    attack: Attack | None = None
    before: Callable[[str, str], bool] = lambda _method, _path: True
    requests: list[str] = field(default_factory=list)

    @property
    def log(self) -> NoteSigner:
        """The log's signer: the attacker is the operator."""
        path = self.federation.folder / "coalition/keys/log.pem"
        return NoteSigner(self.profile.trust.log, read_private_key(path))

    @property
    def publisher(self) -> PrivateKey:
        """The publisher's key."""
        return read_private_key(self.federation.folder / "coalition/keys/publisher.pem")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on, and answer."""
        self.requests.append(f"{request.method} {request.raw_path}")
        if not self.before(request.method, request.raw_path):
            return _lose(request)
        answer = await self._forward(request)
        if self.attack is not None and (doing := self.attack(answer)) is not None:
            await doing
        return await _reply(request, answer)

    async def _forward(self, request: web.Request) -> Answer:
        session = Session.of(self.profile)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as http,
            http.request(
                request.method,
                self.federation.server.addresses.api_url + request.raw_path,
                data=io.BytesIO(body) if (body := await request.read()) else None,
                headers=headers,
                ssl=session.tls,
            ) as response,
        ):
            kept = {k: v for k, v in response.headers.items() if k.lower() not in _HOP_BY_HOP}
            body = await response.read()
            return Answer(request.method, request.raw_path, response.status, kept, body)


_HOP_BY_HOP = {"connection", "content-length", "date", "host", "transfer-encoding"}


async def _reply(request: web.Request, answer: Answer) -> web.StreamResponse:
    if not answer.cut:
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    await response.prepare(request)
    await response.write(answer.body[: len(answer.body) // 2])
    await asyncio.sleep(0.05)
    return _lose(request, response)


def _lose(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return response or web.Response()


@asynccontextmanager
async def run_relay(federation: Federation, member: str) -> AsyncIterator[Relay]:
    """Run a relay between a member and the server, with the server's own certificate."""
    genuine = federation.members[member]
    relay = Relay(federation, genuine)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", relay.handle)
    runner = web.AppRunner(app, auto_decompress=False, access_log=None)
    await runner.setup()
    keys = federation.folder / "coalition/keys"
    tls = api_context(
        key=(keys / "server.pem").read_bytes(),
        certificate=(keys / "server-cert.pem").read_text(),
        ca=(keys / "ca-cert.pem").read_text(),
    )
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    relay.profile = replace(genuine, api_url=f"https://127.0.0.1:{port}")
    try:
        yield relay
    finally:
        await runner.cleanup()

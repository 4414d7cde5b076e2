"""The server: its two applications, its listeners, and its tasks."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Self

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Middleware

from hashshare.errors import HashshareError, UnavailableError
from hashshare.http import (
    cases,
    enrolment,
    est,
    feedback,
    lists,
    log,
    members,
    own_certificates,
    registry,
    report,
    submissions,
    trail,
    trust,
)
from hashshare.http.console import acts, frame, pages, proposals
from hashshare.http.context import ADDRESSES, SERVICES, Addresses, Services, now
from hashshare.http.limits import RateLimit
from hashshare.http.middlewares import (
    ADDRESS_LIMIT,
    MEMBER_LIMIT,
    identify_peer,
    limit_address,
    log_requests,
    peer_fingerprint,
    render_problems,
)
from hashshare.http.site import TLSSite

_LOG: Final = structlog.get_logger(__name__)

API_MODULES: Final = (
    log,
    registry,
    submissions,
    cases,
    feedback,
    lists,
    members,
    own_certificates,
    est,
    trail,
    report,
    trust,
)
"""What members are answered with, each a module with routes."""

CONSOLE_MODULES: Final = (pages, acts, proposals)
"""What admins and auditors are answered with in a browser."""

ENROL_MODULES: Final = (enrolment,)
"""What anybody is answered with who has no certificate yet."""

KEEPALIVE_SECONDS: Final = 60.0
RECHECK_SECONDS: Final = 30.0
"""How often live connections are looked at though nothing was heard, for expiry."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What callers may ask for.

    Attributes:
        member_per_second: Requests of one member, in the long run.
        member_burst: And at once.
        address_per_second: Requests from one address to the enrolment listener.
        address_burst: And at once.
        shutdown_seconds: How long requests may go on after the server was told to stop.
    """

    member_per_second: float = 100
    member_burst: float = 500
    address_per_second: float = 1
    address_burst: float = 30
    shutdown_seconds: float = 10


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a listener is, and under which host name members reach it.

    Attributes:
        host: Address to listen on.
        port: 0 lets the system choose.
        public_url: ``https://host:port`` for invitations; None to derive it.
    """

    host: str = "127.0.0.1"
    port: int = 0
    public_url: str | None = None

    def url(self, port: int) -> str:
        """Return the URL that invitations name, given the port that was chosen."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"https://{host}:{port}"


class Server:
    """Serves the API and enrolment until its context ends.

    Attributes:
        addresses: Under which URLs members reach it, once it runs.
    """

    def __init__(
        self,
        services: Services,
        *,
        api: Endpoints,
        enrol: Endpoints,
        api_tls: ssl.SSLContext,
        enrol_tls: ssl.SSLContext,
        limits: ServerLimits | None = None,
    ) -> None:
        self._services = services
        self._api, self._enrol = api, enrol
        self._api_tls, self._enrol_tls = api_tls, enrol_tls
        self._limits = limits or ServerLimits()
        self.addresses = Addresses()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            api, enrol = self._build_api(), self._build_enrol()
            await stack.enter_async_context(_following(self._services))
            seconds = self._limits.shutdown_seconds
            runner, api_port = await listen(
                stack, api, self._api, lambda: self._api_tls, name="api", shutdown_seconds=seconds
            )
            self.addresses.api_url = self._api.url(api_port)
            _, enrol_port = await listen(
                stack,
                enrol,
                self._enrol,
                lambda: self._enrol_tls,
                name="enrol",
                shutdown_seconds=seconds,
            )
            self.addresses.enrol_url = self._enrol.url(enrol_port)
            cutting = asyncio.create_task(self._cut_off(runner))
            stack.push_async_callback(_cancel, cutting)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def exchange_tls(self, *, api: ssl.SSLContext, enrol: ssl.SSLContext) -> None:
        """Use other certificates for connections from now on; those that are up go on."""
        self._api_tls, self._enrol_tls = api, enrol

    def _build_api(self) -> web.Application:
        app = _application(
            self._services,
            [
                log_requests,
                est.refuse_in_words,
                render_problems,
                frame.guard_console,
                trail.keep_trail,
                identify_peer,
            ],
        )
        app[ADDRESSES] = self.addresses
        app[MEMBER_LIMIT] = RateLimit(self._limits.member_per_second, self._limits.member_burst)
        for module in (*API_MODULES, *CONSOLE_MODULES):
            app.add_routes(module.routes)
        return app

    def _build_enrol(self) -> web.Application:
        app = _application(
            self._services,
            [
                log_requests,
                est.refuse_in_words,
                render_problems,
                trail.keep_trail,
                limit_address,
            ],
        )
        app[ADDRESS_LIMIT] = RateLimit(self._limits.address_per_second, self._limits.address_burst)
        for module in ENROL_MODULES:
            app.add_routes(module.routes)
        return app

    async def _cut_off(self, runner: web.AppRunner) -> None:
        """Abort connections of those who may no longer be here, as soon as that is heard."""
        news = self._services.news
        epoch = news.membership_epoch
        while True:
            epoch = await news.wait_for_membership(after=epoch, timeout_seconds=RECHECK_SECONDS)
            with suppress(UnavailableError):
                await self._abort_unwelcome(runner)

    async def _abort_unwelcome(self, runner: web.AppRunner) -> None:
        server = runner.server
        if server is None:
            return
        welcome: dict[str, bool] = {}
        for handler in list(server.connections):
            transport = handler.transport
            fingerprint = peer_fingerprint(transport)
            if transport is None or fingerprint is None:
                continue
            if fingerprint not in welcome:
                welcome[fingerprint] = await self._is_welcome(fingerprint)
            if not welcome[fingerprint]:
                # close() would wait for a peer that does not read.
                transport.abort()
                _LOG.info("connection cut off")

    async def _is_welcome(self, fingerprint: str) -> bool:
        try:
            await self._services.directory.resolve(fingerprint, now=now())
        except UnavailableError:
            raise
        except HashshareError:
            return False
        return True


async def listen(
    stack: AsyncExitStack,
    app: web.Application,
    endpoints: Endpoints,
    tls: Callable[[], ssl.SSLContext],
    *,
    name: str,
    shutdown_seconds: float,
) -> tuple[web.AppRunner, int]:
    """Serve an application until ``stack`` ends, and return its runner and the port.

    Args:
        stack: Ends it.
        app: What is served.
        endpoints: Where.
        tls: Gives the context for each new connection.
        name: Of the listener, for the log of this process.
        shutdown_seconds: How long requests may go on once it ends.

    Raises:
        OSError: The address cannot be used.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=KEEPALIVE_SECONDS,
        lingering_time=3,
        shutdown_timeout=shutdown_seconds,
        max_line_size=4096,
        max_field_size=4096,
        handle_signals=False,
    )
    app.on_response_prepare.append(_hide_software)
    # aiohttp logs malformed headers with their values, which may be secret.
    logging.getLogger("aiohttp.server").addFilter(_drop_details)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = TLSSite(runner, tls, name=name)
    port = await site.start(endpoints.host, endpoints.port)
    stack.push_async_callback(site.stop)
    _LOG.info("listening", listener=name, host=endpoints.host, port=port)
    return runner, port


def _application(services: Services, middlewares: Iterable[Middleware]) -> web.Application:
    app = web.Application(middlewares=middlewares)
    app[SERVICES] = services
    return app


async def _hide_software(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop("Server", None)


@asynccontextmanager
async def _following(services: Services) -> AsyncIterator[None]:
    """Keep the news flowing, and wait for the first; keep the trail."""
    tasks = [asyncio.create_task(services.news.run()), asyncio.create_task(services.trail.run())]
    try:
        await services.news.wait_until_known()
        yield
    finally:
        for task in tasks:
            await _cancel(task)


def _drop_details(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | ConnectionError)


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

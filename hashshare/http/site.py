"""A listening socket, with TLS whose certificate can be exchanged while it runs.

aiohttp's own sites have no time limit for the handshake, log no refused certificate, and hold
one SSL context for ever.
"""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog
from aiohttp import web

from hashshare.http.tls import ALERT

_LOG: Final = structlog.get_logger(__name__)

HANDSHAKE_SECONDS: Final = 10.0
SHUTDOWN_SECONDS: Final = 5.0
MAX_PENDING_PER_ADDRESS: Final = 64
BACKLOG: Final = 512
_LINGER_SECONDS: Final = 1.0


class TLSSite:
    """Accepts connections for an aiohttp runner."""

    def __init__(
        self,
        runner: web.AppRunner,
        context: Callable[[], ssl.SSLContext | None],
        *,
        name: str,
        max_connections: int | None = None,
    ) -> None:
        """Take what is needed.

        Args:
            runner: Serves the connections.
            context: Gives the one for the next handshake; None for no TLS.
            name: For the log.
            max_connections: More at once are closed as they come; None for no limit.
        """
        self._runner = runner
        self._context = context
        self._name = name
        self._max_connections = max_connections
        self._listening: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._handshakes: set[asyncio.Task[None]] = set()
        self._pending: Counter[str] = Counter()

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port.

        Raises:
            OSError: The address cannot be used.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(BACKLOG)
            listening.setblocking(False)
        except OSError:
            listening.close()
            raise
        self._listening = listening
        self._accepting = asyncio.create_task(self._accept(listening))
        chosen: int = listening.getsockname()[1]
        return chosen

    async def stop(self) -> None:
        """Accept no more; connections that are up go on."""
        tasks = [task for task in (self._accepting, *self._handshakes) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listening is not None:
            self._listening.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listening)
            except OSError as error:
                # Out of file descriptors, most likely: wait for some to be closed.
                _LOG.warning("accept failed", listener=self._name, reason=str(error))
                await asyncio.sleep(0.1)
                continue
            if self._pending[address[0]] >= MAX_PENDING_PER_ADDRESS or self._is_full():
                connection.close()
                continue
            task = asyncio.create_task(self._handshake(connection, address[0]))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    def _is_full(self) -> bool:
        server = self._runner.server
        if server is None or self._max_connections is None:
            return False
        return len(server.connections) + len(self._handshakes) >= self._max_connections

    async def _handshake(self, connection: socket.socket, address: str) -> None:
        self._pending[address] += 1
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        spare = connection.dup()
        try:
            server = self._runner.server
            if server is None:
                raise RuntimeError("the runner is not set up")
            await self._connect(server, connection)
            _acknowledge_at_once(spare)
        except (OSError, TimeoutError) as error:
            _LOG.warning(
                "tls handshake failed", listener=self._name, peer=address, reason=_reason(error)
            )
            await _send_alert(spare, getattr(error, ALERT, b""))
        finally:
            self._pending[address] -= 1
            spare.close()

    async def _connect(self, server: web.Server, connection: socket.socket) -> None:
        loop, context = asyncio.get_running_loop(), self._context()
        if context is None:
            await loop.connect_accepted_socket(server, connection)
            return
        await loop.connect_accepted_socket(
            server,
            connection,
            ssl=context,
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=SHUTDOWN_SECONDS,
        )


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or type(error).__name__
    return type(error).__name__


async def _send_alert(connection: socket.socket, alert: bytes) -> None:
    """Tell the peer why, and read what it sends until it has heard."""
    if not alert:
        return
    loop = asyncio.get_running_loop()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            await loop.sock_sendall(connection, alert)
            connection.shutdown(socket.SHUT_WR)
            # Unread bytes would make the kernel reset the connection, and destroy the alert.
            while await loop.sock_recv(connection, 65_536):
                pass


def _acknowledge_at_once(connection: socket.socket) -> None:
    # Without tickets the server says nothing after the client's last handshake message; a
    # client that waits for its acknowledgement would wait 40 ms.
    if hasattr(socket, "TCP_QUICKACK"):
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

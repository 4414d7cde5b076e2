"""Asking witnesses that can be reached for their cosignatures.

Each is asked by a task of its own: one that is slow, or away, delays neither the others nor a
publication.

Source: C2SP tlog-witness v1.0.0, "add-checkpoint"; docs/protocol.md, "Witnesses".
"""

import asyncio
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import aiohttp
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from hashshare import __version__
from hashshare.crypto.add_checkpoint import SIZE_TYPE, AddCheckpoint, parse_size
from hashshare.crypto.note import (
    MAX_NOTE_BYTES,
    Checkpoint,
    SignedText,
    parse_checkpoint,
    parse_note,
)
from hashshare.crypto.policy import NamedWitness
from hashshare.errors import HashshareError, RollbackError, TooLargeError, UnavailableError
from hashshare.http.context import now
from hashshare.service.log import LogService
from hashshare.service.news import News
from hashshare.service.registry import RegistryService
from hashshare.service.witnessing import WitnessService

_LOG: Final = structlog.get_logger(__name__)

REFRESH: Final = timedelta(minutes=10)
"""A log that rests is shown again after so long: members then see that nothing is withheld."""
REST_SECONDS: Final = 0.25
IDLE_SECONDS: Final = 10.0
MAX_WAIT_SECONDS: Final = 60.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=15, connect=5)


@dataclass(frozen=True, slots=True)
class WitnessPusher:
    """Keeps the witnesses of the trust policy that have a URL up to date.

    Attributes:
        tls: Which servers are trusted. What a witness signs needs no trust in its server.
    """

    witnessing: WitnessService
    registries: RegistryService
    log: LogService
    news: News
    tls: ssl.SSLContext

    async def run(self) -> None:
        """Ask until cancelled; whom to ask is looked up whenever the log has grown."""
        asking: dict[NamedWitness, asyncio.Task[None]] = {}
        try:
            async with self._connect() as http:
                await self.news.wait_until_known()
                size = -1
                while True:
                    await self._follow_policy(http, asking)
                    size = await self._wait_for_growth(size)
        finally:
            await _cancel(asking.values())

    def _connect(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self.tls),
            timeout=_TIMEOUT,
            # Nothing that an answer says is kept but the cosignature, and none is unpacked.
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=["Accept-Encoding"],
            headers={"User-Agent": f"hashshare/{__version__}", "Content-Type": "text/plain"},
        )

    async def _wait_for_growth(self, size: int) -> int:
        try:
            return await self.news.wait_for_log(after=size, timeout_seconds=IDLE_SECONDS)
        except UnavailableError:
            await asyncio.sleep(REST_SECONDS)
            return size

    async def _follow_policy(
        self, http: aiohttp.ClientSession, asking: "dict[NamedWitness, asyncio.Task[None]]"
    ) -> None:
        try:
            policy = (await self.registries.current()).registry.policy
        except UnavailableError:
            return
        for task in asking.values():
            if task.done():
                # It never ends by itself but by a fault of ours.
                task.result()
        wanted = {witness for witness in (policy.voters if policy else ()) if witness.url}
        for witness in wanted - asking.keys():
            asked = _Asked(self, http, witness)
            asking[witness] = asyncio.create_task(asked.keep_asking())
        gone = [asking.pop(witness) for witness in asking.keys() - wanted]
        await _cancel(gone)


@dataclass(slots=True)
class _Asked:
    """One witness, and what it is known to have seen."""

    pusher: WitnessPusher
    http: aiohttp.ClientSession
    witness: NamedWitness
    seen: int = 0
    last: tuple[Checkpoint, datetime] | None = field(default=None, init=False)

    async def keep_asking(self) -> None:
        """Ask until cancelled, and after a failure more and more seldom."""
        while True:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(HashshareError),
                wait=wait_exponential_jitter(multiplier=0.5, max=MAX_WAIT_SECONDS),
                before_sleep=self._tell,
            ):
                with attempt:
                    await self._ask()
            await asyncio.sleep(REST_SECONDS)

    def _tell(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        _LOG.warning("no cosignature", witness=self.witness.name, reason=str(error))

    async def _ask(self) -> None:
        """Show the witness what is pending, if it has not cosigned that, and keep what it says."""
        news = self.pusher.news
        if self.last is not None:
            await news.wait_for_log(after=self.last[0].size, timeout_seconds=IDLE_SECONDS)
        pending = parse_note(await self.pusher.witnessing.pending(news.log_size, now=now()))
        checkpoint = parse_checkpoint(pending.text)
        if checkpoint.size == 0 or self._has_cosigned(checkpoint):
            return
        shown = SignedText(pending.text, pending.signatures[:1]).encode()
        signed = shown + await self._show(checkpoint, shown)
        await self.pusher.witnessing.cosign(signed, now=now())
        self.seen, self.last = checkpoint.size, (checkpoint, now())

    def _has_cosigned(self, checkpoint: Checkpoint) -> bool:
        return (
            self.last is not None and self.last[0] == checkpoint and now() < self.last[1] + REFRESH
        )

    async def _show(self, checkpoint: Checkpoint, note: bytes) -> bytes:
        """Return the witness's lines; it may have to say once what it has seen."""
        status, kind, answer = await self._post(await self._request(checkpoint, note))
        if status == 409 and kind == SIZE_TYPE:
            seen = parse_size(answer)
            if seen > checkpoint.size:
                # Next time it is asked again what it has seen: nothing can be proven from there.
                self.seen = 0
                raise await self._ahead(seen, checkpoint.size)
            self.seen = seen
            status, kind, answer = await self._post(await self._request(checkpoint, note))
        if status != 200:
            raise UnavailableError(f"it answered {status}")
        return answer

    async def _ahead(self, seen: int, pending: int) -> HashshareError:
        """Return why a witness that has seen more than is pending does not cosign that.

        Another server may have shown it a larger checkpoint of the same log meanwhile; that is
        no rollback.
        """
        size = parse_checkpoint(parse_note(await self.pusher.log.checkpoint()).text).size
        if seen > size:
            return RollbackError(f"it has seen {seen} leaves of this log, which here has {size}")
        return UnavailableError(f"it has seen {seen} leaves already, and {pending} are pending")

    async def _request(self, checkpoint: Checkpoint, note: bytes) -> AddCheckpoint:
        proof: list[bytes] = []
        if 0 < self.seen < checkpoint.size:
            proof = await self.pusher.log.consistency(self.seen, checkpoint.size)
        return AddCheckpoint(self.seen, tuple(proof), note)

    async def _post(self, request: AddCheckpoint) -> tuple[int, str, bytes]:
        url = f"{self.witness.url.rstrip('/')}/add-checkpoint"
        try:
            async with self.http.post(
                url, data=request.encode(), allow_redirects=False
            ) as response:
                body = b""
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > MAX_NOTE_BYTES:
                        raise TooLargeError("its answer is too long")
                return response.status, response.content_type, body
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(f"it cannot be reached: {type(error).__name__}") from error


async def _cancel(tasks: Iterable["asyncio.Task[None]"]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

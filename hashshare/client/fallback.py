"""Pulling from several sources: in their order, each verified alike, and none of them trusted."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from hashshare.client.profile import Profile
from hashshare.client.pull import Pulled, Puller, PullProgress
from hashshare.client.session import Session
from hashshare.client.verify import Verifier
from hashshare.domain.names import HashSetId, ListName
from hashshare.errors import (
    ConflictError,
    EquivocationError,
    FreezeError,
    HashshareError,
    MalformedError,
    NotFoundError,
    PermissionDeniedError,
    ReplicaDamagedError,
    RollbackError,
    TooLargeError,
    UnavailableError,
    VerificationError,
)

ATTEMPTS: Final = 2
"""How often a source is asked, if there is another one."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A source that was passed over.

    Attributes:
        url: Which one.
        error: Why.
    """

    url: str
    error: HashshareError

    @property
    def reason(self) -> str:
        """Say it in a word and with what was found."""
        match self.error:
            case RollbackError() | FreezeError():
                word = "lags"
            case VerificationError() | MalformedError() | TooLargeError() | ConflictError():
                word = "gave what does not hold"
            case NotFoundError() | PermissionDeniedError():
                word = "does not have it for us"
            case _:
                word = "is not to be had"
        return f"{word}: {self.error}"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where one member reads from, the first choice first.

    Attributes:
        verifiers: One for each; they share the replica and the logbook.
        skipped: Sources that were passed over since the pull began.
    """

    verifiers: tuple[Verifier, ...]
    skipped: list[Skipped] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def open(cls, urls: tuple[str, ...], origin: Verifier) -> AsyncIterator["Sources"]:
        """Give sources at these addresses; the server itself when there are none.

        Args:
            urls: Base URLs.
            origin: Verifies what the server gives.
        """
        async with AsyncExitStack() as stack:
            verifiers = []
            for url in urls:
                if url == origin.session.base_url:
                    verifiers.append(origin)
                    continue
                session = Session(url, origin.session.tls, attempts=origin.session.attempts)
                if len(urls) > 1:
                    session.attempts = ATTEMPTS
                await stack.enter_async_context(session)
                verifiers.append(origin.reading_from(session))
            yield cls(tuple(verifiers) or (origin,))

    def believing(self, profile: Profile, tls: ssl.SSLContext) -> "Sources":
        """Return the same sources for a profile that believes another trust document.

        Args:
            profile: That one.
            tls: With the authorities that it trusts.
        """
        for verifier in self.verifiers:
            verifier.session.tls = tls
        verifiers = (
            replace(verifier, profile=profile, follower=replace(verifier.follower, profile=profile))
            for verifier in self.verifiers
        )
        return replace(self, verifiers=tuple(verifiers))

    async def pull(
        self, hash_set: HashSetId, names: list[ListName] | None, progress: PullProgress
    ) -> list[Pulled]:
        """Pull as ``Puller.pull`` does, from the first source that gives what holds.

        Raises:
            EquivocationError: Two histories are signed; no other source is asked.
            HashshareError: As the last source, when none gives it; notes say what each did.
        """
        return await self._first(lambda verifier: Puller(verifier).pull(hash_set, names, progress))

    async def readable(self, *, published: bool) -> list[HashSetId]:
        """Return the hash sets that this member may read, by the registry that the log gives.

        Args:
            published: Only those of which there is a publication.
        """
        history = await self._first(lambda verifier: verifier.history())
        member = self.verifiers[0].profile.member
        found = [] if history.registry is None else history.registry.readable_sets(member)
        return [name for name in found if name in history.publications or not published]

    async def _first(self, read: Callable[[Verifier], Awaitable[T]]) -> T:
        """Return what the first source gives that holds."""
        disputed = b""
        failed: list[Skipped] = []
        for verifier in self.verifiers:
            state = verifier.follower.progress
            state.disputed = b""
            try:
                found = await read(verifier)
            except ReplicaDamagedError:
                raise
            except HashshareError as error:
                if state.is_fork_proven:
                    raise
                disputed = disputed or state.disputed
                failed.append(Skipped(verifier.session.base_url, error))
                continue
            self._remember(failed)
            if disputed:
                is_origin = verifier.session.base_url == verifier.profile.api_url
                await verifier.follower.verify_disputed(disputed, is_origin=is_origin)
            return found
        raise _to_error(failed)

    def _remember(self, failed: list[Skipped]) -> None:
        known = {(skipped.url, type(skipped.error)) for skipped in self.skipped}
        self.skipped.extend(new for new in failed if (new.url, type(new.error)) not in known)

    async def wait_for_news(self, hash_set: HashSetId, *, seconds: int) -> bool:
        """Wait for news at the first source that answers; see ``Verifier.wait_for_news``.

        Raises:
            UnavailableError: None does.
            NotFoundError: None has the hash set.
        """
        for verifier in self.verifiers[:-1]:
            try:
                return await verifier.wait_for_news(hash_set, seconds=seconds)
            except (UnavailableError, NotFoundError, PermissionDeniedError):
                continue
        return await self.verifiers[-1].wait_for_news(hash_set, seconds=seconds)

    async def news_of(
        self, hash_sets: list[HashSetId], *, seconds: int
    ) -> AsyncIterator[HashSetId]:
        """Yield the hash sets with news, as soon as there is any for one of them."""
        waiting = {
            asyncio.create_task(self.wait_for_news(hash_set, seconds=seconds)): hash_set
            for hash_set in hash_sets
        }
        if not waiting:
            await asyncio.sleep(seconds)
            return
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                with suppress(UnavailableError, NotFoundError):
                    if task.result():
                        yield waiting[task]
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


def _to_error(failed: list[Skipped]) -> HashshareError:
    """Return the error to be raised when no source gave what holds.

    What was signed twice and proven by nobody comes first: it must not be taken for an outage.
    """
    chosen = failed[-1]
    for skipped in failed:
        if isinstance(skipped.error, EquivocationError):
            chosen = skipped
            break
    if len(failed) > 1:
        for skipped in failed:
            if skipped is not chosen:
                chosen.error.add_note(f"{skipped.url} {skipped.reason}")
    return chosen.error

"""Telling notices: finding them, posting them, printing them, each once."""

import asyncio
import fcntl
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import aiohttp

from hashshare.cli.output import output
from hashshare.client import Client, Profile
from hashshare.client.logbook import Logbook
from hashshare.client.noticeboard import Notice, Noticeboard, NoticeKind
from hashshare.client.notices import Watchman
from hashshare.client.telling import Webhook, webhook_secret, write_feed
from hashshare.domain.names import format_time
from hashshare.errors import HashshareError, UnavailableError, VerificationError

TERMINAL = "terminal"
EVERY_SECONDS = 60.0


async def tell_notices(
    profile: Profile,
    urls: list[str],
    feed: Path | None,
    kinds: set[NoticeKind],
    *,
    everything: bool,
    watch: bool,
) -> None:
    """Tell what is new, once, or again and again.

    Args:
        profile: Whose notices they are.
        urls: Of webhooks.
        feed: A file for an Atom feed of them.
        kinds: Others are not told.
        everything: Print also what was printed before.
        watch: Go on, once a minute.
    """
    key = webhook_secret(profile.folder / "keys" / "webhook.secret") if urls else b""
    hooks = [Webhook(url, key) for url in urls]
    while True:
        try:
            await _tell(profile, hooks, feed, kinds, everything=everything)
        except UnavailableError as error:
            if not watch:
                raise
            output.say(str(error))
        if not watch:
            return
        await asyncio.sleep(EVERY_SECONDS)


async def _tell(
    profile: Profile,
    hooks: list[Webhook],
    feed: Path | None,
    kinds: set[NoticeKind],
    *,
    everything: bool,
) -> None:
    with ExitStack() as stack:
        stack.enter_context(_alone(profile.folder / "notices.lock"))
        board = Noticeboard.open(profile.folder / "notices.sqlite")
        stack.callback(board.close)
        logbook = Logbook.open(profile.folder / "noticed.sqlite")
        stack.callback(logbook.close)
        found: HashshareError | None = None
        try:
            await _look(profile, logbook, board)
        except (VerificationError, UnavailableError) as error:
            # What is known is told all the same; then the command ends with this.
            found = error
        size = logbook.size()
        if feed is not None:
            write_feed(feed, board.kept(size=size), coalition=profile.coalition,
                       log=profile.trust.log)  # fmt: skip
        await _post(board, hooks, kinds, size=size)
        if not hooks and feed is None:
            shown = board.kept(size=size) if everything else board.untold(TERMINAL, size=size)
            for notice in shown:
                if notice.kind in kinds:
                    _print(notice)
                    board.told(TERMINAL, notice)
        if found is not None:
            raise found


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep others out: what one hears, and has not verified yet, another must not drop."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UnavailableError("another 'hashshare notices' of this profile runs") from error
        yield


async def _look(profile: Profile, logbook: Logbook, board: Noticeboard) -> None:
    async with Client(profile) as client:
        watchman = Watchman(profile, client.session, logbook, board)
        try:
            watchman.begin_at(await client.follow())
            await client.verify_chain()
        except VerificationError as error:
            board.put([watchman.alarm(error)])
            raise
        await watchman.look()


async def _post(
    board: Noticeboard, hooks: list[Webhook], kinds: set[NoticeKind], *, size: int
) -> None:
    failed: UnavailableError | None = None
    async with aiohttp.ClientSession() as http:
        for hook in hooks:
            # One that is away keeps nothing from the others.
            try:
                for notice in board.untold(hook.url, size=size):
                    if notice.kind in kinds:
                        await hook.post(http, notice)
                        board.told(hook.url, notice)
            except UnavailableError as error:
                failed = error
    if failed is not None:
        raise failed


def _print(notice: Notice) -> None:
    fields = {
        "id": notice.id,
        "kind": str(notice.kind),
        "at": format_time(notice.at),
        "text": notice.text,
        **{name: value for name, value in notice.data.items() if name not in {"id", "text"}},
    }
    output.record(fields, text=f"{format_time(notice.at)}  {notice.kind:11}  {notice.text}")
    with suppress(BrokenPipeError):
        sys.stdout.flush()

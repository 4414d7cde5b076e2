"""Commands for mirrors: copies of what members read, which nobody has to trust."""

import asyncio
import signal
import ssl
import sys
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import structlog
import typer

from hashshare.cli.coalition_keys import read_trust
from hashshare.cli.options import Json, ProfileOption, load_profile
from hashshare.cli.output import EXIT_CODES, ending, output, run, shown
from hashshare.cli.server import configure_logging
from hashshare.client.profile import Profile, parse_source
from hashshare.config import ServerSettings, parse_listen
from hashshare.crypto.certificates import Issued
from hashshare.errors import HashshareError, UnavailableError
from hashshare.http import Endpoints
from hashshare.http.tls import api_context
from hashshare.mirror import Mirror, MirrorServer, Synced, SyncProgress
from hashshare.mirror.certificate import issue_certificate, make_request, read_certificate
from hashshare.service.authorities import Authorities

_LOG: Final = structlog.get_logger(__name__)

WARN_BEFORE: Final = timedelta(days=30)

app = typer.Typer(
    name="mirror",
    help="Keep and serve a verified copy of the log and the lists; nobody has to trust it.",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The mirror's folder.")]
Source = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Where the copy is taken from; may be a mirror. [default: the server]"
    ),
]


@app.command(
    epilog=f"Example: hashshare mirror sync copy\n\nExample: hashshare mirror sync copy --watch"
    f"\n\n{EXIT_CODES}"
)
def sync(
    folder: Folder,
    *,
    source: Source = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, until interrupted.")] = False,
    every: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How often, with --watch.")
    ] = 5.0,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Bring the copy up to date: all that this member may read, verified before it is kept.

    What was interrupted goes on. Ends with exit code 3 when the source gives what does not hold;
    the copy stays as it was.
    """
    progress = SyncProgress()

    async def work() -> None:
        async with Mirror.open(load_profile(profile), folder, source=_url(source)) as mirror:
            with shown(lambda: (progress.what, progress.done, progress.total, False)):
                _tell(await mirror.sync(progress))
            while watch:
                await asyncio.sleep(every)
                with suppress(UnavailableError):
                    _tell(await mirror.sync())

    run(work())


@app.command(epilog=f"Example: hashshare mirror serve copy --listen 0.0.0.0:8446\n\n{EXIT_CODES}")
def serve(
    folder: Folder,
    *,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where members reach it.")
    ] = "127.0.0.1:8446",
    source: Source = None,
    every: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="How often it syncs; 0: another process does."),
    ] = 5.0,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Serve the copy to members, over TLS 1.3 with client certificates, until SIGTERM.

    A member gets of it what the registry lets both it and you read.
    """
    configure_logging()
    with ending():
        loaded = load_profile(profile)
    run(_serve(loaded, folder, listen, _url(source), every))


async def _serve(
    profile: Profile, folder: Path, listen: str, source: str | None, every: float
) -> None:
    now = datetime.now(UTC)
    _, issued = read_certificate(folder, now=now)
    if issued.not_after - now < WARN_BEFORE:
        output.say(f"warning: the mirror's certificate ends at {issued.not_after:%Y-%m-%d}")
    host, port = parse_listen(listen)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        mirror = None
        if every:
            mirror = await stack.enter_async_context(Mirror.open(profile, folder, source=source))
        server = await stack.enter_async_context(
            MirrorServer(
                folder,
                operator=profile.member,
                endpoints=Endpoints(host, port),
                tls=_context(folder, profile),
            )
        )
        output.record(
            {"url": server.url, "log": profile.trust.log, "folder": str(folder)},
            text=f"serving a mirror of {profile.trust.log} at {server.url}",
        )
        sys.stdout.flush()
        syncing = asyncio.create_task(_keep_in_sync(mirror, server, every)) if mirror else None
        await stopping.wait()
        if syncing is not None:
            syncing.cancel()
            await asyncio.gather(syncing, return_exceptions=True)


async def _keep_in_sync(mirror: Mirror, server: MirrorServer, every: float) -> None:
    """Sync again and again; whatever is wrong with the source, what is here goes on serving."""
    trust = mirror.profile.trust
    while True:
        try:
            synced = await mirror.sync()
            if synced.received:
                _LOG.debug("synced", size=synced.size)
            if mirror.profile.trust != trust:
                server.tls = _context(mirror.folder, mirror.profile)
                trust = mirror.profile.trust
        except HashshareError as error:
            _LOG.warning("not synced", reason=str(error), kind=type(error).__name__)
        except OSError as error:
            _LOG.error("not synced", reason=str(error))
        await asyncio.sleep(every)


def _context(folder: Path, profile: Profile) -> ssl.SSLContext:
    key, issued = read_certificate(folder, now=datetime.now(UTC))
    return api_context(key=key, certificate=issued.pem, ca=profile.trust.ca)


@app.command(epilog=f"Example: hashshare mirror request copy > mirror.csr\n\n{EXIT_CODES}")
def request(folder: Folder, *, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Make the mirror's key, and print the request for its certificate."""
    with ending():
        text = make_request(folder, member=load_profile(profile).member)
    output.record({"request": text}, text=text.rstrip())


@app.command(
    epilog="Example: hashshare mirror certify coalition mirror.csr --host mirror.example.org "
    f"> mirror-cert.pem\n\n{EXIT_CODES}"
)
def certify(
    coalition: Annotated[Path, typer.Argument(metavar="DIR", help="The coalition's folder.")],
    csr: Annotated[Path, typer.Argument(metavar="REQUEST", help="As mirror request prints it.")],
    *,
    host: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="Under which members reach it; may be repeated."),
    ],
    as_json: Json = False,
) -> None:
    """Issue a mirror's certificate, and print it; for the coalition's operator.

    The server's own names are refused: a mirror must not be taken for the server.
    """
    with ending():
        issued = _certify(coalition, csr.read_text(), host)
    fields = {"certificate": issued.pem, "hosts": host, "not_after": issued.not_after.isoformat()}
    output.record(fields, text=issued.pem.rstrip())


def _certify(coalition: Path, csr: str, hosts: list[str]) -> Issued:
    keys = coalition / "keys"
    settings = ServerSettings.load(coalition)
    # As the server's own: by the CA that every member trusts.
    authority = Authorities(keys, partial(read_trust, coalition)).for_server()
    urls = (settings.public_url, settings.enrol_public_url)
    taken = [urlsplit(url).hostname or "" for url in urls if url]
    taken += Issued.parse((keys / "server-cert.pem").read_bytes()).hosts
    return issue_certificate(authority, csr, hosts=hosts, server_hosts=taken, now=datetime.now(UTC))


def _url(source: str | None) -> str | None:
    with ending():
        return None if source is None else parse_source(source)


def _tell(synced: Synced) -> None:
    output.record(
        {
            "size": synced.size,
            "versions": synced.versions,
            "batches": synced.batches,
            "missing_batches": synced.missing,
            "received_bytes": synced.received,
        },
        text=f"{synced.size:,} leaves, verified; "
        + ", ".join(f"{name}: version {version}" for name, version in synced.versions.items())
        + f" ({synced.batches:,} batches, {synced.received:,} bytes)",
    )
    if synced.missing:
        output.say(f"warning: the source does not have {len(synced.missing)} batches")
    sys.stdout.flush()


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.add_typer(app)

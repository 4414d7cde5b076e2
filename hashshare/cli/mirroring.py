"""Commands for mirrors: copies of what members read, which nobody has to trust."""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hashshare.cli.options import Json, ProfileOption, load_profile
from hashshare.cli.output import EXIT_CODES, ending, output, run, shown
from hashshare.errors import UnavailableError

if TYPE_CHECKING:
    from hashshare.mirror import Synced

# What the commands do is imported where they do it: it takes what talks to the server, and what
# serves, which help does not.

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
    from hashshare.mirror import Mirror, SyncProgress

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
    from hashshare.cli.mirror_server import serve_mirror
    from hashshare.cli.server import configure_logging

    configure_logging()
    with ending():
        loaded = load_profile(profile)
    run(serve_mirror(loaded, folder, listen, _url(source), every))


@app.command(epilog=f"Example: hashshare mirror request copy > mirror.csr\n\n{EXIT_CODES}")
def request(folder: Folder, *, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Make the mirror's key, and print the request for its certificate."""
    from hashshare.mirror.certificate import make_request

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
    from hashshare.cli.mirror_server import certify_mirror

    with ending():
        issued = certify_mirror(coalition, csr.read_text(), host)
    fields = {"certificate": issued.pem, "hosts": host, "not_after": issued.not_after.isoformat()}
    output.record(fields, text=issued.pem.rstrip())


def _url(source: str | None) -> str | None:
    from hashshare.client.profile import parse_source

    with ending():
        return None if source is None else parse_source(source)


def _tell(synced: "Synced") -> None:
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

"""Commands for operators: init, serve."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hashshare.cli.options import Artifacts, Json
from hashshare.cli.output import EXIT_CODES, ending, output

if TYPE_CHECKING:
    from hashshare.cli.server import Listening

# What the commands do is imported where they do it: it takes all of the server, and help does not.

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The coalition's folder.")]


def init(
    folder: Folder,
    coalition: Annotated[str, typer.Option("--coalition", metavar="NAME", help="Its name.")],
    *,
    log: Annotated[
        str | None,
        typer.Option("--log", metavar="ORIGIN", help="Names the log. [default: made from NAME]"),
    ] = None,
    admin: Annotated[str, typer.Option(help="Id of the first admin.")] = "admin",
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the API listens.")
    ] = "127.0.0.1:8443",
    enrol_listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where enrolment listens.")
    ] = "127.0.0.1:8444",
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A name or address under which members reach the server; may be repeated.",
        ),
    ] = None,
    sandbox: Annotated[
        bool, typer.Option(help="Begin with a hash set of made-up hashes, to try everything.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Make a coalition: CA, log key, publisher key, governance key, settings, first admin.

    There is all of it, or none; a folder that is not empty is left as it is.
    """
    from hashshare.cli.coalition import Plan, create_coalition, origin_of

    api_host, api_port = parse_listen_option(listen)
    enrol_host, enrol_port = parse_listen_option(enrol_listen)
    public = host[0] if host else None
    hosts = list(dict.fromkeys([*(host or []), api_host, enrol_host, "localhost", "127.0.0.1"]))
    plan = Plan(
        folder=folder,
        coalition=coalition,
        log=log or origin_of(coalition),
        admin=admin,
        listen=listen,
        enrol_listen=enrol_listen,
        public_url=f"https://{public}:{api_port}" if public else "",
        enrol_public_url=f"https://{public}:{enrol_port}" if public else "",
        hosts=[name for name in hosts if name not in {"0.0.0.0", "::"}],  # noqa: S104 # left out
        sandbox=sandbox,
    )
    with ending():
        profile = create_coalition(plan)
    output.record(
        {
            "folder": str(folder),
            "coalition": coalition,
            "log": plan.log,
            "admin": profile.member,
            "admin_profile": str(profile.folder),
        }
    )
    if not output.as_json:
        output.say(f"start the server: hashshare serve {folder}")
        output.say(f"be its admin:     export HASHSHARE_PROFILE={profile.folder}")


def parse_listen_option(text: str) -> tuple[str, int]:
    """Read an address, or end as misused."""
    from hashshare.config import parse_listen

    with ending():
        return parse_listen(text)


def serve_command(
    folder: Folder,
    *,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="A PostgreSQL database (15 or newer). [default: embedded]"
        ),
    ] = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where the API listens.")
    ] = None,
    enrol_listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where enrolment listens.")
    ] = None,
    artifacts: Artifacts = None,
    publisher: Annotated[
        bool, typer.Option(help="Whether this process may publish; one does at a time.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Serve the API over TLS 1.3 with required client certificates, until SIGTERM."""
    import uvloop

    from hashshare.cli.memory import return_memory
    from hashshare.cli.server import Options, configure_logging, serve

    configure_logging()
    return_memory()
    options = Options(folder, database, listen, enrol_listen, publisher, artifacts)

    def started(listening: "Listening") -> None:
        fields = {
            "api_url": listening.api_url,
            "enrol_url": listening.enrol_url,
            "coalition": listening.coalition,
            "database": listening.database,
        }
        output.record(fields, text=f"serving {listening.coalition} at {listening.api_url}")
        sys.stdout.flush()

    with ending():
        uvloop.run(serve(options, started))


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        epilog="Example: hashshare init coalition --coalition 'Safer Together' "
        f"--host hashes.example.org --listen 0.0.0.0:8443\n\n{EXIT_CODES}"
    )(init)
    app.command(
        "serve",
        epilog="Example: hashshare serve coalition --database postgresql://hashshare@db/hashshare"
        f"\n\n{EXIT_CODES}",
    )(serve_command)

"""The command that tells people what they should hear of."""

from pathlib import Path
from typing import Annotated

import typer

from hashshare.cli.options import Json, ProfileOption, load_profile
from hashshare.cli.output import EXIT_CODES, run
from hashshare.client.noticeboard import NoticeKind


def notices(
    *,
    webhook: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="Post each there, signed, until acknowledged; may be repeated."
        ),
    ] = None,
    feed: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep an Atom feed of them here.")
    ] = None,
    kind: Annotated[
        list[NoticeKind] | None, typer.Option(help="Only this kind; may be repeated.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Print also what was printed before.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, once a minute.")] = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Tell what a person should hear of, once.

    Disputes, changes of the registry, deletions, certificates that end, and alarms; admins also
    hear who waits for approval, and who lags. It is found on this machine and, where the log
    says it, verified; the server posts nothing.
    """
    # Here, since it takes what talks to the server, and help does not.
    from hashshare.cli.telling import tell_notices

    async def work() -> None:
        kinds, loaded = set(kind or NoticeKind), load_profile(profile)
        await tell_notices(loaded, webhook or [], feed, kinds, everything=everything, watch=watch)

    run(work())


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(
        epilog="Example: hashshare notices --webhook https://chat.acme.example/hook --kind alarm "
        f"--kind dispute\n\n{EXIT_CODES}"
    )(notices)

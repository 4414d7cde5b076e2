"""The command for a database that was restored from a backup: recover."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hashshare.cli.options import Artifacts, Json
from hashshare.cli.output import EXIT_CODES, ExitCode, ending, output, shown

if TYPE_CHECKING:
    from hashshare.cli.recover import Recovered


def recover_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The coalition's folder.")],
    *,
    source: Annotated[
        Path,
        typer.Option(
            "--from",
            metavar="PROFILE",
            help="Profile of an admin or auditor, whose server or mirror is read.",
        ),
    ],
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Read that server or mirror instead of the profile's."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The restored database. [default: as in the settings]"),
    ] = None,
    artifacts: Artifacts = None,
    as_json: Json = False,
) -> None:
    """Bring back what a restored database lacks, from another server or a mirror.

    Every signature is verified, and that the database holds the beginning of the signed log.
    Run it while no server runs on the database. It may be interrupted and repeated.
    """
    # Here, since it takes all of the server, and help does not.
    import uvloop

    from hashshare.cli.recover import Request, recover
    from hashshare.cli.server import configure_logging
    from hashshare.service.recovery import RecoveryProgress

    configure_logging()
    progress = RecoveryProgress()
    with ending(), shown(lambda: ("recovering", progress.done, progress.total or None, False)):
        recovered = uvloop.run(recover(Request(folder, source, url, database, artifacts), progress))
    _show(recovered)
    if recovered.missing:
        raise typer.Exit(ExitCode.FAILED)


def _show(recovered: "Recovered") -> None:
    output.record(
        asdict(recovered),
        text=f"{recovered.after - recovered.before} leaves were brought back: {recovered.before} "
        f"before, {recovered.after} now; {recovered.batches} batches fetched",
    )
    for missing in recovered.missing:
        why = "" if missing.redacted is None else f"; leaf {missing.redacted} has it deleted"
        output.say(
            f"missing: the batch of leaf {missing.index}, by {missing.member} to "
            f"{missing.hash_set}: {missing.batch}{why}"
        )
    if recovered.missing:
        output.say(
            "nothing was appended; name a profile or a mirror that may read these batches, or "
            "put them back into the blob store"
        )
        return
    output.say(
        "not in the log, and so not brought back: certificates, invitations and revocations since "
        "the backup; members that joined since have to be invited again"
    )


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        "recover",
        epilog="Example: hashshare recover coalition --from coalition/admin "
        f"--url https://mirror.example.org:8443\n\n{EXIT_CODES}",
    )(recover_command)

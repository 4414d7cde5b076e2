"""Commands that hold the server to its word: checkpoint, compare, chain."""

import sys
from typing import Annotated

import typer

from hashshare.cli.options import Json, ProfileOption, load_profile
from hashshare.cli.output import EXIT_CODES, output, run
from hashshare.client import Client
from hashshare.client.compare import Shown

chain = typer.Typer(
    name="chain", help="Your own submissions, as the log has them.", no_args_is_help=True
)


def checkpoint(*, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Print the newest checkpoint that you have verified, to be sent to other members."""

    async def work() -> list[Shown]:
        async with Client(load_profile(profile)) as client:
            return client.comparison.own() or await client.comparison.newest()

    (shown,) = run(work())
    if output.as_json:
        output.record(_fields(shown) | {"note": shown.note.decode()})
        return
    sys.stdout.write(shown.note.decode())


def compare(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|URL...",
            help="Checkpoints or evidence of others, or URLs of servers, witnesses and mirrors.",
        ),
    ],
    *,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Check that you and others were shown one history; exits with 3, and keeps both, if not."""

    async def work() -> list[Shown]:
        async with Client(load_profile(profile)) as client:
            comparison = client.comparison
            shown = comparison.own()
            for source in sources:
                shown += await comparison.read(source)
            return await comparison.verify(shown)

    for shown in run(work()):
        fields = _fields(shown)
        output.record(fields, text=f"{shown.source}: {shown.checkpoint.size} leaves")
    output.say("all of one history")


def _fields(shown: Shown) -> dict[str, object]:
    return {
        "source": shown.source,
        "log": shown.checkpoint.origin,
        "size": shown.checkpoint.size,
        "root": shown.checkpoint.root.hex(),
    }


@chain.command(epilog=f"Example: hashshare chain show --json\n\n{EXIT_CODES}")
def show(*, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Read the log, and show what keys of this profile signed; exits with 3 on a stranger's."""

    async def work() -> None:
        async with Client(load_profile(profile)) as client:
            await client.follow()
            strangers = {s.statement_id for s in client.chain.strangers()}
            for own in client.chain.submissions():
                known = "not made here" if own.statement_id in strangers else "known"
                output.record(
                    {"log_index": own.log_index, "submission": own.statement_id, "known": known},
                    text=f"leaf {own.log_index}: {own.statement_id} {known}",
                )
            await client.verify_chain()

    run(work())


@chain.command(epilog=f"Example: hashshare chain adopt 5f0c…\n\n{EXIT_CODES}")
def adopt(
    submission: Annotated[str, typer.Argument(metavar="ID", help="As chain show names it.")],
    *,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Say that a submission is yours though it was not made here, but on another machine."""

    async def work() -> None:
        async with Client(load_profile(profile)) as client:
            client.chain.adopt(submission)

    run(work())
    output.record({"adopted": submission})


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog=f"Example: hashshare checkpoint > ours.checkpoint\n\n{EXIT_CODES}")(
        checkpoint
    )
    app.command(
        epilog="Example: hashshare compare theirs.checkpoint https://witness.example.org:8451"
        f"\n\n{EXIT_CODES}"
    )(compare)
    app.add_typer(chain)

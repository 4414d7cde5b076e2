"""Commands for witnesses, and for admins who choose them."""

import asyncio
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated

import typer

from hashshare.cli.options import Json, ProfileOption, load_profile
from hashshare.cli.output import EXIT_CODES, output, run
from hashshare.client import Client
from hashshare.client.session import Session
from hashshare.client.witness import WitnessLoop, make_key, open_logbook
from hashshare.crypto.cosignature import WitnessVerifier
from hashshare.crypto.note import Checkpoint
from hashshare.crypto.policy import NamedWitness
from hashshare.errors import PermissionDeniedError, TooManyRequestsError, UnavailableError

app = typer.Typer(
    name="witness",
    help="Witness that the log only grows, so that nobody has to trust the server.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the witness; a member's id.")]
Threshold = Annotated[
    int | None,
    typer.Option(metavar="K", help="How many must cosign. [default: 1 + two thirds of them]"),
]


@app.command(epilog=f"Example: hashshare witness key\n\n{EXIT_CODES}")
def key(*, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Make this member's witness key, and print what an admin needs to know of it."""

    async def work() -> str:
        return str(make_key(load_profile(profile)))

    found = run(work())
    output.record({"key": found}, text=found)


@app.command("run", epilog=f"Example: hashshare witness run --every 1\n\n{EXIT_CODES}")
def run_witness(
    *,
    every: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How often the server is asked.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Cosign once, and end; for cron.")] = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Read the log, verify all of it, and cosign it, until interrupted.

    Ends with exit code 3, and never cosigns again, when the log is not the one it was.
    """

    async def work() -> None:
        loaded = load_profile(profile)
        logbook = open_logbook(loaded)
        try:
            async with Session.of(loaded) as session:
                loop = WitnessLoop(loaded, session, logbook)
                if once:
                    _tell(await loop.step())
                    return
                output.say(f"witnessing {loaded.trust.log} at {loaded.api_url}")
                while True:
                    await _step_patiently(loop)
                    await asyncio.sleep(every)
        finally:
            logbook.close()

    run(work())


async def _step_patiently(loop: WitnessLoop) -> None:
    """Do one step. That the server is away, or no admin has added the witness, will pass."""
    with suppress(UnavailableError, TooManyRequestsError, PermissionDeniedError):
        _tell(await loop.step())
        sys.stdout.flush()


def _tell(seen: Checkpoint | None) -> None:
    if seen is not None:
        fields = {"size": seen.size, "root": seen.root.hex()}
        output.record(fields, text=f"cosigned {seen.size} leaves")


@app.command(epilog=f"Example: hashshare witness add acme acme+1a2b3c4d+BEx…\n\n{EXIT_CODES}")
def add(
    name: Name,
    verifier: Annotated[str, typer.Argument(metavar="KEY", help="As witness key prints it.")],
    *,
    threshold: Threshold = None,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Demand that this witness, and others, have seen what members are shown; for admins."""

    async def work() -> str:
        witness = NamedWitness(name, WitnessVerifier.parse(verifier))
        async with Client(load_profile(profile)) as client:
            return await client.admin.add_witness(witness, threshold, now=datetime.now(UTC))

    _show(run(work()))


@app.command(epilog=f"Example: hashshare witness remove acme\n\n{EXIT_CODES}")
def remove(
    name: Name,
    *,
    threshold: Threshold = None,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Demand a witness's cosignature no more; for admins."""

    async def work() -> str:
        async with Client(load_profile(profile)) as client:
            return await client.admin.remove_witness(name, threshold, now=datetime.now(UTC))

    _show(run(work()))


@app.command(epilog=f"Example: hashshare witness show\n\n{EXIT_CODES}")
def show(*, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Show the trust policy in force: who are witnesses, and how many must cosign."""

    async def work() -> str:
        async with Client(load_profile(profile)) as client:
            return (await client.admin.registry()).witnesses

    _show(run(work()))


def _show(policy: str) -> None:
    output.record({"policy": policy}, text=policy.rstrip() or "no witnesses are demanded")


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.add_typer(app)

"""Commands for witnesses, and for admins who choose them."""

import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hashshare.cli.options import Json, ProfileOption, load_profile, open_client
from hashshare.cli.output import EXIT_CODES, ending, output, run
from hashshare.errors import (
    MalformedError,
    PermissionDeniedError,
    TooManyRequestsError,
    UnavailableError,
)

if TYPE_CHECKING:
    from hashshare.crypto.note import Checkpoint
    from hashshare.witness.loop import WitnessLoop

# What the commands do is imported where they do it: it takes what talks to the server, and what
# serves, which help does not.

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
def key(
    *,
    auditor: Annotated[
        bool, typer.Option("--auditor", help="The key for audit --cosign, which is another one.")
    ] = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Make this member's witness key, and print what an admin needs to know of it."""
    from hashshare.client.audited import make_auditor_key
    from hashshare.witness.loop import make_key

    async def work() -> str:
        make = make_auditor_key if auditor else make_key
        return str(make(load_profile(profile)))

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
    import asyncio

    from hashshare.client.session import Session
    from hashshare.witness.loop import WitnessLoop, open_logbook

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


async def _step_patiently(loop: "WitnessLoop") -> None:
    """Do one step. That the server is away, or no admin has added the witness, will pass."""
    with suppress(UnavailableError, TooManyRequestsError, PermissionDeniedError):
        _tell(await loop.step())
        sys.stdout.flush()


def _tell(seen: "Checkpoint | None") -> None:
    if seen is not None:
        fields = {"size": seen.size, "root": seen.root.hex()}
        output.record(fields, text=f"cosigned {seen.size} leaves")


@app.command(
    "serve",
    epilog="Example: hashshare witness serve --listen 0.0.0.0:8445 --certificate fullchain.pem "
    f"--key privkey.pem\n\n{EXIT_CODES}",
)
def serve(
    *,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the server can reach it.")
    ] = "127.0.0.1:8445",
    certificate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TLS certificate with its chain, PEM.", dir_okay=False),
    ] = None,
    private_key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="Its private key, PEM.")
    ] = None,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Cosign what the server shows, as any log that speaks C2SP tlog-witness can, until SIGTERM.

    Without a certificate it serves plain HTTP to its own machine only, for a proxy in front.
    """
    from hashshare.cli.server import configure_logging
    from hashshare.cli.witness_server import LOOPBACK, CertificateFiles, serve_witness
    from hashshare.config import parse_listen

    with ending():
        host, port = parse_listen(listen)
        files = None
        if certificate is not None and private_key is not None:
            files = CertificateFiles(certificate, private_key)
        elif certificate or private_key or host not in LOOPBACK:
            raise MalformedError("it takes both --certificate and --key, or listens on 127.0.0.1")
    configure_logging()

    async def work() -> None:
        await serve_witness(load_profile(profile), host, port, files)

    run(work())


@app.command(
    epilog="Example: hashshare witness add acme acme+1a2b3c4d+BEx… "
    f"--url https://witness.acme.example\n\n{EXIT_CODES}"
)
def add(
    name: Name,
    verifier: Annotated[str, typer.Argument(metavar="KEY", help="As witness key prints it.")],
    *,
    url: Annotated[
        str,
        typer.Option(metavar="URL", help="Where the server asks it. [default: it asks itself]"),
    ] = "",
    auditor: Annotated[
        bool,
        typer.Option("--auditor", help="It audits: members are shown that, nothing waits for it."),
    ] = False,
    threshold: Threshold = None,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Demand that this witness, and others, have seen what members are shown; for admins."""
    from hashshare.crypto.cosignature import WitnessVerifier
    from hashshare.crypto.policy import NamedWitness

    async def work() -> str:
        witness = NamedWitness(name, WitnessVerifier.parse(verifier), url)
        now = datetime.now(UTC)
        async with open_client(profile) as client:
            if auditor:
                return await client.admin.add_auditor(witness, now=now)
            return await client.admin.add_witness(witness, threshold, now=now)

    if auditor and (url or threshold is not None):
        raise typer.BadParameter("an auditor has neither --url nor --threshold")

    _show(run(work()))


@app.command(epilog=f"Example: hashshare witness remove acme\n\n{EXIT_CODES}")
def remove(
    name: Name,
    *,
    threshold: Threshold = None,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Demand a witness's cosignature, or show an auditor's, no more; for admins."""

    async def work() -> str:
        async with open_client(profile) as client:
            return await client.admin.remove_witness(name, threshold, now=datetime.now(UTC))

    _show(run(work()))


@app.command(epilog=f"Example: hashshare witness show\n\n{EXIT_CODES}")
def show(*, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Show the trust policy in force: who are witnesses, and how many must cosign."""

    async def work() -> str:
        async with open_client(profile) as client:
            return (await client.admin.registry()).witnesses

    _show(run(work()))


def _show(policy: str) -> None:
    output.record({"policy": policy}, text=policy.rstrip() or "no witnesses are demanded")


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.add_typer(app)

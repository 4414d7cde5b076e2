"""Commands for governance by several admins: who must sign, and signing what waits."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hashshare.cli.options import Json, ProfileOption, load_profile, open_client
from hashshare.cli.output import EXIT_CODES, ending, output, run
from hashshare.crypto.keys import PrivateKey, read_private_key, write_private_key
from hashshare.domain.registry import Keys

if TYPE_CHECKING:
    from hashshare.client.proposal import Proposal
    from hashshare.wire.members import RegistryAppended
    from hashshare.wire.submissions import RedactionDocument

app = typer.Typer(
    name="governance",
    help="Who must sign the admins' acts, and signing those that wait for another admin.",
    no_args_is_help=True,
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="As another admin's command wrote it.")]


@app.command(epilog=f"Example: hashshare governance key\n\n{EXIT_CODES}")
def key(*, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Print this profile's governance key, which is made if there is none; it governs once set."""
    with ending():
        path = load_profile(profile).sub_folder("keys") / "governance.pem"
        if not path.exists():
            write_private_key(path, PrivateKey.generate())
        public = read_private_key(path).public
    output.record({"key": public.text}, text=public.text)


@app.command(epilog=f"Example: hashshare governance show\n\n{EXIT_CODES}")
def show(*, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Show whose signatures an act needs, and how many."""

    async def work() -> Keys:
        async with open_client(profile) as client:
            return (await client.admin.registry()).governance

    governance = run(work())
    output.record({"threshold": governance.threshold, "keys": list(governance.keys)})


@app.command(
    "set",
    epilog=f"Example: hashshare governance set --key KEY1 --key KEY2 --threshold 2\n\n{EXIT_CODES}",
)
def set_governance(
    *,
    keys: Annotated[
        list[str], typer.Option("--key", metavar="KEY", help="Who governs; repeated. Replaces all.")
    ],
    threshold: Annotated[int, typer.Option(min=1, metavar="N", help="How many must sign.")],
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Let these keys govern from now on, so many of them together.

    With a threshold above one a server's copy of a key signs nothing alone: admins approve those
    who enrol (hashshare member approve).
    """
    group = Keys(keys=tuple(keys), threshold=threshold)

    async def work() -> bool:
        async with open_client(profile) as client:
            done = await client.admin.edit(
                lambda registry: registry.with_keys(governance=group),
                reason=f"governance by {threshold} of {len(keys)}",
                now=datetime.now(UTC),
            )
            return done is not None

    output.record({"threshold": threshold, "keys": list(keys), "changed": run(work())})


@app.command(epilog=f"Example: hashshare governance review registry-8.json\n\n{EXIT_CODES}")
def review(file: File, *, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Show what a proposal changes, why, and who has signed it; nothing is signed."""
    _tell(run(_read(file, profile)))


@app.command(epilog=f"Example: hashshare governance sign registry-8.json\n\n{EXIT_CODES}")
def sign(
    file: File,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask on a terminal.")] = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Sign a proposal with this profile's governance key, and put it into force once complete.

    On a terminal it shows what the proposal changes, and asks, first.
    """
    # Here, since it takes what talks to the server, and help does not.
    from hashshare.client.proposal import write_proposal

    asked = not yes and sys.stdin.isatty()
    if asked:
        _tell(run(_read(file, profile)))
        typer.confirm("Sign it?", abort=True, err=True)

    async def work() -> "tuple[Proposal, RegistryAppended | RedactionDocument | None]":
        loaded = load_profile(profile)
        proposal = (await _read(file, profile)).sign(loaded.governance_key())
        write_proposal(file, proposal.encode())
        if proposal.missing:
            return proposal, None
        async with open_client(profile) as client:
            return proposal, await client.admin.send(proposal)

    proposal, done = run(work())
    if not asked:
        _tell(proposal)
    if done is None:
        output.say(f"{proposal.missing} more must sign: send {file} on")
    else:
        output.say(f"{proposal.act} is in force")


async def _read(file: Path, profile: Path | None) -> "Proposal":
    from hashshare.client.proposal import parse_proposal  # here for the reason that sign has

    data = await asyncio.to_thread(file.read_bytes)
    async with open_client(profile) as client:
        current = await client.admin.registry()
        return parse_proposal(data, current, client.admin.governance_after(current))


def _tell(proposal: "Proposal") -> None:
    output.record(
        {
            "act": proposal.act,
            "reason": proposal.reason,
            "signed_by": proposal.signers,
            "missing": proposal.missing,
        }
    )
    for change in proposal.changes():
        fields = {"what": change.what, "before": change.before, "after": change.after}
        output.record(fields, text=f"{change.what}: {change.before} -> {change.after}")


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.add_typer(app)

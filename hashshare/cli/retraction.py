"""Commands on retractions: who was sent a version that still has a hash."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hashshare.cli.options import Json, ProfileOption, open_client
from hashshare.cli.output import EXIT_CODES, output, run
from hashshare.domain.hashes import HashValue

if TYPE_CHECKING:
    from hashshare.wire.lists import PresenceList

app = typer.Typer(
    name="retraction", help="See who still holds what was taken out.", no_args_is_help=True
)


@app.callback()
def _group() -> None:
    """See who still holds what was taken out."""


@app.command(
    epilog="Example: hashshare retraction show csam "
    "sha256:3a7bd3e2360a3d29eea436fcfb7e44c735d117c42d1c1835420b6b9942dd4f1b"
    f"\n\n{EXIT_CODES}"
)
def show(
    hash_set: Annotated[str, typer.Argument(metavar="SET", help="Id of the hash set.")],
    value: Annotated[str, typer.Argument(metavar="HASH", help="As sha256:3a7b…")],
    *,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Tell when a hash left each list, and which members were last sent a version that has it."""

    async def work() -> "PresenceList":
        parsed = HashValue.parse(value)
        async with open_client(profile) as client:
            return await client.admin.presence(hash_set, parsed)

    rows: list[dict[str, Any]] = [
        {
            "list": one.list_name,
            "entered": one.entered,
            "left": one.left,
            "member": holder.member,
            "pulled_version": holder.version,
            "pulled_at": holder.pulled_at,
            "has_it": holder.has_it,
        }
        for one in run(work()).lists
        for holder in one.holders
    ]
    columns = ["list", "entered", "left", "member", "pulled_version", "pulled_at", "has_it"]
    output.table(columns, rows)
    output.say("this is what was sent last; what members did with it is not known to the server")


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.add_typer(app)

"""Taking out all that a member submitted, or a part of it, by an admin's decision."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from hashshare.cli.options import Json, ProfileOption, open_client
from hashshare.cli.output import output, run
from hashshare.cli.previewing import PreviewOption, show_preview
from hashshare.domain.spans import Span, cut_spans

if TYPE_CHECKING:
    from hashshare.client.admin import Edit
    from hashshare.domain.registry import Registry

Key = Annotated[str, typer.Option("--key", metavar="KEYID", help="Only what this key signed.")]


def withdraw_all(
    name: Annotated[str, typer.Argument(metavar="MEMBER", help="Whose submissions.")],
    *,
    reason: Annotated[str, typer.Option(help="Why; goes into the log.")],
    since: Annotated[int, typer.Option(min=0, help="Only from this leaf of the log on.")] = 0,
    key: Key = "",
    submission: Annotated[str, typer.Option(metavar="ID", help="Only this submission.")] = "",
    hash_set: Annotated[str, typer.Option("--hash-set", metavar="SET", help="Only to it.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Let just these count again.")] = False,
    preview: PreviewOption = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Let all that a member submitted count for nothing, or what one key signed since then.

    The log keeps it, and the registry says from where to where it is disregarded. What it had
    replaced or ended does not come back; --undo lets it count again.
    """
    # Here, since it takes what talks to the server, and help does not.
    from hashshare.client.selecting import Selection

    selection = Selection(since, key, submission, hash_set)
    found: list[Span] = []

    def change(registry: "Registry") -> "Registry":
        known = registry.member(name).spans
        spans = cut_spans(known, found) if undo else [*known, *found]
        return registry.with_disregarded(name, spans)

    async def select() -> None:
        async with open_client(profile) as client:
            found.extend(await client.admin.select(name, selection))

    async def put(edit: "Edit") -> bool:
        async with open_client(profile) as client:
            return await client.admin.edit(edit, reason=reason, now=datetime.now(UTC)) is not None

    run(select())
    parts = ", ".join(f"{span.first}-{span.last}" for span in found)
    if preview:
        output.say(f"parts of the log: {parts}")
        show_preview(change, profile=profile)
        return
    output.record({"member": name, "leaves": parts, "undone": undo, "changed": run(put(change))})

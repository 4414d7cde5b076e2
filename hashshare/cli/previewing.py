"""Telling what a change of the registry would do to the lists, before it is made."""

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from hashshare.cli.options import open_client
from hashshare.cli.output import output, run
from hashshare.wire.preview import PreviewChange, PreviewList

if TYPE_CHECKING:
    from hashshare.client.admin import Edit

PreviewOption = Annotated[
    bool,
    typer.Option(
        "--preview", help="Tell what would enter and leave each list, and change nothing."
    ),
]

SHOWN = 10


def put_into_force(
    edit: "Edit",
    *,
    reason: str,
    what: dict[str, object],
    done: str = "changed",
    preview: bool,
    profile: Path | None,
) -> None:
    """Change the registry and say whether that changed anything; or only preview it."""
    if preview:
        show_preview(edit, profile=profile)
        return

    async def work() -> bool:
        async with open_client(profile) as client:
            return await client.admin.edit(edit, reason=reason, now=datetime.now(UTC)) is not None

    output.record(what | {done: run(work())})


def show_preview(
    edit: "Edit", *, profile: Path | None, changes: int = SHOWN, path: Path | None = None
) -> None:
    """Tell what an edit of the registry would make of the lists.

    Args:
        edit: The change.
        profile: The admin's.
        changes: So many changes of each list are shown.
        path: A new file for every change, one JSON object a line; None for none.
    """
    shown: list[PreviewChange] = []
    lists: list[PreviewList] = []

    async def work() -> None:
        with ExitStack() as stack:
            file = None if path is None else stack.enter_context(path.open("xb"))
            async with open_client(profile) as client:
                most = changes if file is None else None
                seen = 0
                async for line in client.admin.preview(edit, most=most):
                    if isinstance(line, PreviewList):
                        lists.append(line)
                    elif isinstance(line, PreviewChange):
                        seen = seen + 1 if shown and shown[-1].list == line.list else 1
                        if seen <= changes:
                            shown.append(line)
                        if file is not None:
                            file.write(msgspec.json.encode(line) + b"\n")

    run(work())
    _show(shown, lists)
    output.say("nothing was changed")


def _show(shown: list[PreviewChange], lists: list[PreviewList]) -> None:
    if output.as_json:
        for line in [*shown, *lists]:
            fields: dict[str, Any] = msgspec.to_builtins(line)
            output.record(fields)
        return
    counts = ["before", "after", "enters", "leaves", "changes"]
    output.table(["list", *counts], [msgspec.to_builtins(line) for line in lists])
    members = [
        {"list": line.list, "member": name, "enters": member.enters, "leaves": member.leaves}
        for line in lists
        for name, member in line.members.items()
    ]
    if members:
        output.table(["list", "member", "enters", "leaves"], members)
    if shown:
        rows = [
            {"op": line.op, "list": line.list, "hash": line.hash, "attributes": _said(line)}
            for line in shown
        ]
        output.table(["op", "list", "hash", "attributes"], rows)


def _said(line: PreviewChange) -> str:
    said = line.before if line.after is None else line.after
    return msgspec.json.encode(said).decode()

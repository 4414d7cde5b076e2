"""Commands for admins and auditors: the audit trail, the transparency report."""

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from hashshare.cli.options import Json, ProfileOption, open_client, parse_moment
from hashshare.cli.output import EXIT_CODES, ending, output, run
from hashshare.domain.trail import TrailKind
from hashshare.pages.formats import ReportFormat

if TYPE_CHECKING:
    from hashshare.wire.report import ReportDocument
    from hashshare.wire.trail import TrailEntryDocument


def trail(
    *,
    member: Annotated[str | None, typer.Option(metavar="NAME", help="Only what it did.")] = None,
    kind: Annotated[TrailKind | None, typer.Option(help="Only entries of this kind.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="A day, or a time like 2026-11-23T10:00:00Z.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="None from here on; a day ends before it.")
    ] = None,
    last: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The newest N, the newest first.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write NDJSON to a new file."),
    ] = None,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Show or export the audit trail: submissions, pulls, admins' acts, refusals."""
    with ending():
        begin = None if since is None else parse_moment(since)
        end = None if until is None else parse_moment(until)

    async def work() -> int:
        count = 0
        async with open_client(profile) as client:
            with _open(out) as file:
                async for entry in client.admin.trail(
                    member=member, kind=kind, since=begin, until=end, last=last
                ):
                    as_line = output.as_json or out is not None
                    file.write((_to_json(entry) if as_line else _to_text(entry)) + "\n")
                    count += 1
        return count

    count = run(work())
    if out is not None:
        output.record({"entries": count, "file": str(out)})
    elif not output.as_json:
        output.say(f"{count} entries")


def report(
    begin: Annotated[
        str,
        typer.Option("--from", metavar="TIME", help="A day, or a time like 2026-11-23T10:00:00Z."),
    ],
    end: Annotated[
        str,
        typer.Option("--to", metavar="TIME", help="Nothing from here on; a day ends before it."),
    ],
    *,
    form: Annotated[
        ReportFormat, typer.Option("--format", help="HTML stands alone, with its charts.")
    ] = ReportFormat.MARKDOWN,
    out: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write to a new file.")
    ] = None,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Make a transparency report: what the coalition did in a time, in numbers."""
    # Here, since templates are slow to import, and help takes none.
    from hashshare.pages.render import render_report

    with ending():
        since, until = parse_moment(begin), parse_moment(end)

    async def work() -> "ReportDocument":
        async with open_client(profile) as client:
            return await client.admin.report(since, until)

    document = run(work())
    if out is None:
        print(document.model_dump_json() if as_json else render_report(document, form).rstrip())
        return
    with out.open("x", encoding="utf-8") as file:
        file.write(render_report(document, form))
    output.record({"report": str(out), "format": form.value})


def _open(out: Path | None) -> AbstractContextManager[TextIO]:
    return nullcontext(sys.stdout) if out is None else out.open("x", encoding="utf-8")


def _to_json(entry: "TrailEntryDocument") -> str:
    return json.dumps(entry.model_dump(mode="json"), separators=(",", ":"))


def _to_text(entry: "TrailEntryDocument") -> str:
    facts = " ".join(f"{name}={value}" for name, value in sorted(entry.facts.items()))
    refused = f"  refused: {entry.problem}" if entry.problem else ""
    line = f"{entry.recorded_at}  {entry.kind:10}  {entry.member or '-':16}  {entry.action}"
    # What admins wrote, such as a reason, must not move the reader's cursor.
    return "".join(c if c.isprintable() else "?" for c in f"{line}{refused}  {facts}".rstrip())


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.command(
        epilog="Example: hashshare trail --member acme --kind refusal --since 2026-11-01"
        f"\n\n{EXIT_CODES}"
    )(trail)
    root.command(
        epilog="Example: hashshare report --from 2026-10-01 --to 2026-11-01 --format html "
        f"--output october.html\n\n{EXIT_CODES}"
    )(report)

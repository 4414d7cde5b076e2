"""Commands that read: pull, lookup, provenance, export, replica."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hashshare.cli.agreeing import warn_of_agreement
from hashshare.cli.options import Json, ProfileOption, SourceOption, load_profile, open_client
from hashshare.cli.output import EXIT_CODES, ExitCode, ending, output, run, shown
from hashshare.client.export import Format, export_parquet, export_text
from hashshare.client.lookup import Finding, look_up
from hashshare.domain.hashes import HashValue
from hashshare.domain.names import ListName, format_time
from hashshare.errors import NotFoundError
from hashshare.replica import ListState, Replica

if TYPE_CHECKING:
    from hashshare.client import Client, Profile
    from hashshare.client.client import Repaired
    from hashshare.client.pull import Pulled
    from hashshare.wire.feedback import FeedbackShown
    from hashshare.wire.submissions import ProvenanceDocument

ListNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="LIST...", help="Such as csam/all/sha256. [default: all]"),
]
OneList = Annotated[str, typer.Argument(metavar="LIST", help="Such as csam/all/sha256.")]

replica = typer.Typer(name="replica", help="Look after the local replica.", no_args_is_help=True)


def pull(
    lists: ListNames = None,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on, as soon as there is news.")
    ] = False,
    source: SourceOption = None,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Bring the replica up to date: verified, or unchanged."""
    # Here, since it takes what talks to the server, and a look-up in the replica does not.
    from hashshare.client.pull import PullProgress

    progress = PullProgress()

    async def work() -> None:
        async with open_client(profile, sources=source or ()) as client:
            if watch:
                async for pulled in client.watch(*(lists or [])):
                    _tell_skipped(client)
                    _tell(pulled)
                    sys.stdout.flush()
                return
            try:
                with shown(lambda: (progress.list_name, progress.done, progress.total, True)):
                    await client.pull(*(lists or []), progress=progress)
            finally:
                # An alarm about one's own keys does not make the lists wrong.
                for pulled in progress.pulled:
                    _tell(pulled)
            _tell_skipped(client)
            if client.old_since is not None:
                moment = format_time(client.old_since)
                output.say(f"warning: witnesses have confirmed nothing since {moment}")
            agreement = client.agreement
            warn_of_agreement(agreement.ends if agreement else None)
            if not progress.pulled:
                output.say("there is nothing to pull yet")

    run(work())


def _tell_skipped(client: "Client") -> None:
    """Say which sources were passed over; once."""
    for skipped in client.skipped:
        output.say(f"warning: {skipped.url} {skipped.reason}; went on with the next source")
    client.skipped.clear()


def _tell(pulled: "Pulled") -> None:
    fields: dict[str, Any] = {
        "list": str(pulled.name),
        "base": pulled.base,
        "version": pulled.version,
        "count": pulled.count,
        "changes": pulled.changes,
        "received_bytes": pulled.received,
    }
    if pulled.base == pulled.version:
        what = "nothing new"
    elif pulled.changes is None:
        what = "snapshot"
    else:
        what = f"{pulled.changes:,} changes"
    output.record(
        fields,
        text=f"{pulled.name}: version {pulled.version}, {pulled.count:,} hashes, verified "
        f"({what}, {pulled.received:,} bytes)",
    )


def lookup(
    list_name: OneList,
    hashes: Annotated[
        list[str], typer.Argument(metavar="HASH...", help="Hex; - reads a hash a line.")
    ],
    *,
    remote: Annotated[
        bool, typer.Option("--remote", help="Ask the server for one bucket, with its proof.")
    ] = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Say whether hashes are in a list; exits with 1 if none is."""
    texts = [line.strip() for line in sys.stdin] if hashes == ["-"] else hashes

    async def work() -> list[Finding]:
        async with open_client(profile) as client:
            return [await client.lookup_remote(list_name, text.lower()) for text in texts]

    if remote:
        findings = run(work())
    else:
        with ending():
            findings = _look_locally(load_profile(profile), list_name, texts)
    for finding in findings:
        _tell_finding(finding)
    if not any(finding.attributes for finding in findings):
        raise typer.Exit(ExitCode.FAILED)


def _look_locally(profile: "Profile", list_name: str, texts: list[str]) -> list[Finding]:
    with _open_replica(profile) as opened:
        return look_up(opened, ListName.parse(list_name), [text.lower() for text in texts])


def _open_replica(profile: "Profile") -> Replica:
    if not profile.replica_path.exists():
        raise NotFoundError("nothing was pulled yet; try: hashshare pull")
    return Replica.open(profile.replica_path, readonly=True)


def _tell_finding(finding: Finding) -> None:
    listed = finding.attributes is not None
    fields: dict[str, Any] = {
        "hash": str(finding.value),
        "list": str(finding.list_name),
        "version": finding.version,
        "listed": listed,
        "attributes": json.loads(finding.attributes) if finding.attributes else None,
    }
    said = finding.attributes.decode() if finding.attributes else "not listed"
    output.record(fields, text=f"{finding.value}  {said}")


def provenance(
    hash_set: Annotated[str, typer.Argument(metavar="SET", help="Id of the hash set.")],
    value: Annotated[str, typer.Argument(metavar="HASH", help="Such as sha256:3a7b….")],
    *,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Show who ever said what of a hash; signatures and places in the log are verified here."""

    async def work() -> "tuple[ProvenanceDocument, list[FeedbackShown]]":
        async with open_client(profile) as client:
            found = await client.provenance(hash_set, value)
            return found, await client.feedback.of_hash(hash_set, HashValue.parse(value))

    found, told = run(work())
    rows: list[dict[str, Any]] = [
        {
            "member": statement.member,
            "verdict": statement.verdict,
            "classification": statement.classification or statement.reason,
            "basis": statement.basis,
            "media": statement.media,
            "accepted_at": statement.accepted_at,
            "log_index": statement.log_index,
            "ended_by": statement.ended_log_index,
            "signature": "verified",
        }
        for statement in found.assertions
    ]
    columns = [
        "member",
        "verdict",
        "classification",
        "basis",
        "accepted_at",
        "log_index",
        "ended_by",
        "signature",
    ]
    output.table(columns, rows)
    if told:
        _tell_feedback(told)


def _tell_feedback(told: "list[FeedbackShown]") -> None:
    """Show what members report that a hash did for them."""
    rows = [one.model_dump(mode="json") | {"verdict": "feedback"} for one in told]
    if not output.as_json:
        print()
        for row in rows:
            row["member"] = row["member"] or f"{row['members']} members"
    columns = ["member", "verdict", "matched", "false positive", "not matched", "first", "last"]
    output.table(columns, rows)


def export(
    list_name: OneList,
    *,
    form: Annotated[
        Format, typer.Option("--format", help="csv, ndjson, parquet, or txt.")
    ] = Format.CSV,
    out: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="A new file. [default: standard output]"),
    ] = None,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Write a list of the replica, for a matcher to eat."""
    with ending():
        if out is not None and out.exists():
            raise FileExistsError(17, "there is such a file already", str(out))
        with _open_replica(load_profile(profile)) as opened:
            count = _export(opened, list_name, form, out)
    if out is not None:
        output.record(
            {"list": list_name, "file": str(out), "count": count},
            text=f"{list_name}: {count:,} hashes written to {out}",
        )


def _export(opened: Replica, list_name: str, form: Format, out: Path | None) -> int:
    with opened.reading() as reading:
        state: ListState = reading.state(list_name)
        chunks = reading.entries(list_name)
        if form is Format.PARQUET:
            if out is None:
                output.say("error: Parquet needs --output FILE")
                raise typer.Exit(ExitCode.MISUSED)
            export_parquet(out, chunks, count=state.count)
            return state.count
        file = sys.stdout.buffer if out is None else out.open("xb")
        try:
            for piece in export_text(chunks, form):
                file.write(piece)
            file.flush()
        finally:
            if out is not None:
                file.close()
        return state.count


@replica.command(epilog=f"Example: hashshare replica check --repair\n\n{EXIT_CODES}")
def check(
    lists: ListNames = None,
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Fetch damaged buckets anew.")] = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Re-hash every bucket of the replica, and heal what is damaged."""

    async def work() -> "list[Repaired]":
        async with open_client(profile) as client:
            names = lists or [state.name for state in client.lists()]
            return [await client.check(name, repair=repair) for name in names]

    results = run(work())
    for one in results:
        output.record(
            {
                "list": one.list_name,
                "buckets": one.buckets,
                "damaged": len(one.damaged),
                "repaired": one.repaired,
            },
            text=f"{one.list_name}: {one.buckets:,} buckets, {len(one.damaged)} damaged, "
            f"{one.repaired} repaired",
        )
    if any(len(one.damaged) > one.repaired for one in results):
        raise typer.Exit(ExitCode.NOT_VERIFIED)


@replica.command("list", epilog=f"Example: hashshare replica list --json\n\n{EXIT_CODES}")
def list_replica(*, profile: ProfileOption = None, as_json: Json = False) -> None:
    """List what the replica holds; asks no server."""
    with (
        ending(),
        _open_replica(load_profile(profile)) as opened,
        opened.reading() as reading,
    ):
        rows: list[dict[str, Any]] = [
            {"list": s.name, "version": s.version, "count": s.count, "root": s.root.hex()}
            for s in reading.lists()
        ]
    output.table(["list", "version", "count", "root"], rows)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(replica)
    app.command(
        epilog="Example: hashshare pull\n\nExample: hashshare pull csam/all/sha256 --watch\n\n"
        "Example: hashshare pull --source https://mirror.example.org:8446"
        f"\n\n{EXIT_CODES}"
    )(pull)
    app.command(
        epilog="Example: hashshare lookup csam/all/sha256 $(sha256sum < file | cut -c1-64)"
        f"\n\n{EXIT_CODES}"
    )(lookup)
    app.command(epilog=f"Example: hashshare provenance csam md5:0123…\n\n{EXIT_CODES}")(provenance)
    app.command(
        epilog="Example: hashshare export csam/all/sha256 --format txt --output list.txt"
        f"\n\n{EXIT_CODES}"
    )(export)

"""Commands that submit: push, withdraw, dispute."""

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hashshare.cli.options import Json, ProfileOption, SetName, open_client
from hashshare.cli.output import EXIT_CODES, ending, output, run, shown
from hashshare.client.sources import Defaults, Reading, read_records
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.policy import Basis, Decision, DisputeReason, Media, parse_words
from hashshare.domain.records import Record, WithdrawRecord
from hashshare.domain.sandbox import SANDBOX, sandbox_records
from hashshare.domain.statements import Operation

if TYPE_CHECKING:
    from hashshare.client.push import PushProgress

Files = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FILE...", help="CSV, NDJSON or Parquet; - for standard input."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="COLUMN=FIELD",
        help="Take COLUMN for an algorithm, hash, id, classification, media, basis or reason.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Read and check, and submit nothing.")]


def push(
    hash_set: SetName,
    files: Files = None,
    *,
    classification: Annotated[str | None, typer.Option(help="For rows that do not say.")] = None,
    media: Annotated[Media | None, typer.Option(help="For rows that do not say.")] = None,
    basis: Annotated[Basis, typer.Option(help="For rows that do not say.")] = Basis.REVIEWED,
    column: Columns = None,
    dry_run: DryRun = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Submit hashes. Running it again submits nothing, and says so."""
    defaults = Defaults(
        Operation.ASSERT,
        classification=classification,
        media=media,
        basis=basis,
        columns=_columns(column),
    )
    _submit(hash_set, files, defaults, dry_run=dry_run, profile=profile)


def withdraw(
    hash_set: SetName,
    files: Files = None,
    *,
    record: Annotated[
        list[str] | None,
        typer.Option("--id", metavar="RECORD", help="One of your record ids; may be repeated."),
    ] = None,
    submission: Annotated[
        str | None, typer.Option(metavar="ID", help="All that you said in one of your submissions.")
    ] = None,
    column: Columns = None,
    dry_run: DryRun = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Take back what you said: of hashes in files, of records by id, or of one submission."""
    defaults = Defaults(Operation.WITHDRAW, columns=_columns(column))
    if submission is not None:
        run(_withdraw_submission(hash_set, submission, dry_run=dry_run, profile=profile))
        return
    extra = [WithdrawRecord(record_id, {}) for record_id in dict.fromkeys(record or [])]
    _submit(hash_set, files, defaults, dry_run=dry_run, profile=profile, extra=extra)


def dispute(
    hash_set: SetName,
    files: Files = None,
    *,
    reason: Annotated[DisputeReason, typer.Option(help="Why they should not be listed.")],
    column: Columns = None,
    dry_run: DryRun = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Say that hashes are wrongly listed; enough disputes take them out of a view."""
    defaults = Defaults(Operation.DISPUTE, reason=reason, columns=_columns(column))
    _submit(hash_set, files, defaults, dry_run=dry_run, profile=profile)


def rule(
    hash_set: SetName,
    files: Files = None,
    *,
    decision: Annotated[
        Decision,
        typer.Option(
            help="keep: disputes until now are settled; remove: in no list, until ruled otherwise."
        ),
    ],
    reason: Annotated[str, typer.Option(help="Why; members can read it.")],
    column: Columns = None,
    dry_run: DryRun = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Decide about hashes, as a reviewer or an admin; a signed statement like all else."""
    with ending():
        words = parse_words(reason)
    defaults = Defaults(Operation.RULE, decision=decision, words=words, columns=_columns(column))
    _submit(hash_set, files, defaults, dry_run=dry_run, profile=profile)


def _submit(
    hash_set: str,
    files: list[Path] | None,
    defaults: Defaults,
    *,
    dry_run: bool,
    profile: Path | None,
    extra: Iterable[Record] = (),
) -> None:
    # Here, since it takes what talks to the server, and help does not.
    from hashshare.client.push import PushProgress

    sources = [None if str(path) == "-" else path for path in files or []]
    given = list(extra)
    if not sources and not given:
        output.say("error: name a file, or - for standard input")
        raise typer.Exit(2)
    reading, progress = Reading(), PushProgress()

    def records() -> Iterable[Record]:
        yield from given
        for source in sources:
            yield from read_records(source, defaults, reading)

    async def work() -> None:
        if dry_run:
            total = sum(1 for _ in records())
            _tell_columns(reading)
            output.record({"records": total, "duplicates": reading.duplicates, "submitted": False})
            return
        async with open_client(profile) as client:
            with shown(
                lambda: (progress.stage, progress.done, progress.total, progress.stage == "sending")
            ):
                await client.push(
                    hash_set, records(), operation=defaults.operation, progress=progress
                )
        _tell_columns(reading)
        tell_pushed(hash_set, defaults.operation, reading, progress)

    run(work())


def _tell_columns(reading: Reading) -> None:
    if reading.columns:
        used = ", ".join(f"{column} as {name}" for column, name in reading.columns.items())
        output.say(f"columns: {used}")
    if reading.respelled:
        output.say(f"{reading.respelled:,} hashes were spelled anew in lower case")
    if reading.duplicates:
        output.say(f"{reading.duplicates:,} rows left out: a row before said the same")


def tell_pushed(
    hash_set: str, operation: Operation, reading: Reading, progress: "PushProgress"
) -> None:
    """Say what submissions came to."""
    total: Counter[str] = Counter()
    for one in progress.pushed:
        total.update(one.counts.model_dump())
    fields: dict[str, Any] = {
        "hash_set": hash_set,
        "records": total["records"] or progress.already_said,
        "hashes": total["hashes"],
        "new": total["new"],
        "known": total["known"],
        "yours_already": total["unchanged"] + progress.already_said,
        "ended": total["ended"],
        "duplicates": reading.duplicates,
        "submissions": [
            {
                "statement_id": p.statement_id,
                "log_index": p.log_index,
                "receipt": str(p.receipt_path),
            }
            for p in progress.pushed
        ],
    }
    if progress.already_said:
        text = f"nothing submitted: all {progress.already_said:,} records were said before"
    elif operation is Operation.WITHDRAW:
        text = f"{total['records']:,} records: {total['ended']:,} statements taken back"
    else:
        text = (
            f"{total['records']:,} records, {total['hashes']:,} hashes: {total['new']:,} new, "
            f"{total['known']:,} known, {total['unchanged']:,} yours already"
        )
        if total["ended"]:
            text += f"; {total['ended']:,} of your earlier statements taken back"
    output.record(fields, text=text)
    for one in progress.pushed:
        output.say(f"receipt: {one.receipt_path}")


async def _withdraw_submission(
    hash_set: str, statement_id: str, *, dry_run: bool, profile: Path | None
) -> None:
    from hashshare.client.push import PushProgress  # here for the reason that _submit has

    async with open_client(profile) as client:
        records = await client.records_of(statement_id)
        taken_back = _to_withdrawals(records)
        if dry_run:
            output.record({"records": len(taken_back), "submitted": False})
            return
        progress = PushProgress()
        await client.push(hash_set, taken_back, operation=Operation.WITHDRAW, progress=progress)
    tell_pushed(hash_set, Operation.WITHDRAW, Reading(), progress)


def _to_withdrawals(records: list[Record]) -> list[Record]:
    taken_back: dict[object, Record] = {}
    for record in records:
        name = getattr(record, "record", "")
        if name:
            taken_back[name] = WithdrawRecord(name, {})
        else:
            for algorithm, value in record.hashes.items():
                taken_back[algorithm, value] = WithdrawRecord("", {algorithm: value})
    return list(taken_back.values())


def _columns(options: list[str] | None) -> dict[str, str]:
    columns = {}
    for option in options or []:
        name, separator, kind = option.partition("=")
        if not separator:
            output.say(f"error: write --column COLUMN=FIELD, not {option!r:.80}")
            raise typer.Exit(2)
        columns[name] = kind
    return columns


def sandbox(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A new CSV file.")],
    *,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="So many made-up items.")] = 100,
    first: Annotated[
        int, typer.Option(min=0, max=10**9, help="Number of the first; below 100 are there.")
    ] = 50,
    as_json: Json = False,
) -> None:
    """Write made-up hashes to a file, for trying push, dispute and withdraw in the sandbox."""
    with ending(), path.open("x", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", *HashAlgorithm, "classification", "media"])
        for made in sandbox_records(first, count):
            values = [made.hashes[algorithm].hex() for algorithm in HashAlgorithm]
            rows.writerow([made.record, *values, made.classification, made.media])
    output.record({"file": str(path), "items": count}, text=f"{path}: {count} made-up items")
    if not output.as_json:
        output.say(f"try: hashshare push {SANDBOX} {path}")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        epilog="Example: hashshare push csam hashes.csv --classification A1\n\n"
        f"Example: zcat hashes.csv.gz | hashshare push csam - --dry-run\n\n{EXIT_CODES}"
    )(push)
    app.command(
        epilog="Example: hashshare withdraw csam mistakes.csv\n\n"
        f"Example: hashshare withdraw csam --id case-7/img-2\n\n{EXIT_CODES}"
    )(withdraw)
    app.command(epilog=f"Example: hashshare dispute csam wrong.csv --reason adult\n\n{EXIT_CODES}")(
        dispute
    )
    app.command(
        epilog="Example: hashshare rule csam wrong.csv --decision remove --reason 'adults, seen'"
        f"\n\n{EXIT_CODES}"
    )(rule)
    app.command(
        epilog="Example: hashshare sandbox try.csv && hashshare push sandbox try.csv"
        f"\n\n{EXIT_CODES}"
    )(sandbox)

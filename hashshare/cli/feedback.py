"""The command that reports what hashes did for a member."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hashshare.cli.options import Json, ProfileOption, SetName, open_client
from hashshare.cli.output import EXIT_CODES, ExitCode, ending, output, run, shown
from hashshare.domain.feedback import MAX_COUNT, Counts, Month

if TYPE_CHECKING:
    from hashshare.client.feedback import FeedbackProgress

Number = Annotated[
    int | None, typer.Option(min=0, max=MAX_COUNT, help="Of the whole hash set, without FILE.")
]


def feedback(
    hash_set: SetName,
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="CSV: algorithm,hash,matched,false_positive,not_matched. Without it, the total.",
        ),
    ] = None,
    *,
    period: Annotated[str, typer.Option(metavar="MONTH", help="Such as 2026-11.")],
    matched: Number = None,
    false_positive: Number = None,
    not_matched: Number = None,
    named: Annotated[
        bool, typer.Option("--named", help="Let these counts be shown with your name.")
    ] = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Report what hashes did for you in a month; others see sums, and not whose they are.

    A report takes the place of an earlier one of the same hash and month; zeros take it back.
    """
    # Here, since it takes what talks to the server, and help does not.
    from hashshare.client.feedback import FeedbackProgress, read_counts, verify_counts

    numbers = (matched, false_positive, not_matched)
    if (path is None) == (numbers == (None, None, None)):
        output.say("error: give a FILE, or --matched, --false-positive and --not-matched")
        raise typer.Exit(ExitCode.MISUSED)
    with ending():
        month = Month.parse(period)
        rows = None if path is None else verify_counts(path)
    total = Counts(*(number or 0 for number in numbers))
    progress = FeedbackProgress()

    async def work() -> None:
        async with open_client(profile) as client:
            if path is None:
                await client.feedback.report_total(hash_set, month, total, named=named)
                return
            with shown(lambda: ("sending", progress.done, rows, False)):
                await client.feedback.report(
                    hash_set, month, read_counts(path), named=named, progress=progress
                )

    run(work())
    _tell(hash_set, month, progress, None if rows is not None else total)


def _tell(hash_set: str, month: Month, progress: "FeedbackProgress", total: Counts | None) -> None:
    counts = progress.counts if total is None else total
    hashes = None if total is not None else progress.done
    said = f"{counts.matched:,} matched, {counts.false_positive:,} false positives, "
    said += f"{counts.not_matched:,} not matched"
    of = "in total" if hashes is None else f"{hashes:,} hashes"
    output.record(
        {
            "hash_set": hash_set,
            "period": str(month),
            "hashes": hashes,
            "known": None if hashes is None else progress.known,
            "matched": counts.matched,
            "false_positive": counts.false_positive,
            "not_matched": counts.not_matched,
        },
        text=f"{hash_set} {month}, {of}: {said}",
    )
    if hashes is not None and progress.known is not None and progress.known < hashes:
        output.say(f"{hashes - progress.known:,} hashes left out: {hash_set} does not know them")
    if counts.false_positive:
        output.say(
            f"hint: what is listed wrongly leaves the lists by: hashshare dispute {hash_set} FILE"
        )


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.command(
        epilog="Example: hashshare feedback csam october.csv --period 2026-10\n\n"
        "Example: hashshare feedback csam --period 2026-10 --matched 120 --false-positive 2"
        f"\n\n{EXIT_CODES}"
    )(feedback)

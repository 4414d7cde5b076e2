"""Commands that hold the server to its word: checkpoint, compare, audit, chain and others."""

import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from hashshare.cli.options import Json, ProfileOption, load_profile, open_client
from hashshare.cli.output import EXIT_CODES, ExitCode, ending, output, run, shown
from hashshare.client.start_over import set_aside
from hashshare.domain.names import format_time
from hashshare.errors import UnavailableError

if TYPE_CHECKING:
    from hashshare.client.audited import Audited
    from hashshare.client.compare import Shown
    from hashshare.client.findings import Report

chain = typer.Typer(
    name="chain", help="Your own submissions, as the log has them.", no_args_is_help=True
)


def checkpoint(*, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Print the newest checkpoint that you have verified, to be sent to other members."""

    async def work() -> "tuple[Shown, list[Audited]]":
        async with open_client(profile) as client:
            (newest,) = client.comparison.own() or await client.comparison.newest()
            audits: list[Audited] = []
            # What was verified is shown also when the server cannot be asked who audited it.
            with suppress(UnavailableError):
                audits = await client.audits()
            return newest, audits

    newest, audits = run(work())
    if output.as_json:
        audited = {"audits": [audit_fields(audit) for audit in audits]}
        output.record(_fields(newest) | {"note": newest.note.decode()} | audited)
        return
    sys.stdout.write(newest.note.decode())
    for audit in audits:
        output.say(f"{audit.auditor}: {audit_text(audit)}")


def audit_fields(audit: "Audited") -> dict[str, object]:
    """Return what an auditor vouches for as JSON has it."""
    checkpoint = audit.checkpoint
    fields = {"auditor": audit.auditor, "size": checkpoint.size, "root": checkpoint.root.hex()}
    return fields | {"audited_at": format_time(audit.at)}


def audit_text(audit: "Audited") -> str:
    """Return what an auditor vouches for as people read it."""
    return f"audited {audit.checkpoint.size:,} leaves at {format_time(audit.at)}"


def compare(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|URL...",
            help="Checkpoints or evidence of others, or URLs of servers, witnesses and mirrors.",
        ),
    ],
    *,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Check that you and others were shown one history; exits with 3, and keeps both, if not."""

    async def work() -> "list[Shown]":
        async with open_client(profile) as client:
            comparison = client.comparison
            found = comparison.own()
            for source in sources:
                found += await comparison.read(source)
            return await comparison.verify(found)

    for found in run(work()):
        text = f"{found.source}: {found.checkpoint.size} leaves"
        output.record(_fields(found), text=text)
    output.say("all of one history")


def _fields(found: "Shown") -> dict[str, object]:
    return {
        "source": found.source,
        "log": found.checkpoint.origin,
        "size": found.checkpoint.size,
        "root": found.checkpoint.root.hex(),
    }


def audit(
    *,
    again: Annotated[
        bool, typer.Option("--again", help="Begin anew, not where the last audit ended.")
    ] = False,
    cosign: Annotated[
        bool,
        typer.Option("--cosign", help="If all agrees, say so to all members, under your name."),
    ] = False,
    source: Annotated[
        str | None, typer.Option(metavar="URL", help="A mirror. [default: the server]")
    ] = None,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Replay the log and its batches, and compare every published list.

    Exits with 3 if one differs, or a batch that you may read is not shown or not the signed one.
    Signatures and chains are verified for all; lists, where you may read every batch: auditors
    and admins may. What was done is kept below the profile, so that it goes on after an
    interruption. With --cosign an audit that could compare every list, and agrees, is
    vouched for with the key of witness key --auditor.
    """

    async def work() -> "Report":
        # Here, since it takes what talks to the server, and help does not.
        from hashshare.client.audited import auditor_of, cosign_report

        url = source or load_profile(profile).api_url
        async with open_client(profile, sources=[url]) as client:
            auditor = client.auditor
            # Before the work that it may take hours to do.
            key = auditor_of(client.profile) if cosign else None
            if again:
                auditor.delete()
            progress = auditor.progress
            with shown(
                lambda: (f"{progress.records:,} records", progress.leaf, progress.size, False)
            ):
                report = await auditor.audit()
            if key is not None and report.is_complete:
                await cosign_report(key, client.session, report, now=datetime.now(UTC))
            return report

    report = run(work())
    cosigned = cosign and report.is_complete
    if output.as_json:
        output.record(report.to_fields() | ({"cosigned": cosigned} if cosign else {}))
    else:
        _tell_report(report)
    if cosign:
        done = f"cosigned {report.size:,} leaves" if cosigned else "not cosigned: see above"
        output.say(done)
    if report.accuses:
        raise typer.Exit(ExitCode.NOT_VERIFIED)


def _tell_report(report: "Report") -> None:
    from hashshare.client.findings import Verdict  # here, as the work that finds is

    output.say(
        f"{report.log}: {report.size:,} leaves, {report.submissions:,} submissions,"
        f" {report.records:,} records"
    )
    for name, standing in sorted(report.hash_sets.items()):
        if standing.verdict is Verdict.AGREED:
            output.say(f"{name}: agreed up to version {standing.agreed_version}")
            continue
        output.say(
            f"{name}: {standing.verdict} at leaf {standing.leaf} ({standing.statement_id[:16]}…):"
            f" {standing.reason}; agreed up to version {standing.agreed_version}"
        )
        for list_name, buckets in sorted(standing.differing.items()):
            where = ", ".join(map(str, buckets[:20])) or "not known"
            output.say(f"  {list_name}: buckets {where}")
    for batch in report.redactions:
        output.say(f"redacted: batch {batch}")


def redact(
    leaf: Annotated[int, typer.Argument(metavar="LEAF", help="Of the submission, in the log.")],
    *,
    reason: Annotated[str, typer.Option(help="Why; it is written into the log.")],
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Have a batch deleted because the law demands it; for admins.

    The log stays whole and says what was deleted, and why. What the batch asserts must be
    withdrawn before. What members have pulled, they have.
    """

    async def work() -> int:
        async with open_client(profile) as client:
            done = await client.admin.redact(leaf, reason=reason, now=datetime.now(UTC))
            return done.log_index

    output.record({"redacted_leaf": leaf, "log_index": run(work())})


def start_over(*, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Set aside what was seen of the log and the lists, so that the next pull begins anew.

    For a member that believed a fork, and so refuses the log that the others see: first settle
    with them, by hashshare compare, which one that is. Keys, receipts and evidence stay.
    """
    with ending():
        kept = set_aside(load_profile(profile))
    output.record({"kept": str(kept)}, text=f"what was seen is kept in {kept}; now: hashshare pull")


@chain.command(epilog=f"Example: hashshare chain show --json\n\n{EXIT_CODES}")
def show(*, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Read the log, and show what keys of this profile signed; exits with 3 on a stranger's."""

    async def work() -> None:
        async with open_client(profile) as client:
            await client.follow()
            strangers = {s.statement_id for s in client.chain.strangers()}
            for own in client.chain.submissions():
                known = "not made here" if own.statement_id in strangers else "known"
                output.record(
                    {"log_index": own.log_index, "submission": own.statement_id, "known": known},
                    text=f"leaf {own.log_index}: {own.statement_id} {known}",
                )
            await client.verify_chain()

    run(work())


@chain.command(epilog=f"Example: hashshare chain adopt 5f0c…\n\n{EXIT_CODES}")
def adopt(
    submission: Annotated[str, typer.Argument(metavar="ID", help="As chain show names it.")],
    *,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Say that a submission is yours though it was not made here, but on another machine."""

    async def work() -> None:
        async with open_client(profile) as client:
            client.chain.adopt(submission)

    run(work())
    output.record({"adopted": submission})


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog=f"Example: hashshare checkpoint > ours.checkpoint\n\n{EXIT_CODES}")(
        checkpoint
    )
    app.command(
        epilog="Example: hashshare compare theirs.checkpoint https://witness.example.org:8451"
        f"\n\n{EXIT_CODES}"
    )(compare)
    app.command(epilog=f"Example: hashshare audit --cosign --json > audit.json\n\n{EXIT_CODES}")(
        audit
    )
    app.command(
        epilog=f"Example: hashshare redact 4711 --reason 'court order 7/2026'\n\n{EXIT_CODES}"
    )(redact)
    app.command("start-over", epilog=f"Example: hashshare start-over\n\n{EXIT_CODES}")(start_over)
    app.add_typer(chain)

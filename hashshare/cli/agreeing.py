"""Commands for agreements: what a member has accepted, and whether reading takes it."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hashshare.cli.options import Json, ProfileOption, open_client, parse_moment
from hashshare.cli.output import EXIT_CODES, ending, output, run
from hashshare.domain.agreements import WARN_BEFORE, Agreement
from hashshare.domain.names import format_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashshare.domain.registry import Registry


def record_agreement(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The member's id.")],
    *,
    text: Annotated[
        Path, typer.Option(metavar="FILE", help="The text; only its SHA-256 is recorded.")
    ],
    signed_by: Annotated[str, typer.Option(help="Who signed for the member, in what office.")],
    until: Annotated[
        str, typer.Option(metavar="TIME", help="Reading stops then: a day, or a time.")
    ],
    signed_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it was signed. [default: now]")
    ] = None,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Record which text a member has accepted, in place of the one before; for admins.

    It stands in the registry, signed by governance. Thirty days before its end the member is warned
    by pull and status, and it and the admins by notices.
    """
    now = datetime.now(UTC)
    with ending():
        agreement = Agreement(
            text=hashlib.sha256(text.read_bytes()).hexdigest(),
            signed_by=signed_by,
            signed_at=format_time(parse_moment(signed_at) if signed_at else now),
            until=format_time(parse_moment(until)),
        )
    changed = _edit(
        lambda registry: registry.with_agreement(name, agreement),
        f"agreement of {name} until {agreement.until}",
        profile,
    )
    output.record(
        {
            "member": name,
            "text": agreement.text,
            "signed_by": agreement.signed_by,
            "signed_at": agreement.signed_at,
            "until": agreement.until,
            "changed": changed,
        }
    )


def require_agreement(
    *,
    off: Annotated[bool, typer.Option("--off", help="Let members read without one.")] = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Let members read only with an agreement that is recorded; the sandbox takes none."""
    reason = f"agreements are {'not ' if off else ''}required"
    changed = _edit(lambda registry: registry.with_agreement_required(not off), reason, profile)
    output.record({"agreement_required": not off, "changed": changed})


def warn_of_agreement(until: datetime | None) -> None:
    """Say that reading stops soon, or has stopped."""
    if until is not None and until - datetime.now(UTC) < WARN_BEFORE:
        output.say(f"warning: your agreement ends on {format_time(until)}, and reading with it")


def _edit(edit: "Callable[[Registry], Registry]", reason: str, profile: Path | None) -> bool:
    async def work() -> bool:
        async with open_client(profile) as client:
            done = await client.admin.edit(edit, reason=reason, now=datetime.now(UTC))
            return done is not None

    return run(work())


def register(app: typer.Typer) -> None:
    """Add the commands to those about members."""
    app.command(
        "agreement",
        epilog="Example: hashshare member agreement acme --text terms.pdf --signed-by 'Jo Doe, "
        f"General Counsel' --until 2027-12-01\n\n{EXIT_CODES}",
    )(record_agreement)
    app.command(
        "require-agreement",
        epilog=f"Example: hashshare member require-agreement\n\n{EXIT_CODES}",
    )(require_agreement)

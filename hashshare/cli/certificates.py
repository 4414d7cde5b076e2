"""Commands for members on their own certificates: for scripts and data centres."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hashshare.cli.options import Json, ProfileOption, open_client
from hashshare.cli.output import EXIT_CODES, output, run
from hashshare.domain.names import parse_time
from hashshare.domain.scopes import Scope, ScopeKind

if TYPE_CHECKING:
    from hashshare.domain.joining import Invitation
    from hashshare.wire.members import CertificateDocument

app = typer.Typer(
    name="certificate",
    help="Give scripts and data centres certificates of their own, and revoke them one at a time.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Tells it apart from your others.")]


@app.command(
    epilog="Example: hashshare certificate add eu-west --scope pull --hash-set csam "
    f"--output eu-west.invitation\n\n{EXIT_CODES}"
)
def add(
    name: Name,
    *,
    scope: Annotated[ScopeKind, typer.Option(help="What it is for.")] = ScopeKind.PULL,
    hash_set: Annotated[
        list[str] | None, typer.Option(metavar="SET", help="May be repeated. [default: all]")
    ] = None,
    hours: Annotated[int, typer.Option(help="How long the invitation is valid.")] = 72,
    out: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write the invitation to a new file."),
    ] = None,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Invite a script of your own: it enrols once, with keys of its own, and does only this."""
    chosen = Scope(scope, tuple(sorted(set(hash_set))) if hash_set else None)

    async def work() -> "tuple[Invitation, str]":
        async with open_client(profile) as client:
            return await client.certificates.add(name, chosen, hours=hours)

    invitation, expires_at = run(work())
    if out is not None:
        with out.open("x") as file:
            out.chmod(0o600)
            file.write(f"{invitation}\n")
    output.record(
        {
            "certificate": name,
            "scope": str(chosen),
            "invitation": str(invitation),
            "expires_at": expires_at,
        },
        text=str(invitation) if out is None else str(out),
    )
    if not output.as_json:
        output.say(f"{chosen}; it works once, until {expires_at}")
        output.say(f"there: hashshare enrol {out.name if out else 'INVITATION'} --profile DIR")


@app.command("list", epilog=f"Example: hashshare certificate list --json\n\n{EXIT_CODES}")
def list_certificates(*, profile: ProfileOption = None, as_json: Json = False) -> None:
    """List your certificates: names, scopes, days left, when each was last used."""

    async def work() -> "list[CertificateDocument]":
        async with open_client(profile) as client:
            return await client.certificates.list()

    rows = [_to_row(certificate, datetime.now(UTC)) for certificate in run(work())]
    columns = ["name", "scope", "status", "days_left", "last_seen_at", "fingerprint"]
    output.table(columns, rows)


@app.command(
    epilog=f"Example: hashshare certificate revoke eu-west --reason 'moved'\n\n{EXIT_CODES}"
)
def revoke(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Its name, or how its fingerprint begins.")
    ],
    *,
    reason: Annotated[
        str, typer.Option(help="Why; it is written into the log.")
    ] = "revoked by its member",
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Cut off one of your certificates, and the submission key that came with it."""

    async def work() -> tuple[int, bool]:
        async with open_client(profile) as client:
            return await client.certificates.revoke(name, reason=reason)

    revoked, retired = run(work())
    output.record({"certificate": name, "revoked": revoked, "keys_retired": retired})
    if not retired:
        output.say("an admin has to retire its submission key: hashshare member retire-key")


def _to_row(certificate: "CertificateDocument", now: datetime) -> dict[str, Any]:
    scope = certificate.scope
    shown = None
    if scope is not None:
        sets = None if scope.hash_sets is None else tuple(scope.hash_sets)
        shown = str(Scope(ScopeKind(scope.kind), sets))
    days_left = (parse_time(certificate.not_after) - now).days
    status = "revoked" if certificate.revoked_at else "expired" if days_left < 0 else "valid"
    return {
        "name": certificate.label or "-",
        "scope": shown or "all that you may",
        "status": status,
        "days_left": max(days_left, 0),
        "last_seen_at": certificate.last_seen_at,
        "fingerprint": certificate.fingerprint[:16],
    }


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.add_typer(app)

"""Commands for admins: invite members, look at them, suspend and revoke them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from hashshare.cli import agreeing
from hashshare.cli.options import Json, ProfileOption, open_client
from hashshare.cli.output import EXIT_CODES, output, run
from hashshare.cli.withdrawing import withdraw_all
from hashshare.crypto.keys import PublicKey
from hashshare.domain.members import Member, Role, Status
from hashshare.errors import AlreadyExistsError, NotFoundError

if TYPE_CHECKING:
    from hashshare.wire.members import InvitationMade, MemberDocument

app = typer.Typer(
    name="member",
    help="Invite members, look at them, suspend and revoke them.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The member's id.")]
Reason = Annotated[str, typer.Option(help="Why; it is written into the log.")]


@app.command(
    epilog="Example: hashshare member invite acme --role contributor --title 'ACME Ltd'"
    f"\n\n{EXIT_CODES}"
)
def invite(
    name: Name,
    *,
    title: Annotated[str | None, typer.Option(help="Full name. [default: NAME]")] = None,
    role: Annotated[
        list[Role] | None, typer.Option(help="May be repeated. [default: contributor and reader]")
    ] = None,
    trial: Annotated[
        bool, typer.Option("--trial", help="Without any role: it may use the sandbox only.")
    ] = False,
    jurisdiction: Annotated[str, typer.Option(metavar="CC", help="Country, two letters.")] = "",
    hours: Annotated[int, typer.Option(help="How long the invitation is valid.")] = 72,
    label: Annotated[str, typer.Option(help="Tells certificates of one member apart.")] = "",
    out: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write the invitation to a new file."),
    ] = None,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Invite an organization; a member that exists is invited once more, for another machine."""
    roles = () if trial else tuple(sorted(set(role or [Role.CONTRIBUTOR, Role.READER])))

    async def work() -> "InvitationMade":
        async with open_client(profile) as client:
            registry = await client.admin.registry()
            if name not in registry.members:
                member = Member(name=title or name, jurisdiction=jurisdiction, roles=roles)
                await client.admin.put_member(name, member, new=True, now=datetime.now(UTC))
            elif role or title or jurisdiction or trial:
                raise AlreadyExistsError(f"member {name} exists; change it with member set")
            return await client.admin.invite(name, label=label, hours=hours)

    made = run(work())
    if out is not None:
        with out.open("x") as file:
            out.chmod(0o600)
            file.write(made.invitation + "\n")
    output.record(
        {
            "member": name,
            "invitation": made.invitation,
            "invitation_id": made.invitation_id,
            "expires_at": made.expires_at,
        },
        text=made.invitation if out is None else str(out),
    )
    if not output.as_json:
        output.say(f"it works once, until {made.expires_at}; send it over a channel you trust")
        output.say(f"they run: hashshare enrol {out.name if out else 'INVITATION'}")


@app.command("list", epilog=f"Example: hashshare member list --json\n\n{EXIT_CODES}")
def list_members(*, profile: ProfileOption = None, as_json: Json = False) -> None:
    """List all members."""

    async def work() -> "list[MemberDocument]":
        async with open_client(profile) as client:
            return (await client.admin.members()).members

    rows: list[dict[str, Any]] = [
        {
            "member": member.member,
            "name": member.name,
            "status": member.status,
            "roles": member.roles,
            "keys": len(member.submission_keys),
            "pending": len(member.pending_keys),
            "submissions": member.chain.sequence,
        }
        for member in run(work())
    ]
    output.table(["member", "name", "status", "roles", "keys", "pending", "submissions"], rows)


@app.command(epilog=f"Example: hashshare member show acme\n\n{EXIT_CODES}")
def show(name: Name, *, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Show one member: keys, certificates, what it pulled."""

    async def work() -> "MemberDocument":
        async with open_client(profile) as client:
            return await client.admin.member(name)

    member = run(work())
    if output.as_json:
        output.record(member.model_dump(mode="json"))
        return
    output.record(
        {
            "member": member.member,
            "name": member.name,
            "jurisdiction": member.jurisdiction or None,
            "status": member.status,
            "roles": member.roles,
            "submissions": member.chain.sequence,
            "submission_keys": member.submission_keys,
            "waiting_for_approval": member.pending_keys,
            "agreement_until": member.agreement and member.agreement.until,
            "agreement_signed_by": member.agreement and member.agreement.signed_by,
            "agreement_text": member.agreement and member.agreement.text,
        }
    )
    for certificate in member.certificates:
        state = f"revoked {certificate.revoked_at}" if certificate.revoked_at else "valid"
        print(f"certificate  {certificate.fingerprint[:16]}  {certificate.label or '-'}  until "
              f"{certificate.not_after}  {state}  last used "
              f"{certificate.last_seen_at or 'never'}")  # fmt: skip
    for pull in member.pulls:
        print(f"pulled  {pull.list_name}  version {pull.version}  {pull.pulled_at}")


@app.command("set", epilog=f"Example: hashshare member set acme --role reader\n\n{EXIT_CODES}")
def set_member(
    name: Name,
    *,
    title: Annotated[str | None, typer.Option(help="Full name.")] = None,
    role: Annotated[list[Role] | None, typer.Option(help="Replaces all; may be repeated.")] = None,
    jurisdiction: Annotated[str | None, typer.Option(metavar="CC", help="Country.")] = None,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Change a member's name, roles or jurisdiction."""

    async def work() -> bool:
        async with open_client(profile) as client:
            known = (await client.admin.registry()).member(name)
            # Not made anew, which would forget its retired keys.
            changed = msgspec.structs.replace(
                known,
                name=title or known.name,
                jurisdiction=known.jurisdiction if jurisdiction is None else jurisdiction,
                roles=known.roles if role is None else tuple(sorted(set(role))),
            )
            done = await client.admin.put_member(name, changed, new=False, now=datetime.now(UTC))
            return done is not None

    output.record({"member": name, "changed": run(work())})


def _set_status(name: str, status: Status, reason: str, profile: Path | None) -> None:
    async def work() -> bool:
        async with open_client(profile) as client:
            done = await client.admin.set_status(name, status, reason=reason, now=datetime.now(UTC))
            return done is not None

    output.record({"member": name, "status": status.value, "changed": run(work())})


@app.command(epilog=f"Example: hashshare member suspend acme --reason 'key lost'\n\n{EXIT_CODES}")
def suspend(
    name: Name,
    *,
    reason: Reason = "suspended by an admin",
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Lock a member out, until it is reinstated; live connections are cut."""
    _set_status(name, Status.SUSPENDED, reason, profile)


@app.command(epilog=f"Example: hashshare member reinstate acme\n\n{EXIT_CODES}")
def reinstate(
    name: Name,
    *,
    reason: Reason = "reinstated by an admin",
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Let a suspended member in again."""
    _set_status(name, Status.ACTIVE, reason, profile)


@app.command(epilog=f"Example: hashshare member revoke acme --certificate 3f2a…\n\n{EXIT_CODES}")
def revoke(
    name: Name,
    *,
    certificate: Annotated[
        str | None, typer.Option(metavar="FINGERPRINT", help="Revoke only this certificate.")
    ] = None,
    reason: Reason = "revoked by an admin",
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Lock a member out for good, or revoke one of its certificates."""
    if certificate is None:
        _set_status(name, Status.REVOKED, reason, profile)
        return

    async def work() -> None:
        async with open_client(profile) as client:
            await client.admin.revoke_certificate(name, certificate, reason=reason)

    run(work())
    output.record({"member": name, "certificate": certificate, "revoked": True})


@app.command(epilog=f"Example: hashshare member approve acme\n\n{EXIT_CODES}")
def approve(name: Name, *, profile: ProfileOption = None, as_json: Json = False) -> None:
    """List the submission keys that a member enrolled, where the server cannot do so itself."""

    async def work() -> bool:
        async with open_client(profile) as client:
            return await client.admin.approve(name, now=datetime.now(UTC)) is not None

    output.record({"member": name, "approved": run(work())})


@app.command(
    epilog="Example: hashshare member retire-key acme 9c1e… --reason 'laptop stolen'"
    f"\n\n{EXIT_CODES}"
)
def retire_key(
    name: Name,
    key_id: Annotated[str, typer.Argument(metavar="KEYID", help="Its id, or its beginning.")],
    *,
    reason: Reason = "retired by an admin",
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Cut a submission key off: what it signed stays, what it signs from now on counts nothing."""

    async def work() -> str:
        async with open_client(profile) as client:
            member = (await client.admin.registry()).member(name)
            keys = [PublicKey.parse(text) for text in member.submission_keys]
            found = [key for key in keys if key.key_id.startswith(key_id)]
            if len(found) != 1:
                raise NotFoundError(f"{len(found)} keys of member {name} begin with {key_id!r:.70}")
            await client.admin.retire_key(name, found[0].text, reason=reason, now=datetime.now(UTC))
            return found[0].key_id

    output.record({"member": name, "retired": run(work())})


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        epilog="Example: hashshare member withdraw-all acme --since 4711 --reason 'key stolen' "
        f"--preview\n\n{EXIT_CODES}"
    )(withdraw_all)
    agreeing.register(app)
    root.add_typer(app)

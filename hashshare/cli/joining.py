"""Commands for members about themselves: enrol, renew, status."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hashshare.cli.agreeing import warn_of_agreement
from hashshare.cli.auditing import audit_fields, audit_text
from hashshare.cli.options import Json, ProfileOption, open_client, profile_folder
from hashshare.cli.output import EXIT_CODES, output, run
from hashshare.domain.names import ListName, parse_time
from hashshare.errors import NotFoundError

if TYPE_CHECKING:
    from hashshare.client import Client
    from hashshare.client.enrol import Joined
    from hashshare.domain.trust import AcceptedPublication

RENEW_DAYS = 30


def enrol(
    invitation: Annotated[
        str, typer.Argument(help="The invitation, a file that holds it, or - for standard input.")
    ],
    *,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Join a coalition: make keys on this machine, have them certified, write a profile.

    Private keys never leave this machine. If the answer is lost, run the same command again.
    """
    # Here, since it takes what talks to the server, and help does not.
    from hashshare.client.enrol import enrol as enrol_member
    from hashshare.domain.joining import Invitation

    folder = profile_folder(profile)

    async def work() -> "Joined":
        return await enrol_member(Invitation.parse(_text_of(invitation)), folder)

    joined = run(work())
    output.record(
        {
            "member": joined.profile.member,
            "coalition": joined.profile.coalition,
            "profile": str(folder),
            "approved": joined.approved,
            "certificate_until": joined.not_after,
        }
    )
    if not joined.approved:
        output.say("an admin has to approve your submission key before you can push")


def renew(
    *,
    submission_key: Annotated[
        bool, typer.Option("--submission-key", help="Replace the key that signs submissions.")
    ] = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Replace the TLS key and certificate by new ones, without an admin; for cron."""

    async def work() -> dict[str, Any]:
        async with open_client(profile) as client:
            if submission_key:
                return {"submission_key_in_force": await client.replace_submission_key()}
            return {"certificate_until": await client.renew()}

    fields = run(work())
    output.record(fields)
    if fields.get("submission_key_in_force") is False:
        output.say("an admin has to approve the new key (member approve); then repeat this")


def status(*, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Show who you are, which lists you may read, and how fresh your replica is."""
    output.record(run(_status(profile)))


async def _status(profile: Path | None) -> dict[str, Any]:
    async with open_client(profile) as client:
        me = await client.whoami()
        held = {state.name: state for state in client.lists()}
        lists: list[dict[str, Any]] = []
        behind = 0
        published: dict[str, AcceptedPublication | None] = {}
        for text in me.lists:
            name = ListName.parse(text)
            if name.hash_set not in published:
                published[name.hash_set] = await _published(client, name)
            news = published[name.hash_set]
            version = 0 if news is None else news.publication.version
            mine = held[text].version if text in held else 0
            behind += version - mine
            lists.append(
                {
                    "list": text,
                    "version": mine,
                    "server_version": version,
                    "count": held[text].count if text in held else 0,
                    "published_at": None if news is None else news.publication.created_at,
                }
            )
        warn_of_agreement(parse_time(me.agreement_until) if me.agreement_until else None)
        left = parse_time(me.certificate.not_after) - datetime.now(UTC)
        if left.days < RENEW_DAYS:
            output.say(f"your certificate ends in {left.days} days: run hashshare renew")
        fields: dict[str, Any] = {
            "member": me.member,
            "name": me.name,
            "coalition": client.profile.coalition,
            "server": client.profile.api_url,
            "roles": me.roles,
            "status": me.status,
            "agreement_until": me.agreement_until,
            "contributes_to": me.contributes_to,
            "submissions": me.chain.sequence,
            "certificate_days_left": left.days,
            "behind": behind,
            "open_cases": await _count_cases(client),
        }
        audits = await client.audits()
        if output.as_json:
            return fields | {"lists": lists, "audits": [audit_fields(audit) for audit in audits]}
        fields |= {audit.auditor: audit_text(audit) for audit in audits}
        return fields | {
            str(entry["list"]): f"version {entry['version']} of {entry['server_version']}, "
            f"{entry['count']:,} hashes, published {entry['published_at'] or 'never'}"
            for entry in lists
        }


async def _count_cases(client: "Client") -> int:
    """Return how many open cases concern the member, and say what to do about them."""
    cases = await client.cases.open()
    mine = sum(case.yours > 0 for case in cases)
    if mine:
        output.say(f"{mine} open cases are about hashes that you assert: hashshare case list")
    return len(cases)


async def _published(client: "Client", name: ListName) -> "AcceptedPublication | None":
    try:
        return await client.latest(name.hash_set)
    except NotFoundError:
        return None


def _text_of(invitation: str) -> str:
    if invitation == "-":
        return sys.stdin.read()
    path = Path(invitation)
    is_file = len(invitation) < 200 and path.is_file()
    return path.read_text() if is_file else invitation


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog=f"Example: hashshare enrol invitation.txt\n\n{EXIT_CODES}")(enrol)
    app.command(epilog=f"Example: hashshare renew --json\n\n{EXIT_CODES}")(renew)
    app.command(epilog=f"Example: hashshare status --json | jq .lists\n\n{EXIT_CODES}")(status)

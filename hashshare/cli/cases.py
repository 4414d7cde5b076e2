"""Commands on cases: disputes that concern you, your answers, and the reviewer's decision."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hashshare.cli.options import Json, ProfileOption, open_client
from hashshare.cli.output import EXIT_CODES, output, run
from hashshare.cli.pushing import tell_pushed
from hashshare.client.sources import Reading
from hashshare.domain.policy import Decision, parse_words
from hashshare.domain.records import Record, RuleRecord, WithdrawRecord
from hashshare.domain.statements import Operation
from hashshare.errors import NotFoundError

if TYPE_CHECKING:
    from hashshare.client import Client
    from hashshare.wire.cases import CaseDocument, DisputedDocument

app = typer.Typer(
    name="case", help="Disputes that concern you: look, answer, decide.", no_args_is_help=True
)

Number = Annotated[
    int, typer.Argument(metavar="CASE", min=0, help="Its number; see: hashshare case list.")
]


@app.command("list", epilog=f"Example: hashshare case list --json\n\n{EXIT_CODES}")
def list_cases(*, profile: ProfileOption = None, as_json: Json = False) -> None:
    """List open cases: of all that you may decide, else those that concern you."""

    async def work() -> "list[CaseDocument]":
        async with open_client(profile) as client:
            return await client.cases.open()

    rows: list[dict[str, Any]] = [
        case.model_dump(mode="json") | {"confirmed_by": _names(case)} for case in run(work())
    ]
    output.table(
        ["case", "hash_set", "member", "reasons", "hashes", "yours", "alone", "opened_at",
         "confirmed_by"],
        rows,
    )  # fmt: skip


@app.command(epilog=f"Example: hashshare case show 4711\n\n{EXIT_CODES}")
def show(case: Number, *, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Show the hashes of a case that concern you, and who asserts them."""

    async def work() -> "tuple[CaseDocument, list[DisputedDocument]]":
        async with open_client(profile) as client:
            found = await _find(client, case)
            return found, [one async for one in client.cases.hashes(case)]

    found, hashes = run(work())
    if not output.as_json:
        fields = found.model_dump(exclude={"confirmations"})
        output.record(fields | {"confirmed_by": _names(found)})
        for one in found.confirmations:
            if one.comment:
                print(f"{one.member or 'a member'} at {one.confirmed_at}: {one.comment}")
    output.table(
        ["hash", "reason", "yours", "asserted_by"], [one.model_dump(mode="json") for one in hashes]
    )


@app.command(
    epilog=f"Example: hashshare case confirm 4711 --comment 'reviewed by two'\n\n{EXIT_CODES}"
)
def confirm(
    case: Number,
    *,
    comment: Annotated[
        str, typer.Option(help="For those who decide; name no content and no person.")
    ] = "",
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Stand by what you assert of the hashes of a case."""

    async def work() -> None:
        async with open_client(profile) as client:
            await client.cases.confirm(case, comment=comment)

    run(work())
    output.record({"case": case, "confirmed": True})


@app.command(epilog=f"Example: hashshare case withdraw 4711\n\n{EXIT_CODES}")
def withdraw(case: Number, *, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Take back what you assert of the hashes of a case."""

    async def work() -> None:
        async with open_client(profile) as client:
            hash_set = (await _find(client, case)).hash_set
            values = await client.cases.values(case, own=True)
            if not values:
                raise NotFoundError(f"you assert none of the hashes of case {case}")
            records = [WithdrawRecord("", {v.algorithm: v.value}) for v in values]
            await _push(client, hash_set, Operation.WITHDRAW, records)

    run(work())


@app.command(
    epilog="Example: hashshare case close 4711 --keep --reason 'seen by two reviewers'"
    f"\n\n{EXIT_CODES}"
)
def close(
    case: Number,
    *,
    keep: Annotated[
        bool,
        typer.Option("--keep/--remove", help="Settle the disputes, or take the hashes out."),
    ],
    reason: Annotated[str, typer.Option(help="Why; members can read it.")],
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Decide about all hashes of a case, as a reviewer or an admin: a signed ruling."""

    async def work() -> None:
        words, decision = parse_words(reason), Decision.KEEP if keep else Decision.REMOVE
        async with open_client(profile) as client:
            hash_set = (await _find(client, case)).hash_set
            values = await client.cases.values(case, own=False)
            records = [RuleRecord({v.algorithm: v.value}, decision, words) for v in values]
            await _push(client, hash_set, Operation.RULE, records)

    run(work())


async def _push(
    client: "Client", hash_set: str, operation: Operation, records: Iterable[Record]
) -> None:
    # Here, since it takes what talks to the server, and help does not.
    from hashshare.client.push import PushProgress

    progress = PushProgress()
    await client.push(hash_set, records, operation=operation, progress=progress)
    tell_pushed(hash_set, operation, Reading(), progress)


async def _find(client: "Client", case: int) -> "CaseDocument":
    for found in await client.cases.open():
        if found.case == case:
            return found
    raise NotFoundError(f"there is no open case {case} for you")


def _names(case: "CaseDocument") -> list[str]:
    return [one.member or "a member" for one in case.confirmations]


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.add_typer(app)

"""Commands on hash sets."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from hashshare.cli.options import (
    Json,
    ProfileOption,
    SetName,
    names_or_none,
    open_client,
)
from hashshare.cli.output import EXIT_CODES, output, run
from hashshare.cli.previewing import PreviewOption, put_into_force
from hashshare.domain.hash_sets import EVERYBODY, DisputeBound, HashSet
from hashshare.domain.hashes import HashAlgorithm, parse_algorithm
from hashshare.domain.policy import View
from hashshare.domain.policy_texts import split_names
from hashshare.errors import MalformedError

if TYPE_CHECKING:
    from hashshare.domain.registry import Registry
    from hashshare.wire.lists import HashSetDocument

sets = typer.Typer(name="hash-set", help="Create hash sets and look at them.", no_args_is_help=True)

BoundOption = Annotated[
    str | None,
    typer.Option(
        metavar="RECORDS/HOURS",
        help="So much one member may dispute alone; what is over it counts once a second member "
        "disputes it, or a reviewer decides. none: no bound.",
    ),
]


VocabularyOption = Annotated[
    str | None,
    typer.Option(
        metavar="ID",
        help="Take the classifications from this vocabulary of the registry, all of its terms or "
        'those named. "": they are a list of its own.',
    ),
]
_FIRST_CLASSIFICATIONS: Final = ("A1", "A2", "B1", "B2")


@sets.command(
    epilog="Example: hashshare hash-set create csam --algorithms md5,sha256 "
    f"--classifications A1,A2,B1,B2\n\n{EXIT_CODES}"
)
def create(
    name: SetName,
    *,
    title: Annotated[str | None, typer.Option(help="For people. [default: SET]")] = None,
    algorithms: Annotated[
        str, typer.Option(help=f"Comma-separated, of {', '.join(HashAlgorithm)}.")
    ] = "md5,sha1,sha256",
    classifications: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated. [default: all of the vocabulary, or "
            f"{','.join(_FIRST_CLASSIFICATIONS)}]"
        ),
    ] = None,
    vocabulary: VocabularyOption = None,
    contributors: Annotated[
        str, typer.Option(help="Members who may push; * is every member with that role.")
    ] = EVERYBODY,
    readers: Annotated[
        str, typer.Option(help="Members who may pull; * is every member.")
    ] = EVERYBODY,
    dispute_bound: BoundOption = "100/24",
    view: Annotated[
        bool, typer.Option(help="Also make a view 'all': quorum 1, dispute limit 1.")
    ] = True,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Create a hash set."""

    def change(registry: "Registry") -> "Registry":
        named = _classifications(registry, classifications, vocabulary)
        hash_set = HashSet(
            title=title or name,
            algorithms=tuple(map(parse_algorithm, split_names(algorithms))),
            classifications=_FIRST_CLASSIFICATIONS if named is None else named,
            contributors=split_names(contributors),
            readers=split_names(readers),
            views={"all": View()} if view else {},
            dispute_bound=_parse_bound(dispute_bound or "none"),
            vocabulary=vocabulary or msgspec.UNSET,
        )
        return registry.with_hash_set(name, hash_set, new=True)

    async def work() -> None:
        async with open_client(profile) as client:
            reason = f"create hash set {name}"
            await client.admin.edit(change, reason=reason, now=datetime.now(UTC))

    run(work())
    output.record({"hash_set": name, "created": True}, text=f"created {name}")


@sets.command(
    "set", epilog=f"Example: hashshare hash-set set csam --readers acme,beta\n\n{EXIT_CODES}"
)
def set_hash_set(
    name: SetName,
    *,
    title: Annotated[str | None, typer.Option(help="For people.")] = None,
    add_algorithms: Annotated[str | None, typer.Option(help="Comma-separated.")] = None,
    classifications: Annotated[
        str | None, typer.Option(help="Replaces those that are taken.")
    ] = None,
    vocabulary: VocabularyOption = None,
    contributors: Annotated[str | None, typer.Option(help="Replaces who may push.")] = None,
    readers: Annotated[str | None, typer.Option(help="Replaces who may pull.")] = None,
    dispute_bound: BoundOption = None,
    preview: PreviewOption = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Change a hash set."""

    def change(registry: "Registry") -> "Registry":
        known = registry.hash_set(name)
        added = tuple(map(parse_algorithm, split_names(add_algorithms or "")))
        named = _classifications(registry, classifications, vocabulary)
        changed = msgspec.structs.replace(
            known,
            title=title or known.title,
            algorithms=tuple(sorted({*known.algorithms, *added})),
            classifications=named or known.classifications,
            vocabulary=known.vocabulary if vocabulary is None else vocabulary or msgspec.UNSET,
            contributors=names_or_none(contributors) or known.contributors,
            readers=names_or_none(readers) or known.readers,
            dispute_bound=_parse_bound(dispute_bound) if dispute_bound else known.dispute_bound,
        )
        return registry.with_hash_set(name, changed)

    put_into_force(change, reason=f"change hash set {name}", what={"hash_set": name},
                   preview=preview, profile=profile)  # fmt: skip


@sets.command("list", epilog=f"Example: hashshare hash-set list --json\n\n{EXIT_CODES}")
def list_sets(*, profile: ProfileOption = None, as_json: Json = False) -> None:
    """List the hash sets that you may read."""

    async def work() -> "list[HashSetDocument]":
        async with open_client(profile) as client:
            return await client.hash_sets()

    rows = [document.model_dump(mode="json") for document in run(work())]
    output.table(["hash_set", "title", "algorithms", "views", "version"], rows)


@sets.command(epilog=f"Example: hashshare hash-set show csam\n\n{EXIT_CODES}")
def show(name: SetName, *, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Show a hash set with the policies of its views."""

    async def work() -> dict[str, Any]:
        async with open_client(profile) as client:
            registry = await client.admin.registry()
            hash_set = registry.hash_set(name)
            versions = {d.hash_set: d.version for d in await client.hash_sets()}
            version = versions.get(name, 0)
            fields: dict[str, Any] = msgspec.to_builtins(hash_set)
            return {"hash_set": name, "version": version} | fields

    fields = run(work())
    if not output.as_json:
        shown = fields.pop("views")
        fields |= {f"view_{view}": _describe(policy) for view, policy in shown.items()}
    output.record(fields)


def _classifications(
    registry: "Registry", given: str | None, vocabulary: str | None
) -> tuple[str, ...] | None:
    """Return those that were named, or all terms of the vocabulary that was; None for neither."""
    if given is not None:
        return split_names(given)
    return tuple(sorted(registry.vocabulary(vocabulary).terms)) if vocabulary else None


def _parse_bound(text: str) -> DisputeBound | msgspec.UnsetType:
    if text == "none":
        return msgspec.UNSET
    records, _, hours = text.partition("/")
    if not (records.isdecimal() and hours.isdecimal() and len(text) < 24):
        raise MalformedError(f"a bound is written RECORDS/HOURS, or none, not {text!r:.40}")
    try:
        fields = {"records": int(records), "hours": int(hours)}
        bound: DisputeBound = msgspec.convert(fields, DisputeBound)
    except msgspec.ValidationError as error:
        raise MalformedError("a bound is of at least 1 record in 1 to 8784 hours") from error
    return bound


def _describe(policy: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in policy.items() if value is not None
    )


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(sets)

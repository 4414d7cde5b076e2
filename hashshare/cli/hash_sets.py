"""Commands on hash sets and their views."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from hashshare.cli.options import Json, ProfileOption, load_profile
from hashshare.cli.output import EXIT_CODES, output, run
from hashshare.cli.previewing import PreviewOption, put_into_force, show_preview
from hashshare.client import Client
from hashshare.client.admin import Edit
from hashshare.domain.hashes import HashAlgorithm, parse_algorithm
from hashshare.domain.policy import Media, QuorumOf, View
from hashshare.domain.registry import EVERYBODY, DisputeBound, HashSet, Registry
from hashshare.errors import AlreadyExistsError, MalformedError, NotFoundError
from hashshare.wire.lists import HashSetDocument

sets = typer.Typer(name="hash-set", help="Create hash sets and look at them.", no_args_is_help=True)
views = typer.Typer(
    name="view", help="Create and change the views of a hash set.", no_args_is_help=True
)


class CountedBasisName(StrEnum):
    """Which assertions a view counts."""

    REVIEWED = "reviewed"
    ANY = "any"


SetName = Annotated[str, typer.Argument(metavar="SET", help="Id of the hash set.")]
ViewName = Annotated[
    str, typer.Argument(metavar="SET/VIEW", help="The view, such as csam/confirmed.")
]

BoundOption = Annotated[
    str | None,
    typer.Option(
        metavar="RECORDS/HOURS",
        help="So much one member may dispute alone; what is over it counts once a second member "
        "disputes it, or a reviewer decides. none: no bound.",
    ),
]
Quorum = Annotated[
    int | None, typer.Option(min=1, max=1000, help="So many distinct members must assert a hash.")
]
CountedOf = Annotated[QuorumOf | None, typer.Option(help="What is counted.")]
CountedBasis = Annotated[
    CountedBasisName | None, typer.Option(help="reviewed, or any to count relayed assertions too.")
]
DisputeLimit = Annotated[
    int | None, typer.Option(min=1, max=1000, help="So many disputes take a hash out.")
]
Classifications = Annotated[str | None, typer.Option(help="Only these count, comma-separated.")]
Sources = Annotated[str | None, typer.Option(help="Only these members count.")]
CountedMedia = Annotated[str | None, typer.Option(help="Only these media count.")]
ShowMembers = Annotated[
    bool | None,
    typer.Option("--show-members/--no-show-members", help="Whether entries name members."),
]


def _split(text: str) -> tuple[str, ...]:
    return tuple(sorted({part.strip() for part in text.split(",") if part.strip()}))


def _optional(text: str | None) -> tuple[str, ...] | None:
    return _split(text) if text else None


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
        str, typer.Option(help="The vocabulary, comma-separated.")
    ] = "A1,A2,B1,B2",
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

    async def work() -> None:
        hash_set = HashSet(
            title=title or name,
            algorithms=tuple(map(parse_algorithm, _split(algorithms))),
            classifications=_split(classifications),
            contributors=_split(contributors),
            readers=_split(readers),
            views={"all": View()} if view else {},
            dispute_bound=_parse_bound(dispute_bound or "none"),
        )
        async with Client(load_profile(profile)) as client:
            await client.admin.put_hash_set(name, hash_set, new=True, now=datetime.now(UTC))

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
    classifications: Annotated[str | None, typer.Option(help="Replaces the vocabulary.")] = None,
    contributors: Annotated[str | None, typer.Option(help="Replaces who may push.")] = None,
    readers: Annotated[str | None, typer.Option(help="Replaces who may pull.")] = None,
    dispute_bound: BoundOption = None,
    preview: PreviewOption = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Change a hash set."""

    def change(registry: Registry) -> Registry:
        known = registry.hash_set(name)
        added = tuple(map(parse_algorithm, _split(add_algorithms or "")))
        changed = msgspec.structs.replace(
            known,
            title=title or known.title,
            algorithms=tuple(sorted({*known.algorithms, *added})),
            classifications=_optional(classifications) or known.classifications,
            contributors=_optional(contributors) or known.contributors,
            readers=_optional(readers) or known.readers,
            dispute_bound=_parse_bound(dispute_bound) if dispute_bound else known.dispute_bound,
        )
        return registry.with_hash_set(name, changed)

    put_into_force(change, reason=f"change hash set {name}", what={"hash_set": name},
                   preview=preview, profile=profile)  # fmt: skip


@sets.command("list", epilog=f"Example: hashshare hash-set list --json\n\n{EXIT_CODES}")
def list_sets(*, profile: ProfileOption = None, as_json: Json = False) -> None:
    """List the hash sets that you may read."""

    async def work() -> list[HashSetDocument]:
        async with Client(load_profile(profile)) as client:
            return await client.hash_sets()

    rows = [document.model_dump(mode="json") for document in run(work())]
    output.table(["hash_set", "title", "algorithms", "views", "version"], rows)


@sets.command(epilog=f"Example: hashshare hash-set show csam\n\n{EXIT_CODES}")
def show(name: SetName, *, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Show a hash set with the policies of its views."""

    async def work() -> dict[str, Any]:
        async with Client(load_profile(profile)) as client:
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


@views.command(
    "create", epilog=f"Example: hashshare view create csam/confirmed --quorum 2\n\n{EXIT_CODES}"
)
def create_view(
    name: ViewName,
    *,
    quorum: Quorum = None,
    quorum_of: CountedOf = None,
    basis: CountedBasis = None,
    dispute_limit: DisputeLimit = None,
    classifications: Classifications = None,
    sources: Sources = None,
    media: CountedMedia = None,
    show_members: ShowMembers = None,
    replace: Annotated[bool, typer.Option("--replace", help="Change a view that exists.")] = False,
    preview: PreviewOption = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Create a view, or make it anew with --replace; published within a second or two.

    What is not named is: quorum 1 of members, basis reviewed, dispute limit 1, all
    classifications, sources and media count, members are shown.
    """
    given = _given(
        quorum, quorum_of, basis, dispute_limit, classifications, sources, media, show_members
    )
    hash_set, view_id = _parse_view(name)

    def change(registry: Registry) -> Registry:
        if view_id in registry.hash_set(hash_set).views and not replace:
            raise AlreadyExistsError(f"there is a view {name}; change it with: view set")
        return registry.with_view(hash_set, view_id, msgspec.structs.replace(View(), **given))

    put_into_force(change, reason=f"set view {name}", what={"view": name}, preview=preview,
                   profile=profile)  # fmt: skip


@views.command(
    "set", epilog=f"Example: hashshare view set csam/confirmed --quorum 3 --preview\n\n{EXIT_CODES}"
)
def set_view(
    name: ViewName,
    *,
    quorum: Quorum = None,
    quorum_of: CountedOf = None,
    basis: CountedBasis = None,
    dispute_limit: DisputeLimit = None,
    classifications: Classifications = None,
    sources: Sources = None,
    media: CountedMedia = None,
    show_members: ShowMembers = None,
    preview: PreviewOption = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Change what is named of a view, and nothing else; "" lets all count again."""
    given = _given(
        quorum, quorum_of, basis, dispute_limit, classifications, sources, media, show_members
    )
    put_into_force(_changing(name, given), reason=f"set view {name}", what={"view": name},
                   preview=preview, profile=profile)  # fmt: skip


@views.command(
    "preview",
    epilog="Example: hashshare view preview csam/confirmed --quorum 3 --output changes.ndjson"
    f"\n\n{EXIT_CODES}",
)
def preview_view(
    name: ViewName,
    *,
    quorum: Quorum = None,
    quorum_of: CountedOf = None,
    basis: CountedBasis = None,
    dispute_limit: DisputeLimit = None,
    classifications: Classifications = None,
    sources: Sources = None,
    media: CountedMedia = None,
    show_members: ShowMembers = None,
    changes: Annotated[int, typer.Option(help="So many changes of each list are shown.")] = 10,
    output_path: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write every change here, one a line."),
    ] = None,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Tell what would enter and leave each list if the view were set so; changes nothing."""
    given = _given(
        quorum, quorum_of, basis, dispute_limit, classifications, sources, media, show_members
    )
    show_preview(_changing(name, given), profile=profile, changes=changes, path=output_path)


@views.command(epilog=f"Example: hashshare view delete csam/confirmed\n\n{EXIT_CODES}")
def delete(
    name: ViewName,
    *,
    preview: PreviewOption = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Delete a view; its lists end."""
    hash_set, view_id = _parse_view(name)
    put_into_force(
        lambda registry: registry.with_view(hash_set, view_id, None),
        reason=f"delete view {name}",
        what={"view": name},
        done="deleted",
        preview=preview,
        profile=profile,
    )


@views.command("list", epilog=f"Example: hashshare view list csam\n\n{EXIT_CODES}")
def list_views(name: SetName, *, profile: ProfileOption = None, as_json: Json = False) -> None:
    """List the views of a hash set with their policies."""

    async def work() -> dict[str, View]:
        async with Client(load_profile(profile)) as client:
            return (await client.admin.registry()).hash_set(name).views

    rows = [{"view": f"{name}/{v}"} | msgspec.to_builtins(p) for v, p in run(work()).items()]
    output.table(
        [
            "view",
            "quorum",
            "quorum_of",
            "basis",
            "dispute_limit",
            "classifications",
            "sources",
            "media",
        ],
        rows,
    )


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


def _parse_view(text: str) -> tuple[str, str]:
    hash_set, separator, view = text.partition("/")
    if not separator or not hash_set or not view:
        raise MalformedError(f"a view is written SET/VIEW, not {text!r:.80}")
    return hash_set, view


def _given(
    quorum: int | None,
    quorum_of: QuorumOf | None,
    basis: CountedBasisName | None,
    dispute_limit: int | None,
    classifications: str | None,
    sources: str | None,
    media: str | None,
    show_members: bool | None,
) -> dict[str, Any]:
    """Return the fields of a view that were named."""
    lists = {"classifications": classifications, "sources": sources}
    chosen = {
        "quorum": quorum,
        "quorum_of": quorum_of,
        "basis": basis and basis.value,
        "dispute_limit": dispute_limit,
        "show_members": show_members,
    }
    fields: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    # An empty text is an answer too: all of them.
    fields |= {name: _optional(text) for name, text in lists.items() if text is not None}
    if media is not None:
        fields["media"] = tuple(Media(m) for m in _split(media)) or None
    return fields


def _changing(name: str, given: dict[str, Any]) -> Edit:
    hash_set, view_id = _parse_view(name)

    def change(registry: Registry) -> Registry:
        known = registry.hash_set(hash_set).views.get(view_id)
        if known is None:
            raise NotFoundError(f"there is no view {name}")
        return registry.with_view(hash_set, view_id, msgspec.structs.replace(known, **given))

    return change


def _describe(policy: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in policy.items() if value is not None
    )


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(sets)
    app.add_typer(views)

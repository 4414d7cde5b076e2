"""Commands on hash sets and their views."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer

from hashshare.cli.options import Json, ProfileOption, load_profile
from hashshare.cli.output import EXIT_CODES, output, run
from hashshare.client import Client
from hashshare.domain.hashes import HashAlgorithm, parse_algorithm
from hashshare.domain.policy import Media, QuorumOf, View
from hashshare.domain.registry import EVERYBODY, HashSet, Registry
from hashshare.errors import AlreadyExistsError, MalformedError
from hashshare.wire.lists import HashSetDocument

sets = typer.Typer(name="hash-set", help="Create hash sets and look at them.", no_args_is_help=True)
views = typer.Typer(
    name="view", help="Create and change the views of a hash set.", no_args_is_help=True
)

SetName = Annotated[str, typer.Argument(metavar="SET", help="Id of the hash set.")]
ViewName = Annotated[
    str, typer.Argument(metavar="SET/VIEW", help="The view, such as csam/confirmed.")
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
        )
        return registry.with_hash_set(name, changed)

    async def work() -> bool:
        async with Client(load_profile(profile)) as client:
            reason = f"change hash set {name}"
            return await client.admin.edit(change, reason=reason, now=datetime.now(UTC)) is not None

    output.record({"hash_set": name, "changed": run(work())})


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


@views.command(epilog=f"Example: hashshare view create csam/confirmed --quorum 2\n\n{EXIT_CODES}")
def create_view(
    name: ViewName,
    *,
    quorum: Annotated[int, typer.Option(help="So many distinct members must assert a hash.")] = 1,
    quorum_of: Annotated[QuorumOf, typer.Option(help="What is counted.")] = QuorumOf.MEMBERS,
    basis: Annotated[
        str, typer.Option(help="reviewed, or any to count relayed assertions too.")
    ] = "reviewed",
    dispute_limit: Annotated[int, typer.Option(help="So many disputes take a hash out.")] = 1,
    classifications: Annotated[str | None, typer.Option(help="Only these count.")] = None,
    sources: Annotated[str | None, typer.Option(help="Only these members count.")] = None,
    media: Annotated[str | None, typer.Option(help="Only these media count.")] = None,
    show_members: Annotated[bool, typer.Option(help="Whether entries name members.")] = True,
    replace: Annotated[bool, typer.Option("--replace", help="Change a view that exists.")] = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Create a view, or change one with --replace; published within a second or two."""

    async def work() -> bool:
        hash_set, view_id = _parse_view(name)
        chosen = View(
            quorum=quorum,
            quorum_of=quorum_of,
            basis=_basis(basis),
            dispute_limit=dispute_limit,
            classifications=_optional(classifications),
            sources=_optional(sources),
            media=None if media is None else tuple(Media(m) for m in _split(media)),
            show_members=show_members,
        )
        async with Client(load_profile(profile)) as client:
            known = (await client.admin.registry()).hash_set(hash_set).views
            if view_id in known and not replace:
                raise AlreadyExistsError(f"there is a view {name}; change it with --replace")
            done = await client.admin.put_view(hash_set, view_id, chosen, now=datetime.now(UTC))
            return done is not None

    output.record({"view": name, "changed": run(work())})


views.registered_commands[-1].name = "create"


@views.command(epilog=f"Example: hashshare view delete csam/confirmed\n\n{EXIT_CODES}")
def delete(name: ViewName, *, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Delete a view; its lists end."""

    async def work() -> bool:
        hash_set, view_id = _parse_view(name)
        async with Client(load_profile(profile)) as client:
            done = await client.admin.put_view(hash_set, view_id, None, now=datetime.now(UTC))
            return done is not None

    output.record({"view": name, "deleted": run(work())})


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


def _parse_view(text: str) -> tuple[str, str]:
    hash_set, separator, view = text.partition("/")
    if not separator or not hash_set or not view:
        raise MalformedError(f"a view is written SET/VIEW, not {text!r:.80}")
    return hash_set, view


def _basis(text: str) -> str:
    if text not in {"reviewed", "any"}:
        raise MalformedError("the basis is reviewed or any")
    return text


def _describe(policy: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in policy.items() if value is not None
    )


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(sets)
    app.add_typer(views)

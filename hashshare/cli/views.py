"""Commands on the views of hash sets."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from hashshare.cli.options import (
    Json,
    ProfileOption,
    SetName,
    names_or_none,
    open_client,
)
from hashshare.cli.output import EXIT_CODES, ending, output, run
from hashshare.cli.previewing import PreviewOption, put_into_force, show_preview
from hashshare.domain.policy import Media, QuorumOf, View
from hashshare.domain.policy_texts import (
    parse_countries,
    parse_terms,
    parse_weights,
    split_names,
)
from hashshare.errors import AlreadyExistsError, MalformedError, NotFoundError

if TYPE_CHECKING:
    from hashshare.client.admin import Edit
    from hashshare.domain.registry import Registry

views = typer.Typer(
    name="view", help="Create and change the views of a hash set.", no_args_is_help=True
)


class CountedBasisName(StrEnum):
    """Which assertions a view counts."""

    REVIEWED = "reviewed"
    ANY = "any"


ViewName = Annotated[
    str, typer.Argument(metavar="SET/VIEW", help="The view, such as csam/confirmed.")
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
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="MEMBER=N,...",
        help="Trusted reviewers: so much their own reviews count towards a quorum of members.",
    ),
]
ExcludedClassifications = Annotated[
    str | None, typer.Option(help="These do not count, comma-separated.")
]
ExcludedSources = Annotated[str | None, typer.Option(help="These members do not count.")]
ReleasedTo = Annotated[
    str | None,
    typer.Option(
        metavar="CC,...",
        help="Only members of these countries read it, and admins, auditors.",
    ),
]
CountedTerms = Annotated[
    str | None,
    typer.Option(
        "--terms",
        metavar="VOCABULARY:TERM,...",
        help="Only what is of these terms counts, by mappings too.",
    ),
]
ExcludedTerms = Annotated[
    str | None,
    typer.Option(
        metavar="VOCABULARY:TERM,...",
        help="What may be of these terms, by mappings too, does not count.",
    ),
]
ShowMembers = Annotated[
    bool | None,
    typer.Option("--show-members/--no-show-members", help="Whether entries name members."),
]


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
    weights: Weights = None,
    excluded_classifications: ExcludedClassifications = None,
    excluded_sources: ExcludedSources = None,
    released_to: ReleasedTo = None,
    terms: CountedTerms = None,
    excluded_terms: ExcludedTerms = None,
    replace: Annotated[bool, typer.Option("--replace", help="Change a view that exists.")] = False,
    preview: PreviewOption = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Create a view, or make it anew with --replace; published within a second or two.

    What is not named is: quorum 1 of members, basis reviewed, dispute limit 1, all
    classifications, sources and media count, members are shown, and every reader of the hash set
    reads it.
    """
    with ending():
        given = _given(
            quorum, quorum_of, basis, dispute_limit, classifications, sources, media, show_members
        ) | _given_later(
            weights, excluded_classifications, excluded_sources, released_to, terms, excluded_terms
        )
        hash_set, view_id = _parse_view(name)

        def change(registry: "Registry") -> "Registry":
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
    weights: Weights = None,
    excluded_classifications: ExcludedClassifications = None,
    excluded_sources: ExcludedSources = None,
    released_to: ReleasedTo = None,
    terms: CountedTerms = None,
    excluded_terms: ExcludedTerms = None,
    preview: PreviewOption = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Change what is named of a view, and nothing else; "" lets all count again."""
    with ending():
        given = _given(
            quorum, quorum_of, basis, dispute_limit, classifications, sources, media, show_members
        ) | _given_later(
            weights, excluded_classifications, excluded_sources, released_to, terms, excluded_terms
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
    weights: Weights = None,
    excluded_classifications: ExcludedClassifications = None,
    excluded_sources: ExcludedSources = None,
    released_to: ReleasedTo = None,
    terms: CountedTerms = None,
    excluded_terms: ExcludedTerms = None,
    changes: Annotated[int, typer.Option(help="So many changes of each list are shown.")] = 10,
    output_path: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write every change here, one a line."),
    ] = None,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Tell what would enter and leave each list if the view were set so; changes nothing."""
    with ending():
        given = _given(
            quorum, quorum_of, basis, dispute_limit, classifications, sources, media, show_members
        ) | _given_later(
            weights, excluded_classifications, excluded_sources, released_to, terms, excluded_terms
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
    with ending():
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
        async with open_client(profile) as client:
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
    fields |= {name: names_or_none(text) for name, text in lists.items() if text is not None}
    if media is not None:
        fields["media"] = tuple(Media(m) for m in split_names(media)) or None
    return fields


def _given_later(
    weights: str | None,
    classifications: str | None,
    sources: str | None,
    released_to: str | None,
    terms: str | None,
    excluded_terms: str | None,
) -> dict[str, Any]:
    """Return the fields that are left out when they say nothing, as far as they were named."""
    fields: dict[str, Any] = {}
    if weights is not None:
        fields["weights"] = parse_weights(weights) or msgspec.UNSET
    if classifications is not None:
        fields["excluded_classifications"] = names_or_none(classifications) or msgspec.UNSET
    if sources is not None:
        fields["excluded_sources"] = names_or_none(sources) or msgspec.UNSET
    if released_to is not None:
        fields["released_to"] = parse_countries(released_to) or msgspec.UNSET
    for name, text in (("terms", terms), ("excluded_terms", excluded_terms)):
        if text is not None:
            fields[name] = parse_terms(text) or msgspec.UNSET
    return fields


def _changing(name: str, given: dict[str, Any]) -> "Edit":
    hash_set, view_id = _parse_view(name)

    def change(registry: "Registry") -> "Registry":
        known = registry.hash_set(hash_set).views.get(view_id)
        if known is None:
            raise NotFoundError(f"there is no view {name}")
        return registry.with_view(hash_set, view_id, msgspec.structs.replace(known, **given))

    return change


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(views)

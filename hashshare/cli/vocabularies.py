"""Commands on vocabularies of classifications, and on the mappings between them."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hashshare.cli.options import Json, ProfileOption, open_client
from hashshare.cli.output import EXIT_CODES, ending, output, run
from hashshare.cli.previewing import PreviewOption, put_into_force
from hashshare.domain.documents import encode_document
from hashshare.errors import MalformedError, NotFoundError
from hashshare.wire.vocabularies import (
    MAX_FILE_BYTES,
    MappingFile,
    VocabularyFile,
    parse_file,
    parse_matches,
    parse_terms,
    write_matches,
    write_terms,
)

if TYPE_CHECKING:
    from hashshare.domain.registry import Registry
    from hashshare.domain.vocabularies import Matches

vocabularies = typer.Typer(
    name="vocabulary",
    help="Vocabularies of classifications, and how the terms of one map to those of another.",
    no_args_is_help=True,
)


class FileForm(StrEnum):
    """What a file of a vocabulary or mapping is."""

    JSON = "json"
    CSV = "csv"


VocabularyName = Annotated[str, typer.Argument(metavar="ID", help="Id of the vocabulary.")]
Source = Annotated[str, typer.Argument(metavar="FROM", help="The vocabulary that is mapped.")]
Target = Annotated[str, typer.Argument(metavar="TO", help="The one that it is mapped to.")]


@vocabularies.command(
    epilog="Example: hashshare vocabulary add iwf.csv --id iwf --title IWF --version 1"
    f"\n\n{EXIT_CODES}"
)
def add(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="JSON; or CSV, of term,title[,description].")
    ],
    *,
    vocabulary_id: Annotated[str | None, typer.Option("--id", help="Its id; for CSV.")] = None,
    title: Annotated[str | None, typer.Option(help="For people; for CSV.")] = None,
    version: Annotated[
        str | None, typer.Option(help="As its maintainers call this one; for CSV.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put this version in the place of an earlier one.")
    ] = False,
    preview: PreviewOption = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Add a vocabulary to the registry, or with --replace another version of it.

    What members said stays as they said it, and a term that is in use cannot be left out.
    """
    with ending():
        given = {"--id": vocabulary_id, "--title": title, "--version": version}
        if (form := _form_of(file)) is FileForm.CSV:
            made = parse_terms(
                _read(file),
                vocabulary_id=_told(given, "--id"),
                title=_told(given, "--title"),
                version=_told(given, "--version"),
            )
        else:
            _refuse_beside(form, given)
            made = parse_file(_read(file), VocabularyFile)
        put_into_force(
            lambda r: r.with_vocabulary(made.id, made.vocabulary, new=not replace),
            reason=f"add vocabulary {made.id} {made.version}"[:200],
            what={"vocabulary": made.id, "version": made.version, "terms": len(made.terms)},
            done="added",
            preview=preview,
            profile=profile,
        )


@vocabularies.command(epilog=f"Example: hashshare vocabulary remove iwf\n\n{EXIT_CODES}")
def remove(
    name: VocabularyName,
    *,
    preview: PreviewOption = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Take a vocabulary out that no hash set, mapping or view uses; earlier versions keep it."""

    def change(registry: "Registry") -> "Registry":
        registry.vocabulary(name)
        return registry.with_vocabulary(name, None)

    put_into_force(change, reason=f"remove vocabulary {name}", what={"vocabulary": name},
                   done="removed", preview=preview, profile=profile)  # fmt: skip


@vocabularies.command(
    "map",
    epilog="Example: hashshare vocabulary map ours-iwf.csv --from ours --to iwf --preview"
    f"\n\n{EXIT_CODES}",
)
def map_vocabulary(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="JSON; or CSV, of term,relation,to.")
    ],
    *,
    source: Annotated[
        str | None, typer.Option("--from", help="The vocabulary that is mapped; for CSV.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--to", help="The one that it is mapped to; for CSV.")
    ] = None,
    preview: PreviewOption = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Map one vocabulary to another, in the place of an earlier mapping between the two.

    exactMatch: the other term is as wide; broadMatch: it is wider; narrowMatch: it is narrower.
    Views select by it (hashshare view set SET/VIEW --terms), and nothing else does.
    """
    with ending():
        given = {"--from": source, "--to": target}
        if (form := _form_of(file)) is FileForm.CSV:
            made = parse_matches(
                _read(file), source=_told(given, "--from"), target=_told(given, "--to")
            )
        else:
            _refuse_beside(form, given)
            made = parse_file(_read(file), MappingFile)
        put_into_force(
            lambda r: r.with_mapping(made.source, made.target, made.matches),
            reason=f"map vocabulary {made.source} to {made.target}",
            what={"from": made.source, "to": made.target, "terms": len(made.matches)},
            done="mapped",
            preview=preview,
            profile=profile,
        )


@vocabularies.command(epilog=f"Example: hashshare vocabulary unmap ours iwf\n\n{EXIT_CODES}")
def unmap(
    source: Source,
    target: Target,
    *,
    preview: PreviewOption = False,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Take a mapping out that no view uses."""

    def change(registry: "Registry") -> "Registry":
        _mapping(registry, source, target)
        return registry.with_mapping(source, target, None)

    put_into_force(change, reason=f"unmap vocabulary {source} from {target}",
                   what={"from": source, "to": target}, done="unmapped",
                   preview=preview, profile=profile)  # fmt: skip


@vocabularies.command("list", epilog=f"Example: hashshare vocabulary list\n\n{EXIT_CODES}")
def list_vocabularies(*, profile: ProfileOption = None, as_json: Json = False) -> None:
    """List the vocabularies, with the hash sets that take their classifications from them."""
    registry = _registry(profile)
    mappings = registry.mappings or {}
    rows = [
        {
            "vocabulary": name,
            "title": known.title,
            "version": known.version,
            "terms": len(known.terms),
            "mapped_to": sorted(mappings.get(name, ())),
            "hash_sets": _users(registry, name),
        }
        for name, known in sorted((registry.vocabularies or {}).items())
    ]
    output.table(["vocabulary", "title", "version", "terms", "mapped to", "hash sets"], rows)


@vocabularies.command(epilog=f"Example: hashshare vocabulary show iwf\n\n{EXIT_CODES}")
def show(name: VocabularyName, *, profile: ProfileOption = None, as_json: Json = False) -> None:
    """Show the terms of a vocabulary, what each is mapped to, and what is mapped to it."""
    with ending():
        registry = _registry(profile)
        known = registry.vocabulary(name)
    rows = [
        {
            "term": term,
            "title": about.title,
            "description": about.description or None,
            "mapped_to": _mapped_to(registry, name, term),
            "mapped_from": _mapped_from(registry, name, term),
        }
        for term, about in sorted(known.terms.items())
    ]
    facts: dict[str, object] = {"vocabulary": name, "title": known.title, "version": known.version}
    facts |= {"hash_sets": _users(registry, name)}
    if output.as_json:
        output.record(facts | {"terms": rows})
        return
    output.record(facts)
    output.table(["term", "title", "mapped to", "mapped from"], rows)


@vocabularies.command(
    epilog="Example: hashshare vocabulary export ours --to iwf --output ours-iwf.json"
    f"\n\n{EXIT_CODES}"
)
def export(
    name: VocabularyName,
    *,
    target: Annotated[
        str | None, typer.Option("--to", metavar="ID", help="Its mapping to this one, instead.")
    ] = None,
    form: Annotated[
        FileForm | None, typer.Option("--format", help="[default: by FILE, or json]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="A new file. [default: -]")
    ] = None,
    profile: ProfileOption = None,
    as_json: Json = False,
) -> None:
    """Write a vocabulary, or a mapping, as the commands add and map take it.

    JSON is in its canonical form: whoever exports the same has the same bytes.
    """
    with ending():
        registry = _registry(profile)
        chosen = form or (FileForm.JSON if out is None else _form_of(out))
        if target is None:
            data = _vocabulary_as(registry, name, chosen)
        else:
            data = _mapping_as(registry, name, target, chosen)
        if out is None:
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
            return
        with out.open("xb") as file:
            file.write(data)
    output.record({"vocabulary": name, "file": str(out)}, text=f"{name}: written to {out}")


def _registry(profile: Path | None) -> "Registry":
    async def work() -> "Registry":
        async with open_client(profile) as client:
            return await client.admin.registry()

    return run(work())


def _mapping(registry: "Registry", source: str, target: str) -> "Matches":
    matches = (registry.mappings or {}).get(source, {}).get(target)
    if matches is None:
        raise NotFoundError(
            f"{source:.70} is not mapped to {target:.70}: hashshare vocabulary list"
        )
    return matches


def _vocabulary_as(registry: "Registry", name: str, form: FileForm) -> bytes:
    known = registry.vocabulary(name)
    if form is FileForm.CSV:
        return write_terms(known)
    return encode_document(
        VocabularyFile(id=name, title=known.title, version=known.version, terms=known.terms)
    )


def _mapping_as(registry: "Registry", source: str, target: str, form: FileForm) -> bytes:
    matches = _mapping(registry, source, target)
    if form is FileForm.CSV:
        return write_matches(matches)
    return encode_document(MappingFile(source=source, target=target, matches=matches))


def _users(registry: "Registry", name: str) -> list[str]:
    return sorted(s for s, known in registry.hash_sets.items() if known.vocabulary == name)


def _mapped_to(registry: "Registry", name: str, term: str) -> list[str]:
    return [
        f"{target}:{other} ({relation})"
        for target, matches in sorted((registry.mappings or {}).get(name, {}).items())
        for other, relation in sorted(matches.get(term, {}).items())
    ]


def _mapped_from(registry: "Registry", name: str, term: str) -> list[str]:
    return [
        f"{source}:{other} ({related[term]})"
        for source, targets in sorted((registry.mappings or {}).items())
        for other, related in sorted(targets.get(name, {}).items())
        if term in related
    ]


def _form_of(path: Path) -> FileForm:
    return FileForm.CSV if path.suffix.lower() == ".csv" else FileForm.JSON


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        # One byte more, so that what is too long is refused.
        return file.read(MAX_FILE_BYTES + 1)


def _told(given: dict[str, str | None], option: str) -> str:
    value = given[option]
    if value is None:
        raise MalformedError(f"CSV holds the terms alone: tell the rest with {', '.join(given)}")
    return value


def _refuse_beside(form: FileForm, given: dict[str, str | None]) -> None:
    told = [option for option, value in given.items() if value is not None]
    if told:
        raise MalformedError(f"the file is {form}, and holds this itself: leave out {told[0]}")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(vocabularies)

"""Vocabularies and mappings as files: what goes into the registry, and comes out of it again.

JSON is read however it is spaced and ordered, and written in the canonical form, so that one
content is one file. CSV has the terms alone, a line each; what else there is, is told beside it.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from hashshare.crypto import canonical
from hashshare.domain.documents import Document, Id, Text, encode_document
from hashshare.domain.vocabularies import Matches, Relation, Terms, Vocabulary
from hashshare.errors import MalformedError

MAX_FILE_BYTES: Final = 4 * 1024 * 1024

_TERM_COLUMNS: Final = ("term", "title", "description")
_MATCH_COLUMNS: Final = ("term", "relation", "to")

Fields = dict[str, canonical.JsonValue]


class VocabularyFile(Document, frozen=True):
    """A vocabulary with its id; see ``domain.vocabularies``."""

    id: Id
    title: Text
    version: Text
    terms: Terms

    @property
    def vocabulary(self) -> Vocabulary:
        """What the registry has under the id."""
        return Vocabulary(title=self.title, version=self.version, terms=self.terms)


class MappingFile(Document, frozen=True):
    """The mapping of one vocabulary to another.

    Attributes:
        source: The vocabulary that is mapped.
        target: The one that it is mapped to.
        matches: By term of the first the terms of the second, each with how wide it is beside it.
    """

    source: Id = msgspec.field(name="from")
    target: Id = msgspec.field(name="to")
    matches: Matches


F = TypeVar("F", VocabularyFile, MappingFile)


def parse_file(data: bytes, kind: type[F]) -> F:
    """Return what a JSON file holds.

    Raises:
        MalformedError: It is too long, is no JSON, has a name twice, or is not of this kind.
    """
    try:
        fields = json.loads(_decode(data), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise MalformedError("the file is no JSON; name it .csv if it is CSV") from error
    return _convert(fields, kind)


def parse_terms(data: bytes, *, vocabulary_id: str, title: str, version: str) -> VocabularyFile:
    """Return the vocabulary whose terms a CSV file holds: ``term,title`` or with ``description``.

    Raises:
        MalformedError: It is too long, is no such CSV, or has a term twice.
    """
    terms: Fields = {}
    for line, cells in _rows(data, _TERM_COLUMNS, least=2):
        term = cells.pop("term")
        if term in terms:
            raise MalformedError(f"line {line}: term {term!r:.40} is there twice")
        terms[term] = {name: text for name, text in cells.items() if text or name == "title"}
    fields: Fields = {"id": vocabulary_id, "title": title, "version": version, "terms": terms}
    return _convert(fields, VocabularyFile)


def parse_matches(data: bytes, *, source: str, target: str) -> MappingFile:
    """Return the mapping that a CSV file holds: ``term,relation,to``.

    Raises:
        MalformedError: It is too long, is no such CSV, or maps a term to another one twice.
    """
    matches: dict[str, Fields] = {}
    for line, cells in _rows(data, _MATCH_COLUMNS, least=3):
        related = matches.setdefault(cells["term"], {})
        if cells["to"] in related:
            raise MalformedError(f"line {line}: {cells['term']!r:.40} is mapped so twice")
        related[cells["to"]] = cells["relation"]
    return _convert({"from": source, "to": target, "matches": {**matches}}, MappingFile)


def write_terms(vocabulary: Vocabulary) -> bytes:
    """Return the terms as CSV, which ``parse_terms`` reads."""
    described = any(term.description for term in vocabulary.terms.values())
    rows = [
        [name, term.title, term.description or ""][: 2 + described]
        for name, term in sorted(vocabulary.terms.items())
    ]
    return _write(_TERM_COLUMNS[: 2 + described], rows)


def write_matches(matches: Matches) -> bytes:
    """Return a mapping as CSV, which ``parse_matches`` reads."""
    rows = [
        [term, str(relation), other]
        for term, related in sorted(matches.items())
        for other, relation in sorted(related.items())
    ]
    return _write(_MATCH_COLUMNS, rows)


def _convert(fields: object, kind: type[F]) -> F:
    try:
        converted: F = msgspec.convert(fields, kind, strict=True)
    except msgspec.ValidationError as error:
        words = ", ".join(Relation)
        hint = f" (a relation is one of {words})" if "enum value" in str(error) else ""
        raise MalformedError(f"the file is not as it should be: {error!s:.200}{hint}") from error
    # Not everything that JSON can write is acceptable to others, such as a lone surrogate.
    encode_document(converted)
    return converted


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise MalformedError(f"{twice!r:.40} is there twice")
    return fields


def _decode(data: bytes) -> str:
    if len(data) > MAX_FILE_BYTES:
        raise MalformedError(f"the file has {len(data)} bytes; at most {MAX_FILE_BYTES} are read")
    try:
        # Spreadsheets begin a file with a byte order mark.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedError("the file is not in UTF-8") from error


def _rows(
    data: bytes, columns: Sequence[str], *, least: int
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the lines below a header of just these columns, of which the last may be missing."""
    reader = csv.reader(io.StringIO(_decode(data), newline=""), strict=True)
    try:
        header = next(reader, [])
        if header not in (list(columns[:least]), list(columns)):
            raise MalformedError(f"the first line is {','.join(columns[:least])}")
        for row in reader:
            if len(row) not in {0, len(header)}:
                raise MalformedError(f"line {reader.line_num}: {len(header)} cells are expected")
            if row:
                yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise MalformedError(f"line {reader.line_num}: not CSV: {error}") from error


def _write(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue().encode()

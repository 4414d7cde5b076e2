"""Vocabularies in the registry: what contradicts itself, or has a second spelling, is refused."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest

from hashshare.crypto import canonical
from hashshare.domain.documents import Document, decode_document, encode_document
from hashshare.domain.hash_sets import HashSet
from hashshare.domain.policy import View
from hashshare.domain.registry import Registry, parse_registry
from hashshare.domain.succession import verify_succession
from hashshare.errors import AlreadyExistsError, HashshareError, MalformedError, NotFoundError
from tests.support.vocabularies import (
    ABC,
    BROAD,
    CSAM,
    EXACT,
    coalition,
    mapped_coalition,
    vocabulary,
)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return mapped_coalition()


def test_a_registry_with_vocabularies_has_one_byte_form(registry: Registry) -> None:
    """Printing and parsing are inverse; one without has the bytes that it always had."""
    assert parse_registry(encode_document(registry)) == registry
    for word in (b"vocabular", b"mappings", b"terms"):
        assert word not in encode_document(coalition())


def reader_from_before(kind: type[Document], without: set[str]) -> type[Document]:
    """The kind of document as it was without these fields."""
    known = [f for f in msgspec.structs.fields(kind) if f.name not in without]
    fields = [(f.name, f.type) if f.required else (f.name, f.type, field_of(f)) for f in known]
    # Typed as any structure: its bases are told at run time.
    define: Any = msgspec.defstruct
    form = {"bases": (Document,), "frozen": True, "kw_only": True}
    older: type[Document] = define(kind.__name__, fields, **form)
    return older


def field_of(info: msgspec.structs.FieldInfo) -> Any:
    """A field with the same default."""
    if info.default_factory is not msgspec.NODEFAULT:
        return msgspec.field(default_factory=info.default_factory)
    return msgspec.field(default=info.default)


def test_a_reader_from_before_refuses_vocabularies(registry: Registry) -> None:
    """It reads on where none is used; it never reads a registry otherwise than others do."""
    older = reader_from_before(Registry, {"vocabularies", "mappings"})
    older_view = reader_from_before(View, {"terms", "excluded_terms"})
    older_set = reader_from_before(HashSet, {"vocabulary"})
    view, hash_set = View(terms=("ours:A1",)), registry.hash_set("csam")

    decode_document(encode_document(coalition()), older)
    decode_document(encode_document(View()), older_view)
    decode_document(encode_document(CSAM), older_set)
    for document, kind in ((registry, older), (view, older_view), (hash_set, older_set)):
        with pytest.raises(MalformedError):
            decode_document(encode_document(document), kind)


def edited(registry: Registry, *path: object, value: object) -> Registry:
    """The registry from a document in which one value is another; None takes it out."""
    document: Any = msgspec.to_builtins(registry)
    place = document
    for step in path[:-1]:
        place = place[step]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return parse_registry(canonical.encode(document))


ABC_VIEW = ("hash_sets", "csam", "views", "abc")
BAD = {
    "a term twice": (*ABC_VIEW, "terms", ["abc:A", "abc:A"]),
    "terms unsorted": (*ABC_VIEW, "terms", ["ours:B1", "abc:A"]),
    "no terms, written": (*ABC_VIEW, "terms", []),
    "no excluded terms, written": (*ABC_VIEW, "excluded_terms", []),
    "a term without its vocabulary": (*ABC_VIEW, "terms", ["A"]),
    "a term of two vocabularies": (*ABC_VIEW, "terms", ["abc:A:B"]),
    "a term in capitals": (*ABC_VIEW, "terms", ["ABC:A"]),
    "an unknown term": (*ABC_VIEW, "terms", ["abc:Z"]),
    "an unknown excluded term": (*ABC_VIEW, "excluded_terms", ["abc:Z"]),
    "a term of an unknown vocabulary": (*ABC_VIEW, "terms", ["nothing:A"]),
    "a term that no mapping leads to": (*ABC_VIEW, "terms", ["baseline:in"]),
    "terms in a hash set without vocabulary": (
        "hash_sets", "plain", "views", "abc", "terms", ["abc:A"],
    ),
    "a hash set of an unknown vocabulary": ("hash_sets", "plain", "vocabulary", "nothing"),
    "a hash set of another vocabulary": ("hash_sets", "plain", "vocabulary", "abc"),
    "a hash set whose vocabulary has no name": ("hash_sets", "plain", "vocabulary", ""),
    "a classification that the vocabulary lacks": (
        "hash_sets", "csam", "classifications", ["A1", "Z9"],
    ),
    "a mapping from an unknown vocabulary": ("mappings", "nothing", {"abc": {"A": {"A": EXACT}}}),
    "a mapping to an unknown vocabulary": ("mappings", "ours", "nothing", {"A1": {"A": EXACT}}),
    "a mapping of an unknown term": ("mappings", "ours", "abc", "Z9", {"A": EXACT}),
    "a mapping to an unknown term": ("mappings", "ours", "abc", "A1", {"Z": EXACT}),
    "a mapping to itself": ("mappings", "ours", "ours", {"A1": {"A2": BROAD}}),
    "an unknown relation": ("mappings", "ours", "abc", "A1", {"A": "closeMatch"}),
    "a term mapped to nothing": ("mappings", "ours", "abc", "A1", {}),
    "a mapping of nothing": ("mappings", "ours", "abc", {}),
    "a vocabulary mapped to nothing": ("mappings", "ours", {}),
    "no mappings, written": ("mappings", {}),
    "no vocabularies, written": ("vocabularies", {}),
    "a vocabulary without terms": ("vocabularies", "baseline", "terms", {}),
    "a vocabulary without version": ("vocabularies", "baseline", "version", ""),
    "a vocabulary with more": ("vocabularies", "baseline", "by", "somebody"),
    "a vocabulary that is in use and deleted": ("vocabularies", "abc", None),
    "a vocabulary of a hash set that is deleted": ("vocabularies", "ours", None),
    "a term that is in use and deleted": ("vocabularies", "abc", "terms", "A", None),
    "a mapping that is in use and deleted": ("mappings", "ours", None),
    "a term with an empty description": (
        "vocabularies", "baseline", "terms", "in", {"title": "In", "description": ""},
    ),
    "a term with too long a title": (
        "vocabularies", "baseline", "terms", "in", {"title": "i" * 201},
    ),
    "too many terms": (
        "vocabularies", "baseline", "terms", {f"t{n}": {"title": "t"} for n in range(1001)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_contradicts_itself_is_refused(registry: Registry, name: str) -> None:
    """By whoever reads the registry: the server, members, mirrors, auditors."""
    *path, value = BAD[name]

    with pytest.raises(MalformedError):
        edited(registry, *path, value=value)


def test_what_is_in_order_is_not_refused(registry: Registry) -> None:
    """Otherwise the test before would say nothing."""
    edited(registry, *ABC_VIEW, "terms", value=["abc:A", "abc:C"])
    edited(registry, "vocabularies", "baseline", value=None)
    edited(registry, "mappings", "ours", "abc", "A1", value={"B": "narrowMatch"})
    edited(registry, "hash_sets", "csam", "classifications", value=["A1"])
    terms = {f"t{n}": {"title": "t"} for n in range(1000)}
    edited(registry, "vocabularies", "baseline", "terms", value=terms)


def test_there_are_at_most_a_hundred_vocabularies(registry: Registry) -> None:
    """The registry is read by everybody, and whole."""
    known = dict(registry.vocabularies or {})
    for more, accepted in ((97, True), (98, False)):
        many = known | {f"v{n}": vocabulary("t") for n in range(more)}
        data = encode_document(msgspec.structs.replace(registry, vocabularies=many))
        with nullcontext() if accepted else pytest.raises(MalformedError):
            parse_registry(data)


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (lambda r: r.with_vocabulary("abc", ABC, new=True), AlreadyExistsError),
        (lambda r: r.with_vocabulary("Abc", ABC), MalformedError),
        (lambda r: r.with_vocabulary("ours", None), MalformedError),
        (lambda r: r.with_vocabulary("abc", vocabulary("B", "C", version="2")), MalformedError),
        (lambda r: r.with_mapping("ours", "abc", None), MalformedError),
        (lambda r: r.with_mapping("ours", "abc", {}), MalformedError),
        (lambda r: r.vocabulary("nothing"), NotFoundError),
    ],
)
def test_an_edit_that_contradicts_is_refused(
    registry: Registry, edit: Callable[[Registry], object], error: type[HashshareError]
) -> None:
    """Before it is signed."""
    with pytest.raises(error):
        edit(registry)


def test_edits_come_and_go(registry: Registry) -> None:
    """What is gone leaves nothing behind, not even an empty place."""
    plain = msgspec.structs.replace(registry.hash_set("csam"), vocabulary=msgspec.UNSET)
    gone = registry.with_view("csam", "abc", View())
    gone = gone.with_mapping("ours", "abc", None)
    gone = gone.with_hash_set("csam", msgspec.structs.replace(plain, views=CSAM.views))
    for name in ("ours", "abc", "baseline"):
        gone = gone.with_vocabulary(name, None)

    before = msgspec.to_builtins(registry) | {"hash_sets": 0, "version": 0}
    after = msgspec.to_builtins(gone) | {"hash_sets": 0, "version": 0}
    assert before.keys() - after.keys() == {"vocabularies", "mappings"}
    assert gone.hash_sets == {"csam": CSAM, "plain": CSAM}


def test_a_vocabulary_that_changes_has_another_version(registry: Registry) -> None:
    """A version names one content, and the same once more is no change."""
    more = vocabulary("A", "B", "C", "D")
    with pytest.raises(MalformedError):
        verify_succession(registry, registry.with_vocabulary("abc", more))

    later = vocabulary("A", "B", "C", "D", version="2")
    verify_succession(registry, registry.with_vocabulary("abc", later))
    verify_succession(registry, registry.with_vocabulary("abc", ABC))
    verify_succession(registry, registry.with_vocabulary("baseline", None))

"""Vocabularies of classifications, and mappings from the terms of one to those of another.

They are data of the registry: governance signs them, and each version of the registry has its own.
A mapping serves a view to select by terms that are not the hash set's own. It rewrites nothing:
what a member said stays its own term in the statement, in provenance and in the entry.

Source: docs/protocol.md, "Vocabularies"; the relations are those of SKOS.
"""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from hashshare.domain.documents import Classification, Document, Id, Text, verify_sorted
from hashshare.domain.hash_sets import HashSet
from hashshare.domain.names import parse_term
from hashshare.domain.policy import View
from hashshare.errors import MalformedError


class Relation(StrEnum):
    """How wide the other term is, beside the one that is mapped to it; the words are SKOS's."""

    EXACT = "exactMatch"
    BROAD = "broadMatch"
    NARROW = "narrowMatch"


SURE: Final = frozenset({Relation.EXACT, Relation.BROAD})
"""With these, whatever is of a term is of the other one too."""
POSSIBLE: Final = frozenset(Relation)
"""With these, something of a term may be of the other one."""


class Term(Document, frozen=True):
    """What a classification means, for people."""

    title: Text
    description: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)] | msgspec.UnsetType = (
        msgspec.UNSET
    )


Terms = Annotated[dict[Classification, Term], msgspec.Meta(min_length=1, max_length=1000)]


class Vocabulary(Document, frozen=True):
    """The classifications of one authority or coalition.

    Attributes:
        title: For people.
        version: As those who maintain it call it, such as ``3.1``; other content, other version.
        terms: By the text that is used as a classification.
    """

    title: Text
    version: Text
    terms: Terms


Matches = Annotated[
    dict[
        Classification,
        Annotated[dict[Classification, Relation], msgspec.Meta(min_length=1, max_length=1000)],
    ],
    msgspec.Meta(min_length=1, max_length=1000),
]
"""By term of one vocabulary the terms of another that it is mapped to."""

Vocabularies = Annotated[dict[Id, Vocabulary], msgspec.Meta(min_length=1, max_length=100)]
Mappings = Annotated[
    dict[Id, Annotated[dict[Id, Matches], msgspec.Meta(min_length=1, max_length=100)]],
    msgspec.Meta(min_length=1, max_length=100),
]
"""By the vocabulary that is mapped, and by the one that it is mapped to."""


def expand(
    terms: Iterable[str],
    own: str,
    mappings: Mapping[str, Mapping[str, Matches]],
    relations: Collection[Relation],
) -> frozenset[str]:
    """Return the classifications of a vocabulary that are, or are mapped to, one of the terms.

    Mappings are not chained: what is mapped to a term that is mapped further falls under the
    first one alone. More terms, mappings or relations never give less.

    Args:
        terms: Of any vocabularies, each as ``iwf:A``.
        own: The id of the vocabulary that the classifications are of.
        mappings: By the vocabulary that is mapped and the one that it is mapped to.
        relations: Those that count.
    """
    wanted = {parse_term(term) for term in terms}
    found = {term for vocabulary, term in wanted if vocabulary == own}
    for other, matches in mappings.get(own, {}).items():
        found |= {
            classification
            for classification, related in matches.items()
            if any((other, t) in wanted and r in relations for t, r in related.items())
        }
    return frozenset(found)


def resolve(view: View, own: str, mappings: Mapping[str, Mapping[str, Matches]]) -> View:
    """Return the view as it is evaluated: classifications in the place of its terms.

    What is counted must be of one of its terms for certain; what may be of an excluded one is
    left out.

    Args:
        view: The policy; it comes back as it is when it has no terms.
        own: The id of the hash set's vocabulary.
        mappings: As for ``expand``.
    """
    if not view.terms and not view.excluded_terms:
        return view
    counted = view.classifications
    if view.terms:
        named = expand(view.terms, own, mappings, SURE)
        counted = tuple(sorted(named if counted is None else named.intersection(counted)))
    left_out = expand(view.excluded_terms or (), own, mappings, POSSIBLE).union(view.left_out)
    resolved: View = msgspec.structs.replace(
        view,
        classifications=counted,
        excluded_classifications=tuple(sorted(left_out)) or msgspec.UNSET,
        terms=msgspec.UNSET,
        excluded_terms=msgspec.UNSET,
    )
    return resolved


def verify_vocabularies(
    vocabularies: Vocabularies | msgspec.UnsetType,
    mappings: Mappings | msgspec.UnsetType,
    hash_sets: Mapping[str, HashSet],
) -> None:
    """Refuse vocabularies, mappings and what uses them if they contradict each other.

    Raises:
        MalformedError: A vocabulary, term or mapping is used that is not there; a vocabulary is
            mapped to itself; terms are not sorted; or something is empty, and not left out.
    """
    known, mapped = vocabularies or {}, mappings or {}
    _verify_written([vocabularies, mappings, *mapped.values(), *(v.terms for v in known.values())])
    for source, targets in mapped.items():
        for target, matches in targets.items():
            if source == target:
                raise MalformedError(f"vocabulary {source} is not mapped to itself")
            _verify_mapping(source, target, matches, known)
    for hash_set_id, hash_set in hash_sets.items():
        _verify_hash_set(hash_set_id, hash_set, known)
        for view_id, view in hash_set.views.items():
            _verify_view(f"view {hash_set_id}/{view_id}", view, hash_set.vocabulary, known, mapped)


def _verify_mapping(
    source: str, target: str, matches: Matches, known: Mapping[str, Vocabulary]
) -> None:
    where = f"the mapping from {source} to {target}"
    _verify_written([matches, *matches.values()])
    for term, related in matches.items():
        _verify_known(source, term, known, where)
        for other in related:
            _verify_known(target, other, known, where)


def _verify_hash_set(hash_set_id: str, hash_set: HashSet, known: Mapping[str, Vocabulary]) -> None:
    if hash_set.vocabulary:
        for classification in hash_set.classifications:
            _verify_known(hash_set.vocabulary, classification, known, f"hash set {hash_set_id}")


def _verify_view(
    where: str,
    view: View,
    own: str | msgspec.UnsetType,
    known: Mapping[str, Vocabulary],
    mappings: Mapping[str, Mapping[str, Matches]],
) -> None:
    _verify_written([view.terms, view.excluded_terms])
    for terms in (view.terms or (), view.excluded_terms or ()):
        verify_sorted(terms, "terms")
        for text in terms:
            vocabulary, term = parse_term(text)
            _verify_known(vocabulary, term, known, where)
            if not own:
                raise MalformedError(
                    f"{where} selects by {text}, but its hash set names no vocabulary: "
                    "hashshare hash-set set SET --vocabulary ID"
                )
            if vocabulary != own and vocabulary not in mappings.get(own, ()):
                raise MalformedError(
                    f"{where} selects by {text}, but {own} is not mapped to {vocabulary}: "
                    "hashshare vocabulary map FILE, or hashshare view set SET/VIEW with other terms"
                )


def _verify_known(
    vocabulary_id: str, term: str, known: Mapping[str, Vocabulary], where: str
) -> None:
    if vocabulary_id not in known:
        raise MalformedError(
            f"{where} needs the vocabulary {vocabulary_id!r:.70}, which is not there: "
            "hashshare vocabulary add FILE"
        )
    if term not in known[vocabulary_id].terms:
        raise MalformedError(
            f"{where} needs the term {term!r:.40}, which vocabulary {vocabulary_id} lacks: "
            f"hashshare vocabulary show {vocabulary_id}"
        )


def _verify_written(written: Iterable[Collection[object] | msgspec.UnsetType]) -> None:
    """Refuse what is empty: it would be a second spelling of what is left out."""
    if any(not isinstance(one, msgspec.UnsetType) and not one for one in written):
        raise MalformedError("a vocabulary, mapping or choice of terms that is empty is left out")

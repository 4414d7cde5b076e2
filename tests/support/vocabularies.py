"""Made-up vocabularies with mappings, and what they mean, said as plainly as can be."""

from collections.abc import Iterable, Mapping

import msgspec
from hypothesis import strategies as st

from hashshare.crypto.keys import PrivateKey
from hashshare.domain.hash_sets import HashSet
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.policy import View
from hashshare.domain.registry import Keys, Registry
from hashshare.domain.vocabularies import Matches, Relation, Term, Vocabulary
from tests.strategies import CLASSIFICATIONS

EXACT, BROAD, NARROW = Relation.EXACT, Relation.BROAD, Relation.NARROW
AB = {"A1": {"A": BROAD}, "A2": {"A": BROAD, "B": NARROW}, "B1": {"C": EXACT}}
"""A mapping from ``ours`` to ``abc``."""


def vocabulary(*terms: str, version: str = "1") -> Vocabulary:
    """A vocabulary of these terms."""
    about = {term: Term(title=f"Term {term}") for term in terms}
    return Vocabulary(title="Made up", version=version, terms=about)


OURS, ABC, BASELINE = vocabulary(*CLASSIFICATIONS), vocabulary("A", "B", "C"), vocabulary("in")

CSAM = HashSet(
    title="CSAM",
    algorithms=(HashAlgorithm.SHA256,),
    classifications=tuple(CLASSIFICATIONS),
    views={"all": View(), "abc": View()},
)


def coalition() -> Registry:
    """A coalition without vocabularies."""
    return Registry(
        coalition="Coalition",
        log="coalition.example/log",
        version=1,
        governance=Keys(keys=(PrivateKey.generate().public.text,)),
        publishers=Keys(keys=(PrivateKey.generate().public.text,)),
        hash_sets={"csam": CSAM, "plain": CSAM},
    )


def mapped_coalition() -> Registry:
    """One with three; ``ours`` is mapped to ``abc``, and the view ``abc`` selects by that."""
    view = View(terms=("abc:A", "ours:B1"), excluded_terms=("abc:B",))
    return with_vocabularies(coalition(), "csam").with_view("csam", "abc", view)


def with_vocabularies(registry: Registry, hash_set: str, matches: Matches = AB) -> Registry:
    """The registry after some edits: a hash set's own vocabulary, mapped to ``abc``."""
    named = msgspec.structs.replace(registry.hash_set(hash_set), vocabulary="ours")
    return (
        registry.with_vocabulary("ours", OURS, new=True)
        .with_vocabulary("abc", ABC, new=True)
        .with_vocabulary("baseline", BASELINE, new=True)
        .with_mapping("ours", "abc", matches)
        .with_hash_set(hash_set, named)
    )


related = st.dictionaries(st.sampled_from([*ABC.terms]), st.sampled_from(Relation), min_size=1)
matchings = st.dictionaries(st.sampled_from(CLASSIFICATIONS), related, min_size=1)
"""Mappings from ``ours`` to ``abc``."""

names = st.sampled_from([*(f"ours:{t}" for t in OURS.terms), *(f"abc:{t}" for t in ABC.terms)])
choices = st.sets(names, min_size=1, max_size=4).map(lambda terms: tuple(sorted(terms)))
"""Terms of a view."""


def falls_under(
    classification: str,
    terms: Iterable[str],
    matches: Mapping[str, Mapping[str, Relation]],
    relations: Iterable[Relation],
) -> bool:
    """Whether a classification of ``ours`` is one of the terms, or is mapped to one."""
    mapped = [f"abc:{t}" for t, r in matches.get(classification, {}).items() if r in [*relations]]
    return bool({f"ours:{classification}", *mapped} & {*terms})


def lets_count(view: View, classification: str, matches: Matches) -> bool:
    """Whether a view's terms let a classification count, as the documentation says it."""
    if view.terms and not falls_under(classification, view.terms, matches, (EXACT, BROAD)):
        return False
    excluded = view.excluded_terms or ()
    return not falls_under(classification, excluded, matches, (EXACT, BROAD, NARROW))

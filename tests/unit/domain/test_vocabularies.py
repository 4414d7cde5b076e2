"""Views that select by terms: what these come to, and when a mapping changes it."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hashshare.domain.documents import decode_document, encode_document
from hashshare.domain.names import TERM_PATTERN, HashSetId, MemberId, ViewId, parse_term
from hashshare.domain.policy import Assertion, Basis, View, attributes_in, counts
from hashshare.domain.registry import Registry
from hashshare.domain.succession import is_reformed
from hashshare.domain.vocabularies import (
    POSSIBLE,
    SURE,
    Matches,
    Relation,
    Term,
    expand,
    resolve,
)
from hashshare.errors import MalformedError
from tests.strategies import CLASSIFICATIONS, views
from tests.support.vocabularies import (
    AB,
    ABC,
    BROAD,
    EXACT,
    NARROW,
    choices,
    falls_under,
    lets_count,
    mapped_coalition,
    matchings,
)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return mapped_coalition()


relations = st.sets(st.sampled_from(Relation)).map(frozenset)


@given(choices, matchings, relations)
def test_terms_expand_to_what_falls_under_them(
    terms: tuple[str, ...], matches: Matches, counted: frozenset[Relation]
) -> None:
    """Each classification on its own, by the plain rule; those of no mapping keep themselves."""
    expected = {c for c in CLASSIFICATIONS if falls_under(c, terms, matches, counted)}

    assert expand(terms, "ours", {"ours": {"abc": matches}}, counted) == expected
    kept = {c for c in CLASSIFICATIONS if f"ours:{c}" in terms}
    assert expand(terms, "ours", {}, counted) == kept


@given(choices, choices, matchings, matchings, relations, relations)
def test_more_mappings_never_select_less(
    terms: tuple[str, ...],
    others: tuple[str, ...],
    one: Matches,
    other: Matches,
    counted: frozenset[Relation],
    more: frozenset[Relation],
) -> None:
    """Nor do more terms, or more relations."""
    both = {t: {**one.get(t, {}), **other.get(t, {})} for t in {*one, *other}}
    # Where they differ in a relation, the first one stays.
    both = {t: {**related, **one.get(t, {})} for t, related in both.items()}
    less = expand(terms, "ours", {"ours": {"abc": one}}, counted)

    for wider in (
        expand(terms, "ours", {"ours": {"abc": both}}, counted),
        expand({*terms, *others}, "ours", {"ours": {"abc": one}}, counted),
        expand(terms, "ours", {"ours": {"abc": one}}, counted | more),
        expand(terms, "ours", {"ours": {"abc": one, "baseline": AB}, "abc": {}}, counted),
    ):
        assert less <= wider


def test_mappings_are_not_chained() -> None:
    """What is mapped to a term is not mapped to what that one is mapped to."""
    mappings: dict[str, dict[str, Matches]] = {
        "ours": {"abc": {"A1": {"A": EXACT}}},
        "abc": {"baseline": {"A": {"in": EXACT}}, "ours": {"A": {"A2": EXACT}}},
    }

    assert expand(["baseline:in"], "ours", mappings, POSSIBLE) == set()
    assert expand(["abc:A"], "ours", mappings, SURE) == {"A1"}
    # And a mapping in the other direction is another one.
    assert expand(["ours:A2"], "abc", mappings, SURE) == {"A"}
    assert expand(["ours:A1"], "abc", mappings, SURE) == set()


@given(views, st.none() | choices, st.none() | choices, matchings)
@example(View(classifications=("A2", "B1")), ("abc:A",), None, AB)
@example(View(excluded_classifications=("B1",)), None, ("abc:B",), AB)
def test_a_view_counts_what_its_terms_let_count(
    view: View, terms: tuple[str, ...] | None, excluded: tuple[str, ...] | None, matches: Matches
) -> None:
    """And what its other conditions let count, as before."""
    named: View = msgspec.structs.replace(
        view, terms=terms or msgspec.UNSET, excluded_terms=excluded or msgspec.UNSET
    )
    resolved = resolve(named, "ours", {"ours": {"abc": matches}})
    for classification in CLASSIFICATIONS:
        said = Assertion("", classification, None, Basis.REVIEWED, 0)
        expected = counts(view, MemberId("acme"), said) and lets_count(
            named, classification, matches
        )
        assert counts(resolved, MemberId("acme"), said) is expected


def test_what_a_member_said_stays_its_own_term(registry: Registry) -> None:
    """The entry has the classification of the statement, not the one that it is mapped to."""
    said = {MemberId("acme"): Assertion("", "A1", None, Basis.REVIEWED, 0)}

    assert attributes_in(registry.evaluated_views("csam")["abc"], said, {}) == (
        b'{"by":{"acme":"A1"}}'
    )


def test_narrower_terms_are_not_counted_but_left_out() -> None:
    """What may be of the term is no reason to list, and reason enough not to."""
    narrow: Matches = {"A1": {"A": NARROW}}
    for field, counted in (("terms", ()), ("excluded_terms", None)):
        view = msgspec.structs.replace(View(), **{field: ("abc:A",)})
        resolved = resolve(view, "ours", {"ours": {"abc": narrow}})
        assert resolved.classifications == counted
        assert resolved.left_out == (("A1",) if field == "excluded_terms" else ())


def test_a_view_without_terms_is_evaluated_as_it_is() -> None:
    """Byte for byte, so that nothing changes for who uses none."""
    view = View(quorum=2, classifications=("A1",))

    assert resolve(view, "ours", {"ours": {"abc": AB}}) is view
    assert b"terms" not in encode_document(view)


@pytest.mark.parametrize("field", ["terms", "excluded_terms"])
def test_a_view_is_not_evaluated_as_if_it_had_no_terms(field: str) -> None:
    """It would publish what they leave out."""
    view = msgspec.structs.replace(View(), **{field: ("abc:A",)})

    with pytest.raises(RuntimeError):
        attributes_in(view, {}, {})


RETITLED = msgspec.structs.replace(ABC, version="2", terms=ABC.terms | {"A": Term(title="Other")})


@pytest.mark.parametrize(
    ("edit", "reformed"),
    [
        (lambda r: r.with_mapping("ours", "abc", AB | {"A1": {"A": NARROW}}), ["abc"]),
        (lambda r: r.with_mapping("ours", "abc", AB | {"A2": {"A": BROAD}}), ["abc"]),
        (lambda r: r.with_mapping("ours", "abc", AB | {"B1": {"A": EXACT}}), []),
        (lambda r: r.with_mapping("ours", "abc", AB | {"A1": {"A": EXACT}}), []),
        (lambda r: r.with_mapping("ours", "baseline", {"A1": {"in": EXACT}}), []),
        (lambda r: r.with_vocabulary("abc", RETITLED), []),
        (lambda r: r.with_view("csam", "all", View(terms=("abc:C",))), ["all"]),
    ],
)
def test_a_mapping_reforms_the_views_that_it_changes(
    registry: Registry, edit: Callable[[Registry], Registry], reformed: list[str]
) -> None:
    """And no others: those hashes are looked at again that no submission touched."""
    new = edit(registry)

    assert [
        view
        for view in new.hash_set("csam").views
        if is_reformed(ViewId(view), HashSetId("csam"), old=registry, new=new)
    ] == reformed


@pytest.mark.parametrize(
    "text",
    ["", "A", "abc:", ":A", "ABC:A", "abc:A ", " abc:A", "abc:A\n", "abc:A:B", "-:A", "abc:Ä"],
)
def test_another_spelling_is_no_term(text: str) -> None:
    """Neither by itself nor in a view."""
    with pytest.raises(MalformedError):
        parse_term(text)
    with pytest.raises(MalformedError):
        decode_document(encode_document(View(terms=(text,))), View)


@given(st.text(max_size=40) | st.from_regex(TERM_PATTERN, fullmatch=True))
def test_any_text_is_a_term_or_malformed(text: str) -> None:
    """And what is accepted is the one spelling."""
    try:
        parts = parse_term(text)
    except MalformedError:
        return
    assert ":".join(parts) == text

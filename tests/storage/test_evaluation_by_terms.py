"""The SQL of views that select by terms, against the rule said one assertion at a time."""

import asyncpg
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hashshare.domain.fold import Fold
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.policy import Dispute, View, attributes_in
from hashshare.domain.vocabularies import Matches, resolve
from hashshare.storage.evaluation import EvaluationRepository, Span
from tests.storage.test_evaluation import (
    REGISTRY,
    WEIGHED,
    History,
    connection,
    dense_histories,
    evaluate,
    store,
    wide_views,
)
from tests.strategies import JURISDICTIONS, histories, views
from tests.support.examples import with_database
from tests.support.vocabularies import AB, BROAD, NARROW, choices, lets_count, matchings

__all__ = ["connection"]


@given(
    history=st.one_of(histories, dense_histories),
    view=st.one_of(views, wide_views),
    terms=st.none() | choices,
    excluded=st.none() | choices,
    matches=matchings,
)
@example(WEIGHED, View(basis="any"), ("abc:A",), None, {"A1": {"A": BROAD}})
@example(WEIGHED, View(basis="any"), ("abc:A",), None, {"A1": {"A": NARROW}})
@example(WEIGHED, View(basis="any"), None, ("abc:A",), {"A1": {"A": NARROW}})
@example(WEIGHED, View(basis="any", classifications=("A2",)), ("ours:A1",), None, AB)
@with_database
async def test_a_view_by_terms_in_sql_equals_the_plain_rule(
    connection: asyncpg.Connection,
    history: History,
    view: View,
    terms: tuple[str, ...] | None,
    excluded: tuple[str, ...] | None,
    matches: Matches,
) -> None:
    """By each statement; and the fold of all hashes comes to the same."""
    fold = Fold()
    touched = [fold.apply(m, records, log_index=i) for i, (m, records) in enumerate(history)]
    named = msgspec.structs.replace(
        view, terms=terms or msgspec.UNSET, excluded_terms=excluded or msgspec.UNSET
    )
    resolved = resolve(named, "ours", {"ours": {"abc": matches}})
    expected = {}
    for value in fold.opinions:
        said = fold.said(value, {})
        stances = {
            member: stance
            for member, stance in said.stances.items()
            if isinstance(stance, Dispute) or lets_count(named, stance.classification, matches)
        }
        expected[value] = attributes_in(view, stances, JURISDICTIONS, said.ruling)
    for algorithm in HashAlgorithm:
        listed = {v.value: a for v, a in expected.items() if v.algorithm is algorithm and a}
        assert fold.entries(resolved, algorithm, JURISDICTIONS) == listed
    transaction = connection.transaction()
    await transaction.start()
    try:
        authors = [(member, True) for member, _ in history]
        hash_set_no, _ = await store(connection, fold, touched, authors)
        for start in (None, 0):
            chosen = fold.opinions if start is None else set().union(*touched)
            found = await evaluate(connection, REGISTRY, hash_set_no, resolved, start, 10, 5)
            assert found == {value: expected[value] for value in chosen}
    finally:
        await transaction.rollback()


@pytest.mark.parametrize("field", ["terms", "excluded_terms"])
async def test_terms_are_not_passed_over(connection: asyncpg.Connection, field: str) -> None:
    """Even of nothing: a view is resolved before, or not evaluated."""
    view = msgspec.structs.replace(View(), **{field: ("abc:A",)})
    nothing = Span(1, covered=None, log_size=0, number=0, lowest=1, highest=0, total=0)
    evaluated = EvaluationRepository(connection).evaluate(nothing, view, REGISTRY, batch_size=1)
    with pytest.raises(RuntimeError):
        await anext(evaluated)

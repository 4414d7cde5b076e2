"""The fold, rule by rule as docs/protocol.md section 3 says them, and as laws."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.domain.documents import encode_document
from hashshare.domain.fold import Fold
from hashshare.domain.hashes import HashAlgorithm, HashValue
from hashshare.domain.names import MemberId
from hashshare.domain.policy import (
    Basis,
    Decision,
    Dispute,
    DisputeReason,
    Media,
    QuorumOf,
    View,
    attributes_in,
    without_members,
)
from hashshare.domain.records import (
    AssertRecord,
    DisputeRecord,
    Record,
    RuleRecord,
    WithdrawRecord,
)
from hashshare.domain.spans import Span
from tests.strategies import ALGORITHMS, JURISDICTIONS, MEMBERS, histories, views

SHA256 = HashAlgorithm.SHA256
ACME, BETA, GAMMA = MEMBERS
ITEM = {SHA256: b"\x01" * 32}
VALUE = HashValue(SHA256, b"\x01" * 32)
ANY = View(basis="any")


def vouch(classification: str = "A1", record: str = "", **fields: Any) -> AssertRecord:
    """An assertion of ``ITEM``."""
    rest: dict[str, Any] = {"media": None, "basis": Basis.REVIEWED} | fields
    return AssertRecord(record=record, hashes=ITEM, classification=classification, **rest)


def fold(*submissions: tuple[MemberId, Record]) -> Fold:
    """The fold of submissions of one record each."""
    state = Fold()
    for index, (member, record) in enumerate(submissions):
        state.apply(member, [record], log_index=index)
    return state


def entry(state: Fold, view: View = ANY) -> object:
    """The attributes of ``ITEM`` in a view, None if it is not listed."""
    attributes = state.entries(view, SHA256, JURISDICTIONS).get(VALUE.value)
    return None if attributes is None else json.loads(attributes)


def test_a_second_opinion_never_overwrites_a_first() -> None:
    """One hash is one entry, and each member stays in it."""
    assert entry(fold((ACME, vouch("A1")), (BETA, vouch("B1")))) == {
        "by": {"acme": "A1", "beta": "B1"}
    }


def test_the_latest_assertion_of_a_member_is_its_stance() -> None:
    """Re-asserting with another classification replaces the first."""
    assert entry(fold((ACME, vouch("A1")), (ACME, vouch("B1")))) == {"by": {"acme": "B1"}}


def test_the_same_assertion_again_keeps_its_place_in_the_log() -> None:
    """Otherwise it would outrun a later one under another record id."""
    state = fold((ACME, vouch("A1")), (ACME, vouch("A2", record="r1")), (ACME, vouch("A1")))

    assert entry(state) == {"by": {"acme": "A2"}}


def test_the_greatest_record_decides_within_one_submission() -> None:
    """So that the order of lines does not matter."""
    state = Fold()
    state.apply(ACME, [vouch("B1", "r2"), vouch("A1", "r1")], log_index=0)

    assert entry(state) == {"by": {"acme": "B1"}}


def test_withdrawing_a_record_leaves_the_other_records() -> None:
    """Two items of a member may share a perceptual hash."""
    gone = WithdrawRecord(record="r2", hashes={})
    state = fold((ACME, vouch("A1", "r1")), (ACME, vouch("A2", "r2")), (ACME, gone))

    assert entry(state) == {"by": {"acme": "A1"}}


def test_withdrawing_a_hash_takes_back_all_of_the_member_and_nothing_of_others() -> None:
    """Assertions under any record id, and its dispute."""
    gone = WithdrawRecord(record="", hashes=ITEM)
    state = fold((ACME, vouch(record="r1")), (ACME, vouch()), (BETA, vouch()), (ACME, gone))

    assert entry(state) == {"by": {"beta": "A1"}}


def test_a_dispute_takes_the_hash_out_until_the_disputer_takes_it_back() -> None:
    """Another assertion by somebody else does not bring it back."""
    dispute = DisputeRecord(hashes=ITEM, reason=DisputeReason.COLLISION)
    state = fold((ACME, vouch()), (BETA, dispute), (GAMMA, vouch()))
    assert entry(state) is None

    state.apply(BETA, [WithdrawRecord(record="", hashes=ITEM)], log_index=9)
    assert entry(state) == {"by": {"acme": "A1", "gamma": "A1"}}


def test_a_dispute_below_the_limit_is_shown_and_does_not_remove() -> None:
    """The limit is part of the view."""
    dispute = DisputeRecord(hashes=ITEM, reason=DisputeReason.ADULT)
    state = fold((ACME, vouch()), (BETA, dispute))

    assert entry(state, View(dispute_limit=2)) == {"by": {"acme": "A1"}, "disputes": 1}


def test_a_dispute_ends_the_members_own_assertion_and_the_reverse() -> None:
    """A member has one stance on a hash."""
    dispute = DisputeRecord(hashes=ITEM, reason=DisputeReason.OTHER)
    state = fold((ACME, vouch()), (ACME, dispute))
    assert state.stances(VALUE) == {ACME: Dispute(DisputeReason.OTHER, 1)}

    state.apply(ACME, [vouch("A2")], log_index=2)
    assert entry(state) == {"by": {"acme": "A2"}}


def test_only_own_reviews_count_unless_the_view_says_otherwise() -> None:
    """Relayed assertions echo each other."""
    state = fold((ACME, vouch(basis=Basis.RELAYED)))

    assert entry(state, View()) is None
    assert entry(state, ANY) == {"by": {"acme": "A1"}}


@pytest.mark.parametrize(("quorum", "listed"), [(1, True), (2, True), (3, False)])
def test_the_quorum_counts_distinct_members(quorum: int, listed: bool) -> None:
    """Two members, one of them twice, are two."""
    state = fold((ACME, vouch(record="r1")), (ACME, vouch(record="r2")), (BETA, vouch()))

    assert (entry(state, View(quorum=quorum)) is not None) is listed


def test_the_quorum_may_count_jurisdictions() -> None:
    """acme and beta share one."""
    view = View(quorum=2, quorum_of=QuorumOf.JURISDICTIONS)

    assert entry(fold((ACME, vouch()), (BETA, vouch())), view) is None
    assert entry(fold((ACME, vouch()), (GAMMA, vouch())), view) is not None


def test_names_may_be_hidden() -> None:
    """Then members are counted, and classifications are listed."""
    state = fold((ACME, vouch("B1")), (BETA, vouch("A1")))

    assert entry(state, View(show_members=False)) == {
        "classifications": ["A1", "B1"],
        "members": 2,
    }


def test_media_is_given_only_if_all_who_state_it_agree() -> None:
    """A disagreement is not settled by the fold."""
    image = vouch(media=Media.IMAGE)

    assert entry(fold((ACME, image), (BETA, vouch()))) == {
        "by": {"acme": "A1", "beta": "A1"},
        "media": "image",
    }
    video = vouch(media=Media.VIDEO)
    assert entry(fold((ACME, image), (BETA, video))) == {"by": {"acme": "A1", "beta": "A1"}}


@given(histories, views, st.sampled_from(ALGORITHMS))
def test_only_touched_hashes_change(
    history: list[tuple[MemberId, list[Record]]], view: View, algorithm: HashAlgorithm
) -> None:
    """The publisher looks at nothing else."""
    state = Fold()
    for index, (member, records) in enumerate(history):
        before = state.entries(view, algorithm, JURISDICTIONS)
        touched = state.apply(member, records, log_index=index)
        after = state.entries(view, algorithm, JURISDICTIONS)

        changed = {v for v in before.keys() | after.keys() if before.get(v) != after.get(v)}
        assert changed <= {value.value for value in touched}


@given(histories, views, st.sampled_from(ALGORITHMS))
def test_a_submission_twice_is_as_good_as_once(
    history: list[tuple[MemberId, list[Record]]], view: View, algorithm: HashAlgorithm
) -> None:
    """Repeating a submission at once changes no list."""
    once, twice = Fold(), Fold()
    for index, (member, records) in enumerate(history):
        once.apply(member, records, log_index=2 * index)
        twice.apply(member, records, log_index=2 * index)
        twice.apply(member, records, log_index=2 * index + 1)

    assert once.entries(view, algorithm, JURISDICTIONS) == twice.entries(
        view, algorithm, JURISDICTIONS
    )


def rule(decision: Decision) -> RuleRecord:
    """A ruling about ``ITEM``."""
    return RuleRecord(hashes=ITEM, decision=decision, reason="seen by two")


KEEP, REMOVE = rule(Decision.KEEP), rule(Decision.REMOVE)
WRONG = DisputeRecord(hashes=ITEM, reason=DisputeReason.ADULT)


def test_a_ruling_settles_the_disputes_before_it() -> None:
    """Not those after it; and who insists withdraws its dispute, and disputes anew."""
    disputed: list[tuple[MemberId, Record]] = [(ACME, vouch()), (BETA, WRONG)]
    assert entry(fold(*disputed)) is None
    assert entry(fold(*disputed, (GAMMA, KEEP))) == {"by": {"acme": "A1"}}
    assert entry(fold(*disputed, (GAMMA, KEEP), (BETA, WRONG))) == {"by": {"acme": "A1"}}
    taken_back = WithdrawRecord(record="", hashes=ITEM)
    assert entry(fold(*disputed, (GAMMA, KEEP), (BETA, taken_back), (BETA, WRONG))) is None
    assert entry(fold(*disputed, (GAMMA, KEEP), (GAMMA, WRONG))) is None


def test_a_ruling_removes_from_every_view_until_another_one() -> None:
    """The latest one holds, whoever made it; no assertion and no withdrawal undoes it."""
    assert entry(fold((ACME, vouch()), (BETA, REMOVE))) is None
    assert entry(fold((BETA, REMOVE), (ACME, vouch()))) is None
    assert entry(fold((ACME, vouch()), (BETA, REMOVE), (GAMMA, KEEP))) == {"by": {"acme": "A1"}}
    assert entry(fold((ACME, vouch()), (BETA, KEEP), (GAMMA, REMOVE))) is None
    taken_back = WithdrawRecord(record="", hashes=ITEM)
    assert entry(fold((BETA, REMOVE), (BETA, taken_back), (ACME, vouch()))) is None


def test_a_dispute_that_does_not_count_alone_waits_for_a_second_one() -> None:
    """It is told of; two of them count, and so does one with one that counts alone."""
    state = fold((ACME, vouch()))
    state.apply(BETA, [WRONG], log_index=1, alone=False)
    assert entry(state) == {"by": {"acme": "A1"}, "disputes": 1}
    two = View(basis="any", dispute_limit=2)
    state.apply(GAMMA, [WRONG], log_index=2, alone=False)
    assert entry(state) is None
    assert entry(state, two) is None
    assert entry(state, View(basis="any", dispute_limit=3)) is not None


def test_what_is_disregarded_is_as_if_it_had_not_been_said() -> None:
    """Assertions, disputes and rulings; what these had ended stays ended."""
    state = fold((ACME, vouch("A1")), (BETA, vouch("A2")), (ACME, vouch("B1", record="r1")))

    def seen(**spans: tuple[int, int]) -> object:
        unheard = {MemberId(m): (Span(first=a, last=b),) for m, (a, b) in spans.items()}
        found = state.entries(ANY, SHA256, JURISDICTIONS, unheard).get(VALUE.value)
        return None if found is None else json.loads(found)

    assert seen() == {"by": {"acme": "B1", "beta": "A2"}}
    assert seen(acme=(2, 2)) == {"by": {"acme": "A1", "beta": "A2"}}
    assert seen(acme=(0, 2)) == {"by": {"beta": "A2"}}
    assert seen(acme=(0, 9), beta=(1, 1)) is None
    state.apply(BETA, [WRONG], log_index=3)
    assert seen() is None
    # Beta's assertion ended when it disputed.
    assert seen(beta=(3, 3)) == {"by": {"acme": "B1"}}
    state.apply(GAMMA, [KEEP], log_index=4)
    state.apply(GAMMA, [REMOVE], log_index=5)
    assert seen(gamma=(5, 5)) == {"by": {"acme": "B1"}}
    assert seen(gamma=(4, 5)) is None


@given(histories, views)
def test_hiding_the_members_gives_what_a_view_that_hides_them_publishes(
    history: list[tuple[MemberId, list[Record]]], view: View
) -> None:
    """So that a preview needs to evaluate a view once."""
    state = Fold()
    for index, (member, records) in enumerate(history):
        state.apply(member, records, log_index=index)
    shown = msgspec.structs.replace(view, show_members=True)
    hidden = msgspec.structs.replace(view, show_members=False)
    for value in state.opinions:
        said = state.said(value)
        one = attributes_in(shown, said.stances, JURISDICTIONS, said.ruling)
        other = attributes_in(hidden, said.stances, JURISDICTIONS, said.ruling)
        assert (None if one is None else without_members(one)) == other


def test_a_trusted_reviewers_own_review_counts_for_more() -> None:
    """Not what it relays, not towards jurisdictions; and its word is named once."""
    view = View(basis="any", quorum=2, weights={"acme": 2})
    assert entry(fold((ACME, vouch())), view) == {"by": {"acme": "A1"}}
    assert entry(fold((BETA, vouch())), view) is None
    assert entry(fold((ACME, vouch(basis=Basis.RELAYED))), view) is None
    countries = msgspec.structs.replace(view, quorum_of=QuorumOf.JURISDICTIONS)
    assert entry(fold((ACME, vouch())), countries) is None
    hidden = msgspec.structs.replace(view, show_members=False)
    assert entry(fold((ACME, vouch())), hidden) == {"classifications": ["A1"], "members": 1}


def test_what_a_view_excludes_does_not_count() -> None:
    """A member, or a classification."""
    state = fold((ACME, vouch("A1")), (BETA, vouch("B1")))
    assert entry(state, View(excluded_sources=("beta",))) == {"by": {"acme": "A1"}}
    assert entry(state, View(excluded_classifications=("A1",))) == {"by": {"beta": "B1"}}


def test_views_from_before_weights_keep_their_bytes() -> None:
    """Registries are signed: a field that came later is not written when it is unset."""
    assert encode_document(View()) == (
        b'{"basis":"reviewed","classifications":null,"dispute_limit":1,"media":null,"quorum":1,'
        b'"quorum_of":"members","show_members":true,"sources":null}'
    )

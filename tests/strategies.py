"""Hypothesis strategies for the values of the domain."""

import msgspec
from hypothesis import strategies as st

from hashshare.domain.changes import Change
from hashshare.domain.hashes import TRIVIAL, HashAlgorithm, HashValue
from hashshare.domain.names import MemberId
from hashshare.domain.policy import Basis, Decision, DisputeReason, Media, QuorumOf, View
from hashshare.domain.records import (
    AssertRecord,
    DisputeRecord,
    Record,
    RuleRecord,
    WithdrawRecord,
)
from hashshare.domain.spans import Span

MEMBERS = [MemberId("acme"), MemberId("beta"), MemberId("gamma")]
JURISDICTIONS = {MEMBERS[0]: "US", MEMBERS[1]: "US", MEMBERS[2]: "GB"}
CLASSIFICATIONS = ["A1", "A2", "B1"]
ALGORITHMS = [HashAlgorithm.MD5, HashAlgorithm.SHA256, HashAlgorithm.PDQ]

algorithms = st.sampled_from(HashAlgorithm)


@st.composite
def hash_values(draw: st.DrawFn, algorithm: HashAlgorithm | None = None) -> HashValue:
    """Any hash that may be shared."""
    chosen = algorithm or draw(algorithms)
    raw = st.binary(min_size=chosen.size, max_size=chosen.size).filter(lambda v: v not in TRIVIAL)
    return HashValue(chosen, draw(raw))


@st.composite
def few_hashes(draw: st.DrawFn, min_size: int = 1) -> dict[HashAlgorithm, bytes]:
    """Hashes of one item, out of so few that members meet on the same ones."""
    chosen = draw(st.sets(st.sampled_from(ALGORITHMS), min_size=min_size, max_size=2))
    return {a: bytes([draw(st.integers(1, 4))]) * a.size for a in sorted(chosen)}


RECORD_IDS = ["", "r1", "r2"]

assert_records = st.builds(
    AssertRecord,
    record=st.sampled_from(RECORD_IDS),
    hashes=few_hashes(),
    classification=st.sampled_from(CLASSIFICATIONS),
    media=st.none() | st.sampled_from(Media),
    basis=st.sampled_from(Basis),
)
withdraw_records = st.one_of(
    st.builds(WithdrawRecord, record=st.sampled_from(["r1", "r2"]), hashes=st.just({})),
    st.builds(WithdrawRecord, record=st.just(""), hashes=few_hashes()),
)
dispute_records = st.builds(
    DisputeRecord, hashes=few_hashes(), reason=st.sampled_from(DisputeReason)
)


rule_records = st.builds(
    RuleRecord,
    hashes=few_hashes(),
    decision=st.sampled_from(Decision),
    reason=st.sampled_from(["seen", "a second look, by two"]),
)


def _acceptable(batch: list[Record]) -> bool:
    """A batch names no record twice, and no hash twice outside of records."""
    seen: set[object] = set()
    for record in batch:
        name = getattr(record, "record", "")
        keys: list[object] = [name] if name else [(a, v) for a, v in record.hashes.items()]
        if any(key in seen for key in keys):
            return False
        seen.update(keys)
    return True


batches: st.SearchStrategy[list[Record]] = (
    st.one_of(
        st.lists(assert_records, min_size=1, max_size=5),
        st.lists(withdraw_records, min_size=1, max_size=3),
        st.lists(dispute_records, min_size=1, max_size=3),
        st.lists(rule_records, min_size=1, max_size=2),
    )
    .map(list[Record])
    .filter(_acceptable)
)

histories = st.lists(st.tuples(st.sampled_from(MEMBERS), batches), max_size=8)
"""Submissions in log order: who, and what."""


def _apart(ends: set[int]) -> tuple[Span, ...]:
    pairs = zip(sorted(ends)[::2], sorted(ends)[1::2], strict=False)
    return tuple(Span(first=2 * first, last=2 * last) for first, last in pairs)


disregarded = st.dictionaries(
    st.sampled_from(MEMBERS), st.sets(st.integers(0, 5), min_size=2, max_size=4).map(_apart)
)
"""Parts of a short log, by member."""

views = st.builds(
    View,
    quorum=st.integers(1, 3),
    quorum_of=st.sampled_from(QuorumOf),
    basis=st.sampled_from(["reviewed", "any"]),
    dispute_limit=st.integers(1, 3),
    classifications=st.none()
    | st.sets(st.sampled_from(CLASSIFICATIONS)).map(lambda s: tuple(sorted(s))),
    sources=st.none() | st.sets(st.sampled_from(MEMBERS)).map(lambda s: tuple(sorted(s))),
    media=st.none() | st.sets(st.sampled_from(Media)).map(lambda s: tuple(sorted(s))),
    show_members=st.booleans(),
    weights=st.just(msgspec.UNSET)
    | st.dictionaries(st.sampled_from(MEMBERS), st.integers(2, 3), min_size=1),
    excluded_classifications=st.just(msgspec.UNSET)
    | st.sampled_from(CLASSIFICATIONS).map(lambda one: (one,)),
    released_to=st.just(msgspec.UNSET) | st.just(("DE", "FR")),
    excluded_sources=st.just(msgspec.UNSET) | st.sampled_from(MEMBERS).map(lambda one: (one,)),
)

Contents = dict[bytes, bytes]

contents: st.SearchStrategy[Contents] = st.dictionaries(
    st.integers(1, 12).map(lambda n: bytes([n]) * 32),
    st.sampled_from([b'{"by":{"a":"A1"}}', b'{"by":{"b":"A2"}}', b'{"members":2}']),
)


def differences(algorithm: HashAlgorithm, old: Contents, new: Contents) -> list[Change]:
    """The run of changes from ``old`` to ``new``, in key order."""
    values = sorted(old.keys() | new.keys(), key=algorithm.key)
    return [
        Change(value, old.get(value), new.get(value))
        for value in values
        if old.get(value) != new.get(value)
    ]

"""Runs of changes as packed columns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.domain.changes import UNKNOWN, Change
from hashshare.domain.hashes import HashAlgorithm
from hashshare.errors import UnavailableError
from hashshare.storage.changes import pack_changes, unpack_changes
from tests.strategies import algorithms, hash_values

attributes = st.none() | st.binary(min_size=1, max_size=8)


@st.composite
def runs(draw: st.DrawFn) -> tuple[HashAlgorithm, list[Change]]:
    algorithm = draw(algorithms)
    values = draw(st.lists(hash_values(algorithm), max_size=8))
    return algorithm, [Change(v.value, draw(attributes), draw(attributes)) for v in values]


@given(runs())
def test_unpacking_undoes_packing(run: tuple[HashAlgorithm, list[Change]]) -> None:
    """Every run comes back as it was, in its order."""
    algorithm, changes = run

    assert unpack_changes(algorithm, pack_changes(changes)) == changes


def test_a_change_from_unknown_attributes_is_never_stored() -> None:
    """A stored run must continue the one before it, so that it says what was there."""
    with pytest.raises(RuntimeError):
        pack_changes([Change(b"\x01" * 16, UNKNOWN, None)])


@given(runs(), st.data())
def test_damaged_bytes_are_noticed(
    run: tuple[HashAlgorithm, list[Change]], data: st.DataObject
) -> None:
    """Whatever is cut off, no foreign error comes out and no change is made up."""
    algorithm, changes = run
    packed = pack_changes(changes)
    cut = data.draw(st.integers(0, len(packed) - 1))

    with pytest.raises(UnavailableError):
        unpack_changes(algorithm, packed[:cut])


@given(st.binary(max_size=64), algorithms)
def test_arbitrary_bytes_give_changes_or_our_error(data: bytes, algorithm: HashAlgorithm) -> None:
    """Damage in the database never surfaces as a foreign error."""
    try:
        unpack_changes(algorithm, data)
    except UnavailableError:
        return

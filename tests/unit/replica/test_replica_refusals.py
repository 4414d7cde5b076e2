"""What does not fit is refused, by class, and changes nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hashshare.domain.changes import UNKNOWN, Change
from hashshare.domain.chunks import EntryChunk
from hashshare.domain.hashes import HashAlgorithm
from hashshare.errors import (
    DeltaMismatchError,
    HashshareError,
    MalformedError,
    NotFoundError,
    RootMismatchError,
)
from hashshare.replica import ListState, Replica
from hashshare.replica.writing import Writing
from tests.support.replicas import ATTRIBUTES, NAME, assert_holds, build

SHA256 = HashAlgorithm.SHA256
LOW, MIDDLE, HIGH, ABSENT = (bytes([n]) * 32 for n in (0x10, 0x50, 0x90, 0xD0))
ENTRIES = {LOW: ATTRIBUTES[0], MIDDLE: ATTRIBUTES[1], HIGH: ATTRIBUTES[0]}


@pytest.fixture(params=[0, 9])
def bits(request: pytest.FixtureRequest) -> int:
    """All entries in one bucket, or each in its own."""
    value: int = request.param
    return value


MISFITS = {
    "add of what is there": [Change(LOW, None, ATTRIBUTES[1])],
    "add of what is there, last": [Change(HIGH, None, ATTRIBUTES[0])],
    "remove of what is not there": [Change(ABSENT, ATTRIBUTES[0], None)],
    "remove of what is not there, from the wire": [Change(ABSENT, UNKNOWN, None)],
    "change of what is not there": [Change(ABSENT, UNKNOWN, ATTRIBUTES[0])],
    "remove with other attributes": [Change(LOW, ATTRIBUTES[1], None)],
    "change with other attributes": [Change(LOW, ATTRIBUTES[1], ATTRIBUTES[2])],
    "change to the same": [Change(LOW, UNKNOWN, ATTRIBUTES[0])],
    "nothing to nothing": [Change(ABSENT, None, None)],
    "after one that fits": [Change(LOW, UNKNOWN, None), Change(ABSENT, UNKNOWN, None)],
}


@pytest.mark.parametrize("changes", MISFITS.values(), ids=MISFITS.keys())
def test_a_change_that_does_not_fit_is_refused(
    replica: Replica, bits: int, changes: list[Change]
) -> None:
    """Deltas are strict: who applies one to other contents than its base must notice."""
    build(replica, ENTRIES, bits=bits)
    with pytest.raises(DeltaMismatchError), replica.writing() as writing:
        writing.apply(NAME, SHA256, changes, base=1, target=2)
    assert_holds(replica, ENTRIES, bits)


FORMLESS = {
    "out of order": [Change(ABSENT, None, b"{}"), Change(LOW, UNKNOWN, None)],
    "twice": [Change(LOW, UNKNOWN, b"{}"), Change(LOW, UNKNOWN, None)],
    "too short": [Change(LOW[:31], None, b"{}")],
    "too long": [Change(LOW + b"\0", None, b"{}")],
}


@pytest.mark.parametrize("changes", FORMLESS.values(), ids=FORMLESS.keys())
def test_changes_that_are_not_in_order_are_refused(
    replica: Replica, bits: int, changes: list[Change]
) -> None:
    """Each entry once, in key order, of the right length."""
    build(replica, ENTRIES, bits=bits)
    with pytest.raises(MalformedError), replica.writing() as writing:
        writing.apply(NAME, SHA256, changes, base=1, target=2)
    assert_holds(replica, ENTRIES, bits)


def apply(name: str, algorithm: HashAlgorithm, base: int) -> Callable[[Writing], ListState]:
    return lambda writing: writing.apply(name, algorithm, [], base=base, target=base + 1)


@pytest.mark.parametrize(
    "attempt",
    [
        apply(NAME, SHA256, 0),
        apply(NAME, SHA256, 2),
        apply(NAME, HashAlgorithm.PDQ, 1),
        apply("other", SHA256, 1),
    ],
    ids=["older", "newer", "another algorithm", "no such list"],
)
def test_another_base_is_refused(replica: Replica, attempt: Callable[[Writing], ListState]) -> None:
    """A delta fits the version that it starts from, and no other."""
    build(replica, ENTRIES)
    with pytest.raises(DeltaMismatchError), replica.writing() as writing:
        attempt(writing)
    assert_holds(replica, ENTRIES, 0)


def chunk(values: list[bytes], ids: list[int] | None = None) -> EntryChunk:
    size = len(values[0])
    return EntryChunk(
        np.frombuffer(b"".join(values), np.uint8).reshape(-1, size),
        np.array([0] * len(values) if ids is None else ids, np.uint32),
        ATTRIBUTES[:2],
    )


BAD_CHUNKS = {
    "out of order": [chunk([MIDDLE, LOW])],
    "out of order between chunks": [chunk([MIDDLE]), chunk([LOW])],
    "twice": [chunk([LOW, LOW])],
    "twice between chunks": [chunk([LOW]), chunk([LOW])],
    "too many": [chunk([LOW, MIDDLE]), chunk([HIGH, ABSENT])],
    "another algorithm": [chunk([LOW[:20]])],
    "no such attributes": [chunk([LOW, MIDDLE], [0, 2])],
    "columns of two lengths": [chunk([LOW, MIDDLE], [0])],
}


@pytest.mark.parametrize("chunks", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
def test_a_list_is_not_built_of_faulty_chunks(
    replica: Replica, bits: int, chunks: list[EntryChunk]
) -> None:
    """A snapshot comes from a server that may be hostile; the list that was there stays."""
    build(replica, ENTRIES, bits=bits)
    with pytest.raises(MalformedError), replica.writing() as writing:
        writing.build(NAME, SHA256, chunks, version=2, bits=bits, max_count=3)
    assert_holds(replica, ENTRIES, bits)


def test_chunks_may_be_empty_and_full(replica: Replica) -> None:
    """Exactly as many entries as announced are accepted."""
    empty = EntryChunk(np.empty((0, 32), np.uint8), np.empty(0, np.uint32), [])
    chunks = [empty, chunk([LOW]), empty, chunk([MIDDLE, HIGH], [1, 0])]
    with replica.writing() as writing:
        writing.build(NAME, SHA256, chunks, version=1, bits=0, max_count=3)
    assert_holds(replica, ENTRIES, 0)


@pytest.mark.parametrize("field", ["count", "bits", "root"])
def test_a_list_without_the_signed_root_is_refused(replica: Replica, field: str) -> None:
    """Count and bits are signed too."""
    state = build(replica, ENTRIES)
    signed = {"count": state.count, "bits": state.bits, "root": state.root}
    with replica.writing() as writing:
        writing.require(state, **signed)  # type: ignore[arg-type]
    signed[field] = bytes(32) if field == "root" else 7
    with pytest.raises(RootMismatchError), replica.writing() as writing:
        writing.require(state, **signed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "attempt",
    [
        lambda writing: writing.state("other"),
        lambda writing: writing.lookup("other", [LOW]),
        lambda writing: list(writing.entries("other")),
        lambda writing: writing.damaged("other"),
        lambda writing: writing.read_bucket("other", 0),
        lambda writing: writing.read_bucket(NAME, 1),
        lambda writing: writing.read_bucket(NAME, -1),
        lambda writing: writing.replace_bucket("other", 0, b"", path=[], attributes={}),
    ],
)
def test_what_is_not_there_is_not_found(
    replica: Replica, attempt: Callable[[Writing], object]
) -> None:
    """No such list, or no such bucket."""
    build(replica, ENTRIES)
    with pytest.raises(NotFoundError), replica.writing() as writing:
        attempt(writing)


@pytest.mark.parametrize("value", [b"", b"\x10", LOW[:31], LOW + b"\0"])
def test_a_value_of_another_length_is_in_no_list(replica: Replica, value: bytes) -> None:
    """Nor is it an error: a matcher may hold what it likes."""
    build(replica, ENTRIES)
    with replica.reading() as reading:
        assert reading.lookup(NAME, [value]) == [None]


def test_errors_do_not_name_shared_hashes(replica: Replica, path: Path) -> None:
    """Messages go to peers and logs."""
    build(replica, ENTRIES)
    for changes in (*MISFITS.values(), *FORMLESS.values()):
        with pytest.raises(HashshareError) as caught, replica.writing() as writing:
            writing.apply(NAME, SHA256, changes, base=1, target=2)
        assert not any(value.hex()[:8] in str(caught.value) for value in [*ENTRIES, ABSENT])
        assert str(path) not in str(caught.value)

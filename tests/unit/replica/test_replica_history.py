"""Whatever changes are applied, a replica is the plain mapping, with the root of the plain rule."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashshare.domain.buckets import bits_for, root_of, verify_bucket
from hashshare.domain.changes import UNKNOWN, Change, net
from hashshare.domain.hashes import HashAlgorithm
from hashshare.replica import Replica
from tests.strategies import differences
from tests.support.replicas import (
    ATTRIBUTES,
    NAME,
    Contents,
    assert_holds,
    build,
    chunks_of,
    new_replica,
    random_contents,
    read_contents,
)

SHA256 = HashAlgorithm.SHA256
algorithms = st.sampled_from(HashAlgorithm)


def histories(algorithm: HashAlgorithm) -> st.SearchStrategy[list[Contents]]:
    """Contents of one version after the other, of so few hashes that they meet again."""
    pool = [bytes([17 * n]) * algorithm.size for n in range(1, 15)]
    versions = st.dictionaries(st.sampled_from(pool), st.sampled_from(ATTRIBUTES))
    return st.lists(versions, min_size=1, max_size=6)


@given(st.data(), algorithms, st.booleans())
def test_a_history_of_changes_gives_the_plain_mapping(
    data: st.DataObject, algorithm: HashAlgorithm, is_known: bool
) -> None:
    """At each version; whether the changes name what was there before, or come from the wire."""
    entries: Contents = {}
    with new_replica() as replica:
        for version, following in enumerate(data.draw(histories(algorithm))):
            changes = differences(algorithm, entries, following)
            if not is_known:
                changes = [replace(c, before=c.before and UNKNOWN) for c in changes]
            with replica.writing() as writing:
                state = writing.apply(NAME, algorithm, changes, base=version, target=version + 1)
                assert writing.state(NAME) == state
            assert state.version == version + 1
            entries = following
            assert_holds(replica, entries, 0)


@given(st.data(), algorithms, st.integers(0, 12))
def test_a_list_that_is_built_is_the_list_that_grew(
    data: st.DataObject, algorithm: HashAlgorithm, bits: int
) -> None:
    """snapshot(n) == snapshot(m) + delta(m, n), wherever chunks are cut."""
    old, new = data.draw(histories(algorithm))[0], data.draw(histories(algorithm))[0]
    size = data.draw(st.integers(1, 15))
    with new_replica() as replica, replica.writing() as writing:
        for name, entries in (("old", old), ("new", new)):
            chunks = chunks_of(entries, algorithm, size)
            state = writing.build(name, algorithm, chunks, version=1, bits=bits, max_count=14)
            assert (state.count, state.bits) == (len(entries), bits)
            assert state.root == root_of(entries, algorithm, bits)
        changes = differences(algorithm, old, new)
        applied = writing.apply("old", algorithm, changes, base=1, target=2)
        assert applied.root == writing.state("new").root
        assert read_contents(writing, "old") == new


@pytest.mark.parametrize("size", [7, 65_536])
def test_a_list_of_more_buckets_than_one_statement_takes(replica: Replica, size: int) -> None:
    """However its chunks are cut."""
    entries = random_contents(24_000)
    with replica.writing() as writing:
        chunks = chunks_of(entries, SHA256, size)
        state = writing.build(NAME, SHA256, chunks, version=1, bits=15, max_count=24_000)
    assert state.root == root_of(entries, SHA256, 15)
    assert_holds(replica, entries, 15)


@pytest.mark.parametrize("algorithm", [SHA256, HashAlgorithm.PDQ])
def test_buckets_grow_with_the_list_and_stay_when_it_shrinks(
    replica: Replica, algorithm: HashAlgorithm
) -> None:
    """Across one tile of the tree (8 bits) to two levels, and from there back to nothing."""
    entries: Contents = {}
    bits = 0
    counts = [100, 128, 1_000, 40_000, 40_001, 20, 0, 300]
    for version, count in enumerate(counts):
        grown = random_contents(count, algorithm=algorithm)
        following = {**dict(list(entries.items())[: count // 2]), **grown}
        changes = differences(algorithm, entries, following)
        with replica.writing() as writing:
            writing.apply(NAME, algorithm, changes, base=version, target=version + 1)
        entries, bits = following, bits_for(len(following), bits)
        assert_holds(replica, entries, bits)
    assert bits == 9


@pytest.mark.parametrize("expected", [0, 1, 500, 10**6])
def test_what_was_expected_makes_no_difference(replica: Replica, expected: int) -> None:
    """The expected count only saves time."""
    entries = random_contents(700)
    changes = differences(SHA256, {}, entries)
    with replica.writing() as writing:
        writing.apply(NAME, SHA256, changes, base=0, target=1, expected_count=expected)
    assert_holds(replica, entries, bits_for(700, 0))


def test_who_skips_versions_cuts_as_the_publication_says(replica: Replica) -> None:
    """Bits never fall, and only who saw the list at its longest can know how far they rose."""
    long, short = random_contents(2_000), random_contents(3)
    runs = [differences(SHA256, {}, long), differences(SHA256, long, short)]
    with replica.writing() as writing:
        writing.apply("step", SHA256, runs[0], base=0, target=1)
        state = writing.apply("step", SHA256, runs[1], base=1, target=2)
        skipped = list(net(SHA256, runs))
        plain = writing.apply("plain", SHA256, skipped, base=0, target=2)
        told = writing.apply(NAME, SHA256, skipped, base=0, target=2, minimum_bits=state.bits)
    assert (state.bits, plain.bits) == (4, 0)
    assert (told.bits, told.root) == (state.bits, state.root)
    assert_holds(replica, short, state.bits)


def test_a_version_without_a_change_can_be_cut_anew(replica: Replica) -> None:
    """The list did grow and shrink in between."""
    entries = random_contents(10)
    build(replica, entries)
    with replica.writing() as writing:
        writing.apply(NAME, SHA256, [], base=1, target=5, minimum_bits=9)
        assert writing.state(NAME).version == 5
    assert_holds(replica, entries, 9)


@pytest.mark.parametrize("bits", [0, 1, 8, 9, 17])
def test_every_bucket_is_proven(replica: Replica, bits: int) -> None:
    """With trees of one, two and three levels of tiles."""
    entries = random_contents(60)
    state = build(replica, entries, bits=bits)
    found = {}
    with replica.reading() as reading:
        for index in {0, state.buckets - 1, *(int.from_bytes(v[:4]) >> 32 - bits for v in entries)}:
            proof = reading.read_bucket(NAME, index)
            verify_bucket(proof.data, index=index, bits=bits, path=proof.path, root=state.root)
            assert (proof.index, proof.state) == (index, state)
            found.update(proof.attributes)
    assert sorted(found.values()) == ATTRIBUTES


@pytest.mark.parametrize("bits", [0, 8, 10, 17])
def test_changes_in_a_tall_tree(replica: Replica, bits: int) -> None:
    """Each level of tiles is brought up to date."""
    old, new = random_contents(50, seed=1), random_contents(50, seed=2)
    build(replica, old, bits=bits)
    with replica.writing() as writing:
        writing.apply(NAME, SHA256, differences(SHA256, old, new), base=1, target=2)
    assert_holds(replica, new, bits)


@settings(max_examples=5)
@given(st.integers(1, 40), st.integers(0, 11))
def test_parts_of_a_check_cover_all_buckets(parts: int, bits: int) -> None:
    """However many parts there are, each bucket is in exactly one."""
    entries = random_contents(50)
    with new_replica() as replica:
        state = build(replica, entries, bits=bits)
        with replica.writing() as writing:
            writing._connection.execute("UPDATE bucket SET data = zeroblob(4)")
            writing._connection.execute("DELETE FROM tile WHERE level > 0")
        with replica.reading() as reading:
            each = [reading.damaged(NAME, part=p, parts=parts) for p in range(parts)]
            nodes = set(reading._tree(state).unproven())
            expected = {int.from_bytes(value[:4]) >> 32 - bits for value in entries}
            assert sorted(expected | nodes) == reading.damaged(NAME)
            found = [index for part in each for index in part if index not in nodes]
            assert sorted(found) == sorted(expected - nodes)


def test_several_lists_do_not_touch_each_other(replica: Replica) -> None:
    """Several lists share a file and their attributes."""
    one, two = random_contents(300, seed=1), random_contents(300, seed=2)
    build(replica, one, bits=2, name="one")
    build(replica, two, bits=3, name="two")
    assert_holds(replica, one, 2, "one")
    assert_holds(replica, two, 3, "two")
    build(replica, two, bits=9, name="one", version=7)
    with replica.writing() as writing:
        assert [(s.name, s.version) for s in writing.lists()] == [("one", 7), ("two", 1)]
        writing.drop("two")
        writing.drop("two")
        assert writing.find("two") is None
    assert_holds(replica, two, 9, "one")


def test_entries_may_be_removed_while_they_are_read(replica: Replica) -> None:
    """As the publisher does with a list that is no longer to be published."""
    entries = random_contents(5_000)
    build(replica, entries, bits=12)
    with replica.writing() as writing:
        removals = (
            Change(value, attributes, None)
            for chunk in writing.entries(NAME)
            for value, attributes in chunk.entries()
        )
        state = writing.apply(NAME, SHA256, removals, base=1, target=2)
    assert state.count == 0
    assert_holds(replica, {}, 12)


def test_tags_that_agree_in_their_first_half_are_told_apart() -> None:
    """Members could make such attributes; an export must not confuse them."""
    import numpy as np

    from hashshare.replica.columns import Columns, to_chunk

    tags = [b"a" * 8 + b"x" * 8, b"a" * 8 + b"y" * 8, b"a" * 8 + b"x" * 8]
    columns = Columns(
        np.zeros((3, 32), np.uint8), np.frombuffer(b"".join(tags), np.uint8).reshape(3, 16)
    )
    chunk = to_chunk(columns, lambda tag: tag)
    assert [attributes for _, attributes in chunk.entries()] == tags

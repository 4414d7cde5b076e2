"""Damage to what a replica holds is found, is never passed on, and can be healed."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashshare.domain.changes import Change
from hashshare.domain.hashes import HashAlgorithm
from hashshare.errors import (
    HashshareError,
    MalformedError,
    ReplicaDamagedError,
    RootMismatchError,
)
from hashshare.replica import Replica
from tests.support.replicas import (
    ATTRIBUTES,
    NAME,
    assert_holds,
    build,
    new_replica,
    random_contents,
    read_contents,
)

SHA256 = HashAlgorithm.SHA256
ENTRIES = random_contents(40)

CELLS = [
    ("bucket", "data"),
    ("tile", "hashes"),
    ("attributes", "tag"),
    ("attributes", "attributes"),
]


def execute(replica: Replica, statement: str, *values: object) -> None:
    with replica.writing() as writing:
        writing._connection.execute(statement, values)


def damage(replica: Replica, table: str, column: str, place: int, offset: int, mask: int) -> None:
    """Change bits of one byte in one cell."""
    with replica.writing() as writing:
        connection = writing._connection
        rows = connection.execute(f"SELECT {column} FROM {table} ORDER BY 1").fetchall()
        old = rows[place % len(rows)][0]
        offset %= len(old)
        new = old[:offset] + bytes([old[offset] ^ mask]) + old[offset + 1 :]
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new, old))


def heal(damaged: Replica, sound: Replica) -> None:
    """Fetch buckets from a sound replica until nothing is damaged, as a client does."""
    for _ in range(5):
        with damaged.reading() as reading:
            indexes = reading.damaged(NAME)
        for index in indexes:
            with sound.reading() as reading:
                proof = reading.read_bucket(NAME, index)
            with damaged.writing() as writing:
                writing.replace_bucket(
                    NAME, index, proof.data, path=proof.path, attributes=proof.attributes
                )
        if not indexes:
            return
    raise AssertionError("not healed after five rounds")


damages = st.tuples(
    st.sampled_from(CELLS), st.integers(0, 10_000), st.integers(0, 10_000), st.integers(1, 255)
)


@settings(deadline=None)
@given(st.sampled_from([0, 3, 8, 10]), st.lists(damages, min_size=1, max_size=4))
def test_changed_bytes_are_found_and_healed(
    bits: int, wounds: list[tuple[tuple[str, str], int, int, int]]
) -> None:
    """In buckets, in any level of the tree, in attributes; several at once."""
    with new_replica() as sound, new_replica() as replica:
        build(sound, ENTRIES, bits=bits)
        build(replica, ENTRIES, bits=bits)
        for (table, column), place, offset, mask in wounds:
            damage(replica, table, column, place, offset, mask)
        heal(replica, sound)
        assert_holds(replica, ENTRIES, bits)
        with replica.writing() as writing:
            change = Change(min(ENTRIES), ENTRIES[min(ENTRIES)], None)
            state = writing.apply(NAME, SHA256, [change], base=1, target=2)
        with sound.writing() as writing:
            assert writing.apply(NAME, SHA256, [change], base=1, target=2).root == state.root


@settings(deadline=None)
@given(st.sampled_from([0, 3, 8, 10]), damages, st.sampled_from(sorted(ENTRIES)))
def test_what_is_damaged_is_never_passed_on(
    bits: int, wound: tuple[tuple[str, str], int, int, int], value: bytes
) -> None:
    """Exports and proofs are right or refused, and no root is computed from damage.

    Else a publisher would sign what nobody submitted.
    """
    with new_replica() as sound, new_replica() as replica:
        build(sound, ENTRIES, bits=bits)
        build(replica, ENTRIES, bits=bits)
        (table, column), place, offset, mask = wound
        damage(replica, table, column, place, offset, mask)
        index = int.from_bytes(value[:4]) >> 32 - bits
        change = Change(value, ENTRIES[value], b'{"members":3}')
        with sound.writing() as writing:
            bucket = writing.read_bucket(NAME, index)
            root = writing.apply(NAME, SHA256, [change], base=1, target=2).root
        with suppress(ReplicaDamagedError), replica.reading() as reading:
            assert read_contents(reading) == ENTRIES
        with suppress(ReplicaDamagedError), replica.reading() as reading:
            proof = reading.read_bucket(NAME, index)
            assert (proof.data, proof.path) == (bucket.data, bucket.path)
            assert proof.attributes == bucket.attributes
        with suppress(ReplicaDamagedError), replica.writing() as writing:
            assert writing.apply(NAME, SHA256, [change], base=1, target=2).root == root


@pytest.mark.parametrize("bits", [0, 9, 17])
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM bucket",
        "DELETE FROM tile",
        "DELETE FROM tile WHERE level > 0",
        "UPDATE bucket SET data = x''",
        "UPDATE bucket SET data = x'ffffffff'",
        "UPDATE bucket SET data = substr(data, 1, length(data) - 1)",
        "UPDATE tile SET hashes = x'00'",
        "UPDATE attributes SET attributes = x'7b7d'",
    ],
)
def test_rows_that_are_gone_or_cut_are_healed(bits: int, statement: str) -> None:
    """Whole tables too."""
    with new_replica() as sound, new_replica() as replica:
        build(sound, ENTRIES, bits=bits)
        build(replica, ENTRIES, bits=bits)
        execute(replica, statement)
        heal(replica, sound)
        assert_holds(replica, ENTRIES, bits)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE list SET root = zeroblob(32)",
        "UPDATE list SET count = count + 1",
        "UPDATE list SET bits = bits + 1",
        "UPDATE list SET bits = 21",
        "UPDATE list SET bits = -1",
        "UPDATE list SET algorithm = 'md4'",
        "UPDATE list SET algorithm = CAST(x'ff' AS TEXT)",
    ],
)
@pytest.mark.parametrize("bits", [0, 9])
def test_a_damaged_list_is_not_healed_but_said_to_be(
    replica: Replica, bits: int, statement: str
) -> None:
    """Against which root would its buckets be verified?"""
    build(replica, ENTRIES, bits=bits)
    execute(replica, statement)
    with pytest.raises(ReplicaDamagedError):
        _heal_from_itself(replica)


def _heal_from_itself(replica: Replica) -> None:
    """Where the root is damaged no proof can help; some are asked for, and refused."""
    with replica.reading() as reading:
        indexes = reading.damaged(NAME)
        for index in indexes:
            reading.read_bucket(NAME, index)


def test_lookups_notice_what_is_plain_to_see(replica: Replica) -> None:
    """Attributes are compared with their tag, and a bucket with its length."""
    build(replica, ENTRIES)
    execute(replica, "UPDATE attributes SET attributes = x'7b7d'")
    with pytest.raises(ReplicaDamagedError), replica.reading() as reading:
        reading.lookup(NAME, ENTRIES)
    execute(replica, "DELETE FROM attributes")
    with pytest.raises(ReplicaDamagedError), replica.reading() as reading:
        reading.lookup(NAME, ENTRIES)
    execute(replica, "UPDATE bucket SET data = substr(data, 1, length(data) - 1)")
    with pytest.raises(ReplicaDamagedError), replica.reading() as reading:
        reading.lookup(NAME, [bytes(32)])


def test_only_what_the_root_commits_to_replaces_a_bucket(replica: Replica) -> None:
    """The server that is asked for it may be hostile."""
    build(replica, ENTRIES, bits=2)
    with replica.reading() as reading:
        first, second = (reading.read_bucket(NAME, index) for index in (0, 1))

    def refuse(error: type[HashshareError], index: int = 0, **changes: object) -> None:
        given = {"data": first.data, "path": first.path, "attributes": first.attributes, **changes}
        data = given.pop("data")
        with pytest.raises(error), replica.writing() as writing:
            writing.replace_bucket(NAME, index, data, **given)  # type: ignore[arg-type]

    refuse(RootMismatchError, data=second.data)
    refuse(RootMismatchError, path=second.path)
    refuse(RootMismatchError, index=1)
    refuse(RootMismatchError, index=4)
    refuse(MalformedError, attributes={})
    refuse(MalformedError, attributes=dict.fromkeys(first.attributes, b"{}"))
    assert_holds(replica, ENTRIES, 2)


def test_a_signed_bucket_with_foreign_entries_is_refused(replica: Replica) -> None:
    """Should a publisher ever sign one: an entry in the wrong bucket could not be found."""
    from hashshare.crypto.merkle import leaf_hash
    from hashshare.domain.buckets import EMPTY_BUCKET, Bucket, root_of_leaves, tag_of

    build(replica, {}, bits=1)
    data = Bucket([b"\x90" * 32], [tag_of(ATTRIBUTES[0])]).encode()
    leaves = [leaf_hash(data), leaf_hash(EMPTY_BUCKET)]
    execute(replica, "UPDATE list SET root = ?", root_of_leaves(leaves))
    with pytest.raises(MalformedError), replica.writing() as writing:
        attributes = {tag_of(ATTRIBUTES[0]): ATTRIBUTES[0]}
        writing.replace_bucket(NAME, 0, data, path=leaves[1:], attributes=attributes)


def test_a_file_that_is_no_replica_is_refused(path: Path) -> None:
    """And left as it is."""
    path.write_bytes(b"damaged" * 1000)
    with pytest.raises(ReplicaDamagedError):
        Replica.open(path)
    assert path.read_bytes() == b"damaged" * 1000


@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE other (x)", "PRAGMA user_version = 2", "PRAGMA application_id = 1"],
)
def test_the_file_of_another_program_or_release_is_refused(path: Path, statement: str) -> None:
    """A newer release may have changed what the tables mean."""
    if "TABLE" not in statement:
        Replica.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
    with pytest.raises(ReplicaDamagedError):
        Replica.open(path)


@pytest.mark.parametrize("kept", [1, 2])
def test_a_truncated_file_is_refused(path: Path, kept: int) -> None:
    """A disk that lost its end."""
    with Replica.open(path) as replica:
        build(replica, random_contents(2000), bits=3)
    size = path.stat().st_size
    assert not path.with_name(path.name + "-wal").exists()
    with path.open("r+b") as file:
        file.truncate(size * kept // 3)
    with pytest.raises(ReplicaDamagedError):
        Replica.open(path)


def test_a_page_that_was_overwritten_is_found(path: Path) -> None:
    """Damage to SQLite's own structure, wherever it is, is damage of the replica."""
    with Replica.open(path) as replica:
        build(replica, random_contents(2000), bits=3)
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        for page in range(4096, size, 4096):
            file.seek(page)
            file.write(b"\xaa" * 16)
    with pytest.raises(ReplicaDamagedError):
        _check(path)


def _check(path: Path) -> None:
    with Replica.open(path) as replica, replica.reading() as reading:
        reading.damaged(NAME)

"""The first lists of a replica are written in place: once, and as safely as through the WAL."""

import subprocess
import sys
from pathlib import Path

import pytest

from hashshare.domain.hashes import HashAlgorithm
from hashshare.errors import MalformedError
from hashshare.replica import Replica
from tests.support.replicas import NAME, assert_holds, build, chunks_of, random_contents

ENTRIES = random_contents(3000)


def fill(replica: Replica, *, fail: bool = False) -> str:
    """Fill it, and return how the transaction was kept."""
    with replica.filling() as writing:
        chunks = chunks_of(ENTRIES, size=500)
        writing.build(NAME, HashAlgorithm.SHA256, chunks, version=1, bits=9, max_count=10**6)
        mode: str = writing._connection.execute("PRAGMA journal_mode").fetchone()[0]
        if fail:
            raise MalformedError("the root is not the signed one")
    return mode


def mode_of(replica: Replica) -> str:
    with replica.reading() as reading:
        mode: str = reading._connection.execute("PRAGMA journal_mode").fetchone()[0]
    return mode


def test_first_lists_are_written_in_place(replica: Replica) -> None:
    """And later ones through the WAL, where readers are not kept waiting."""
    assert mode_of(replica) == "wal"
    assert fill(replica) == "delete"
    assert_holds(replica, ENTRIES, 9)
    assert mode_of(replica) == "wal"
    assert fill(replica) == "wal"
    assert_holds(replica, ENTRIES, 9)


def test_a_replica_that_others_have_open_is_filled_through_the_wal(
    replica: Replica, path: Path
) -> None:
    """Nobody is locked out of what they read."""
    with Replica.open(path) as other, other.reading() as reading:
        assert reading.lists() == []
        assert fill(replica) == "wal"
        assert reading.lists() == []
    assert_holds(replica, ENTRIES, 9)


def test_others_may_come_while_it_is_filled(replica: Replica, path: Path) -> None:
    """They see nothing yet, or wait."""
    with replica.filling() as writing:
        writing.put_state("checkpoint", b"two")
        with Replica.open(path) as other, other.reading() as reading:
            assert reading.get_state("checkpoint") is None
    with Replica.open(path) as other, other.reading() as reading:
        assert reading.get_state("checkpoint") == b"two"


def test_lists_that_are_refused_leave_nothing(replica: Replica) -> None:
    """The transaction is rolled back as any other."""
    with pytest.raises(MalformedError):
        fill(replica, fail=True)
    with replica.reading() as reading:
        assert reading.lists() == []
    assert mode_of(replica) == "wal"
    assert fill(replica) == "delete"
    assert_holds(replica, ENTRIES, 9)


KILLED = """
import os, sys
from pathlib import Path
from hashshare.domain.hashes import HashAlgorithm
from hashshare.replica import Replica
from tests.support.replicas import NAME, chunks_of, random_contents

with Replica.open(Path(sys.argv[1])) as replica, replica.filling() as writing:
    # More than the cache holds: pages are in the file already.
    chunks = chunks_of(random_contents(400_000), size=20_000)
    writing.build(NAME, HashAlgorithm.SHA256, chunks, version=1, bits=12, max_count=10**6)
    os._exit(9)
"""


def test_killed_while_it_is_filled(path: Path) -> None:
    """There is nothing of it, and the next who opens it goes on with the WAL."""
    with Replica.open(path) as replica, replica.writing() as writing:
        writing.put_state("checkpoint", b"one")
    before = path.stat().st_size
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert killed.returncode == 9
    assert path.stat().st_size > before
    with Replica.open(path) as replica:
        with replica.reading() as reading:
            assert reading.lists() == []
            assert reading.get_state("checkpoint") == b"one"
        assert mode_of(replica) == "wal"
        build(replica, ENTRIES, bits=4)
        assert_holds(replica, ENTRIES, 4)

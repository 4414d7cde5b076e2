"""A replica's file: transactions, processes and threads that share it, crashes."""

import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from hashshare.domain.changes import Change
from hashshare.domain.hashes import HashAlgorithm
from hashshare.errors import MalformedError, UnavailableError
from hashshare.replica import Replica, file
from hashshare.replica.writing import Writing
from tests.support.replicas import (
    ATTRIBUTES,
    NAME,
    Contents,
    assert_holds,
    build,
    random_contents,
    read_contents,
)

SHA256 = HashAlgorithm.SHA256
ENTRIES = random_contents(300)
ADDED = Change(b"\x42" * 32, None, ATTRIBUTES[0])
AFTER: Contents = {**ENTRIES, ADDED.value: ATTRIBUTES[0]}


def add(replica: Replica) -> None:
    with replica.writing() as writing:
        writing.apply(NAME, SHA256, [ADDED], base=1, target=2)
        writing.put_state("checkpoint", b"two")


def test_lists_and_state_are_there_after_reopening(path: Path) -> None:
    """What is committed is durable, lists and notes together."""
    with Replica.open(path) as replica:
        build(replica, ENTRIES, bits=2)
        add(replica)
    with Replica.open(path) as replica:
        assert_holds(replica, AFTER, 2)
        with replica.reading() as reading:
            assert reading.get_state("checkpoint") == b"two"
            assert reading.get_state("other") is None


def test_an_error_rolls_everything_back(replica: Replica) -> None:
    """Also what was applied before it, in other lists too."""
    build(replica, ENTRIES, bits=2)

    def fail() -> None:
        with replica.writing() as writing:
            writing.apply(NAME, SHA256, [ADDED], base=1, target=2)
            writing.build("other", SHA256, [], version=1, bits=0, max_count=0)
            writing.put_state("checkpoint", b"two")
            raise MalformedError("the next list is not as it was signed")

    with pytest.raises(MalformedError):
        fail()
    assert_holds(replica, ENTRIES, 2)
    with replica.reading() as reading:
        assert [state.name for state in reading.lists()] == [NAME]
        assert reading.get_state("checkpoint") is None
    add(replica)


def test_a_reader_sees_one_version(replica: Replica, path: Path) -> None:
    """From its first look on, whatever is committed meanwhile; and the next reader the next."""
    build(replica, ENTRIES, bits=2)
    with Replica.open(path, readonly=True) as other, other.reading() as before:
        assert before.state(NAME).version == 1
        with replica.writing() as writing:
            writing.apply(NAME, SHA256, [ADDED], base=1, target=2)
            with other.reading() as uncommitted:
                assert uncommitted.lookup(NAME, [ADDED.value]) == [None]
        assert before.lookup(NAME, [ADDED.value]) == [None]
        assert read_contents(before) == ENTRIES
        with other.reading() as after:
            assert read_contents(after) == AFTER
    assert_holds(replica, AFTER, 2)


def test_readers_in_threads_see_whole_versions(replica: Replica) -> None:
    """While another thread publishes one version after the other."""
    build(replica, {})
    is_done = threading.Event()

    def read() -> int:
        seen = 0
        while not is_done.is_set():
            with replica.reading() as reading:
                version = reading.state(NAME).version
                assert len(read_contents(reading)) == version - 1
                seen = max(seen, version)
        return seen

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            for version in range(1, 40):
                change = Change(bytes([version]) * 32, None, ATTRIBUTES[0])
                with replica.writing() as writing:
                    writing.apply(NAME, SHA256, [change], base=version, target=version + 1)
        finally:
            is_done.set()
        assert all(reader.result() >= 1 for reader in readers)


def test_writers_wait_for_each_other(replica: Replica, path: Path) -> None:
    """Two processes that publish at once do not fail, nor lose a version."""
    build(replica, {})

    def write(number: int) -> None:
        with Replica.open(path) as own:
            for value in range(10):
                with own.writing() as writing:
                    version = writing.state(NAME).version
                    change = Change(bytes([number, value] * 16), None, ATTRIBUTES[0])
                    writing.apply(NAME, SHA256, [], base=version, target=version)
                    writing.drop(f"list-{number}")
                    writing.apply(f"list-{number}", SHA256, [change], base=0, target=1)
                    writing.apply(NAME, SHA256, [], base=version, target=version + 1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(1, 5)))
    with replica.reading() as reading:
        assert reading.state(NAME).version == 41
        assert len(reading.lists()) == 5


@pytest.mark.parametrize("attempt", range(20))
def test_a_new_file_may_be_opened_by_many_at_once(path: Path, attempt: int) -> None:
    """A server's processes all start together; threads that change places often find races."""
    usual = sys.getswitchinterval()
    barrier = threading.Barrier(8)

    def open_and_write(number: int) -> None:
        barrier.wait()
        with Replica.open(path) as replica, replica.writing() as writing:
            writing.put_state(str(number), b"here")

    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(open_and_write, range(8)))
    finally:
        sys.setswitchinterval(usual)
    with Replica.open(path) as replica, replica.reading() as reading:
        assert all(reading.get_state(str(number)) == b"here" for number in range(8)), attempt


def test_only_its_owner_may_read_the_file(replica: Replica, path: Path) -> None:
    """A list is not for other accounts of the same machine."""
    build(replica, ENTRIES)
    for each in path.parent.iterdir():
        assert each.stat().st_mode & 0o077 == 0


def test_a_readonly_replica_cannot_be_written(replica: Replica, path: Path) -> None:
    """The server's handlers open it so."""
    build(replica, ENTRIES)
    replica.close()
    with Replica.open(path, readonly=True) as readonly:
        assert_holds(readonly, ENTRIES, 0)
        with pytest.raises(UnavailableError):
            add(readonly)
        assert_holds(readonly, ENTRIES, 0)


def test_there_may_be_no_replica_yet(path: Path) -> None:
    """Nor does reading make one; a file that is still empty is none."""
    with pytest.raises(UnavailableError):
        Replica.open(path, readonly=True)
    assert not path.exists()
    path.touch()
    with pytest.raises(UnavailableError):
        Replica.open(path, readonly=True)


def test_a_folder_is_no_replica(tmp_path: Path) -> None:
    """It cannot be opened, which is not damage that somebody should delete."""
    with pytest.raises(UnavailableError):
        Replica.open(tmp_path)


def test_what_is_closed_is_unavailable_and_not_damaged(replica: Replica) -> None:
    """A publisher deletes a damaged replica."""
    build(replica, ENTRIES)

    def close_and_read() -> None:
        with replica.reading() as reading:
            replica.close()
            reading.state(NAME)

    with pytest.raises(UnavailableError):
        close_and_read()
    with pytest.raises(UnavailableError), replica.reading():
        pass


def test_closing_gives_up_what_is_not_committed(path: Path) -> None:
    """As a crash would."""
    replica = Replica.open(path)
    build(replica, ENTRIES)

    def close_and_commit() -> None:
        with replica.writing() as writing:
            writing.apply(NAME, SHA256, [ADDED], base=1, target=2)
            replica.close()

    with pytest.raises(UnavailableError):
        close_and_commit()
    with Replica.open(path) as again:
        assert_holds(again, ENTRIES, 0)


def test_connections_are_used_again(replica: Replica) -> None:
    """However many threads come and go."""
    build(replica, ENTRIES)

    def read() -> None:
        with replica.reading() as reading:
            reading.state(NAME)

    for _ in range(20):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert len(replica._opened) <= 2


def test_a_full_disk_is_not_damage(replica: Replica) -> None:
    """And leaves the version before."""
    build(replica, ENTRIES, bits=2)

    def fill() -> None:
        with replica.writing() as writing:
            _fill_up(writing)

    with pytest.raises(UnavailableError):
        fill()
    with replica.reading() as reading:
        reading._connection.execute("PRAGMA max_page_count = 1000000")
    assert_holds(replica, ENTRIES, 2)


def _fill_up(writing: Writing) -> None:
    pages = writing._connection.execute("PRAGMA page_count").fetchone()[0]
    writing._connection.execute(f"PRAGMA max_page_count = {pages}")
    for number in range(100):
        writing.put_state(str(number), bytes(4096))


@pytest.mark.parametrize("has_reader", [False, True])
def test_a_long_transaction_gives_its_space_back(
    replica: Replica, path: Path, monkeypatch: pytest.MonkeyPatch, has_reader: bool
) -> None:
    """Unless a reader still needs it, which it does not wait for."""
    monkeypatch.setattr(file, "LONG_WAL_BYTES", 1)
    build(replica, {})
    wal = path.with_name(path.name + "-wal")
    with replica.reading() as reading:
        if has_reader:
            reading.state(NAME)
        build(replica, ENTRIES)
        assert bool(wal.stat().st_size) == has_reader
    assert_holds(replica, ENTRIES, 0)


CRASHING = """
import sys
from pathlib import Path
from hashshare.replica import Replica
from hashshare.domain.changes import Change
from hashshare.domain.hashes import HashAlgorithm
from tests.support.replicas import *

def changes(new):
    for number, value in enumerate(sorted(new)):
        if number == len(new) // 2 and "{when}" == "middle":
            wait()
        yield Change(value, None, new[value])

def wait():
    print("now", flush=True)
    sys.stdin.read()

with Replica.open(Path(sys.argv[1])) as replica:
    new = random_contents({count}, seed=9)
    with replica.writing() as writing:
        writing.put_state("checkpoint", b"two")
        if {is_built}:
            chunks = chunks_of(new, size=20_000)
            writing.build(NAME, HashAlgorithm.SHA256, chunks, version=2, bits=12, max_count=10**9)
        else:
            writing.apply(NAME, HashAlgorithm.SHA256, changes(new), base=1, target=2)
        if "{when}" == "end":
            wait()
    wait()
"""


# 400,000 entries do not fit into the cache, so that much was written before the commit.
@pytest.mark.parametrize(
    ("when", "count", "is_built", "version"),
    [
        ("middle", 2_000, False, 1),
        ("end", 2_000, False, 1),
        ("end", 400_000, True, 1),
        ("after", 2_000, False, 2),
    ],
)
def test_a_crash_leaves_the_old_version_or_the_new(
    path: Path, when: str, count: int, is_built: bool, version: int
) -> None:
    """Killed in the middle of changes, before the commit, and right after it."""
    with Replica.open(path) as replica:
        build(replica, ENTRIES, bits=2)
    program = CRASHING.format(when=when, count=count, is_built=is_built)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        process.kill()
    if is_built:
        assert path.with_name(path.name + "-wal").stat().st_size > 1_000_000
    with Replica.open(path) as replica:
        with replica.reading() as reading:
            assert reading.state(NAME).version == version
            assert reading.get_state("checkpoint") == (None if version == 1 else b"two")
        entries = {**ENTRIES, **random_contents(count, seed=9)} if version == 2 else ENTRIES
        assert_holds(replica, entries, 5 if version == 2 else 2)


@pytest.mark.parametrize("kept", [0, 0.3, 0.9])
def test_a_transaction_whose_log_is_cut_did_not_happen(path: Path, kept: float) -> None:
    """The machine stopped before the last pages reached the disk."""
    with Replica.open(path) as replica:
        build(replica, ENTRIES, bits=2)
    with Replica.open(path) as replica:
        add(replica)
        wal = path.with_name(path.name + "-wal")
        log, content = wal.read_bytes(), path.read_bytes()
        replica.close()
    path.write_bytes(content)
    wal.write_bytes(log[: int(len(log) * kept)])
    with Replica.open(path) as replica:
        assert_holds(replica, ENTRIES, 2)


def test_sqlite_finds_nothing_wrong(replica: Replica, path: Path) -> None:
    """With what it keeps itself."""
    build(replica, ENTRIES, bits=9)
    add(replica)
    with suppress(sqlite3.Error):
        replica.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()

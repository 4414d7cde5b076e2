"""What tests of replicas share: contents to put into them, and what to expect of them."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hashshare.domain.buckets import root_of
from hashshare.domain.chunks import EntryChunk
from hashshare.domain.hashes import HashAlgorithm
from hashshare.replica import ListState, Reading, Replica

Contents = dict[bytes, bytes]

NAME = "csam/confirmed/sha256"
ATTRIBUTES = [b'{"by":{"a":"A1"}}', b'{"by":{"b":"A2"}}', b'{"members":2}']


@contextmanager
def new_replica() -> Iterator[Replica]:
    """A replica for one example of Hypothesis."""
    with TemporaryDirectory() as folder, Replica.open(Path(folder) / "r.sqlite") as replica:
        yield replica


def random_contents(
    count: int, *, seed: int = 0, algorithm: HashAlgorithm = HashAlgorithm.SHA256
) -> Contents:
    """Entries that are spread over all buckets."""
    source = random.Random(seed)
    return {source.randbytes(algorithm.size): source.choice(ATTRIBUTES) for _ in range(count)}


def chunks_of(
    entries: Mapping[bytes, bytes], algorithm: HashAlgorithm = HashAlgorithm.SHA256, size: int = 7
) -> Iterator[EntryChunk]:
    """The entries in key order, some at a time."""
    values = sorted(entries, key=algorithm.key)
    for start in range(0, len(values), size):
        part = values[start : start + size]
        yield EntryChunk(
            np.frombuffer(b"".join(part), np.uint8).reshape(-1, algorithm.size),
            np.array([ATTRIBUTES.index(entries[value]) for value in part], np.uint32),
            ATTRIBUTES,
        )


def build(
    replica: Replica, entries: Contents, *, bits: int = 0, name: str = NAME, version: int = 1
) -> ListState:
    """Replace a list of SHA-256 by ``entries``."""
    with replica.writing() as writing:
        return writing.build(
            name,
            HashAlgorithm.SHA256,
            chunks_of(entries, size=5000),
            version=version,
            bits=bits,
            max_count=len(entries),
        )


def read_contents(reading: Reading, name: str = NAME) -> Contents:
    """All entries of a list, in its order."""
    return {v: a for chunk in reading.entries(name) for v, a in chunk.entries()}


def assert_holds(replica: Replica, entries: Contents, bits: int, name: str = NAME) -> None:
    """The list is sound, has these entries, and the root of the plain rule."""
    with replica.reading() as reading:
        state = reading.state(name)
        key = state.algorithm.key
        assert (state.count, state.bits) == (len(entries), bits)
        assert state.root == root_of(entries, state.algorithm, bits)
        assert list(read_contents(reading, name).items()) == sorted(
            entries.items(), key=lambda entry: key(entry[0])
        )
        wanted = [*entries, b"\x77" * state.algorithm.size]
        assert reading.lookup(name, wanted) == [entries.get(value) for value in wanted]
        assert reading.damaged(name) == []

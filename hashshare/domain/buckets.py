"""The root of a list: a Merkle tree over buckets of entries.

Source: docs/protocol.md, "The root of a list".
"""

import hashlib
import struct
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from hashshare.crypto.merkle import HASH_BYTES, leaf_hash, node_hash
from hashshare.domain.hashes import HashAlgorithm
from hashshare.errors import MalformedError, RootMismatchError

MAX_BITS: Final = 20
TAG_BYTES: Final = 16
EMPTY_BUCKET: Final = bytes(4)


def bits_for(count: int, previous_bits: int) -> int:
    """Return how many leading bits of a key choose the bucket in a list of ``count`` entries.

    Never fewer than before, so that a list that shrinks and grows is not cut anew each time.
    """
    return max(previous_bits, min(MAX_BITS, (count // 128).bit_length()))


def bucket_index(key: bytes, bits: int) -> int:
    """Return the number that the first ``bits`` bits of ``key`` spell, big-endian."""
    return int.from_bytes(key[:4], "big") >> (32 - bits)


def tag_of(attributes: bytes) -> bytes:
    """Return what stands for attributes (canonical JSON) in a bucket, 16 bytes."""
    return hashlib.sha256(attributes).digest()[:TAG_BYTES]


@dataclass(frozen=True, slots=True)
class Bucket:
    """The entries of one bucket.

    Attributes:
        values: In key order, each once.
        tags: In the same order.
    """

    values: Sequence[bytes]
    tags: Sequence[bytes]

    def encode(self) -> bytes:
        """Return the bytes that are hashed: number (4 bytes, big-endian), values, tags."""
        return b"".join((struct.pack(">I", len(self.values)), *self.values, *self.tags))

    def find(self, algorithm: HashAlgorithm, value: bytes) -> bytes | None:
        """Return the tag of ``value``, None if it is not here."""
        index = bisect_left(self.values, algorithm.key(value), key=algorithm.key)
        if index < len(self.values) and self.values[index] == value:
            return self.tags[index]
        return None


def split_bucket(data: bytes, algorithm: HashAlgorithm) -> Bucket:
    """Read the bytes of a bucket that is known to be genuine.

    Raises:
        MalformedError: The length does not fit the number of entries.
    """
    count = int.from_bytes(data[:4], "big")
    size = algorithm.size
    tags = 4 + count * size
    if len(data) != tags + count * TAG_BYTES or len(data) < 4:
        raise MalformedError("a bucket's length does not fit its number of entries")
    return Bucket(
        [data[i : i + size] for i in range(4, tags, size)],
        [data[i : i + TAG_BYTES] for i in range(tags, len(data), TAG_BYTES)],
    )


def parse_bucket(data: bytes, algorithm: HashAlgorithm, *, index: int, bits: int) -> Bucket:
    """Read a bucket from the network.

    Raises:
        MalformedError: Its length is wrong, an entry belongs elsewhere, is out of order, or
            is there twice.
    """
    bucket = split_bucket(data, algorithm)
    keys = [algorithm.key(value) for value in bucket.values]
    if any(a >= b for a, b in pairwise(keys)):
        raise MalformedError("a bucket's entries are in key order, each once")
    if any(bucket_index(key, bits) != index for key in keys):
        raise MalformedError("an entry belongs to another bucket")
    return bucket


def verify_bucket(
    data: bytes, *, index: int, bits: int, path: Sequence[bytes], root: bytes
) -> None:
    """Refuse bucket bytes that are not what a root commits to at ``index``.

    Args:
        data: The bucket.
        index: Which one, below 2**bits.
        bits: From the publication.
        path: The siblings, leaf to root, ``bits`` of them.
        root: From the publication.

    Raises:
        RootMismatchError: They are not.
    """
    if not 0 <= index < 1 << bits:
        raise RootMismatchError(f"there is no bucket {index} among {1 << bits}")
    if len(path) != bits or any(len(sibling) != HASH_BYTES for sibling in path):
        raise RootMismatchError(f"a bucket's path has {bits} hashes of {HASH_BYTES} bytes here")
    value = leaf_hash(data)
    for sibling in path:
        value = node_hash(sibling, value) if index & 1 else node_hash(value, sibling)
        index >>= 1
    if value != root:
        raise RootMismatchError("the bucket does not lead to the signed root")


def root_of_leaves(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes, of which there are a power of two."""
    level = list(leaves)
    while len(level) > 1:
        level = [node_hash(level[i], level[i + 1]) for i in range(0, len(level), 2)]
    return level[0]


def root_of(entries: Mapping[bytes, bytes], algorithm: HashAlgorithm, bits: int) -> bytes:
    """Return the root of a list given as values with their attributes.

    The plain rule, which the replica is tested against.
    """
    buckets: list[list[bytes]] = [[] for _ in range(1 << bits)]
    for value in sorted(entries, key=algorithm.key):
        buckets[bucket_index(algorithm.key(value), bits)].append(value)
    return root_of_leaves(
        [
            leaf_hash(Bucket(values, [tag_of(entries[v]) for v in values]).encode())
            for values in buckets
        ]
    )

"""Made-up hashes: random values, which are hashes of nothing, the same for the same seed."""

from collections.abc import Iterator

import numpy as np

from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.policy import Basis
from hashshare.domain.records import AssertRecord

SIZE = 32

Part = tuple[int, int]
"""Seed and count: the first ``count`` values of ``seed``."""


def values(parts: list[Part]) -> bytes:
    """Return the values of all parts, 32 bytes each, in one piece."""
    return b"".join(np.random.default_rng(seed).bytes(SIZE * count) for seed, count in parts)


def records(parts: list[Part]) -> Iterator[AssertRecord]:
    """Yield a record for each value, without an id, all alike."""
    packed = values(parts)
    for begin in range(0, len(packed), SIZE):
        hashes = {HashAlgorithm.SHA256: packed[begin : begin + SIZE]}
        yield AssertRecord("", hashes, "A1", None, Basis.REVIEWED)

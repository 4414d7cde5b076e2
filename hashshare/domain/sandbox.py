"""The sandbox: a hash set of made-up hashes, in which every active member may try everything.

Its hashes follow from their numbers, so that anybody can make them again, and no file has them.
"""

import hashlib
from collections.abc import Iterator
from typing import Final

from hashshare.domain.hash_sets import HashSet
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.members import Member
from hashshare.domain.names import HashSetId, MemberId
from hashshare.domain.policy import Basis, Media, View
from hashshare.domain.records import AssertRecord

SANDBOX: Final = HashSetId("sandbox")
SANDBOX_AUTHOR: Final = MemberId("sandbox")
FIRST_ITEMS: Final = 100
"""So many items are there from the start."""

_CLASSIFICATIONS: Final = ("A1", "A2", "B1", "B2")


def sandbox_hash_set() -> HashSet:
    """Return the sandbox as a coalition begins with it."""
    return HashSet(
        title="Sandbox: made-up hashes, to try everything",
        algorithms=tuple(sorted(HashAlgorithm)),
        classifications=_CLASSIFICATIONS,
        views={"all": View(), "confirmed": View(quorum=2)},
        sandbox=True,
    )


def sandbox_author(submission_key: str) -> Member:
    """Return the member in whose name the first items are; it may do nothing elsewhere."""
    return Member(name="Nobody: the sandbox's made-up hashes", submission_keys=(submission_key,))


def sandbox_records(first: int, count: int) -> Iterator[AssertRecord]:
    """Yield the made-up items from number ``first`` on, each with a hash of every algorithm."""
    for number in range(first, first + count):
        yield AssertRecord(
            record=f"sandbox-{number}",
            hashes={algorithm: _made_up(algorithm, number) for algorithm in HashAlgorithm},
            classification=_CLASSIFICATIONS[number % len(_CLASSIFICATIONS)],
            media=Media.IMAGE,
            basis=Basis.REVIEWED,
        )


def _made_up(algorithm: HashAlgorithm, number: int) -> bytes:
    text = f"hashshare sandbox {algorithm} {number}"
    return hashlib.shake_256(text.encode("ascii")).digest(algorithm.size)

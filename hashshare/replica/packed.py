"""The bytes of one bucket: looked up and changed without taking them apart.

A bucket that is split into its entries first costs ten times as much to look up.
"""

from collections.abc import Callable, Iterable

from hashshare.domain.buckets import TAG_BYTES, tag_of
from hashshare.domain.changes import UNKNOWN, Change
from hashshare.domain.hashes import HashAlgorithm
from hashshare.errors import DeltaMismatchError, ReplicaDamagedError

StoreTag = Callable[[bytes], bytes]
"""Takes attributes, sees to it that they are stored, and gives their tag."""


def count_of(data: bytes, algorithm: HashAlgorithm) -> int:
    """Return how many entries a bucket has.

    Raises:
        ReplicaDamagedError: Its length does not fit.
    """
    count = int.from_bytes(data[:4], "big")
    if len(data) != 4 + count * (algorithm.size + TAG_BYTES):
        raise ReplicaDamagedError("a bucket of the replica is damaged")
    return count


def find_tag(data: bytes, algorithm: HashAlgorithm, value: bytes) -> bytes | None:
    """Return the tag of ``value``, None if it is not in the bucket.

    Raises:
        ReplicaDamagedError: The bucket's length does not fit its number of entries.
    """
    count = count_of(data, algorithm)
    place = _find_place(data, algorithm, algorithm.key(value), low=0, high=count)
    if place == count or _value_at(data, algorithm.size, place) != value:
        return None
    tag = 4 + count * algorithm.size + place * TAG_BYTES
    return data[tag : tag + TAG_BYTES]


def tags_of(data: bytes, algorithm: HashAlgorithm) -> list[bytes]:
    """Return the tags of all entries.

    Raises:
        ReplicaDamagedError: The bucket's length does not fit its number of entries.
    """
    first = 4 + count_of(data, algorithm) * algorithm.size
    return [data[i : i + TAG_BYTES] for i in range(first, len(data), TAG_BYTES)]


def change_bucket(
    data: bytes, algorithm: HashAlgorithm, changes: Iterable[Change], store_tag: StoreTag
) -> bytes:
    """Return a bucket after ``changes``, which are in key order and belong to it.

    Raises:
        DeltaMismatchError: An entry to be added is there; one to be removed or changed is
            not, or has other attributes; or a change changes nothing.
        ReplicaDamagedError: The bucket's length does not fit its number of entries.
    """
    size, count = algorithm.size, count_of(data, algorithm)
    first_tag = 4 + count * size
    values: list[bytes] = []
    tags: list[bytes] = []
    done = 0  # of the entries that were there
    for change in changes:
        place = _find_place(data, algorithm, algorithm.key(change.value), low=done, high=count)
        is_there = place < count and _value_at(data, size, place) == change.value
        values.append(data[4 + done * size : 4 + place * size])
        tags.append(data[first_tag + done * TAG_BYTES : first_tag + place * TAG_BYTES])
        done = place + is_there
        tag = first_tag + place * TAG_BYTES
        after = None if change.after is None else store_tag(change.after)
        _verify_fits(change, data[tag : tag + TAG_BYTES] if is_there else None, after)
        if after is not None:
            values.append(change.value)
            tags.append(after)
    values.append(data[4 + done * size : first_tag])
    tags.append(data[first_tag + done * TAG_BYTES :])
    new_tags = b"".join(tags)
    return b"".join([(len(new_tags) // TAG_BYTES).to_bytes(4, "big"), *values, new_tags])


def _find_place(data: bytes, algorithm: HashAlgorithm, key: bytes, *, low: int, high: int) -> int:
    """Return the place of the first entry, from ``low``, whose key is not below ``key``."""
    size, key_of = algorithm.size, algorithm.key
    while low < high:
        middle = (low + high) // 2
        if key_of(_value_at(data, size, middle)) < key:
            low = middle + 1
        else:
            high = middle
    return low


def _value_at(data: bytes, size: int, place: int) -> bytes:
    return data[4 + place * size : 4 + (place + 1) * size]


def _verify_fits(change: Change, tag: bytes | None, after: bytes | None) -> None:
    if change.before is None and tag is not None:
        raise DeltaMismatchError("an entry to be added is there")
    if change.before is not None and tag is None:
        raise DeltaMismatchError("an entry to be removed or changed is not there")
    if change.before not in (None, UNKNOWN) and tag_of(change.before) != tag:
        raise DeltaMismatchError("an entry to be removed or changed has other attributes")
    if tag == after:
        raise DeltaMismatchError("a change changes nothing")

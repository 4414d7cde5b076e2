"""Laws of the buckets of a list and of its root."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.domain.buckets import (
    EMPTY_BUCKET,
    Bucket,
    bits_for,
    bucket_index,
    parse_bucket,
    root_of,
    split_bucket,
    tag_of,
    verify_bucket,
)
from hashshare.domain.hashes import HashAlgorithm
from hashshare.errors import MalformedError, RootMismatchError

SHA256 = HashAlgorithm.SHA256
ATTRIBUTES = [b'{"by":{"a":"A1"}}', b'{"members":2}']


def contents(algorithm: HashAlgorithm) -> st.SearchStrategy[dict[bytes, bytes]]:
    values = st.binary(min_size=algorithm.size, max_size=algorithm.size)
    return st.dictionaries(values, st.sampled_from(ATTRIBUTES), max_size=8)


def test_a_root_is_what_the_protocol_says() -> None:
    """Computed by hand from section 4, with hashlib alone."""
    low, high = b"\x10" * 32, b"\x90" * 32
    tags = {v: hashlib.sha256(a).digest()[:16] for v, a in zip([low, high], ATTRIBUTES)}  # noqa: B905
    leaves = [
        hashlib.sha256(b"\x00" + b"\x00\x00\x00\x01" + value + tags[value]).digest()
        for value in (low, high)
    ]
    expected = hashlib.sha256(b"\x01" + leaves[0] + leaves[1]).digest()
    assert root_of(dict(zip([low, high], ATTRIBUTES, strict=True)), SHA256, 1) == expected
    assert root_of({}, SHA256, 0) == hashlib.sha256(b"\x00" + bytes(4)).digest()


@pytest.mark.parametrize(
    ("count", "previous", "bits"),
    [
        (0, 0, 0),
        (127, 0, 0),
        (128, 0, 1),
        (255, 0, 1),
        (256, 0, 2),
        (10_000_000, 0, 17),
        (10**9, 0, 20),
        (0, 5, 5),
        (10_000, 20, 20),
    ],
)
def test_bits_follow_the_count_and_never_fall(count: int, previous: int, bits: int) -> None:
    """The table is from the formula in section 4."""
    assert bits_for(count, previous) == bits


def test_the_order_of_perceptual_hashes_is_that_of_their_digests() -> None:
    """Similar pictures have similar hashes, which would all fall into one bucket."""
    value = b"\x01" * 32
    assert HashAlgorithm.PDQ.key(value) == hashlib.sha256(value).digest()
    assert SHA256.key(value) == value
    assert bucket_index(b"\xff\x00\x00\x00", 9) == 0b111111110


@given(st.data(), st.sampled_from(HashAlgorithm))
def test_a_bucket_reads_as_it_was_written(data: st.DataObject, algorithm: HashAlgorithm) -> None:
    """parse(encode(b)) == b, and every entry is found with its tag."""
    entries = data.draw(contents(algorithm))
    values = sorted(entries, key=algorithm.key)
    bucket = Bucket(values, [tag_of(entries[v]) for v in values])
    parsed = parse_bucket(bucket.encode(), algorithm, index=0, bits=0)
    assert parsed == bucket == split_bucket(bucket.encode(), algorithm)
    for value in values:
        assert parsed.find(algorithm, value) == tag_of(entries[value])
    assert parsed.find(algorithm, b"\x77" * algorithm.size) is None


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_bucket_or_malformed(data: bytes) -> None:
    """And what is accepted is its own only spelling."""
    try:
        bucket = parse_bucket(data, HashAlgorithm.MD5, index=0, bits=0)
    except MalformedError:
        return
    assert bucket.encode() == data


LOW, HIGH, TAG = b"\x10" * 32, b"\x90" * 32, b"t" * 16


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\1" + LOW,
        Bucket([LOW], [TAG]).encode() + b"\0",
        Bucket([HIGH, LOW], [TAG, TAG]).encode(),
        Bucket([LOW, LOW], [TAG, TAG]).encode(),
    ],
    ids=["empty", "short", "no tag", "more", "unsorted", "twice"],
)
def test_a_malformed_bucket_is_refused(data: bytes) -> None:
    """Whatever is not one of its spellings."""
    with pytest.raises(MalformedError):
        parse_bucket(data, SHA256, index=0, bits=0)


def test_an_entry_of_another_bucket_is_refused() -> None:
    """An answer about bucket 0 cannot smuggle in an entry of bucket 1."""
    data = Bucket([HIGH], [TAG]).encode()
    parse_bucket(data, SHA256, index=1, bits=1)
    with pytest.raises(MalformedError):
        parse_bucket(data, SHA256, index=0, bits=1)


def proof(entries: dict[bytes, bytes], bits: int, index: int) -> tuple[bytes, list[bytes]]:
    """A bucket and its path, from the plain rule: the other half of each tree."""
    buckets: list[list[bytes]] = [[] for _ in range(1 << bits)]
    for value in sorted(entries):
        buckets[bucket_index(value, bits)].append(value)
    encoded = [Bucket(b, [tag_of(entries[v]) for v in b]).encode() for b in buckets]
    level = [hashlib.sha256(b"\x00" + data).digest() for data in encoded]
    path, place = [], index
    while len(level) > 1:
        path.append(level[place ^ 1])
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [hashlib.sha256(b"\x01" + left + right).digest() for left, right in pairs]
        place //= 2
    return encoded[index], path


@given(contents(SHA256), st.integers(0, 4), st.data())
def test_a_bucket_is_proven_by_its_path_and_by_nothing_else(
    entries: dict[bytes, bytes], bits: int, data: st.DataObject
) -> None:
    """Another index, a changed byte, a path that is too short or too long: each is refused."""
    root = root_of(entries, SHA256, bits)
    index = data.draw(st.integers(0, (1 << bits) - 1))
    bucket, path = proof(entries, bits, index)
    verify_bucket(bucket, index=index, bits=bits, path=path, root=root)

    def refuse(bucket: bytes, index: int, path: list[bytes]) -> None:
        with pytest.raises(RootMismatchError):
            verify_bucket(bucket, index=index, bits=bits, path=path, root=root)

    place = data.draw(st.integers(0, len(bucket) - 1))
    refuse(bucket[:place] + bytes([bucket[place] ^ 1]) + bucket[place + 1 :], index, path)
    refuse(bucket, index, [*path, bytes(32)])
    refuse(bucket, index + (1 << bits), path)
    refuse(bucket, -1, path)
    if path:
        refuse(bucket, index, path[:-1])
        if bucket != EMPTY_BUCKET:
            refuse(bucket, index ^ 1, path)


def test_siblings_have_32_bytes() -> None:
    """A hash that is moved from the bucket's side of a node to its sibling's is no proof."""
    with pytest.raises(RootMismatchError, match="32 bytes"):
        verify_bucket(EMPTY_BUCKET, index=0, bits=1, path=[b""], root=bytes(32))

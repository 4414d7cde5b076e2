"""A hash has exactly one spelling, and hashes that say nothing are refused."""

import hashlib
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.domain.hashes import HashAlgorithm, HashValue, parse_algorithm
from hashshare.errors import MalformedError
from tests.strategies import hash_values

SIZES = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64, "pdq": 32, "photodna": 144}


def test_the_algorithms_and_their_sizes_are_those_of_the_protocol() -> None:
    """As docs/protocol.md lists them; a size that changed would break every list."""
    assert {str(algorithm): algorithm.size for algorithm in HashAlgorithm} == SIZES


@given(hash_values())
def test_a_hash_has_one_spelling(value: HashValue) -> None:
    """Printing and parsing are inverse."""
    assert HashValue.parse(str(value)) == value


@given(hash_values())
@pytest.mark.parametrize(
    "spoil",
    [str.upper, "{} ".format, " {}".format, "{}00".format, "0x{}".format, lambda t: t[:-2]],
)
def test_other_spellings_are_refused(spoil: Callable[[str], str], value: HashValue) -> None:
    """Even those that ``bytes.fromhex`` would take."""
    algorithm, _, digits = str(value).partition(":")
    spoilt = spoil(digits)
    # Digits without letters have no other case.
    if spoilt != digits:
        with pytest.raises(MalformedError):
            HashValue.parse(f"{algorithm}:{spoilt}")


@given(st.text())
def test_any_text_is_a_hash_or_malformed(text: str) -> None:
    """No other error comes out, and what is accepted prints as it was."""
    with suppress(MalformedError):
        assert str(HashValue.parse(text)) == text


@pytest.mark.parametrize("name", ["md5", "sha1", "sha256", "sha512"])
@pytest.mark.parametrize("content", [b"", b"\0", b"\n", b" ", b"\r\n"])
def test_hashes_of_trivial_content_are_refused(name: str, content: bytes) -> None:
    """They would match files that have nothing to do with each other."""
    digits = hashlib.new(name, content).hexdigest()

    with pytest.raises(MalformedError, match="by accident"):
        HashValue.parse(f"{name}:{digits}")


@pytest.mark.parametrize("algorithm", list(HashAlgorithm))
@pytest.mark.parametrize("byte", ["00", "ff"])
def test_hashes_of_all_zeros_or_ones_are_refused(algorithm: HashAlgorithm, byte: str) -> None:
    """A blank picture has such perceptual hashes."""
    with pytest.raises(MalformedError, match="by accident"):
        HashValue.parse(f"{algorithm}:{byte * algorithm.size}")


def test_a_value_of_another_length_is_no_hash() -> None:
    """Also when it is made from bytes and not from text."""
    with pytest.raises(MalformedError):
        HashValue(HashAlgorithm.MD5, b"short")


def test_an_unknown_algorithm_is_named_with_the_known_ones() -> None:
    """So that the reader knows what to write."""
    with pytest.raises(MalformedError, match="photodna"):
        parse_algorithm("crc32")


@given(hash_values())
def test_keys_are_the_value_or_its_digest(value: HashValue) -> None:
    """Perceptual hashes are not uniform, so that their digest chooses the bucket."""
    perceptual = value.algorithm in (HashAlgorithm.PDQ, HashAlgorithm.PHOTODNA)

    key = value.algorithm.key(value.value)

    assert value.algorithm.uniform is not perceptual
    assert key == (hashlib.sha256(value.value).digest() if perceptual else value.value)

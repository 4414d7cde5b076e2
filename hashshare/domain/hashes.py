"""The hashes that members share: algorithms, their one spelling, and values that say nothing."""

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from hashshare.errors import MalformedError

LOWER_HEX: Final = re.compile(r"(?:[0-9a-f]{2})+")


class HashAlgorithm(StrEnum):
    """How a hash was computed. A new algorithm is one line here and one in ``_TRAITS``."""

    MD5 = "md5"
    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA512 = "sha512"
    PDQ = "pdq"
    PHOTODNA = "photodna"

    @property
    def size(self) -> int:
        """Length of a value in bytes."""
        return _TRAITS[self].size

    @property
    def uniform(self) -> bool:
        """Whether values are spread evenly, so that their leading bits can choose a bucket.

        Perceptual hashes of similar pictures are similar; cryptographic hashes are not.
        """
        return _TRAITS[self].uniform

    def key(self, value: bytes) -> bytes:
        """Return what orders ``value`` in a list: itself, or its SHA-256 when not uniform."""
        return value if _TRAITS[self].uniform else hashlib.sha256(value).digest()


@dataclass(frozen=True, slots=True)
class _Traits:
    size: int
    uniform: bool


_TRAITS: Final = {
    HashAlgorithm.MD5: _Traits(16, uniform=True),
    HashAlgorithm.SHA1: _Traits(20, uniform=True),
    HashAlgorithm.SHA256: _Traits(32, uniform=True),
    HashAlgorithm.SHA512: _Traits(64, uniform=True),
    HashAlgorithm.PDQ: _Traits(32, uniform=False),
    HashAlgorithm.PHOTODNA: _Traits(144, uniform=False),
}


def parse_algorithm(text: str) -> HashAlgorithm:
    """Return the algorithm named ``text``.

    Raises:
        MalformedError: There is none of that name.
    """
    try:
        return HashAlgorithm(text)
    except ValueError as error:
        known = ", ".join(HashAlgorithm)
        raise MalformedError(f"unknown algorithm {text!r:.40}; known are {known}") from error


def parse_value(algorithm: HashAlgorithm, digits: str) -> bytes:
    """Return the bytes of a hash in its one spelling, lower-case hex.

    Upper case and white space are refused, not normalised: two spellings of one hash
    would escape deduplication, and would change the bytes that are signed.

    Raises:
        MalformedError: ``digits`` is not that, or the hash is of trivial content.
    """
    if len(digits) != 2 * algorithm.size:
        raise MalformedError(
            f"a {algorithm} hash has {2 * algorithm.size} hex digits, not {len(digits)}"
        )
    if not LOWER_HEX.fullmatch(digits):
        raise MalformedError(f"a {algorithm} hash is written in lower-case hex digits")
    value = bytes.fromhex(digits)
    reason = TRIVIAL.get(value)
    if reason is not None:
        raise MalformedError(f"this is the {algorithm} hash of {reason}, which matches by accident")
    return value


@dataclass(frozen=True, slots=True, order=True)
class HashValue:
    """One hash of one piece of content.

    Attributes:
        algorithm: How ``value`` was computed.
        value: The hash, ``algorithm.size`` bytes.
    """

    algorithm: HashAlgorithm
    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) != self.algorithm.size:
            raise MalformedError(
                f"a {self.algorithm} hash has {self.algorithm.size} bytes, not {len(self.value)}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the command line's form, ``<algorithm>:<lower-case hex>``.

        Raises:
            MalformedError: ``text`` is not the one spelling of a hash worth sharing.
        """
        name, _, digits = text.partition(":")
        algorithm = parse_algorithm(name)
        return cls(algorithm, parse_value(algorithm, digits))

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value.hex()}"


def _trivial_values() -> dict[bytes, str]:
    contents = {
        b"": "an empty file",
        b"\0": "a single zero byte",
        b"\n": "a single line feed",
        b" ": "a single space",
        b"\r\n": "an empty line",
    }
    trivial = {
        hashlib.new(name, content, usedforsecurity=False).digest(): reason
        for name in ("md5", "sha1", "sha256", "sha512")
        for content, reason in contents.items()
    }
    for traits in _TRAITS.values():
        trivial[bytes(traits.size)] = "nothing: all bits are zero"
        trivial[b"\xff" * traits.size] = "nothing: all bits are one"
    return trivial


TRIVIAL: Final = _trivial_values()
"""Values that would match unrelated files, with the content that they stand for."""

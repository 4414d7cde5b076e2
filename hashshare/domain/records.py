"""The records of a batch: what one submission says, line by line."""

from collections.abc import Mapping
from dataclasses import dataclass

from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.policy import Basis, Decision, DisputeReason, Media

Hashes = Mapping[HashAlgorithm, bytes]


@dataclass(frozen=True, slots=True)
class AssertRecord:
    """A member vouches for one item.

    Attributes:
        record: The member's own id of it, "" if it gives none.
        hashes: At least one; all of the same item.
    """

    record: str
    hashes: Hashes
    classification: str
    media: Media | None
    basis: Basis


@dataclass(frozen=True, slots=True)
class WithdrawRecord:
    """A member takes back what it said: of one of its records, or of hashes.

    Attributes:
        record: Its record, "" when hashes are named instead.
        hashes: Empty when a record is named.
    """

    record: str
    hashes: Hashes


@dataclass(frozen=True, slots=True)
class DisputeRecord:
    """A member holds hashes to be wrongly listed."""

    hashes: Hashes
    reason: DisputeReason


@dataclass(frozen=True, slots=True)
class RuleRecord:
    """A reviewer decides about hashes.

    Attributes:
        reason: 1 to 200 characters of printable ASCII, without quotation mark and backslash.
    """

    hashes: Hashes
    decision: Decision
    reason: str


Record = AssertRecord | WithdrawRecord | DisputeRecord | RuleRecord

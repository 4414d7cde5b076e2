"""What an audit has found, hash set by hash set."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, Self

import msgspec

from hashshare.domain.names import HashSetId
from hashshare.domain.statements import Submission


class Place(Protocol):
    """A leaf of the log."""

    @property
    def index(self) -> int:
        """Its index."""

    @property
    def statement_id(self) -> str:
        """The id of what it says."""


class Verdict(StrEnum):
    """What can be said of the publications of one hash set."""

    AGREED = "agreed"
    DIFFERS = "differs"
    WITHHELD = "withheld"
    REDACTED = "redacted"
    UNREADABLE = "unreadable"


class Standing(msgspec.Struct):
    """Where the audit of one hash set stands.

    Attributes:
        verdict: Of all publications after ``agreed_version``; agreed if there is none.
        agreed_version: Every version up to this one has the roots that the fold gives, but
            for those that could not be compared.
        compared: How many versions were compared.
        leaf: Where the log and what is published part, or where the audit went blind.
        statement_id: Of that leaf.
        reason: What was found there.
        differing: Lists that differ, each with the buckets, if these could be found.
    """

    verdict: Verdict = Verdict.AGREED
    agreed_version: int = 0
    compared: int = 0
    leaf: int | None = None
    statement_id: str = ""
    reason: str = ""
    differing: dict[str, list[int]] = msgspec.field(default_factory=dict)

    @property
    def is_blind(self) -> bool:
        """Whether nothing more can be said: a batch is not known, or a version differs."""
        return self.verdict in {Verdict.DIFFERS, Verdict.WITHHELD, Verdict.UNREADABLE}

    def blind(self, logged: Place) -> None:
        """Note that from this leaf on nothing can be compared: its batch is not for this reader."""
        self.verdict, self.reason = Verdict.UNREADABLE, "its batch is not for you to read"
        self.leaf, self.statement_id = logged.index, logged.statement_id

    def withhold(self, logged: Place, reason: str) -> None:
        """Note that the server does not show, to one who may see it, what was signed here."""
        self.verdict, self.reason = Verdict.WITHHELD, reason
        self.leaf, self.statement_id = logged.index, logged.statement_id

    def redact(self, logged: Place) -> None:
        """Note that the batch of this leaf was deleted, as the log itself says."""
        self.verdict, self.reason = Verdict.REDACTED, "its batch was redacted"
        self.leaf, self.statement_id = logged.index, logged.statement_id

    def agree(self, version: int) -> None:
        """Note that a version is what the fold gives."""
        self.compared += 1
        # What was redacted has no effect any more, once the roots are equal without it.
        self.verdict, self.agreed_version = Verdict.AGREED, version
        self.leaf, self.statement_id, self.reason = None, "", ""

    def differ(self, logged: Place, differing: dict[str, list[int]]) -> None:
        """Note that a publication is not what the fold gives."""
        self.compared += 1
        self.verdict, self.reason = Verdict.DIFFERS, "it is not what the log and its batches give"
        self.leaf, self.statement_id = logged.index, logged.statement_id
        self.differing = differing


class Waiting(msgspec.Struct, frozen=True):
    """A submission that no publication has covered yet.

    Attributes:
        registry_version: In force at its place.
        alone: Whether its disputes count while nobody else disputes the same.
    """

    index: int
    statement_id: str
    submission: Submission
    registry_version: int
    alone: bool = True


class Findings(msgspec.Struct):
    """All that is known so far; written down with each step.

    Attributes:
        standings: By hash set.
        numbers: A small number for each hash set.
        published: The registry version of each hash set's latest publication.
        waiting: What is to be folded before the next publication of a hash set, if that
            covers it, in the order of the log.
    """

    standings: dict[str, Standing] = msgspec.field(default_factory=dict)
    numbers: dict[str, int] = msgspec.field(default_factory=dict)
    published: dict[str, int] = msgspec.field(default_factory=dict)
    waiting: dict[str, list[Waiting]] = msgspec.field(default_factory=dict)
    submissions: int = 0
    records: int = 0

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what ``encode`` wrote."""
        return msgspec.json.decode(data, type=cls)

    def encode(self) -> bytes:
        """Return the form that is kept."""
        return msgspec.json.encode(self)

    def of(self, hash_set: HashSetId | str) -> Standing:
        """Return the standing of a hash set, which is new if it was not heard of."""
        return self.standings.setdefault(hash_set, Standing())

    def number_of(self, hash_set: HashSetId | str) -> int:
        """Return the number of a hash set."""
        return self.numbers.setdefault(hash_set, len(self.numbers))


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit came to.

    Attributes:
        log: Origin.
        size: Of the log that was verified.
        root: Of it, hex.
        note: The checkpoint, as it was signed.
        redactions: Digests of the batches that the log says were deleted.
    """

    log: str
    size: int
    root: str
    note: str
    hash_sets: dict[str, Standing]
    submissions: int
    records: int
    redactions: list[str] = field(default_factory=list)

    @property
    def accuses(self) -> bool:
        """Whether a list is not what the log gives, or the server withholds what it is made of."""
        faults = {Verdict.DIFFERS, Verdict.WITHHELD}
        return any(s.verdict in faults for s in self.hash_sets.values())

    @property
    def is_complete(self) -> bool:
        """Whether every publication was compared, and all agree."""
        return all(s.verdict is Verdict.AGREED for s in self.hash_sets.values())

    def to_fields(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields

"""The audit trail: what is recorded of who did what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from hashshare.domain.names import MemberId

Facts: TypeAlias = Mapping[str, str | int]


class TrailKind(StrEnum):
    """What sort of thing happened."""

    SUBMISSION = "submission"
    PULL = "pull"
    ACT = "act"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True)
class TrailEntry:
    """Something that happened. Holds names, numbers and digests, never a hash value.

    Attributes:
        member: Who; None where that is not known.
        fingerprint: Of the certificate that was used, hex; None where there was none.
        action: What, in a word, or as the method and the route.
        problem: Name of the problem's type, if it was refused.
        facts: What it was about.
    """

    kind: TrailKind
    member: MemberId | None
    action: str
    facts: Facts = field(default_factory=dict)
    fingerprint: str | None = None
    problem: str | None = None

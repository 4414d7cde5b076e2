"""Policy: which hashes a view publishes, and what it says of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import msgspec

from hashshare.crypto import canonical
from hashshare.domain.documents import Classification, Document, Id
from hashshare.domain.names import MemberId


class Basis(StrEnum):
    """How a member came to its verdict."""

    REVIEWED = "reviewed"
    RELAYED = "relayed"


class Media(StrEnum):
    """What kind of file a hash was computed from."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    DOCUMENT = "document"


class DisputeReason(StrEnum):
    """Why a member holds that a hash should not be listed."""

    NOT_MATCHING_DEFINITION = "not-matching-definition"
    ADULT = "adult"
    NOT_A_DEPICTION = "not-a-depiction"
    DAMAGED_FILE = "damaged-file"
    COLLISION = "collision"
    TRIVIAL_CONTENT = "trivial-content"
    OTHER = "other"


class QuorumOf(StrEnum):
    """What is counted towards a view's quorum."""

    MEMBERS = "members"
    JURISDICTIONS = "jurisdictions"


class View(Document, frozen=True):
    """Which hashes of a hash set are published under a name.

    Attributes:
        quorum: This many distinct members (or jurisdictions) must assert a hash.
        quorum_of: What is counted.
        basis: ``reviewed`` counts own reviews only, ``any`` also relayed assertions.
        dispute_limit: With this many disputing members a hash is taken out.
        classifications: Only these count; None means all.
        sources: Only these members' assertions count; None means all.
        media: Only assertions of these media count; None means all, also unstated.
        show_members: Whether entries name the members, or only count them.
    """

    quorum: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    quorum_of: QuorumOf = QuorumOf.MEMBERS
    basis: Annotated[str, msgspec.Meta(pattern=r"\A(reviewed|any)\Z")] = "reviewed"
    dispute_limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    classifications: tuple[Classification, ...] | None = None
    sources: tuple[Id, ...] | None = None
    media: tuple[Media, ...] | None = None
    show_members: bool = True


@dataclass(frozen=True, slots=True)
class Assertion:
    """What one member says of one hash, now in force.

    Attributes:
        record: The member's own id of the item, "" if it gave none.
        classification: One of the hash set's vocabulary.
        media: None when not stated.
        basis: Own review, or relayed from another list.
        log_index: The submission that said it first in this form.
    """

    record: str
    classification: str
    media: Media | None
    basis: Basis
    log_index: int


@dataclass(frozen=True, slots=True)
class Dispute:
    """That one member holds a hash to be wrongly listed."""

    reason: DisputeReason
    log_index: int


Stance = Assertion | Dispute


def counts(view: View, member: MemberId, assertion: Assertion) -> bool:
    """Return whether ``view`` lets this assertion count."""
    return (
        (view.basis == "any" or assertion.basis is Basis.REVIEWED)
        and (view.classifications is None or assertion.classification in view.classifications)
        and (view.sources is None or member in view.sources)
        and (view.media is None or assertion.media in view.media)
    )


def attributes_in(
    view: View, stances: Mapping[MemberId, Stance], jurisdictions: Mapping[MemberId, str]
) -> bytes | None:
    """Return the attributes of the entry that ``view`` makes of one hash, None for no entry.

    Args:
        view: The policy.
        stances: Each member's present stance on the hash.
        jurisdictions: Of every member among them.

    Returns:
        Canonical JSON.

    Source: docs/protocol.md, "The fold".
    """
    disputes = sum(isinstance(stance, Dispute) for stance in stances.values())
    asserting = {
        member: stance
        for member, stance in stances.items()
        if isinstance(stance, Assertion) and counts(view, member, stance)
    }
    if view.quorum_of is QuorumOf.JURISDICTIONS:
        reached = len({jurisdictions[member] for member in asserting})
    else:
        reached = len(asserting)
    if reached < view.quorum or disputes >= view.dispute_limit:
        return None
    return _describe(view, asserting, disputes)


def without_members(attributes: bytes) -> bytes:
    """Return the attributes of an entry that names members as a view that does not has them."""
    fields: dict[str, canonical.JsonValue] = msgspec.json.decode(attributes)
    by: dict[str, str] = fields.pop("by")  # type: ignore[assignment] # of an entry of ours
    fields["classifications"] = [*sorted(set(by.values()))]
    fields["members"] = len(by)
    return canonical.encode(fields)


def _describe(view: View, asserting: Mapping[MemberId, Assertion], disputes: int) -> bytes:
    attributes: dict[str, canonical.JsonValue] = {}
    if view.show_members:
        attributes["by"] = {m: a.classification for m, a in asserting.items()}
    else:
        # All are ASCII, so that this is bytewise, as PostgreSQL's COLLATE "C" is.
        attributes["classifications"] = [*sorted({a.classification for a in asserting.values()})]
        attributes["members"] = len(asserting)
    if disputes:
        attributes["disputes"] = disputes
    media = {a.media for a in asserting.values() if a.media is not None}
    if len(media) == 1:
        attributes["media"] = str(media.pop())
    return canonical.encode(attributes)

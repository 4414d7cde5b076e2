"""Policy: which hashes a view publishes, and what it says of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from hashshare.crypto import canonical
from hashshare.domain.documents import Classification, Document, Id, TermName
from hashshare.domain.names import MemberId
from hashshare.errors import MalformedError

WORDS_PATTERN: Final = r"[ !#-\[\]-~]{1,200}"
"""Printable ASCII without quotation mark and backslash, so that canonical JSON has no escape."""

_WORDS: Final = re.compile(WORDS_PATTERN)


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


class Decision(StrEnum):
    """What a reviewer decides about a hash."""

    KEEP = "keep"
    REMOVE = "remove"


class QuorumOf(StrEnum):
    """What is counted towards a view's quorum."""

    MEMBERS = "members"
    JURISDICTIONS = "jurisdictions"


Jurisdiction = Annotated[str, msgspec.Meta(pattern=r"\A[A-Z]{2}\Z")]
"""ISO 3166 code of a country."""

Weight = Annotated[int, msgspec.Meta(ge=2, le=1000)]


class View(Document, frozen=True):
    """Which hashes of a hash set are published under a name.

    Attributes:
        quorum: This many distinct members (or jurisdictions) must assert a hash.
        quorum_of: What is counted.
        basis: ``reviewed`` counts own reviews only, ``any`` also relayed assertions.
        dispute_limit: With this many disputes that count a hash is taken out.
        classifications: Only these count; None means all.
        sources: Only these members' assertions count; None means all.
        media: Only assertions of these media count; None means all, also unstated.
        show_members: Whether entries name the members, or only count them.
        weights: Trusted reviewers: so much the own review of each counts towards a quorum of
            members, others' 1.
        excluded_classifications: These do not count.
        excluded_sources: These members' assertions do not count.
        released_to: Only members of these jurisdictions read it; see ``domain.release``.
        terms: Only classifications that are, or are mapped to, one of these terms count.
        excluded_terms: Those that are, or may by a mapping be, one of these do not. A view with
            terms is resolved before it is evaluated; see ``domain.vocabularies``.
    """

    quorum: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    quorum_of: QuorumOf = QuorumOf.MEMBERS
    basis: Annotated[str, msgspec.Meta(pattern=r"\A(reviewed|any)\Z")] = "reviewed"
    dispute_limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    classifications: tuple[Classification, ...] | None = None
    sources: tuple[Id, ...] | None = None
    media: tuple[Media, ...] | None = None
    show_members: bool = True
    # Not written when unset, so that views from before there were such fields keep their bytes.
    weights: dict[Id, Weight] | msgspec.UnsetType = msgspec.UNSET
    excluded_classifications: tuple[Classification, ...] | msgspec.UnsetType = msgspec.UNSET
    excluded_sources: tuple[Id, ...] | msgspec.UnsetType = msgspec.UNSET
    released_to: tuple[Jurisdiction, ...] | msgspec.UnsetType = msgspec.UNSET
    terms: tuple[TermName, ...] | msgspec.UnsetType = msgspec.UNSET
    excluded_terms: tuple[TermName, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def weighted(self) -> dict[str, int]:
        """The weights that are not 1."""
        return {} if isinstance(self.weights, msgspec.UnsetType) else self.weights

    @property
    def unheard(self) -> tuple[str, ...]:
        """The members whose assertions do not count."""
        excluded = self.excluded_sources
        return () if isinstance(excluded, msgspec.UnsetType) else excluded

    @property
    def jurisdictions(self) -> tuple[str, ...] | None:
        """Those to which it is released; None for all, and for members of none."""
        return None if isinstance(self.released_to, msgspec.UnsetType) else self.released_to

    @property
    def left_out(self) -> tuple[str, ...]:
        """The classifications that do not count."""
        excluded = self.excluded_classifications
        return () if isinstance(excluded, msgspec.UnsetType) else excluded

    def demand_resolved(self) -> None:
        """Refuse to be evaluated as if it had no terms: it would publish what they leave out."""
        if self.terms or self.excluded_terms:
            raise RuntimeError("a view is evaluated with its terms resolved")


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
    """That one member holds a hash to be wrongly listed.

    Attributes:
        reason: Why.
        log_index: The submission that said it first in this form.
        alone: Whether it counts also while no other member disputes the hash; see
            ``domain.disputes``.
    """

    reason: DisputeReason
    log_index: int
    alone: bool = True


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a reviewer decided about a hash.

    Attributes:
        decision: ``keep`` settles all disputes before it; ``remove`` takes the hash out.
        reason: In the reviewer's words.
        log_index: Of the submission. The latest one holds.
    """

    decision: Decision
    reason: str
    log_index: int


Stance = Assertion | Dispute


def parse_words(text: str) -> str:
    """Return the reason of a ruling.

    Raises:
        MalformedError: It is empty, longer than 200 characters, or has others than those of
            printable ASCII without quotation mark and backslash.
    """
    if not _WORDS.fullmatch(text):
        raise MalformedError(
            'a reason is 1 to 200 characters of ASCII, without quotation mark " and backslash'
        )
    return text


def counts(view: View, member: MemberId, assertion: Assertion) -> bool:
    """Return whether ``view`` lets this assertion count."""
    return (
        (view.basis == "any" or assertion.basis is Basis.REVIEWED)
        and (view.classifications is None or assertion.classification in view.classifications)
        and (view.sources is None or member in view.sources)
        and (view.media is None or assertion.media in view.media)
        and assertion.classification not in view.left_out
        and member not in view.unheard
    )


def weight_in(view: View, member: MemberId, assertion: Assertion) -> int:
    """Return how much an assertion that counts does so towards a quorum of members."""
    return view.weighted.get(member, 1) if assertion.basis is Basis.REVIEWED else 1


def attributes_in(
    view: View,
    stances: Mapping[MemberId, Stance],
    jurisdictions: Mapping[MemberId, str],
    ruling: Ruling | None = None,
) -> bytes | None:
    """Return the attributes of the entry that ``view`` makes of one hash, None for no entry.

    Args:
        view: The policy, its terms resolved.
        stances: Each member's present stance on the hash.
        jurisdictions: Of every member among them.
        ruling: The latest one about the hash.

    Returns:
        Canonical JSON.

    Source: docs/protocol.md, "The fold".
    """
    view.demand_resolved()
    settled = -1 if ruling is None else ruling.log_index
    open_disputes = [
        stance
        for stance in stances.values()
        if isinstance(stance, Dispute) and stance.log_index > settled
    ]
    asserting = {
        member: stance
        for member, stance in stances.items()
        if isinstance(stance, Assertion) and counts(view, member, stance)
    }
    if view.quorum_of is QuorumOf.JURISDICTIONS:
        reached = len({jurisdictions[member] for member in asserting})
    else:
        reached = sum(weight_in(view, member, a) for member, a in asserting.items())
    if reached < view.quorum or counted(open_disputes) >= view.dispute_limit:
        return None
    if ruling is not None and ruling.decision is Decision.REMOVE:
        return None
    return _describe(view, asserting, len(open_disputes))


def counted(disputes: Sequence[Dispute]) -> int:
    """Return how many of the open disputes of one hash count towards a view's limit.

    One that does not count alone counts as soon as a second member disputes the hash.
    """
    if len(disputes) > 1:
        return len(disputes)
    return sum(dispute.alone for dispute in disputes)


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

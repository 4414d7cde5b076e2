"""Documents of feedback: what members report that hashes did for them."""

from typing import Annotated

from pydantic import Field

from hashshare.domain.feedback import MAX_COUNT, MAX_ROWS
from hashshare.domain.hashes import HashAlgorithm
from hashshare.wire.document import Id, WireDocument

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
MonthText = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}$")]


class FeedbackCounts(WireDocument):
    """Files that were compared, each in one of the three.

    ``matched``: rightly, as far as is known. ``false_positive``: matched, and is not what the hash
    is listed for. ``not_matched``: all others.
    """

    matched: Count = 0
    false_positive: Count = 0
    not_matched: Count = 0


class FeedbackOfHash(FeedbackCounts):
    """The counts of one hash, in lower-case hex."""

    algorithm: Annotated[str, Field(pattern=rf"^({'|'.join(HashAlgorithm)})$")]
    hash: str = Field(max_length=1024)


class FeedbackReport(WireDocument):
    """A page of a member's report of one month. Replaces what it reported of the same before.

    Counts that are all zero take back what was reported.

    Attributes:
        month: Like ``2026-11``.
        named: Whether these counts may be shown as this member's.
        total: Of the whole hash set; null says nothing of it.
        hashes: Distinct ones.
    """

    month: MonthText
    named: bool
    total: FeedbackCounts | None
    hashes: list[FeedbackOfHash] = Field(max_length=MAX_ROWS)


class FeedbackDone(WireDocument):
    """The page is kept.

    Attributes:
        known: So many of the hashes the hash set knows; the others are left out. Null where the
            member may not know which hashes others have submitted.
    """

    known: int | None


class FeedbackShown(WireDocument):
    """What is shown of feedback.

    Attributes:
        member: Who, if it lets its name be shown; null for a sum over at least three others.
        members: How many reported.
        first: The earliest month in it.
        last: The latest.
    """

    member: Id | None
    members: int = Field(ge=1)
    first: MonthText
    last: MonthText
    matched: int = Field(ge=0)
    false_positive: int = Field(ge=0)
    not_matched: int = Field(ge=0)


class HashFeedback(WireDocument):
    """What is shown of the feedback on one hash, over all months."""

    feedback: list[FeedbackShown]

"""The transparency report: the one model behind its JSON, its Markdown and its HTML.

Times are like ``2026-11-23T10:00:00Z``; durations are milliseconds, null where there is nothing
to measure. It holds counts and names, never a hash value.
"""

from pydantic import Field

from hashshare.wire.document import Id, WireDocument


class ReportMember(WireDocument):
    """A member, and what it submitted in the time; hashes count once for each submission.

    Attributes:
        new: Hashes that no member had named in that hash set before.
    """

    member: Id
    name: str
    status: str
    submissions: int = Field(ge=0)
    asserted: int = Field(ge=0)
    new: int = Field(ge=0)
    withdrawn: int = Field(ge=0)
    disputed: int = Field(ge=0)


class ReportCount(WireDocument):
    """Distinct hashes that members assert at the end, and how many of them since the begin.

    Attributes:
        by: ``all``, ``member``, ``algorithm`` or ``classification``.
        name: Which one; "" for all.
    """

    hash_set: Id
    by: str
    name: str
    held: int = Field(ge=0)
    added: int = Field(ge=0)


class ReportOverlap(WireDocument):
    """Hashes that two members both assert at the end."""

    hash_set: Id
    member: Id
    other: Id
    both: int = Field(ge=0)


class ReportLatency(WireDocument):
    """From the acceptance of the time's submissions to their publication."""

    hash_set: Id
    published: int = Field(ge=0)
    waiting: int = Field(ge=0)
    median_ms: int | None
    p90_ms: int | None
    p99_ms: int | None
    longest_ms: int | None


class ReportDispute(WireDocument):
    """Disputes of a reason, one for each hash and member; ages of the open ones at the end."""

    hash_set: Id
    reason: str
    opened: int = Field(ge=0)
    ended: int = Field(ge=0)
    open: int = Field(ge=0)
    median_age_ms: int | None
    oldest_ms: int | None


class ReportRetraction(WireDocument):
    """Versions of a list that carried out withdrawals or disputes, and how soon a member had them.

    Attributes:
        taken: How many of the retractions the member was sent; the times are of these.
    """

    list_name: str
    member: Id
    retractions: int = Field(ge=0)
    taken: int = Field(ge=0)
    median_ms: int | None
    longest_ms: int | None


class ReportFeedback(WireDocument):
    """What members reported that hashes did for them in a month.

    Attributes:
        of: ``hash set`` for totals of whole hash sets, ``hashes`` for counts of single ones.
        member: Who, if it lets its name be shown; null for a sum over at least three others.
        members: How many reported.
        hashes: Over how many distinct hashes; 0 for totals.
    """

    hash_set: Id
    month: str
    of: str
    member: Id | None
    members: int = Field(ge=1)
    hashes: int = Field(ge=0)
    matched: int = Field(ge=0)
    false_positive: int = Field(ge=0)
    not_matched: int = Field(ge=0)


class ReportLag(WireDocument):
    """How far behind a member is when the report is made.

    Attributes:
        pulled_at: Null if it never pulled the list, though it may.
        behind: Versions that changed the list since the one that it pulled.
        behind_ms: Since the first of these was published.
    """

    member: Id
    list_name: str
    version: int = Field(ge=0)
    pulled_at: str | None
    behind: int = Field(ge=0)
    behind_ms: int = Field(ge=0)


class ReportSize(WireDocument):
    """How many entries a list had at a moment."""

    list_name: str
    moment: str
    version: int = Field(ge=0)
    count: int = Field(ge=0)


class ReportDocument(WireDocument):
    """A transparency report of the time from ``begin`` on, until before ``end``."""

    coalition: str
    log: str
    log_size: int = Field(ge=0)
    begin: str
    end: str
    made_at: str
    members: list[ReportMember]
    counts: list[ReportCount]
    overlaps: list[ReportOverlap]
    latencies: list[ReportLatency]
    disputes: list[ReportDispute]
    retractions: list[ReportRetraction]
    # Optional, so that a server from before it is read as well.
    feedback: list[ReportFeedback] = Field(default_factory=list)
    lags: list[ReportLag]
    sizes: list[ReportSize]

"""Documents on the audit trail."""

from pydantic import Field

from hashshare.wire.document import Digest, Id, WireDocument


class TrailEntryDocument(WireDocument):
    """Something that happened: who, what, when. Never a hash value.

    Attributes:
        kind: ``submission``, ``pull``, ``act`` or ``refusal``.
        action: ``assert``, ``snapshot`` and the like, or a method and a route.
        problem: Name of the problem's type, of refusals.
        facts: Names, numbers and digests; ``times`` where several alike are one entry.
    """

    number: int = Field(ge=1)
    recorded_at: str
    kind: str
    member: Id | None
    certificate: Digest | None
    action: str
    problem: str | None
    facts: dict[str, str | int]


class TrailPage(WireDocument):
    """Entries of the audit trail. ``next`` is what ``at`` is on the next page, if there is one."""

    entries: list[TrailEntryDocument]
    next: int | None

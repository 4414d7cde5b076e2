"""Documents on cases: disputes that no ruling has settled."""

from typing import Annotated

from pydantic import Field, StringConstraints

from hashshare.wire.document import Digest, Id, WireDocument


class ConfirmationDocument(WireDocument):
    """That a member stands by what it asserts; ``member`` is null where views hide members."""

    member: Id | None
    comment: str
    confirmed_at: str


class CaseDocument(WireDocument):
    """An open case, as far as it concerns the caller.

    ``case`` is the log index of the submission that disputes, ``member`` who signed it, null where
    views hide members. ``alone``: whether it counts while nobody else disputes the same.
    ``hashes``: in dispute. ``yours``: those of them that the caller asserts.
    """

    case: int = Field(ge=0)
    statement_id: Digest
    hash_set: Id
    member: Id | None
    reasons: list[str]
    alone: bool
    hashes: int
    yours: int
    opened_at: str
    confirmations: list[ConfirmationDocument]


class CaseList(WireDocument):
    """Up to 100 open cases that concern the caller, oldest first."""

    cases: list[CaseDocument]


class DisputedDocument(WireDocument):
    """One hash of a case, ``sha256:…``, with who asserts it as far as the caller may know."""

    hash: str
    reason: str
    yours: bool
    asserted_by: list[Id]


class DisputedList(WireDocument):
    """Up to 1000 hashes of a case; ``after`` is where the next ones begin, null at the end."""

    hashes: list[DisputedDocument]
    after: int | None


class ConfirmationRequest(WireDocument):
    """The caller stands by what it asserts of the hashes of a case."""

    comment: Annotated[str, StringConstraints(max_length=500)] = ""

"""Documents on submissions and on who said what of a hash."""

from pydantic import Field

from hashshare.wire.document import Base64, Digest, Id, WireDocument


class CountsDocument(WireDocument):
    """What a submission came to, in hashes.

    ``new``: nobody had said anything of them in this hash set. ``known``: somebody had, and
    what the member says of them changed. ``unchanged``: the member had said just this.
    ``ended``: earlier assertions and disputes of the member that no longer hold.
    """

    records: int
    hashes: int
    new: int
    known: int
    unchanged: int
    ended: int


class SubmissionDocument(WireDocument):
    """The answer to a submission; the same receipt each time."""

    statement_id: Digest
    log_index: int = Field(ge=0)
    receipt: str
    counts: CountsDocument


class SubmissionSummary(WireDocument):
    """An accepted submission in a listing."""

    statement_id: Digest
    log_index: int
    hash_set: Id
    operation: str
    sequence: int
    batch: Digest
    accepted_at: str
    counts: CountsDocument


class SubmissionList(WireDocument):
    """Up to 100 submissions of the caller, oldest first."""

    submissions: list[SubmissionSummary]


class StatementOfHash(WireDocument):
    """What one member says, or said, of a hash, with the signed submission that says so."""

    member: Id
    verdict: str
    record: str | None
    classification: str | None
    media: str | None
    basis: str | None
    reason: str | None
    accepted_at: str
    log_index: int
    ended_log_index: int | None
    envelope: Base64


class ProvenanceDocument(WireDocument):
    """All that members ever said of one hash in one hash set, oldest first."""

    hash_set: Id
    algorithm: str
    assertions: list[StatementOfHash]


class RedactionDocument(WireDocument):
    """Where a redaction is in the log, and the proof."""

    log_index: int
    receipt: str

"""The three statements of the log, and what makes each acceptable.

A statement is a DSSE envelope in the log. Its payload type is signed with it, so that a
payload of one kind is never taken for another.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from hashshare.crypto import canonical
from hashshare.crypto.envelope import Envelope, seal, statement_id, unseal
from hashshare.crypto.keys import PrivateKey, PublicKey
from hashshare.domain.documents import (
    Count,
    Digest,
    Document,
    Id,
    Ordinal,
    Origin,
    Time,
    decode_document,
    encode_document,
)
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.members import Status
from hashshare.domain.registry import Registry
from hashshare.errors import (
    MalformedError,
    MixAndMatchError,
    PermissionDeniedError,
    SequenceMismatchError,
)

SUBMISSION_TYPE: Final = "application/vnd.hashshare.submission.v1+json"
REGISTRY_TYPE: Final = "application/vnd.hashshare.registry.v1+json"
PUBLICATION_TYPE: Final = "application/vnd.hashshare.publication.v1+json"
REDACTION_TYPE: Final = "application/vnd.hashshare.redaction.v1+json"
BATCH_MEDIA_TYPE: Final = "application/vnd.hashshare.batch.v1+ndjson"

NO_PREVIOUS: Final = "0" * 64
"""Named as ``previous`` by a member's first submission."""


class Operation(StrEnum):
    """What a submission does with the hashes of its batch."""

    ASSERT = "assert"
    WITHDRAW = "withdraw"
    DISPUTE = "dispute"
    RULE = "rule"


class BatchManifest(Document, frozen=True):
    """Names a batch.

    Attributes:
        count: Records, which are the lines after the header.
        media_type: ``BATCH_MEDIA_TYPE``.
        sha256: Digest of the NDJSON, not compressed.
        size: Its length in bytes, not compressed.
    """

    count: Count
    media_type: str
    sha256: Digest
    size: Count


class Submission(Document, frozen=True):
    """A member's signed request to change a hash set.

    Attributes:
        log: The log's origin: a submission cannot be replayed into another coalition.
        sequence: Counts this member's submissions, from 1.
        previous: Id of the member's submission before this one, or ``NO_PREVIOUS``.
            With ``sequence`` it shows drops, reorders, replays and a stolen key.
    """

    batch: BatchManifest
    created_at: Time
    hash_set: Id
    key_id: Digest
    log: Origin
    member: Id
    operation: Operation
    previous: Digest
    sequence: Ordinal


class NamedDocument(Document, frozen=True):
    """A document by its digest and its size in bytes."""

    sha256: Digest
    size: Count


class RegistryStatement(Document, frozen=True):
    """Puts a version of the registry into force, from its own place in the log on."""

    created_at: Time
    document: NamedDocument
    log: Origin
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    version: Ordinal


class PublishedList(Document, frozen=True):
    """The state of one list: what a replica of it must come to."""

    algorithm: HashAlgorithm
    bits: Annotated[int, msgspec.Meta(ge=0, le=20)]
    count: Count
    root: Digest
    view: Id


class Publication(Document, frozen=True):
    """Version ``version`` of a hash set is the fold of the first ``log_size`` leaves.

    Attributes:
        lists: Sorted by view, then algorithm.
        previous: Id of the publication before this one, or ``NO_PREVIOUS``.
        registry_version: The registry in force at ``log_size``.
    """

    created_at: Time
    hash_set: Id
    lists: tuple[PublishedList, ...]
    log: Origin
    log_size: Ordinal
    previous: Digest
    registry_version: Ordinal
    version: Ordinal

    def find(self, view: str, algorithm: HashAlgorithm) -> PublishedList | None:
        """Return the state of one list, None if this version has no such list."""
        for published in self.lists:
            if published.view == view and published.algorithm is algorithm:
                return published
        return None


class Redaction(Document, frozen=True):
    """Says that a batch was deleted, and on what ground. The log keeps its digest.

    Attributes:
        batch: Digest of the batch.
        reason: For those who read the log.
        submission: Id of the statement that names the batch.
    """

    batch: Digest
    created_at: Time
    log: Origin
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    submission: Digest


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where a member's chain of submissions stands.

    Attributes:
        sequence: Of its last submission, 0 when it has none.
        last_id: Id of that submission, ``NO_PREVIOUS`` when it has none.
    """

    sequence: int = 0
    last_id: str = NO_PREVIOUS


def id_of(envelope: Envelope) -> str:
    """Return the statement's id, SHA-256 of what is signed (lower-case hex)."""
    return statement_id(envelope.payload_type, envelope.payload)


def read_submission(envelope: Envelope, registry: Registry) -> Submission:
    """Return the submission in ``envelope``, signed by its member's key.

    Whether the member may submit at all, and in this order, is for ``verify_right`` and
    ``verify_chain``: a copy of an accepted one is answered also when these no longer hold.

    Raises:
        MalformedError: The payload is not in the one accepted form.
        SignatureInvalidError: It is not signed by a key that ``registry`` gives its member.
        MixAndMatchError: It belongs to another log.
        PermissionDeniedError: The member is unknown.

    Source: docs/protocol.md, "Submissions".
    """
    # The payload is parsed before its signature is verified, because it names the
    # member whose keys are to be used; nothing else of it is believed until then.
    if envelope.payload_type != SUBMISSION_TYPE:
        raise MalformedError(f"not a submission: {envelope.payload_type!r:.80}")
    claimed = decode_document(envelope.payload, Submission)
    if claimed.log != registry.log:
        raise MixAndMatchError(f"this log is {registry.log!r}, the submission is for another")
    member = registry.members.get(claimed.member)
    if member is None:
        raise PermissionDeniedError(f"no member {claimed.member!r:.70}")
    keys = [PublicKey.parse(text) for text in member.submission_keys]
    unseal(envelope, [k for k in keys if k.key_id == claimed.key_id], payload_type=SUBMISSION_TYPE)
    if len(envelope.signatures) != 1:
        raise MalformedError("a submission has exactly one signature")
    if claimed.batch.media_type != BATCH_MEDIA_TYPE:
        raise MalformedError(f"the batch must be {BATCH_MEDIA_TYPE}")
    return claimed


def verify_right(submission: Submission, registry: Registry) -> None:
    """Refuse a submission whose member may not contribute to its hash set, or not rule on it.

    Raises:
        PermissionDeniedError: The member is not active, or no contributor, or for a ruling
            no reviewer, or its key is not for this; the same for a hash set that does not
            exist.
    """
    member = registry.members[submission.member]
    if member.status is not Status.ACTIVE:
        raise PermissionDeniedError(f"member {submission.member} is not active")
    scope = member.scope_of(submission.key_id)
    if submission.operation is Operation.RULE:
        # People decide, not their scripts.
        if scope is not None or not registry.may_rule(submission.member, submission.hash_set):
            raise PermissionDeniedError(
                f"member {submission.member} may not rule on {submission.hash_set!r:.70}"
            )
        return
    covered = scope is None or scope.covers(submission.hash_set)
    if not (covered and registry.may_contribute(submission.member, submission.hash_set)):
        raise PermissionDeniedError(
            f"member {submission.member} may not contribute to {submission.hash_set!r:.70}"
        )


def verify_chain(submission: Submission, head: ChainHead) -> None:
    """Refuse a submission that is not the next of its member.

    Raises:
        SequenceMismatchError: Says what the next one must be.
    """
    if (submission.sequence, submission.previous) != (head.sequence + 1, head.last_id):
        raise SequenceMismatchError(sequence=head.sequence + 1, previous=head.last_id)


def read_registry_statement(envelope: Envelope, governance: Registry) -> RegistryStatement:
    """Return the registry statement in ``envelope``, signed by ``governance``'s threshold.

    Args:
        envelope: From the network or the log.
        governance: The registry in force before it; for the first one, the registry that
            it names, whose digest the reader must know from elsewhere.

    Raises:
        MalformedError: The payload is not in the one accepted form.
        SignatureInvalidError: Fewer than the threshold of governance keys signed it.
        MixAndMatchError: It belongs to another log.
    """
    payload = _unseal_governance(envelope, governance, REGISTRY_TYPE)
    statement = decode_document(payload, RegistryStatement)
    if statement.log != governance.log:
        raise MixAndMatchError(f"this log is {governance.log!r}, the statement is of another")
    return statement


def read_redaction(envelope: Envelope, governance: Registry) -> Redaction:
    """Return the redaction in ``envelope``, signed by ``governance``'s threshold.

    Raises:
        MalformedError: The payload is not in the one accepted form.
        SignatureInvalidError: Fewer than the threshold of governance keys signed it.
        MixAndMatchError: It belongs to another log.
    """
    redaction = decode_document(_unseal_governance(envelope, governance, REDACTION_TYPE), Redaction)
    if redaction.log != governance.log:
        raise MixAndMatchError(f"this log is {governance.log!r}, the redaction is of another")
    return redaction


def seal_registry(
    registry: Registry, keys: list[PrivateKey], *, reason: str, created_at: str
) -> tuple[bytes, bytes]:
    """Return the statement that puts ``registry`` into force, and its document, as bytes.

    Args:
        registry: The next version.
        keys: Governance keys of the version in force, at least its threshold.
        reason: Why, for those who read the log.
        created_at: As ``names.format_time`` writes it.
    """
    document = encode_document(registry)
    statement = RegistryStatement(
        created_at=created_at,
        document=NamedDocument(sha256=canonical.digest(document), size=len(document)),
        log=registry.log,
        reason=reason,
        version=registry.version,
    )
    return seal(encode_document(statement), REGISTRY_TYPE, keys).encode(), document


def read_publication(envelope: Envelope, publishers: list[PublicKey], log: str) -> Publication:
    """Return the publication in ``envelope``, signed by a publisher of ``log``.

    Raises:
        MalformedError: The payload is not in the one accepted form.
        SignatureInvalidError: No publisher's key signed it.
        MixAndMatchError: It belongs to another log.
    """
    payload = unseal(envelope, publishers, payload_type=PUBLICATION_TYPE)
    publication = decode_document(payload, Publication)
    if publication.log != log:
        raise MixAndMatchError(f"this log is {log!r}, the publication is of another")
    names = [(p.view, str(p.algorithm)) for p in publication.lists]
    if names != sorted(set(names)):
        raise MalformedError("lists are written sorted, each once")
    return publication


def _unseal_governance(envelope: Envelope, governance: Registry, payload_type: str) -> bytes:
    return unseal(
        envelope,
        [PublicKey.parse(text) for text in governance.governance.keys],
        payload_type=payload_type,
        threshold=governance.governance.threshold,
    )

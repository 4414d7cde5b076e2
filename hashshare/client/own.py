"""A member's own submissions, read back from the server."""

import re
from typing import Final

from hashshare.client.session import Session
from hashshare.crypto import canonical
from hashshare.crypto.encoding import parse_digest
from hashshare.crypto.envelope import parse_envelope
from hashshare.domain.documents import decode_document
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.records import Record
from hashshare.domain.statements import Submission, id_of
from hashshare.errors import DigestMismatchError
from hashshare.wire.batch import BatchRules, parse_batch
from hashshare.wire.compression import inflate
from hashshare.wire.submissions import SubmissionDocument

MAX_BATCH_BYTES: Final = 1024 * 1024 * 1024

_CLASSIFICATION: Final = re.compile(rb'"classification":"([A-Za-z0-9._-]+)"')


async def fetch_records(session: Session, statement_id: str) -> list[Record]:
    """Return the records of a submission of this member.

    Raises:
        NotFoundError: There is no such submission.
        DigestMismatchError: What the server gave is not what was signed.
        MalformedError: ``statement_id`` or the batch is not in its form.
    """
    accepted = await session.get(
        f"/v1/submissions/{parse_digest(statement_id)}", SubmissionDocument
    )
    _, leaf = await session.request("GET", f"/v1/log/entries/{accepted.log_index}")
    envelope = parse_envelope(leaf)
    if id_of(envelope) != statement_id:
        raise DigestMismatchError("the server gave another submission")
    submission = decode_document(envelope.payload, Submission)
    _, compressed = await session.request(
        "GET", f"/v1/batches/{submission.batch.sha256}", max_bytes=MAX_BATCH_BYTES
    )
    data = b"".join(inflate([compressed], max_bytes=submission.batch.size))
    if canonical.digest(data) != submission.batch.sha256:
        raise DigestMismatchError("the server gave another batch")
    rules = BatchRules(
        operation=submission.operation,
        algorithms=frozenset(HashAlgorithm),
        classifications=_classifications(data),
        count=submission.batch.count,
    )
    return list(parse_batch([data], rules).records())


def _classifications(data: bytes) -> frozenset[str]:
    """Return those that occur: whether they are of the vocabulary, the server has verified."""
    return frozenset(match[1].decode() for match in _CLASSIFICATION.finditer(data))

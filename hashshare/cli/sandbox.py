"""The sandbox's first items: signed when a coalition is made, submitted when its server starts."""

import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hashshare.crypto import canonical
from hashshare.crypto.envelope import seal
from hashshare.crypto.keys import PrivateKey
from hashshare.domain.documents import encode_document
from hashshare.domain.names import format_time
from hashshare.domain.sandbox import FIRST_ITEMS, SANDBOX, SANDBOX_AUTHOR, sandbox_records
from hashshare.domain.statements import (
    BATCH_MEDIA_TYPE,
    NO_PREVIOUS,
    SUBMISSION_TYPE,
    BatchManifest,
    Operation,
    Submission,
)
from hashshare.service.batches import BatchService
from hashshare.service.membership import MembershipService
from hashshare.service.submit import SubmitService
from hashshare.wire.batch import encode_batch

_BATCH: Final = "sandbox-batch.ndjson"
_SUBMISSION: Final = "sandbox-submission.json"


def write_first_items(folder: Path, log: str, key: PrivateKey, now: datetime) -> None:
    """Sign the first items with a key that its caller forgets, so that nobody adds to them."""
    batch = b"".join(encode_batch(sandbox_records(0, FIRST_ITEMS), secrets.token_bytes(32)))
    submission = Submission(
        batch=BatchManifest(
            count=FIRST_ITEMS,
            media_type=BATCH_MEDIA_TYPE,
            sha256=canonical.digest(batch),
            size=len(batch),
        ),
        created_at=format_time(now),
        hash_set=SANDBOX,
        key_id=key.public.key_id,
        log=log,
        member=SANDBOX_AUTHOR,
        operation=Operation.ASSERT,
        previous=NO_PREVIOUS,
        sequence=1,
    )
    envelope = seal(encode_document(submission), SUBMISSION_TYPE, [key])
    (folder / _BATCH).write_bytes(batch)
    (folder / _SUBMISSION).write_bytes(envelope.encode())


async def ensure_first_items(
    folder: Path, membership: MembershipService, batches: BatchService, submit: SubmitService
) -> None:
    """Submit the first items, if this coalition has a sandbox and they are not in its log yet."""
    if not (folder / _SUBMISSION).exists():
        return
    if (await membership.read_chain(SANDBOX_AUTHOR)).sequence:
        return
    batch, now = (folder / _BATCH).read_bytes(), datetime.now(UTC)
    await batches.store(canonical.digest(batch), _whole(batch), encoding="identity")
    envelope = (folder / _SUBMISSION).read_bytes()
    await submit.submit(envelope, peer_member=SANDBOX_AUTHOR, now=now)


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data

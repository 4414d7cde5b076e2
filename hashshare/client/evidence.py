"""Evidence: what convinces a third party that something was signed that must not be.

Source: docs/protocol.md, "Evidence".
"""

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from hashshare.domain.names import format_time


def keep_evidence(
    folder: Path,
    *,
    reason: str,
    log: str,
    notes: Iterable[bytes] = (),
    leaves: Iterable[bytes] = (),
    receipts: Iterable[bytes] = (),
) -> Path:
    """Write what was signed to a file in ``folder``, durably, and return its path.

    The same evidence is kept once, however often it is met.

    Args:
        folder: Where.
        reason: What it shows.
        log: Origin.
        notes: Signed checkpoints, as they came.
        leaves: Of the log.
        receipts: With proofs.
    """
    signed = {
        "notes": [note.decode("utf-8", "replace") for note in notes if note],
        "leaves": [leaf.decode("utf-8", "replace") for leaf in leaves],
        "receipts": [receipt.decode("utf-8", "replace") for receipt in receipts],
    }
    digest = hashlib.sha256(json.dumps([reason, log, signed]).encode()).hexdigest()
    path = folder / f"evidence-{digest[:16]}.json"
    content = {"found_at": format_time(datetime.now(UTC)), "log": log, "reason": reason, **signed}
    with suppress(FileExistsError), path.open("x") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    return path

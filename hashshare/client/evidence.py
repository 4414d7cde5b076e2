"""Evidence: what convinces a third party that something was signed that must not be.

Source: docs/protocol.md, "Evidence".
"""

import json
import os
from collections.abc import Iterable
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
    """Write what was signed to a new file in ``folder``, durably, and return its path.

    Args:
        folder: Where.
        reason: What it shows.
        log: Origin.
        notes: Signed checkpoints, as they came.
        leaves: Of the log.
        receipts: With proofs.
    """
    moment = datetime.now(UTC)
    path = folder / f"evidence-{moment.strftime('%Y%m%dT%H%M%S%f')}.json"
    content = {
        "found_at": format_time(moment),
        "log": log,
        "reason": reason,
        "notes": [note.decode("utf-8", "replace") for note in notes if note],
        "leaves": [leaf.decode("utf-8", "replace") for leaf in leaves],
        "receipts": [receipt.decode("utf-8", "replace") for receipt in receipts],
    }
    with path.open("x") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    return path

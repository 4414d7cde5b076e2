"""Evidence: what convinces a third party that a server signed two histories."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from hashshare.domain.names import format_time


def keep_evidence(folder: Path, *, reason: str, log: str, documents: dict[str, bytes]) -> Path:
    """Write what was signed to a new file in ``folder``, durably, and return its path."""
    moment = datetime.now(UTC)
    path = folder / f"evidence-{moment.strftime('%Y%m%dT%H%M%S%f')}.json"
    content = {
        "found_at": format_time(moment),
        "log": log,
        "reason": reason,
        "documents": {name: data.decode("utf-8", "replace") for name, data in documents.items()},
    }
    with path.open("x") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    return path

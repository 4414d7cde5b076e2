"""Beginning anew: for a member that believed what it should not have."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hashshare.errors import NotFoundError

if TYPE_CHECKING:
    from hashshare.client.profile import Profile


def set_aside(profile: "Profile") -> Path:
    """Move what a profile has seen of the log and the lists into a folder; return that.

    Keys, receipts, evidence and what was submitted stay: the next pull verifies everything from
    the first leaf on, and compares it with them. Nothing else may use the profile meanwhile.

    Raises:
        NotFoundError: There is nothing to move.
        FileExistsError: It was done within this second.
    """
    seen = [
        path
        for base in (profile.logbook_path, profile.replica_path)
        for path in sorted(profile.folder.glob(f"{base.name}*"))
    ]
    if not seen:
        raise NotFoundError("this profile has seen nothing of the log yet")
    target = profile.folder / f"former-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    target.mkdir(mode=0o700)
    for path in seen:
        path.rename(target / path.name)
    return target

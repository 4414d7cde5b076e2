"""Keeping up with the trust root: which trust document is in force, as people signed it offline.

Source: docs/protocol.md, "The trust root"; TUF 1.0.34, section 5.
"""

import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from hashshare.client.profile import Profile
from hashshare.client.session import Session, member_context
from hashshare.domain.documents import encode_document
from hashshare.domain.joining import Trust, parse_trust
from hashshare.errors import MixAndMatchError

TRUST_AGE: Final = timedelta(hours=1)
"""How old what is known of the trust root may be, for who is at it all the time."""
LOCK_SECONDS: Final = 0.05


@dataclass(slots=True)
class TrustKeeper:
    """Keeps one profile's trust document up to date, and the session that was opened by it.

    Attributes:
        profile: As it is believed now.
    """

    profile: Profile
    session: Session

    async def keep(self, *, max_age: timedelta = timedelta()) -> bool:
        """Believe the trust document in force, if it was looked for longer ago than ``max_age``.

        Returns:
            Whether it is another one than before.

        Raises:
            VerificationError: What the server shows does not hold, or has expired.
            UnavailableError: The server cannot be reached, and what is known has not expired.
        """
        checked = self.profile.folder / "trust" / "checked"
        with suppress(FileNotFoundError):
            if datetime.now(UTC).timestamp() - checked.stat().st_mtime < max_age.total_seconds():
                return False
        trust = await refresh_trust(self.profile, self.session)
        if checked.parent.exists():
            checked.touch()
        if trust is None:
            return False
        self.profile = self.profile.replace_trust(trust)
        self.session.tls = member_context(self.profile)
        return True

    async def renew(self) -> Profile | None:
        """Return the profile with a newer trust document; None if there is none."""
        return self.profile if await self.keep() else None


async def refresh_trust(profile: Profile, session: Session) -> Trust | None:
    """Return the trust document in force if it is another than the profile's, verified.

    Raises:
        FreezeError: What is shown has expired; newer metadata may be withheld.
        RollbackError: Something older is shown than was seen before.
        SignatureInvalidError: Too few have signed it.
        KeyUnsafeError: A key of a root proves nothing.
        MixAndMatchError: The document is of another log or coalition.
        UnavailableError: The server cannot be reached, and what is known has not expired.
        VerificationError: Something else in it does not hold.
    """
    root = profile.trust.root
    if isinstance(root, msgspec.UnsetType):
        return None
    # What it imports takes longer than most commands do, and it is needed once an hour.
    from hashshare.client.trust_updating import update_trust

    folder = profile.sub_folder("trust")
    async with _alone(folder):
        data = await update_trust(folder, root.encode(), session)
    if data == encode_document(profile.trust):
        return None
    trust = parse_trust(data)
    if (trust.log, trust.coalition, trust.root) != (
        profile.trust.log,
        profile.trust.coalition,
        profile.trust.root,
    ):
        raise MixAndMatchError("the trust document is of another log, coalition or trust root")
    return trust


@asynccontextmanager
async def _alone(folder: Path) -> AsyncIterator[None]:
    """Wait until no other process uses the folder, which the library wants for itself."""
    with (folder / "lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(LOCK_SECONDS)
        yield

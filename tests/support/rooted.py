"""A coalition's trust root in the hands of the one person that ``init`` gives it to."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from hashshare.cli.ceremony import ONLINE_KEY, TARGETS_KEY
from hashshare.client import Client, Profile
from hashshare.crypto.keys import PrivateKey, read_private_key
from hashshare.domain.documents import encode_document
from hashshare.domain.joining import Recovery, Trust
from hashshare.domain.registry import Keys
from hashshare.service.ceremony import Ceremony, sign_file


@dataclass(frozen=True, slots=True)
class Rooted:
    """A coalition's trust root, and its one-person keys.

    Attributes:
        folder: Of the coalition.
    """

    folder: Path

    @property
    def ceremony(self) -> Ceremony:
        """Its metadata."""
        return Ceremony(self.folder / "trust")

    def key(self, name: str) -> PrivateKey:
        """One of its keys."""
        return read_private_key(self.folder / "keys" / name)

    def trust(self) -> Trust:
        """The document in force."""
        found = self.ceremony.trust()
        assert found is not None
        return found

    def propose(self, **changes: object) -> None:
        """Draft a trust document with changes."""
        changed: Trust = msgspec.structs.replace(self.trust(), **changes)
        self.ceremony.propose_trust(changed, now=datetime.now(UTC))

    def sign(self, role: str, *keys: PrivateKey) -> None:
        """Sign a draft."""
        for key in keys:
            sign_file(self.folder / f"trust/drafts/{role}.json", key)

    def publish(self) -> None:
        """Put the drafts into force, as the command does."""
        self.ceremony.publish(self.key(ONLINE_KEY), now=datetime.now(UTC))
        (self.folder / "trust.json").write_bytes(encode_document(self.trust()))

    def recover(self, key: PrivateKey, version: int) -> None:
        """Let a key govern from a version of the registry on."""
        governance = Keys(keys=(key.public.text,))
        self.propose(recoveries=(Recovery(governance=governance, version=version),))
        self.sign("targets", self.key(TARGETS_KEY))
        self.publish()


async def keep(profile: Profile) -> Trust:
    """Look for a newer trust document now; return the one that is believed."""
    async with Client(profile) as client:
        await client.keep_trust()
        return client.profile.trust

"""The one-person default of the trust root: all of its keys lie in the coalition's folder."""

from datetime import datetime
from pathlib import Path
from typing import Final

from hashshare.crypto.keys import PrivateKey, read_private_key, write_private_key
from hashshare.domain.joining import Trust
from hashshare.service.ceremony import Ceremony, sign_file

ROOT_KEY: Final = "trust-root.pem"
TARGETS_KEY: Final = "trust-targets.pem"
ONLINE_KEY: Final = "trust-online.pem"


def begin_trust_root(folder: Path, *, now: datetime) -> str:
    """Make a trust root with one key each; return the text of the first root.

    Args:
        folder: The coalition's.
        now: Aware.

    Raises:
        AlreadyExistsError: There is one.
        FileExistsError: There are such keys.
    """
    keys = {}
    for name in (ROOT_KEY, TARGETS_KEY, ONLINE_KEY):
        keys[name] = PrivateKey.generate()
        write_private_key(folder / "keys" / name, keys[name])
    return Ceremony(folder / "trust").begin(
        keys[ROOT_KEY], keys[TARGETS_KEY], keys[ONLINE_KEY].public, now=now
    )


def publish_trust(folder: Path, trust: Trust, *, now: datetime) -> None:
    """Put a trust document into force that the one key in the folder may sign."""
    ceremony = Ceremony(folder / "trust")
    ceremony.propose_trust(trust, now=now)
    key = read_private_key(folder / "keys" / TARGETS_KEY)
    sign_file(folder / "trust" / "drafts" / "targets.json", key)
    ceremony.publish(read_private_key(folder / "keys" / ONLINE_KEY), now=now)

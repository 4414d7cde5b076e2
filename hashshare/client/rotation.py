"""Rotating the keys that govern and that publish, by the registry.

A key that is replaced signs nothing more from the new version's place in the log on, for every
reader; what it signed before stays as it is.

Source: docs/protocol.md, "Registry".
"""

from datetime import datetime

import msgspec

from hashshare.client.admin import Admin
from hashshare.crypto.keys import PrivateKey, PublicKey, read_private_key, write_private_key
from hashshare.domain.registry import Keys, Registry
from hashshare.errors import NotFoundError


async def rotate_governance(admin: Admin, *, now: datetime) -> PublicKey:
    """Replace this profile's governance key by a new one; return the one that governs now.

    May be repeated when it failed or its answer was lost: it goes on with the key that it made.

    Raises:
        NotFoundError: This profile's key does not govern.
        UnavailableError: The server cannot be reached; repeat it.
    """
    keys = admin.profile.folder / "keys"
    fresh = keys / "governance.new"
    if not fresh.exists():
        # Before governance is told of it: a key that governs must not be lost.
        write_private_key(fresh, PrivateKey.generate())
    new, old = read_private_key(fresh).public, admin.profile.governance_key().public

    def exchange(registry: Registry) -> Registry:
        governing = registry.governance.keys
        if new.text in governing:
            return registry
        if old.text not in governing:
            raise NotFoundError("this profile's governance key is not among those that govern")
        exchanged = tuple(new.text if text == old.text else text for text in governing)
        # msgspec.structs.replace is untyped.
        group: Keys = msgspec.structs.replace(registry.governance, keys=exchanged)
        return registry.with_keys(governance=group)

    await admin.edit(exchange, reason="a governance key is replaced", now=now)
    # From here on the new one signs; killed before, this is repeated.
    fresh.replace(keys / "governance.pem")
    return new


async def replace_publisher(admin: Admin, key: PublicKey, *, now: datetime) -> bool:
    """Let a key publish, and none besides; return whether it is news.

    The server must hold the key already, or nothing is published until it does.

    Raises:
        KeyUnsafeError: The key is listed for another purpose.
        UnavailableError: The server cannot be reached; repeat it.
    """
    publishers = Keys(keys=(key.text,))
    appended = await admin.edit(
        lambda registry: registry.with_keys(publishers=publishers),
        reason="the publisher's key is replaced",
        now=now,
    )
    return appended is not None


async def recover_governance(admin: Admin, *, now: datetime) -> bool:
    """Govern by the keys that the trust root names for the next version; return whether it is news.

    The profile's governance key is one of them.

    Raises:
        NotFoundError: The trust document names nobody for the next version.
        UnavailableError: The server cannot be reached; repeat it.
    """

    def take(registry: Registry) -> Registry:
        recovered = admin.profile.trust.governing(registry.version + 1)
        if recovered is None:
            raise NotFoundError(
                f"the trust document has no recovery at version {registry.version + 1}"
            )
        return registry.with_keys(governance=recovered.governance)

    return await admin.edit(take, reason="governance is recovered", now=now) is not None

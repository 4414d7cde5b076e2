"""Listing submission keys in the registry, where a server holds the governance key."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hashshare.crypto.keys import PrivateKey, PublicKey
from hashshare.domain.members import KeyScope
from hashshare.domain.names import MemberId, format_time
from hashshare.domain.registry import Registry
from hashshare.domain.statements import seal_registry
from hashshare.errors import RegistryConflictError, UnavailableError
from hashshare.service.registry import RegistryService

_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Approval:
    """Signs what follows from enrolments, and nothing else.

    Attributes:
        key: The governance key; None if no server holds it, and admins approve.
    """

    registries: RegistryService
    key: PrivateKey | None

    async def list_key(
        self,
        member: MemberId,
        public: PublicKey,
        *,
        now: datetime,
        instead_of: str | None = None,
        scope: KeyScope | None = None,
    ) -> tuple[bool, int]:
        """List a key of a member; return whether it is in force, and in which version.

        Raises:
            UnavailableError: Others keep changing the registry.
        """

        def change(registry: Registry) -> Registry:
            keys = registry.member(member).submission_keys
            if public.text in keys and instead_of not in keys:
                return registry
            # An admin may have retired the old one before.
            retiring = instead_of if instead_of in keys else None
            return registry.with_submission_key(
                member, public.text, instead_of=retiring, scope=scope
            )

        return await self._sign(change, f"enrolment of a key of {member}", now)

    async def retire_keys(
        self, member: MemberId, keys: frozenset[str], *, reason: str, now: datetime
    ) -> bool:
        """Retire keys of a member; return whether none of them signs anything more.

        Raises:
            UnavailableError: Others keep changing the registry.
        """

        def change(registry: Registry) -> Registry:
            for key in registry.member(member).submission_keys:
                if key in keys:
                    return registry.without_key(member, key)
            return registry

        done = True
        for _ in keys:
            signed, _version = await self._sign(change, reason, now)
            done = done and signed
        return done

    async def _sign(
        self, change: Callable[[Registry], Registry], reason: str, now: datetime
    ) -> tuple[bool, int]:
        for _ in range(_ATTEMPTS):
            registry = (await self.registries.current()).registry
            changed = change(registry)
            if changed is registry:
                return True, registry.version
            if self.key is None or not _may_sign(self.key, registry):
                return False, registry.version
            envelope, document = seal_registry(
                changed, [self.key], reason=reason, created_at=format_time(now)
            )
            try:
                appended = await self.registries.append(envelope, document, now=now)
            except RegistryConflictError:
                continue
            return True, appended.version
        raise UnavailableError("the registry is changing, try again")


def _may_sign(key: PrivateKey, registry: Registry) -> bool:
    """Return whether a key alone signs the next registry; it may have been replaced."""
    return key.public.text in registry.governance.keys and registry.governance.threshold == 1

"""Scopes: what a certificate of a member lets its holder do, where that is not all.

A script, or a data centre, has a certificate and a submission key of its own, which do only what
they are for, and can be cut off alone.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from hashshare.crypto import canonical
from hashshare.domain.members import KeyScope, Member
from hashshare.domain.registry import Registry

if TYPE_CHECKING:
    from hashshare.domain.hash_sets import HashSet


class ScopeKind(StrEnum):
    """What a certificate is for."""

    PULL = "pull"
    PUSH = "push"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Scope:
    """Bounds a certificate.

    Attributes:
        kind: See ``ScopeKind``.
        hash_sets: Which it is for, sorted; None for all.
    """

    kind: ScopeKind
    hash_sets: tuple[str, ...] | None = None

    @property
    def pulls(self) -> bool:
        """Whether it reads."""
        return self.kind is not ScopeKind.PUSH

    @property
    def pushes(self) -> bool:
        """Whether it submits."""
        return self.kind is not ScopeKind.PULL

    def covers(self, hash_set: str) -> bool:
        """Return whether it is for a hash set."""
        return self.hash_sets is None or hash_set in self.hash_sets

    def key_scope(self, name: str) -> KeyScope:
        """Return the same for the submission key beside it."""
        return KeyScope(
            name=name, hash_sets=msgspec.UNSET if self.hash_sets is None else self.hash_sets
        )

    def digest(self, name: str, token_digest: str) -> str:
        """Return what a submission key consents to when it lets another certificate be made."""
        sets: canonical.JsonValue = None if self.hash_sets is None else list(self.hash_sets)
        return canonical.digest(
            canonical.encode(
                {"hash_sets": sets, "kind": self.kind.value, "name": name, "token": token_digest}
            )
        )

    def __str__(self) -> str:
        sets = "all hash sets" if self.hash_sets is None else ", ".join(self.hash_sets)
        does = {"both": "push and pull"}.get(self.kind.value, f"{self.kind} only")
        return f"{does}: {sets}"


def narrow(registry: Registry, member_id: str, scope: Scope) -> Registry:
    """Return the registry as the holder of a certificate with this scope is to see it.

    In it the member has no role, and reads just what it may read and the scope covers; it is for
    asking what this peer may read, and for nothing else.
    """
    hash_sets: dict[str, HashSet] = {}
    for hash_set in registry.readable_sets(member_id):
        if scope.pulls and scope.covers(hash_set):
            hash_sets[hash_set] = msgspec.structs.replace(
                registry.hash_set(hash_set),
                contributors=(),
                readers=(member_id,),
                sandbox=msgspec.UNSET,
            )
    member: Member = msgspec.structs.replace(registry.member(member_id), roles=())
    # msgspec.structs.replace is untyped.
    narrowed: Registry = msgspec.structs.replace(
        registry, members=dict(registry.members) | {member_id: member}, hash_sets=hash_sets
    )
    return narrowed

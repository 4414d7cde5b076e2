"""Succession: what may follow a version of the registry, and what that makes anew."""

from hashshare.domain.members import Member
from hashshare.domain.names import HashSetId, ViewId
from hashshare.domain.policy import QuorumOf
from hashshare.domain.registry import Registry
from hashshare.errors import MalformedError, MixAndMatchError, RegistryConflictError


def verify_succession(old: Registry, new: Registry) -> None:
    """Refuse ``new`` if it cannot follow ``old``.

    Raises:
        RegistryConflictError: It is not the next version.
        MixAndMatchError: It belongs to another coalition or log.
        MalformedError: It forgets a member, a key or a hash set, takes an algorithm from one, or
            changes a vocabulary that still calls itself the same version.
    """
    if new.version != old.version + 1:
        raise RegistryConflictError(f"the next registry version is {old.version + 1}")
    if (new.log, new.coalition) != (old.log, old.coalition):
        raise MixAndMatchError("this is the registry of another coalition or log")
    # What was said stays attributable: nothing that the log refers to may vanish.
    if not old.members.keys() <= new.members.keys():
        raise MalformedError("a member cannot be deleted, only revoked")
    for member_id, member in old.members.items():
        _verify_retirement(member, new.members[member_id], new.version)
    for hash_set_id, hash_set in old.hash_sets.items():
        successor = new.hash_sets.get(hash_set_id)
        if successor is None:
            raise MalformedError("a hash set cannot be deleted")
        if not set(hash_set.algorithms) <= set(successor.algorithms):
            raise MalformedError("an algorithm cannot be taken out of a hash set")
    _verify_vocabulary_versions(old, new)


def is_reformed(view_id: ViewId, hash_set: HashSetId, *, old: Registry, new: Registry) -> bool:
    """Return whether a view may make something else of hashes that no submission touched."""
    before = old.hash_set(hash_set).views.get(view_id)
    after = new.hash_set(hash_set).views[view_id]
    if before != after or old.disregarded != new.disregarded:
        return True
    # The same terms, but by other mappings.
    if old.evaluated_views(hash_set)[view_id] != new.evaluated_views(hash_set)[view_id]:
        return True
    # A member that is new in the registry has asserted nothing before.
    return after.quorum_of is QuorumOf.JURISDICTIONS and any(
        new.members[member_id].jurisdiction != member.jurisdiction
        for member_id, member in old.members.items()
    )


def verify_disregarded(registry: Registry, *, log_size: int) -> None:
    """Refuse a registry that disregards what nobody has said yet.

    Args:
        registry: About to come into force.
        log_size: The leaf of its statement.

    Raises:
        MalformedError: It does.
    """
    for member_id, spans in registry.disregarded.items():
        if spans[-1].last >= log_size:
            raise MalformedError(f"what {member_id} says from now on cannot be disregarded")


def _verify_vocabulary_versions(old: Registry, new: Registry) -> None:
    later = new.vocabularies or {}
    for vocabulary_id, before in (old.vocabularies or {}).items():
        after = later.get(vocabulary_id, before)
        if after != before and after.version == before.version:
            raise MalformedError(
                f"vocabulary {vocabulary_id} has changed: give it another version than "
                f"{before.version!r:.40}"
            )


def _verify_retirement(old: Member, new: Member, version: int) -> None:
    """Refuse that a key vanishes: what it signed would be nobody's word any more."""
    gone = set(old.submission_keys) - set(new.submission_keys)
    if dict(old.retired_keys) | dict.fromkeys(gone, version) != new.retired_keys:
        raise MalformedError(f"a submission key leaves by being retired at version {version}")

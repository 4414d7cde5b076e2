"""Release: which lists a member may read, by the country whose law it answers to.

Hashes may be personal data, and a source may give them to members of some countries only. A view
may say to which jurisdictions it is released; to a member of another one, or of none, its lists are
not there. Admins and auditors, who may change that or replay the log, read all.

Source: docs/protocol.md, "Access".
"""

from hashshare.domain.members import Role
from hashshare.domain.names import HashSetId, ListName
from hashshare.domain.policy import View
from hashshare.domain.registry import Registry


def may_read_list(registry: Registry, member_id: str, name: ListName) -> bool:
    """Return whether an active member may pull a list; False if there is none."""
    if not registry.may_read(member_id, name.hash_set):
        return False
    hash_set = registry.hash_set(name.hash_set)
    view = hash_set.views.get(name.view)
    listed = view is not None and name.algorithm in hash_set.algorithms
    return listed and view is not None and _is_released(registry, member_id, view)


def readable_lists(registry: Registry, member_id: str, hash_set: HashSetId) -> list[ListName]:
    """Return the lists of a hash set that a member may pull, sorted.

    Raises:
        NotFoundError: There is no such hash set.
    """
    return [n for n in registry.lists(hash_set) if may_read_list(registry, member_id, n)]


def readable_views(registry: Registry, member_id: str, hash_set: HashSetId) -> list[str]:
    """Return the views of a hash set that are released to a member that may read it, sorted.

    Raises:
        NotFoundError: There is no such hash set.
    """
    views = registry.hash_set(hash_set).views
    return sorted(name for name, view in views.items() if _is_released(registry, member_id, view))


def reads_all_views(registry: Registry, member_id: str, hash_set: HashSetId) -> bool:
    """Return whether every view of a hash set is released to a member that may read it.

    Raises:
        NotFoundError: There is no such hash set.
    """
    views = registry.hash_set(hash_set).views
    return len(readable_views(registry, member_id, hash_set)) == len(views)


def _is_released(registry: Registry, member_id: str, view: View) -> bool:
    jurisdictions = view.jurisdictions
    if jurisdictions is None:
        return True
    member = registry.member(member_id)
    if Role.ADMIN in member.roles or Role.AUDITOR in member.roles:
        return True
    return member.jurisdiction in jurisdictions

"""Hash sets: what is shared, by whom, for whom, and the views that are published of it."""

from collections.abc import Collection
from typing import Annotated, Literal

import msgspec

from hashshare.domain.documents import (
    Classification,
    Document,
    Id,
    Ordinal,
    Text,
    verify_sorted,
)
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.policy import View
from hashshare.errors import MalformedError

EVERYBODY = "*"


class DisputeBound(Document, frozen=True):
    """How much one member may dispute without another one's agreement.

    Attributes:
        hours: Within a period of so many hours, by the log's own time.
        records: So many records count alone; see ``domain.disputes``.
    """

    hours: Annotated[int, msgspec.Meta(ge=1, le=8784)]
    records: Ordinal


class HashSet(Document, frozen=True):
    """A named collection with its policy.

    Attributes:
        title: For people.
        algorithms: In which hashes are taken and published.
        classifications: Every assertion uses one of these.
        contributors: Members who may submit; ``*`` is every member with that role.
        readers: Members who may pull; ``*`` is every member with a role.
        views: What is published.
        sandbox: Whether every active member may read it and submit to it, whatever its roles:
            for made-up hashes.
        dispute_bound: How much one member may dispute alone; unset, as much as it likes.
        vocabulary: From which the classifications are; unset, they are a list of its own.
    """

    title: Text
    algorithms: tuple[HashAlgorithm, ...]
    classifications: tuple[Classification, ...]
    contributors: tuple[str, ...] = (EVERYBODY,)
    readers: tuple[str, ...] = (EVERYBODY,)
    views: dict[Id, View] = msgspec.field(default_factory=dict)
    sandbox: Literal[True] | msgspec.UnsetType = msgspec.UNSET
    dispute_bound: DisputeBound | msgspec.UnsetType = msgspec.UNSET
    vocabulary: Id | msgspec.UnsetType = msgspec.UNSET

    @property
    def bound(self) -> DisputeBound | None:
        """How much one member may dispute alone, None if there is no bound."""
        unset = isinstance(self.dispute_bound, msgspec.UnsetType)
        return None if unset else self.dispute_bound  # type: ignore[return-value] # see unset


def verify_hash_set(hash_set_id: str, hash_set: HashSet, members: Collection[str]) -> None:
    """Refuse a hash set that contradicts itself.

    Raises:
        MalformedError: It takes nothing, names a member that is none of ``members``, or a set
            of it is not sorted.
    """
    verify_sorted(hash_set.algorithms, "algorithms")
    verify_sorted(hash_set.classifications, "classifications")
    if not hash_set.algorithms or not hash_set.classifications:
        raise MalformedError(f"hash set {hash_set_id} has no algorithm or no classification")
    named: list[tuple[str, ...]] = [hash_set.contributors, hash_set.readers]
    for view in hash_set.views.values():
        named += [view.sources or (), view.unheard, tuple(sorted(view.weighted))]
        _verify_written(view)
        verify_sorted(view.left_out, "classifications")
        verify_sorted(view.jurisdictions or (), "jurisdictions")
        verify_sorted(view.sources or (), "sources")
        verify_sorted(view.media or (), "media")
        verify_sorted(view.classifications or (), "classifications")
        mentioned = {*(view.classifications or ()), *view.left_out}
        if not mentioned <= set(hash_set.classifications):
            raise MalformedError(f"a view of {hash_set_id} has a classification that it lacks")
    for ids in named:
        verify_sorted(ids, "members")
        for member_id in ids:
            if member_id != EVERYBODY and member_id not in members:
                raise MalformedError(f"hash set {hash_set_id} names no member {member_id!r:.70}")


def _verify_written(view: View) -> None:
    """Refuse what says nothing: it would be a second spelling of what is left out."""
    for written in (
        view.weights,
        view.excluded_classifications,
        view.excluded_sources,
        view.released_to,
    ):
        if not isinstance(written, msgspec.UnsetType) and not written:
            raise MalformedError("what excludes, weighs or releases nothing is not written")

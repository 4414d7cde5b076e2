"""The registry: who the members are, their keys, the hash sets and their policies.

It is one document, signed as a whole and named by its digest in the log; each version
replaces the one before it. Edits return a new document, so that an admin's client can
build one, sign it and send it.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from hashshare.crypto.keys import PublicKey
from hashshare.crypto.policy import Policy, parse_policy
from hashshare.domain.agreements import Agreement, verify_agreement
from hashshare.domain.documents import (
    MAX_REGISTRY_BYTES,
    Classification,
    Count,
    Document,
    Id,
    KeyText,
    Ordinal,
    Origin,
    Text,
    decode_document,
)
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.names import HashSetId, ListName, MemberId, ViewId, parse_id
from hashshare.domain.policy import QuorumOf, View
from hashshare.errors import (
    AlreadyExistsError,
    KeyUnsafeError,
    MalformedError,
    MixAndMatchError,
    NotFoundError,
    RegistryConflictError,
)

EVERYBODY = "*"


class Role(StrEnum):
    """What a member may do, besides what the hash sets grant it."""

    READER = "reader"
    CONTRIBUTOR = "contributor"
    REVIEWER = "reviewer"
    ADMIN = "admin"
    AUDITOR = "auditor"


class Status(StrEnum):
    """Whether a member may do anything at all. Its earlier assertions stay in any case."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    REVOKED = "revoked"


class Keys(Document, frozen=True):
    """Public keys, of which ``threshold`` distinct ones must sign."""

    keys: tuple[KeyText, ...]
    threshold: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1


class Span(Document, frozen=True):
    """A part of the log, from one leaf to another, both with it."""

    first: Count
    last: Count


class DisputeBound(Document, frozen=True):
    """How much one member may dispute without another one's agreement.

    Attributes:
        hours: Within a period of so many hours, by the log's own time.
        records: So many records count alone; see ``domain.disputes``.
    """

    hours: Annotated[int, msgspec.Meta(ge=1, le=8784)]
    records: Ordinal


class KeyScope(Document, frozen=True):
    """Bounds a submission key to some hash sets.

    Attributes:
        name: Tells the keys of one member apart, for people.
        hash_sets: To which it may submit, sorted; all where it is left out.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    hash_sets: tuple[Id, ...] | msgspec.UnsetType = msgspec.UNSET

    def covers(self, hash_set: str) -> bool:
        """Return whether such a key may submit to a hash set, as far as the key goes."""
        return isinstance(self.hash_sets, msgspec.UnsetType) or hash_set in self.hash_sets


class Member(Document, frozen=True):
    """An organization in the federation.

    Attributes:
        name: Its full name, for people.
        jurisdiction: ISO 3166 code of the country whose law it answers to, or "".
        roles: Sorted, without repetition.
        status: See ``Status``.
        submission_keys: Keys that sign its submissions. Empty until it has enrolled.
        retired_keys: Keys that signed its submissions once, each with the version of the
            registry from whose place in the log on it signs nothing more: lost, stolen, or
            replaced. What they signed before stays the member's word.
        disregarded: Parts of the log in which whatever the member submitted counts for
            nothing: what a thief of its key said, or what it said in error. Ascending.
        key_scopes: Names and bounds of those keys that have some, by key; left out if none has.
        agreement: The one that it accepted last; left out if none is recorded.
    """

    name: Text
    jurisdiction: Annotated[str, msgspec.Meta(pattern=r"\A([A-Z]{2})?\Z")] = ""
    roles: tuple[Role, ...] = ()
    status: Status = Status.ACTIVE
    submission_keys: tuple[KeyText, ...] = ()
    retired_keys: dict[KeyText, Ordinal] = msgspec.field(default_factory=dict)
    # Not written when unset, so that registries from before there was such a field keep their
    # bytes; this holds for each field that is declared so.
    disregarded: tuple[Span, ...] | msgspec.UnsetType = msgspec.UNSET
    key_scopes: dict[KeyText, KeyScope] | msgspec.UnsetType = msgspec.UNSET
    agreement: Agreement | msgspec.UnsetType = msgspec.UNSET

    @property
    def spans(self) -> tuple[Span, ...]:
        """The parts of the log in which what it submitted is disregarded."""
        return () if isinstance(self.disregarded, msgspec.UnsetType) else self.disregarded

    def scope_of(self, key_id: str) -> KeyScope | None:
        """Return name and bounds of its key of that id, None for a key that has none."""
        for text, scope in (self.key_scopes or {}).items():
            if PublicKey.parse(text).key_id == key_id:
                return scope
        return None


class HashSet(Document, frozen=True):
    """A named collection with its policy.

    Attributes:
        title: For people.
        algorithms: In which hashes are taken and published.
        classifications: The vocabulary; every assertion uses one of it.
        contributors: Members who may submit; ``*`` is every member with that role.
        readers: Members who may pull; ``*`` is every member with a role.
        views: What is published.
        sandbox: Whether every active member may read it and submit to it, whatever its roles:
            for made-up hashes.
        dispute_bound: How much one member may dispute alone; unset, as much as it likes.
    """

    title: Text
    algorithms: tuple[HashAlgorithm, ...]
    classifications: tuple[Classification, ...]
    contributors: tuple[str, ...] = (EVERYBODY,)
    readers: tuple[str, ...] = (EVERYBODY,)
    views: dict[Id, View] = msgspec.field(default_factory=dict)
    sandbox: Literal[True] | msgspec.UnsetType = msgspec.UNSET
    dispute_bound: DisputeBound | msgspec.UnsetType = msgspec.UNSET

    @property
    def bound(self) -> DisputeBound | None:
        """How much one member may dispute alone, None if there is no bound."""
        unset = isinstance(self.dispute_bound, msgspec.UnsetType)
        return None if unset else self.dispute_bound  # type: ignore[return-value] # see unset


class Registry(Document, frozen=True):
    """One version of the registry; see the module.

    Attributes:
        witnesses: Who must have cosigned a checkpoint whose tree has this version in force, as
            the one text of a trust policy; "" demands nobody.
        agreement_required: Whether members without an agreement read the sandbox only.
    """

    coalition: Text
    log: Origin
    version: Ordinal
    governance: Keys
    publishers: Keys
    witnesses: Annotated[str, msgspec.Meta(max_length=32_768)] = ""
    members: dict[Id, Member] = msgspec.field(default_factory=dict)
    hash_sets: dict[Id, HashSet] = msgspec.field(default_factory=dict)
    agreement_required: Literal[True] | msgspec.UnsetType = msgspec.UNSET

    def member(self, member_id: str) -> Member:
        """Return the member of that id.

        Raises:
            NotFoundError: There is none.
        """
        member = self.members.get(member_id)
        if member is None:
            raise NotFoundError(f"no member {member_id!r:.70}")
        return member

    def hash_set(self, hash_set_id: str) -> HashSet:
        """Return the hash set of that id.

        Raises:
            NotFoundError: There is none.
        """
        hash_set = self.hash_sets.get(hash_set_id)
        if hash_set is None:
            raise NotFoundError(f"no hash set {hash_set_id!r:.70}")
        return hash_set

    def lists(self, hash_set_id: HashSetId) -> list[ListName]:
        """Return the lists that a hash set publishes, sorted."""
        hash_set = self.hash_set(hash_set_id)
        return sorted(
            ListName(hash_set_id, ViewId(view), algorithm)
            for view in hash_set.views
            for algorithm in hash_set.algorithms
        )

    def may_read(self, member_id: str, hash_set_id: str) -> bool:
        """Return whether an active member may pull this hash set; False if there is none."""
        member, hash_set = self.members.get(member_id), self.hash_sets.get(hash_set_id)
        if member is None or hash_set is None or member.status is not Status.ACTIVE:
            return False
        if Role.ADMIN in member.roles or Role.AUDITOR in member.roles:
            return True
        # A member without any role was invited to try things out: to everybody's it has no right.
        everybody = bool(member.roles) and EVERYBODY in hash_set.readers
        named = everybody or member_id in hash_set.readers
        return named or self.may_contribute(member_id, hash_set_id)

    def may_contribute(self, member_id: str, hash_set_id: str) -> bool:
        """Return whether an active member may submit to this hash set; False if there is none."""
        member, hash_set = self.members.get(member_id), self.hash_sets.get(hash_set_id)
        if member is None or hash_set is None or member.status is not Status.ACTIVE:
            return False
        if hash_set.sandbox is True:
            return True
        granted = EVERYBODY in hash_set.contributors or member_id in hash_set.contributors
        return Role.CONTRIBUTOR in member.roles and granted

    def may_rule(self, member_id: str, hash_set_id: str) -> bool:
        """Return whether an active member may decide about hashes of this hash set."""
        member = self.members.get(member_id)
        if member is None or not self.may_read(member_id, hash_set_id):
            return False
        return Role.REVIEWER in member.roles or Role.ADMIN in member.roles

    @property
    def disregarded(self) -> dict[MemberId, tuple[Span, ...]]:
        """By member the parts of the log in which what it submitted counts for nothing."""
        return {MemberId(m): member.spans for m, member in self.members.items() if member.spans}

    def readable_sets(self, member_id: str) -> list[HashSetId]:
        """Return the hash sets that a member may pull, sorted."""
        return [HashSetId(s) for s in sorted(self.hash_sets) if self.may_read(member_id, s)]

    def with_member(self, member_id: str, member: Member, *, new: bool = False) -> "Registry":
        """Return the next version, in which the member is as given.

        Raises:
            AlreadyExistsError: ``new``, and there is one of that id.
            MalformedError: The id is not acceptable.
        """
        if new and member_id in self.members:
            raise AlreadyExistsError(f"there is a member {member_id!r:.70} already")
        parse_id(member_id, what="member")
        return self._next(members=dict(self.members) | {member_id: member})

    def with_agreement(self, member_id: str, agreement: Agreement) -> "Registry":
        """Return the next version, in which the member has accepted that."""
        changed: Member = msgspec.structs.replace(self.member(member_id), agreement=agreement)
        return self.with_member(member_id, changed)

    def with_agreement_required(self, required: bool) -> "Registry":
        """Return the next version, in which reading takes an agreement, or does not."""
        return self._next(agreement_required=required or msgspec.UNSET)

    def with_submission_key(
        self,
        member_id: str,
        key: str,
        *,
        instead_of: str | None = None,
        scope: KeyScope | None = None,
    ) -> "Registry":
        """Return the next version, in which the member has one more submission key.

        Args:
            member_id: The member.
            key: Its new key.
            instead_of: A key that is retired by the same version.
            scope: Of the new key; None for that of the key that it replaces, if it has one.

        Raises:
            NotFoundError: There is no such member, or it has not the key to be retired.
            KeyUnsafeError: The key is unsafe, or listed already, now or formerly.
        """
        member = self.member(member_id)
        changed: Member = msgspec.structs.replace(
            member, submission_keys=(*member.submission_keys, key)
        )
        scopes = dict(member.key_scopes or {})
        chosen = scope or scopes.get(instead_of or "")
        if chosen is not None:
            changed = msgspec.structs.replace(changed, key_scopes=scopes | {key: chosen})
        if instead_of is not None:
            changed = self._retire(member_id, changed, instead_of)
        return self.with_member(member_id, changed)

    def without_key(self, member_id: str, key: str) -> "Registry":
        """Return the next version, in which a submission key of the member is retired.

        Raises:
            NotFoundError: There is no such member, or it has no such key.
        """
        return self.with_member(member_id, self._retire(member_id, self.member(member_id), key))

    def with_disregarded(self, member_id: str, spans: Iterable[Span]) -> "Registry":
        """Return the next version, in which just these parts of a member's log are disregarded.

        Args:
            member_id: The member.
            spans: In any order; they may overlap. None lets all count again.

        Raises:
            NotFoundError: There is no such member.
        """
        joined = tuple(join_spans(spans))
        # msgspec.structs.replace is untyped.
        changed: Member = msgspec.structs.replace(
            self.member(member_id), disregarded=joined or msgspec.UNSET
        )
        return self.with_member(member_id, changed)

    def _retire(self, member_id: str, member: Member, key: str) -> Member:
        if key not in member.submission_keys:
            raise NotFoundError(f"member {member_id} has no such submission key")
        retired: Member = msgspec.structs.replace(
            member,
            submission_keys=tuple(k for k in member.submission_keys if k != key),
            retired_keys=dict(member.retired_keys) | {key: self.version + 1},
        )
        return retired

    @property
    def policy(self) -> Policy | None:
        """The trust policy, None if it demands no witness."""
        policy = self.cosigners
        return policy if policy is not None and policy.quorum else None

    @property
    def cosigners(self) -> Policy | None:
        """The trust policy, also if it names only auditors; None if it names nobody."""
        return parse_policy(self.witnesses) if self.witnesses else None

    def with_witnesses(self, policy: Policy) -> "Registry":
        """Return the next version, under another trust policy.

        Raises:
            MalformedError: It is for another log.
            KeyUnsafeError: A witness's key is listed for another purpose.
        """
        return self._next(witnesses=str(policy))

    def with_keys(
        self, *, governance: Keys | None = None, publishers: Keys | None = None
    ) -> "Registry":
        """Return the next version, with other governance or publisher keys."""
        return self._next(
            governance=governance or self.governance, publishers=publishers or self.publishers
        )

    def with_hash_set(
        self, hash_set_id: str, hash_set: HashSet, *, new: bool = False
    ) -> "Registry":
        """Return the next version, in which the hash set is as given.

        Raises:
            AlreadyExistsError: ``new``, and there is one of that id.
            MalformedError: The id is not acceptable, or the hash set contradicts itself.
        """
        if new and hash_set_id in self.hash_sets:
            raise AlreadyExistsError(f"there is a hash set {hash_set_id!r:.70} already")
        parse_id(hash_set_id, what="hash set")
        return self._next(hash_sets=dict(self.hash_sets) | {hash_set_id: hash_set})

    def with_view(self, hash_set_id: str, view_id: str, view: View | None) -> "Registry":
        """Return the next version, in which the view is as given; None deletes it.

        Raises:
            NotFoundError: There is no such hash set.
            MalformedError: The id is not acceptable, or the view contradicts the hash set.
        """
        hash_set = self.hash_set(hash_set_id)
        parse_id(view_id, what="view")
        views = {name: known for name, known in hash_set.views.items() if name != view_id}
        if view is not None:
            views[view_id] = view
        changed: HashSet = msgspec.structs.replace(hash_set, views=views)
        return self.with_hash_set(hash_set_id, changed)

    def _next(self, **fields: object) -> "Registry":
        # msgspec.structs.replace is untyped.
        registry: Registry = msgspec.structs.replace(self, version=self.version + 1, **fields)
        verify_registry(registry)
        return registry


def parse_registry(data: bytes) -> Registry:
    """Return the registry whose canonical form is ``data``.

    Raises:
        MalformedError: It is not that, or contradicts itself.
        KeyUnsafeError: A key is unsafe, or is listed twice.
    """
    registry = decode_document(data, Registry, max_bytes=MAX_REGISTRY_BYTES)
    verify_registry(registry)
    return registry


def verify_registry(registry: Registry) -> None:
    """Refuse a registry that contradicts itself.

    Raises:
        MalformedError: A threshold that cannot be met, a name that refers to nothing, a
            set that is not sorted.
        KeyUnsafeError: A key is of small order, or is listed twice, retired ones too: the
            same key under two members or roles would let one speak for the other.
    """
    _verify_witnesses(registry)
    _verify_keys(registry)
    for member_id, member in registry.members.items():
        _verify_sorted(member.roles, "roles")
        _verify_spans(member)
        _verify_key_scopes(member_id, member)
        if not isinstance(member.agreement, msgspec.UnsetType):
            verify_agreement(member.agreement)
    for hash_set_id, hash_set in registry.hash_sets.items():
        _verify_hash_set(hash_set_id, hash_set, registry.members)


def verify_succession(old: Registry, new: Registry) -> None:
    """Refuse ``new`` if it cannot follow ``old``.

    Raises:
        RegistryConflictError: It is not the next version.
        MixAndMatchError: It belongs to another coalition or log.
        MalformedError: It forgets a member, a key or a hash set, or takes an algorithm from one.
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


def is_reformed(view_id: ViewId, hash_set: HashSetId, *, old: Registry, new: Registry) -> bool:
    """Return whether a view may make something else of hashes that no submission touched."""
    before = old.hash_set(hash_set).views.get(view_id)
    after = new.hash_set(hash_set).views[view_id]
    if before != after or old.disregarded != new.disregarded:
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


def join_spans(spans: Iterable[Span]) -> list[Span]:
    """Return the same parts of the log, ascending and apart."""
    joined: list[Span] = []
    for span in sorted(spans, key=lambda span: span.first):
        if joined and span.first <= joined[-1].last + 1:
            before = joined.pop()
            joined.append(Span(first=before.first, last=max(before.last, span.last)))
        else:
            joined.append(span)
    return joined


def cut_spans(spans: Iterable[Span], gone: Iterable[Span]) -> list[Span]:
    """Return what is left of parts of the log without others."""
    left = list(spans)
    for cut in gone:
        pieces = []
        for span in left:
            if span.last < cut.first or span.first > cut.last:
                pieces.append(span)
                continue
            if span.first < cut.first:
                pieces.append(Span(first=span.first, last=cut.first - 1))
            if span.last > cut.last:
                pieces.append(Span(first=cut.last + 1, last=span.last))
        left = pieces
    return left


def covers(spans: Sequence[Span], log_index: int) -> bool:
    """Return whether one of the parts of the log holds this leaf."""
    return any(span.first <= log_index <= span.last for span in spans)


def _verify_spans(member: Member) -> None:
    if not isinstance(member.disregarded, msgspec.UnsetType) and not member.spans:
        raise MalformedError("what disregards nothing is not written")
    after = 0
    for span in member.spans:
        if not after <= span.first <= span.last:
            raise MalformedError("disregarded parts of the log are written ascending and apart")
        # Two that meet would be a second spelling of one.
        after = span.last + 2


def _verify_retirement(old: Member, new: Member, version: int) -> None:
    """Refuse that a key vanishes: what it signed would be nobody's word any more."""
    gone = set(old.submission_keys) - set(new.submission_keys)
    if dict(old.retired_keys) | dict.fromkeys(gone, version) != new.retired_keys:
        raise MalformedError(f"a submission key leaves by being retired at version {version}")


def _verify_witnesses(registry: Registry) -> None:
    if not registry.witnesses:
        return
    policy = parse_policy(registry.witnesses)
    if str(policy) != registry.witnesses:
        raise MalformedError("a trust policy is written in its one form, without comments")
    if any(log.name != registry.log for log in policy.logs):
        raise MalformedError("the trust policy is for another log")


def _verify_keys(registry: Registry) -> None:
    seen: set[str] = set()
    if registry.cosigners is not None:
        # What a cosigner's key signs does not hold its name: it is used for nothing else.
        seen.update(witness.verifier.public.text for witness in registry.cosigners.witnesses)
    groups: list[Iterable[str]] = [registry.governance.keys, registry.publishers.keys]
    for member in registry.members.values():
        groups += [member.submission_keys, member.retired_keys]
    for group in groups:
        for text in group:
            PublicKey.parse(text)
            if text in seen:
                raise KeyUnsafeError("a public key is listed twice in the registry")
            seen.add(text)
    for keys in (registry.governance, registry.publishers):
        if keys.threshold > len(keys.keys):
            raise MalformedError(f"{keys.threshold} of {len(keys.keys)} keys cannot sign")


def _verify_key_scopes(member_id: str, member: Member) -> None:
    if member.key_scopes is msgspec.UNSET:
        return
    if not member.key_scopes:
        raise MalformedError(f"member {member_id} has no key with a scope: leave key_scopes out")
    if not member.key_scopes.keys() <= {*member.submission_keys, *member.retired_keys}:
        raise MalformedError(f"member {member_id} has no such key, of which there is a scope")
    for scope in member.key_scopes.values():
        _verify_sorted(scope.hash_sets or (), "hash sets")


def _verify_hash_set(hash_set_id: str, hash_set: HashSet, members: Mapping[str, Member]) -> None:
    _verify_sorted(hash_set.algorithms, "algorithms")
    _verify_sorted(hash_set.classifications, "classifications")
    if not hash_set.algorithms or not hash_set.classifications:
        raise MalformedError(f"hash set {hash_set_id} has no algorithm or no classification")
    named: list[tuple[str, ...]] = [hash_set.contributors, hash_set.readers]
    for view in hash_set.views.values():
        named += [view.sources or (), view.unheard, tuple(sorted(view.weighted))]
        _verify_written(view)
        _verify_sorted(view.left_out, "classifications")
        _verify_sorted(view.jurisdictions or (), "jurisdictions")
        _verify_sorted(view.sources or (), "sources")
        _verify_sorted(view.media or (), "media")
        _verify_sorted(view.classifications or (), "classifications")
        mentioned = {*(view.classifications or ()), *view.left_out}
        if not mentioned <= set(hash_set.classifications):
            raise MalformedError(f"a view of {hash_set_id} has a classification that it lacks")
    for ids in named:
        _verify_sorted(ids, "members")
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


def _verify_sorted(values: tuple[str, ...], what: str) -> None:
    if list(values) != sorted(set(values)):
        raise MalformedError(f"{what} are written sorted, each once")

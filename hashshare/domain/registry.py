"""The registry: who the members are, their keys, the hash sets and their policies.

It is one document, signed as a whole and named by its digest in the log; each version
replaces the one before it. Edits return a new document, so that an admin's client can
build one, sign it and send it.
"""

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from hashshare.crypto.keys import PublicKey
from hashshare.crypto.policy import Policy, parse_policy
from hashshare.domain.agreements import Agreement
from hashshare.domain.documents import (
    MAX_REGISTRY_BYTES,
    Document,
    Id,
    KeyText,
    Ordinal,
    Origin,
    Text,
    decode_document,
)
from hashshare.domain.hash_sets import EVERYBODY, HashSet, verify_hash_set
from hashshare.domain.members import KeyScope, Member, Role, Status, verify_member
from hashshare.domain.names import HashSetId, ListName, MemberId, ViewId, parse_id
from hashshare.domain.policy import View
from hashshare.domain.spans import Span, join_spans
from hashshare.domain.vocabularies import (
    Mappings,
    Matches,
    Vocabularies,
    Vocabulary,
    resolve,
    verify_vocabularies,
)
from hashshare.errors import AlreadyExistsError, KeyUnsafeError, MalformedError, NotFoundError


class Keys(Document, frozen=True):
    """Public keys, of which ``threshold`` distinct ones must sign."""

    keys: tuple[KeyText, ...]
    threshold: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1


class Registry(Document, frozen=True):
    """One version of the registry; see the module.

    Attributes:
        witnesses: Who must have cosigned a checkpoint whose tree has this version in force, as
            the one text of a trust policy; "" demands nobody.
        agreement_required: Whether members without an agreement read the sandbox only.
        vocabularies: Of classifications, by id; left out if there is none.
        mappings: Between vocabularies; left out if there is none.
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
    vocabularies: Vocabularies | msgspec.UnsetType = msgspec.UNSET
    mappings: Mappings | msgspec.UnsetType = msgspec.UNSET

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

    def vocabulary(self, vocabulary_id: str) -> Vocabulary:
        """Return the vocabulary of that id.

        Raises:
            NotFoundError: There is none.
        """
        vocabulary = (self.vocabularies or {}).get(vocabulary_id)
        if vocabulary is None:
            raise NotFoundError(f"no vocabulary {vocabulary_id!r:.70}: hashshare vocabulary list")
        return vocabulary

    def evaluated_views(self, hash_set_id: str) -> dict[str, View]:
        """Return the views of a hash set by id as they are evaluated: with terms resolved."""
        hash_set = self.hash_set(hash_set_id)
        own, mappings = hash_set.vocabulary or "", self.mappings or {}
        return {name: resolve(view, own, mappings) for name, view in hash_set.views.items()}

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

    def with_vocabulary(
        self, vocabulary_id: str, vocabulary: Vocabulary | None, *, new: bool = False
    ) -> "Registry":
        """Return the next version, in which the vocabulary is as given; None deletes it.

        Raises:
            AlreadyExistsError: ``new``, and there is one of that id.
            MalformedError: The id is not acceptable, or something uses what is gone.
        """
        parse_id(vocabulary_id, what="vocabulary")
        vocabularies = dict(self.vocabularies or {})
        if new and vocabulary_id in vocabularies:
            raise AlreadyExistsError(f"there is a vocabulary {vocabulary_id!r:.70} already")
        vocabularies.pop(vocabulary_id, None)
        if vocabulary is not None:
            vocabularies[vocabulary_id] = vocabulary
        return self._next(vocabularies=vocabularies or msgspec.UNSET)

    def with_mapping(self, source: str, target: str, matches: Matches | None) -> "Registry":
        """Return the next version, in which one vocabulary is mapped so to another; None: not.

        Raises:
            MalformedError: A vocabulary or term is not there, or a view uses what is gone.
        """
        mappings = dict(self.mappings or {})
        targets = dict(mappings.pop(source, {}))
        targets.pop(target, None)
        if matches is not None:
            targets[target] = matches
        if targets:
            mappings[source] = targets
        return self._next(mappings=mappings or msgspec.UNSET)

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
    verify_vocabularies(registry.vocabularies, registry.mappings, registry.hash_sets)
    for member_id, member in registry.members.items():
        verify_member(member_id, member)
    for hash_set_id, hash_set in registry.hash_sets.items():
        verify_hash_set(hash_set_id, hash_set, registry.members)


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

"""Members: the organizations of a coalition, with their roles, keys and agreement."""

from enum import StrEnum
from typing import Annotated

import msgspec

from hashshare.crypto.keys import PublicKey
from hashshare.domain.agreements import Agreement, verify_agreement
from hashshare.domain.documents import Document, Id, KeyText, Ordinal, Text, verify_sorted
from hashshare.domain.spans import Span, verify_spans
from hashshare.errors import MalformedError


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


def verify_member(member_id: str, member: Member) -> None:
    """Refuse a member that contradicts itself.

    Raises:
        MalformedError: A set that is not sorted, a scope of no key, or what says nothing.
    """
    verify_sorted(member.roles, "roles")
    if not isinstance(member.disregarded, msgspec.UnsetType) and not member.spans:
        raise MalformedError("what disregards nothing is not written")
    verify_spans(member.spans)
    _verify_key_scopes(member_id, member)
    if not isinstance(member.agreement, msgspec.UnsetType):
        verify_agreement(member.agreement)


def _verify_key_scopes(member_id: str, member: Member) -> None:
    if member.key_scopes is msgspec.UNSET:
        return
    if not member.key_scopes:
        raise MalformedError(f"member {member_id} has no key with a scope: leave key_scopes out")
    if not member.key_scopes.keys() <= {*member.submission_keys, *member.retired_keys}:
        raise MalformedError(f"member {member_id} has no such key, of which there is a scope")
    for scope in member.key_scopes.values():
        verify_sorted(scope.hash_sets or (), "hash sets")

"""Release by the reader's jurisdiction: whose views they are."""

from typing import Any

import msgspec
import pytest

from hashshare.domain.documents import encode_document
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.members import Role, Status
from hashshare.domain.names import HashSetId, ListName
from hashshare.domain.policy import View
from hashshare.domain.registry import Registry, parse_registry
from hashshare.domain.release import (
    may_read_list,
    readable_lists,
    readable_views,
    reads_all_views,
)
from hashshare.domain.scopes import Scope, ScopeKind, narrow
from hashshare.errors import MalformedError, NotFoundError
from tests.unit.domain.test_registry import CSAM, member, registry

SET = HashSetId("csam")
READERS = {
    "french": member(Role.READER, jurisdiction="FR"),
    "german": member(Role.READER, jurisdiction="DE"),
    "nowhere": member(Role.READER),
    "chief": member(Role.ADMIN),
    "watch": member(Role.AUDITOR, jurisdiction="DE"),
    "out": member(Role.READER, jurisdiction="FR", status=Status.SUSPENDED),
}


def released(*to: str, **fields: Any) -> Registry:
    """A coalition in which one view of two is released to some countries."""
    views = {"all": View(), "local": View(released_to=to)}
    hash_set = msgspec.structs.replace(CSAM, readers=("*",), views=views)
    made: Registry = msgspec.structs.replace(
        registry(), members=dict(registry().members) | READERS, hash_sets={"csam": hash_set}
    )
    return made


def views(found: Registry, name: str) -> set[str]:
    return {str(one.view) for one in readable_lists(found, name, SET)}


def test_a_view_is_read_where_it_is_released() -> None:
    """By members of no other country, nor of none; admins and auditors read all."""
    found = released("BE", "FR")
    assert {name: views(found, name) for name in READERS} == {
        "french": {"all", "local"},
        "german": {"all"},
        "nowhere": {"all"},
        "chief": {"all", "local"},
        "watch": {"all", "local"},
        "out": set(),
    }
    assert readable_views(found, "german", SET) == ["all"]
    assert (reads_all_views(found, "french", SET), reads_all_views(found, "german", SET)) == (
        True,
        False,
    )


@pytest.mark.parametrize("text", ["csam/absent/sha256", "absent/all/sha256", "csam/all/photodna"])
def test_a_list_that_is_not_there_is_not_read(text: str) -> None:
    assert not may_read_list(released("FR"), "french", ListName.parse(text))
    with pytest.raises(NotFoundError):
        readable_lists(released("FR"), "french", HashSetId("absent"))


def test_a_certificate_with_a_scope_reads_what_its_country_may() -> None:
    """It has no role, so that an admin's script reads no more than others of its country."""
    scope = Scope(ScopeKind.PULL)
    for name, expected in (("french", {"all", "local"}), ("german", {"all"}), ("chief", {"all"})):
        assert views(narrow(released("FR"), name, scope), name) == expected


@pytest.mark.parametrize("to", [(), ("FR", "BE"), ("FR", "FR"), ("fr",), ("FRA",), ("",)])
def test_countries_that_have_no_one_spelling_are_refused(to: tuple[str, ...]) -> None:
    """Nobody, unsorted, twice, or no country."""
    with pytest.raises(MalformedError):
        parse_registry(encode_document(released(*to)))


def test_a_view_from_before_keeps_its_bytes() -> None:
    """Where nothing is said of release, nothing is written."""
    assert b"released_to" not in encode_document(registry())
    good = encode_document(released("BE", "FR"))
    assert encode_document(parse_registry(good)) == good
    assert HashAlgorithm.SHA256 in CSAM.algorithms

"""A registry that contradicts itself, or forgets, is refused."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import pytest

from hashshare.crypto.keys import PrivateKey
from hashshare.domain.documents import Document, encode_document
from hashshare.domain.hash_sets import HashSet
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.members import KeyScope, Member, Role, Status
from hashshare.domain.names import HashSetId
from hashshare.domain.policy import View
from hashshare.domain.registry import Keys, Registry, parse_registry
from hashshare.domain.succession import verify_succession
from hashshare.errors import (
    AlreadyExistsError,
    HashshareError,
    KeyUnsafeError,
    MalformedError,
    MixAndMatchError,
    NotFoundError,
    RegistryConflictError,
)

CSAM = HashSet(
    title="CSAM",
    algorithms=(HashAlgorithm.MD5, HashAlgorithm.SHA256),
    classifications=("A1", "A2"),
    contributors=("acme",),
    readers=("reader",),
    views={"all": View(), "confirmed": View(quorum=2)},
)
SMALL_ORDER_KEY = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


def new_key() -> str:
    """A public key as the registry writes it."""
    return PrivateKey.generate().public.text


def member(*roles: Role, **fields: Any) -> Member:
    """A member with a key of its own."""
    defaults: dict[str, Any] = {"name": "Some Org", "submission_keys": (new_key(),)}
    return Member(roles=roles, **defaults | fields)


def registry() -> Registry:
    """A small coalition."""
    return Registry(
        coalition="Coalition",
        log="coalition.example/log",
        version=1,
        governance=Keys(keys=(new_key(),)),
        publishers=Keys(keys=(new_key(),)),
        members={
            "acme": member(Role.CONTRIBUTOR),
            "beta": member(Role.CONTRIBUTOR),
            "reader": member(Role.READER),
            "boss": member(Role.ADMIN),
        },
        hash_sets={"csam": CSAM},
    )


def test_a_registry_has_one_byte_form() -> None:
    """Printing and parsing are inverse."""
    document = registry()

    assert parse_registry(encode_document(document)) == document


def test_another_spelling_is_refused() -> None:
    """A default that is left out is a second spelling of the same registry."""
    spelling = encode_document(registry()).replace(b',"threshold":1', b"", 1)

    with pytest.raises(MalformedError):
        parse_registry(spelling)


def test_who_may_contribute_and_read() -> None:
    """Contributing needs the role and the grant; contributors and admins also read."""
    coalition = registry()
    ids = ["acme", "beta", "reader", "boss", "nobody"]

    assert [m for m in ids if coalition.may_contribute(m, "csam")] == ["acme"]
    assert [m for m in ids if coalition.may_read(m, "csam")] == ["acme", "reader", "boss"]
    assert not coalition.may_read("acme", "no-such-set")


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.REVOKED])
def test_a_member_that_is_not_active_may_nothing(status: Status) -> None:
    """Whatever its roles are."""
    coalition = registry()
    acme = msgspec.structs.replace(coalition.member("acme"), status=status)
    coalition = coalition.with_member("acme", acme)

    assert not coalition.may_contribute("acme", "csam")
    assert not coalition.may_read("acme", "csam")


def test_edits_make_the_next_version() -> None:
    """And leave the one before as it was."""
    old = registry()
    new = old.with_member("delta", member(Role.READER), new=True)

    assert (old.version, new.version) == (1, 2)
    assert "delta" in new.members
    assert "delta" not in old.members
    verify_succession(old, new)


def test_what_exists_is_not_made_anew() -> None:
    """An admin's typing error must not replace a member or a hash set."""
    with pytest.raises(AlreadyExistsError):
        registry().with_member("acme", member(), new=True)
    with pytest.raises(AlreadyExistsError):
        registry().with_hash_set("csam", CSAM, new=True)


def test_what_is_not_there_is_not_found() -> None:
    """Both kinds."""
    with pytest.raises(NotFoundError):
        registry().member("nobody")
    with pytest.raises(NotFoundError):
        registry().hash_set("nothing")


def test_the_lists_of_a_hash_set_are_views_by_algorithms() -> None:
    """Sorted, as publications write them."""
    names = [str(name) for name in registry().lists(HashSetId("csam"))]

    assert names == [
        "csam/all/md5",
        "csam/all/sha256",
        "csam/confirmed/md5",
        "csam/confirmed/sha256",
    ]


D = TypeVar("D", bound=Document)


def replaced(document: D, **fields: object) -> D:
    """The document with other fields."""
    return msgspec.structs.replace(document, **fields)


def with_set(**fields: object) -> Callable[[Registry], Registry]:
    """An edit of the hash set."""
    return lambda r: r.with_hash_set("csam", replaced(CSAM, **fields))


def with_acme(**fields: object) -> Callable[[Registry], Registry]:
    """An edit of a member."""
    return lambda r: r.with_member("acme", replaced(r.member("acme"), **fields))


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (with_set(algorithms=(HashAlgorithm.SHA256, HashAlgorithm.MD5)), MalformedError),
        (with_set(algorithms=()), MalformedError),
        (with_set(classifications=()), MalformedError),
        (with_set(classifications=("A1", "A1")), MalformedError),
        (with_set(contributors=("nobody",)), MalformedError),
        (with_set(views={"v": View(classifications=("Z9",))}), MalformedError),
        (with_set(views={"v": View(sources=("nobody",))}), MalformedError),
        (with_acme(roles=(Role.READER, Role.ADMIN)), MalformedError),
        (with_acme(submission_keys=(SMALL_ORDER_KEY,)), KeyUnsafeError),
        (with_acme(key_scopes={}), MalformedError),
        (with_acme(key_scopes={new_key(): KeyScope(name="bot")}), MalformedError),
        (
            lambda r: r.with_submission_key(
                "acme", new_key(), scope=KeyScope(name="bot", hash_sets=("b", "a"))
            ),
            MalformedError,
        ),
        (lambda r: r.with_member("-acme", member()), MalformedError),
        (lambda r: r.with_hash_set("CSAM", CSAM), MalformedError),
        (
            lambda r: r.with_member(
                "beta", replaced(r.member("beta"), submission_keys=r.governance.keys)
            ),
            KeyUnsafeError,
        ),
    ],
)
def test_a_registry_that_contradicts_itself_is_refused(
    edit: Callable[[Registry], Registry], error: type[HashshareError]
) -> None:
    """Unsorted or repeated, naming nothing, or with a key that is unsafe or used twice."""
    with pytest.raises(error):
        edit(registry())


def test_a_threshold_that_cannot_be_met_is_refused() -> None:
    """It would lock everybody out."""
    document = replaced(registry(), governance=Keys(keys=(new_key(),), threshold=2))

    with pytest.raises(MalformedError):
        parse_registry(encode_document(document))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"version": 1}, RegistryConflictError),
        ({"version": 3}, RegistryConflictError),
        ({"version": 2, "log": "other.example/log"}, MixAndMatchError),
        ({"version": 2, "coalition": "Other"}, MixAndMatchError),
        ({"version": 2, "members": {}}, MalformedError),
        ({"version": 2, "hash_sets": {}}, MalformedError),
    ],
)
def test_a_registry_must_follow_the_one_before(
    fields: dict[str, object], error: type[HashshareError]
) -> None:
    """The next version, of the same coalition, forgetting nothing."""
    old = registry()

    with pytest.raises(error):
        verify_succession(old, replaced(old, **fields))


def test_an_algorithm_stays_in_its_hash_set() -> None:
    """Its lists would end without a publication that empties them."""
    old = registry()
    new = old.with_hash_set("csam", replaced(CSAM, algorithms=(HashAlgorithm.MD5,)))

    with pytest.raises(MalformedError):
        verify_succession(old, new)

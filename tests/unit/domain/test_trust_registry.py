"""Which registry a client believes, and each attack that is refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.crypto import canonical
from hashshare.crypto.envelope import seal
from hashshare.crypto.keys import PrivateKey
from hashshare.domain.documents import encode_document
from hashshare.domain.hash_sets import HashSet
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.members import Member
from hashshare.domain.registry import Keys, Registry
from hashshare.domain.statements import (
    REGISTRY_TYPE,
    NamedDocument,
    RegistryStatement,
    seal_registry,
)
from hashshare.domain.trust import (
    accept_registry,
)
from hashshare.errors import (
    DigestMismatchError,
    HashshareError,
    MalformedError,
    MixAndMatchError,
    RegistryConflictError,
    SignatureInvalidError,
)

LOG = "coalition.example/log"
NOW = "2026-11-23T10:00:00Z"
GOVERNORS = [PrivateKey.generate() for _ in range(3)]
PUBLISHER, STRANGER = PrivateKey.generate(), PrivateKey.generate()


def registry(version: int = 1, **fields: object) -> Registry:
    """The coalition's registry, of which two governors have to sign the next version."""
    whole = Registry(
        coalition="Coalition",
        log=LOG,
        version=version,
        governance=Keys(keys=tuple(key.public.text for key in GOVERNORS), threshold=2),
        publishers=Keys(keys=(PUBLISHER.public.text,)),
        members={"acme": Member(name="Acme")},
        hash_sets={
            "csam": HashSet(
                title="CSAM", algorithms=(HashAlgorithm.SHA256,), classifications=("A1",)
            )
        },
    )
    # msgspec.structs.replace is untyped.
    replaced: Registry = msgspec.structs.replace(whole, **fields)
    return replaced


def sealed(document: Registry, *keys: PrivateKey) -> tuple[bytes, bytes]:
    """The statement and the document."""
    return seal_registry(document, list(keys) or GOVERNORS[:2], reason="a test", created_at=NOW)


def test_registries_are_accepted_one_after_another() -> None:
    """The first on the word of the governance that the invitation pinned."""
    first = accept_registry(*sealed(registry(1)), None, registry(1))
    second = accept_registry(*sealed(registry(2)), first)

    assert (first, second) == (registry(1), registry(2))


def test_a_registry_hands_governance_on() -> None:
    """After it, only the keys that it names count."""
    heir = Keys(keys=(STRANGER.public.text,))
    second = accept_registry(*sealed(registry(2, governance=heir)), registry(1))

    third = registry(3, governance=heir)
    assert accept_registry(*sealed(third, STRANGER), second) == third
    with pytest.raises(SignatureInvalidError):
        accept_registry(*sealed(third), second)


@pytest.mark.parametrize(
    "keys",
    [
        [GOVERNORS[0]],
        [GOVERNORS[0], GOVERNORS[0]],
        [GOVERNORS[0], STRANGER],
        [STRANGER],
        [PUBLISHER, STRANGER],
    ],
)
def test_a_registry_by_too_few_is_refused(keys: list[PrivateKey]) -> None:
    """One governor twice is one, and strangers count for nothing."""
    for before, governance in ((registry(1), None), (None, registry(1))):
        with pytest.raises(SignatureInvalidError):
            accept_registry(*sealed(registry(2), *keys), before, governance)


def test_a_registry_cannot_vouch_for_itself() -> None:
    """That it names the signer as governance does not help: the one before decides."""
    usurped = registry(2, governance=Keys(keys=(STRANGER.public.text,)))

    with pytest.raises(SignatureInvalidError):
        accept_registry(*sealed(usurped, STRANGER), registry(1))


@pytest.mark.parametrize("version", [1, 2, 4, 5])
def test_a_registry_out_of_order_is_refused(version: int) -> None:
    """One skipped, the same again, or rolled back."""
    with pytest.raises(RegistryConflictError):
        accept_registry(*sealed(registry(version)), registry(2))


@pytest.mark.parametrize(
    "fields", [{"log": "other.example/log"}, {"coalition": "Another"}], ids=["log", "coalition"]
)
def test_a_registry_of_another_coalition_is_refused(fields: dict[str, object]) -> None:
    """Though the same people govern both."""
    for before, governance in ((registry(1), None), (None, registry(1))):
        with pytest.raises(MixAndMatchError):
            accept_registry(*sealed(registry(2, **fields)), before, governance)


def test_a_document_of_another_log_than_its_statement_is_refused() -> None:
    """The statement's log is compared, and so is the document's."""
    foreign = encode_document(registry(2, log="other.example/log"))
    statement = RegistryStatement(
        created_at=NOW,
        document=NamedDocument(sha256=canonical.digest(foreign), size=len(foreign)),
        log=LOG,
        reason="a test",
        version=2,
    )
    envelope = seal(encode_document(statement), REGISTRY_TYPE, GOVERNORS).encode()

    for before, governance in ((registry(1), None), (None, registry(1))):
        with pytest.raises(MixAndMatchError):
            accept_registry(envelope, foreign, before, governance)


def test_another_document_than_the_one_that_is_signed_is_refused() -> None:
    """Genuine, of the same version, and in force nowhere."""
    envelope, _ = sealed(registry(2))
    _, other = sealed(registry(2, members={"acme": Member(name="Acme"), "evil": Member(name="E")}))

    with pytest.raises(DigestMismatchError):
        accept_registry(envelope, other, registry(1))


def test_a_statement_that_misstates_its_document_is_refused() -> None:
    """Of its version or its size, though governance signed it."""
    document = encode_document(registry(2))
    genuine = NamedDocument(sha256=canonical.digest(document), size=len(document))
    longer = NamedDocument(sha256=canonical.digest(document), size=len(document) + 1)
    attacks: list[tuple[NamedDocument, int, type[HashshareError]]] = [
        (genuine, 3, MalformedError),
        (longer, 2, DigestMismatchError),
    ]

    for named, version, error in attacks:
        statement = RegistryStatement(
            created_at=NOW, document=named, log=LOG, reason="a test", version=version
        )
        envelope = seal(encode_document(statement), REGISTRY_TYPE, GOVERNORS).encode()
        with pytest.raises(error):
            accept_registry(envelope, document, registry(1))


def test_a_registry_that_forgets_is_refused() -> None:
    """A member or a hash set that is gone could no longer be held to what it said."""
    nothing: list[dict[str, object]] = [{"members": {}}, {"hash_sets": {}}]

    for fields in nothing:
        with pytest.raises(MalformedError):
            accept_registry(*sealed(registry(2, **fields)), registry(1))


def test_a_registry_on_nobodys_word_is_a_mistake_of_ours() -> None:
    """Nothing would have been verified."""
    with pytest.raises(RuntimeError):
        accept_registry(*sealed(registry(1)), None)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_registry(data: bytes) -> None:
    """Neither as the statement nor as the document; no error but ours comes out."""
    envelope, document = sealed(registry(2))

    with pytest.raises(MalformedError):
        accept_registry(data, document, registry(1))
    with pytest.raises(DigestMismatchError):
        accept_registry(envelope, data, registry(1))

"""What makes a statement acceptable, and each way in which one is not."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.crypto import canonical
from hashshare.crypto.envelope import Envelope, parse_envelope, seal
from hashshare.crypto.keys import PrivateKey
from hashshare.domain.documents import Document, decode_document, encode_document
from hashshare.domain.hash_sets import HashSet
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.members import KeyScope, Member, Role, Status
from hashshare.domain.registry import Keys, Registry, parse_registry
from hashshare.domain.statements import (
    BATCH_MEDIA_TYPE,
    NO_PREVIOUS,
    PUBLICATION_TYPE,
    REGISTRY_TYPE,
    SUBMISSION_TYPE,
    BatchManifest,
    ChainHead,
    NamedDocument,
    Operation,
    Publication,
    PublishedList,
    RegistryStatement,
    Submission,
    id_of,
    read_publication,
    read_registry_statement,
    read_submission,
    verify_chain,
    verify_right,
)
from hashshare.errors import (
    HashshareError,
    MalformedError,
    MixAndMatchError,
    PermissionDeniedError,
    SequenceMismatchError,
    SignatureInvalidError,
    VerificationError,
)

ACME, BETA, GOVERNOR, PUBLISHER = (PrivateKey.generate() for _ in range(4))
LOG = "coalition.example/log"
NOW = "2026-11-23T10:00:00Z"

REGISTRY = Registry(
    coalition="Coalition",
    log=LOG,
    version=1,
    governance=Keys(keys=(GOVERNOR.public.text,)),
    publishers=Keys(keys=(PUBLISHER.public.text,)),
    members={
        "acme": Member(name="Acme", roles=(Role.CONTRIBUTOR,), submission_keys=(ACME.public.text,)),
        "beta": Member(name="Beta", roles=(Role.READER,), submission_keys=(BETA.public.text,)),
    },
    hash_sets={
        "csam": HashSet(title="CSAM", algorithms=(HashAlgorithm.SHA256,), classifications=("A1",))
    },
)
SUBMISSION = Submission(
    batch=BatchManifest(count=1, media_type=BATCH_MEDIA_TYPE, sha256="a" * 64, size=100),
    created_at=NOW,
    hash_set="csam",
    key_id=ACME.public.key_id,
    log=LOG,
    member="acme",
    operation=Operation.ASSERT,
    previous=NO_PREVIOUS,
    sequence=1,
)
PUBLICATION = Publication(
    created_at=NOW,
    hash_set="csam",
    lists=(
        PublishedList(algorithm=HashAlgorithm.SHA256, bits=0, count=0, root="b" * 64, view="all"),
    ),
    log=LOG,
    log_size=1,
    previous=NO_PREVIOUS,
    registry_version=1,
    version=1,
)


def sealed(document: Document, kind: str, *keys: PrivateKey) -> Envelope:
    """The statement, as it comes out of the network."""
    payload = encode_document(document)
    return parse_envelope(seal(payload, kind, list(keys)).encode())


def submission(key: PrivateKey = ACME, **fields: object) -> Envelope:
    """A submission that differs in some fields."""
    return sealed(msgspec.structs.replace(SUBMISSION, **fields), SUBMISSION_TYPE, key)


@pytest.mark.parametrize(
    ("scope", "accepted"),
    [
        (KeyScope(name="all"), True),
        (KeyScope(name="these", hash_sets=("csam", "other")), True),
        (KeyScope(name="another", hash_sets=("other",)), False),
        (KeyScope(name="none", hash_sets=()), False),
    ],
)
def test_a_key_submits_to_the_hash_sets_that_it_is_for(scope: KeyScope, accepted: bool) -> None:
    """Whoever reads the log holds it to that; a key beside it is not bounded."""
    other = PrivateKey.generate()
    bounded = REGISTRY.with_submission_key("acme", other.public.text, scope=scope)
    by_other = msgspec.structs.replace(SUBMISSION, key_id=other.public.key_id)

    assert parse_registry(encode_document(bounded)) == bounded
    verify_right(SUBMISSION, bounded)
    if accepted:
        verify_right(by_other, bounded)
    else:
        with pytest.raises(PermissionDeniedError, match="may not contribute to 'csam'"):
            verify_right(by_other, bounded)
    # It rules on nothing: people decide.
    rules = msgspec.structs.replace(by_other, operation=Operation.RULE)
    ruler = msgspec.structs.replace(bounded.member("acme"), roles=(Role.ADMIN, Role.CONTRIBUTOR))
    verify_right(
        msgspec.structs.replace(rules, key_id=ACME.public.key_id),
        bounded.with_member("acme", ruler),
    )
    with pytest.raises(PermissionDeniedError, match="may not rule on 'csam'"):
        verify_right(rules, bounded.with_member("acme", ruler))
    heir = PrivateKey.generate().public
    followed = bounded.with_submission_key("acme", heir.text, instead_of=other.public.text)
    assert followed.member("acme").scope_of(heir.key_id) == scope


def test_a_submission_of_a_member_is_read() -> None:
    """And its id depends on what is signed alone."""
    envelope = submission()

    assert read_submission(envelope, REGISTRY) == SUBMISSION
    assert id_of(envelope) == id_of(submission())
    verify_right(SUBMISSION, REGISTRY)
    verify_chain(SUBMISSION, ChainHead())


@pytest.mark.parametrize(
    ("envelope", "error"),
    [
        (submission(log="other.example/log"), MixAndMatchError),
        (submission(member="nobody"), PermissionDeniedError),
        (submission(member="beta"), SignatureInvalidError),
        (submission(BETA), SignatureInvalidError),
        (submission(BETA, key_id=BETA.public.key_id), SignatureInvalidError),
        (sealed(SUBMISSION, REGISTRY_TYPE, ACME), MalformedError),
        (sealed(PUBLICATION, SUBMISSION_TYPE, ACME), MalformedError),
        (sealed(SUBMISSION, SUBMISSION_TYPE, ACME, BETA), MalformedError),
        (
            submission(batch=msgspec.structs.replace(SUBMISSION.batch, media_type="text/csv")),
            MalformedError,
        ),
        (submission(created_at="2026-02-30T10:00:00Z"), MalformedError),
        (submission(created_at="2026-11-23T10:00:00+00:00"), MalformedError),
        (submission(sequence=0), MalformedError),
        (submission(hash_set="CSAM"), MalformedError),
        (submission(previous="A" * 64), MalformedError),
    ],
)
def test_a_submission_that_is_not_the_members_own_is_refused(
    envelope: Envelope, error: type[HashshareError]
) -> None:
    """Of another log, member, key or kind, or in another form."""
    with pytest.raises(error):
        read_submission(envelope, REGISTRY)


def test_a_reader_may_not_contribute() -> None:
    """And a hash set that is not there is answered the same."""
    reader = msgspec.structs.replace(SUBMISSION, member="beta")
    elsewhere = msgspec.structs.replace(SUBMISSION, hash_set="nothing")

    for refused in (reader, elsewhere):
        with pytest.raises(PermissionDeniedError, match="may not contribute"):
            verify_right(refused, REGISTRY)


def test_a_suspended_member_may_not_contribute() -> None:
    """Its keys still verify what it said before."""
    acme = msgspec.structs.replace(REGISTRY.member("acme"), status=Status.SUSPENDED)
    registry = REGISTRY.with_member("acme", acme)

    assert read_submission(submission(), registry) == SUBMISSION
    with pytest.raises(PermissionDeniedError, match="not active"):
        verify_right(SUBMISSION, registry)


@pytest.mark.parametrize(
    "head", [ChainHead(1, "c" * 64), ChainHead(0, "c" * 64), ChainHead(1, NO_PREVIOUS)]
)
def test_a_submission_out_of_order_is_told_what_is_next(head: ChainHead) -> None:
    """So that the client can sign again."""
    with pytest.raises(SequenceMismatchError) as caught:
        verify_chain(SUBMISSION, head)

    assert (caught.value.sequence, caught.value.previous) == (head.sequence + 1, head.last_id)


def test_a_publication_of_a_publisher_is_read() -> None:
    """And finds its lists by name."""
    envelope = sealed(PUBLICATION, PUBLICATION_TYPE, PUBLISHER)
    publication = read_publication(envelope, [PUBLISHER.public], LOG)

    assert publication == PUBLICATION
    assert publication.find("all", HashAlgorithm.SHA256) == PUBLICATION.lists[0]
    assert publication.find("all", HashAlgorithm.MD5) is None


def test_a_publication_by_a_stranger_or_of_another_log_is_refused() -> None:
    """A genuine signature by another key of the coalition does not help."""
    with pytest.raises(SignatureInvalidError):
        read_publication(sealed(PUBLICATION, PUBLICATION_TYPE, ACME), [PUBLISHER.public], LOG)
    with pytest.raises(MixAndMatchError):
        read_publication(
            sealed(PUBLICATION, PUBLICATION_TYPE, PUBLISHER), [PUBLISHER.public], "other"
        )


def test_a_publication_with_a_list_twice_is_refused() -> None:
    """Two states of one list would let the server choose later."""
    twice = msgspec.structs.replace(PUBLICATION, lists=PUBLICATION.lists * 2)

    with pytest.raises(MalformedError):
        read_publication(sealed(twice, PUBLICATION_TYPE, PUBLISHER), [PUBLISHER.public], LOG)


def test_a_registry_statement_needs_the_threshold_of_governance() -> None:
    """The publisher cannot change who the members are."""
    statement = RegistryStatement(
        created_at=NOW,
        document=NamedDocument(sha256="d" * 64, size=10),
        log=LOG,
        reason="a test",
        version=2,
    )

    assert (
        read_registry_statement(sealed(statement, REGISTRY_TYPE, GOVERNOR), REGISTRY) == statement
    )
    with pytest.raises(SignatureInvalidError):
        read_registry_statement(sealed(statement, REGISTRY_TYPE, PUBLISHER), REGISTRY)
    elsewhere = msgspec.structs.replace(statement, log="other.example/log")
    with pytest.raises(MixAndMatchError):
        read_registry_statement(sealed(elsewhere, REGISTRY_TYPE, GOVERNOR), REGISTRY)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_statement(data: bytes) -> None:
    """No error but ours comes out."""
    for kind in (Submission, Publication, RegistryStatement):
        with suppress(MalformedError):
            decode_document(data, kind)


@given(st.integers(0), st.integers(0, 7))
def test_one_flipped_bit_anywhere_is_refused(position: int, bit: int) -> None:
    """In the payload, its type, the key id or the signature."""
    data = bytearray(submission().encode())
    data[position % len(data)] ^= 1 << bit

    with pytest.raises((MalformedError, VerificationError, PermissionDeniedError)):
        read_submission(parse_envelope(bytes(data)), REGISTRY)


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=4))
def test_unknown_fields_are_refused(fields: dict[str, canonical.JsonValue]) -> None:
    """A field that one version ignores and another obeys would split the readers."""
    known = canonical.decode(encode_document(SUBMISSION), max_bytes=10_000)
    extra = {name: value for name, value in fields.items() if name not in known}
    with suppress(MalformedError):
        data = canonical.encode(known | extra)
        if extra:
            with pytest.raises(MalformedError):
                decode_document(data, Submission)

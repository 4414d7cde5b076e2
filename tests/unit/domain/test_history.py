"""What the whole log comes to, and each leaf that may not stand where it does."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.crypto.envelope import parse_envelope, seal
from hashshare.crypto.keys import PrivateKey
from hashshare.crypto.merkle import leaf_hash, root_of
from hashshare.crypto.note import NoteVerifier
from hashshare.domain.documents import encode_document
from hashshare.domain.hash_sets import HashSet
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.history import History, named_documents
from hashshare.domain.joining import Recovery, Trust
from hashshare.domain.members import Member, Role, Status
from hashshare.domain.policy import View
from hashshare.domain.registry import Keys, Registry
from hashshare.domain.statements import (
    BATCH_MEDIA_TYPE,
    NO_PREVIOUS,
    PUBLICATION_TYPE,
    REDACTION_TYPE,
    SUBMISSION_TYPE,
    BatchManifest,
    Operation,
    Publication,
    Redaction,
    Submission,
    id_of,
    seal_registry,
)
from hashshare.errors import (
    HashshareError,
    MalformedError,
    RegistryConflictError,
    SignatureInvalidError,
    VerificationError,
)

LOG, NOW = "coalition.example/log", "2026-11-23T10:00:00Z"
GOVERNOR, HEIR, PUBLISHER, NEXT_PUBLISHER, ACME, SECOND, BETA, STRANGER = (
    PrivateKey.generate() for _ in range(8)
)
TRUST = Trust(
    ca="",
    coalition="Coalition",
    governance=Keys(keys=(GOVERNOR.public.text,)),
    log=LOG,
    log_key=str(NoteVerifier(LOG, PrivateKey.generate().public)),
    publishers=Keys(keys=(PUBLISHER.public.text,)),
)
CONTRIBUTOR = (Role.CONTRIBUTOR,)
GENESIS = Registry(
    coalition="Coalition",
    log=LOG,
    version=1,
    governance=TRUST.governance,
    publishers=TRUST.publishers,
    members={
        "acme": Member(
            name="Acme",
            roles=CONTRIBUTOR,
            submission_keys=(ACME.public.text, SECOND.public.text),
        ),
        "beta": Member(name="Beta", roles=CONTRIBUTOR, submission_keys=(BETA.public.text,)),
    },
    hash_sets={
        "csam": HashSet(
            title="CSAM",
            algorithms=(HashAlgorithm.SHA256,),
            classifications=("A1",),
            views={"all": View()},
        )
    },
)


class Maker:
    """Makes a log that is right."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []
        self.documents: dict[str, bytes] = {}
        self.registry = GENESIS
        self.heads: dict[str, tuple[int, str]] = {}
        self.published: tuple[int, str] = (0, NO_PREVIOUS)
        self.registry_leaves: list[int] = []
        self.govern(GENESIS)

    def govern(self, registry: Registry, key: PrivateKey = GOVERNOR) -> None:
        """Put a version of the registry into force."""
        envelope, document = seal_registry(registry, [key], reason="test", created_at=NOW)
        self.registry_leaves.append(len(self.leaves))
        self.leaves.append(envelope)
        (named,) = named_documents([envelope])
        self.documents[named[1].sha256] = document
        self.registry = registry

    def submit(self, member: str, key: PrivateKey, **fields: object) -> None:
        """Append the member's next submission."""
        sequence, previous = self.heads.get(member, (0, NO_PREVIOUS))
        submission = Submission(
            batch=BatchManifest(count=1, media_type=BATCH_MEDIA_TYPE, sha256="a" * 64, size=9),
            created_at=NOW,
            hash_set="csam",
            key_id=key.public.key_id,
            log=LOG,
            member=member,
            operation=Operation.ASSERT,
            previous=previous,
            sequence=sequence + 1,
        )
        changed: Submission = msgspec.structs.replace(submission, **fields)
        envelope = seal(encode_document(changed), SUBMISSION_TYPE, [key])
        self.heads[member] = (sequence + 1, id_of(envelope))
        self.leaves.append(envelope.encode())

    def publish(self, key: PrivateKey = PUBLISHER) -> None:
        """Append the next publication."""
        publication = Publication(
            created_at=NOW,
            hash_set="csam",
            lists=(),
            log=LOG,
            log_size=len(self.leaves),
            previous=self.published[1],
            registry_version=self.registry.version,
            version=self.published[0] + 1,
        )
        envelope = seal(encode_document(publication), PUBLICATION_TYPE, [key])
        self.published = (publication.version, id_of(envelope))
        self.leaves.append(envelope.encode())

    def redact(self, key: PrivateKey = GOVERNOR) -> None:
        """Append a redaction."""
        redaction = Redaction(
            batch="a" * 64, created_at=NOW, log=LOG, reason="court", submission="b" * 64
        )
        self.leaves.append(seal(encode_document(redaction), REDACTION_TYPE, [key]).encode())


def whole_log() -> Maker:
    """Every kind of statement, and the rotation of each key that the registry holds."""
    made = Maker()
    made.publish()
    made.submit("acme", ACME)
    made.submit("beta", BETA)
    made.submit("acme", SECOND)
    made.publish()
    made.govern(made.registry.without_key("acme", ACME.public.text))
    made.submit("acme", SECOND)
    made.redact()
    made.govern(
        made.registry.with_keys(
            governance=Keys(keys=(HEIR.public.text,)),
            publishers=Keys(keys=(NEXT_PUBLISHER.public.text,)),
        )
    )
    made.publish(NEXT_PUBLISHER)
    made.redact(HEIR)
    made.govern(
        made.registry.with_member(
            "beta",
            msgspec.structs.replace(made.registry.members["beta"], status=Status.SUSPENDED),
        ),
        HEIR,
    )
    made.submit("acme", SECOND)
    made.publish(NEXT_PUBLISHER)
    return made


MADE = whole_log()


def read(leaves: list[bytes], trust: Trust = TRUST) -> History:
    """Read leaves from the beginning."""
    history = History(trust)
    history.extend(leaves, MADE.documents)
    return history


def test_the_whole_log_is_read() -> None:
    """Each statement is accepted in its place, under the registry of that place."""
    history = read(MADE.leaves)

    assert history.frontier.root() == root_of([leaf_hash(leaf) for leaf in MADE.leaves])
    assert history.registry == MADE.registry
    assert history.registry_indexes == MADE.registry_leaves
    assert {m: (h.sequence, h.last_id) for m, h in history.chains.items()} == MADE.heads
    accepted = history.publications["csam"]  # type: ignore[index]
    assert (accepted.publication.version, accepted.statement_id) == MADE.published


@given(st.integers(0, len(MADE.leaves)), st.integers(0, len(MADE.leaves)))
def test_reading_goes_on_where_it_was_written_down(one: int, other: int) -> None:
    """In as many parts as one likes, what is known in the end is the same."""
    first, second = sorted([one, other])
    history = read(MADE.leaves[:first])
    for part in (MADE.leaves[first:second], MADE.leaves[second:]):
        history = History.decode(TRUST, history.encode(), history.registry_document)
        history.extend(part, MADE.documents)

    assert history.encode() == read(MADE.leaves).encode()


SPOILED = {
    "left out": lambda leaves, n, m: leaves[:n] + leaves[n + 1 :],
    "repeated": lambda leaves, n, m: leaves[: n + 1] + leaves[n:],
    "moved": lambda leaves, n, m: _move(leaves, n, m),
}


def _move(leaves: list[bytes], n: int, m: int) -> list[bytes]:
    rest = leaves[:n] + leaves[n + 1 :]
    return [*rest[:m], leaves[n], *rest[m:]]


@pytest.mark.parametrize("how", SPOILED)
@given(st.integers(0, len(MADE.leaves) - 1), st.integers(0, len(MADE.leaves) - 1))
def test_no_other_order_gives_the_same_history(how: str, n: int, m: int) -> None:
    """A leaf that is left out, repeated or moved is refused, or shows in the root."""
    leaves = SPOILED[how](MADE.leaves, n, m)  # type: ignore[no-untyped-call]
    if leaves == MADE.leaves:
        return
    try:
        history = read(leaves)
    except HashshareError:
        return
    assert history.frontier.root() != read(MADE.leaves).frontier.root()


INTRUDERS: dict[str, Callable[[Maker], None]] = {
    "a retired key": lambda made: made.submit("acme", ACME),
    "a suspended member": lambda made: made.submit("beta", BETA),
    "another member's key": lambda made: made.submit("acme", BETA),
    "a stranger's key": lambda made: made.submit("acme", STRANGER),
    "a gap": lambda made: made.submit("acme", SECOND, sequence=9),
    "another predecessor": lambda made: made.submit("acme", SECOND, previous="c" * 64),
    "no such hash set": lambda made: made.submit("acme", SECOND, hash_set="other"),
    "another log": lambda made: made.submit("acme", SECOND, log="other.example/log"),
    "the former publisher": lambda made: made.publish(PUBLISHER),
    "a member publishes": lambda made: made.publish(ACME),
    "the former governors": lambda made: made.govern(made.registry.with_keys()),
    "a version is skipped": lambda made: made.govern(made.registry.with_keys().with_keys(), HEIR),
    "a redaction by a member": lambda made: made.redact(SECOND),
}


@pytest.mark.parametrize("intrude", INTRUDERS.values(), ids=INTRUDERS)
def test_what_may_not_stand_in_the_log_is_refused(intrude: Callable[[Maker], None]) -> None:
    """Though the log's own key signs the tree over it."""
    history, made = read(MADE.leaves), whole_log()
    intrude(made)
    with pytest.raises(HashshareError) as caught:
        history.extend(made.leaves[len(MADE.leaves) :], made.documents)
    assert caught.value.__notes__ == [f"leaf {len(MADE.leaves)} of the log"]


def test_a_log_begins_with_the_first_registry() -> None:
    """Not with a submission, nor with a later version."""
    for start in (1, 2, MADE.registry_leaves[1]):
        with pytest.raises(VerificationError):
            read(MADE.leaves[start:])


def test_a_registry_that_was_not_given_is_not_skipped() -> None:
    """Without its document nothing after it can be verified."""
    with pytest.raises(VerificationError, match="not given"):
        History(TRUST).extend(MADE.leaves, {})


def test_governance_is_recovered_by_the_trust_document() -> None:
    """Keys that are lost, or stolen, sign nothing from the version on that it names."""
    made = Maker()
    usurped = made.registry.with_keys(governance=Keys(keys=(STRANGER.public.text,)))
    made.govern(usurped, GOVERNOR)
    rescued = usurped.with_keys(governance=Keys(keys=(HEIR.public.text,)))
    made.govern(rescued, HEIR)
    recovery = Recovery(governance=Keys(keys=(HEIR.public.text,)), version=3)
    trust: Trust = msgspec.structs.replace(TRUST, recoveries=(recovery,))

    history = History(trust)
    history.extend(made.leaves, made.documents)
    assert history.registry == rescued
    with pytest.raises(SignatureInvalidError):
        History(TRUST).extend(made.leaves, made.documents)
    # The thief's next version, under the same trust document.
    made.leaves.pop()
    made.govern(usurped.with_keys(), STRANGER)
    with pytest.raises(SignatureInvalidError):
        History(trust).extend(made.leaves, made.documents)


def test_what_was_signed_before_a_key_was_retired_stays_attributed() -> None:
    """By its place in the log, whatever the registry says today."""
    history = read(MADE.leaves)
    retired_at = MADE.registry_leaves[1]
    before = history.registry_of("acme", log_index=retired_at - 1)
    after = history.registry_of("acme", log_index=retired_at)

    assert ACME.public.text in before.members["acme"].submission_keys
    assert ACME.public.text not in after.members["acme"].submission_keys
    with pytest.raises(VerificationError):
        history.registry_of("nobody", log_index=1)


def _with(**fields: object) -> Callable[[Member], Member]:
    return lambda member: msgspec.structs.replace(member, **fields)


FORGOTTEN: dict[str, tuple[str, Callable[[Member], Member]]] = {
    "vanishes": ("acme", _with(retired_keys={})),
    "comes back": ("acme", _with(submission_keys=(SECOND.public.text, ACME.public.text))),
    "moves to another": ("beta", _with(submission_keys=(BETA.public.text, ACME.public.text))),
    "is retired early": (
        "acme",
        _with(submission_keys=(), retired_keys={ACME.public.text: 2, SECOND.public.text: 1}),
    ),
}


@pytest.mark.parametrize(("member", "change"), FORGOTTEN.values(), ids=FORGOTTEN)
def test_a_key_cannot_be_forgotten(member: str, change: Callable[[Member], Member]) -> None:
    """It is retired for good, at the version that says so."""
    retired = GENESIS.without_key("acme", ACME.public.text)
    with pytest.raises(HashshareError):
        _follow(retired, **{member: change(retired.members[member])})


def _follow(before: Registry, **members: Member) -> None:
    made = Maker()
    made.govern(before)
    after: Registry = msgspec.structs.replace(
        before, version=before.version + 1, members=dict(before.members) | members
    )
    made.govern(after)
    History(TRUST).extend(made.leaves, made.documents)


def test_a_registry_twice_is_refused() -> None:
    """The same version again, by the same governors."""
    made = Maker()
    made.govern(GENESIS)
    with pytest.raises(RegistryConflictError):
        History(TRUST).extend(made.leaves, made.documents)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_leaf_and_no_history(data: bytes) -> None:
    """No error but ours comes out."""
    with pytest.raises(MalformedError):
        read([MADE.leaves[0], data])
    with pytest.raises(MalformedError):
        History.decode(TRUST, data, b"")
    with pytest.raises(MalformedError):
        named_documents([b"application/vnd.hashshare.registry.v1+json" + data])


def test_leaves_name_their_registries() -> None:
    """And nothing else does."""
    versions = [version for version, _ in named_documents(MADE.leaves)]
    assert versions == [1, 2, 3, 4]
    assert parse_envelope(MADE.leaves[0]).signatures

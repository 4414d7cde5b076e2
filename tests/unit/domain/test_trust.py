"""What a client believes of the log and of publications, and each attack that is refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.crypto import merkle
from hashshare.crypto.envelope import seal
from hashshare.crypto.keys import PrivateKey
from hashshare.crypto.note import Checkpoint, NoteSigner, sign_checkpoint, verify_checkpoint
from hashshare.domain.documents import encode_document
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.statements import (
    NO_PREVIOUS,
    PUBLICATION_TYPE,
    Publication,
    PublishedList,
    id_of,
)
from hashshare.domain.trust import (
    NEVER,
    AcceptedPublication,
    verify_growth,
    verify_progress,
)
from hashshare.errors import (
    EquivocationError,
    HashshareError,
    MalformedError,
    MixAndMatchError,
    RollbackError,
    SignatureInvalidError,
    VerificationError,
)

LOG = "coalition.example/log"
NOW = "2026-11-23T10:00:00Z"
LOG_SIGNER = NoteSigner(LOG, PrivateKey.generate())
GOVERNOR, PUBLISHER, STRANGER = (PrivateKey.generate() for _ in range(3))

LEAVES = [b"leaf %d" % n for n in range(40)]
"""What the honest log comes to hold."""

sizes = st.integers(0, len(LEAVES))


def root_of(leaves: list[bytes]) -> bytes:
    """The root of a log with these leaves."""
    return merkle.root_of([merkle.leaf_hash(leaf) for leaf in leaves])


def proof_of(leaves: list[bytes], ranges: list[merkle.Range]) -> list[bytes]:
    """The hashes of a proof."""
    return [root_of(leaves[start:end]) for start, end in ranges]


def consistency(old: int, new: int, leaves: list[bytes] = LEAVES) -> list[bytes]:
    """The proof that a log of ``new`` leaves extends one of ``old``."""
    return proof_of(leaves, merkle.consistency_ranges(old, new))


def checkpoint(size: int, leaves: list[bytes] = LEAVES) -> Checkpoint:
    """What the log of the first ``size`` leaves commits to."""
    return Checkpoint(LOG, size, root_of(leaves[:size]))


def signed(size: int, leaves: list[bytes] = LEAVES, signer: NoteSigner = LOG_SIGNER) -> bytes:
    """That, as the log signs it."""
    return sign_checkpoint(checkpoint(size, leaves), signer)


def accepted(
    note: bytes, known: Checkpoint = NEVER, proof: list[bytes] | None = None
) -> Checkpoint:
    """Accept a checkpoint of the log."""
    checkpoint = verify_checkpoint(note, LOG_SIGNER.verifier)
    verify_growth(known, checkpoint, proof=proof)
    return checkpoint


@given(sizes, sizes)
def test_a_log_that_grew_is_accepted(one: int, other: int) -> None:
    """From any size to any that is not smaller, also the same again."""
    old, new = sorted((one, other))
    known = accepted(signed(old))

    assert known == checkpoint(old)
    assert accepted(signed(new), known, consistency(old, new)) == checkpoint(new)


@given(sizes, sizes)
def test_rollback_of_the_log_is_refused(one: int, other: int) -> None:
    """A genuine checkpoint that is older than the one that is known."""
    old, new = sorted((one, other))
    if old == new:
        return

    with pytest.raises(RollbackError):
        accepted(signed(old), checkpoint(new), consistency(old, new))


@given(st.integers(1, len(LEAVES)), st.integers(0, len(LEAVES) - 1))
def test_equivocation_at_one_size_is_refused(size: int, place: int) -> None:
    """Another leaf anywhere, signed by the log itself."""
    forked = LEAVES[:size]
    forked[place % size] = b"another"

    with pytest.raises(EquivocationError):
        accepted(signed(size, forked), checkpoint(size))
    with pytest.raises(EquivocationError):
        accepted(signed(size, forked), checkpoint(size), consistency(size, size))


def test_an_empty_log_with_contents_is_refused() -> None:
    """Of size 0, but with a root of something, when nothing is known yet."""
    note = sign_checkpoint(Checkpoint(LOG, 0, b"r" * 32), LOG_SIGNER)

    with pytest.raises(EquivocationError):
        accepted(note)


@given(st.data())
def test_equivocation_behind_growth_is_refused(data: st.DataObject) -> None:
    """A log that rewrote what is known finds no proof, neither its own nor the honest one."""
    old = data.draw(st.integers(1, len(LEAVES) - 1))
    new = data.draw(st.integers(old + 1, len(LEAVES)))
    forked = LEAVES.copy()
    forked[data.draw(st.integers(0, old - 1))] = b"another"

    for proof in (consistency(old, new, forked), consistency(old, new)):
        with pytest.raises(EquivocationError):
            accepted(signed(new, forked), checkpoint(old), proof)


@given(st.data())
def test_growth_without_its_very_proof_is_refused(data: st.DataObject) -> None:
    """Missing, empty, cut, longer, in another order, of other sizes, or with one bit flipped."""
    old = data.draw(st.integers(1, len(LEAVES) - 1))
    new = data.draw(st.integers(old + 1, len(LEAVES)))
    proof = consistency(old, new)
    place = data.draw(st.integers(0, len(proof) - 1))
    flipped = proof.copy()
    flipped[place] = bytes([proof[place][0] ^ 1]) + proof[place][1:]
    faulty = [None, [], proof[:-1], proof[1:], [*proof, proof[0]], flipped]
    faulty += [p for p in (proof[::-1], consistency(old, new - 1)) if p != proof]

    for wrong in faulty:
        with pytest.raises(EquivocationError):
            accepted(signed(new), checkpoint(old), wrong)


def test_a_checkpoint_of_another_log_or_key_is_refused() -> None:
    """The origin is in the text and in the signer's name: neither alone may differ."""
    elsewhere = "other.example/log"
    other_log = NoteSigner(elsewhere, LOG_SIGNER.key)
    other_key = NoteSigner(LOG, STRANGER)
    foreign = sign_checkpoint(Checkpoint(elsewhere, 3, root_of(LEAVES[:3])), LOG_SIGNER)

    for note in (signed(3, signer=other_log), signed(3, signer=other_key)):
        with pytest.raises(SignatureInvalidError):
            accepted(note)
    with pytest.raises(MixAndMatchError):
        accepted(foreign)


@given(st.integers(0), st.integers(0, 7))
def test_one_flipped_bit_of_a_checkpoint_is_refused(position: int, bit: int) -> None:
    """In the origin, the size, the root, or the signature."""
    note = bytearray(signed(5))
    note[position % len(note)] ^= 1 << bit

    with pytest.raises((MalformedError, VerificationError)):
        accepted(bytes(note))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_checkpoint(data: bytes) -> None:
    """No error but ours comes out."""
    with pytest.raises(MalformedError):
        accepted(data)


PUBLICATION = Publication(
    created_at=NOW,
    hash_set="csam",
    lists=(
        PublishedList(algorithm=HashAlgorithm.SHA256, bits=0, count=0, root="b" * 64, view="all"),
    ),
    log=LOG,
    log_size=4,
    previous=NO_PREVIOUS,
    registry_version=1,
    version=1,
)


def publication(**fields: object) -> Publication:
    """A publication that differs in some fields."""
    replaced: Publication = msgspec.structs.replace(PUBLICATION, **fields)
    return replaced


def held(log_index: int = 4, **fields: object) -> AcceptedPublication:
    """A publication that was accepted."""
    made = publication(**fields)
    envelope = seal(encode_document(made), PUBLICATION_TYPE, [PUBLISHER])
    return AcceptedPublication(made, id_of(envelope), log_index)


OLD = held(version=5, log_size=40, registry_version=3)


@pytest.mark.parametrize(
    "new",
    [
        OLD,
        held(version=6, log_size=41, registry_version=3, previous=OLD.statement_id),
        held(version=6, log_size=40, registry_version=4, previous=OLD.statement_id),
        # What is between was not seen, so that its predecessor cannot be compared.
        held(version=9, log_size=50, registry_version=3, previous="c" * 64),
    ],
    ids=["same", "next", "same log", "later"],
)
def test_a_publication_that_follows_is_accepted(new: AcceptedPublication) -> None:
    """The same again, the next, or a later one; and any when none is held."""
    verify_progress(new, OLD)
    verify_progress(new, None)


@pytest.mark.parametrize(
    ("new", "error"),
    [
        (held(version=4, log_size=40, registry_version=3), RollbackError),
        (held(version=4, log_size=50, registry_version=3), RollbackError),
        (held(version=6, log_size=39, registry_version=3), RollbackError),
        (held(version=6, log_size=41, registry_version=2), RollbackError),
        (held(version=5, log_size=41, registry_version=3), EquivocationError),
        (held(version=6, log_size=41, registry_version=3, previous="c" * 64), EquivocationError),
    ],
    ids=["version", "version, more log", "log", "registry", "same version", "predecessor"],
)
def test_a_publication_that_does_not_follow_is_refused(
    new: AcceptedPublication, error: type[HashshareError]
) -> None:
    """Rolled back in version, log or registry, or on another branch."""
    with pytest.raises(error):
        verify_progress(new, OLD)

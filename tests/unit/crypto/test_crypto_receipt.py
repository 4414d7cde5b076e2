"""Receipts: a leaf's place in the log, without the server."""

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.crypto import merkle
from hashshare.crypto.keys import PrivateKey
from hashshare.crypto.note import MAX_NOTE_BYTES, Checkpoint, NoteSigner, sign_checkpoint
from hashshare.crypto.receipt import Receipt, parse_receipt, verify_receipt
from hashshare.errors import (
    MalformedError,
    MixAndMatchError,
    ProofInvalidError,
    SignatureInvalidError,
    VerificationError,
)

LOG = NoteSigner("coalition.example/log", PrivateKey.generate())
ENTRIES = [b"entry %d" % number for number in range(40)]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]


def _receipt(index: int, size: int, *, origin: str = LOG.name, signer: NoteSigner = LOG) -> Receipt:
    spans = merkle.inclusion_ranges(index, size)
    proof = tuple(merkle.root_of(LEAVES[start:end]) for start, end in spans)
    checkpoint = Checkpoint(origin, size, merkle.root_of(LEAVES[:size]))
    return Receipt(index, proof, sign_checkpoint(checkpoint, signer))


places = st.integers(1, len(ENTRIES)).flatmap(
    lambda size: st.tuples(st.integers(0, size - 1), st.just(size))
)


@given(places)
def test_a_receipt_is_read_as_it_was_written(place: tuple[int, int]) -> None:
    """And holds for its leaf, and for no other."""
    receipt = _receipt(*place)

    assert parse_receipt(receipt.encode()) == receipt
    assert verify_receipt(receipt, ENTRIES[place[0]], LOG.verifier).size == place[1]
    with pytest.raises(ProofInvalidError):
        verify_receipt(receipt, b"another", LOG.verifier)


def test_the_form_of_a_receipt() -> None:
    """tlog-proof@v1, without extra data: four kinds of lines, then the checkpoint."""
    receipt = _receipt(2, 3)
    sibling = base64.b64encode(merkle.root_of(LEAVES[:2])).decode()

    head = f"c2sp.org/tlog-proof@v1\nindex 2\n{sibling}\n\n".encode()

    assert receipt.encode() == head + receipt.checkpoint
    assert _receipt(0, 1).encode().startswith(b"c2sp.org/tlog-proof@v1\nindex 0\n\ncoalition")


@pytest.mark.parametrize("place", [(0, 1), (4, 5), (2, 7)])
def test_one_flipped_bit_anywhere_is_refused(place: tuple[int, int]) -> None:
    """Every single one."""
    data = _receipt(*place).encode()

    for bit in range(8 * len(data)):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises((MalformedError, VerificationError)):
            verify_receipt(parse_receipt(bytes(spoilt)), ENTRIES[place[0]], LOG.verifier)


@given(st.binary() | places.map(lambda place: _receipt(*place).encode()), st.data())
def test_any_bytes_are_a_receipt_or_refused(data: bytes, draw: st.DataObject) -> None:
    """No other error comes out, and what is accepted is written as it was."""
    cut = draw.draw(st.integers(0, len(data)))

    for candidate in (data, data[:cut], data[cut:]):
        with suppress(MalformedError, VerificationError):
            receipt = parse_receipt(candidate)
            assert receipt.encode() == candidate
            verify_receipt(receipt, ENTRIES[0], LOG.verifier)


HEAD, HASH = b"c2sp.org/tlog-proof@v1\n", base64.b64encode(bytes(32)) + b"\n"
NOTE = b"\n" + _receipt(0, 1).checkpoint
MALFORMED = {
    "nothing": b"",
    "only the first line": HEAD,
    "no index": HEAD + NOTE,
    "no blank line": HEAD + b"index 0\n",
    "another version": b"c2sp.org/tlog-proof@v2\nindex 0\n" + NOTE,
    "extra data": HEAD + b"extra AAAA\nindex 0\n" + NOTE,
    "a leading zero": HEAD + b"index 00\n" + NOTE,
    "a negative index": HEAD + b"index -1\n" + NOTE,
    "a plus": HEAD + b"index +1\n" + NOTE,
    "a long index": HEAD + b"index " + b"9" * 5000 + b"\n" + NOTE,
    "a space after it": HEAD + b"index 0 \n" + NOTE,
    "carriage returns": HEAD + b"index 0\r\n" + NOTE,
    "not ASCII": HEAD + "index ٠\n".encode() + NOTE,
    "a short hash": HEAD + b"index 0\n" + base64.b64encode(bytes(31)) + b"\n" + NOTE,
    "not base64": HEAD + b"index 0\n!\n" + NOTE,
    "more hashes than a tree is high": HEAD + b"index 0\n" + 64 * HASH + NOTE,
    "too long": HEAD + b"index 0\n\n" + bytes(2 * MAX_NOTE_BYTES),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_other_forms_are_refused(data: bytes) -> None:
    """A receipt has one spelling, and no unsigned extra data."""
    with pytest.raises(MalformedError):
        parse_receipt(data)


def test_the_highest_tree_is_accepted() -> None:
    """63 hashes are read, though they prove nothing here."""
    receipt = parse_receipt(HEAD + b"index 0\n" + 63 * HASH + NOTE)

    with pytest.raises(ProofInvalidError):
        verify_receipt(receipt, ENTRIES[0], LOG.verifier)


def test_another_log_cannot_give_the_receipt() -> None:
    """Neither under its own name, nor under this one."""
    other = NoteSigner("other.example/log", PrivateKey.generate())

    with pytest.raises(SignatureInvalidError):
        verify_receipt(_receipt(2, 7, signer=other), ENTRIES[2], LOG.verifier)
    with pytest.raises(MixAndMatchError):
        verify_receipt(_receipt(2, 7, origin=other.name), ENTRIES[2], LOG.verifier)


def test_a_receipt_of_another_size_is_refused() -> None:
    """Proof and checkpoint must belong together."""
    mixed = Receipt(2, _receipt(2, 7).proof, _receipt(2, 12).checkpoint)

    with pytest.raises(ProofInvalidError):
        verify_receipt(mixed, ENTRIES[2], LOG.verifier)


def test_a_receipt_for_no_leaf_is_refused() -> None:
    """An index beyond the checkpoint's size, or in an empty log."""
    empty = Receipt(0, (), _receipt(0, 1).checkpoint)
    nothing = Checkpoint(LOG.name, 0, merkle.EMPTY_ROOT)

    for receipt in (
        Receipt(1, (), empty.checkpoint),
        Receipt(0, (), sign_checkpoint(nothing, LOG)),
    ):
        with pytest.raises(ProofInvalidError):
            verify_receipt(receipt, ENTRIES[0], LOG.verifier)

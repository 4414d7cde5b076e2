"""Receipts: a leaf's place in the log, provable without the server.

Source: C2SP tlog-proof@v1.
"""

import re
from dataclasses import dataclass
from typing import Final

from hashshare.crypto import merkle
from hashshare.crypto.encoding import decode_base64, encode_base64
from hashshare.crypto.note import MAX_NOTE_BYTES, Checkpoint, NoteVerifier, verify_checkpoint
from hashshare.errors import MalformedError

_HEADER: Final = "c2sp.org/tlog-proof@v1"
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,17})")
MAX_PROOF: Final = 63


@dataclass(frozen=True, slots=True)
class Receipt:
    """An inclusion proof under a signed checkpoint.

    Attributes:
        index: Of the leaf.
        proof: Leaf to root, 32 bytes each.
        checkpoint: A signed note.
    """

    index: int
    proof: tuple[bytes, ...]
    checkpoint: bytes

    def encode(self) -> bytes:
        """Return the text form."""
        lines = [_HEADER, f"index {self.index}", *map(encode_base64, self.proof), "", ""]
        return "\n".join(lines).encode() + self.checkpoint


def parse_receipt(data: bytes) -> Receipt:
    """Return the receipt whose text form is ``data``; nothing in it is verified.

    Raises:
        MalformedError: ``data`` is not that.
    """
    if len(data) > 2 * MAX_NOTE_BYTES:
        raise MalformedError("a receipt is not that long")
    head, separator, checkpoint = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise MalformedError("a receipt is ASCII") from error
    if not separator or len(lines) < 2 or lines[0] != _HEADER or len(lines) > 2 + MAX_PROOF:
        raise MalformedError(f"a receipt begins with {_HEADER} and an index")
    match = _INDEX.fullmatch(lines[1])
    if match is None:
        raise MalformedError("a receipt's second line is its index")
    proof = tuple(decode_base64(line, length=merkle.HASH_BYTES) for line in lines[2:])
    return Receipt(int(match[1]), proof, checkpoint)


def verify_receipt(receipt: Receipt, leaf: bytes, verifier: NoteVerifier) -> Checkpoint:
    """Return the checkpoint under which ``leaf`` is proven to be in the log.

    Args:
        receipt: From the server.
        leaf: The bytes that were submitted, and are now the leaf.
        verifier: The log's key.

    Raises:
        MalformedError: The checkpoint is not one.
        SignatureInvalidError: The log did not sign it.
        MixAndMatchError: It is of another log.
        ProofInvalidError: The proof does not hold.
    """
    checkpoint = verify_checkpoint(receipt.checkpoint, verifier)
    merkle.verify_inclusion(
        merkle.leaf_hash(leaf),
        index=receipt.index,
        size=checkpoint.size,
        proof=receipt.proof,
        root=checkpoint.root,
    )
    return checkpoint

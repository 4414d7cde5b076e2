"""What a log sends to a witness that it can reach.

Source: C2SP tlog-witness v1.0.0, "add-checkpoint".
"""

import re
from dataclasses import dataclass
from typing import Final

from hashshare.crypto import merkle
from hashshare.crypto.encoding import decode_base64, encode_base64
from hashshare.errors import MalformedError

MAX_REQUEST_BYTES: Final = 16 * 1024
MAX_PROOF: Final = 63
SIZE_TYPE: Final = "text/x.tlog.size"
"""Content type of an answer that tells the size that the witness has seen."""

_OLD: Final = re.compile(r"old (0|[1-9][0-9]{0,17})")
_SIZE: Final = re.compile(rb"(0|[1-9][0-9]{0,17})\n")


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A checkpoint, and the proof that it extends what the witness has seen.

    Attributes:
        old: Size that the witness is thought to have seen, 0 for none.
        proof: From ``old`` to the checkpoint's size, 32 bytes each.
        note: The signed checkpoint.
    """

    old: int
    proof: tuple[bytes, ...]
    note: bytes

    def encode(self) -> bytes:
        """Return the body of the request."""
        lines = [f"old {self.old}", *map(encode_base64, self.proof), "", ""]
        return "\n".join(lines).encode() + self.note


def parse_add_checkpoint(data: bytes) -> AddCheckpoint:
    """Return what the body of a request says; nothing in it is verified.

    Raises:
        MalformedError: ``data`` is not that.
    """
    if len(data) > MAX_REQUEST_BYTES:
        raise MalformedError(f"a request has at most {MAX_REQUEST_BYTES} bytes")
    head, separator, note = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise MalformedError("a request begins with lines of ASCII") from error
    match = _OLD.fullmatch(lines[0])
    if match is None or not separator:
        raise MalformedError("a request begins with a line 'old SIZE', and has a blank one")
    if len(lines) > 1 + MAX_PROOF:
        raise MalformedError(f"a proof has at most {MAX_PROOF} lines")
    proof = tuple(decode_base64(line, length=merkle.HASH_BYTES) for line in lines[1:])
    return AddCheckpoint(int(match[1]), proof, note)


def parse_size(data: bytes) -> int:
    """Return the size in an answer of type ``SIZE_TYPE``.

    Raises:
        MalformedError: ``data`` is not one.
    """
    match = _SIZE.fullmatch(data)
    if match is None:
        raise MalformedError("not the size of a log")
    return int(match[1])

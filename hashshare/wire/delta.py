"""Deltas on the wire: NDJSON, a header and then a line for each changed entry.

Source: docs/protocol.md, "Delta".
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Annotated, Final, Literal

import msgspec

from hashshare.crypto import canonical
from hashshare.domain.changes import UNKNOWN, Change
from hashshare.domain.hashes import LOWER_HEX, HashAlgorithm
from hashshare.domain.names import ListName
from hashshare.errors import MalformedError

FORMAT: Final = "hashshare-delta/1"
MEDIA_TYPE: Final = "application/x-ndjson"
MAX_LINE_BYTES: Final = 64 * 1024
LINES_A_PIECE: Final = 512

_Number = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
_Root = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class DeltaHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line. Its fields stand in the order in which RFC 8785 writes them.

    Attributes:
        base: The version that the changes start from.
        base_root: Root of the list at ``base``, hex.
        changes: How many lines follow.
        format: Always the same.
        list: ``csam/confirmed/sha256``.
        target: The version that they lead to, not below ``base``.
        target_root: Root of the list at ``target``, hex.
    """

    base: _Number
    base_root: _Root
    changes: _Number
    format: Literal["hashshare-delta/1"]
    list: str
    target: _Number
    target_root: _Root


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    hash: str
    op: Literal["add", "remove", "change"]
    # Read by ``_verify_attributes``, and kept as bytes: the tag in the signed root is of them.
    attributes: msgspec.Raw = msgspec.Raw()


_lines: Final = msgspec.json.Decoder(_Line)
_headers: Final = msgspec.json.Decoder(DeltaHeader)


def encode_delta(header: DeltaHeader, changes: Iterable[Change]) -> Iterator[bytes]:
    """Yield the lines of a delta, some at a time.

    Args:
        header: With the number of changes that follow.
        changes: In key order.
    """
    lines = [msgspec.json.encode(header), b"\n"]
    for change in changes:
        lines.append(_encode(change))
        if len(lines) >= LINES_A_PIECE:
            yield b"".join(lines)
            lines.clear()
    if lines:
        yield b"".join(lines)


def _encode(change: Change) -> bytes:
    digits = change.value.hex().encode()
    if change.after is None:
        return b'{"hash":"%b","op":"remove"}\n' % digits
    operation = b"add" if change.before is None else b"change"
    return b'{"attributes":%b,"hash":"%b","op":"%b"}\n' % (change.after, digits, operation)


class DeltaReader:
    """Reads a delta piece by piece as it arrives; trusts nothing in it.

    Where the pieces are cut makes no difference to what is accepted.

    Attributes:
        header: None until its line has arrived.
        seen: Changes that were given out so far.
    """

    def __init__(self, algorithm: HashAlgorithm, *, max_changes: int) -> None:
        self.header: DeltaHeader | None = None
        self.seen = 0
        self._algorithm = algorithm
        self._max_changes = max_changes
        self._last_key = b""
        self._rest: list[bytes] = []
        self._rest_bytes = 0

    def feed(self, piece: bytes) -> list[Change]:
        """Return the changes whose lines ``piece`` completes.

        Their ``before`` is None or UNKNOWN.

        Raises:
            MalformedError: A line is not in its one form, changes are not in key order, each
                entry once, or there are too many.
        """
        lines = self._complete_lines(piece)
        if self.header is None and lines:
            self.header = self._read_header(lines.pop(0))
        self.seen += len(lines)
        if self.header is not None and self.seen > self.header.changes:
            raise MalformedError(f"the delta has more than the announced {self.header.changes}")
        return [self._read(line) for line in lines]

    def finish(self) -> DeltaHeader:
        """Return the header of a delta that has arrived whole.

        Raises:
            MalformedError: It ends early.
        """
        if self.header is None or self._rest_bytes or self.seen != self.header.changes:
            raise MalformedError("the delta ends before the announced number of changes")
        return self.header

    def _complete_lines(self, piece: bytes) -> list[bytes]:
        # Joined only once a line ends: a line that trickles in must not cost its square.
        first, *others = piece.split(b"\n")
        self._rest.append(first)
        self._rest_bytes += len(first)
        lines: list[bytes] = []
        if others:
            lines = [b"".join(self._rest), *others[:-1]]
            self._rest, self._rest_bytes = [others[-1]], len(others[-1])
        if max(self._rest_bytes, *map(len, lines), 0) > MAX_LINE_BYTES:
            raise MalformedError(f"a line of the delta has more than {MAX_LINE_BYTES} bytes")
        return lines

    def _read_header(self, line: bytes) -> DeltaHeader:
        try:
            header = _headers.decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise MalformedError("the first line is no header of a delta") from error
        if msgspec.json.encode(header) != line:
            raise MalformedError("the header is not in canonical form")
        if ListName.parse(header.list).algorithm != self._algorithm:
            raise MalformedError(f"the delta is not of a list of {self._algorithm} hashes")
        if header.target < header.base:
            raise MalformedError(f"a delta from {header.base} back to {header.target}")
        if header.changes > self._max_changes:
            raise MalformedError(
                f"the delta announces {header.changes} changes, over {self._max_changes}"
            )
        return header

    def _read(self, line: bytes) -> Change:
        try:
            parsed = _lines.decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise MalformedError("a line of the delta is no change") from error
        if len(parsed.hash) != 2 * self._algorithm.size or not LOWER_HEX.fullmatch(parsed.hash):
            raise MalformedError(f"a hash of the delta is not {self._algorithm} in lower-case hex")
        attributes = bytes(parsed.attributes) or None
        if (attributes is None) != (parsed.op == "remove"):
            raise MalformedError("a change has attributes, unless it is a removal")
        before = None if parsed.op == "add" else UNKNOWN
        change = Change(bytes.fromhex(parsed.hash), before, attributes)
        # Also refuses names twice, spaces, and another order.
        if _encode(change) != line + b"\n":
            raise MalformedError("a line of the delta is not in canonical form")
        if attributes is not None:
            _verify_attributes(attributes)
        self._verify_order(change)
        return change

    def _verify_order(self, change: Change) -> None:
        key = self._algorithm.key(change.value)
        if key <= self._last_key:
            raise MalformedError("changes are in key order, each entry once")
        self._last_key = key


# The same few stand in most lines.
@lru_cache(maxsize=1024)
def _verify_attributes(attributes: bytes) -> None:
    canonical.decode(attributes, max_bytes=MAX_LINE_BYTES)

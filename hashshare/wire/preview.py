"""Previews on the wire: NDJSON, one line for each thing that is told.

A header; then for each list its changes, in key order, and what they come to; then the end. A
preview without its end is not whole.
"""

from typing import Annotated, Any, Final, Literal

import msgspec

from hashshare.errors import MalformedError

FORMAT: Final = "hashshare-preview/1"
MAX_LINE_BYTES: Final = 1024 * 1024

_Number = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class _Line(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"
):
    """Base of the lines; ``kind`` says which one it is."""


class PreviewHeader(_Line, frozen=True, tag="preview"):
    """The first line: against what the proposed registry is compared.

    Attributes:
        format: Always the same.
        log_size: All submissions before this place in the log are looked at.
        version: Of the registry in force.
    """

    format: Literal["hashshare-preview/1"]
    log_size: _Number
    version: _Number


class PreviewChange(_Line, frozen=True, tag="change"):
    """What would become of one hash in one list.

    Attributes:
        list: ``csam/confirmed/sha256``.
        op: ``enter``, ``leave``, or ``change`` when only its attributes differ.
        hash: Lower-case hex.
        before: Attributes under the registry in force, None when it is not in the list.
        after: The same under the proposed one.
    """

    list: str
    op: Literal["enter", "leave", "change"]
    hash: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class PreviewMember(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many of the entries that come and go rest on one member's word, among others."""

    enters: _Number = 0
    leaves: _Number = 0


class PreviewList(_Line, frozen=True, tag="list"):
    """What one list would come to.

    Attributes:
        list: Its name.
        before: Entries under the registry in force.
        after: Entries under the proposed one.
        enters: Entries that would come.
        leaves: Entries that would go.
        changes: Entries whose attributes would differ.
        members: By member; only those whose word counts in an entry that comes or goes.
    """

    list: str
    before: _Number
    after: _Number
    enters: _Number
    leaves: _Number
    changes: _Number
    members: dict[str, PreviewMember]


class PreviewEnd(_Line, frozen=True, tag="end"):
    """The last line: how many lists were told of."""

    lists: _Number


PreviewLine = PreviewHeader | PreviewChange | PreviewList | PreviewEnd

_decoder: Final = msgspec.json.Decoder(PreviewLine)


def encode_line(line: PreviewLine) -> bytes:
    """Return one line, with its end."""
    return msgspec.json.encode(line) + b"\n"


def parse_line(line: bytes) -> PreviewLine:
    """Read one line, without its end.

    Raises:
        MalformedError: It is none.
    """
    try:
        parsed: PreviewLine = _decoder.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedError("this is no line of a preview") from error
    return parsed

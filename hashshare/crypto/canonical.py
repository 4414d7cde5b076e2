"""The one byte form of a document, RFC 8785 (JCS)."""

import hashlib
import json
from typing import NoReturn, TypeAlias

import rfc8785

from hashshare.errors import MalformedError

JsonValue: TypeAlias = (
    "dict[str, JsonValue] | list[JsonValue] | tuple[JsonValue, ...] | str | int | bool | None"
)


def digest(data: bytes) -> str:
    """Return the SHA-256 of ``data`` in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def encode(document: JsonValue) -> bytes:
    """Return the canonical JSON of ``document``.

    Raises:
        MalformedError: It cannot be written so: an integer of 2^53 or more, a lone
            surrogate, too deep.
    """
    try:
        return rfc8785.dumps(document)
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeEncodeError) as error:
        raise MalformedError("cannot be written as canonical JSON") from error


def decode(data: bytes, *, max_bytes: int) -> dict[str, JsonValue]:
    """Return the JSON object whose canonical form is ``data``.

    Whatever is not its own canonical form is refused: duplicate names, spaces, needless
    escapes, another order. So two readers never understand it differently. Of numbers only
    integers from 0 to 2^53 - 1 are accepted.

    Args:
        data: As it came from the network.
        max_bytes: Nothing longer is parsed.

    Raises:
        MalformedError: ``data`` is too long, or is not canonical JSON of an object.
    """
    if len(data) > max_bytes:
        raise MalformedError(f"a document of {len(data)} bytes; at most {max_bytes} are accepted")
    try:
        document = json.loads(
            data.decode("utf-8"),
            parse_int=_parse_number,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except (ValueError, RecursionError) as error:
        raise MalformedError("not JSON") from error
    if not isinstance(document, dict):
        raise MalformedError("not a JSON object")
    if encode(document) != data:
        raise MalformedError("not in canonical form (RFC 8785)")
    return document


def _parse_number(text: str) -> int:
    # Upwards, the 2^53 - 1 of RFC 8785 is checked by encode().
    return _refuse_number(text) if text.startswith("-") else int(text)


def _refuse_number(_: str) -> NoReturn:
    # The rule is ours: RFC 8785 has fractions, but protocol.md section 1 has not.
    raise MalformedError("a number is an integer from 0 to 2^53 - 1")

"""The form that all signed documents share: frozen structures with one byte form, RFC 8785.

A document is decoded by ``decode_document`` only, which refuses every spelling but the
canonical one, unknown fields, and values of another type or pattern.
"""

from typing import Annotated, Final, TypeVar

import msgspec

from hashshare.crypto import canonical
from hashshare.domain.names import CLASSIFICATION_PATTERN, ID_PATTERN, TERM_PATTERN, parse_time
from hashshare.errors import MalformedError

MAX_PAYLOAD_BYTES: Final = 16 * 1024
MAX_REGISTRY_BYTES: Final = 16 * 1024 * 1024

DIGEST_PATTERN: Final = r"[0-9a-f]{64}"

# msgspec searches where Python would match, so that each pattern is anchored here.
Id = Annotated[str, msgspec.Meta(pattern=rf"\A{ID_PATTERN}\Z")]
Digest = Annotated[str, msgspec.Meta(pattern=rf"\A{DIGEST_PATTERN}\Z")]
Time = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z\Z")]
Origin = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9./-]{0,126}\Z")]
Classification = Annotated[str, msgspec.Meta(pattern=rf"\A{CLASSIFICATION_PATTERN}\Z")]
TermName = Annotated[str, msgspec.Meta(pattern=rf"\A{TERM_PATTERN}\Z")]
KeyText = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9+/]{43}=\Z")]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Ordinal = Annotated[int, msgspec.Meta(ge=1, lt=2**53)]


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of signed documents and of what they contain."""


D = TypeVar("D", bound=Document)


def encode_document(document: Document) -> bytes:
    """Return the one byte form of ``document``, which is what is signed or named by digest."""
    built: canonical.JsonValue = msgspec.to_builtins(document)
    return canonical.encode(built)


def decode_document(data: bytes, kind: type[D], *, max_bytes: int = MAX_PAYLOAD_BYTES) -> D:
    """Return the document of this kind whose byte form is ``data``.

    Raises:
        MalformedError: ``data`` is longer than ``max_bytes``, not canonical, or not of
            this kind.
    """
    fields = canonical.decode(data, max_bytes=max_bytes)
    try:
        document = msgspec.convert(fields, kind, strict=True)
    except (msgspec.ValidationError, ValueError) as error:
        raise MalformedError(f"not a {kind.__name__.lower()} document: {error!s:.200}") from error
    # A default that is written out, or 1.0 for 1, would be a second spelling.
    if encode_document(document) != data:
        raise MalformedError(f"not the canonical form of a {kind.__name__.lower()} document")
    created_at = getattr(document, "created_at", None)
    if created_at is not None:
        parse_time(created_at)
    return document


def verify_sorted(values: tuple[str, ...], what: str) -> None:
    """Refuse a set that is not written in its one form.

    Raises:
        MalformedError: It is not sorted, or has something twice.
    """
    if list(values) != sorted(set(values)):
        raise MalformedError(f"{what} are written sorted, each once")

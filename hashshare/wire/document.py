"""The base of the HTTP interface's JSON documents, and their shared kinds of text."""

from typing import Annotated, Final, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)

from hashshare.crypto.encoding import decode_base64, encode_base64
from hashshare.domain.documents import DIGEST_PATTERN
from hashshare.domain.names import ID_PATTERN
from hashshare.errors import MalformedError

MEDIA_TYPE: Final = "application/json"

Digest = Annotated[str, StringConstraints(pattern=rf"^{DIGEST_PATTERN}$")]
Id = Annotated[str, StringConstraints(pattern=rf"^{ID_PATTERN}$")]


def _to_bytes(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return decode_base64(value)
    except MalformedError as error:
        raise ValueError(str(error)) from error


Base64 = Annotated[
    bytes,
    BeforeValidator(_to_bytes),
    PlainSerializer(encode_base64, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]


class WireDocument(BaseModel):
    """A JSON document of the HTTP interface. Unknown fields and other types are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the document from JSON.

        Raises:
            MalformedError: ``data`` is not one.
        """
        try:
            return cls.model_validate_json(data)
        except (ValidationError, RecursionError) as error:
            raise MalformedError(f"not a {cls.__name__} document: {_first(error)}") from error

    def encode(self) -> bytes:
        """Return the document as JSON."""
        return self.model_dump_json().encode()


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "nested too deeply"
    # Without the input: it may hold a shared hash or a token.
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, fault["loc"]))
    return f"{where}: {fault['msg']}"[:200]

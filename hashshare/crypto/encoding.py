"""Base64 and hex in exactly one spelling."""

import base64
import binascii
import re
from typing import Final

from hashshare.errors import MalformedError

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def encode_base64(data: bytes) -> str:
    """Return ``data`` as base64 with padding, RFC 4648 section 4."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str, *, length: int | None = None) -> bytes:
    """Read what ``encode_base64`` writes.

    Args:
        text: The base64.
        length: How many bytes it must hold; None for any number.

    Raises:
        MalformedError: ``text`` is not the one spelling of its bytes, or of another length.
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise MalformedError("not base64") from error
    # The unused bits of the last digit may differ, which b64decode() overlooks.
    if encode_base64(data) != text:
        raise MalformedError("not the canonical spelling of base64")
    if length is not None and len(data) != length:
        raise MalformedError(f"expected {length} bytes as base64, not {len(data)}")
    return data


def parse_digest(text: str) -> str:
    """Return ``text`` if it is a SHA-256 digest in lower-case hex.

    Raises:
        MalformedError: It is not.
    """
    if not _DIGEST.fullmatch(text):
        raise MalformedError(f"not a SHA-256 digest in lower-case hex: {text!r:.40}")
    return text

"""Telling notices: to webhooks, and as an Atom feed.

Source: Standard Webhooks 1.0.0 (headers and signature); RFC 4287 (Atom).
"""

import base64
import hmac
import json
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import aiohttp
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from hashshare import __version__
from hashshare.client.noticeboard import Notice
from hashshare.domain.names import format_time
from hashshare.errors import MalformedError, UnavailableError

ATTEMPTS: Final = 5
MAX_ENTRIES: Final = 200
KEY_PREFIX: Final = "whsec_"
ATOM: Final = "http://www.w3.org/2005/Atom"
_SECRET_BYTES: Final = 32
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, connect=10)


def webhook_secret(path: Path) -> bytes:
    """Return the key that signs what is sent to webhooks; make the file if there is none.

    Raises:
        MalformedError: The file does not hold ``whsec_`` and base64.
    """
    with suppress(FileExistsError):
        fresh = KEY_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w") as writing:
            writing.write(fresh + "\n")
    text = path.read_text().strip()
    try:
        return base64.b64decode(text.removeprefix(KEY_PREFIX), validate=True)
    except ValueError as error:
        raise MalformedError(f"{path.name} does not hold a webhook's secret") from error


def signature(key: bytes, notice_id: str, moment: int, body: bytes) -> str:
    """Return the header ``webhook-signature``: HMAC-SHA256 over id, time and body."""
    signed = f"{notice_id}.{moment}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where notices are posted to.

    Attributes:
        url: ``https://``; or ``http://`` to this machine.
        key: Signs.
    """

    url: str
    key: bytes
    clock: Callable[[], datetime] = _now

    def __post_init__(self) -> None:
        if not self.url.startswith(("https://", "http://127.0.0.1", "http://localhost")):
            raise MalformedError("a webhook's URL begins with https://")

    async def post(self, http: aiohttp.ClientSession, notice: Notice) -> None:
        """Post one notice, again if need be; return once that was acknowledged.

        Raises:
            UnavailableError: It was not.
        """
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(UnavailableError),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.2, max=10),
            reraise=True,
        ):
            with attempt:
                await self._post_once(http, notice)

    async def _post_once(self, http: aiohttp.ClientSession, notice: Notice) -> None:
        body, moment = encode_notice(notice), int(self.clock().timestamp())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"hashshare/{__version__}",
            "webhook-id": notice.id,
            "webhook-timestamp": str(moment),
            "webhook-signature": signature(self.key, notice.id, moment, body),
        }
        try:
            async with http.post(
                self.url, data=body, headers=headers, allow_redirects=False, timeout=_TIMEOUT
            ) as response:
                if not 200 <= response.status < 300:
                    raise UnavailableError(f"the webhook answered {response.status}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(
                f"the webhook cannot be reached: {type(error).__name__}"
            ) from error


def encode_notice(notice: Notice) -> bytes:
    """Return what is posted: ``type``, ``timestamp``, and ``data`` with the ``text``."""
    fields = {
        "type": f"hashshare.{notice.kind}",
        "timestamp": format_time(notice.at),
        "data": notice.data | {"text": notice.text},
    }
    return json.dumps(fields, separators=(",", ":"), sort_keys=True).encode()


def write_feed(path: Path, notices: Sequence[Notice], *, coalition: str, log: str) -> None:
    """Write the newest notices to an Atom feed, which takes the place of the one before.

    Args:
        path: Of the file.
        notices: The oldest first.
        coalition: For people.
        log: Origin, which makes the ids unique.
    """
    ET.register_namespace("", ATOM)
    feed = ET.Element(f"{{{ATOM}}}feed")
    newest = list(reversed(notices))[:MAX_ENTRIES]
    updated = max((notice.at for notice in newest), default=datetime.fromtimestamp(0, UTC))
    _add(feed, "id", f"tag:{log},2026:notices")
    _add(feed, "title", f"hashshare: {coalition}")
    _add(feed, "updated", format_time(updated))
    _add(ET.SubElement(feed, f"{{{ATOM}}}author"), "name", coalition)
    for notice in newest:
        entry = ET.SubElement(feed, f"{{{ATOM}}}entry")
        _add(entry, "id", f"tag:{log},2026:{notice.id}")
        _add(entry, "title", notice.text)
        _add(entry, "updated", format_time(notice.at))
        ET.SubElement(entry, f"{{{ATOM}}}category", term=notice.kind)
        _add(entry, "content", notice.text)
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(ET.tostring(feed, encoding="utf-8", xml_declaration=True) + b"\n")
    fresh.replace(path)


def _add(parent: ET.Element, name: str, text: str) -> None:
    # XML has no control characters; a registry's reason might.
    ET.SubElement(parent, f"{{{ATOM}}}{name}").text = "".join(c for c in text if c.isprintable())

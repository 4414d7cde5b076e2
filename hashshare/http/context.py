"""What handlers find: the services in the application, the peer in the request."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

from aiohttp import web

from hashshare.domain.agreements import verify_reading
from hashshare.domain.members import Role
from hashshare.domain.names import HashSetId, ListName
from hashshare.domain.release import may_read_list
from hashshare.errors import MalformedError, NotFoundError, TooLargeError, UnavailableError
from hashshare.service.batches import BatchService
from hashshare.service.cases import CaseService
from hashshare.service.ceremony import Ceremony
from hashshare.service.directory import Directory, Peer
from hashshare.service.enrolment import EnrolmentService
from hashshare.service.feedback import FeedbackService
from hashshare.service.log import LogService
from hashshare.service.membership import MembershipService
from hashshare.service.news import News
from hashshare.service.own_certificates import OwnCertificates
from hashshare.service.preview import PreviewService
from hashshare.service.pull import PullService
from hashshare.service.redaction import RedactionService
from hashshare.service.registry import RegistryService
from hashshare.service.report import ReportService
from hashshare.service.retraction import RetractionService
from hashshare.service.submit import SubmitService
from hashshare.service.trail import TrailService
from hashshare.service.witnessing import WitnessService
from hashshare.wire.document import MEDIA_TYPE, WireDocument

READ_SECONDS: Final = 30.0
"""A peer that sends nothing for so long is given up."""
WRITE_SECONDS: Final = 60.0
PIECE_BYTES: Final = 64 * 1024
"""So much is encrypted at a time: a large download must not make others wait."""
MAX_DOCUMENT_BYTES: Final = 32 * 1024 * 1024
MAX_WAIT_SECONDS: Final = 55

_RANGE: Final = re.compile(r"bytes=(0|[1-9][0-9]{0,17})-")

IMMUTABLE: Final = {"Cache-Control": "private, immutable, max-age=31536000"}
REVALIDATE: Final = {"Cache-Control": "no-cache"}


@dataclass(frozen=True, slots=True)
class Services:
    """All that the resources use."""

    batches: BatchService
    cases: CaseService
    ceremony: Ceremony
    directory: Directory
    enrolments: EnrolmentService
    feedback: FeedbackService
    log: LogService
    membership: MembershipService
    news: News
    own_certificates: OwnCertificates
    previews: PreviewService
    pull: PullService
    redactions: RedactionService
    registries: RegistryService
    reports: ReportService
    retractions: RetractionService
    submit: SubmitService
    trail: TrailService
    witnessing: WitnessService


@dataclass(slots=True)
class Addresses:
    """Under which URLs members reach the server; known once it listens."""

    api_url: str = ""
    enrol_url: str = ""


SERVICES: Final = web.AppKey("services", Services)
ADDRESSES: Final = web.AppKey("addresses", Addresses)
PEER: Final = web.RequestKey("peer", Peer)

D = TypeVar("D", bound=WireDocument)


def now() -> datetime:
    """Return this moment."""
    return datetime.now(UTC)


def services(request: web.Request) -> Services:
    """Return the services of the application."""
    return request.app[SERVICES]


def readable_set(request: web.Request) -> HashSetId:
    """Return the hash set that the path names, if the peer may read it.

    Raises:
        NotFoundError: There is none, or the peer may not know of it: the same answer.
        PermissionDeniedError: It might, but its agreement has ended.
    """
    peer, name = request[PEER], request.match_info["hash_set"]
    if not peer.registry.may_read(peer.member, name):
        raise NotFoundError(f"no hash set {name!r:.70}")
    _verify_agreement(peer, name)
    return HashSetId(name)


def _verify_agreement(peer: Peer, hash_set: str) -> None:
    # Who is on trial has signed nothing yet.
    if not peer.registry.hash_set(hash_set).sandbox:
        required = bool(peer.registry.agreement_required)
        member = peer.registry.member(peer.member)
        verify_reading(member.agreement, required=required, now=now())


def readable_list(request: web.Request) -> ListName:
    """Return the list that the path names, if the peer may read it.

    Raises:
        NotFoundError: There is none, or the peer may not know of it: the same answer.
        PermissionDeniedError: It might, but its agreement has ended.
        MalformedError: The path names no list.
    """
    peer, info = request[PEER], request.match_info
    name = ListName.parse(f"{info['hash_set']}/{info['view']}/{info['algorithm']}")
    if not may_read_list(peer.registry, peer.member, name):
        raise NotFoundError(f"no list {name}")
    _verify_agreement(peer, name.hash_set)
    return name


def require_admin(request: web.Request) -> Peer:
    """Return the peer, if it is an admin.

    Raises:
        NotFoundError: It is not; to others there is nothing here.
    """
    peer = request[PEER]
    if Role.ADMIN not in peer.registry.member(peer.member).roles:
        raise NotFoundError("there is nothing here")
    return peer


def require_auditor(request: web.Request) -> Peer:
    """Return the peer, if it is an auditor or an admin.

    Raises:
        NotFoundError: It is not; to others there is nothing here.
    """
    peer = request[PEER]
    if not {Role.ADMIN, Role.AUDITOR} & set(peer.registry.member(peer.member).roles):
        raise NotFoundError("there is nothing here")
    return peer


async def read_chunks(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body as it comes; its size is for the reader to bound.

    Raises:
        UnavailableError: The peer stopped sending.
    """
    while True:
        try:
            async with asyncio.timeout(READ_SECONDS):
                chunk = await request.content.readany()
        except TimeoutError as error:
            raise UnavailableError("the body did not arrive in time") from error
        if not chunk:
            return
        yield chunk


async def read_body(request: web.Request, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """Return the whole body.

    Raises:
        TooLargeError: It is over ``max_bytes``.
        MalformedError: It is compressed.
        UnavailableError: The peer stopped sending.
    """
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise MalformedError("this body may not be compressed")
    body = bytearray()
    async for chunk in read_chunks(request):
        body += chunk
        if len(body) > max_bytes:
            raise TooLargeError(f"this body has at most {max_bytes} bytes")
    return bytes(body)


async def read_document(request: web.Request, kind: type[D]) -> D:
    """Return the document in the body.

    Raises:
        MalformedError: It is none of this kind.
        TooLargeError: It is too long.
    """
    return kind.parse(await read_body(request))


def answer(
    document: WireDocument, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a response with ``document``."""
    return web.Response(
        body=document.encode(), status=status, content_type=MEDIA_TYPE, headers=headers
    )


async def send_chunks(
    request: web.Request, response: web.StreamResponse, chunks: AsyncIterator[bytes]
) -> web.StreamResponse:
    """Send a body piece by piece; a peer that takes nothing is cut off."""
    started = False
    async for chunk in chunks:
        if not started:
            # Only now: an error before the first piece still becomes a problem.
            await response.prepare(request)
            started = True
        for begin in range(0, len(chunk), PIECE_BYTES):
            async with asyncio.timeout(WRITE_SECONDS):
                await response.write(memoryview(chunk)[begin : begin + PIECE_BYTES])
    if not started:
        await response.prepare(request)
    await response.write_eof()
    return response


def wait_seconds(request: web.Request) -> float:
    """Return how long the peer wants to wait for news (RFC 7240, ``Prefer: wait``), at most 55."""
    for preference in request.headers.get("Prefer", "").split(","):
        name, _, value = preference.strip().partition("=")
        if name == "wait" and value.isascii() and value.isdigit() and len(value) < 6:
            return min(int(value), MAX_WAIT_SECONDS)
    return 0


def range_start(request: web.Request) -> int:
    """Return where the peer wants to go on; other kinds of ranges get the whole file."""
    match = _RANGE.fullmatch(request.headers.get("Range", ""))
    return int(match[1]) if match else 0

"""What happens to every request: its log line, its problem, its peer, its rate."""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from time import monotonic
from typing import Final

import structlog
from aiohttp import web

from hashshare.domain.scopes import Scope
from hashshare.errors import (
    HashshareError,
    NotEnrolledError,
    NotFoundError,
    TooManyRequestsError,
)
from hashshare.http.context import PEER, now, services
from hashshare.http.limits import RateLimit
from hashshare.wire import problem

_LOG: Final = structlog.get_logger(__name__)

_LIST: Final = "/v1/lists/{hash_set}/{view}/{algorithm}"
_FOR_ALL: Final = {
    ("GET", "/v1/self"),
    ("POST", "/v1/renewals"),
    ("POST", "/.well-known/est/simplereenroll"),
    ("GET", "/.well-known/est/cacerts"),
    ("GET", "/v1/registry"),
    ("GET", "/v1/registry/{version}"),
    ("GET", "/v1/trust/metadata/{name}"),
    ("GET", "/v1/trust/targets/{name}"),
}
_FOR_PULLS: Final = {
    ("GET", "/v1/hash-sets"),
    ("GET", "/v1/hash-sets/{hash_set}"),
    ("GET", "/v1/hash-sets/{hash_set}/publication"),
    ("GET", "/v1/hash-sets/{hash_set}/publications/{version}"),
    ("GET", "/v1/hash-sets/{hash_set}/hashes/{algorithm}/{digits}/provenance"),
    ("GET", "/v1/hash-sets/{hash_set}/hashes/{algorithm}/{digits}/feedback"),
    # What pulls is what matches, and can tell what came of it.
    ("POST", "/v1/hash-sets/{hash_set}/feedback"),
    ("GET", f"{_LIST}/snapshot"),
    ("GET", f"{_LIST}/snapshots/{{version}}"),
    ("GET", f"{_LIST}/deltas/{{base}}/{{target}}"),
    ("GET", f"{_LIST}/buckets/{{index}}"),
}
_FOR_PUSHES: Final = {
    ("HEAD", "/v1/batches/{sha256}"),
    ("PUT", "/v1/batches/{sha256}"),
    ("POST", "/v1/submissions"),
    ("GET", "/v1/submissions"),
    ("GET", "/v1/submissions/{statement_id}"),
    ("POST", "/v1/submission-keys"),
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
REQUEST_ID: Final = web.RequestKey("request_id", str)
MEMBER_LIMIT: Final = web.AppKey("member_limit", RateLimit)
ADDRESS_LIMIT: Final = web.AppKey("address_limit", RateLimit)


@web.middleware
async def log_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Write one line a request: who, what, how long. Never the path, which may hold a hash."""
    request[REQUEST_ID] = secrets.token_hex(8)
    begin = monotonic()
    status = 0
    try:
        response = await handler(request)
        status = response.status
        return response
    finally:
        peer = request.get(PEER)
        _LOG.info(
            "request answered" if status else "request cut off",
            request=request[REQUEST_ID],
            member=None if peer is None else peer.member,
            method=request.method,
            route=route_of(request),
            status=status,
            milliseconds=round((monotonic() - begin) * 1000, 1),
        )


@web.middleware
async def render_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a problem document, so that no handler has to.

    The message of an error not raised on purpose may hold internals: it goes to the log only.
    """
    try:
        return await handler(request)
    except HashshareError as error:
        return to_response(error, request[REQUEST_ID])
    except web.HTTPError as error:
        response = _blank(HTTPStatus(error.status), request[REQUEST_ID])
        if isinstance(error, web.HTTPMethodNotAllowed):
            # RFC 9110 section 15.5.6
            response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        return response
    except (ConnectionError, asyncio.CancelledError):
        # The peer is gone, or was cut off.
        raise
    except Exception:  # noqa: BLE001 # the last resort: whatever it is becomes a 500
        _LOG.exception(
            "request failed",
            request=request[REQUEST_ID],
            method=request.method,
            route=route_of(request),
        )
        return _blank(HTTPStatus.INTERNAL_SERVER_ERROR, request[REQUEST_ID])


@web.middleware
async def identify_peer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Find the member behind the certificate, at each request anew, and count its requests."""
    fingerprint = peer_fingerprint(request.transport)
    if fingerprint is None:
        raise NotEnrolledError("a client certificate is required")
    directory = services(request).directory
    request[PEER] = await directory.resolve(fingerprint, now=now())
    request.app[MEMBER_LIMIT].take(request[PEER].member)
    _verify_scope(request, request[PEER].scope)
    await directory.mark_seen(fingerprint, now=now())
    return await handler(request)


def _verify_scope(request: web.Request, scope: Scope | None) -> None:
    """Refuse what a certificate with a scope is not for; what is not named here, it is not for.

    Raises:
        NotFoundError: To it there is nothing here.
    """
    if scope is None:
        return
    method, route = request.method, route_of(request)
    allowed = (method, route) in _FOR_ALL or (method == "GET" and route.startswith("/v1/log/"))
    allowed |= scope.pulls and (method, route) in _FOR_PULLS
    allowed |= scope.pushes and (method, route) in _FOR_PUSHES
    if not allowed:
        raise NotFoundError("there is nothing here")


@web.middleware
async def limit_address(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Bound what an unknown peer can ask: tokens are not to be guessed."""
    request.app[ADDRESS_LIMIT].take(request.remote or "")
    return await handler(request)


def peer_fingerprint(transport: asyncio.BaseTransport | None) -> str | None:
    """Return the SHA-256 of the certificate at the other end, None if there is none."""
    certificate = peer_certificate(transport)
    return None if certificate is None else hashlib.sha256(certificate).hexdigest()


def peer_certificate(transport: asyncio.BaseTransport | None) -> bytes | None:
    """Return the DER of the certificate at the other end, None if there is none."""
    tls = None if transport is None else transport.get_extra_info("ssl_object")
    certificate: bytes | None = tls.getpeercert(binary_form=True) if tls is not None else None
    return certificate


def to_response(error: HashshareError, request_id: str) -> web.Response:
    """Return the response for an error that was raised on purpose."""
    status, body = problem.encode_problem(error, instance=request_id)
    response = web.Response(body=body, status=status, content_type=problem.MEDIA_TYPE)
    if isinstance(error, TooManyRequestsError):
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    elif status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = "1"
    return response


def _blank(status: HTTPStatus, request_id: str) -> web.Response:
    body = problem.encode_blank_problem(status, instance=request_id)
    return web.Response(body=body, status=status, content_type=problem.MEDIA_TYPE)


def route_of(request: web.Request) -> str:
    """Return the pattern of the path that matched, which holds nothing of what was asked."""
    resource = request.match_info.route.resource
    return "unknown" if resource is None else resource.canonical

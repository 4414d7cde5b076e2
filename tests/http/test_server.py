"""Limits, problems, caching and secrecy of a running server."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
import structlog
import zstandard
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from hashshare.client import Client
from hashshare.client.session import Session
from hashshare.crypto import canonical
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.policy import Basis
from hashshare.domain.records import AssertRecord
from hashshare.errors import (
    DigestMismatchError,
    HashshareError,
    MalformedError,
    TooLargeError,
    TooManyRequestsError,
)
from hashshare.http.limits import RateLimit
from hashshare.http.server import API_MODULES, ENROL_MODULES
from hashshare.wire.problem import decode_problem
from tests.support.examples import with_database
from tests.support.federation import Federation, run_federation

ROOT = Path(__file__).parents[2]
VALUE = b"\xc0\xff\xee\x07" * 8


def record(value: bytes = VALUE) -> AssertRecord:
    """A made-up hash."""
    return AssertRecord("case/7", {HashAlgorithm.SHA256: value}, "A1", None, Basis.REVIEWED)


def test_a_rate_says_how_long_to_wait() -> None:
    """For one caller; others go on."""
    limit = RateLimit(per_second=0.5, burst=3)
    for _ in range(3):
        limit.take("acme")
    with pytest.raises(TooManyRequestsError) as caught:
        limit.take("acme")
    assert caught.value.retry_after_seconds == 2
    limit.take("beta")


async def test_over_the_rate_is_429_with_retry_after(dsn: str, tmp_path: Path) -> None:
    """The settings say how much; the other member is served."""
    limits = {"member_burst_requests": 12.0, "member_requests_per_second": 0.1}
    async with run_federation(dsn, tmp_path, limits=limits) as federation:
        acme, beta = await federation.join("acme"), await federation.join("beta")
        async with Session.of(acme) as session:
            session.attempts = 1
            with pytest.raises(TooManyRequestsError) as caught:
                for _ in range(20):
                    await session.request("GET", "/v1/self")
            assert caught.value.retry_after_seconds >= 1
        async with Session.of(beta) as session:
            await session.request("GET", "/v1/self")


BATCHES: dict[str, tuple[bytes, str, type[HashshareError]]] = {
    "a bomb": (
        zstandard.ZstdCompressor().compress(bytes(600 * 1024 * 1024)),
        "zstd",
        TooLargeError,
    ),
    "truncated": (zstandard.ZstdCompressor().compress(b"x" * 1000)[:-4], "zstd", MalformedError),
    "no zstd": (b"plain", "zstd", MalformedError),
    "another digest": (b"plain", "identity", DigestMismatchError),
    "another encoding": (b"plain", "br", MalformedError),
}


@pytest.mark.parametrize(("body", "encoding", "error"), BATCHES.values(), ids=BATCHES)
async def test_an_upload_that_is_no_batch_leaves_nothing(
    federation: Federation, body: bytes, encoding: str, error: type[HashshareError]
) -> None:
    """Refused with a reason, and no blob is kept."""
    blobs = federation.folder / "coalition/data/blobs"
    before = sorted(path for path in blobs.rglob("*") if path.is_file())
    async with Session.of(federation.members["acme"]) as session:
        session.attempts = 1
        with pytest.raises(error):
            await session.request(
                "PUT",
                f"/v1/batches/{canonical.digest(b'other')}",
                body=body,
                headers={"Content-Encoding": encoding},
            )
    assert sorted(path for path in blobs.rglob("*") if path.is_file()) == before


async def test_a_document_over_the_limit_is_refused(federation: Federation) -> None:
    """Before it is read to its end."""

    async def body() -> AsyncIterator[bytes]:
        for _ in range(33):
            yield b" " * (1024 * 1024)

    async with Session.of(federation.admin) as session:
        session.attempts = 1
        with pytest.raises(TooLargeError):
            await session.request("POST", "/v1/invitations", body=body)


@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"]),
    st.lists(
        st.sampled_from(["v1", "lists", "csam", "all", "sha256", "deltas", "0", "1", "log", "tile"])
        | st.text(max_size=8).map(lambda t: quote(t, safe="")),
        max_size=6,
    ),
    st.dictionaries(
        st.sampled_from(["index", "size", "old", "new", "bits", "after"]),
        st.text(max_size=6).map(lambda t: quote(t, safe="")),
        max_size=2,
    ),
    st.binary(max_size=40),
)
@with_database
async def test_no_request_is_a_fault_of_the_server(
    federation: Federation, method: str, parts: list[str], query: dict[str, str], body: bytes
) -> None:
    """Any path, any body: an answer, or a problem that is the caller's."""
    path = "/" + "/".join(parts) + "?" + "&".join(f"{k}={v}" for k, v in query.items())
    async with Session.of(federation.members["acme"]) as session:
        session.attempts = 1
        try:
            await session.request(method, path, body=body if method in {"POST", "PUT"} else None)
        except HashshareError as error:
            assert "internal" not in str(error).lower(), path


async def test_news_comes_with_an_etag(federation: Federation) -> None:
    """Asking again costs nothing; waiting ends when there is something to know."""
    async with Client(federation.members["acme"]) as acme:
        (pushed,) = await acme.push("csam", [record()])
        version = await federation.published(pushed.log_index + 1)
        path = "/v1/hash-sets/csam/publication"
        headers = {"If-None-Match": f'"{version}"'}
        status, body = await acme.session.request("GET", path, headers=headers)
        assert (status, body) == (304, b"")
        waiting = asyncio.create_task(
            acme.session.request("GET", path, headers=headers | {"Prefer": "wait=50"})
        )
        async with Client(federation.members["beta"]) as beta:
            await beta.push("csam", [record()])
        status, _ = await asyncio.wait_for(waiting, 30)
        assert status == 200
        for path, cached in (
            (f"/v1/hash-sets/csam/publications/{version}", "immutable"),
            ("/v1/hash-sets/csam/publication", "no-cache"),
            (f"/v1/lists/csam/all/sha256/deltas/0/{version}", "immutable"),
            ("/v1/log/entries/0", "immutable"),
        ):
            async with acme.session.stream(path) as (response, _):
                assert cached in response.headers["Cache-Control"]
                assert "Server" not in response.headers


async def test_a_certificates_use_is_seen(federation: Federation) -> None:
    """By the admin; that of a member who never came is not."""
    async with Client(federation.members["acme"]) as acme:
        await acme.whoami()
    async with Client(federation.admin) as admin:
        seen = [
            (await admin.admin.member(name)).certificates[0].last_seen_at
            for name in ("acme", "beta")
        ]
    assert [bool(moment) for moment in seen] == [True, False]


async def test_no_secret_is_logged(federation: Federation) -> None:
    """A whole story with refusals: no hash, record id, token or key is in any log line."""
    with structlog.testing.capture_logs() as logs:
        invitation = await federation.invite("gamma")
        await federation.join("gamma")
        async with Client(federation.members["acme"]) as acme:
            (pushed,) = await acme.push("csam", [record()])
            await federation.published(pushed.log_index + 1)
            await acme.pull()
            await acme.provenance("csam", f"sha256:{VALUE.hex()}")
            await acme.lookup_remote("csam/all/sha256", VALUE.hex())
            with pytest.raises(HashshareError):
                await acme.provenance("absent", f"sha256:{VALUE.hex()}")
            with pytest.raises(HashshareError):
                await acme.push("csam", [record(bytes.fromhex(EMPTY))])
    text = json.dumps(logs, default=str)
    assert "submission accepted" in text
    for secret in (VALUE.hex(), "case/7", invitation.token, EMPTY, "PRIVATE KEY"):
        assert secret not in text


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_every_route_is_described() -> None:
    """The OpenAPI document has the server's routes with their methods, and no others."""
    document = json.loads((ROOT / "schemas/openapi.json").read_text())
    described = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    served = {
        (route.method, route.path.replace(":.+", ""))
        for module in (*API_MODULES, *ENROL_MODULES)
        for route in module.routes
        if isinstance(route, web.RouteDef) and route.method != "HEAD"
    }
    assert {d for d in described if d[0] != "HEAD"} == served


@given(st.binary(max_size=200), st.integers(400, 599))
def test_any_problem_becomes_an_error(body: bytes, status: int) -> None:
    """Whatever a server or a proxy answers."""
    assert isinstance(decode_problem(body, status=status, retry_after_seconds=None), HashshareError)

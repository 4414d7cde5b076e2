"""Serving a mirror: the routes that the server has for reading, answered from the copy."""

import asyncio
import ssl
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic
from typing import Final, Self

import msgspec
from aiohttp import web

from hashshare.crypto.encoding import parse_digest
from hashshare.crypto.tiles import TILE_WIDTH, encode_entries, parse_tile_path
from hashshare.domain.changes import parse_number, parse_version
from hashshare.domain.names import HashSetId, MemberId
from hashshare.domain.release import may_read_list, readable_lists
from hashshare.errors import MalformedError, NotFoundError, UnavailableError, VersionNotFoundError
from hashshare.http.context import (
    IMMUTABLE,
    PEER,
    REVALIDATE,
    answer,
    range_start,
    send_chunks,
    wait_seconds,
)
from hashshare.http.limits import RateLimit
from hashshare.http.middlewares import MEMBER_LIMIT, log_requests, render_problems
from hashshare.http.server import Endpoints, ServerLimits, listen
from hashshare.mirror.archive import Archive, KeptRegistry
from hashshare.mirror.copies import ListCopies, read_pieces
from hashshare.mirror.peers import DOORKEEPER, Doorkeeper, identify_reader
from hashshare.mirror.syncing import batch_path
from hashshare.replica import Replica
from hashshare.wire.lists import (
    BucketDocument,
    HashSetDocument,
    HashSetList,
    ProofDocument,
    PublicationDocument,
    SnapshotDocument,
)
from hashshare.wire.members import AdmissionList, RegistryDocument

POLL_SECONDS: Final = 0.25
"""How often a reader that waits is looked after: another process may be the one that syncs."""

ARCHIVE: Final = web.AppKey("archive", Archive)
COPIES: Final = web.AppKey("copies", ListCopies)
FOLDER: Final = web.AppKey("folder", Path)

routes: Final = web.RouteTableDef()

_LIST: Final = "/v1/lists/{hash_set}/{view}/{algorithm}"


class MirrorServer:
    """Serves the copy in a folder until its context ends.

    Attributes:
        url: Where it is reached on this machine, once it runs.
        tls: With the certificate that it shows and the CAs whose members it lets in; may be
            replaced, for connections from then on.
    """

    def __init__(
        self,
        folder: Path,
        *,
        operator: MemberId,
        endpoints: Endpoints,
        tls: ssl.SSLContext,
        limits: ServerLimits | None = None,
    ) -> None:
        self.url = ""
        self._folder = folder
        self._operator = operator
        self._endpoints = endpoints
        self.tls = tls
        self._limits = limits or ServerLimits()
        self._replica: Replica | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            archive = Archive.open(self._folder / "archive.sqlite")
            stack.callback(archive.close)
            stack.callback(self._close_replica)
            app = self._build(archive)
            _, port = await listen(
                stack,
                app,
                self._endpoints,
                lambda: self.tls,
                name="mirror",
                shutdown_seconds=self._limits.shutdown_seconds,
            )
            self.url = self._endpoints.url(port)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _build(self, archive: Archive) -> web.Application:
        app = web.Application(middlewares=[log_requests, render_problems, identify_reader])
        app[MEMBER_LIMIT] = RateLimit(self._limits.member_per_second, self._limits.member_burst)
        app[ARCHIVE] = archive
        app[COPIES] = ListCopies(self._folder, archive, self._open_replica)
        app[DOORKEEPER] = Doorkeeper(archive, self._operator)
        app[FOLDER] = self._folder
        app.add_routes(routes)
        return app

    def _open_replica(self) -> Replica:
        # Only once it is asked for: the first sync may still be making it.
        if self._replica is None:
            self._replica = Replica.open(self._folder / "replica.sqlite", readonly=True)
        return self._replica

    def _close_replica(self) -> None:
        if self._replica is not None:
            self._replica.close()


@routes.get("/v1/log/checkpoint")
async def get_checkpoint(request: web.Request) -> web.StreamResponse:
    """Answer with the newest checkpoint here; with ``Prefer: wait`` when there is a newer one."""
    archive = request.app[ARCHIVE]
    known = request.headers.get("If-None-Match")
    deadline = monotonic() + wait_seconds(request)
    while known == f'"{archive.size}"':
        if monotonic() >= deadline:
            return web.Response(status=304, headers={"ETag": known})
        await asyncio.sleep(POLL_SECONDS)
    return web.Response(
        body=archive.note,
        content_type="text/plain",
        charset="utf-8",
        headers={"ETag": f'"{archive.size}"', **REVALIDATE},
    )


@routes.get("/v1/log/tile/{path:.+}")
async def get_tile(request: web.Request) -> web.StreamResponse:
    """Answer with a tile of hashes, or a bundle of entries."""
    tile, archive = parse_tile_path(request.match_info["path"]), request.app[ARCHIVE]
    if tile.level is None:
        body = encode_entries(archive.leaves(tile.first, tile.width))
    else:
        body = b"".join(archive.tile(tile.level, tile.first, tile.width))
    return web.Response(body=body, content_type="application/octet-stream", headers=IMMUTABLE)


@routes.get("/v1/log/entries")
async def get_entries(request: web.Request) -> web.StreamResponse:
    """Answer with a bundle of ``?count=`` entries, at most 256, from ``?first=`` on."""
    query = request.query
    first, count = parse_number(query.get("first", "")), parse_number(query.get("count", ""))
    if not 1 <= count <= TILE_WIDTH:
        raise MalformedError(f"a bundle has 1 to {TILE_WIDTH} entries")
    body = encode_entries(request.app[ARCHIVE].leaves(first, count))
    return web.Response(body=body, content_type="application/octet-stream", headers=IMMUTABLE)


@routes.get("/v1/log/entries/{index}")
async def get_entry(request: web.Request) -> web.StreamResponse:
    """Answer with one leaf."""
    (leaf,) = request.app[ARCHIVE].leaves(parse_number(request.match_info["index"]), 1)
    return web.Response(body=leaf, content_type="application/vnd.dsse+json", headers=IMMUTABLE)


@routes.get("/v1/log/inclusion")
async def get_inclusion(request: web.Request) -> web.StreamResponse:
    """Answer with the proof that leaf ``?index=`` is in the tree of ``?size=``."""
    query = request.query
    index, size = parse_number(query.get("index", "")), parse_number(query.get("size", ""))
    proof = request.app[ARCHIVE].inclusion(index, size)
    return answer(ProofDocument(proof=proof), headers=IMMUTABLE)


@routes.get("/v1/log/consistency")
async def get_consistency(request: web.Request) -> web.StreamResponse:
    """Answer with the proof that the tree of ``?new=`` extends the tree of ``?old=``."""
    query = request.query
    old, new = parse_number(query.get("old", "")), parse_number(query.get("new", ""))
    proof = request.app[ARCHIVE].consistency(old, new)
    return answer(ProofDocument(proof=proof), headers=IMMUTABLE)


@routes.get("/v1/registry")
async def get_registry(request: web.Request) -> web.StreamResponse:
    """Answer with the registry in force at the end of what is here."""
    version = request[PEER].registry.version
    return answer(_to_registry(request.app[ARCHIVE].find_registry(version)))


@routes.get("/v1/registry/{version}")
async def get_version(request: web.Request) -> web.StreamResponse:
    """Answer with one version of the registry."""
    version = parse_number(request.match_info["version"])
    return answer(_to_registry(request.app[ARCHIVE].find_registry(version)))


@routes.get("/v1/admissions")
async def list_admissions(request: web.Request) -> web.StreamResponse:
    """Answer with the certificates that the last sync found whole."""
    admitted = msgspec.json.decode(request.app[ARCHIVE].get_state("admitted") or b"[]")
    return answer(AdmissionList(fingerprints=admitted))


@routes.get("/v1/hash-sets")
async def list_hash_sets(request: web.Request) -> web.StreamResponse:
    """Answer with the hash sets here that the caller may read."""
    peer, operator = request[PEER], request.app[DOORKEEPER].operator
    readable = [
        _to_hash_set(request, hash_set)
        for hash_set in peer.registry.readable_sets(peer.member)
        if peer.registry.may_read(operator, hash_set)
    ]
    return answer(HashSetList(hash_sets=readable))


@routes.get("/v1/hash-sets/{hash_set}")
async def get_hash_set(request: web.Request) -> web.StreamResponse:
    """Answer with one hash set."""
    return answer(_to_hash_set(request, request.app[DOORKEEPER].set_of(request)))


@routes.get("/v1/hash-sets/{hash_set}/publication")
async def get_latest_publication(request: web.Request) -> web.StreamResponse:
    """Answer with the latest publication; with ``Prefer: wait`` when there is a newer one."""
    hash_set, archive = request.app[DOORKEEPER].set_of(request), request.app[ARCHIVE]
    known = request.headers.get("If-None-Match")
    deadline = monotonic() + wait_seconds(request)
    while known == f'"{archive.last_version(hash_set)}"':
        if monotonic() >= deadline:
            return web.Response(status=304, headers={"ETag": known})
        await asyncio.sleep(POLL_SECONDS)
    version = archive.last_version(hash_set)
    document = _to_publication(archive, hash_set, version)
    return answer(document, headers={"ETag": f'"{version}"', **REVALIDATE})


@routes.get("/v1/hash-sets/{hash_set}/publications/{version}")
async def get_publication(request: web.Request) -> web.StreamResponse:
    """Answer with one publication."""
    version = parse_version(request.match_info["version"])
    hash_set = request.app[DOORKEEPER].set_of(request)
    document = _to_publication(request.app[ARCHIVE], hash_set, version)
    return answer(document, headers=REVALIDATE)


@routes.get(_LIST + "/snapshot")
async def get_snapshot(request: web.Request) -> web.StreamResponse:
    """Answer with the description of the newest snapshot."""
    name = request.app[DOORKEEPER].list_of(request)
    kept = request.app[COPIES].snapshot(name)
    document = SnapshotDocument(
        list_name=str(name),
        version=kept.version,
        count=kept.count,
        size=kept.size,
        sha256=kept.sha256,
        path=f"/v1/lists/{name}/snapshots/{kept.version}",
    )
    return answer(document, headers=REVALIDATE)


@routes.get(_LIST + "/snapshots/{version}")
async def download_snapshot(request: web.Request) -> web.StreamResponse:
    """Answer with the Parquet file, or the rest of it from a given byte on."""
    name, copies = request.app[DOORKEEPER].list_of(request), request.app[COPIES]
    kept = copies.snapshot(name, parse_version(request.match_info["version"]))
    offset = range_start(request)
    if offset > kept.size:
        raise MalformedError(f"the snapshot has {kept.size} bytes")
    headers = IMMUTABLE | {"ETag": f'"{kept.sha256}"', "Accept-Ranges": "bytes"}
    if offset:
        headers["Content-Range"] = f"bytes {offset}-{kept.size - 1}/{kept.size}"
    response = web.StreamResponse(status=206 if offset else 200, headers=headers)
    response.content_type = "application/vnd.apache.parquet"
    response.content_length = kept.size - offset
    pieces = read_pieces(copies.snapshot_path(name, kept), offset=offset)
    return await send_chunks(request, response, pieces)


@routes.get(_LIST + "/deltas/{base}/{target}")
async def get_delta(request: web.Request) -> web.StreamResponse:
    """Answer with what changed between two versions."""
    name = request.app[DOORKEEPER].list_of(request)
    base, target = (parse_version(request.match_info[end]) for end in ("base", "target"))
    pieces = await request.app[COPIES].delta(name, base, target)
    response = web.StreamResponse(headers=IMMUTABLE | {"Content-Encoding": "zstd"})
    response.content_type = "application/x-ndjson"
    return await send_chunks(request, response, pieces)


@routes.get(_LIST + "/buckets/{index}")
async def get_bucket(request: web.Request) -> web.StreamResponse:
    """Answer with one of the list's ``2**?bits=`` buckets, and what proves it."""
    name = request.app[DOORKEEPER].list_of(request)
    index = parse_number(request.match_info["index"])
    bits = parse_number(request.query.get("bits", ""))
    proof = await request.app[COPIES].bucket(name, index, bits)
    document = BucketDocument(
        list_name=str(name),
        version=proof.state.version,
        bits=proof.state.bits,
        index=index,
        data=proof.data,
        path=proof.path,
        attributes={tag.hex(): text.decode() for tag, text in proof.attributes.items()},
    )
    return answer(document, headers=REVALIDATE)


@routes.get("/v1/batches/{sha256}")
async def get_batch(request: web.Request) -> web.StreamResponse:
    """Answer with a batch, as zstd, to its member, admins and auditors."""
    sha256 = parse_digest(request.match_info["sha256"])
    request.app[DOORKEEPER].verify_batch(request, sha256)
    path = batch_path(request.app[FOLDER], sha256)
    if not path.exists():
        raise NotFoundError("there is no such batch")
    response = web.StreamResponse(headers={"Content-Encoding": "zstd"})
    response.content_type = "application/x-ndjson"
    return await send_chunks(request, response, read_pieces(path))


def _to_registry(kept: KeptRegistry) -> RegistryDocument:
    return RegistryDocument(
        document=kept.document, envelope=kept.envelope, log_index=kept.log_index
    )


def _to_hash_set(request: web.Request, hash_set_id: HashSetId) -> HashSetDocument:
    registry, operator = request[PEER].registry, request.app[DOORKEEPER].operator
    hash_set = registry.hash_set(hash_set_id)
    lists = [
        name
        for name in readable_lists(registry, request[PEER].member, hash_set_id)
        if may_read_list(registry, operator, name)
    ]
    return HashSetDocument(
        hash_set=hash_set_id,
        title=hash_set.title,
        algorithms=list(map(str, hash_set.algorithms)),
        classifications=list(hash_set.classifications),
        views=sorted({str(name.view) for name in lists}),
        lists=list(map(str, lists)),
        version=request.app[ARCHIVE].last_version(hash_set_id),
    )


def _to_publication(archive: Archive, hash_set: HashSetId, version: int) -> PublicationDocument:
    """Return a publication under the newest checkpoint: a mirror cannot sign another."""
    found, note, size = archive.find_publication(hash_set, version), archive.note, archive.size
    if found is None:
        raise VersionNotFoundError(f"{hash_set!r:.70} has no version {version} here")
    if not note:
        raise UnavailableError("nothing was mirrored yet")
    index, envelope = found
    return PublicationDocument(
        checkpoint=note.decode(),
        envelope=envelope,
        inclusion=archive.inclusion(index, size),
        log_index=index,
    )

"""Hash sets, their publications, and their lists: snapshots, deltas, buckets."""

from typing import Final

from aiohttp import web

from hashshare.domain.changes import Version, parse_number, parse_version
from hashshare.domain.hashes import HashValue, parse_algorithm, parse_value
from hashshare.domain.names import HashSetId, format_time
from hashshare.domain.release import readable_lists, readable_views
from hashshare.errors import MalformedError, NotFoundError
from hashshare.http.context import (
    IMMUTABLE,
    PEER,
    REVALIDATE,
    answer,
    now,
    range_start,
    readable_list,
    readable_set,
    require_auditor,
    send_chunks,
    services,
    wait_seconds,
)
from hashshare.http.trail import record_pull
from hashshare.service.pull import PublicationBundle
from hashshare.service.retraction import Presence
from hashshare.wire.lists import (
    BucketDocument,
    HashSetDocument,
    HashSetList,
    HolderDocument,
    PresenceDocument,
    PresenceList,
    PublicationDocument,
    SnapshotDocument,
)

routes: Final = web.RouteTableDef()

_LIST: Final = "/v1/lists/{hash_set}/{view}/{algorithm}"


@routes.get("/v1/hash-sets")
async def list_hash_sets(request: web.Request) -> web.StreamResponse:
    """Answer with the hash sets that the caller may read."""
    peer = request[PEER]
    readable = peer.registry.readable_sets(peer.member)
    return answer(HashSetList(hash_sets=[_to_hash_set(request, hash_set) for hash_set in readable]))


@routes.get("/v1/hash-sets/{hash_set}")
async def get_hash_set(request: web.Request) -> web.StreamResponse:
    """Answer with one hash set."""
    return answer(_to_hash_set(request, readable_set(request)))


@routes.get("/v1/hash-sets/{hash_set}/publication")
async def get_latest_publication(request: web.Request) -> web.StreamResponse:
    """Answer with the latest publication; with ``Prefer: wait`` when there is a newer one."""
    hash_set, peer, pull = readable_set(request), request[PEER], services(request).pull
    version = pull.latest_version(hash_set, reader=peer)
    known = request.headers.get("If-None-Match")
    if known == f'"{version}"':
        version = await pull.wait_for_news(
            hash_set, after=version, timeout_seconds=wait_seconds(request), reader=peer
        )
        if known == f'"{version}"':
            return web.Response(status=304, headers={"ETag": known})
    bundle = await pull.publication(hash_set, version, reader=peer)
    return answer(_to_publication(bundle), headers={"ETag": f'"{version}"', **REVALIDATE})


@routes.get("/v1/hash-sets/{hash_set}/publications/{version}")
async def get_publication(request: web.Request) -> web.StreamResponse:
    """Answer with one publication."""
    version = parse_version(request.match_info["version"])
    bundle = await services(request).pull.publication(
        readable_set(request), version, reader=request[PEER]
    )
    return answer(_to_publication(bundle), headers=IMMUTABLE)


@routes.get(_LIST + "/snapshot")
async def get_snapshot(request: web.Request) -> web.StreamResponse:
    """Answer with the description of the newest snapshot, or wait for one that is due."""
    name, pull, peer = readable_list(request), services(request).pull, request[PEER]
    if seconds := wait_seconds(request):
        await pull.wait_for_snapshot(name, timeout_seconds=seconds, reader=peer)
    row = await pull.snapshot(name, reader=peer)
    document = SnapshotDocument(
        list_name=str(name),
        version=row.version,
        count=row.count,
        size=row.size,
        sha256=row.sha256,
        path=f"/v1/lists/{name}/snapshots/{row.version}",
    )
    return answer(document, headers=REVALIDATE)


@routes.get(_LIST + "/snapshots/{version}")
async def download_snapshot(request: web.Request) -> web.StreamResponse:
    """Answer with the Parquet file, or the rest of it from a given byte on."""
    name, version = readable_list(request), parse_version(request.match_info["version"])
    offset = range_start(request)
    row, chunks = await services(request).pull.open_snapshot(
        name, version, offset=offset, reader=request[PEER]
    )
    if offset > row.size:
        raise MalformedError(f"the snapshot has {row.size} bytes")
    await record_pull(request, "snapshot", list=str(name), target=version, offset=offset)
    headers = IMMUTABLE | {"ETag": f'"{row.sha256}"', "Accept-Ranges": "bytes"}
    if offset:
        headers["Content-Range"] = f"bytes {offset}-{row.size - 1}/{row.size}"
    response = web.StreamResponse(status=206 if offset else 200, headers=headers)
    response.content_type = "application/vnd.apache.parquet"
    response.content_length = row.size - offset
    sent = await send_chunks(request, response, chunks)
    await _note_version(request, str(name), version)
    return sent


@routes.get(_LIST + "/deltas/{base}/{target}")
async def get_delta(request: web.Request) -> web.StreamResponse:
    """Answer with what changed between two versions."""
    name = readable_list(request)
    base, target = (parse_version(request.match_info[end]) for end in ("base", "target"))
    chunks = await services(request).pull.delta(
        name, base=base, target=target, reader=request[PEER]
    )
    await record_pull(request, "delta", list=str(name), base=base, target=target)
    response = web.StreamResponse(headers=IMMUTABLE | {"Content-Encoding": "zstd"})
    response.content_type = "application/x-ndjson"
    sent = await send_chunks(request, response, chunks)
    await _note_version(request, str(name), target)
    return sent


@routes.get(_LIST + "/buckets/{index}")
async def get_bucket(request: web.Request) -> web.StreamResponse:
    """Answer with one of the list's ``2**?bits=`` buckets, and what proves it."""
    name, index = readable_list(request), parse_number(request.match_info["index"])
    proof = await services(request).pull.bucket(
        name, index, bits=parse_number(request.query.get("bits", "")), reader=request[PEER]
    )
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


async def _note_version(request: web.Request, list_name: str, version: Version) -> None:
    await services(request).membership.record_pull(
        request[PEER].member, list_name, version, now=now()
    )


@routes.get("/v1/hash-sets/{hash_set}/hashes/{algorithm}/{digits}/holders")
async def get_holders(request: web.Request) -> web.StreamResponse:
    """Answer with when a hash left each list, and who was sent a version that has it."""
    registry, hash_set = require_auditor(request).registry, readable_set(request)
    algorithm = parse_algorithm(request.match_info["algorithm"])
    value = HashValue(algorithm, parse_value(algorithm, request.match_info["digits"]))
    found = await services(request).retractions.read(registry, hash_set, value)
    return answer(PresenceList(lists=[_to_presence(one) for one in found]))


def _to_presence(presence: Presence) -> PresenceDocument:
    return PresenceDocument(
        list_name=str(presence.name),
        entered=presence.entered,
        left=presence.left,
        holders=[
            HolderDocument(
                member=holder.member,
                version=holder.version,
                pulled_at=format_time(holder.pulled_at),
                has_it=holder.has_it,
            )
            for holder in presence.holders
        ],
    )


def _to_hash_set(request: web.Request, hash_set_id: HashSetId) -> HashSetDocument:
    peer = request[PEER]
    hash_set = peer.registry.hash_sets.get(hash_set_id)
    if hash_set is None:
        raise NotFoundError(f"no hash set {hash_set_id!r:.70}")
    return HashSetDocument(
        hash_set=hash_set_id,
        title=hash_set.title,
        algorithms=list(map(str, hash_set.algorithms)),
        classifications=list(hash_set.classifications),
        views=readable_views(peer.registry, peer.member, hash_set_id),
        lists=[str(n) for n in readable_lists(peer.registry, peer.member, hash_set_id)],
        version=services(request).pull.latest_version(hash_set_id, reader=peer),
    )


def _to_publication(bundle: PublicationBundle) -> PublicationDocument:
    return PublicationDocument(
        checkpoint=bundle.checkpoint.decode(),
        envelope=bundle.envelope,
        inclusion=list(bundle.inclusion),
        log_index=bundle.log_index,
    )

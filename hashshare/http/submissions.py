"""Batches, submissions, and what members said of a hash."""

from typing import Final, Literal

from aiohttp import web

from hashshare.crypto.encoding import parse_digest
from hashshare.crypto.envelope import MAX_ENVELOPE_BYTES
from hashshare.domain.changes import parse_number
from hashshare.domain.hashes import HashValue, parse_algorithm, parse_value
from hashshare.domain.names import format_time
from hashshare.errors import MalformedError, NotFoundError, TooLargeError
from hashshare.http.context import (
    PEER,
    answer,
    now,
    read_body,
    read_chunks,
    readable_set,
    require_admin,
    send_chunks,
    services,
)
from hashshare.http.trail import annotate_act, record_pull
from hashshare.service.submit import SubmissionResult
from hashshare.storage.provenance import Statement
from hashshare.storage.submissions import AcceptedSubmission, SubmissionCounts
from hashshare.wire.submissions import (
    CountsDocument,
    ProvenanceDocument,
    RedactionDocument,
    StatementOfHash,
    SubmissionDocument,
    SubmissionList,
    SubmissionSummary,
)

routes: Final = web.RouteTableDef()

_PATH: Final = "/v1/batches/{sha256}"


@routes.put(_PATH)
async def put_batch(request: web.Request) -> web.StreamResponse:
    """Store a batch under the digest of its NDJSON."""
    sha256 = parse_digest(request.match_info["sha256"])
    batches = services(request).batches
    limit = batches.limits.max_bytes
    if (request.content_length or 0) > limit:
        raise TooLargeError(f"a batch has at most {limit} bytes")
    created = await batches.store(sha256, read_chunks(request), encoding=_encoding_of(request))
    return web.Response(status=201 if created else 200)


@routes.get(_PATH)
async def get_batch(request: web.Request) -> web.StreamResponse:
    """Answer with a batch, as zstd, to its member, admins and auditors."""
    sha256 = parse_digest(request.match_info["sha256"])
    batches = services(request).batches
    if request.method == "HEAD":
        if not await batches.has(sha256):
            raise NotFoundError("there is no such batch")
        return web.Response()
    chunks = await batches.open(sha256, peer_member=request[PEER].member)
    await record_pull(request, "batch", batch=sha256)
    response = web.StreamResponse(headers={"Content-Encoding": "zstd"})
    response.content_type = "application/x-ndjson"
    return await send_chunks(request, response, chunks)


@routes.post("/v1/submissions")
async def post_submission(request: web.Request) -> web.StreamResponse:
    """Accept a signed submission whose batch is stored."""
    envelope = await read_body(request, max_bytes=MAX_ENVELOPE_BYTES)
    result = await services(request).submit.submit(
        envelope, peer_member=request[PEER].member, now=now(), scope=request[PEER].scope
    )
    return answer(_to_document(result), status=200 if result.repeated else 201)


@routes.post("/v1/redactions")
async def post_redaction(request: web.Request) -> web.StreamResponse:
    """Delete a batch, by a statement that governance has signed."""
    require_admin(request)
    envelope = await read_body(request, max_bytes=MAX_ENVELOPE_BYTES)
    done = await services(request).redactions.redact(envelope)
    annotate_act(request, log_index=done.log_index)
    document = RedactionDocument(log_index=done.log_index, receipt=done.receipt.decode())
    return answer(document, status=201)


@routes.get("/v1/submissions")
async def list_submissions(request: web.Request) -> web.StreamResponse:
    """Answer with up to 100 submissions of the caller, above log index ``?after=``."""
    after = request.query.get("after")
    found = await services(request).submit.list_submissions(
        request[PEER].member, after=-1 if after is None else parse_number(after)
    )
    return answer(SubmissionList(submissions=[_to_summary(row) for row in found]))


@routes.get("/v1/submissions/{statement_id}")
async def get_submission(request: web.Request) -> web.StreamResponse:
    """Answer with what a submission of the caller was answered."""
    statement_id = parse_digest(request.match_info["statement_id"])
    result = await services(request).submit.read_submission(statement_id, request[PEER].member)
    return answer(_to_document(result))


@routes.get("/v1/hash-sets/{hash_set}/hashes/{algorithm}/{digits}/provenance")
async def get_provenance(request: web.Request) -> web.StreamResponse:
    """Answer with all that members ever said of one hash."""
    hash_set = readable_set(request)
    algorithm = parse_algorithm(request.match_info["algorithm"])
    value = parse_value(algorithm, request.match_info["digits"])
    statements = await services(request).pull.provenance(
        hash_set, HashValue(algorithm, value), reader=request[PEER]
    )
    document = ProvenanceDocument(
        hash_set=hash_set,
        algorithm=str(algorithm),
        assertions=[_to_statement(statement) for statement in statements],
    )
    return answer(document)


def _encoding_of(request: web.Request) -> Literal["identity", "zstd"]:
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding == "identity":
        return "identity"
    if encoding == "zstd":
        return "zstd"
    raise MalformedError(f"a batch is sent plain or as zstd, not {encoding!r:.40}")


def _to_counts(counts: SubmissionCounts) -> CountsDocument:
    return CountsDocument(
        records=counts.records,
        hashes=counts.hashes,
        new=counts.new,
        known=counts.known,
        unchanged=counts.unchanged,
        ended=counts.ended,
    )


def _to_document(result: SubmissionResult) -> SubmissionDocument:
    return SubmissionDocument(
        statement_id=result.statement_id,
        log_index=result.log_index,
        receipt=result.receipt.decode(),
        counts=_to_counts(result.counts),
    )


def _to_summary(row: AcceptedSubmission) -> SubmissionSummary:
    return SubmissionSummary(
        statement_id=row.statement_id,
        log_index=row.log_index,
        hash_set=row.hash_set,
        operation=row.operation.value,
        sequence=row.sequence,
        batch=row.batch,
        accepted_at=format_time(row.accepted_at),
        counts=_to_counts(row.counts),
    )


def _to_statement(statement: Statement) -> StatementOfHash:
    return StatementOfHash(
        member=statement.member,
        verdict=statement.verdict,
        record=statement.record or None,
        classification=statement.classification,
        media=statement.media,
        basis=statement.basis,
        reason=statement.reason,
        accepted_at=format_time(statement.since),
        log_index=statement.log_index,
        ended_log_index=statement.ended_log_index,
        envelope=statement.envelope,
    )

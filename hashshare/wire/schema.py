"""Writes ``schemas/``: the HTTP interface as OpenAPI 3.1, and every document as JSON Schema.

``python -m hashshare.wire.schema [--check] schemas``
"""

import inspect
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from pydantic.json_schema import models_json_schema

from hashshare import __version__
from hashshare.domain import joining, registry, statements
from hashshare.wire import cases, feedback, lists, members, report, submissions, trail
from hashshare.wire.delta import DeltaHeader
from hashshare.wire.document import WireDocument
from hashshare.wire.problem import MEDIA_TYPE as PROBLEM_TYPE
from hashshare.wire.problem import PROBLEM_TYPES

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
DSSE: Final = "application/vnd.dsse+json"
OCTETS: Final = "application/octet-stream"

SIGNED: Final[dict[str, Any]] = {
    "submission": statements.Submission,
    "registry-statement": statements.RegistryStatement,
    "publication": statements.Publication,
    "redaction": statements.Redaction,
    "registry": registry.Registry,
    "trust": joining.Trust,
    "invitation": joining.Invitation,
    "delta-header": DeltaHeader,
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the HTTP interface.

    Attributes:
        takes: The body: a document, or a media type.
        gives: The answer: a document, a media type, or None for no body.
        enrol: Whether it is on the listener for enrolment, without a client certificate.
    """

    method: str
    path: str
    summary: str
    gives: type[WireDocument] | str | None
    takes: type[WireDocument] | str | None = None
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    status: int = 200
    enrol: bool = False


_LIST: Final = "/v1/lists/{hash_set}/{view}/{algorithm}"
_SET: Final = "/v1/hash-sets/{hash_set}"
_WAIT: Final = ("If-None-Match", "Prefer")

OPERATIONS: Final = (
    Operation("get", "/v1/self", "Who the caller is, and what it may", members.SelfDocument),
    Operation("get", "/v1/registry", "The registry in force", members.RegistryDocument),
    Operation(
        "post",
        "/v1/registry",
        "Put the next version into force (admins)",
        members.RegistryAppended,
        members.RegistryRequest,
        status=201,
    ),
    Operation(
        "post",
        "/v1/previews",
        "What a registry would make of the lists, as zstd; changes nothing (admins)",
        NDJSON,
        members.PreviewRequest,
        query=("changes",),
    ),
    Operation("get", "/v1/registry/{version}", "One version", members.RegistryDocument),
    Operation("put", "/v1/batches/{sha256}", "Store a batch", None, NDJSON, status=201),
    Operation("get", "/v1/batches/{sha256}", "A batch, as zstd", NDJSON),
    Operation(
        "post",
        "/v1/submissions",
        "Accept a signed submission; 200 when it was accepted before",
        submissions.SubmissionDocument,
        DSSE,
        status=201,
    ),
    Operation(
        "get",
        "/v1/submissions",
        "Submissions of the caller",
        submissions.SubmissionList,
        query=("after",),
    ),
    Operation(
        "get", "/v1/submissions/{statement_id}", "One of them", submissions.SubmissionDocument
    ),
    Operation("get", "/v1/hash-sets", "Hash sets that the caller may read", lists.HashSetList),
    Operation("get", _SET, "One hash set", lists.HashSetDocument),
    Operation(
        "get",
        f"{_SET}/publication",
        "The latest publication; waits for news with Prefer: wait",
        lists.PublicationDocument,
        headers=_WAIT,
    ),
    Operation(
        "get", f"{_SET}/publications/{{version}}", "One publication", lists.PublicationDocument
    ),
    Operation(
        "get",
        f"{_SET}/hashes/{{algorithm}}/{{digits}}/provenance",
        "Who said what of a hash",
        submissions.ProvenanceDocument,
    ),
    Operation(
        "get",
        f"{_SET}/hashes/{{algorithm}}/{{digits}}/feedback",
        "What is shown of what members report that a hash did for them",
        feedback.HashFeedback,
    ),
    Operation(
        "post",
        f"{_SET}/feedback",
        "Report what hashes did for the caller in a month; idempotent",
        feedback.FeedbackDone,
        feedback.FeedbackReport,
    ),
    Operation(
        "get",
        "/v1/cases",
        "Open cases that concern the caller",
        cases.CaseList,
        query=("after",),
    ),
    Operation(
        "get",
        "/v1/cases/{case}/hashes",
        "The hashes of a case that concern the caller",
        cases.DisputedList,
        query=("after",),
    ),
    Operation(
        "post",
        "/v1/cases/{case}/confirmation",
        "The caller stands by what it asserts of them",
        None,
        cases.ConfirmationRequest,
        status=204,
    ),
    Operation(
        "get",
        f"{_SET}/hashes/{{algorithm}}/{{digits}}/holders",
        "When a hash left each list, and who was sent it (admins and auditors)",
        lists.PresenceList,
    ),
    Operation(
        "get",
        f"{_LIST}/snapshot",
        "The newest snapshot; waits for one that is due with Prefer: wait",
        lists.SnapshotDocument,
        headers=("Prefer",),
    ),
    Operation(
        "get",
        f"{_LIST}/snapshots/{{version}}",
        "The Parquet file; 206 for the rest from a byte on",
        "application/vnd.apache.parquet",
        headers=("Range",),
    ),
    Operation("get", f"{_LIST}/deltas/{{base}}/{{target}}", "A net delta, as zstd", NDJSON),
    Operation(
        "get",
        f"{_LIST}/buckets/{{index}}",
        "One bucket with its proof",
        lists.BucketDocument,
        query=("bits",),
    ),
    Operation(
        "post",
        "/v1/redactions",
        "Delete a batch (admins, signed by governance)",
        submissions.RedactionDocument,
        DSSE,
        status=201,
    ),
    Operation("get", "/v1/log/checkpoint", "The newest checkpoint", "text/plain", headers=_WAIT),
    Operation(
        "post",
        "/v1/log/checkpoint",
        "Show a checkpoint that the caller holds, larger than the server's",
        None,
        "text/plain",
        status=204,
    ),
    Operation(
        "get", "/v1/log/checkpoint/pending", "The checkpoint that witnesses cosign", "text/plain"
    ),
    Operation("get", "/v1/log/checkpoint/newest", "The checkpoint of the whole log", "text/plain"),
    Operation(
        "post",
        "/v1/log/cosignatures",
        "Keep cosignatures of a checkpoint",
        lists.CosignedDocument,
        "text/plain",
    ),
    Operation("get", "/v1/log/audits", "What auditors audited last", lists.AuditList),
    Operation("get", "/v1/log/tile/{path}", "A tile (C2SP tlog-tiles)", OCTETS),
    Operation(
        "get",
        "/v1/log/entries",
        "A bundle of up to 256 leaves",
        OCTETS,
        query=("first", "count"),
    ),
    Operation("get", "/v1/log/entries/{index}", "One leaf", DSSE),
    Operation(
        "get",
        "/v1/log/inclusion",
        "Proof that a leaf is in the log",
        lists.ProofDocument,
        query=("index", "size"),
    ),
    Operation(
        "get",
        "/v1/log/consistency",
        "Proof that the log only grew",
        lists.ProofDocument,
        query=("old", "new"),
    ),
    Operation(
        "post",
        "/v1/submission-keys",
        "Sign with another submission key from now on",
        members.SubmissionKeyDone,
        members.SubmissionKeyRequest,
        status=201,
    ),
    Operation(
        "post",
        "/v1/renewals",
        "A new certificate for the caller",
        members.RenewalDone,
        members.RenewalRequest,
        status=201,
    ),
    Operation(
        "get",
        "/v1/self/certificates",
        "All certificates of the caller's member",
        members.OwnCertificateList,
    ),
    Operation(
        "post",
        "/v1/self/invitations",
        "Let the caller's member have another certificate",
        members.OwnInvitationMade,
        members.OwnInvitationRequest,
        status=201,
    ),
    Operation(
        "post",
        "/v1/self/certificates/{fingerprint}/revoke",
        "Revoke a certificate of the caller's member",
        members.OwnRevocationDone,
        members.RevocationRequest,
    ),
    Operation("get", "/v1/admissions", "Certificates that mirrors let in", members.AdmissionList),
    Operation("get", "/v1/members", "All members (admins)", members.MemberList),
    Operation("get", "/v1/members/{member}", "One member (admins)", members.MemberDocument),
    Operation(
        "post",
        "/v1/members/{member}/certificates/{fingerprint}/revoke",
        "Revoke a certificate (admins)",
        None,
        members.RevocationRequest,
        status=204,
    ),
    Operation(
        "post",
        "/v1/invitations",
        "Make an invitation (admins)",
        members.InvitationMade,
        members.InvitationRequest,
        status=201,
    ),
    Operation("get", "/v1/invitations", "All invitations (admins)", members.InvitationList),
    Operation(
        "delete",
        "/v1/invitations/{invitation_id}",
        "Make an invitation invalid (admins)",
        None,
        status=204,
    ),
    Operation(
        "get",
        "/v1/trail",
        "The audit trail (admins and auditors)",
        trail.TrailPage,
        query=("member", "kind", "since", "until", "at", "limit", "order"),
    ),
    Operation(
        "get",
        "/v1/report",
        "The transparency report of a time (admins and auditors)",
        report.ReportDocument,
        query=("from", "to"),
    ),
    Operation("get", "/health", "Whether the server is well", JSON, enrol=True),
    Operation("get", "/v1/trust", "The trust document", JSON, enrol=True, query=("digest",)),
    Operation("get", "/v1/trust/metadata/{name}", "Metadata of the trust root (TUF)", JSON),
    Operation("get", "/v1/trust/targets/{name}", "A trust document by its digest", JSON),
    Operation(
        "post",
        "/v1/enrolments",
        "Enrol with an invitation",
        members.EnrolmentDone,
        members.EnrolmentRequest,
        status=201,
        enrol=True,
    ),
)


def build_schemas() -> dict[str, Any]:
    """Return every file of ``schemas/`` by its name, as plain JSON values."""
    files: dict[str, Any] = {"openapi.json": build_openapi()}
    for name, kind in SIGNED.items():
        files[f"{name}.json"] = {
            "$schema": "https://json-schema.org/draft/2020-12/schema"
        } | _with_portable_patterns(msgspec.json.schema(kind))
    return files


def build_openapi() -> dict[str, Any]:
    """Return the OpenAPI document of both listeners."""
    _, models = models_json_schema(
        [(kind, "serialization") for kind in _documents()],
        ref_template="#/components/schemas/{model}",
    )
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hashshare",
            "version": __version__,
            "description": "docs/protocol.md says what is signed, and what a client verifies.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "https://127.0.0.1:8443"}],
        "security": [{"clientCertificate": []}],
        "paths": paths,
        "components": {
            "schemas": models["$defs"] | {"Problem": _problem_schema()},
            "securitySchemes": {"clientCertificate": {"type": "mutualTLS"}},
            "responses": {
                "Problem": {
                    "description": "A problem (RFC 9457); docs/problems.md has each type",
                    "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
        },
    }


def main(arguments: list[str]) -> int:
    """Write the files, or with ``--check`` tell which are not what they should be."""
    check = "--check" in arguments
    (folder,) = (Path(a) for a in arguments if not a.startswith("--"))
    wanted = {
        name: json.dumps(content, indent=2, sort_keys=True) + "\n"
        for name, content in build_schemas().items()
    }
    stale = [
        name
        for name, text in wanted.items()
        if not (folder / name).exists() or (folder / name).read_text() != text
    ]
    stale += [path.name for path in folder.glob("*.json") if path.name not in wanted]
    if check:
        for name in stale:
            sys.stderr.write(f"out of date: {folder / name}; run scripts/fix\n")
        return int(bool(stale))
    folder.mkdir(exist_ok=True)
    for name, text in wanted.items():
        (folder / name).write_text(text)
    return 0


def _with_portable_patterns(schema: Any) -> Any:  # noqa: ANN401
    r"""Return ``schema`` with the anchors of ECMA-262, which has no ``\A`` and ``\Z``."""
    match schema:
        case {"pattern": str(pattern)}:
            anchored = "^" + pattern.removeprefix(r"\A").removesuffix(r"\Z") + "$"
            return schema | {"pattern": anchored}
        case dict():
            return {name: _with_portable_patterns(value) for name, value in schema.items()}
        case list():
            return [_with_portable_patterns(value) for value in schema]
        case _:
            return schema


def _documents() -> list[type[WireDocument]]:
    modules = (cases, feedback, lists, members, report, submissions, trail)
    found = [kind for module in modules for _, kind in inspect.getmembers(module, inspect.isclass)]
    return sorted(
        {k for k in found if issubclass(k, WireDocument) and k is not WireDocument},
        key=lambda k: k.__name__,
    )


def _describe(operation: Operation) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": operation.summary}
    if operation.gives is not None:
        answer["content"] = _content(operation.gives)
    described: dict[str, Any] = {
        "summary": operation.summary,
        "responses": {
            str(operation.status): answer,
            "default": {"$ref": "#/components/responses/Problem"},
        },
        "parameters": _parameters(operation),
    }
    if operation.takes is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.takes)}
    if operation.enrol:
        described["security"] = []
        described["servers"] = [{"url": "https://127.0.0.1:8444"}]
    return described


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    text = {"schema": {"type": "string"}}
    return [
        *({"in": "path", "name": name, "required": True} | text for name in names),
        *({"in": "query", "name": name} | text for name in operation.query),
        *({"in": "header", "name": name} | text for name in operation.headers),
    ]


def _content(body: type[WireDocument] | str) -> dict[str, Any]:
    if isinstance(body, str):
        return {body: {"schema": {"type": "string", "format": "binary"}}}
    return {JSON: {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}}


def _problem_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type", "title", "status", "instance"],
        "properties": {
            "type": {"enum": ["about:blank", *sorted(p.uri for p in PROBLEM_TYPES.values())]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "instance": {"type": "string"},
            "faults": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "line": {"type": "integer"},
                        "field": {"type": "string"},
                        "reason": {"type": "string"},
                    },
                },
            },
            "total": {"type": "integer"},
            "sequence": {"type": "integer"},
            "previous": {"type": "string"},
            "retry_after_seconds": {"type": "integer"},
        },
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

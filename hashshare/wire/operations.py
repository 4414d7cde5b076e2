"""The operations of the HTTP interface: what each takes and gives."""

from dataclasses import dataclass
from typing import Final

from hashshare.wire import cases, feedback, lists, members, report, submissions, trail
from hashshare.wire.document import WireDocument

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
DSSE: Final = "application/vnd.dsse+json"
OCTETS: Final = "application/octet-stream"
CERTIFICATES: Final = "application/pkcs7-mime"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the HTTP interface.

    Attributes:
        takes: The body: a document, or a media type.
        gives: The answer: a document, a media type, or None for no body.
        enrol: Whether it is on the listener for enrolment, without a client certificate.
        in_words: Whether refusals are text, and no problem.
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
    in_words: bool = False


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
        "/.well-known/est/cacerts",
        "Certificates of the coalition's CA (RFC 7030), for enrolment without a certificate too",
        CERTIFICATES,
        in_words=True,
    ),
    Operation(
        "post",
        "/.well-known/est/simplereenroll",
        "A new certificate for the caller (RFC 7030)",
        CERTIFICATES,
        "application/pkcs10",
        in_words=True,
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

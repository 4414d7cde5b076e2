"""Problems (RFC 9457): the errors as they cross HTTP, for both ends.

Source: docs/problems.md, which has a section for each.
"""

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from hashshare import errors
from hashshare.errors import Fault, HashshareError

MEDIA_TYPE: Final = "application/problem+json"
BASE: Final = "https://hashshare.example/problems/"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A kind of problem.

    Attributes:
        name: The last part of its URI.
        status: Sent with it.
        title: Always the same.
    """

    name: str
    status: HTTPStatus
    title: str

    @property
    def uri(self) -> str:
        """Its absolute URI."""
        return BASE + self.name


def _type(error: type[HashshareError], status: HTTPStatus) -> ProblemType:
    words = re.sub(r"(?<!^)(?=[A-Z])", "-", error.__name__.removesuffix("Error")).lower()
    return ProblemType(words, status, (error.__doc__ or "").split("\n")[0].rstrip("."))


_STATUSES: Final[dict[type[HashshareError], HTTPStatus]] = {
    errors.HashshareError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.MalformedError: HTTPStatus.BAD_REQUEST,
    errors.BatchFaultsError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.VerificationError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.SignatureInvalidError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ProofInvalidError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RootMismatchError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.DigestMismatchError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RollbackError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.EquivocationError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.OmissionError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.KeyMisuseError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.QuorumMissingError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.SignaturesMissingError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.FreezeError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.MixAndMatchError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ExpiredError: HTTPStatus.FORBIDDEN,
    errors.KeyUnsafeError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotFoundError: HTTPStatus.NOT_FOUND,
    errors.VersionNotFoundError: HTTPStatus.NOT_FOUND,
    errors.PermissionDeniedError: HTTPStatus.FORBIDDEN,
    errors.NotEnrolledError: HTTPStatus.FORBIDDEN,
    errors.SuspendedError: HTTPStatus.FORBIDDEN,
    errors.InvitationInvalidError: HTTPStatus.FORBIDDEN,
    errors.ConflictError: HTTPStatus.CONFLICT,
    errors.AlreadyExistsError: HTTPStatus.CONFLICT,
    errors.SequenceMismatchError: HTTPStatus.CONFLICT,
    errors.RegistryConflictError: HTTPStatus.CONFLICT,
    errors.DeltaMismatchError: HTTPStatus.CONFLICT,
    errors.TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.TooManyRequestsError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ReplicaDamagedError: HTTPStatus.SERVICE_UNAVAILABLE,
}

PROBLEM_TYPES: Final = {error: _type(error, status) for error, status in _STATUSES.items()}
_BY_URI: Final = {problem.uri: error for error, problem in PROBLEM_TYPES.items()}
_BY_STATUS: Final[dict[int, type[HashshareError]]] = {
    400: errors.MalformedError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    413: errors.TooLargeError,
    422: errors.VerificationError,
    502: errors.UnavailableError,
    503: errors.UnavailableError,
    504: errors.UnavailableError,
}


def encode_problem(error: HashshareError, *, instance: str) -> tuple[HTTPStatus, bytes]:
    """Return the status and the problem document of an error.

    Args:
        error: Its message is shown to the peer.
        instance: Names this occurrence, as the log does.
    """
    problem = PROBLEM_TYPES[type(error)]
    document: dict[str, Any] = {
        "type": problem.uri,
        "title": problem.title,
        "status": problem.status.value,
        "detail": str(error),
        "instance": f"urn:hashshare:request:{instance}",
    }
    return problem.status, json.dumps(document | _extensions(error)).encode()


def encode_blank_problem(status: HTTPStatus, *, instance: str) -> bytes:
    """Return the document of a problem that has no class of its own, and tells no more."""
    return json.dumps(
        {
            "type": "about:blank",
            "title": status.phrase,
            "status": status.value,
            "instance": f"urn:hashshare:request:{instance}",
        }
    ).encode()


def decode_problem(
    data: bytes, *, status: int, retry_after_seconds: int | None = None
) -> HashshareError:
    """Return the error that a problem document stands for; never raises.

    Args:
        data: The body of an answer; anything.
        status: Of the answer; decides where the document does not.
        retry_after_seconds: From the header ``Retry-After``.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = {}
    if not isinstance(document, dict):
        document = {}
    kind = _BY_URI.get(str(document.get("type"))) or _BY_STATUS.get(status, HashshareError)
    detail = str(document.get("detail") or f"the server answered {status}")[:500]
    return _restore(kind, detail, document, retry_after_seconds)


def _extensions(error: HashshareError) -> dict[str, Any]:
    match error:
        case errors.BatchFaultsError():
            faults = [{"line": f.line, "field": f.field, "reason": f.reason} for f in error.faults]
            return {"faults": faults, "total": error.total}
        case errors.SequenceMismatchError():
            return {"sequence": error.sequence, "previous": error.previous}
        case errors.TooManyRequestsError():
            return {"retry_after_seconds": error.retry_after_seconds}
        case _:
            return {}


def _restore(
    kind: type[HashshareError],
    detail: str,
    document: dict[str, Any],
    retry_after_seconds: int | None,
) -> HashshareError:
    try:
        if kind is errors.BatchFaultsError:
            faults = [
                Fault(int(f["line"]), str(f["field"]), str(f["reason"])[:200])
                for f in document["faults"][:20]
            ]
            return errors.BatchFaultsError(faults, total=int(document["total"]))
        if kind is errors.SequenceMismatchError:
            return errors.SequenceMismatchError(
                sequence=int(document["sequence"]), previous=str(document["previous"])
            )
        if kind is errors.TooManyRequestsError:
            seconds = document.get("retry_after_seconds", retry_after_seconds)
            return errors.TooManyRequestsError(retry_after_seconds=int(seconds or 1))
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        # What it lacks, the class cannot be made from.
        return HashshareError(detail)
    return kind(detail)

"""Every error that hashshare raises on purpose, as one tree.

The families say who can act::

    HashshareError
    ├── MalformedError                 the peer's bytes are not in the one accepted form
    │   └── BatchFaultsError           a batch has faulty lines; ``faults`` lists the first 20
    ├── VerificationError              the bytes are well formed, but not to be trusted
    │   ├── SignatureInvalidError      too few valid signatures by the expected keys
    │   ├── ProofInvalidError          a Merkle proof does not lead to the signed root
    │   ├── RootMismatchError          contents do not have the signed root
    │   ├── DigestMismatchError        bytes do not have the digest or size they were announced with
    │   ├── RollbackError              a version or size lower than one accepted before
    │   ├── EquivocationError          two signed histories that exclude each other
    │   ├── OmissionError              a statement with a receipt is not in the log
    │   ├── KeyMisuseError             a key signed what its owner knows nothing of
    │   ├── QuorumMissingError         too few witnesses have cosigned a checkpoint
    │   ├── FreezeError                nothing fresh is offered, though there must be
    │   ├── MixAndMatchError           a statement of another log, hash set, member or list
    │   ├── ExpiredError               no longer valid at the given time
    │   └── KeyUnsafeError             a public key under which signatures prove nothing
    ├── NotFoundError                  there is none, or the caller may not know of it
    │   └── VersionNotFoundError       no such version or pair of versions
    ├── PermissionDeniedError          the member lacks the right
    │   ├── NotEnrolledError           the peer's certificate belongs to no member
    │   ├── SuspendedError             the member is suspended or revoked
    │   └── InvitationInvalidError     the invitation is unknown, used, or expired
    ├── ConflictError                  the request is at odds with the present state
    │   ├── AlreadyExistsError         something of that name exists
    │   ├── SequenceMismatchError      not the next submission of this member
    │   ├── RegistryConflictError      not the next version of the registry
    │   └── DeltaMismatchError         a change does not fit the contents it is applied to
    ├── TooLargeError                  over a limit on size or number
    ├── TooManyRequestsError           over the member's rate; retry later
    ├── UnavailableError               cannot be served now; retry later
    └── ReplicaDamagedError            a local replica's file does not hold what it should
"""

from dataclasses import dataclass


class HashshareError(Exception):
    """Base of all errors that hashshare raises on purpose; the message may be shown to the peer."""


class MalformedError(HashshareError):
    """The bytes are not in the one accepted form."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a batch.

    Attributes:
        line: Counts from 1; the header is line 1.
        field: The field's name, or "" when the line as a whole is meant.
        reason: What is wrong and what was expected; never holds a shared hash.
    """

    line: int
    field: str
    reason: str


class BatchFaultsError(MalformedError):
    """A batch has faulty lines and is refused whole.

    Attributes:
        faults: The first 20 faults, in order of lines.
        total: How many there are in all.
    """

    def __init__(self, faults: list[Fault], *, total: int) -> None:
        first = faults[0]
        where = f"line {first.line}" + (f", {first.field}" if first.field else "")
        super().__init__(f"{total} faults in the batch, the first at {where}: {first.reason}")
        self.faults = faults
        self.total = total


class VerificationError(HashshareError):
    """The bytes are well formed, but must not be trusted."""


class SignatureInvalidError(VerificationError):
    """Too few valid signatures by the expected keys."""


class ProofInvalidError(VerificationError):
    """A Merkle proof does not lead to the signed root."""


class RootMismatchError(VerificationError):
    """The contents do not have the signed root."""


class DigestMismatchError(VerificationError):
    """The bytes do not have the digest or size that they were announced with."""


class RollbackError(VerificationError):
    """A version or size is lower than one that was accepted before."""


class EquivocationError(VerificationError):
    """Two signed statements exclude each other."""


class OmissionError(VerificationError):
    """A statement for which there is a receipt is not in the log."""


class KeyMisuseError(VerificationError):
    """A key of this member signed what this member knows nothing of: the key may be stolen."""


class SignaturesMissingError(HashshareError):
    """More of those who govern must sign this before it is in force."""


class QuorumMissingError(VerificationError):
    """Fewer witnesses than the trust policy demands have cosigned the checkpoint."""


class FreezeError(VerificationError):
    """The newest that is offered is too old: news may be withheld."""


class MixAndMatchError(VerificationError):
    """A genuine statement of another log, hash set, member or list."""


class ExpiredError(VerificationError):
    """No longer valid at the given time."""


class KeyUnsafeError(VerificationError):
    """A public key under which signatures prove nothing, or possession of it is not proven."""


class NotFoundError(HashshareError):
    """There is no such thing, or the caller may not know of it."""


class VersionNotFoundError(NotFoundError):
    """There is no such version, or no such pair of versions."""


class PermissionDeniedError(HashshareError):
    """The member lacks the right to do this."""


class NotEnrolledError(PermissionDeniedError):
    """The peer's certificate belongs to no member."""


class SuspendedError(PermissionDeniedError):
    """The member, or its certificate, is suspended or revoked."""


class InvitationInvalidError(PermissionDeniedError):
    """The invitation is unknown, used, or expired."""


class ConflictError(HashshareError):
    """The request is at odds with the present state."""


class AlreadyExistsError(ConflictError):
    """Something of that name exists."""


class SequenceMismatchError(ConflictError):
    """The statement is not the next one of this member.

    Attributes:
        sequence: The number that the next submission must have.
        previous: The id that it must name as its previous one.
    """

    def __init__(self, *, sequence: int, previous: str) -> None:
        super().__init__(f"the next submission of this member has sequence {sequence}")
        self.sequence = sequence
        self.previous = previous


class RegistryConflictError(ConflictError):
    """The registry has moved on; fetch it and apply the change again."""


class DeltaMismatchError(ConflictError):
    """A change does not fit the contents that it is applied to."""


class TooLargeError(HashshareError):
    """Over a limit on size or number."""


class TooManyRequestsError(HashshareError):
    """Over the member's rate.

    Attributes:
        retry_after_seconds: When to try again.
    """

    def __init__(self, *, retry_after_seconds: int) -> None:
        super().__init__(f"too many requests, retry after {retry_after_seconds} s")
        self.retry_after_seconds = retry_after_seconds


class UnavailableError(HashshareError):
    """Cannot be served now; the same request may succeed later."""


class ReplicaDamagedError(HashshareError):
    """A local replica's file does not hold what it should."""

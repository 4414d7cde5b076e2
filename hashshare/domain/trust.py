"""What a client has accepted, and the order in which it comes to accept more.

Nothing here does I/O: bytes come in, and what is returned is to be believed. Each step names
the attack that it stops.

Source: docs/protocol.md, "Pulling".
"""

from dataclasses import dataclass
from typing import Final

from hashshare.crypto import canonical, merkle
from hashshare.crypto.envelope import parse_envelope
from hashshare.crypto.note import Checkpoint
from hashshare.domain.registry import Registry, parse_registry
from hashshare.domain.statements import Publication, read_registry_statement
from hashshare.domain.succession import verify_succession
from hashshare.errors import (
    DigestMismatchError,
    EquivocationError,
    MalformedError,
    MixAndMatchError,
    ProofInvalidError,
    RollbackError,
)

NEVER: Final = Checkpoint("", 0, merkle.EMPTY_ROOT)
"""Stands for no checkpoint so far."""


@dataclass(frozen=True, slots=True)
class AcceptedPublication:
    """A publication that is to be believed.

    Attributes:
        publication: What it says.
        statement_id: Hex.
        log_index: Its place in the log.
    """

    publication: Publication
    statement_id: str
    log_index: int


def verify_growth(old: Checkpoint, new: Checkpoint, *, proof: list[bytes] | None) -> None:
    """Refuse a tree that does not extend the one before; both are signed by the log.

    Raises:
        RollbackError: It is smaller.
        EquivocationError: It is another one, or ``proof`` does not show that it is not.
    """
    if new.size < old.size:
        raise RollbackError(f"the log has {new.size} leaves, and had {old.size} before")
    if new.size == old.size and new.root != old.root:
        raise EquivocationError(f"two roots are signed for the log's size {old.size}")
    if old.size and new.size > old.size:
        try:
            merkle.verify_consistency(
                old_size=old.size,
                old_root=old.root,
                new_size=new.size,
                new_root=new.root,
                proof=proof or [],
            )
        except ProofInvalidError as error:
            raise EquivocationError(
                f"the log of {new.size} leaves is not proven to extend that of {old.size}"
            ) from error


def accept_registry(
    envelope: bytes, document: bytes, before: Registry | None, governance: Registry | None = None
) -> Registry:
    """Return the registry in ``document``, put into force by ``envelope``.

    Args:
        envelope: The signed statement.
        document: The registry.
        before: The version before it; None if it is the first that is seen.
        governance: Whose governance keys sign it, and whose log and coalition it is of, if
            these are not those of ``before``.

    Raises:
        MalformedError: Either is not in its form.
        SignatureInvalidError: Fewer than the threshold of governance keys signed it.
        MixAndMatchError: It belongs to another log or coalition.
        DigestMismatchError: ``document`` is not the one that is named.
        RegistryConflictError: It is not the version that follows ``before``.
    """
    trusted = governance or before
    if trusted is None:
        raise RuntimeError("a registry is accepted on the word of another")
    statement = read_registry_statement(parse_envelope(envelope), trusted)
    if (statement.document.sha256, statement.document.size) != (
        canonical.digest(document),
        len(document),
    ):
        raise DigestMismatchError("the registry is not the one that its statement names")
    registry = parse_registry(document)
    if registry.version != statement.version:
        raise MalformedError("the statement is of another version of the registry")
    if before is not None:
        verify_succession(before, registry)
    elif (registry.log, registry.coalition) != (trusted.log, trusted.coalition):
        raise MixAndMatchError("this is the registry of another coalition or log")
    return registry


def verify_progress(new: AcceptedPublication, old: AcceptedPublication | None) -> None:
    """Refuse a publication that does not follow the one that is held.

    Raises:
        RollbackError: It is of a lower version, or covers less of the log.
        EquivocationError: It is another one of the same version, or its predecessor is not
            the one that is held.
    """
    if old is None:
        return
    was, now = old.publication, new.publication
    if now.version < was.version or now.log_size < was.log_size:
        raise RollbackError(f"version {now.version} is offered, and {was.version} is held")
    if now.registry_version < was.registry_version:
        raise RollbackError("the publication is under an older registry than the one before")
    same = now.version == was.version and new.statement_id != old.statement_id
    forked = now.version == was.version + 1 and now.previous != old.statement_id
    if same or forked:
        raise EquivocationError(f"two publications of version {was.version} are signed")

"""What a client has accepted, and the order in which it comes to accept more.

Nothing here does I/O: bytes come in, and what is returned is to be believed. Each step names
the attack that it stops.

Source: docs/protocol.md, "Pulling".
"""

from dataclasses import dataclass
from typing import Final

from hashshare.crypto import canonical, merkle
from hashshare.crypto.envelope import parse_envelope
from hashshare.crypto.keys import PublicKey
from hashshare.crypto.note import Checkpoint, NoteVerifier, verify_checkpoint
from hashshare.domain.registry import Registry, parse_registry, verify_succession
from hashshare.domain.statements import (
    Publication,
    id_of,
    read_publication,
    read_registry_statement,
)
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


def accept_checkpoint(
    note: bytes, verifier: NoteVerifier, known: Checkpoint, *, proof: list[bytes] | None
) -> Checkpoint:
    """Return the checkpoint in ``note``, which extends the one that is known.

    Args:
        note: From the server.
        verifier: The log's key.
        known: The newest that was accepted before, or ``NEVER``.
        proof: Of consistency between the two; None if it was not fetched, which is right
            when the sizes are equal or nothing is known.

    Raises:
        MalformedError: ``note`` is no checkpoint.
        SignatureInvalidError: The log did not sign it.
        MixAndMatchError: It is of another log.
        RollbackError: It is of a smaller tree.
        EquivocationError: It is of a tree that does not extend the known one.
    """
    checkpoint = verify_checkpoint(note, verifier)
    if checkpoint.size < known.size:
        raise RollbackError(f"the log has {checkpoint.size} leaves, and had {known.size} before")
    if checkpoint.size == known.size and checkpoint.root != known.root:
        raise EquivocationError(f"two roots are signed for the log's size {known.size}")
    if known.size and checkpoint.size > known.size:
        try:
            merkle.verify_consistency(
                old_size=known.size,
                old_root=known.root,
                new_size=checkpoint.size,
                new_root=checkpoint.root,
                proof=proof or [],
            )
        except ProofInvalidError as error:
            raise EquivocationError(
                f"the log of {checkpoint.size} leaves is not proven to extend that of {known.size}"
            ) from error
    return checkpoint


def accept_registry(
    envelope: bytes, document: bytes, before: Registry | None, governance: Registry | None = None
) -> Registry:
    """Return the registry in ``document``, put into force by ``envelope``.

    Args:
        envelope: The signed statement.
        document: The registry.
        before: The version before it.
        governance: For the first version that a client sees: a registry whose governance
            keys, log and coalition it trusts from its enrolment.

    Raises:
        MalformedError: Either is not in its form.
        SignatureInvalidError: Fewer than the threshold of governance keys signed it.
        MixAndMatchError: It belongs to another log or coalition.
        DigestMismatchError: ``document`` is not the one that is named.
        RegistryConflictError: It is not the version that follows ``before``.
    """
    trusted = before or governance
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


def accept_publication(
    envelope: bytes,
    registry: Registry,
    *,
    hash_set: str,
    log_index: int,
    inclusion: list[bytes],
    checkpoint: Checkpoint,
) -> AcceptedPublication:
    """Return the publication in ``envelope``, which is in the log and by a publisher.

    Args:
        envelope: The leaf's bytes.
        registry: In force when it was made, or later.
        hash_set: That it has to be of.
        log_index: Its place.
        inclusion: Leaf to root.
        checkpoint: Under which it is proven; accepted.

    Raises:
        ProofInvalidError: It is not in the log.
        MalformedError: It is not in its form.
        SignatureInvalidError: No publisher signed it.
        MixAndMatchError: It is of another log or hash set.
    """
    merkle.verify_inclusion(
        merkle.leaf_hash(envelope),
        index=log_index,
        size=checkpoint.size,
        proof=inclusion,
        root=checkpoint.root,
    )
    parsed = parse_envelope(envelope)
    keys = [PublicKey.parse(text) for text in registry.publishers.keys]
    publication = read_publication(parsed, keys, registry.log)
    if publication.hash_set != hash_set:
        raise MixAndMatchError(f"a publication of {publication.hash_set!r}, not {hash_set!r:.70}")
    if publication.log_size > log_index:
        raise MalformedError("a publication cannot cover what comes after it")
    return AcceptedPublication(publication, id_of(parsed), log_index)


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

"""Verifying the server's news: nothing is believed before this module says so.

Source: docs/protocol.md, "Pulling", steps 1 to 5.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from hashshare.client.evidence import keep_evidence
from hashshare.client.profile import Profile
from hashshare.client.session import Session
from hashshare.crypto.envelope import parse_envelope
from hashshare.crypto.note import Checkpoint, parse_checkpoint
from hashshare.domain.documents import decode_document
from hashshare.domain.joining import Trust
from hashshare.domain.names import HashSetId
from hashshare.domain.registry import Registry, parse_registry
from hashshare.domain.statements import Publication, id_of
from hashshare.domain.trust import (
    NEVER,
    AcceptedPublication,
    accept_checkpoint,
    accept_publication,
    accept_registry,
    verify_progress,
)
from hashshare.errors import EquivocationError
from hashshare.replica import Reading, Replica
from hashshare.wire.lists import ProofDocument, PublicationDocument
from hashshare.wire.members import RegistryDocument

MAX_BUNDLE_BYTES: Final = 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class News:
    """A publication that is to be believed, with what has led to it.

    Attributes:
        note: The checkpoint, as signed.
        envelope: The publication's leaf.
        registry: The newest that is known.
        registry_bytes: Its canonical form.
    """

    accepted: AcceptedPublication
    checkpoint: Checkpoint
    note: bytes
    envelope: bytes
    registry: Registry
    registry_bytes: bytes


@dataclass(frozen=True, slots=True)
class Verifier:
    """What one member has accepted, and the way to accept more."""

    profile: Profile
    session: Session
    replica: Replica

    async def verify_news(self, hash_set: HashSetId) -> News:
        """Fetch the latest publication and return it once it is to be believed (steps 1 to 5)."""
        _, body = await self.session.request(
            "GET", f"/v1/hash-sets/{hash_set}/publication", max_bytes=MAX_BUNDLE_BYTES
        )
        return await self._accept(hash_set, PublicationDocument.parse(body))

    async def wait_for_news(self, hash_set: HashSetId, *, seconds: int) -> bool:
        """Wait until there is a version newer than the one held; False when there is none."""
        held = await self.read(lambda r: self.held_publication(r, hash_set))
        version = 0 if held is None else held.publication.version
        status, _ = await self.session.request(
            "GET",
            f"/v1/hash-sets/{hash_set}/publication",
            headers={"If-None-Match": f'"{version}"', "Prefer": f"wait={seconds}"},
            max_bytes=MAX_BUNDLE_BYTES,
        )
        return status == 200

    async def _accept(self, hash_set: HashSetId, bundle: PublicationDocument) -> News:
        note = bundle.checkpoint.encode()
        known, known_note, registry, registry_bytes, held = await self.read(
            lambda r: self._held(r, hash_set)
        )
        # 1. and 2. Signature, origin, and that the log only grew.
        checkpoint = await self._grow(note, known, known_note)
        # 4. comes before 3., which needs the publisher's keys: they are in the registry.
        registry, registry_bytes = await self._advance(
            registry, registry_bytes, _registry_version_of(bundle.envelope)
        )
        # 3. The publication is in the log, and by a publisher.
        accepted = accept_publication(
            bundle.envelope,
            registry,
            hash_set=hash_set,
            log_index=bundle.log_index,
            inclusion=bundle.inclusion,
            checkpoint=checkpoint,
        )
        # 5. The version is not lower than the one held.
        try:
            verify_progress(accepted, held)
        except EquivocationError as error:
            self._keep(error, known_note, note, bundle.envelope)
            raise
        newest_note = note if checkpoint.size >= known.size else known_note
        return News(accepted, checkpoint, newest_note, bundle.envelope, registry, registry_bytes)

    async def _grow(self, note: bytes, known: Checkpoint, known_note: bytes) -> Checkpoint:
        """Return the checkpoint in ``note``, which is of the log that is known.

        The checkpoint of a publication is that of its own leaf, so that it may be older than
        what another hash set showed: then the known one must extend it.
        """
        verifier = self.profile.trust.log_verifier
        offered = accept_checkpoint(note, verifier, NEVER, proof=None)
        first, second = sorted([offered, known], key=lambda c: c.size)
        proof = None
        if 0 < first.size < second.size:
            path = f"/v1/log/consistency?old={first.size}&new={second.size}"
            proof = (await self.session.get(path, ProofDocument, max_bytes=65_536)).proof
        newest_note = note if second is offered else known_note
        try:
            accept_checkpoint(newest_note, verifier, first, proof=proof)
        except EquivocationError as error:
            self._keep(error, known_note, note)
            raise
        return offered

    async def _advance(
        self, registry: Registry | None, document: bytes, version: int
    ) -> tuple[Registry, bytes]:
        """Return the registry at ``version`` or later, each step signed by the one before."""
        if registry is None:
            fetched = await self._fetch_registry(version)
            trusted = governance_of(self.profile.trust)
            registry = accept_registry(fetched.envelope, fetched.document, None, trusted)
            document = fetched.document
        while registry.version < version:
            fetched = await self._fetch_registry(registry.version + 1)
            registry = accept_registry(fetched.envelope, fetched.document, registry)
            document = fetched.document
        return registry, document

    async def _fetch_registry(self, version: int) -> RegistryDocument:
        return await self.session.get(f"/v1/registry/{version}", RegistryDocument)

    async def held_log(self) -> tuple[Checkpoint, bytes, Registry | None, bytes]:
        """Return the newest checkpoint and registry that were accepted, with their bytes."""
        return await self.read(_held_log)

    async def newest_registry(self, registry: Registry | None, document: bytes) -> Registry:
        """Return the registry in force, each step from a known one signed by the one before."""
        newest = await self.session.get("/v1/registry", RegistryDocument)
        claimed = parse_registry(newest.document).version
        return (await self._advance(registry, document, claimed))[0]

    def held_publication(self, reading: Reading, hash_set: HashSetId) -> AcceptedPublication | None:
        """Return the publication of a hash set that was accepted last."""
        envelope = reading.get_state(f"publication/{hash_set}")
        index = reading.get_state(f"log_index/{hash_set}")
        if envelope is None or index is None:
            return None
        parsed = parse_envelope(envelope)
        publication = decode_document(parsed.payload, Publication)
        return AcceptedPublication(publication, id_of(parsed), int(index))

    def _held(
        self, reading: Reading, hash_set: HashSetId
    ) -> tuple[Checkpoint, bytes, Registry | None, bytes, AcceptedPublication | None]:
        return (*_held_log(reading), self.held_publication(reading, hash_set))

    async def read(self, read: Callable[[Reading], T]) -> T:
        def run() -> T:
            with self.replica.reading() as reading:
                return read(reading)

        return await asyncio.to_thread(run)

    def _keep(self, error: EquivocationError, *documents: bytes) -> None:
        path = keep_evidence(
            self.profile.folder,
            reason=str(error),
            log=self.profile.trust.log,
            documents={f"document {n}": data for n, data in enumerate(documents, 1)},
        )
        error.add_note(f"evidence: {path}")


def _held_log(reading: Reading) -> tuple[Checkpoint, bytes, Registry | None, bytes]:
    note = reading.get_state("checkpoint") or b""
    known = parse_checkpoint(note.decode().partition("\n\n")[0] + "\n") if note else NEVER
    document = reading.get_state("registry") or b""
    return known, note, parse_registry(document) if document else None, document


def governance_of(trust: Trust) -> Registry:
    """Return a registry that says just what a member believes from its enrolment."""
    return Registry(
        coalition=trust.coalition,
        log=trust.log,
        version=1,
        governance=trust.governance,
        publishers=trust.publishers,
    )


def _registry_version_of(envelope: bytes) -> int:
    """Return the registry version that a publication claims; not believed yet."""
    return decode_document(parse_envelope(envelope).payload, Publication).registry_version

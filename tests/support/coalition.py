"""A small coalition of real parts: keys, a registry in the log, services, signed submissions."""

import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from hashshare.crypto import canonical
from hashshare.crypto.envelope import Envelope, seal
from hashshare.crypto.keys import PrivateKey
from hashshare.crypto.note import NoteSigner
from hashshare.domain.documents import encode_document
from hashshare.domain.hash_sets import HashSet
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.joining import Trust
from hashshare.domain.members import Member, Role
from hashshare.domain.names import HashSetId, MemberId, format_time
from hashshare.domain.policy import Basis, Media, View
from hashshare.domain.records import AssertRecord, DisputeRecord, Record, RuleRecord
from hashshare.domain.registry import Keys, Registry
from hashshare.domain.statements import (
    BATCH_MEDIA_TYPE,
    NO_PREVIOUS,
    REGISTRY_TYPE,
    SUBMISSION_TYPE,
    BatchManifest,
    NamedDocument,
    Operation,
    RegistryStatement,
    Submission,
    id_of,
)
from hashshare.service.batches import BatchLimits, BatchService
from hashshare.service.guard import Guard
from hashshare.service.registry import RegistryService
from hashshare.service.submit import SubmissionResult, SubmitService
from hashshare.storage.blobs import Blobs
from hashshare.storage.database import Pool, open_pool
from hashshare.wire.batch import encode_batch

ORIGIN = "coalition.example/log"
HASH_SET = HashSetId("csam")
ADMIN = MemberId("admin")
ACME, BETA, GAMMA = MemberId("acme"), MemberId("beta"), MemberId("gamma")
CONTRIBUTORS = {ACME: "US", BETA: "US", GAMMA: "GB"}
NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)


@dataclass
class Author:
    """A member's key, and where its chain stands as far as it knows.

    Attributes:
        member: Its id.
        key: Its submission key.
        sequence: Of its last accepted submission.
        previous: Id of that.
    """

    member: MemberId
    key: PrivateKey = field(default_factory=PrivateKey.generate)
    sequence: int = 0
    previous: str = NO_PREVIOUS

    def sign(self, batch: bytes, operation: Operation, /, **changes: object) -> Envelope:
        """Return the signed next submission; ``changes`` replaces fields of the payload."""
        fields: dict[str, object] = {
            "batch": BatchManifest(
                count=batch.count(b"\n") - 1,
                media_type=BATCH_MEDIA_TYPE,
                sha256=canonical.digest(batch),
                size=len(batch),
            ),
            "created_at": format_time(NOW),
            "hash_set": HASH_SET,
            "key_id": self.key.public.key_id,
            "log": ORIGIN,
            "member": self.member,
            "operation": operation,
            "previous": self.previous,
            "sequence": self.sequence + 1,
        }
        submission = Submission(**{**fields, **changes})  # type: ignore[arg-type] # one dict for all
        return seal(encode_document(submission), SUBMISSION_TYPE, [self.key])

    def advance(self, envelope: Envelope) -> None:
        """Take note that ``envelope`` was accepted."""
        self.sequence += 1
        self.previous = id_of(envelope)


@dataclass
class Coalition:
    """Keys and registry of a coalition: acme, beta, gamma and admin; the hash set ``csam``."""

    governance: PrivateKey = field(default_factory=PrivateKey.generate)
    publisher: PrivateKey = field(default_factory=PrivateKey.generate)
    log: NoteSigner = field(default_factory=lambda: NoteSigner(ORIGIN, PrivateKey.generate()))
    authors: dict[MemberId, Author] = field(
        default_factory=lambda: {member: Author(member) for member in (*CONTRIBUTORS, ADMIN)}
    )

    def trust(self) -> Trust:
        """Return what its members believe from the start; without a CA, as nobody connects."""
        registry = self.registry()
        return Trust(
            ca="",
            coalition=registry.coalition,
            governance=registry.governance,
            log=ORIGIN,
            log_key=str(self.log.verifier),
            publishers=registry.publishers,
        )

    def registry(self) -> Registry:
        """Return the first registry."""
        members: dict[str, Member] = {
            member: _member(self.authors[member], jurisdiction, Role.CONTRIBUTOR, Role.REVIEWER)
            for member, jurisdiction in CONTRIBUTORS.items()
        }
        members[ADMIN] = _member(self.authors[ADMIN], "", Role.ADMIN)
        views = {"all": View(basis="any"), "confirmed": View(quorum=2)}
        return Registry(
            coalition="Coalition",
            log=ORIGIN,
            version=1,
            governance=Keys(keys=(self.governance.public.text,)),
            publishers=Keys(keys=(self.publisher.public.text,)),
            members=members,
            hash_sets={
                HASH_SET: HashSet(
                    title="Known material",
                    algorithms=(HashAlgorithm.MD5, HashAlgorithm.PDQ, HashAlgorithm.SHA256),
                    classifications=("A1", "A2", "B1"),
                    views=views,
                )
            },
        )

    def sign_registry(self, registry: Registry, *, reason: str = "test") -> tuple[bytes, bytes]:
        """Return the envelope and the document that put ``registry`` into force."""
        document = encode_document(registry)
        statement = RegistryStatement(
            created_at=format_time(NOW),
            document=NamedDocument(sha256=canonical.digest(document), size=len(document)),
            log=ORIGIN,
            reason=reason,
            version=registry.version,
        )
        envelope = seal(encode_document(statement), REGISTRY_TYPE, [self.governance])
        return envelope.encode(), document


@dataclass
class Running:
    """A coalition whose services run on a database and a folder."""

    coalition: Coalition
    pool: Pool
    blobs: Blobs
    registries: RegistryService
    batches: BatchService
    submissions: SubmitService

    async def store(self, records: Iterable[Record]) -> bytes:
        """Store a batch of these records and return its bytes."""
        batch = make_batch(records)
        await self.store_bytes(batch)
        return batch

    async def store_bytes(self, batch: bytes) -> None:
        """Store a batch."""
        await self.batches.store(canonical.digest(batch), in_chunks(batch), encoding="identity")

    async def push(
        self, member: MemberId, records: Iterable[Record], *, hash_set: HashSetId = HASH_SET
    ) -> SubmissionResult:
        """Store, sign and submit records of one operation as the member's next submission."""
        listed = list(records)
        author = self.coalition.authors[member]
        batch = await self.store(listed)
        envelope = author.sign(batch, operation_of(listed[0]), hash_set=hash_set)
        result = await self.send(member, envelope)
        author.advance(envelope)
        return result

    async def change_registry(self, registry: Registry) -> None:
        """Put the next version of the registry into force."""
        await self.registries.append(*self.coalition.sign_registry(registry), now=NOW)

    async def send(self, member: MemberId, envelope: Envelope) -> SubmissionResult:
        """Submit an envelope."""
        return await self.submissions.submit(envelope.encode(), peer_member=member, now=NOW)


@asynccontextmanager
async def run_coalition(
    dsn: str,
    folder: Path,
    *,
    coalition: Coalition | None = None,
    limits: BatchLimits | None = None,
) -> AsyncIterator[Running]:
    """Run a coalition's services on a migrated database; its first registry is in force."""
    coalition = coalition or Coalition()
    async with open_pool(dsn, min_size=1, max_size=8) as pool:
        blobs = Blobs.open(str(folder))
        guard = Guard(pool, lambda: [coalition.log])
        registries = RegistryService(pool, guard, coalition.trust)
        await registries.ensure_genesis(*coalition.sign_registry(coalition.registry()))
        batches = BatchService(pool, blobs, registries, limits or BatchLimits())
        submissions = SubmitService(pool, batches, registries, guard)
        yield Running(coalition, pool, blobs, registries, batches, submissions)
        await submissions.drain()


def make_batch(records: Iterable[Record]) -> bytes:
    """Return a batch of these records with a salt of its own."""
    return b"".join(encode_batch(records, os.urandom(32)))


def operation_of(record: Record) -> Operation:
    """Return the operation that a record belongs to."""
    if isinstance(record, AssertRecord):
        return Operation.ASSERT
    if isinstance(record, RuleRecord):
        return Operation.RULE
    return Operation.DISPUTE if isinstance(record, DisputeRecord) else Operation.WITHDRAW


def assertion(
    number: int, *, record: str = "", classification: str = "A1", media: Media | None = None
) -> AssertRecord:
    """Return the assertion of a made-up SHA-256 that ``number`` stands for."""
    value = canonical.digest(b"made up %d" % number)
    return AssertRecord(
        record=record,
        hashes={HashAlgorithm.SHA256: bytes.fromhex(value)},
        classification=classification,
        media=media,
        basis=Basis.REVIEWED,
    )


async def in_chunks(data: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    """Yield ``data`` in pieces, as it comes from the network."""
    for chunk in _cut(data, size):
        yield chunk


def _cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[begin : begin + size] for begin in range(0, len(data), size))


def _member(author: Author, jurisdiction: str, *roles: Role) -> Member:
    return Member(
        name=author.member.title(),
        jurisdiction=jurisdiction,
        roles=roles,
        submission_keys=(author.key.public.text,),
    )

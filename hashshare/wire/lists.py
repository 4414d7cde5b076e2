"""Documents on hash sets, publications and lists."""

from pydantic import Field

from hashshare.wire.document import Base64, Digest, Id, WireDocument


class HashSetDocument(WireDocument):
    """A hash set that the caller may read; its views are those of the registry."""

    hash_set: Id
    title: str
    algorithms: list[str]
    classifications: list[str]
    views: list[Id]
    lists: list[str]
    version: int


class HashSetList(WireDocument):
    """The hash sets that the caller may read."""

    hash_sets: list[HashSetDocument]


class PublicationDocument(WireDocument):
    """A publication with what proves it: it is the last leaf under ``checkpoint``."""

    checkpoint: str
    envelope: Base64
    inclusion: list[Base64]
    log_index: int = Field(ge=0)


class SnapshotDocument(WireDocument):
    """Describes the newest snapshot of a list; ``path`` is where to get it."""

    list_name: str
    version: int
    count: int = Field(ge=0)
    size: int = Field(ge=0)
    sha256: Digest
    path: str


class BucketDocument(WireDocument):
    """One bucket, its siblings up to the root, and its attributes by tag (hex)."""

    list_name: str
    version: int
    bits: int = Field(ge=0, le=20)
    index: int = Field(ge=0)
    data: Base64
    path: list[Base64]
    attributes: dict[str, str]


class HolderDocument(WireDocument):
    """Which version of a list a member was sent last, and whether the hash is in it."""

    member: Id
    version: int
    pulled_at: str
    has_it: bool


class PresenceDocument(WireDocument):
    """In which version a hash came into a list last, and in which it left; null: it is there."""

    list_name: str
    entered: int
    left: int | None
    holders: list[HolderDocument]


class PresenceList(WireDocument):
    """One hash in all lists of its hash set that hold it or held it."""

    lists: list[PresenceDocument]


class ProofDocument(WireDocument):
    """A proof of the log: hashes from leaf to root, or of consistency."""

    proof: list[Base64]


class AuditDocument(WireDocument):
    """The checkpoint that an auditor audited last, with its cosignature: a signed note."""

    auditor: str
    note: str


class AuditList(WireDocument):
    """What each auditor of the trust policy audited last."""

    audits: list[AuditDocument]


class CosignedDocument(WireDocument):
    """Says how many cosignatures were kept."""

    kept: int = Field(ge=0)

"""The history of a coalition: all statements of its log, read in order and verified.

Whoever reads the whole log needs no proofs: the leaves give the root, and the checkpoint signs
it. Each statement is verified under the registry that was in force at its place, so that a key
that was retired later still accounts for what it signed before, and for nothing after.

Source: docs/protocol.md, "The log".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import msgspec

from hashshare.crypto.encoding import decode_base64, encode_base64
from hashshare.crypto.envelope import Envelope, parse_envelope
from hashshare.crypto.keys import PublicKey
from hashshare.crypto.merkle import Frontier, leaf_hash
from hashshare.domain.disputes import BEGINNING, counts_alone
from hashshare.domain.documents import (
    Count,
    Digest,
    Document,
    Id,
    Time,
    decode_document,
    encode_document,
)
from hashshare.domain.joining import Trust
from hashshare.domain.names import HashSetId, MemberId, format_time, parse_time
from hashshare.domain.registry import Registry, parse_registry
from hashshare.domain.statements import (
    NO_PREVIOUS,
    PUBLICATION_TYPE,
    REDACTION_TYPE,
    REGISTRY_TYPE,
    SUBMISSION_TYPE,
    ChainHead,
    NamedDocument,
    Operation,
    Publication,
    Redaction,
    RegistryStatement,
    Submission,
    id_of,
    read_publication,
    read_redaction,
    read_submission,
    verify_chain,
    verify_right,
)
from hashshare.domain.succession import verify_disregarded
from hashshare.domain.trust import AcceptedPublication, accept_registry
from hashshare.errors import (
    EquivocationError,
    HashshareError,
    MalformedError,
    SequenceMismatchError,
    VerificationError,
)

if TYPE_CHECKING:
    from hashshare.domain.members import Member

MAX_STATE_BYTES = 64 * 1024 * 1024

Statement = Submission | RegistryStatement | Publication | Redaction


@dataclass(frozen=True, slots=True)
class Logged:
    """A verified statement in its place.

    Attributes:
        index: Of the leaf.
        statement_id: Hex.
        alone: Of disputes: whether they count while nobody else disputes the same.
    """

    index: int
    statement_id: str
    statement: Statement
    alone: bool = True


class _Chain(Document, frozen=True):
    sequence: Count
    last_id: Digest


class _Published(Document, frozen=True):
    envelope: str
    log_index: Count


class _Disputed(Document, frozen=True):
    """Disputes under a bound: the time at their place, and how many records."""

    at: Time
    records: Count


class _State(Document, frozen=True):
    """What is written of a history, so that it goes on where it was; the registry is beside it."""

    size: Count
    frontier: Annotated[str, msgspec.Meta(max_length=4096)]
    registry_indexes: tuple[Count, ...]
    chains: dict[Id, _Chain]
    publications: dict[Id, _Published]
    redactions: dict[Digest, Count]
    disputes: dict[str, tuple[_Disputed, ...]] | msgspec.UnsetType = msgspec.UNSET


@dataclass(slots=True)
class History:
    """What the first ``size`` leaves of the log come to.

    Attributes:
        trust: From which its first registry follows.
        frontier: Of all leaves.
        registry: In force now; None before the first.
        registry_document: Its bytes.
        registry_indexes: The leaf of each version of the registry, the first one first.
        chains: Each member's last submission.
        publications: The latest of each hash set.
        redactions: Digests of the batches that were deleted, each with the leaf that says so.
        disputes: Under a bound, by member and hash set.
    """

    trust: Trust
    frontier: Frontier = field(default_factory=Frontier)
    registry: Registry | None = None
    registry_document: bytes = b""
    registry_indexes: list[int] = field(default_factory=list)
    chains: dict[MemberId, ChainHead] = field(default_factory=dict)
    publications: dict[HashSetId, AcceptedPublication] = field(default_factory=dict)
    redactions: dict[str, int] = field(default_factory=dict)
    disputes: dict[str, tuple[_Disputed, ...]] = field(default_factory=dict)
    _envelopes: dict[HashSetId, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many leaves were read."""
        return self.frontier.size

    def extend(self, leaves: Iterable[bytes], documents: Mapping[str, bytes]) -> list[Logged]:
        """Read the next leaves and return what they say, verified.

        Whether they are the log's is not known before a signed checkpoint has this root. After
        an error the history is not to be used.

        Args:
            leaves: As the log holds them, from ``size`` on.
            documents: The registries that they name, by digest; see ``named_documents``.

        Raises:
            MalformedError: A leaf is no statement in its one form.
            VerificationError: A statement is not what may stand in its place.
        """
        found = []
        for leaf in leaves:
            index = self.size
            try:
                found.append(self._append(leaf, documents))
            except HashshareError as error:
                error.add_note(f"leaf {index} of the log")
                raise
        return found

    def envelope_of(self, hash_set: HashSetId) -> bytes:
        """Return the leaf of the latest publication of a hash set that has one."""
        return self._envelopes[hash_set]

    def registry_of(self, member_id: str, *, log_index: int) -> Registry:
        """Return the registry with the keys of a member that were good at a place in the log.

        Raises:
            VerificationError: There is no registry, or no such member.
        """
        registry = self._in_force()
        member = registry.members.get(member_id)
        if member is None:
            raise VerificationError(f"no member {member_id!r:.70}")
        retired = (
            key
            for key, version in member.retired_keys.items()
            if self.registry_indexes[version - 1] > log_index
        )
        keys = (*member.submission_keys, *retired)
        # msgspec.structs.replace is untyped.
        then: Member = msgspec.structs.replace(member, submission_keys=keys)
        found: Registry = msgspec.structs.replace(
            registry, members=dict(registry.members) | {member_id: then}
        )
        return found

    def version_at(self, size: int) -> int:
        """Return which version of the registry was in force after ``size`` leaves; 0 for none."""
        return sum(index < size for index in self.registry_indexes)

    def encode(self) -> bytes:
        """Return what ``decode`` reads; ``registry_document`` is kept beside it."""
        state = _State(
            size=self.size,
            frontier=encode_base64(self.frontier.encode()),
            registry_indexes=tuple(self.registry_indexes),
            chains={
                member: _Chain(sequence=head.sequence, last_id=head.last_id)
                for member, head in self.chains.items()
            },
            publications={
                hash_set: _Published(
                    envelope=self._envelopes[hash_set].decode(), log_index=accepted.log_index
                )
                for hash_set, accepted in self.publications.items()
            },
            redactions=self.redactions,
            disputes=self.disputes or msgspec.UNSET,
        )
        return encode_document(state)

    @classmethod
    def decode(cls, trust: Trust, data: bytes, registry: bytes) -> "History":
        """Read what ``encode`` wrote; it is trusted, because it was verified before.

        Raises:
            MalformedError: It is damaged.
        """
        state = decode_document(data, _State, max_bytes=MAX_STATE_BYTES)
        history = cls(
            trust,
            frontier=Frontier.decode(state.size, decode_base64(state.frontier)),
            registry=parse_registry(registry) if registry else None,
            registry_document=registry,
            registry_indexes=list(state.registry_indexes),
            chains={MemberId(m): ChainHead(c.sequence, c.last_id) for m, c in state.chains.items()},
            redactions=dict(state.redactions),
            disputes={} if isinstance(state.disputes, msgspec.UnsetType) else state.disputes,
        )
        for name, published in state.publications.items():
            envelope = parse_envelope(published.envelope.encode())
            publication = decode_document(envelope.payload, Publication)
            hash_set = HashSetId(name)
            history.publications[hash_set] = AcceptedPublication(
                publication, id_of(envelope), published.log_index
            )
            history._envelopes[hash_set] = published.envelope.encode()
        return history

    def _append(self, leaf: bytes, documents: Mapping[str, bytes]) -> Logged:
        envelope = parse_envelope(leaf)
        statement: Statement
        alone = True
        match envelope.payload_type:
            case kind if kind == SUBMISSION_TYPE:
                statement = self._read_submission(envelope)
                alone = self._counts_alone(statement)
            case kind if kind == REGISTRY_TYPE:
                statement = self._read_registry(leaf, envelope, documents)
            case kind if kind == PUBLICATION_TYPE:
                statement = self._read_publication(leaf, envelope)
            case kind if kind == REDACTION_TYPE:
                statement = read_redaction(envelope, self._in_force())
                self.redactions[statement.batch] = self.size
            case kind:
                raise MalformedError(f"no statement of the log: {kind!r:.80}")
        logged = Logged(self.size, id_of(envelope), statement, alone)
        self.frontier = self.frontier.append(leaf_hash(leaf))
        return logged

    def _in_force(self) -> Registry:
        if self.registry is None:
            raise VerificationError("the log does not begin with a registry")
        return self.registry

    def _read_submission(self, envelope: Envelope) -> Submission:
        registry = self._in_force()
        submission = read_submission(envelope, registry)
        verify_right(submission, registry)
        member = MemberId(submission.member)
        try:
            verify_chain(submission, self.chains.get(member, ChainHead()))
        except SequenceMismatchError as error:
            # Left out, repeated or reordered: the member's signature says what came before.
            raise VerificationError(
                f"submission {submission.sequence} of {member} stands where {error.sequence} must"
            ) from error
        self.chains[member] = ChainHead(submission.sequence, id_of(envelope))
        return submission

    def _counts_alone(self, submission: Submission) -> bool:
        """Settle whether the disputes of a submission count alone, and remember them."""
        bound = self._in_force().hash_set(submission.hash_set).bound
        if submission.operation is not Operation.DISPUTE or bound is None:
            return True
        newest = self.publications.get(HashSetId(submission.hash_set))
        at = BEGINNING if newest is None else parse_time(newest.publication.created_at)
        key = f"{submission.member}/{submission.hash_set}"
        earlier = self.disputes.get(key, ())
        disputed = _Disputed(at=format_time(at), records=submission.batch.count)
        self.disputes[key] = (*earlier, disputed)
        counted = ((parse_time(d.at), d.records) for d in earlier)
        return counts_alone(bound, disputed.records, counted, at)

    def _read_registry(
        self, leaf: bytes, envelope: Envelope, documents: Mapping[str, bytes]
    ) -> RegistryStatement:
        statement = decode_document(envelope.payload, RegistryStatement)
        document = documents.get(statement.document.sha256)
        if document is None:
            raise VerificationError(f"registry {statement.version} was not given")
        before = self.registry
        if before is None and statement.version != 1:
            raise VerificationError("the log does not begin with the first registry")
        registry = accept_registry(leaf, document, before, self.trust.governing(statement.version))
        verify_disregarded(registry, log_size=self.size)
        self.registry = registry
        self.registry_document = document
        self.registry_indexes.append(self.size)
        return statement

    def _read_publication(self, leaf: bytes, envelope: Envelope) -> Publication:
        registry = self._in_force()
        keys = [PublicKey.parse(text) for text in registry.publishers.keys]
        publication = read_publication(envelope, keys, registry.log)
        hash_set = HashSetId(publication.hash_set)
        before = self.publications.get(hash_set)
        self._verify_succession(publication, before)
        self.publications[hash_set] = AcceptedPublication(publication, id_of(envelope), self.size)
        self._envelopes[hash_set] = leaf
        return publication

    def _verify_succession(self, new: Publication, before: AcceptedPublication | None) -> None:
        old = None if before is None else before.publication
        expected = (1 if old is None else old.version + 1, _id_before(before))
        if (new.version, new.previous) != expected:
            raise EquivocationError(
                f"version {new.version} of {new.hash_set} stands where {expected[0]} must"
            )
        if new.log_size > self.size:
            raise MalformedError("a publication cannot cover what comes after it")
        if old is not None and new.log_size < old.log_size:
            raise MalformedError("a publication covers less of the log than the one before")
        if new.registry_version != self.version_at(new.log_size):
            raise MalformedError(
                f"version {new.version} of {new.hash_set} is under a wrong registry"
            )


def named_documents(leaves: Iterable[bytes]) -> list[tuple[int, NamedDocument]]:
    """Return which registries these leaves name, with their versions; nothing is verified.

    Raises:
        MalformedError: A leaf is no envelope.
    """
    named = []
    for leaf in leaves:
        # A registry statement's payload type stands in the leaf as it is.
        if REGISTRY_TYPE.encode() in leaf:
            envelope = parse_envelope(leaf)
            if envelope.payload_type == REGISTRY_TYPE:
                statement = decode_document(envelope.payload, RegistryStatement)
                named.append((statement.version, statement.document))
    return named


def _id_before(before: AcceptedPublication | None) -> str:
    return NO_PREVIOUS if before is None else before.statement_id

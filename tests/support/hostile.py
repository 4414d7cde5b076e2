"""A log that an operator makes up, with the genuine keys of the server."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, urlsplit

import asyncpg
import msgspec

from hashshare.crypto.envelope import parse_envelope, seal
from hashshare.crypto.keys import PrivateKey
from hashshare.crypto.merkle import consistency_ranges, inclusion_ranges, leaf_hash, root_of
from hashshare.crypto.note import Checkpoint, NoteSigner, sign_checkpoint
from hashshare.crypto.tiles import encode_entries, parse_tile_path
from hashshare.domain.documents import decode_document, encode_document
from hashshare.domain.statements import PUBLICATION_TYPE, Publication
from hashshare.wire.lists import ProofDocument
from hashshare.wire.members import RegistryDocument
from tests.support.relay import Answer

Leaves = list[bytes]
Lie = Callable[[Answer], None]


@dataclass(slots=True)
class HostileLog:
    """Answers requests for the log from leaves of its own, consistently.

    Attributes:
        registries: Envelope and document of versions that are given instead of the genuine.
        lies: Changes answers once more, by the beginning of their path.
    """

    signer: NoteSigner
    leaves: Leaves
    registries: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    lies: dict[str, Lie] = field(default_factory=dict)

    def root(self, start: int, end: int) -> bytes:
        """Return the root over leaves ``start`` to ``end``."""
        return root_of([leaf_hash(leaf) for leaf in self.leaves[start:end]])

    def checkpoint(self) -> Checkpoint:
        """Return what the log signs."""
        return Checkpoint(self.signer.name, len(self.leaves), self.root(0, len(self.leaves)))

    def note(self) -> bytes:
        """Return it signed."""
        return sign_checkpoint(self.checkpoint(), self.signer)

    def __call__(self, answer: Answer) -> None:
        """Answer in place of the genuine log."""
        url = urlsplit(answer.path)
        body = self._answer(url.path, {k: int(v[0]) for k, v in parse_qs(url.query).items()})
        if body is not None:
            answer.status, answer.headers, answer.body = 200, {}, body
        for path, lie in self.lies.items():
            if url.path.startswith(path):
                lie(answer)

    def _answer(self, path: str, query: dict[str, int]) -> bytes | None:
        if path == "/v1/log/checkpoint":
            return self.note()
        if path == "/v1/log/entries":
            return encode_entries(self.leaves[query["first"] :][: query["count"]])
        if path.startswith("/v1/log/tile/entries/"):
            tile = parse_tile_path(path.removeprefix("/v1/log/tile/"))
            return encode_entries(self.leaves[tile.first :][: tile.width])
        if path == "/v1/log/consistency":
            ranges = consistency_ranges(query["old"], query["new"])
            return ProofDocument(proof=[self.root(*r) for r in ranges]).encode()
        if path == "/v1/log/inclusion":
            ranges = inclusion_ranges(query["index"], query["size"])
            return ProofDocument(proof=[self.root(*r) for r in ranges]).encode()
        if path.startswith("/v1/registry/"):
            return self._registry(int(path.rpartition("/")[2]))
        return None

    def _registry(self, version: int) -> bytes | None:
        found = self.registries.get(version)
        if found is None:
            return None
        return RegistryDocument(envelope=found[0], document=found[1], log_index=0).encode()


async def genuine_leaves(pool: "asyncpg.Pool[asyncpg.Record]") -> Leaves:
    """Return the leaves of the server's log."""
    rows = await pool.fetch("SELECT entry FROM leaf ORDER BY log_index")
    return [row["entry"] for row in rows]


def altered_publication(leaf: bytes, key: PrivateKey, **fields: object) -> bytes:
    """Return the publication with other fields, signed by ``key``."""
    publication = decode_document(parse_envelope(leaf).payload, Publication)
    payload = encode_document(msgspec.structs.replace(publication, **fields))
    return seal(payload, PUBLICATION_TYPE, [key]).encode()


def with_signature_of(leaf: bytes, key: PrivateKey) -> bytes:
    """Return the same statement, signed by another key."""
    envelope = parse_envelope(leaf)
    return seal(envelope.payload, envelope.payload_type, [key]).encode()


def with_payload(leaf: bytes, payload: bytes) -> bytes:
    """Return the envelope with another payload under the old signatures."""
    return replace(parse_envelope(leaf), payload=payload).encode()

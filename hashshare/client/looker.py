"""Looking up a hash at the server: in one bucket, proven, and who said what of it."""

import asyncio
from dataclasses import dataclass

from hashshare.client.lookup import Finding
from hashshare.client.session import Session
from hashshare.client.verify import Verifier
from hashshare.crypto.envelope import parse_envelope
from hashshare.crypto.merkle import leaf_hash, verify_inclusion
from hashshare.domain.buckets import bucket_index, parse_bucket, tag_of, verify_bucket
from hashshare.domain.hashes import HashValue
from hashshare.domain.history import History
from hashshare.domain.names import HashSetId, ListName
from hashshare.domain.statements import read_submission
from hashshare.errors import (
    ConflictError,
    MalformedError,
    MixAndMatchError,
    NotFoundError,
    UnavailableError,
)
from hashshare.wire.lists import BucketDocument, ProofDocument
from hashshare.wire.submissions import ProvenanceDocument, StatementOfHash

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Looker:
    """Looks hashes up with proofs, without a copy of the list."""

    verifier: Verifier

    @property
    def _session(self) -> Session:
        return self.verifier.session

    async def lookup_remote(self, name: ListName, value: HashValue) -> Finding:
        """Return whether the signed list holds ``value``; proven either way.

        The server learns the leading bits of the hash, which some hundred others share.

        Raises:
            MalformedError: ``value`` is of another algorithm, or not evenly spread.
            NotFoundError: There is no such list for this member.
            RootMismatchError: The bucket is not that of the signed root.
        """
        if value.algorithm is not name.algorithm or not name.algorithm.uniform:
            raise MalformedError(f"a remote look-up in {name} takes a {name.algorithm} hash")
        for _ in range(_ATTEMPTS):
            news = await self.verifier.verify_news(name.hash_set)
            publication = news.accepted.publication
            target = publication.find(name.view, name.algorithm)
            if target is None:
                raise NotFoundError(f"there is no list {name}")
            index = bucket_index(value.value, target.bits)
            try:
                bucket = await self._session.get(
                    f"/v1/lists/{name}/buckets/{index}?bits={target.bits}", BucketDocument
                )
            except ConflictError:
                continue
            # The list moved on in between: ask for the publication again.
            if bucket.version != publication.version:
                await asyncio.sleep(0.3)
                continue
            attributes = _find(bucket, name, value, index, target.bits, target.root)
            return Finding(value, name, publication.version, attributes)
        raise UnavailableError("the server's bucket is of another version than witnesses have seen")

    async def fetch_bucket(self, name: ListName, index: int, bits: int) -> BucketDocument:
        """Return one bucket, not verified yet."""
        return await self._session.get(
            f"/v1/lists/{name}/buckets/{index}?bits={bits}", BucketDocument
        )

    async def provenance(self, hash_set: HashSetId, value: HashValue) -> ProvenanceDocument:
        """Return who ever said what of a hash; each signature and place in the log verified.

        Raises:
            NotFoundError: Nothing is known of it, or there is no such hash set.
            VerificationError: A statement is not signed, or not in the log, as claimed.
        """
        document = await self._session.get(
            f"/v1/hash-sets/{hash_set}/hashes/{value.algorithm}/{value.value.hex()}/provenance",
            ProvenanceDocument,
        )
        if (document.hash_set, document.algorithm) != (hash_set, value.algorithm):
            raise MixAndMatchError("the answer is about another hash set or algorithm")
        history = await self.verifier.history()
        for statement in document.assertions:
            _verify_signed(statement, hash_set, history)
            proof = await self._session.get(
                f"/v1/log/inclusion?index={statement.log_index}&size={history.size}", ProofDocument
            )
            verify_inclusion(
                leaf_hash(statement.envelope),
                index=statement.log_index,
                size=history.size,
                proof=proof.proof,
                root=history.frontier.root(),
            )
        return document


def _find(
    bucket: BucketDocument, name: ListName, value: HashValue, index: int, bits: int, root: str
) -> bytes | None:
    """Return the attributes of ``value``, proven against the signed root."""
    if (bucket.list_name, bucket.index, bucket.bits) != (str(name), index, bits):
        raise MixAndMatchError("the server answered with another bucket")
    verify_bucket(bucket.data, index=index, bits=bits, path=bucket.path, root=bytes.fromhex(root))
    parsed = parse_bucket(bucket.data, name.algorithm, index=index, bits=bits)
    tag = parsed.find(name.algorithm, value.value)
    if tag is None:
        return None
    attributes = bucket.attributes.get(tag.hex(), "").encode()
    if tag_of(attributes) != tag:
        raise MixAndMatchError("the attributes are not those of the signed list")
    return attributes


def _verify_signed(statement: StatementOfHash, hash_set: str, history: History) -> None:
    registry = history.registry_of(statement.member, log_index=statement.log_index)
    submission = read_submission(parse_envelope(statement.envelope), registry)
    if (submission.member, submission.hash_set) != (statement.member, hash_set):
        raise MixAndMatchError("a submission of another member, or to another hash set")

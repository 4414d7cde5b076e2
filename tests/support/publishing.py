"""Published lists in the forms that tests compare: the fold, the replica, snapshots, deltas."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import zstandard

from hashshare.crypto.envelope import parse_envelope
from hashshare.crypto.keys import PublicKey
from hashshare.domain.buckets import root_of
from hashshare.domain.changes import Version
from hashshare.domain.fold import Fold
from hashshare.domain.hash_sets import HashSet
from hashshare.domain.names import HashSetId, ListName, MemberId, ViewId
from hashshare.domain.records import Record
from hashshare.domain.registry import Registry
from hashshare.domain.statements import Publication, read_publication
from hashshare.replica import Replica
from hashshare.storage.publications import PublicationRow
from hashshare.wire.delta import DeltaHeader, DeltaReader
from tests.support.coalition import ADMIN, ORIGIN, Running

Contents = dict[bytes, bytes]


@dataclass(frozen=True)
class Asker:
    """A member that asks for lists."""

    member: MemberId
    registry: Registry


@dataclass
class Story:
    """One hash set of a running coalition, and the fold of what was submitted to it.

    Attributes:
        running: The coalition.
        hash_set: The hash set.
        registry: In force.
        fold: Of all submissions.
        published: For each version, the contents that its lists must have.
    """

    running: Running
    hash_set: HashSetId
    registry: Registry
    fold: Fold = field(default_factory=Fold)
    published: dict[Version, dict[ListName, Contents]] = field(default_factory=dict)

    @property
    def admin(self) -> Asker:
        """Somebody who may read everything."""
        return Asker(ADMIN, self.registry)

    async def push(self, member: MemberId, records: Sequence[Record]) -> None:
        """Submit, and fold."""
        result = await self.running.push(member, records, hash_set=self.hash_set)
        self.fold.apply(member, records, log_index=result.log_index)

    async def reform(self, **changes: object) -> None:
        """Put the next registry into force, with these fields of the hash set replaced."""
        old = self.registry.hash_set(self.hash_set)
        new: HashSet = msgspec.structs.replace(old, **changes)
        await self.put_into_force(self.registry.with_hash_set(self.hash_set, new))

    async def put_into_force(self, registry: Registry) -> None:
        """Put the next registry into force."""
        await self.running.change_registry(registry)
        self.registry = registry

    def expected(self) -> dict[ListName, Contents]:
        """Return what the lists must be now, by the fold."""
        jurisdictions = {MemberId(m): v.jurisdiction for m, v in self.registry.members.items()}
        views = self.registry.evaluated_views(self.hash_set)
        return {
            name: self.fold.entries(
                views[name.view],
                name.algorithm,
                jurisdictions,
                self.registry.disregarded,
            )
            for name in self.registry.lists(self.hash_set)
        }

    async def verify(self, row: PublicationRow | None, replica: Path) -> Publication:
        """Assert that a new publication, and the publisher's replica, are what the fold says."""
        assert row is not None
        assert row.version == len(self.published) + 1
        expected = self.published[row.version] = self.expected()
        publication = await read_statement(self.running, row)
        assert publication.version == row.version
        assert publication.log_size == row.log_size
        assert publication.registry_version == self.registry.version
        names = [ListName(self.hash_set, ViewId(p.view), p.algorithm) for p in publication.lists]
        assert names == sorted(expected)
        for name, published in zip(names, publication.lists, strict=True):
            contents = expected[name]
            assert read_contents(replica, name) == contents
            assert published.count == len(contents)
            assert published.root == root_of(contents, name.algorithm, published.bits).hex()
        return publication


async def start_story(running: Running, name: str, **fields: object) -> Story:
    """Add a hash set to the registry and return its story."""
    registry = (await running.registries.current()).registry
    template = next(iter(registry.hash_sets.values()))
    hash_set: HashSet = msgspec.structs.replace(template, **fields)
    registry = registry.with_hash_set(name, hash_set, new=True)
    await running.change_registry(registry)
    return Story(running, HashSetId(name), registry)


async def read_statement(running: Running, row: PublicationRow) -> Publication:
    """Return the publication in the log, verified."""
    entry = await running.pool.fetchval(
        "SELECT entry FROM leaf WHERE log_index = $1", row.log_index
    )
    key = PublicKey(running.coalition.publisher.public.raw)
    return read_publication(parse_envelope(entry), [key], ORIGIN)


def read_contents(path: Path, name: ListName) -> Contents:
    """Return the entries of a list in a replica; empty when it has no such list."""
    with Replica.open(path, readonly=True) as replica, replica.reading() as reading:
        if reading.find(str(name)) is None:
            return {}
        return {v: a for chunk in reading.entries(str(name)) for v, a in chunk.entries()}


async def read_delta(chunks: AsyncIterator[bytes], name: ListName) -> tuple[DeltaHeader, Contents]:
    """Return a delta's header and, by value, the attributes from then on, b"" when removed."""
    body = b"".join([chunk async for chunk in chunks])
    reader = DeltaReader(name.algorithm, max_changes=10**9)
    changes = reader.feed(zstandard.ZstdDecompressor().decompressobj().decompress(body))
    keys = [name.algorithm.key(change.value) for change in changes]
    assert keys == sorted(set(keys))
    return reader.finish(), {change.value: change.after or b"" for change in changes}


def apply_strictly(contents: Mapping[bytes, bytes], changes: Contents) -> Contents:
    """Return contents after a delta; assert that it changes something with each line."""
    after = dict(contents)
    for value, attributes in changes.items():
        assert after.get(value, b"") != attributes
        after[value] = attributes
    return {value: attributes for value, attributes in after.items() if attributes}

"""One publication as the audit makes it: its lists, from the fold's opinions.

What service.edition does in SQL for the publisher, this does with the plain rule.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from hashshare.client.opinions import OpinionFile
from hashshare.client.session import Session
from hashshare.domain.buckets import bucket_index
from hashshare.domain.changes import Change
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.names import HashSetId, ListName, MemberId, ViewId
from hashshare.domain.policy import View, attributes_in
from hashshare.domain.registry import Registry
from hashshare.domain.statements import Publication, PublishedList
from hashshare.domain.succession import is_reformed
from hashshare.errors import HashshareError
from hashshare.replica import Reading, Replica
from hashshare.replica.writing import Writing
from hashshare.wire.compression import Inflater
from hashshare.wire.delta import DeltaReader

CHUNK: Final = 8192
MAX_LOCATED: Final = 1_000_000
"""Differences are looked for among so many changes at most."""


class _UndoneError(Exception):
    """Gives up the transaction of lists that are not the published ones."""


@dataclass(frozen=True, slots=True)
class Edition:
    """The lists of one publication.

    Attributes:
        publication: What was signed.
        number: Of the hash set, in ``opinions``.
        opinions: After all submissions that the publication covers.
        lists: At the version before it, or at its own if a run before was killed.
        session: To ask the server where it differs.
        old: The registry of the publication before; None if there is none.
        new: The registry of this one.
    """

    publication: Publication
    number: int
    opinions: OpinionFile
    lists: Replica
    session: Session
    old: Registry | None
    new: Registry

    @property
    def hash_set(self) -> HashSetId:
        """The hash set."""
        return HashSetId(self.publication.hash_set)

    def name(self, published: PublishedList) -> ListName:
        """Return the name of one of its lists."""
        return ListName(self.hash_set, ViewId(published.view), published.algorithm)

    def apply(self, *, keep: bool) -> list[PublishedList]:
        """Bring all lists to this version, and return those that were published otherwise.

        A list that should be there and is not, or the reverse, is among them, empty.

        Args:
            keep: Whether lists that differ are kept all the same.
        """
        differing: list[PublishedList] = []
        try:
            with self.lists.writing() as writing:
                differing = self._apply(writing)
                if differing and not keep:
                    raise _UndoneError
        except _UndoneError:
            pass
        return differing

    async def locate(self, published: PublishedList) -> list[int]:
        """Return the buckets in which the server's list differs from the fold's, if it says.

        Asks the server for its changes, and compares them with those of the fold.
        """
        name, version = self.name(published), self.publication.version
        reader = DeltaReader(name.algorithm, max_changes=MAX_LOCATED)
        inflater = Inflater(max_bytes=MAX_LOCATED * 4096)
        theirs: dict[bytes, bytes | None] = {}
        try:
            path = f"/v1/lists/{name}/deltas/{version - 1}/{version}"
            async with self.session.stream(path) as (_, chunks):
                async for chunk in chunks:
                    for piece in inflater.feed(chunk):
                        theirs |= {c.value: c.after for c in reader.feed(piece)}
        except HashshareError:
            # It does not say; that the root differs is known in any case.
            return []
        with self.lists.reading() as reading:
            ours = {c.value: c.after for c in self._changes(reading, name)}
        wrong = {v for v in theirs.keys() | ours.keys() if theirs.get(v, b"") != ours.get(v, b"")}
        key = name.algorithm.key
        return sorted({bucket_index(key(value), published.bits) for value in wrong})

    def _apply(self, writing: Writing) -> list[PublishedList]:
        wanted = set(self.new.lists(self.hash_set))
        signed = {self.name(p): p for p in self.publication.lists}
        known = {ListName.parse(s.name) for s in writing.lists()}
        mine = {name for name in known if name.hash_set == self.hash_set}
        differing = [signed[name] for name in sorted(signed.keys() - wanted)]
        for name in sorted(wanted | mine):
            held = writing.find(str(name))
            base = held.version if held else 0
            # A run that was killed after this had come so far already.
            if base < self.publication.version:
                held = writing.apply(
                    str(name),
                    name.algorithm,
                    self._changes(writing, name),
                    base=base,
                    target=self.publication.version,
                    # Only how finely it is cut while it grows: one bucket would hold all of it.
                    expected_count=signed[name].count if name in signed else 0,
                )
            if name in wanted and held is not None:
                found = PublishedList(
                    algorithm=name.algorithm,
                    bits=held.bits,
                    count=held.count,
                    root=held.root.hex(),
                    view=name.view,
                )
                if signed.get(name) != found:
                    differing.append(signed.get(name, found))
        return differing

    def _changes(self, reading: Reading, name: ListName) -> Iterator[Change]:
        """Yield what happens to a list, in its order."""
        view = self.new.evaluated_views(self.hash_set).get(name.view)
        if view is None:
            yield from _emptied(reading, name)
            return
        entries = self._entries(name.algorithm, view, touched_only=not self._is_new(reading, name))
        held = reading.find(str(name))
        while chunk := list(islice(entries, CHUNK)):
            values = [value for value, _ in chunk]
            before = reading.lookup(str(name), values) if held else [None] * len(values)
            for (value, new), old in zip(chunk, before, strict=True):
                if old != new:
                    yield Change(value, old, new)

    def _is_new(self, reading: Reading, name: ListName) -> bool:
        """Return whether all hashes have to be looked at, not only those that were touched."""
        if self.old is None or reading.find(str(name)) is None:
            return True
        return is_reformed(ViewId(name.view), self.hash_set, old=self.old, new=self.new)

    def _entries(
        self, algorithm: HashAlgorithm, view: View, *, touched_only: bool
    ) -> Iterator[tuple[bytes, bytes | None]]:
        jurisdictions = {MemberId(m): v.jurisdiction for m, v in self.new.members.items()}
        for value, said in self.opinions.said(
            self.number, algorithm, self.new.disregarded, touched_only=touched_only
        ):
            yield value, attributes_in(view, said.stances, jurisdictions, said.ruling)


def _emptied(reading: Reading, name: ListName) -> Iterator[Change]:
    """Yield the removal of every entry of a list that is published no more."""
    for chunk in reading.entries(str(name)):
        for value, attributes in chunk.entries():
            yield Change(value, attributes, None)

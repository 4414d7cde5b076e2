"""The archive of a mirror: the log with its tree, registries, and where the rest is.

Source: C2SP tlog-tiles; docs/protocol.md, "Mirrors".
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hashshare.crypto import canonical
from hashshare.crypto.encoding import decode_base64, encode_base64
from hashshare.crypto.envelope import parse_envelope
from hashshare.crypto.merkle import (
    TILE_HEIGHT,
    Frontier,
    Range,
    completed_nodes,
    consistency_ranges,
    inclusion_ranges,
    leaf_hash,
    nodes_of_range,
    root_of,
    root_of_range,
)
from hashshare.crypto.note import parse_checkpoint, parse_note
from hashshare.domain.documents import decode_document
from hashshare.domain.registry import Registry, parse_registry
from hashshare.domain.statements import (
    PUBLICATION_TYPE,
    REDACTION_TYPE,
    REGISTRY_TYPE,
    SUBMISSION_TYPE,
    Publication,
    Redaction,
    RegistryStatement,
    Submission,
)
from hashshare.errors import NotFoundError, ProofInvalidError, UnavailableError
from hashshare.mirror import tables
from hashshare.mirror.tables import translated

BUSY_SECONDS: Final = 60
_PART: Final = 1024


@dataclass(frozen=True, slots=True)
class KeptRegistry:
    """A version of the registry with its leaf."""

    document: bytes
    envelope: bytes
    log_index: int


@dataclass(frozen=True, slots=True)
class KeptSnapshot:
    """A snapshot that the mirror has written from its own replica.

    Attributes:
        sha256: Of the file.
    """

    version: int
    count: int
    size: int
    sha256: str


class Archive:
    """The file. Each method is durable once it returns; several processes may use it.

    What is not confirmed is given to the process that downloads it, and to nobody else: readers
    are to ask for no leaf above ``size``.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._registries: dict[int, Registry] = {}

    @classmethod
    def open(cls, path: Path) -> "Archive":
        """Open the archive at ``path``, and make it if there is none.

        Raises:
            ReplicaDamagedError: The file is damaged.
            UnavailableError: It cannot be used now.
        """
        with translated():
            path.touch(mode=0o600)
            connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
            )
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(f"BEGIN IMMEDIATE; {tables.SCHEMA} COMMIT;")
        return cls(connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @property
    def note(self) -> bytes:
        """The newest checkpoint up to which everything is here, b"" while there is none."""
        return self.get_state("note") or b""

    @property
    def size(self) -> int:
        """How many leaves readers are shown."""
        note = self.note
        return parse_checkpoint(parse_note(note).text).size if note else 0

    def publish(self, note: bytes) -> None:
        """Show readers a checkpoint, now that all that belongs to it is here."""
        self.put_state("note", note)

    def get_state(self, name: str) -> bytes | None:
        """Return what was put under a name."""
        row = self._fetch(tables.SELECT_STATE, name)
        return row[0][0] if row else None

    def put_state(self, name: str, value: bytes) -> None:
        """Remember something under a name."""
        with translated():
            self._connection.execute(tables.PUT_STATE, (name, value))

    # What is downloaded, before it is believed.

    @property
    def downloaded(self) -> int:
        """How many leaves are here, believed or not."""
        end: int = self._fetch(tables.SELECT_END)[0][0]
        return end

    def find_leaves(self, first: int, count: int) -> list[bytes]:
        """Return such leaves from ``first`` on as are here, believed or not."""
        return [row[0] for row in self._fetch(tables.SELECT_LEAVES, first, first + count)]

    def keep_leaves(self, first: int, leaves: Sequence[bytes]) -> None:
        """Keep leaves that are yet to be confirmed."""
        with translated(), self._transaction():
            self._connection.executemany(tables.PUT_LEAF, enumerate(leaves, first))

    def find_document(self, sha256: str) -> bytes | None:
        """Return the registry with that digest, if it is here."""
        rows = self._fetch(tables.SELECT_DOCUMENT, sha256)
        return rows[0][0] if rows else None

    def keep_document(self, document: bytes) -> None:
        """Keep a registry under its digest, which says what it is."""
        with translated():
            self._connection.execute(tables.PUT_DOCUMENT, (canonical.digest(document), document))

    def drop_unconfirmed(self) -> None:
        """Forget leaves that were not confirmed: some of them are wrong."""
        with translated():
            self._connection.execute(tables.DELETE_LEAVES, (self._frontier().size,))

    def confirm(self, size: int, root: bytes) -> None:
        """Believe the leaves up to ``size``, whose root is signed, and find one's way in them.

        Raises:
            ProofInvalidError: The leaves that are here are not those; what was not confirmed
                is forgotten, and may be downloaded again.
        """
        try:
            with translated(), self._transaction():
                frontier = self._frontier()
                while frontier.size < size:
                    frontier = self._take_in(frontier, size)
                if frontier.root() != root:
                    raise ProofInvalidError("the leaves that were kept are not the signed ones")
                state = f"{frontier.size} {encode_base64(frontier.encode())}".encode()
                self._connection.execute(tables.PUT_STATE, ("frontier", state))
        except ProofInvalidError:
            self.drop_unconfirmed()
            raise

    def _frontier(self) -> Frontier:
        state = self.get_state("frontier")
        if state is None:
            return Frontier()
        size, hashes = state.decode().split(" ")
        return Frontier.decode(int(size), decode_base64(hashes))

    def _take_in(self, frontier: Frontier, size: int) -> Frontier:
        first = frontier.size
        leaves = self.find_leaves(first, min(_PART, size - first))
        if not leaves:
            raise ProofInvalidError(f"leaf {first} of the log is not here")
        for leaf in leaves:
            self._index(frontier.size, leaf)
            frontier = frontier.append(leaf_hash(leaf))
            for level, index in completed_nodes(frontier.size):
                width = 1 << TILE_HEIGHT
                below = self.nodes(level - 1, index * width, width)
                self._connection.execute(tables.INSERT_NODE, (level, index, root_of(below)))
        return frontier

    def _index(self, index: int, leaf: bytes) -> None:
        """Note where a statement is; it was verified by whoever followed the log to it."""
        envelope = parse_envelope(leaf)
        match envelope.payload_type:
            case kind if kind == REGISTRY_TYPE:
                statement = decode_document(envelope.payload, RegistryStatement)
                if self.find_document(statement.document.sha256) is None:
                    raise ProofInvalidError(f"version {statement.version} is not here")
                row: tuple[object, ...] = (statement.version, index, statement.document.sha256)
                self._connection.execute(tables.INSERT_REGISTRY, row)
            case kind if kind == PUBLICATION_TYPE:
                publication = decode_document(envelope.payload, Publication)
                row = (publication.hash_set, publication.version, index)
                self._connection.execute(tables.INSERT_PUBLICATION, row)
            case kind if kind == SUBMISSION_TYPE:
                submission = decode_document(envelope.payload, Submission)
                batch = submission.batch
                row = (batch.sha256, submission.member, index, batch.size)
                self._connection.execute(tables.INSERT_BATCH, row)
            case kind if kind == REDACTION_TYPE:
                redaction = decode_document(envelope.payload, Redaction)
                self._connection.execute(tables.INSERT_REDACTION, (redaction.batch,))

    # The log as readers see it.

    def leaves(self, first: int, count: int) -> list[bytes]:
        """Return leaves that readers may see.

        Raises:
            NotFoundError: There are not so many.
        """
        if first + count > self.size:
            raise NotFoundError(f"the log has no leaves {first} to {first + count - 1} here")
        return self.find_leaves(first, count)

    def nodes(self, level: int, first: int, count: int) -> list[bytes]:
        """Return the stored nodes of one level from ``first`` on.

        Raises:
            NotFoundError: There are not so many.
        """
        if level == 0:
            found = [leaf_hash(leaf) for leaf in self.find_leaves(first, count)]
        else:
            rows = self._fetch(tables.SELECT_NODES, level, first, first + count)
            found = [row[0] for row in rows]
        if len(found) != count:
            raise NotFoundError(f"the log has no nodes up to {first + count - 1} at level {level}")
        return found

    def tile(self, level: int, first: int, count: int) -> list[bytes]:
        """Return nodes that readers may see.

        Raises:
            NotFoundError: There are not so many.
        """
        if (first + count) << (TILE_HEIGHT * level) > self.size:
            raise NotFoundError(f"the log has no nodes up to {first + count - 1} at level {level}")
        return self.nodes(level, first, count)

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Return the proof that a leaf is in the tree of ``size``, leaf to root.

        Raises:
            NotFoundError: There is no such leaf or tree here.
        """
        if not 0 <= index < size <= self.size:
            raise NotFoundError(f"no leaf {index} in a tree of size {size} here")
        return self._roots(inclusion_ranges(index, size))

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Return the proof that the tree of ``new`` leaves extends the one of ``old``.

        Raises:
            NotFoundError: There are no such trees here.
        """
        if not 0 <= old <= new <= self.size:
            raise NotFoundError(f"no proof from size {old} to {new} here")
        return self._roots(consistency_ranges(old, new))

    def _roots(self, ranges: Iterable[Range]) -> list[bytes]:
        found = []
        for start, end in ranges:
            nodes: dict[tuple[int, int], bytes] = {}
            for level, first, last in nodes_of_range(start, end):
                run = self.nodes(level, first, last - first)
                nodes.update(((level, i), value) for i, value in enumerate(run, first))
            found.append(root_of_range(start, end, lambda *node, nodes=nodes: nodes[node]))
        return found

    # Registries, publications, batches, snapshots.

    def registry(self) -> Registry:
        """Return the registry in force at the end of what readers see.

        Raises:
            UnavailableError: Nothing was mirrored yet.
        """
        size = self.size
        version = self._fetch(tables.SELECT_LAST_REGISTRY, size)[0][0]
        if version is None:
            raise UnavailableError("nothing was mirrored yet")
        if version not in self._registries:
            self._registries = {version: parse_registry(self.find_registry(version).document)}
        return self._registries[version]

    def find_registry(self, version: int) -> KeptRegistry:
        """Return one version of the registry.

        Raises:
            NotFoundError: It is not here.
        """
        rows = self._fetch(tables.SELECT_REGISTRY, version, self.size)
        if not rows:
            raise NotFoundError(f"the registry has no version {version} here")
        index, document = rows[0]
        (envelope,) = self.find_leaves(index, 1)
        return KeptRegistry(document, envelope, index)

    def last_version(self, hash_set: str) -> int:
        """Return the latest version of a hash set that readers see, 0 if there is none."""
        version: int = self._fetch(tables.SELECT_LAST_PUBLICATION, hash_set, self.size)[0][0]
        return version

    def find_publication(
        self, hash_set: str, version: int, *, size: int | None = None
    ) -> tuple[int, bytes] | None:
        """Return the leaf of a publication and its index, if it is among the first ``size``."""
        before = self.size if size is None else size
        rows = self._fetch(tables.SELECT_PUBLICATION, hash_set, version, before)
        if not rows:
            return None
        index: int = rows[0][0]
        return index, self.find_leaves(index, 1)[0]

    def owners(self, sha256: str) -> set[str]:
        """Return the members who have submitted a batch."""
        return {row[0] for row in self._fetch(tables.SELECT_OWNERS, sha256)}

    def missing_batches(self, member: str, *, every: bool) -> list[tuple[str, int]]:
        """Return digests and sizes of batches that are not here, in the order of the log.

        Args:
            member: Whose batches are meant.
            every: All others' too.
        """
        rows = self._fetch(tables.SELECT_MISSING, every, member)
        return [(row[0], row[1]) for row in rows]

    def hold_batch(self, sha256: str) -> None:
        """Note that a batch is here."""
        with translated():
            self._connection.execute(tables.HOLD_BATCH, (sha256,))

    def redactions(self) -> list[str]:
        """Return the digests of batches that the log says are deleted."""
        return [row[0] for row in self._fetch(tables.SELECT_REDACTIONS)]

    def snapshots(self, list_name: str) -> list[KeptSnapshot]:
        """Return the snapshots of a list, the newest first."""
        rows = self._fetch(tables.SELECT_SNAPSHOTS, list_name)
        return [KeptSnapshot(*row) for row in rows]

    def keep_snapshot(self, list_name: str, snapshot: KeptSnapshot) -> None:
        """Note that a snapshot is here."""
        row = (list_name, snapshot.version, snapshot.count, snapshot.size, snapshot.sha256)
        with translated():
            self._connection.execute(tables.PUT_SNAPSHOT, row)

    def drop_snapshot(self, list_name: str, version: int) -> None:
        """Note that a snapshot is no longer here."""
        with translated():
            self._connection.execute(tables.DELETE_SNAPSHOT, (list_name, version))

    def _fetch(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with translated():
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

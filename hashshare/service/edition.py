"""One publication in the making: what it has to look at, and how its lists come about."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from hashshare.domain.changes import Change, Version
from hashshare.domain.names import HashSetId, ListName, ViewId
from hashshare.domain.policy import View
from hashshare.domain.registry import Registry
from hashshare.domain.statements import NO_PREVIOUS, Publication, PublishedList
from hashshare.domain.succession import is_reformed
from hashshare.replica.writing import Writing
from hashshare.service.worker import Worker
from hashshare.storage.changes import RUN_LENGTH, pack_run
from hashshare.storage.database import Connection
from hashshare.storage.evaluation import Evaluated, EvaluationRepository, Span
from hashshare.storage.publications import HashSetState, ListState, PublicationRepository

BATCH_SIZE: Final = 8192
"""Hashes that are evaluated and looked up at once."""


@dataclass(frozen=True, slots=True)
class ViewTask:
    """A view that is evaluated.

    Attributes:
        view_id: Its id.
        view: Its policy, with terms resolved.
        span: Over these hashes.
    """

    view_id: ViewId
    view: View
    span: Span


@dataclass(frozen=True, slots=True)
class Edition:
    """What the next publication of a hash set is made from.

    Attributes:
        state: Where the hash set stands.
        log_size: How much of the log the publication covers.
        registry: In force there.
        known: Every list that was ever published, at its latest version.
        tasks: The views, by id.
    """

    state: HashSetState
    log_size: int
    registry: Registry
    known: dict[ListName, ListState]
    tasks: list[ViewTask]

    @property
    def hash_set(self) -> HashSetId:
        """The hash set."""
        return self.state.hash_set

    @property
    def version(self) -> Version:
        """The version to be published."""
        return Version(self.state.latest.version + 1 if self.state.latest else 1)

    @property
    def deleted(self) -> list[ListName]:
        """The lists that were published until now and are no more."""
        names = set(self.registry.lists(self.hash_set))
        return sorted(n for n, state in self.known.items() if state.listed and n not in names)

    def to_statement(self, states: Iterable[ListState], created_at: str) -> Publication:
        """Return what is signed."""
        lists = (
            PublishedList(
                algorithm=state.algorithm,
                bits=state.bits,
                count=state.count,
                root=state.root.hex(),
                view=state.view,
            )
            for state in states
            if state.listed
        )
        latest = self.state.latest
        return Publication(
            created_at=created_at,
            hash_set=self.hash_set,
            lists=tuple(sorted(lists, key=lambda p: (p.view, str(p.algorithm)))),
            log=self.registry.log,
            log_size=self.log_size,
            previous=latest.statement_id if latest else NO_PREVIOUS,
            registry_version=self.registry.version,
            version=self.version,
        )


def is_due(state: HashSetState, old: Registry | None, new: Registry) -> bool:
    """Return whether a hash set needs a publication.

    The first one comes as soon as the hash set has a view, even before any submission, so
    that members can verify that its lists are empty. Later ones come when submissions to
    the hash set, or changes of the registry that concern its lists, are not covered yet:
    also when no list changes by them, since members then see that they were looked at.

    Args:
        state: Where it stands.
        old: The registry that the latest publication follows; None before the first one.
        new: The registry in force.
    """
    hash_set = new.hash_sets.get(state.hash_set)
    if hash_set is None:
        return False
    if old is None:
        return bool(hash_set.views)
    if state.submitted or old.lists(state.hash_set) != new.lists(state.hash_set):
        return True
    return any(
        is_reformed(ViewId(view), state.hash_set, old=old, new=new) for view in hash_set.views
    )


async def plan_edition(
    connection: Connection,
    state: HashSetState,
    *,
    log_size: int,
    old: Registry | None,
    new: Registry,
) -> Edition:
    """Return what the next publication is made from, as the transaction sees it."""
    publications = PublicationRepository(connection)
    evaluation = EvaluationRepository(connection)
    known = {
        ListName(state.hash_set, listed.view, listed.algorithm): listed
        for listed in await publications.read_latest_lists(state.hash_set_no)
    }
    tasks = []
    for view_id, view in sorted(new.evaluated_views(state.hash_set).items()):
        covered = state.latest.log_size if state.latest else None
        if old is None or is_reformed(ViewId(view_id), state.hash_set, old=old, new=new):
            covered = None
        span = await evaluation.measure(state.hash_set_no, covered=covered, log_size=log_size)
        tasks.append(ViewTask(ViewId(view_id), view, span))
    return Edition(state, log_size, new, known, tasks)


@dataclass(frozen=True, slots=True)
class EditionWriter:
    """Brings the lists of an edition into the replica and, as runs of changes, the database.

    Its methods run in the worker's thread, and hold a few thousand changes at a time.

    Attributes:
        edition: What is to be made.
        worker: Its thread.
        replica: The open transaction of the replica.
        evaluation: On the connection with the snapshot that the edition was planned in.
        publications: On the connection with the transaction that publishes.
    """

    edition: Edition
    worker: Worker
    replica: Writing
    evaluation: EvaluationRepository
    publications: PublicationRepository

    def write(self) -> list[ListState]:
        """Make all lists and return their states at the new version.

        Raises:
            DeltaMismatchError: The replica does not hold the latest version.
            ConflictError: Another publisher made this version.
        """
        states = [state for task in self.edition.tasks for state in self._write_view(task)]
        states += [self._delete(name) for name in self.edition.deleted]
        return states

    def _write_view(self, task: ViewTask) -> Iterator[ListState]:
        evaluated = self.evaluation.evaluate(
            task.span, task.view, self.edition.registry, batch_size=BATCH_SIZE
        )
        hash_set = self.edition.hash_set
        with closing(self.worker.iterate(evaluated)) as parts:
            # Both are ordered by the algorithm's name.
            groups = groupby(parts, key=lambda part: part.algorithm)
            algorithm, group = next(groups, (None, iter(())))
            for name in sorted(
                ListName(hash_set, task.view_id, algorithm)
                for algorithm in self.edition.registry.hash_set(hash_set).algorithms
            ):
                if name.algorithm is not algorithm:
                    yield self._write_list(name, (), expected=0)
                    continue
                yield self._write_list(name, group, expected=self._expect(name, task.span))
                algorithm, group = next(groups, (None, iter(())))
        if algorithm is not None:
            raise RuntimeError(f"{hash_set} has hashes in {algorithm}, which it does not list")

    def _expect(self, name: ListName, span: Span) -> int:
        """Return about how many entries a list will have when it grows by much, else 0."""
        known = self.edition.known.get(name)
        count = known.count if known else 0
        algorithms = len(self.edition.registry.hash_set(name.hash_set).algorithms)
        added = span.number // algorithms
        return count + added if added > count else 0

    def _write_list(
        self, name: ListName, parts: Iterable[Evaluated], *, expected: int
    ) -> ListState:
        known = self.edition.known.get(name)
        is_empty = known is None or known.count == 0
        changes = (change for part in parts for change in self._changes(name, part, is_empty))
        return self._apply(name, changes, listed=True, expected=expected)

    def _delete(self, name: ListName) -> ListState:
        changes = (
            Change(value, attributes, None)
            for chunk in self.replica.entries(str(name))
            for value, attributes in chunk.entries()
        )
        return self._apply(name, changes, listed=False, expected=0)

    def _changes(self, name: ListName, part: Evaluated, is_empty: bool) -> Iterator[Change]:
        before: Sequence[bytes | None] = [None] * len(part.values)
        if not is_empty:
            before = self.replica.lookup(str(name), part.values)
        for value, old, new in zip(part.values, before, part.attributes, strict=True):
            if old != new:
                yield Change(value, old, new)

    def _apply(
        self, name: ListName, changes: Iterable[Change], *, listed: bool, expected: int
    ) -> ListState:
        known = self.edition.known.get(name)
        stored = _Stored(self, name)
        state = self.replica.apply(
            str(name),
            name.algorithm,
            stored.store(changes),
            base=known.version if known else 0,
            target=self.edition.version,
            expected_count=expected,
        )
        return ListState(
            view=name.view,
            algorithm=name.algorithm,
            version=self.edition.version,
            listed=listed,
            count=state.count,
            bits=state.bits,
            root=state.root,
            changes=stored.count,
        )

    def store_run(self, name: ListName, part: int, run: Sequence[Change]) -> None:
        """Append a run to the transaction that publishes."""
        self.worker.call(
            self.publications.append_run(
                self.edition.state.hash_set_no,
                name,
                self.edition.version,
                part,
                pack_run(name.algorithm, run),
            )
        )


class _Stored:
    """Passes changes on, and stores them on the way.

    Attributes:
        count: Changes so far.
    """

    def __init__(self, writer: EditionWriter, name: ListName) -> None:
        self.count = 0
        self._writer = writer
        self._name = name

    def store(self, changes: Iterable[Change]) -> Iterator[Change]:
        part, run = 0, list[Change]()
        for change in changes:
            self.count += 1
            run.append(change)
            if len(run) == RUN_LENGTH:
                self._writer.store_run(self._name, part, run)
                part, run = part + 1, []
            yield change
        if run:
            self._writer.store_run(self._name, part, run)

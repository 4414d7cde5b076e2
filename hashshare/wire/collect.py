"""Collects the lines of a batch into columns, and finds what only all of them together show."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hashshare.domain.columns import (
    BatchColumns,
    Bytes2D,
    HashColumn,
    Kind,
    Numbers,
    Texts,
    as_words,
    sorted_order,
)
from hashshare.domain.hashes import TRIVIAL, HashAlgorithm
from hashshare.domain.statements import Operation
from hashshare.errors import Fault

MAX_FAULTS: Final = 20

_NOT_IN_IDS: Final = re.compile(r"[^A-Za-z0-9._:/@+=-]")


class Faults:
    """Counts faults, and keeps the first ones in order of lines.

    Attributes:
        total: How many there are in all.
    """

    def __init__(self) -> None:
        self.total = 0
        self._kept: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Take in one fault, in any order."""
        self.total += 1
        self._kept.append(fault)
        if len(self._kept) > 4 * MAX_FAULTS:
            self._kept = self.first()

    def first(self) -> list[Fault]:
        """Return the first ``MAX_FAULTS`` by line."""
        return sorted(self._kept, key=lambda fault: fault.line)[:MAX_FAULTS]


@dataclass(slots=True)
class Rows:
    """Some lines of a batch.

    Attributes:
        numbers: The number of each line.
        ids: For each line its record id; empty when the operation has none.
        kinds: For each line what it says besides; empty when the operation says nothing.
        hashes: By algorithm: the values in one piece, and the number of the line of each.
    """

    numbers: list[int]
    ids: list[str | None]
    kinds: list[Kind]
    hashes: dict[HashAlgorithm, tuple[bytes, list[int]]] = field(default_factory=dict)

    def add(self, algorithm: HashAlgorithm, digits: list[str], numbers: list[int]) -> bool:
        """Take in all hashes of one algorithm; return False if one is not in the one spelling.

        Args:
            algorithm: Of all of them.
            digits: Texts whose lengths are right.
            numbers: The number of the line of each.
        """
        text = "".join(digits)
        try:
            values = bytes.fromhex(text)
        except ValueError:
            return False
        # fromhex() also takes upper case and white space.
        if values.hex() != text:
            return False
        self.hashes[algorithm] = (values, numbers)
        return True

    def ids_are_spelled(self) -> bool:
        """Return whether each id has accepted characters only."""
        return not _NOT_IN_IDS.search("".join([name for name in self.ids if name is not None]))


class Collector:
    """Takes in lines in order. What it holds per record is what must be known at the end."""

    def __init__(self, operation: Operation, algorithms: frozenset[HashAlgorithm]) -> None:
        self._operation = operation
        self._lines: list[Numbers] = []
        self._values = {a: bytearray() for a in sorted(algorithms)}
        self._owners: dict[HashAlgorithm, list[Numbers]] = {a: [] for a in sorted(algorithms)}
        self._kinds: dict[Kind, int] = {}
        self._kind: list[Numbers] = []
        self._ids: list[bytes] = []
        self._id_lengths: list[Numbers] = []

    def append(self, rows: Rows) -> None:
        """Take in the next lines."""
        count = len(rows.numbers)
        self._lines.append(np.array(rows.numbers, dtype=np.int32))
        for algorithm, (values, numbers) in rows.hashes.items():
            self._values[algorithm] += values
            self._owners[algorithm].append(np.array(numbers, dtype=np.int32))
        if rows.kinds:
            for kind in set(rows.kinds) - self._kinds.keys():
                self._kinds[kind] = len(self._kinds)
            numbered = map(self._kinds.__getitem__, rows.kinds)
            self._kind.append(np.fromiter(numbered, dtype=np.int32, count=count))
        if rows.ids:
            ids = [name or "" for name in rows.ids]
            self._ids.append("".join(ids).encode("ascii"))
            self._id_lengths.append(np.fromiter(map(len, ids), dtype=np.int32, count=count))

    def finish(self, faults: Faults) -> BatchColumns:
        """Return the columns, and add the faults that no line shows alone."""
        lines = _joined(self._lines)
        ids = self._finish_ids(len(lines))
        has_id = ids.lengths > 0
        columns = [self._finish_column(algorithm, lines) for algorithm in list(self._values)]
        columns = [column for column in columns if len(column.values)]
        for fault in _repeated_ids(ids, lines):
            faults.add(fault)
        for column in columns:
            for fault in chain(_trivial(column, lines), _repeated_hashes(column, lines, has_id)):
                faults.add(fault)
        return BatchColumns(
            operation=self._operation,
            hashes=tuple(columns),
            kinds=tuple(_plain(kind) for kind in self._kinds) or ((),),
            kind=_joined(self._kind) if self._kind else np.zeros(len(lines), dtype=np.int32),
            ids=ids,
        )

    def _finish_ids(self, count: int) -> Texts:
        lengths = _joined(self._id_lengths) if self._id_lengths else np.zeros(count, np.int32)
        ids = Texts(b"".join(self._ids), np.cumsum(lengths, dtype=np.int64))
        self._ids.clear()
        return ids

    def _finish_column(self, algorithm: HashAlgorithm, lines: Numbers) -> HashColumn:
        # Taken out, so that the unsorted bytes are gone when the next one is sorted.
        packed = np.frombuffer(self._values.pop(algorithm), dtype=np.uint8)
        values = packed.reshape(-1, algorithm.size)
        order = sorted_order(values)
        owners = _joined(self._owners.pop(algorithm))[order]
        records = _places(lines, owners)
        return HashColumn(algorithm, values[order], records)


def _places(lines: Numbers, owners: Numbers) -> Numbers:
    """Return where each of ``owners`` is in ``lines``, which ascend and hold them all."""
    places: Numbers
    if len(lines) and int(lines[-1]) - int(lines[0]) == len(lines) - 1:
        # No line is missing, which is so unless one was faulty: nothing to search for.
        places = owners - lines[0]
    else:
        places = np.searchsorted(lines, owners).astype(np.int32)
    return places


def _plain(kind: Kind) -> Kind:
    # Members of enumerations are texts, but their class need not go further.
    return tuple(None if part is None else str(part) for part in kind)


def _joined(parts: list[Numbers]) -> Numbers:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)


def _repeated_hashes(
    column: HashColumn, lines: Numbers, has_id: NDArray[np.bool_]
) -> Iterator[Fault]:
    """Yield a fault for each hash that two records without an id name."""
    without = np.flatnonzero(~has_id[column.records])
    if len(without) == len(column.values):
        values, records = column.values, column.records
    else:
        values, records = column.values[without], column.records[without]
    for index in np.flatnonzero(_equals_previous(values)).tolist():
        reason = f"the same hash as in line {lines[records[index]]}"
        yield Fault(int(lines[records[index + 1]]), f"hashes.{column.algorithm}", reason)


def _equals_previous(values: Bytes2D) -> NDArray[np.bool_]:
    words = as_words(values)
    equal: NDArray[np.bool_] = words[1:, 0] == words[:-1, 0]
    for index in range(1, words.shape[1]):
        if not equal.any():
            break
        equal &= words[1:, index] == words[:-1, index]
    return equal


def _trivial(column: HashColumn, lines: Numbers) -> Iterator[Fault]:
    """Yield a fault for each hash of trivial content."""
    known = {v: r for v, r in TRIVIAL.items() if len(v) == column.algorithm.size}
    packed = np.frombuffer(b"".join(known), dtype=np.uint8).reshape(-1, column.algorithm.size)
    suspects = np.isin(as_words(column.values)[:, 0], as_words(packed)[:, 0])
    for index in np.flatnonzero(suspects).tolist():
        content = known.get(column.values[index].tobytes())
        if content is not None:
            reason = f"this is the hash of {content}, which matches by accident"
            line = int(lines[column.records[index]])
            yield Fault(line, f"hashes.{column.algorithm}", reason)


def _repeated_ids(ids: Texts, lines: Numbers) -> Iterator[Fault]:
    """Yield a fault for each record id that stands twice."""
    named = np.flatnonzero(ids.lengths)
    # Compared by 64-bit numbers first, which take a tenth of the memory of a set of texts.
    numbers = np.fromiter((hash(ids[n]) for n in named.tolist()), np.int64, count=len(named))
    order = np.argsort(numbers, kind="stable")
    same = numbers[order]
    seen: dict[str, int] = {}
    for index in np.flatnonzero(_in_runs(same)).tolist():
        record = int(named[order[index]])
        first = seen.setdefault(ids[record], record)
        if first != record:
            yield Fault(int(lines[record]), "id", f"the same record id as in line {lines[first]}")


def _in_runs(same: NDArray[np.int64]) -> NDArray[np.bool_]:
    equal = same[1:] == same[:-1]
    runs = np.zeros(len(same), dtype=np.bool_)
    runs[1:] |= equal
    runs[:-1] |= equal
    return runs

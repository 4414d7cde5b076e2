"""A batch as columns: what ``domain.records`` says one by one, for millions at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.policy import Basis, Decision, DisputeReason, Media
from hashshare.domain.records import (
    AssertRecord,
    DisputeRecord,
    Hashes,
    Record,
    RuleRecord,
    WithdrawRecord,
)
from hashshare.domain.statements import Operation

Bytes2D = NDArray[np.uint8]
Numbers = NDArray[np.int32]

_WORD: Final = 8
_PIECE: Final = 8192


@dataclass(frozen=True, slots=True, eq=False)
class HashColumn:
    """All hashes of one algorithm in a batch.

    Attributes:
        algorithm: Of all of them.
        values: One a row, ascending bytewise; a value stands there once for each record
            that has it.
        records: For each value the number of its record, from 0; of equal values ascending.
    """

    algorithm: HashAlgorithm
    values: Bytes2D
    records: Numbers

    def of_records(
        self, order: NDArray[np.intp], first: int, after: int
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the records from ``first`` to before ``after`` that have a value, with it.

        Args:
            order: The order that sorts ``records``.
            first: Number of a record.
            after: Number of a record.
        """
        begin, end = np.searchsorted(self.records, (first, after), sorter=order)
        rows = order[begin:end]
        for number, value in zip(self.records[rows].tolist(), self.values[rows], strict=True):
            yield number, value.tobytes()


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """Many short texts, in one piece.

    Attributes:
        data: All of them, ASCII, without a gap.
        ends: For each text where it ends in ``data``.
    """

    data: bytes
    ends: NDArray[np.int64]

    def __getitem__(self, number: int) -> str:
        begin = int(self.ends[number - 1]) if number else 0
        return self.data[begin : int(self.ends[number])].decode("ascii")

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The length of each text."""
        return np.diff(self.ends, prepend=0)


Kind = tuple[str | None, ...]
"""What many records say alike: (classification, media, basis), (reason,), or (decision, reason)."""


@dataclass(frozen=True, slots=True, eq=False)
class BatchColumns:
    """One batch that was found acceptable.

    Attributes:
        operation: Of all records.
        hashes: By algorithm, ascending by its name; only those that occur.
        kinds: Each once.
        kind: For each record, which of ``kinds`` it is.
        ids: For each record its id, "" where it has none.
    """

    operation: Operation
    hashes: tuple[HashColumn, ...]
    kinds: tuple[Kind, ...]
    kind: Numbers
    ids: Texts

    @property
    def count(self) -> int:
        """How many records there are."""
        return len(self.kind)

    def records(self) -> Iterator[Record]:
        """Yield the records, in order; made piece by piece, so that a large batch takes no more."""
        orders = [np.argsort(column.records, kind="stable") for column in self.hashes]
        for first in range(0, self.count, _PIECE):
            kinds = self.kind[first : first + _PIECE].tolist()
            hashes: list[dict[HashAlgorithm, bytes]] = [{} for _ in kinds]
            for column, order in zip(self.hashes, orders, strict=True):
                for number, value in column.of_records(order, first, first + len(kinds)):
                    hashes[number - first][column.algorithm] = value
            for number, kind in enumerate(kinds):
                record, said = self.ids[first + number], self.kinds[kind]
                yield _to_record(self.operation, record, hashes[number], said)


def sorted_order(values: Bytes2D) -> NDArray[np.intp]:
    """Return the stable order that sorts rows of bytes bytewise.

    Digests hardly ever agree in their first eight bytes, so these are sorted alone, and the
    rest only when some do.
    """
    words = as_words(values)
    order = np.argsort(words[:, 0], kind="stable")
    leading = words[:, 0][order]
    if (leading[1:] == leading[:-1]).any():
        # The last key is the primary one.
        order = np.lexsort(words.T[::-1])
    return order


def as_words(values: Bytes2D) -> NDArray[np.uint64]:
    """Return the rows as numbers that compare as the bytes do."""
    count, size = values.shape
    padded = -size % _WORD
    if padded:
        values = np.pad(values, ((0, 0), (0, padded)))
    words = np.ascontiguousarray(values).view(">u8").astype(np.uint64)
    return words.reshape(count, (size + padded) // _WORD)


def first_of_equals(values: Bytes2D) -> NDArray[np.bool_]:
    """Return for each row of sorted ``values`` whether it differs from the one before it."""
    first = np.ones(len(values), dtype=np.bool_)
    first[1:] = (values[1:] != values[:-1]).any(axis=1)
    return first


def _to_record(operation: Operation, record: str, hashes: Hashes, kind: Kind) -> Record:
    match operation:
        case Operation.ASSERT:
            classification, media, basis = kind
            return AssertRecord(
                record=record,
                hashes=hashes,
                classification=str(classification),
                media=None if media is None else Media(media),
                basis=Basis(str(basis)),
            )
        case Operation.WITHDRAW:
            return WithdrawRecord(record=record, hashes=hashes)
        case Operation.DISPUTE:
            return DisputeRecord(hashes=hashes, reason=DisputeReason(str(kind[0])))
        case Operation.RULE:
            decision, reason = kind
            return RuleRecord(hashes=hashes, decision=Decision(str(decision)), reason=str(reason))

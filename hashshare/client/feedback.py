"""Feedback: what hashes did for this member, as counts."""

import csv
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from hashshare.client.session import Session
from hashshare.domain.feedback import MAX_COUNT, MAX_ROWS, Counts, Month
from hashshare.domain.hashes import HashValue, parse_algorithm, parse_value
from hashshare.errors import BatchFaultsError, Fault, MalformedError
from hashshare.wire.feedback import (
    FeedbackCounts,
    FeedbackDone,
    FeedbackOfHash,
    FeedbackReport,
    FeedbackShown,
    HashFeedback,
)

COLUMNS: Final = ("algorithm", "hash", "matched", "false_positive", "not_matched")
_COUNTS: Final = COLUMNS[2:]
_NEEDED: Final = frozenset({"algorithm", "hash"})
_MAX_FAULTS: Final = 20

Row = tuple[HashValue, Counts]


@dataclass(slots=True)
class FeedbackProgress:
    """How far a report is: plain numbers, to be looked at whenever one likes.

    Attributes:
        done: Hashes that were sent.
        known: So many of them the hash set knows; None where the server does not tell.
        counts: Their sum.
    """

    done: int = 0
    known: int | None = 0
    counts: Counts = field(default_factory=Counts)


@dataclass(frozen=True, slots=True)
class Feedback:
    """Reports what hashes did for this member. Whatever is sent again counts once."""

    session: Session

    async def report(
        self,
        hash_set: str,
        month: Month,
        rows: Iterable[Row],
        *,
        named: bool = False,
        progress: FeedbackProgress,
    ) -> None:
        """Report counts of hashes, a page at a time; may be repeated when it was cut off.

        Args:
            hash_set: In which the hashes are.
            month: One of the last 24.
            rows: Of distinct hashes; read as they are sent.
            named: Lets the counts be shown with this member's name.
            progress: Is told how far it is.

        Raises:
            NotFoundError: There is no such hash set for this member.
            MalformedError: The month is not one of the last.
        """
        rest = iter(rows)
        while page := list(islice(rest, MAX_ROWS)):
            document = FeedbackReport(
                month=str(month), named=named, total=None, hashes=[_to_wire(row) for row in page]
            )
            done = await self._send(hash_set, document)
            progress.done += len(page)
            progress.counts = sum((counts for _, counts in page), progress.counts)
            if done.known is None or progress.known is None:
                progress.known = None
            else:
                progress.known += done.known

    async def report_total(
        self, hash_set: str, month: Month, total: Counts, *, named: bool = False
    ) -> None:
        """Report what all hashes of a hash set did together; raises as ``report`` does."""
        counts = FeedbackCounts(
            matched=total.matched,
            false_positive=total.false_positive,
            not_matched=total.not_matched,
        )
        document = FeedbackReport(month=str(month), named=named, total=counts, hashes=[])
        await self._send(hash_set, document)

    async def of_hash(self, hash_set: str, value: HashValue) -> list[FeedbackShown]:
        """Return what others are shown of the feedback on a hash.

        Raises:
            NotFoundError: Nothing is known of it, or there is no such hash set.
        """
        path = f"/v1/hash-sets/{hash_set}/hashes/{value.algorithm}/{value.value.hex()}/feedback"
        return (await self.session.get(path, HashFeedback)).feedback

    async def _send(self, hash_set: str, document: FeedbackReport) -> FeedbackDone:
        path = f"/v1/hash-sets/{hash_set}/feedback"
        return await self.session.send("POST", path, document, FeedbackDone)


def verify_counts(path: Path) -> int:
    """Return how many rows a file of counts has, none of which is faulty.

    Raises:
        BatchFaultsError: Rows are faulty, or name a hash again.
        MalformedError: It is no CSV file with the columns.
    """
    faults: list[Fault] = []
    total = count = 0
    # Digests: there may be millions.
    seen: dict[bytes, int] = {}
    for line, row in _lines(path):
        count += 1
        try:
            value, _ = _parse(row)
            key = hashlib.blake2b(str(value).encode(), digest_size=16).digest()
            first = seen.setdefault(key, line)
            if first != line:
                raise MalformedError(f"the same hash as in line {first}")
        except MalformedError as error:
            total += 1
            if len(faults) < _MAX_FAULTS:
                faults.append(Fault(line, "", str(error)))
    if total:
        raise BatchFaultsError(faults, total=total)
    return count


def read_counts(path: Path) -> Iterator[Row]:
    """Yield the rows of a file that was verified; raises as ``verify_counts`` does."""
    for _, row in _lines(path):
        yield _parse(row)


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, str | None]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            names = [name.strip().lower() for name in rows.fieldnames or ()]
            if not _NEEDED <= set(names) <= set(COLUMNS) or len(set(names)) < len(names):
                columns = ", ".join(COLUMNS)
                raise MalformedError(f"the first line names the columns {columns}")
            rows.fieldnames = names
            for row in rows:
                yield rows.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise MalformedError(f"the file cannot be read: {type(error).__name__}") from error
    except FileNotFoundError as error:
        raise MalformedError(f"there is no file {path}") from error


def _parse(row: Mapping[str, str | None]) -> Row:
    if None in row:
        raise MalformedError("more fields than columns")
    algorithm = parse_algorithm((row["algorithm"] or "").strip().lower())
    value = parse_value(algorithm, (row["hash"] or "").strip().lower())
    counts = [_to_count(name, row.get(name)) for name in _COUNTS]
    return HashValue(algorithm, value), Counts(*counts)


def _to_count(name: str, text: str | None) -> int:
    digits = (text or "0").strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(MAX_COUNT))):
        raise MalformedError(f"{name} is a number from 0 to {MAX_COUNT}")
    number = int(digits)
    if number > MAX_COUNT:
        raise MalformedError(f"{name} is a number from 0 to {MAX_COUNT}")
    return number


def _to_wire(row: Row) -> FeedbackOfHash:
    value, counts = row
    return FeedbackOfHash(
        algorithm=value.algorithm.value,
        hash=value.value.hex(),
        matched=counts.matched,
        false_positive=counts.false_positive,
        not_matched=counts.not_matched,
    )

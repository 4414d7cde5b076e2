"""Reads members' own files: CSV, NDJSON in our record format, Parquet.

What a person writes is taken kindly, upper-case hex and spaces included, and counted; what
goes over the wire has one spelling.
"""

import csv
import hashlib
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hashshare.domain.hashes import HashAlgorithm, parse_value
from hashshare.domain.names import RECORD_PATTERN
from hashshare.domain.policy import Basis, Decision, DisputeReason, Media
from hashshare.domain.records import (
    AssertRecord,
    DisputeRecord,
    Record,
    RuleRecord,
    WithdrawRecord,
)
from hashshare.domain.statements import Operation
from hashshare.errors import BatchFaultsError, Fault, MalformedError

MAX_FAULTS: Final = 20

_BY_DIGITS: Final = {2 * a.size: a for a in reversed(HashAlgorithm) if a is not HashAlgorithm.PDQ}
_HEX: Final = re.compile(r"[0-9A-Fa-f]+")
_RECORD: Final = re.compile(RECORD_PATTERN)
_ALIASES: Final = {
    "sha-1": "sha1",
    "sha-256": "sha256",
    "sha-512": "sha512",
    "pdna": "photodna",
    "digest": "hash",
    "value": "hash",
    "label": "classification",
    "category": "classification",
    "class": "classification",
    "type": "media",
    "record": "id",
    "record_id": "id",
}
_FIELDS: Final = ("id", "classification", "media", "basis", "reason")

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for rows that do not say.

    Attributes:
        decision: Of a ruling.
        words: Why it was decided so.
        columns: Our name of a field or algorithm, by column; overrides the guess.
    """

    operation: Operation
    classification: str | None = None
    media: Media | None = None
    basis: Basis = Basis.REVIEWED
    reason: DisputeReason | None = None
    decision: Decision | None = None
    words: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Reading:
    """What reading a file came to so far.

    Attributes:
        columns: Which column was taken for what.
        rows: Rows read.
        respelled: Hashes that were not in lower-case hex without spaces.
        duplicates: Rows left out because one before said just the same.
    """

    columns: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    respelled: int = 0
    duplicates: int = 0
    faults: list[Fault] = field(default_factory=list)
    faulty: int = 0

    def add_fault(self, line: int, name: str, reason: str) -> None:
        """Remember one of the first 20 faults, and count all."""
        self.faulty += 1
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(line, name, reason))


def read_records(path: Path | None, defaults: Defaults, reading: Reading) -> Iterator[Record]:
    """Yield the records of a file.

    Args:
        path: Its ending tells its form: .csv, .txt, .ndjson, .jsonl, .parquet. None is
            standard input, whose first byte tells.
        defaults: For what rows do not say.
        reading: Is told what was found.

    Raises:
        BatchFaultsError: Rows are faulty; raised when all are read.
        MalformedError: The file cannot be read as what its ending says.
    """
    said: dict[bytes, int] = {}
    for line, row in _rows(path, defaults, reading):
        reading.rows += 1
        try:
            record = _to_record(row, defaults, reading)
        except _FaultyFieldError as error:
            reading.add_fault(line, error.field, error.reason)
            continue
        key, stance = _identity(record), _stance(record)
        before = said.get(key)
        if before is None:
            said[key] = stance
            yield record
        elif before == stance:
            reading.duplicates += 1
        else:
            reading.add_fault(line, "", "a row before says something else of the same")
    if reading.faulty:
        raise BatchFaultsError(reading.faults, total=reading.faulty)


class _FaultyFieldError(Exception):
    """A row cannot be taken for what stands in a field; "" is the row itself."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason


def _identity(record: Record) -> bytes:
    """Return what two records have in common that speak of the same; small, as there are many."""
    digest = hashlib.blake2b(getattr(record, "record", "").encode(), digest_size=16)
    for algorithm, value in record.hashes.items():
        digest.update(b"\0%s\0" % algorithm.encode())
        digest.update(value)
    return digest.digest()


def _stance(record: Record) -> int:
    """Return what tells apart what two records say of the same."""
    if isinstance(record, AssertRecord):
        return hash((record.classification, record.media, record.basis))
    return hash(record.reason) if isinstance(record, DisputeRecord) else 0


def _rows(path: Path | None, defaults: Defaults, reading: Reading) -> Iterator[tuple[int, Row]]:
    try:
        if path is None:
            text = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", newline="")
            first = text.readline()
            lines: Iterable[str] = _again(first, text)
            yield from (_json_rows if first.startswith("{") else _csv_rows)(
                lines, defaults, reading
            )
        elif path.suffix == ".parquet":
            yield from _parquet_rows(path, defaults, reading)
        else:
            is_json = path.suffix in {".ndjson", ".jsonl", ".json"}
            with path.open(encoding="utf-8-sig", newline="") as file:
                yield from (_json_rows if is_json else _csv_rows)(file, defaults, reading)
    except (UnicodeDecodeError, csv.Error) as error:
        raise MalformedError(f"the file cannot be read: {type(error).__name__}") from error
    except FileNotFoundError as error:
        raise MalformedError(f"there is no file {path}") from error


def _again(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def _csv_rows(
    lines: Iterable[str], defaults: Defaults, reading: Reading
) -> Iterator[tuple[int, Row]]:
    rows = csv.reader(lines)
    header = next(rows, None)
    if header is None:
        raise MalformedError("the file is empty")
    body: Iterable[list[str]] = rows
    if _algorithm_of(header[0].strip()):
        # No header: a hash in each line, and nothing that needs a name.
        body = _again_row(header, rows)
        header = ["hash", *(f"column {n}" for n in range(2, len(header) + 1))]
    names = _map_columns([name.strip() for name in header], defaults, reading)
    begin = 1 if body is not rows else 2
    for line, cells in enumerate(body, begin):
        if cells:
            yield line, {n: c.strip() for n, c in zip(names, cells, strict=False) if n and c}


def _again_row(first: list[str], rest: Iterable[list[str]]) -> Iterator[list[str]]:
    yield first
    yield from rest


def _json_rows(
    lines: Iterable[str], defaults: Defaults, reading: Reading
) -> Iterator[tuple[int, Row]]:
    for line, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            reading.add_fault(line, "", "not JSON")
            continue
        if not isinstance(document, dict) or document.get("format"):
            # The header of a batch, or no record at all.
            if not isinstance(document, dict):
                reading.add_fault(line, "", "not a JSON object")
            continue
        hashes = document.pop("hashes", {})
        flat = document | (hashes if isinstance(hashes, dict) else {})
        names = _map_columns(list(flat), defaults, reading)
        yield line, {n: str(v) for n, v in zip(names, flat.values(), strict=True) if n and v}


def _parquet_rows(path: Path, defaults: Defaults, reading: Reading) -> Iterator[tuple[int, Row]]:
    # Here, since most files are others.
    from hashshare.client.tables import open_table

    with open_table(path) as table:
        names = _map_columns(table.columns, defaults, reading)
        for line, cells in enumerate(table.rows, 1):
            yield (
                line,
                {
                    n: c.hex() if isinstance(c, bytes) else str(c)
                    for n, c in zip(names, cells, strict=True)
                    if n and c
                },
            )


def _map_columns(header: list[str], defaults: Defaults, reading: Reading) -> list[str]:
    """Return our name for each column, "" for one that is not used."""
    names = []
    for column in header:
        plain = column.lower().replace(" ", "_")
        name = defaults.columns.get(column) or _ALIASES.get(plain, plain)
        known = name in _FIELDS or name == "hash" or name in set(HashAlgorithm)
        names.append(name if known else "")
        if known:
            reading.columns[column] = name
    if not reading.columns:
        raise MalformedError(
            f"no column is recognised among {', '.join(header)[:200]}; name one with --column"
        )
    return names


def _to_record(row: Row, defaults: Defaults, reading: Reading) -> Record:
    hashes = _to_hashes(row, reading)
    record = row.get("id", "")
    if record and not _RECORD.fullmatch(record):
        raise _FaultyFieldError("id", "a record id is 1 to 128 of A-Z a-z 0-9 . _ : / @ + = -")
    if defaults.operation is Operation.WITHDRAW:
        if not record and not hashes:
            raise _FaultyFieldError("", "neither a hash nor a record id")
        return WithdrawRecord(record, {} if record else hashes)
    if not hashes:
        raise _FaultyFieldError("", "there is no hash")
    if defaults.operation is Operation.DISPUTE:
        return DisputeRecord(hashes, _reason(row, defaults))
    if defaults.decision is not None:
        return RuleRecord(hashes, defaults.decision, defaults.words)
    return AssertRecord(
        record=record,
        hashes=hashes,
        classification=_classification(row, defaults),
        media=_media(row, defaults),
        basis=_basis(row, defaults),
    )


def _to_hashes(row: Row, reading: Reading) -> dict[HashAlgorithm, bytes]:
    hashes = {}
    for name, text in row.items():
        if name in _FIELDS:
            continue
        digits = text.strip().lower()
        if digits != text:
            reading.respelled += 1
        algorithm = _algorithm_of(digits) if name == "hash" else HashAlgorithm(name)
        if algorithm is None:
            raise _FaultyFieldError("hash", "no algorithm has hashes of this form")
        try:
            hashes[algorithm] = parse_value(algorithm, digits)
        except MalformedError as error:
            raise _FaultyFieldError(algorithm, str(error)) from error
    return hashes


def _algorithm_of(text: str) -> HashAlgorithm | None:
    return _BY_DIGITS.get(len(text)) if _HEX.fullmatch(text) else None


def _classification(row: Row, defaults: Defaults) -> str:
    classification = row.get("classification") or defaults.classification
    if not classification:
        raise _FaultyFieldError(
            "classification", "it is missing; give --classification for all rows"
        )
    return classification


def _media(row: Row, defaults: Defaults) -> Media | None:
    if "media" not in row:
        return defaults.media
    try:
        return Media(row["media"].lower())
    except ValueError as error:
        raise _FaultyFieldError("media", f"it is one of {', '.join(Media)}") from error


def _basis(row: Row, defaults: Defaults) -> Basis:
    try:
        return Basis(row["basis"].lower()) if "basis" in row else defaults.basis
    except ValueError as error:
        raise _FaultyFieldError("basis", f"it is one of {', '.join(Basis)}") from error


def _reason(row: Row, defaults: Defaults) -> DisputeReason:
    try:
        reason = DisputeReason(row["reason"]) if "reason" in row else defaults.reason
    except ValueError as error:
        raise _FaultyFieldError("reason", f"it is one of {', '.join(DisputeReason)}") from error
    if reason is None:
        raise _FaultyFieldError("reason", "it is missing; give --reason for all rows")
    return reason

"""Exporting a list of the replica, in the form that a matcher eats; streaming."""

import csv
import io
import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final

from hashshare.domain.chunks import EntryChunk


class Format(StrEnum):
    """What an export looks like."""

    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"
    TXT = "txt"


COLUMNS: Final = ("hash", "classifications", "members", "disputes", "media")


def export_text(chunks: Iterator[EntryChunk], form: Format) -> Iterator[bytes]:
    """Yield an export other than Parquet, piece by piece.

    Args:
        chunks: All entries of a list.
        form: CSV with a header; NDJSON with ``hash`` and ``attributes``; TXT with a hash a line.
    """
    if form is Format.CSV:
        yield _row(COLUMNS)
    for chunk in chunks:
        rest = [_rest(attributes, form) for attributes in chunk.attributes]
        size, data = chunk.values.shape[1], chunk.values.tobytes()
        lines = [
            _line(data[n * size : (n + 1) * size].hex().encode(), rest[i], form)
            for n, i in enumerate(chunk.attribute_ids.tolist())
        ]
        yield b"".join(lines)


def export_parquet(path: Path, chunks: Iterator[EntryChunk], *, count: int) -> None:
    """Write an export as Parquet, in the form of a snapshot."""
    # Here, since nothing else takes pyarrow, which is slow to import.
    from hashshare.wire.parquet import write_snapshot

    write_snapshot(path, chunks, count=count)


def _line(digits: bytes, rest: bytes, form: Format) -> bytes:
    if form is Format.NDJSON:
        return b'{"attributes":' + rest + b',"hash":"' + digits + b'"}\n'
    return digits + rest


def _rest(attributes: bytes, form: Format) -> bytes:
    """Return what stands in a line besides the hash."""
    if form is Format.NDJSON:
        return attributes
    if form is Format.TXT:
        return b"\n"
    document = json.loads(attributes)
    by = document.get("by", {})
    classifications = sorted(set(by.values())) or document.get("classifications", [])
    members = " ".join(sorted(by)) or document.get("members", "")
    return b"," + _row(
        (
            " ".join(classifications),
            members,
            document.get("disputes", 0),
            document.get("media", ""),
        )
    )


def _row(cells: tuple[object, ...]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()

"""Parquet files of members, read as rows; apart, since pyarrow is slow to import."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from hashshare.errors import MalformedError

ROWS_AT_ONCE: Final = 16_384


@dataclass(frozen=True, slots=True)
class Table:
    """An open file.

    Attributes:
        columns: Their names.
        rows: What stands in each, a row at a time.
    """

    columns: list[str]
    rows: Iterator[tuple[Any, ...]]


@contextmanager
def open_table(path: Path) -> Iterator[Table]:
    """Open a Parquet file to be read once.

    Raises:
        MalformedError: It is none, or is damaged; also while it is read.
        FileNotFoundError: There is none.
    """
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield Table(list(file.schema_arrow.names), _rows(file))
    except pa.ArrowException as error:
        raise MalformedError(f"the file cannot be read: {type(error).__name__}") from error


def _rows(file: pq.ParquetFile) -> Iterator[tuple[Any, ...]]:
    for batch in file.iter_batches(ROWS_AT_ONCE):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

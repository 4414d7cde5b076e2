"""Runs of changes as the database keeps them: packed columns, a few thousand changes a row.

One row a change would take twice the space and ten times the time to read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from hashshare.domain.changes import UNKNOWN, Change
from hashshare.domain.hashes import HashAlgorithm
from hashshare.errors import UnavailableError

RUN_LENGTH: Final = 4096
"""The most changes in one row: about 160 kB of SHA-256 values."""

_ABSENT: Final = 0


class _Columns(msgspec.Struct, array_like=True, frozen=True):
    """What a row holds, as MessagePack.

    Attributes:
        values: Concatenated; all of the algorithm's size.
        before: For each value a little-endian uint32: 0 when it was absent, else the place of
            its attributes in ``attributes``, counted from 1.
        after: The same, for what it is from now on.
        attributes: Each distinct one once.
    """

    values: bytes
    before: bytes
    after: bytes
    attributes: list[bytes]


_DECODER: Final = msgspec.msgpack.Decoder(_Columns)


@dataclass(frozen=True, slots=True)
class PackedRun:
    """Some changes of one list in one version, as one row.

    Attributes:
        first_key: Key of the first one.
        last_key: Key of the last one.
        count: Changes.
        data: See ``pack_changes``.
    """

    first_key: bytes
    last_key: bytes
    count: int
    data: bytes


def pack_run(algorithm: HashAlgorithm, changes: Sequence[Change]) -> PackedRun:
    """Pack changes that are in key order, at least one and at most ``RUN_LENGTH``."""
    return PackedRun(
        first_key=algorithm.key(changes[0].value),
        last_key=algorithm.key(changes[-1].value),
        count=len(changes),
        data=pack_changes(changes),
    )


def pack_changes(changes: Sequence[Change]) -> bytes:
    """Return what ``unpack_changes`` reads.

    Args:
        changes: At most ``RUN_LENGTH``, of one algorithm, with ``before`` known.
    """
    numbers: dict[bytes | None, int] = {None: _ABSENT}
    before, after = [], []
    for change in changes:
        if change.before == UNKNOWN and change.before is not None:
            raise RuntimeError("a stored change must name what was there before")
        before.append(numbers.setdefault(change.before, len(numbers)))
        after.append(numbers.setdefault(change.after, len(numbers)))
    columns = _Columns(
        values=b"".join([change.value for change in changes]),
        before=np.array(before, "<u4").tobytes(),
        after=np.array(after, "<u4").tobytes(),
        attributes=[attributes for attributes in numbers if attributes is not None],
    )
    return msgspec.msgpack.encode(columns)


def unpack_changes(algorithm: HashAlgorithm, data: bytes) -> list[Change]:
    """Return the changes that ``pack_changes`` packed, in their order.

    Raises:
        UnavailableError: The bytes are not what was written.
    """
    size = algorithm.size
    try:
        stored = _DECODER.decode(data)
        table: list[bytes | None] = [None, *stored.attributes]
        values = [stored.values[at : at + size] for at in range(0, len(stored.values), size)]
        before = [table[number] for number in np.frombuffer(stored.before, "<u4").tolist()]
        after = [table[number] for number in np.frombuffer(stored.after, "<u4").tolist()]
        return [Change(*columns) for columns in zip(values, before, after, strict=True)]
    except (msgspec.MsgspecError, ValueError, IndexError, TypeError) as error:
        raise UnavailableError("a stored run of changes is damaged") from error

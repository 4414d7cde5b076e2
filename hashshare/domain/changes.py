"""How the entries of a list change: single changes, and the net of several in a row."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import groupby, pairwise
from typing import Final, NewType

from hashshare.domain.hashes import HashAlgorithm
from hashshare.errors import DeltaMismatchError, MalformedError

Version = NewType("Version", int)
"""Counts the publications of one hash set: 0 is empty, each publication adds 1."""

# int() would also take "+1", " 1", "01", "1_0", digits of other scripts, and numbers
# too big for the database.
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,17}")

UNKNOWN: Final = b""
"""Stands in ``Change.before`` for attributes that the change does not name: the entry is there.

A delta on the wire says of a removal or change only that the entry is present.
"""


def parse_number(text: str) -> int:
    """Read a version, size or index: decimal, without leading zeros, below 10**18.

    Raises:
        MalformedError: ``text`` is not that.
    """
    if not _NUMBER.fullmatch(text):
        raise MalformedError(f"not a whole number: {text!r:.40}")
    return int(text)


def parse_version(text: str) -> Version:
    """Read a version as it is written in a URL; see ``parse_number``."""
    return Version(parse_number(text))


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to one entry of a list.

    Attributes:
        value: The hash.
        before: Its attributes until now (canonical JSON), None if it was absent,
            ``UNKNOWN`` if it was present with attributes that are not named.
        after: Its attributes from now on, None if it is now absent.
    """

    value: bytes
    before: bytes | None
    after: bytes | None

    @property
    def operation(self) -> str:
        """``add``, ``remove`` or ``change``, as a delta on the wire names it."""
        if self.before is None:
            return "add"
        return "remove" if self.after is None else "change"


def net(algorithm: HashAlgorithm, runs: Iterable[Iterable[Change]]) -> Iterator[Change]:
    """Yield, in key order, the one change of each entry that has the effect of all runs.

    Args:
        algorithm: Gives the order.
        runs: One run for each version, oldest first, each in key order and with
            ``before`` known.

    Raises:
        DeltaMismatchError: A run does not continue where the one before it ended.
    """

    def tagged(number: int, run: Iterable[Change]) -> Iterator[tuple[bytes, int, Change]]:
        return ((algorithm.key(change.value), number, change) for change in run)

    ordered = merge(*(tagged(n, run) for n, run in enumerate(runs)), key=lambda item: item[:2])
    for _, group in groupby(ordered, key=lambda item: item[0]):
        changes = [change for _, _, change in group]
        for earlier, later in pairwise(changes):
            if later.before != earlier.after:
                raise DeltaMismatchError("a run of changes does not continue the one before it")
        first, last = changes[0], changes[-1]
        if first.before != last.after:
            yield Change(first.value, first.before, last.after)

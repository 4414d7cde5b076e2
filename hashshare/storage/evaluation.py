"""What a view makes of the hashes of a hash set: ``domain.policy.attributes_in`` as SQL.

The statements give, byte for byte, what the domain gives for the submissions that the
transaction sees. They are streamed, in the order in which lists are kept.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.policy import QuorumOf, View
from hashshare.domain.registry import Registry
from hashshare.storage.database import Connection, Record
from hashshare.storage.evaluation_sql import (
    ALL_THROUGH,
    PREPARE_SINGLY,
    PREPARE_THROUGH,
    TOUCHED_SINGLY,
    TOUCHED_THROUGH,
)

_MOST_ENCODED: Final = 65_536
# Looking a hash up costs about so many times what passing it by does.
_DENSE: Final = 8

MEASURE_TOUCHED: Final = """
    -- $1 hash_set_no, $2 covered, $3 log_size
    SELECT coalesce(sum(cardinality(hash_ids)), 0)::bigint AS number,
           -- Ascending within a row.
           coalesce(min(hash_ids[1]), 1) AS lowest,
           coalesce(max(hash_ids[cardinality(hash_ids)]), 0) AS highest
      FROM touched
     WHERE hash_set_no = $1 AND log_index >= $2 AND log_index < $3
"""

MEASURE_ALL: Final = """
    -- $1 hash_set_no
    SELECT last_hash_id FROM hash_set WHERE hash_set_no = $1
"""

READ_DISREGARDED: Final = """
    -- For each part of the log: $1 member_id, $2 its first leaf, $3 its last. A member's
    -- sequences ascend with the log, so that a part of one is a part of the other.
    SELECT member_no, min(submission.sequence) AS first, max(submission.sequence) AS last
      FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS span (of_id, first_leaf, last_leaf)
           JOIN member ON member_id = of_id
           JOIN submission USING (member_no)
     WHERE log_index BETWEEN first_leaf AND last_leaf
     GROUP BY member_no, first_leaf
"""

READ_MEMBERS: Final = """
    SELECT member_no, member_id FROM member
"""


@dataclass(frozen=True, slots=True)
class Span:
    """Hashes to be evaluated.

    Attributes:
        hash_set_no: Of this hash set.
        covered: Touched by submissions from this log index on; None means all hashes.
        log_size: And before this one.
        number: How many there are at most.
        lowest: Their lowest hash id.
        highest: Their highest, less than ``lowest`` when there is none.
        total: Hashes in the hash set.
    """

    hash_set_no: int
    covered: int | None
    log_size: int
    number: int
    lowest: int
    highest: int
    total: int


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What a view makes of some hashes of one algorithm.

    Attributes:
        algorithm: Of all of them.
        values: In key order.
        attributes: For each value, canonical JSON, or None when it is not in the list.
    """

    algorithm: HashAlgorithm
    values: list[bytes]
    attributes: list[bytes | None]


@dataclass(frozen=True, slots=True)
class EvaluationRepository:
    """Evaluates views on one connection, in a transaction whose snapshot the caller chose."""

    connection: Connection

    async def measure(self, hash_set_no: int, *, covered: int | None, log_size: int) -> Span:
        """Return the hashes that the submissions from ``covered`` to ``log_size`` may have changed.

        Args:
            hash_set_no: The hash set.
            covered: The first log index that counts; None to take all hashes.
            log_size: The first log index that does not.
        """
        total: int = await self.connection.fetchval(MEASURE_ALL, hash_set_no)
        if covered is None:
            return Span(hash_set_no, None, log_size, total, 1, total, total)
        row = await self.connection.fetchrow(MEASURE_TOUCHED, hash_set_no, covered, log_size)
        if row is None:
            raise RuntimeError("an aggregate gives one row")
        return Span(
            hash_set_no, covered, log_size, row["number"], row["lowest"], row["highest"], total
        )

    async def evaluate(
        self, span: Span, view: View, registry: Registry, *, batch_size: int
    ) -> AsyncIterator[Evaluated]:
        """Yield what ``view`` makes of each hash of ``span``, each once, list after list.

        Must be in a transaction; it changes planner settings of that transaction.

        Args:
            span: What to evaluate.
            view: The policy, its terms resolved.
            registry: Says where the members are.
            batch_size: The most hashes in one item.
        """
        view.demand_resolved()
        if span.number == 0:
            return
        prepare, statement = _statements(span)
        await self.connection.execute(prepare)
        members = await self._read_members()
        arguments = [
            *_arguments(span, view, registry, members),
            *await self._read_disregarded(registry),
            [view.weighted.get(member, 1) for member in members],
            view.left_out or None,
            view.unheard or None,
        ]
        cursor = await self.connection.cursor(statement, *arguments)
        encoded: dict[str | None, bytes | None] = {None: None}
        while rows := await cursor.fetch(batch_size):
            for algorithm, group in groupby(rows, key=_algorithm):
                yield _to_evaluated(HashAlgorithm(algorithm), list(group), encoded)

    async def _read_members(self) -> list[str]:
        """Return at place ``n - 1`` the id of member number ``n``, "" when there is none."""
        rows = await self.connection.fetch(READ_MEMBERS)
        ids = {row["member_no"]: row["member_id"] for row in rows}
        return [ids.get(number, "") for number in range(1, max(ids, default=0) + 1)]

    async def _read_disregarded(self, registry: Registry) -> Sequence[list[int] | None]:
        """Return member numbers with first and last sequences; None three times for none."""
        spans = [(m, s.first, s.last) for m, own in registry.disregarded.items() for s in own]
        if not spans:
            return None, None, None
        rows = await self.connection.fetch(READ_DISREGARDED, *map(list, zip(*spans, strict=True)))
        return [[row[name] for row in rows] for name in ("member_no", "first", "last")]


def _statements(span: Span) -> tuple[str, str]:
    """Return the settings of the planner and the statement that suit ``span``."""
    if span.covered is None:
        return PREPARE_THROUGH, ALL_THROUGH
    if span.number * _DENSE >= span.highest - span.lowest + 1:
        return PREPARE_THROUGH, TOUCHED_THROUGH
    return PREPARE_SINGLY, TOUCHED_SINGLY


def _arguments(span: Span, view: View, registry: Registry, members: list[str]) -> Sequence[object]:
    return (
        span.hash_set_no,
        span.covered or 0,
        span.log_size,
        span.lowest,
        span.highest,
        view.quorum,
        view.quorum_of is QuorumOf.JURISDICTIONS,
        view.basis == "any",
        view.dispute_limit,
        view.classifications,
        view.sources,
        view.media,
        view.show_members,
        members,
        [registry.members[m].jurisdiction if m in registry.members else "" for m in members],
    )


def _algorithm(row: Record) -> str:
    algorithm: str = row["algorithm"]
    return algorithm


def _to_evaluated(
    algorithm: HashAlgorithm, rows: list[Record], encoded: dict[str | None, bytes | None]
) -> Evaluated:
    attributes = []
    for row in rows:
        text: str | None = row["attributes"]
        # Entries differ much less than hashes do, and equal bytes are kept once.
        if text not in encoded:
            if len(encoded) > _MOST_ENCODED:
                encoded.clear()
            encoded[text] = text.encode() if text is not None else None
        attributes.append(encoded[text])
    return Evaluated(algorithm, [row["value"] for row in rows], attributes)

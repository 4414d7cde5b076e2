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

_MOST_ENCODED: Final = 65_536

# What to evaluate: $1 hash_set_no, $2 covered, $3 log_size, $4 lowest, $5 highest.
_TOUCHED: Final = """
    WITH chosen AS MATERIALIZED (
        SELECT DISTINCT touched_id AS hash_id
          FROM touched CROSS JOIN LATERAL unnest(hash_ids) AS touched_id
         WHERE hash_set_no = $1 AND log_index >= $2 AND log_index < $3
           AND touched_id BETWEEN $4 AND $5
    )
"""
_ALL: Final = """
    WITH chosen AS (
        SELECT hash_id
          FROM hash
         WHERE hash_set_no = $1 AND hash_id BETWEEN $4 AND $5
           -- Not needed here, but a parameter must have a type.
           AND $2::bigint IS NOT NULL AND $3::bigint IS NOT NULL
    )
"""

# How: $6 quorum, $7 quorum of jurisdictions, $8 relayed assertions count, $9 dispute_limit,
# $10 classifications, $11 sources, $12 media, $13 show_members, and at the place of each
# member's number $14 its id, $15 its jurisdiction. What is disregarded: $16 member number,
# $17 first and $18 last sequence of each part; null when nothing is, and then not looked at.
# At the place of each member's number $19 its weight; $20 excluded classifications, $21 sources.
#
# One hash after the other, by index: statistics lag behind a bulk import by minutes, and with
# wrong ones the planner's own joins take a time that grows with the square of the number.
_EVALUATION: Final = """
    SELECT algorithm, value,
           CASE WHEN (CASE WHEN $7::boolean THEN jurisdictions ELSE weight END) >= $6::integer
                 -- One that does not count alone counts as soon as there is a second one.
                 AND (CASE WHEN disputes > 1 THEN disputes ELSE alone END) < $9::integer
                 AND decision IS DISTINCT FROM 'remove'
           THEN
               -- RFC 8785: names sorted, no space. Nothing here needs an escape.
               CASE WHEN $13::boolean THEN '{"by":{"' || named || '"}'
                    ELSE '{"classifications":["' || named || '"]' END
               || CASE WHEN disputes > 0 THEN ',"disputes":' || disputes ELSE '' END
               || CASE WHEN media = other_media THEN ',"media":"' || media || '"' ELSE '' END
               || CASE WHEN $13::boolean THEN '}' ELSE ',"members":' || members || '}' END
           END AS attributes
      FROM chosen JOIN hash USING (hash_id)
           CROSS JOIN LATERAL (
        SELECT count(*) AS members,
               coalesce(sum(CASE WHEN basis = 'reviewed' THEN ($19::integer[])[stance_no]
                                 ELSE 1 END), 0) AS weight,
               count(DISTINCT jurisdiction) AS jurisdictions,
               min(media) AS media,
               max(media) AS other_media,
               CASE WHEN $13::boolean THEN
                   string_agg(member_id || '":"' || classification, '","'
                              ORDER BY member_id COLLATE "C")
               ELSE
                   string_agg(DISTINCT classification COLLATE "C", '","'
                              ORDER BY classification COLLATE "C")
               END AS named
          FROM (
            -- Of a member's assertions in force, the one that speaks for it: its latest, and
            -- of one submission the greatest record id. Who disputes has none in force.
            SELECT DISTINCT ON (member_no)
                   member_no AS stance_no,
                   ($14::text[])[member_no] AS member_id,
                   ($15::text[])[member_no] AS jurisdiction,
                   classification, media, basis
              FROM assertion
             WHERE hash_set_no = $1 AND hash_id = chosen.hash_id AND ended_in IS NULL
               AND ($16::integer[] IS NULL OR NOT EXISTS (
                   SELECT FROM unnest($16::integer[], $17::bigint[], $18::bigint[])
                               AS span (of_no, first, last)
                    WHERE of_no = member_no AND sequence BETWEEN first AND last))
             ORDER BY member_no, sequence DESC, record COLLATE "C" DESC
          ) AS stance
         WHERE ($8::boolean OR basis = 'reviewed')
           AND ($10::text[] IS NULL OR classification = ANY ($10::text[]))
           AND ($11::text[] IS NULL OR member_id = ANY ($11::text[]))
           -- Not stated is none of the media.
           AND ($12::text[] IS NULL OR media = ANY ($12::text[]))
           AND ($20::text[] IS NULL OR classification <> ALL ($20::text[]))
           AND ($21::text[] IS NULL OR member_id <> ALL ($21::text[]))
           ) AS tally
           LEFT JOIN LATERAL (
        -- The latest ruling holds.
        SELECT decision, log_index
          FROM ruling CROSS JOIN LATERAL (
               SELECT log_index FROM submission
                WHERE member_no = ruling.member_no AND sequence = ruling.sequence
               OFFSET 0) AS place
         WHERE hash_set_no = $1 AND hash_id = chosen.hash_id
           AND ($16::integer[] IS NULL OR NOT EXISTS (
               SELECT FROM unnest($16::integer[], $17::bigint[], $18::bigint[])
                           AS span (of_no, first, last)
                WHERE of_no = member_no AND sequence BETWEEN first AND last))
         ORDER BY log_index DESC
         LIMIT 1
           ) AS ruled ON true
           CROSS JOIN LATERAL (
        -- Those that no ruling has settled.
        SELECT count(*) AS disputes, count(*) FILTER (WHERE place.alone) AS alone
          FROM dispute CROSS JOIN LATERAL (
               SELECT log_index, alone FROM submission
                WHERE member_no = dispute.member_no AND sequence = dispute.sequence
               OFFSET 0) AS place
         WHERE hash_set_no = $1 AND hash_id = chosen.hash_id AND ended_in IS NULL
           AND place.log_index > coalesce(ruled.log_index, -1)
           AND ($16::integer[] IS NULL OR NOT EXISTS (
               SELECT FROM unnest($16::integer[], $17::bigint[], $18::bigint[])
                           AS span (of_no, first, last)
                WHERE of_no = member_no AND sequence BETWEEN first AND last))
           ) AS disputed
     WHERE hash_set_no = $1
     ORDER BY algorithm,
              CASE WHEN algorithm IN ('pdq', 'photodna') THEN sha256(value) ELSE value END
"""

EVALUATE_TOUCHED: Final = _TOUCHED + _EVALUATION
EVALUATE_ALL: Final = _ALL + _EVALUATION

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

PREPARE_PLANNER: Final = """
    SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
           set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
           set_config('jit', 'off', true),
           set_config('plan_cache_mode', 'force_custom_plan', true)
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
            view: The policy.
            registry: Says where the members are.
            batch_size: The most hashes in one item.
        """
        if span.number == 0:
            return
        await self.connection.execute(PREPARE_PLANNER)
        statement = EVALUATE_ALL if span.covered is None else EVALUATE_TOUCHED
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

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

NESTED_LOOP_SHARE: Final = 0.05
"""Below this share of a hash set, its hashes are looked up one by one, and else scanned."""

_MOST_ENCODED: Final = 65_536

# What to evaluate: $1 hash_set_no, $2 covered, $3 log_size, $4 lowest, $5 highest.
_TOUCHED: Final = """
    WITH chosen AS MATERIALIZED (
        SELECT DISTINCT touched_id AS hash_id
          FROM touched CROSS JOIN LATERAL unnest(hash_ids) AS touched_id
         WHERE hash_set_no = $1 AND log_index >= $2 AND log_index < $3
           AND touched_id BETWEEN $4 AND $5
    ),
"""
_ALL: Final = """
    WITH chosen AS (
        SELECT hash_id
          FROM hash
         WHERE hash_set_no = $1 AND hash_id BETWEEN $4 AND $5 AND $2::bigint < $3::bigint
    ),
"""

# $6 quorum, $7 quorum of jurisdictions, $8 relayed assertions count, $9 dispute_limit,
# $10 classifications, $11 sources, $12 media, $13 show_members,
# $14 members, $15 jurisdictions of these
_EVALUATION: Final = """
    stance AS (
        -- Of a member's assertions in force, the one that speaks for it: its latest, and of
        -- one submission the greatest record id. With a dispute in force there is none.
        SELECT DISTINCT ON (hash_id, member_no)
               hash_id, member_no, classification, media, basis
          FROM chosen JOIN assertion USING (hash_id)
         WHERE hash_set_no = $1 AND ended_in IS NULL AND hash_id BETWEEN $4 AND $5
         ORDER BY hash_id, member_no, sequence DESC, record COLLATE "C" DESC
    ),
    voter AS (
        SELECT member_no, member_id, jurisdiction
          FROM unnest($14::text[], $15::text[]) AS listed (member_id, jurisdiction)
               JOIN member USING (member_id)
         WHERE $11::text[] IS NULL OR member_id = ANY ($11::text[])
    ),
    tally AS (
        SELECT hash_id,
               count(*) AS members,
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
          FROM stance JOIN voter USING (member_no)
         WHERE ($8::boolean OR basis = 'reviewed')
           AND ($10::text[] IS NULL OR classification = ANY ($10::text[]))
           -- Not stated is none of the media.
           AND ($12::text[] IS NULL OR media = ANY ($12::text[]))
         GROUP BY hash_id
    ),
    disputed AS (
        SELECT hash_id, count(*) AS disputes
          FROM chosen JOIN dispute USING (hash_id)
         WHERE hash_set_no = $1 AND ended_in IS NULL AND hash_id BETWEEN $4 AND $5
         GROUP BY hash_id
    )
    SELECT algorithm, value,
           CASE WHEN (CASE WHEN $7::boolean THEN jurisdictions ELSE members END) >= $6::integer
                 AND coalesce(disputes, 0) < $9::integer
           THEN
               -- RFC 8785: names sorted, no space. Nothing here needs an escape.
               CASE WHEN $13::boolean THEN '{"by":{"' || named || '"}'
                    ELSE '{"classifications":["' || named || '"]' END
               || coalesce(',"disputes":' || disputes, '')
               || CASE WHEN media = other_media THEN ',"media":"' || media || '"' ELSE '' END
               || CASE WHEN $13::boolean THEN '}' ELSE ',"members":' || members || '}' END
           END AS attributes
      FROM chosen JOIN hash USING (hash_id)
           LEFT JOIN tally USING (hash_id)
           LEFT JOIN disputed USING (hash_id)
     WHERE hash_set_no = $1 AND hash_id BETWEEN $4 AND $5
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

# Statistics lag behind a bulk import by minutes, so the choice of joins is not left to them.
JOIN_BY_LOOKUP: Final = """
    SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
           set_config('enable_nestloop', 'on', true), set_config('enable_seqscan', 'off', true),
           set_config('plan_cache_mode', 'force_custom_plan', true)
"""
JOIN_BY_SCAN: Final = """
    SELECT set_config('enable_hashjoin', 'on', true), set_config('enable_mergejoin', 'on', true),
           set_config('enable_nestloop', 'off', true), set_config('enable_seqscan', 'on', true),
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
        few = span.number < NESTED_LOOP_SHARE * span.total
        await self.connection.execute(JOIN_BY_LOOKUP if few else JOIN_BY_SCAN)
        statement = EVALUATE_ALL if span.covered is None else EVALUATE_TOUCHED
        cursor = await self.connection.cursor(statement, *_arguments(span, view, registry))
        encoded: dict[str | None, bytes | None] = {None: None}
        while rows := await cursor.fetch(batch_size):
            for algorithm, group in groupby(rows, key=_algorithm):
                yield _to_evaluated(HashAlgorithm(algorithm), list(group), encoded)


def _arguments(span: Span, view: View, registry: Registry) -> Sequence[object]:
    members = registry.members
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
        list(members),
        [member.jurisdiction for member in members.values()],
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

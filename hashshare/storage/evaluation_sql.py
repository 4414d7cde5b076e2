# ruff: noqa: S608
# Put together from constants of this file alone.
"""The statements that evaluate a view: ``domain.policy.attributes_in`` as SQL, in two forms.

Both give the same. One looks hashes up by index, one after the other: for changes that are few
among many. The other goes through a part of the hash set once, in the order of ids, and joins
what it finds by merging: for a bulk import, or a policy that is new.

The planner is told which joins to use: its statistics lag behind a bulk import by minutes, and
with wrong ones its own choice takes a time that grows with the square of the number.
"""

from typing import Final

# What to evaluate: $1 hash_set_no, $2 covered, $3 log_size, $4 lowest, $5 highest.
_TOUCHED: Final = """
    WITH touched_hash AS MATERIALIZED (
        SELECT DISTINCT touched_id AS hash_id
          FROM touched CROSS JOIN LATERAL unnest(hash_ids) AS touched_id
         WHERE hash_set_no = $1 AND log_index >= $2 AND log_index < $3
           AND touched_id BETWEEN $4 AND $5
    ), chosen AS (
        SELECT hash_id, algorithm, value
          FROM touched_hash JOIN hash USING (hash_id)
         -- Of the table: with a bound of the other side alone it would be read from its beginning.
         WHERE hash_set_no = $1 AND hash.hash_id BETWEEN $4 AND $5
    )
"""
_ALL: Final = """
    WITH chosen AS (
        SELECT hash_id, algorithm, value
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
_REGARDED: Final = """
    ($16::integer[] IS NULL OR NOT EXISTS (
        SELECT FROM unnest($16::integer[], $17::bigint[], $18::bigint[])
                    AS span (of_no, first, last)
         WHERE of_no = member_no AND sequence BETWEEN first AND last))
"""
# Of a member's assertions in force, the one that speaks for it: its latest, and of one
# submission the greatest record id. Who disputes has none in force.
_STANCE: Final = """
    member_no AS stance_no,
    ($14::text[])[member_no] AS member_id,
    ($15::text[])[member_no] AS jurisdiction,
    classification, media, basis
"""
_COUNTED: Final = """
        ($8::boolean OR basis = 'reviewed')
    AND ($10::text[] IS NULL OR classification = ANY ($10::text[]))
    AND ($11::text[] IS NULL OR member_id = ANY ($11::text[]))
    -- Not stated is none of the media.
    AND ($12::text[] IS NULL OR media = ANY ($12::text[]))
    AND ($20::text[] IS NULL OR classification <> ALL ($20::text[]))
    AND ($21::text[] IS NULL OR member_id <> ALL ($21::text[]))
"""
_TALLY: Final = """
    count(*) AS members,
    coalesce(sum(CASE WHEN basis = 'reviewed' THEN ($19::integer[])[stance_no]
                      ELSE 1 END), 0) AS weight,
    count(DISTINCT jurisdiction) AS jurisdictions,
    min(media) AS media,
    max(media) AS other_media,
    CASE WHEN $13::boolean THEN
        string_agg(member_id || '":"' || classification, '","' ORDER BY member_id COLLATE "C")
    ELSE
        string_agg(DISTINCT classification COLLATE "C", '","' ORDER BY classification COLLATE "C")
    END AS named
"""
_DISPUTES: Final = "count(*) AS disputes, count(*) FILTER (WHERE place.alone) AS alone"
_RESULT: Final = """
    SELECT algorithm, value,
           CASE WHEN (CASE WHEN $7::boolean THEN jurisdictions ELSE weight END) >= $6::integer
                 -- One that does not count alone counts as soon as there is a second one.
                 AND coalesce(CASE WHEN disputes > 1 THEN disputes ELSE alone END, 0) < $9::integer
                 AND decision IS DISTINCT FROM 'remove'
           THEN
               -- RFC 8785: names sorted, no space. Nothing here needs an escape.
               CASE WHEN $13::boolean THEN '{"by":{"' || named || '"}'
                    ELSE '{"classifications":["' || named || '"]' END
               || CASE WHEN disputes > 0 THEN ',"disputes":' || disputes ELSE '' END
               || CASE WHEN media = other_media THEN ',"media":"' || media || '"' ELSE '' END
               || CASE WHEN $13::boolean THEN '}' ELSE ',"members":' || members || '}' END
           END AS attributes
"""
# The order of lists.
_SORTED: Final = """
     ORDER BY algorithm,
              CASE WHEN algorithm IN ('pdq', 'photodna') THEN sha256(value) ELSE value END
"""


def _place(of: str, columns: str) -> str:
    """Return the look-up of a row's submission."""
    return f"""
        CROSS JOIN LATERAL (
               SELECT {columns} FROM submission
                WHERE member_no = {of}.member_no AND sequence = {of}.sequence
               OFFSET 0) AS place
    """


_SINGLY: Final = f"""
    {_RESULT}
      FROM chosen CROSS JOIN LATERAL (
        SELECT {_TALLY}
          FROM (
            SELECT DISTINCT ON (member_no) {_STANCE}
              FROM assertion
             WHERE hash_set_no = $1 AND hash_id = chosen.hash_id AND ended_in IS NULL
               AND {_REGARDED}
             ORDER BY member_no, sequence DESC, record COLLATE "C" DESC
          ) AS stance
         WHERE {_COUNTED}
           ) AS tally
           LEFT JOIN LATERAL (
        -- The latest ruling holds.
        SELECT decision, log_index
          FROM ruling {_place("ruling", "log_index")}
         WHERE hash_set_no = $1 AND hash_id = chosen.hash_id AND {_REGARDED}
         ORDER BY log_index DESC
         LIMIT 1
           ) AS ruled ON true
           CROSS JOIN LATERAL (
        -- Those that no ruling has settled.
        SELECT {_DISPUTES}
          FROM dispute {_place("dispute", "log_index, alone")}
         WHERE hash_set_no = $1 AND hash_id = chosen.hash_id AND ended_in IS NULL
           AND place.log_index > coalesce(ruled.log_index, -1) AND {_REGARDED}
           ) AS disputed
    {_SORTED}
"""

_THROUGH: Final = f"""
    , tally AS (
        SELECT hash_id, {_TALLY}
          FROM (
            SELECT DISTINCT ON (hash_id, member_no) hash_id, {_STANCE}
              FROM assertion
             WHERE hash_set_no = $1 AND hash_id BETWEEN $4 AND $5 AND ended_in IS NULL
               AND {_REGARDED}
             ORDER BY hash_id, member_no, sequence DESC, record COLLATE "C" DESC
          ) AS stance
         WHERE {_COUNTED}
         GROUP BY hash_id
    ), ruled AS (
        -- The latest ruling holds.
        SELECT DISTINCT ON (hash_id) hash_id, decision, log_index
          FROM ruling {_place("ruling", "log_index")}
         WHERE hash_set_no = $1 AND hash_id BETWEEN $4 AND $5 AND {_REGARDED}
         ORDER BY hash_id, log_index DESC
    ), disputed AS (
        -- Those that no ruling has settled.
        SELECT hash_id, {_DISPUTES}
          FROM dispute {_place("dispute", "log_index, alone")} LEFT JOIN ruled USING (hash_id)
         WHERE hash_set_no = $1 AND hash_id BETWEEN $4 AND $5 AND ended_in IS NULL
           AND place.log_index > coalesce(ruled.log_index, -1) AND {_REGARDED}
         GROUP BY hash_id
    )
    {_RESULT}
      FROM chosen
           LEFT JOIN tally USING (hash_id)
           LEFT JOIN ruled USING (hash_id)
           LEFT JOIN disputed USING (hash_id)
    {_SORTED}
"""

_PLANNER: Final = """
    SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_seqscan', 'off', true),
           set_config('enable_bitmapscan', 'off', true), set_config('jit', 'off', true),
           set_config('plan_cache_mode', 'force_custom_plan', true),
"""
PREPARE_SINGLY: Final = f"""{_PLANNER}
           set_config('enable_mergejoin', 'off', true), set_config('enable_nestloop', 'on', true)
"""
PREPARE_THROUGH: Final = f"""{_PLANNER}
           set_config('enable_mergejoin', 'on', true), set_config('enable_nestloop', 'off', true)
"""
TOUCHED_SINGLY: Final = _TOUCHED + _SINGLY
TOUCHED_THROUGH: Final = _TOUCHED + _THROUGH
ALL_THROUGH: Final = _ALL + _THROUGH

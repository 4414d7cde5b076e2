"""What a transparency report counts: of a time from ``begin`` on, until before ``end``."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashshare.domain.names import ListName
    from hashshare.storage.database import Connection

R = TypeVar("R")

# A member's assertions at a time are those of its chain up to the last submission before it.
READ_COUNTS: Final = """
    -- $1 begin, $2 end
    WITH chain AS (
        SELECT member_no,
               coalesce(max(sequence) FILTER (WHERE accepted_at < $1), 0) AS before,
               max(sequence) AS till
          FROM submission
         WHERE accepted_at < $2
         GROUP BY member_no
    )
    SELECT hash_set_id AS hash_set,
           CASE WHEN GROUPING(member_id) = 0 THEN 'member'
                WHEN GROUPING(hash.algorithm) = 0 THEN 'algorithm'
                WHEN GROUPING(classification) = 0 THEN 'classification'
                ELSE 'all' END AS by,
           coalesce(member_id, hash.algorithm, classification, '') AS name,
           count(DISTINCT assertion.hash_id) AS held,
           count(DISTINCT assertion.hash_id) FILTER (WHERE assertion.sequence > before) AS added
      FROM assertion
           JOIN chain USING (member_no)
           JOIN hash USING (hash_set_no, hash_id)
           JOIN hash_set USING (hash_set_no)
           JOIN member USING (member_no)
     WHERE assertion.sequence <= till AND (ended_in IS NULL OR ended_in > till)
     GROUP BY GROUPING SETS ((hash_set_id), (hash_set_id, member_id),
                             (hash_set_id, hash.algorithm), (hash_set_id, classification))
     ORDER BY 1, 2, 3
"""

READ_ACTIVITY: Final = """
    -- $1 begin, $2 end
    SELECT member_id AS member,
           count(*) AS submissions,
           coalesce(sum(hashes) FILTER (WHERE operation = 'assert'), 0)::bigint AS asserted,
           coalesce(sum(new), 0)::bigint AS new,
           coalesce(sum(hashes) FILTER (WHERE operation = 'withdraw'), 0)::bigint AS withdrawn,
           coalesce(sum(hashes) FILTER (WHERE operation = 'dispute'), 0)::bigint AS disputed
      FROM submission JOIN member USING (member_no)
     WHERE accepted_at >= $1 AND accepted_at < $2
     GROUP BY member_id
     ORDER BY member_id
"""

READ_OVERLAPS: Final = """
    -- $1 end
    WITH chain AS (
        SELECT member_no, max(sequence) AS till
          FROM submission
         WHERE accepted_at < $1
         GROUP BY member_no
    ),
    held AS (
        SELECT DISTINCT hash_set_no, hash_id, member_no
          FROM assertion JOIN chain USING (member_no)
         WHERE sequence <= till AND (ended_in IS NULL OR ended_in > till)
    )
    SELECT hash_set_id AS hash_set, one.member_id AS member, two.member_id AS other, both_of AS both
      FROM (SELECT a.hash_set_no, a.member_no AS a_no, b.member_no AS b_no, count(*) AS both_of
              FROM held AS a JOIN held AS b USING (hash_set_no, hash_id)
             WHERE a.member_no < b.member_no
             GROUP BY a.hash_set_no, a.member_no, b.member_no) AS pairs
           JOIN hash_set USING (hash_set_no)
           JOIN member AS one ON one.member_no = a_no
           JOIN member AS two ON two.member_no = b_no
     ORDER BY 1, 4 DESC, 2, 3
"""

# What changed nothing need not be published.
READ_LATENCIES: Final = """
    -- $1 begin, $2 end
    WITH waited AS (
        SELECT hash_set_no,
               -- Without the case, greatest() would take no publication for one at once.
               CASE WHEN published_at IS NOT NULL
                    THEN greatest(0, extract(epoch FROM published_at - accepted_at) * 1000)::bigint
               END AS ms
          FROM submission
               LEFT JOIN LATERAL (
                   SELECT published_at
                     FROM publication
                    WHERE publication.hash_set_no = submission.hash_set_no
                      AND publication.log_size > submission.log_index
                    ORDER BY publication.log_size, version
                    LIMIT 1
               ) AS first ON true
         WHERE accepted_at >= $1 AND accepted_at < $2 AND new + known + ended > 0
    )
    SELECT hash_set_id AS hash_set,
           count(ms) AS published,
           count(*) FILTER (WHERE ms IS NULL) AS waiting,
           percentile_disc(0.5) WITHIN GROUP (ORDER BY ms) AS median_ms,
           percentile_disc(0.9) WITHIN GROUP (ORDER BY ms) AS p90_ms,
           percentile_disc(0.99) WITHIN GROUP (ORDER BY ms) AS p99_ms,
           max(ms) AS longest_ms
      FROM waited JOIN hash_set USING (hash_set_no)
     GROUP BY hash_set_id
     ORDER BY hash_set_id
"""

READ_DISPUTES: Final = """
    -- $1 begin, $2 end. A dispute ends with what its member says next, or with the next ruling.
    WITH stood AS (
        SELECT dispute.hash_set_no, dispute.reason, opening.accepted_at AS opened_at,
               least(ending.accepted_at, ruled_at) AS ended_at,
               coalesce(least(ending.accepted_at, ruled_at) >= $2, true) AS open,
               (extract(epoch FROM $2 - opening.accepted_at) * 1000)::bigint AS age_ms
          FROM dispute
               JOIN submission AS opening
                 ON opening.member_no = dispute.member_no AND opening.sequence = dispute.sequence
               LEFT JOIN submission AS ending
                 ON ending.member_no = dispute.member_no AND ending.sequence = dispute.ended_in
               LEFT JOIN LATERAL (
                   SELECT min(later.accepted_at) AS ruled_at
                     FROM ruling JOIN submission AS later USING (hash_set_no, member_no, sequence)
                    WHERE ruling.hash_set_no = dispute.hash_set_no
                      AND ruling.hash_id = dispute.hash_id
                      AND later.log_index > opening.log_index
               ) AS first_ruling ON true
         WHERE opening.accepted_at < $2
    )
    SELECT hash_set_id AS hash_set, reason,
           count(*) FILTER (WHERE opened_at >= $1) AS opened,
           count(*) FILTER (WHERE ended_at >= $1 AND ended_at < $2) AS ended,
           count(*) FILTER (WHERE open) AS open,
           percentile_disc(0.5) WITHIN GROUP (ORDER BY age_ms) FILTER (WHERE open)
               AS median_age_ms,
           max(age_ms) FILTER (WHERE open) AS oldest_ms
      FROM stood JOIN hash_set USING (hash_set_no)
     GROUP BY hash_set_id, reason
     ORDER BY hash_set_id, reason
"""

# A retraction is a change of a list by the first version that covers a withdrawal or a dispute;
# a member has taken it when it was first sent that version of the list, or a later one.
READ_RETRACTIONS: Final = """
    -- $1 begin, $2 end
    WITH retracting AS (
        SELECT DISTINCT submission.hash_set_no, first.version, first.published_at
          FROM submission
               JOIN LATERAL (
                   SELECT version, published_at
                     FROM publication
                    WHERE publication.hash_set_no = submission.hash_set_no
                      AND publication.log_size > submission.log_index
                    ORDER BY publication.log_size, version
                    LIMIT 1
               ) AS first ON true
         WHERE operation IN ('withdraw', 'dispute') AND new + known + ended > 0
           AND first.published_at >= $1 AND first.published_at < $2
    ),
    retracted AS (
        SELECT hash_set_id || '/' || view || '/' || algorithm AS list_name, version, published_at
          FROM retracting
               JOIN list_state USING (hash_set_no, version)
               JOIN hash_set USING (hash_set_no)
         WHERE changes > 0
    ),
    taken AS (
        SELECT list_name, pull.member_id,
               CASE WHEN recorded_at IS NOT NULL
                    THEN greatest(0, extract(epoch FROM recorded_at - published_at) * 1000)::bigint
               END AS ms
          FROM retracted
               JOIN pull USING (list_name)
               LEFT JOIN LATERAL (
                   SELECT recorded_at
                     FROM trail
                    WHERE kind = 'pull' AND trail.member_id = pull.member_id
                      AND facts ->> 'list' = list_name
                      AND (facts ->> 'target')::bigint >= retracted.version
                    ORDER BY (facts ->> 'target')::bigint
                    LIMIT 1
               ) AS sent ON true
    )
    SELECT list_name, member_id AS member, count(*) AS retractions, count(ms) AS taken,
           percentile_disc(0.5) WITHIN GROUP (ORDER BY ms) AS median_ms,
           max(ms) AS longest_ms
      FROM taken
     GROUP BY list_name, member_id
     ORDER BY list_name, member_id
"""

# Versions that change nothing in a list are not missed by who has not pulled them.
READ_LAGS: Final = """
    -- $1 now
    SELECT member_id AS member, list_name, pull.version, pulled_at, missing.changes AS behind,
           coalesce((extract(epoch FROM $1 - missing.since) * 1000)::bigint, 0) AS behind_ms
      FROM pull
           JOIN hash_set ON hash_set_id = split_part(list_name, '/', 1)
           JOIN LATERAL (
               SELECT count(*) AS changes, min(published_at) AS since
                 FROM list_state JOIN publication USING (hash_set_no, version)
                WHERE list_state.hash_set_no = hash_set.hash_set_no
                  AND view = split_part(list_name, '/', 2)
                  AND algorithm = split_part(list_name, '/', 3)
                  AND list_state.version > pull.version
                  AND changes > 0
           ) AS missing ON true
     ORDER BY list_name, member_id
"""

READ_SIZES: Final = """
    -- $1 begin, $2 end, $3 steps, $4 hash sets, $5 views, $6 algorithms of the lists
    SELECT hash_set_id || '/' || view || '/' || algorithm AS list_name, moment, version, count
      FROM unnest($4::text[], $5::text[], $6::text[]) AS wanted (hash_set_id, view, algorithm)
           JOIN hash_set USING (hash_set_id)
           CROSS JOIN generate_series(0, $3::integer) AS step
           CROSS JOIN LATERAL (
               SELECT $1::timestamptz + ($2::timestamptz - $1) * step / $3 AS moment
           ) AS at
           JOIN LATERAL (
               SELECT version
                 FROM publication
                WHERE publication.hash_set_no = hash_set.hash_set_no AND published_at <= moment
                ORDER BY published_at DESC
                LIMIT 1
           ) AS newest ON true
           JOIN list_state USING (hash_set_no, view, algorithm, version)
     ORDER BY list_name, moment
"""


@dataclass(frozen=True, slots=True)
class CountRow:
    """Hashes that members assert at the end, distinct ones; ``added`` of them since the begin."""

    hash_set: str
    by: str
    name: str
    held: int
    added: int


@dataclass(frozen=True, slots=True)
class ActivityRow:
    """What a member submitted in the time. Hashes count once for each submission."""

    member: str
    submissions: int
    asserted: int
    new: int
    withdrawn: int
    disputed: int


@dataclass(frozen=True, slots=True)
class OverlapRow:
    """Hashes that two members both assert at the end."""

    hash_set: str
    member: str
    other: str
    both: int


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """From the acceptance of submissions to their publication; None where there is none."""

    hash_set: str
    published: int
    waiting: int
    median_ms: int | None
    p90_ms: int | None
    p99_ms: int | None
    longest_ms: int | None


@dataclass(frozen=True, slots=True)
class DisputeRow:
    """Disputes of a reason, one for each hash and member; ages at the end."""

    hash_set: str
    reason: str
    opened: int
    ended: int
    open: int
    median_age_ms: int | None
    oldest_ms: int | None


@dataclass(frozen=True, slots=True)
class RetractionRow:
    """Retractions in a list, and how many of them a member has taken, and how soon."""

    list_name: str
    member: str
    retractions: int
    taken: int
    median_ms: int | None
    longest_ms: int | None


@dataclass(frozen=True, slots=True)
class LagRow:
    """How many versions that changed a list a member has not pulled; since when."""

    member: str
    list_name: str
    version: int
    pulled_at: datetime
    behind: int
    behind_ms: int


@dataclass(frozen=True, slots=True)
class SizeRow:
    """How many entries a list had at a moment."""

    list_name: str
    moment: datetime
    version: int
    count: int


@dataclass(frozen=True, slots=True)
class ReportRepository:
    """Counts on one connection, in a transaction that sees one state."""

    connection: "Connection"

    async def read_counts(self, begin: datetime, end: datetime) -> list[CountRow]:
        """Return counts by hash set, and by member, algorithm and classification of each."""
        return await self._read(CountRow, READ_COUNTS, begin, end)

    async def read_activity(self, begin: datetime, end: datetime) -> list[ActivityRow]:
        """Return what each member submitted."""
        return await self._read(ActivityRow, READ_ACTIVITY, begin, end)

    async def read_overlaps(self, end: datetime) -> list[OverlapRow]:
        """Return which members assert the same hashes."""
        return await self._read(OverlapRow, READ_OVERLAPS, end)

    async def read_latencies(self, begin: datetime, end: datetime) -> list[LatencyRow]:
        """Return how long submissions of the time waited for their publication."""
        return await self._read(LatencyRow, READ_LATENCIES, begin, end)

    async def read_disputes(self, begin: datetime, end: datetime) -> list[DisputeRow]:
        """Return disputes by reason."""
        return await self._read(DisputeRow, READ_DISPUTES, begin, end)

    async def read_retractions(self, begin: datetime, end: datetime) -> list[RetractionRow]:
        """Return how members took the retractions that were published in the time."""
        return await self._read(RetractionRow, READ_RETRACTIONS, begin, end)

    async def read_lags(self, now: datetime) -> list[LagRow]:
        """Return how far behind each member is now, in each list that it ever pulled."""
        return await self._read(LagRow, READ_LAGS, now)

    async def read_sizes(
        self, lists: "Sequence[ListName]", begin: datetime, end: datetime, *, steps: int
    ) -> list[SizeRow]:
        """Return the sizes of lists at ``steps`` + 1 moments, from ``begin`` to ``end``."""
        return await self._read(
            SizeRow,
            READ_SIZES,
            begin,
            end,
            steps,
            [name.hash_set for name in lists],
            [name.view for name in lists],
            [name.algorithm.value for name in lists],
        )

    async def _read(self, kind: type[R], statement: str, *arguments: object) -> list[R]:
        rows = await self.connection.fetch(statement, *arguments)
        # The statements name their columns as the classes do.
        return [kind(**row) for row in rows]

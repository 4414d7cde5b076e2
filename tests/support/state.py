"""What is in the database, to see that a refusal changed nothing and that all fits together."""

from hashshare.crypto import merkle
from hashshare.storage.database import Pool, snapshot
from hashshare.storage.log import LogRepository

TABLES = [
    "assertion", "dispute", "hash", "hash_set", "leaf", "log", "log_node", "member", "registry",
    "ruling", "submission", "touched",
]  # fmt: skip

SELECT_CHAINS = """
    SELECT member_id, array_agg(submission.sequence ORDER BY log_index) AS sequences,
           member.sequence AS head,
           (array_agg(submission.statement_id ORDER BY log_index DESC))[1] = last_id AS ends_with
      FROM submission JOIN member USING (member_no)
     GROUP BY member_id, member.sequence, last_id
"""
SELECT_ORPHANS = """
    SELECT (SELECT count(*) FROM assertion
             WHERE NOT EXISTS (SELECT FROM hash WHERE hash.hash_set_no = assertion.hash_set_no
                                                  AND hash.hash_id = assertion.hash_id)
                OR NOT EXISTS (SELECT FROM submission
                                WHERE submission.member_no = assertion.member_no
                                  AND submission.sequence = assertion.sequence)
                OR ended_in IS NOT NULL AND NOT EXISTS (
                               SELECT FROM submission
                                WHERE submission.member_no = assertion.member_no
                                  AND submission.sequence = assertion.ended_in))
           + (SELECT count(*) FROM hash JOIN hash_set USING (hash_set_no)
               WHERE hash_id > last_hash_id)
           + (SELECT count(*) FROM leaf
               WHERE payload_type LIKE '%submission%'
                 AND NOT EXISTS (SELECT FROM submission
                                  WHERE submission.log_index = leaf.log_index))
"""


async def read_all(pool: Pool) -> dict[str, str | None]:
    """A digest of every table's contents."""
    async with snapshot(pool) as connection:
        return {
            table: await connection.fetchval(
                f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} AS t"
            )
            for table in TABLES
        }


async def verify_consistent(pool: Pool) -> None:
    """The log is whole, each member's chain is gapless and in log order, nothing is orphaned."""
    async with snapshot(pool) as connection:
        log = LogRepository(connection)
        head = await log.read_head()
        entries = await log.read_entries(0, head.size)
        leaves = [merkle.leaf_hash(entry) for entry in entries]
        assert head.root == merkle.root_of(leaves)
        assert await log.read_nodes(0, 0, head.size) == leaves
        assert await connection.fetchval("SELECT count(*) FROM leaf") == head.size
        for chain in await connection.fetch(SELECT_CHAINS):
            assert chain["sequences"] == list(range(1, chain["head"] + 1))
            assert chain["ends_with"]
        assert await connection.fetchval(SELECT_ORPHANS) == 0

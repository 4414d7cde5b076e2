"""The log in SQL against the tree of RFC 9162 in memory."""

import hashlib

import asyncpg
import pytest

from hashshare.crypto import merkle
from hashshare.errors import AlreadyExistsError, NotFoundError
from hashshare.storage.database import Pool, open_pool, snapshot, transaction
from hashshare.storage.log import LogRepository, Place

SIZE = 600


async def _append(pool: Pool, count: int) -> tuple[list[bytes], list[Place]]:
    entries, places = [], []
    async with transaction(pool) as connection:
        log = LogRepository(connection)
        first = (await log.read_head()).size
        for number in range(first, first + count):
            entry = b"entry %d" % number
            statement_id = hashlib.sha256(entry).hexdigest()
            places.append(await log.append(entry, statement_id=statement_id, payload_type="t"))
            entries.append(entry)
    return entries, places


async def test_the_log_is_the_tree(dsn: str) -> None:
    """Roots, inclusion and consistency at many sizes, across the borders of tiles."""
    async with open_pool(dsn) as pool:
        entries, places = await _append(pool, SIZE)
        leaves = [merkle.leaf_hash(entry) for entry in entries]
        roots = [merkle.root_of(leaves[:size]) for size in range(SIZE + 1)]
        async with snapshot(pool) as connection:
            log = LogRepository(connection)
            assert (await log.read_head()).root == roots[SIZE]
            for index in [*range(0, SIZE, 37), 254, 255, 256, 511, 512, SIZE - 1]:
                assert places[index] == await log.locate(index)
                assert places[index].root == roots[index + 1]
                for size in (index + 1, SIZE):
                    proof = await log.prove_inclusion(index, size)
                    merkle.verify_inclusion(
                        leaves[index], index=index, size=size, proof=proof, root=roots[size]
                    )
                merkle.verify_consistency(
                    old_size=index,
                    old_root=roots[index],
                    new_size=SIZE,
                    new_root=roots[SIZE],
                    proof=await log.prove_consistency(index, SIZE),
                )
            assert await log.read_entries(250, 10) == entries[250:260]
            assert await log.read_nodes(0, 256, 256) == leaves[256:512]
            assert await log.read_nodes(1, 1, 1) == [merkle.root_of(leaves[256:512])]


async def test_what_is_beyond_the_log_is_not_found(dsn: str) -> None:
    """No proof, root, node or entry is made up."""
    async with open_pool(dsn) as pool:
        await _append(pool, 3)
        async with snapshot(pool) as connection:
            log = LogRepository(connection)
            for reading in (
                log.read_entries(2, 2),
                log.read_nodes(0, 2, 2),
                log.read_nodes(1, 0, 1),
                log.read_root(4),
                log.locate(3),
                log.prove_inclusion(0, 4),
                log.prove_inclusion(3, 3),
                log.prove_inclusion(-1, 3),
                log.prove_consistency(1, 4),
                log.prove_consistency(3, 2),
            ):
                with pytest.raises(NotFoundError):
                    await reading


async def test_a_statement_is_logged_once(dsn: str) -> None:
    """The database refuses the second one, and the log stays as it was."""
    async with open_pool(dsn) as pool:
        await _append(pool, 1)
        with pytest.raises(AlreadyExistsError):
            async with transaction(pool) as connection:
                statement_id = hashlib.sha256(b"entry 0").hexdigest()
                await LogRepository(connection).append(
                    b"another", statement_id=statement_id, payload_type="t"
                )
        async with snapshot(pool) as connection:
            assert (await LogRepository(connection).read_head()).size == 1


async def test_appending_needs_a_transaction(dsn: str) -> None:
    """Without one, a leaf could be there without its nodes."""
    connection = await asyncpg.connect(dsn)
    with pytest.raises(RuntimeError):
        await LogRepository(connection).append(b"x", statement_id="00" * 32, payload_type="t")
    await connection.close()

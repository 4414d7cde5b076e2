"""The log as it is served: tiles, entries, proofs and checkpoints fit together."""

from pathlib import Path

import pytest

from hashshare.crypto import merkle
from hashshare.crypto.note import verify_checkpoint
from hashshare.crypto.tiles import Tile, decode_entries
from hashshare.errors import NotFoundError
from hashshare.service.log import LogService
from tests.support.coalition import ACME, assertion, run_coalition

SIZE = 6


async def test_the_log_is_served_whole(dsn: str, tmp_path: Path) -> None:
    """From the entries alone, a reader comes to every node, root and proof."""
    async with run_coalition(dsn, tmp_path) as running:
        receipts = {}
        for number in range(1, SIZE):
            receipts[number] = (await running.push(ACME, [assertion(number)])).receipt
        log = LogService(running.pool, running.registries.guard)
        entries = decode_entries(await log.tile(Tile(None, 0, SIZE)), count=SIZE)
        leaves = [merkle.leaf_hash(entry) for entry in entries]

        assert await log.tile(Tile(0, 0, SIZE)) == b"".join(leaves)
        assert [await log.entry(index) for index in range(SIZE)] == entries
        assert await log.checkpoint() == await log.checkpoint_at(SIZE)
        for size in range(1, SIZE + 1):
            checkpoint = verify_checkpoint(
                await log.checkpoint_at(size), running.coalition.log.verifier
            )
            assert (checkpoint.size, checkpoint.root) == (size, merkle.root_of(leaves[:size]))
            merkle.verify_inclusion(
                leaves[0],
                index=0,
                size=size,
                proof=await log.inclusion(0, size),
                root=checkpoint.root,
            )
            merkle.verify_consistency(
                old_size=size,
                old_root=checkpoint.root,
                new_size=SIZE,
                new_root=merkle.root_of(leaves),
                proof=await log.consistency(size, SIZE),
            )
        assert {index: await log.receipt(index) for index in receipts} == receipts
        for reading in (
            log.tile(Tile(None, 0, SIZE + 1)),
            log.tile(Tile(1, 0, 1)),
            log.entry(SIZE),
            log.receipt(-1),
            log.receipt(SIZE),
            log.checkpoint_at(SIZE + 1),
        ):
            with pytest.raises(NotFoundError):
                await reading

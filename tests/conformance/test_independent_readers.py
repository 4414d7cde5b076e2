"""A log that ours wrote, read and verified by tlog-scales, which shares no code with us.

That securesystemslib verifies our envelopes is in tests/unit/crypto/test_crypto_envelope.py.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from tlog_scales import cli, tiles
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import PlainEd25519Signer, Vkey
from tlog_scales.tlog import (
    Checkpoint,
    ConsistencyProof,
    ConsistencyProofInvalid,
    InclusionProofInvalid,
)
from tlog_scales.writer import TilesWriter

from hashshare.crypto.encoding import decode_base64
from hashshare.crypto.note import NoteVerifier, verify_checkpoint
from hashshare.crypto.receipt import parse_receipt, verify_receipt
from hashshare.crypto.tiles import parse_tile_path
from hashshare.service.guard import Guard
from hashshare.service.log import LogService
from hashshare.storage.database import open_pool, transaction
from hashshare.storage.log import LogRepository
from tests.vectors.make import (
    COSIGNED_AT,
    LOG,
    SampleLog,
    make_larger_files,
    sample_entries,
    write_files,
)

# Three levels of tiles, each ending with a part of one, and more than the 1,000 tiles after which
# their paths have one part more.
LARGE = 257_000
LAST_TILES = ["0/x001/003.p/232", "1/003.p/235", "2/000.p/3"]
# On both sides of borders of tiles at each level, and the longest leaf, which is the last.
INDEXES = [
    *(0, 1, 2, 255, 256, 511, 512, 65_535, 65_536, 131_071, 131_072),
    *(255_999, 256_000, 256_767, 256_768, LARGE - 1),
]
SERVED = 600


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large log as files, written by our code."""
    folder = tmp_path_factory.mktemp("large")
    write_files(make_larger_files(LARGE), folder)
    return folder


def _vkey(folder: Path, name: str = "log") -> Vkey:
    return Vkey.from_string((folder / "keys" / f"{name}.vkey").read_text().strip())


def _read_checkpoint(path: Path) -> Checkpoint:
    return Checkpoint.from_text(path.read_text())


def _open(folder: Path) -> tuple[TilesReader, Checkpoint]:
    """Read a log as they do, its checkpoint verified."""
    reader = TilesReader(LocalBackend(folder / "log"))
    checkpoint = reader.get_checkpoint()
    checkpoint.verify(_vkey(folder))
    return reader, checkpoint


def _verify_entry(reader: TilesReader, checkpoint: Checkpoint, index: int) -> bytes:
    """Return an entry from its bundle, its inclusion proven from the tiles."""
    entry = reader.get_entry(index)
    proof = reader.get_inclusion_proof(index, checkpoint.size)
    proof.check(tiles.leaf_hash(entry), checkpoint.root_hash)
    return entry


def test_they_find_the_root_that_was_signed(folder: Path) -> None:
    """From the tiles alone."""
    reader, checkpoint = _open(folder)

    assert (checkpoint.origin, checkpoint.size) == (LOG.name, LARGE)
    assert reader.calculate_root_hash() == checkpoint.root_hash


def test_they_prove_every_kind_of_leaf(folder: Path) -> None:
    """Its entry is in the bundle, and included under the checkpoint."""
    reader, checkpoint = _open(folder)
    entries = [*sample_entries(LARGE - 1), bytes(65_535)]

    assert [_verify_entry(reader, checkpoint, i) for i in INDEXES] == [entries[i] for i in INDEXES]


def test_they_prove_that_the_log_only_grew(folder: Path) -> None:
    """From every checkpoint to the last one, and with the nodes that we prove it with."""
    reader, newest = _open(folder)

    for path in (folder / "checkpoints").iterdir():
        old = _read_checkpoint(path)
        old.verify(_vkey(folder))
        proof = reader.get_consistency_proof(old.size, newest.size)
        proof.check(old.root_hash, newest.root_hash)
        if old.size < newest.size:
            ours = (folder / "consistency" / f"{old.size}-to-{newest.size}").read_text()
            assert proof.node_hashes == [decode_base64(line) for line in ours.splitlines()]


@pytest.mark.parametrize("index", [0, LARGE // 2, LARGE - 1])
def test_they_write_the_receipts_that_we_write(
    folder: Path, index: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Byte for byte, from the tiles."""
    arguments = cli.build_parser().parse_args(["gen-proof", str(folder / "log"), str(index)])

    cli.cmd_gen_proof(arguments)

    theirs = capsys.readouterr().out.encode()
    assert theirs == (folder / "receipts" / f"{index}-of-{LARGE}.tlog-proof").read_bytes()


def test_they_verify_the_witness(folder: Path) -> None:
    """Its cosignature of the checkpoint, and its time."""
    checkpoint = _read_checkpoint(folder / "cosigned-checkpoint")

    checkpoint.verify(_vkey(folder, "witness"))

    cosignature = checkpoint.signatures[1].payload
    assert int.from_bytes(cosignature[:8], "big") == COSIGNED_AT.timestamp()


@pytest.mark.parametrize("name", ["log", "witness"])
def test_they_refuse_a_forged_checkpoint(folder: Path, name: str) -> None:
    """One leaf more than what was signed, or the signature of another key."""
    data = (folder / "cosigned-checkpoint").read_text()
    grown = Checkpoint.from_text(data.replace(f"\n{LARGE}\n", f"\n{LARGE + 1}\n"))

    with pytest.raises(InvalidSignature):
        grown.verify(_vkey(folder, name))
    with pytest.raises(RuntimeError):
        grown.verify(Vkey(LOG.name, None, 1, bytes(32)))


def test_they_refuse_a_fork(folder: Path) -> None:
    """Though the log signed it: no leaf is in it, and it does not extend what was seen."""
    reader, checkpoint = _open(folder)
    fork = _read_checkpoint(folder / "forked-checkpoint")
    fork.verify(_vkey(folder))

    assert fork.size == checkpoint.size
    assert reader.calculate_root_hash() != fork.root_hash
    with pytest.raises(InclusionProofInvalid):
        _verify_entry(reader, fork, 0)
    for path in (folder / "checkpoints").iterdir():
        old = _read_checkpoint(path)
        proof = reader.get_consistency_proof(old.size, fork.size)
        with pytest.raises(ConsistencyProofInvalid):
            proof.check(old.root_hash, fork.root_hash)


@contextmanager
def _flip_a_bit(path: Path) -> Iterator[None]:
    good = path.read_bytes()
    path.write_bytes(bytes([*good[:-1], good[-1] ^ 1]))
    try:
        yield
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("tile", LAST_TILES)
def test_they_refuse_a_changed_tile(folder: Path, tile: str) -> None:
    """One bit at the end of each level: another root, and a proof that does not lead to it."""
    with _flip_a_bit(folder / "log" / "tile" / tile):
        reader, checkpoint = _open(folder)
        assert reader.calculate_root_hash() != checkpoint.root_hash
        with pytest.raises(InclusionProofInvalid):
            _verify_entry(reader, checkpoint, 0)


def test_they_refuse_a_changed_entry(folder: Path) -> None:
    """The last leaf of a bundle; its neighbour still holds."""
    with _flip_a_bit(folder / "log" / "tile" / "entries" / "255"):
        reader, checkpoint = _open(folder)
        _verify_entry(reader, checkpoint, 65_534)
        with pytest.raises(InclusionProofInvalid):
            _verify_entry(reader, checkpoint, 65_535)


def test_they_refuse_a_changed_consistency_proof(folder: Path) -> None:
    """Of ours, which they did not make."""
    old = _read_checkpoint(folder / "checkpoints" / "300")
    new = _read_checkpoint(folder / "log" / "checkpoint")
    lines = (folder / "consistency" / f"300-to-{LARGE}").read_text().splitlines()
    nodes = [decode_base64(line) for line in lines]

    ConsistencyProof(300, LARGE, nodes).check(old.root_hash, new.root_hash)
    for changed in (nodes[:-1], nodes[::-1], [*nodes, nodes[0]]):
        with pytest.raises(ConsistencyProofInvalid):
            ConsistencyProof(300, LARGE, changed).check(old.root_hash, new.root_hash)


async def _serve(dsn: str, entries: list[bytes], folder: Path) -> list[bytes]:
    """Write what the server serves of a log with these entries, and return its receipts."""
    async with open_pool(dsn) as pool:
        async with transaction(pool) as connection:
            for entry in entries:
                name = hashlib.sha256(entry).hexdigest()
                await LogRepository(connection).append(entry, statement_id=name, payload_type="t")
        log = LogService(pool, Guard(pool, lambda: [LOG]))
        files = {
            f"log/tile/{path}": await log.tile(parse_tile_path(path))
            for path, _ in SampleLog(entries).tiles()
        }
        files["log/checkpoint"] = await log.checkpoint()
        files["keys/log.vkey"] = f"{LOG.verifier}\n".encode()
        write_files(files, folder)
        return [await log.receipt(index) for index in range(0, len(entries), 50)]


async def test_they_verify_what_the_server_serves(dsn: str, tmp_path: Path) -> None:
    """Every leaf of a log that is in the database; and the receipts are under the same root."""
    # The database has no empty leaves.
    entries = [entry for entry in sample_entries(SERVED + 1) if entry]
    receipts = await _serve(dsn, entries, tmp_path)

    reader, checkpoint = _open(tmp_path)

    assert reader.calculate_root_hash() == checkpoint.root_hash
    assert [_verify_entry(reader, checkpoint, i) for i in range(SERVED)] == entries
    for receipt in map(parse_receipt, receipts):
        then = Checkpoint.from_text(receipt.checkpoint.decode())
        then.verify(_vkey(tmp_path))
        proof = reader.get_consistency_proof(then.size, SERVED)
        proof.check(then.root_hash, checkpoint.root_hash)


def test_we_verify_what_they_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A log of theirs, grown twice, has our tiles; its checkpoint and receipts hold for us."""
    entries, signer = sample_entries(700), PlainEd25519Signer("theirs.example/log", bytes(32))
    writer = TilesWriter.create(tmp_path / "log", signer.vkey.name)
    for part in (entries[:300], entries[300:]):
        for entry in part:
            writer.add_leaf(entry)
        writer.commit([signer])
    verifier = NoteVerifier.parse(str(signer.vkey.serialize()))  # type: ignore[no-untyped-call]

    ours = SampleLog(entries)
    checkpoint = verify_checkpoint((tmp_path / "log" / "checkpoint").read_bytes(), verifier)

    assert (checkpoint.size, checkpoint.root) == (700, ours.root(0, 700))
    for path, data in ours.tiles():
        assert (tmp_path / "log" / "tile" / path).read_bytes() == data
    for index in (0, 299, 300, 699):
        cli.cmd_gen_proof(
            cli.build_parser().parse_args(["gen-proof", str(tmp_path / "log"), str(index)])
        )
        receipt = parse_receipt(capsys.readouterr().out.encode())
        assert verify_receipt(receipt, entries[index], verifier) == checkpoint

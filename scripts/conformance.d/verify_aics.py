"""Verify a log as files with aics-tlog: verify_aics.py LABEL FOLDER.

FOLDER is what tests/vectors/make.py writes. One line says what was verified, each begins with
LABEL; the exit code is 1 if anything failed. This runs in an environment of aics-tlog's own.
"""

import base64
import sys
from collections.abc import Callable
from pathlib import Path

import aics_tlog as tlog

Step = tuple[str, Callable[[Path], None]]


class FailedError(Exception):
    """What ought to hold does not, or the other way round."""


def require(holds: bool, what: str) -> None:
    """Stop unless it holds."""
    if not holds:
        raise FailedError(what)


def vkey(folder: Path, name: str) -> tlog.VKey:
    """Return a verifier key."""
    return tlog.parse_vkey((folder / "keys" / f"{name}.vkey").read_text().strip())


def verify_note(folder: Path, data: bytes, *, quorum: int = 0) -> tlog.Checkpoint:
    """Return the checkpoint in a note that the log signed, and so many witnesses."""
    note = tlog.parse_note(data)
    result = tlog.verify_checkpoint(note, vkey(folder, "log"), [vkey(folder, "witness")], quorum)
    require(result.ok, str(result.error))
    return tlog.parse_checkpoint(note.text)


def checkpoint(folder: Path, path: str) -> tlog.Checkpoint:
    """Return the verified checkpoint in a file."""
    return verify_note(folder, (folder / path).read_bytes())


def verify_checkpoints(folder: Path) -> None:
    """All that there are."""
    for path in (folder / "checkpoints").iterdir():
        require(checkpoint(folder, f"checkpoints/{path.name}").size == int(path.name), path.name)


def verify_cosignature(folder: Path) -> None:
    """By a quorum of the one witness, which the log alone does not reach."""
    verify_note(folder, (folder / "cosigned-checkpoint").read_bytes(), quorum=1)
    alone = (folder / "log" / "checkpoint").read_bytes()
    require(refuses(lambda: verify_note(folder, alone, quorum=1)), "there was no witness")


def verify_tiles(folder: Path) -> None:
    """Every tile and every bundle."""
    newest = checkpoint(folder, "log/checkpoint")
    tlog.audit_tiles(tlog.FileSystemTileReader(folder / "log"), newest.size, newest.root)


def verified_reader(folder: Path, newest: tlog.Checkpoint) -> tlog.VerifiedTileReader:
    """Return a reader that proves what it reads."""
    reader = tlog.FileSystemTileReader(folder / "log")
    return tlog.VerifiedTileReader(reader, newest.size, newest.root)


def verify_receipts(folder: Path) -> None:
    """Each of ours, and the same from the tiles."""
    newest = checkpoint(folder, "log/checkpoint")
    reader = verified_reader(folder, newest)
    for path in sorted((folder / "receipts").iterdir()):
        head, _, signed = path.read_bytes().partition(b"\n\n")
        _, index_line, *lines = head.decode().split("\n")
        index = int(index_line.removeprefix("index "))
        proof, then = hashes(lines), verify_note(folder, signed)
        entry = reader.entry(index)
        holds = tlog.verify_leaf_inclusion(entry, index, then.size, proof, then.root)
        require(holds, path.name)
        spoilt = tlog.verify_leaf_inclusion(entry + b"x", index, then.size, proof, then.root)
        require(not spoilt, f"another leaf in {path.name}")
        theirs = tlog.inclusion_proof_from_tiles(reader, index, then.size)
        require(list(theirs) == proof, f"not its proof: {path.name}")


def hashes(lines: list[str]) -> list[bytes]:
    """Return what lines of base64 hold."""
    return [base64.b64decode(line, validate=True) for line in lines]


def verify_consistency(folder: Path) -> None:
    """Each of ours, the same from the tiles, and none to the fork."""
    newest = checkpoint(folder, "log/checkpoint")
    fork = checkpoint(folder, "forked-checkpoint")
    reader = verified_reader(folder, newest)
    for path in sorted((folder / "consistency").iterdir()):
        old, new = (checkpoint(folder, f"checkpoints/{size}") for size in path.name.split("-to-"))
        proof = hashes(path.read_text().split())
        holds = tlog.verify_consistency(old.size, new.size, old.root, new.root, proof)
        require(holds, path.name)
        forked = tlog.verify_consistency(old.size, fork.size, old.root, fork.root, proof)
        require(not forked, f"the fork from {old.size} on")
        theirs = tlog.consistency_proof_from_tiles(reader, old.size, new.size)
        require(list(theirs) == proof, f"not its proof: {path.name}")


def refuses(verify: Callable[[], object]) -> bool:
    """Whether it raises."""
    try:
        verify()
    except (FailedError, ValueError, tlog.TileVerificationError):
        return True
    return False


class SpoiltReader(tlog.FileSystemTileReader):
    """Flips the last bit of every tile."""

    def read_tile(self, level: int, index: int, width: int | None) -> bytes | None:
        """Return a tile that is not of the log."""
        data = super().read_tile(level, index, width)
        return bytes([*data[:-1], data[-1] ^ 1]) if data else data


def verify_refusals(folder: Path) -> None:
    """A fork, a changed tile, a changed checkpoint."""
    newest, fork = checkpoint(folder, "log/checkpoint"), checkpoint(folder, "forked-checkpoint")
    reader, spoilt = (kind(folder / "log") for kind in (tlog.FileSystemTileReader, SpoiltReader))
    for tiles, head in ((reader, fork), (spoilt, newest)):
        verified = tlog.VerifiedTileReader(tiles, head.size, head.root)
        require(refuses(lambda verified=verified: verified.entry(0)), "tiles of another tree")
    data = (folder / "log" / "checkpoint").read_bytes()
    grown = data.replace(b"\n%d\n" % newest.size, b"\n%d\n" % (newest.size + 1))
    require(refuses(lambda: verify_note(folder, grown)), "a changed checkpoint")


STEPS: tuple[Step, ...] = (
    ("signatures of checkpoints", verify_checkpoints),
    ("cosignature/v1 of the witness, as a quorum of one", verify_cosignature),
    ("every tile and entry (audit_tiles)", verify_tiles),
    ("inclusion proofs of receipts, equal to its own", verify_receipts),
    ("consistency proofs, equal to its own", verify_consistency),
    ("a changed checkpoint, changed tiles and a fork are refused", verify_refusals),
)


def main() -> int:
    """Run every step, and return the exit code."""
    label, folder = sys.argv[1], Path(sys.argv[2])
    failed = False
    for what, verify in STEPS:
        try:
            verify(folder)
            print(f"{label}, {what}: ok", flush=True)
        except Exception as error:  # noqa: BLE001
            failed = True
            print(f"{label}, {what}: failed ({type(error).__name__}: {error})", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())

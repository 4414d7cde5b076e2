"""Make the files of this folder, always the same bytes: what each is, README.md says.

``python -m tests.vectors.make`` writes them here; with a folder and a number of leaves it
writes those of a larger log there, for which see scripts/conformance.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hashshare.crypto import merkle
from hashshare.crypto.cosignature import Witness
from hashshare.crypto.encoding import encode_base64
from hashshare.crypto.envelope import MAX_ENVELOPE_BYTES, Envelope, seal
from hashshare.crypto.keys import PrivateKey
from hashshare.crypto.note import (
    Checkpoint,
    NoteSigner,
    SignedText,
    sign_checkpoint,
    sign_note,
)
from hashshare.crypto.receipt import Receipt
from hashshare.crypto.tiles import TILE_WIDTH, Tile, encode_entries

VECTORS: Final = Path(__file__).parent
SIZES: Final = (0, 1, 2, 3, 7, 8, 255, 256, 257, 300)
PAYLOAD_TYPE: Final = "application/vnd.hashshare.vector.v1+json"
COSIGNED_AT: Final = datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)

Files = dict[str, bytes]


def published_key(name: str) -> PrivateKey:
    """Return a key that everybody can make: never use one for anything else."""
    seed = hashlib.sha256(f"hashshare/tests/vectors/{name}".encode()).digest()
    return PrivateKey(Ed25519PrivateKey.from_private_bytes(seed))


LOG: Final = NoteSigner("vectors.example/log", published_key("log"))
WITNESS: Final = Witness("witness.example/vectors", published_key("witness"))
MEMBERS: Final = (published_key("member 1"), published_key("member 2"))
ENVELOPE: Final = seal(b'{"log":"vectors.example/log","sequence":1}', PAYLOAD_TYPE, MEMBERS)


@dataclass(frozen=True)
class SampleLog:
    """A log in memory, with the stored nodes that storage/log.py would have."""

    entries: Sequence[bytes]

    @cached_property
    def nodes(self) -> list[list[bytes]]:
        """The stored nodes by level: the leaves, and each level over 256 of the one below."""
        levels = [[merkle.leaf_hash(entry) for entry in self.entries]]
        while len(levels[-1]) >= TILE_WIDTH:
            below, whole = levels[-1], len(levels[-1]) // TILE_WIDTH
            runs = (below[TILE_WIDTH * i : TILE_WIDTH * (i + 1)] for i in range(whole))
            levels.append([merkle.root_of(run) for run in runs])
        return levels

    def root(self, start: int, end: int) -> bytes:
        """Return the tree hash of the leaves from ``start`` on, ``end`` not included."""
        return merkle.root_of_range(start, end, lambda level, index: self.nodes[level][index])

    def checkpoint(self, size: int) -> Checkpoint:
        """Return what the log commits to when it has ``size`` leaves."""
        return Checkpoint(LOG.name, size, self.root(0, size))

    def receipt(self, index: int, size: int) -> Receipt:
        """Return the receipt of a leaf under the checkpoint of ``size``."""
        proof = tuple(self.root(*span) for span in merkle.inclusion_ranges(index, size))
        return Receipt(index, proof, sign_checkpoint(self.checkpoint(size), LOG))

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Return the proof that the tree of ``new`` leaves extends the one of ``old``."""
        return [self.root(*span) for span in merkle.consistency_ranges(old, new)]

    def tiles(self) -> Iterator[tuple[str, bytes]]:
        """Yield path and content of every tile that has something in it."""
        for tile in _tiles_of(None, len(self.entries)):
            yield tile.path(), encode_entries(self.entries[tile.first : tile.first + tile.width])
        for level, nodes in enumerate(self.nodes):
            for tile in _tiles_of(level, len(nodes)):
                yield tile.path(), b"".join(nodes[tile.first : tile.first + tile.width])


def _tiles_of(level: int | None, count: int) -> Iterator[Tile]:
    for first in range(0, count, TILE_WIDTH):
        yield Tile(level, first // TILE_WIDTH, min(TILE_WIDTH, count - first))


def sample_entries(count: int) -> list[bytes]:
    """Return leaves: a signed envelope, an empty one, and others."""
    return [ENVELOPE.encode(), b"", *(b"leaf %d" % index for index in range(2, count))][:count]


def make_log_files(log: SampleLog, sizes: Sequence[int]) -> Files:
    """Return a log as files, and what was signed and proven at some of its sizes.

    Args:
        log: The log.
        sizes: Ascending; the last is that of the log.
    """
    last = sizes[-1]
    files = {
        "keys/log.vkey": f"{LOG.verifier}\n".encode(),
        "keys/witness.vkey": f"{WITNESS.verifier}\n".encode(),
        "log/checkpoint": sign_checkpoint(log.checkpoint(last), LOG),
        "cosigned-checkpoint": _cosign(log.checkpoint(last).text()).encode(),
        "forked-checkpoint": sign_checkpoint(_fork(log.checkpoint(last)), LOG),
    }
    files |= {f"log/tile/{path}": data for path, data in log.tiles()}
    files |= {f"checkpoints/{n}": sign_checkpoint(log.checkpoint(n), LOG) for n in sizes}
    for index, size in _places(sizes):
        files[f"receipts/{index}-of-{size}.tlog-proof"] = log.receipt(index, size).encode()
    for old, new in _growth(sizes):
        lines = [f"{encode_base64(node)}\n" for node in log.consistency(old, new)]
        files[f"consistency/{old}-to-{new}"] = "".join(lines).encode()
    return files


def _places(sizes: Sequence[int]) -> list[tuple[int, int]]:
    ends = {(index, size) for size in sizes if size for index in (0, size - 1)}
    return sorted(ends | {(sizes[-1] // 2, sizes[-1])})


def _growth(sizes: Sequence[int]) -> list[tuple[int, int]]:
    grown = [size for size in sizes if size]
    steps = pairwise(grown)
    return sorted({*steps, *((old, grown[-1]) for old in grown[:-1])})


def _cosign(text: str) -> SignedText:
    return SignedText(text, (LOG.sign(text), WITNESS.cosign(text, now=COSIGNED_AT)))


def _fork(checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, root=hashlib.sha256(b"another history").digest())


def make_files() -> Files:
    """Return every file of this folder that is made, by its path."""
    log = SampleLog(sample_entries(SIZES[-1]))
    files = make_log_files(log, SIZES) | {"envelope.json": ENVELOPE.encode()}
    for number, member in enumerate(MEMBERS, start=1):
        files[f"keys/member-{number}.pem"] = _to_pem(member)
    refused = _refused_notes(log) | _refused_proofs(log) | _refused_envelopes() | _refused_keys()
    expected = {path: error for path, (error, _) in refused.items()}
    files |= {f"refused/{path}": data for path, (_, data) in refused.items()}
    files["refused/expected.json"] = f"{json.dumps(expected, indent=2)}\n".encode()
    return files


def _to_pem(key: PrivateKey) -> bytes:
    return Ed25519PublicKey.from_public_bytes(key.public.raw).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


Refused = dict[str, tuple[str, bytes]]
"""The error that is to be raised, and the bytes, by path."""


def _refused_notes(log: SampleLog) -> Refused:
    checkpoint = log.checkpoint(300)
    text, good = checkpoint.text(), sign_checkpoint(checkpoint, LOG)
    foreign = replace(checkpoint, origin="other.example/log")
    cosigned = _cosign(text)
    line = cosigned.signatures[1]
    later = replace(line, value=bytes([*line.value[:7], line.value[7] ^ 1, *line.value[8:]]))

    def signed(changed: str) -> bytes:
        return sign_note(changed, [LOG])

    return {
        "checkpoint/changed-size": ("SignatureInvalidError", _change(good, b"\n300\n", b"\n301\n")),
        "checkpoint/by-another-key": (
            "SignatureInvalidError",
            sign_checkpoint(checkpoint, NoteSigner(LOG.name, MEMBERS[0])),
        ),
        "checkpoint/of-another-log": ("MixAndMatchError", sign_checkpoint(foreign, LOG)),
        "checkpoint/leading-zero": ("MalformedError", signed(text.replace("300", "0300"))),
        "checkpoint/extension-line": ("MalformedError", signed(f"{text}extension\n")),
        "checkpoint/carriage-returns": ("MalformedError", good.replace(b"\n", b"\r\n")),
        "cosigned/log-only": ("SignatureInvalidError", good),
        "cosigned/another-time": (
            "SignatureInvalidError",
            replace(cosigned, signatures=(cosigned.signatures[0], later)).encode(),
        ),
        "cosigned/without-time": (
            "MalformedError",
            SignedText(text, (replace(line, value=line.value[8:]),)).encode(),
        ),
    }


def _refused_proofs(log: SampleLog) -> Refused:
    receipt = log.receipt(0, 300)
    fork = sign_checkpoint(_fork(log.checkpoint(300)), LOG)
    error = "ProofInvalidError"
    return {
        "receipt/another-index": (error, replace(receipt, index=1).encode()),
        "receipt/beyond-the-end": (error, replace(receipt, index=300).encode()),
        "receipt/too-short": (error, replace(receipt, proof=receipt.proof[:-1]).encode()),
        "receipt/too-long": (
            error,
            replace(receipt, proof=(*receipt.proof, merkle.EMPTY_ROOT)).encode(),
        ),
        "receipt/of-a-fork": (error, replace(receipt, checkpoint=fork).encode()),
        "receipt/leading-zero": ("MalformedError", _change(receipt.encode(), b"x 0\n", b"x 00\n")),
        "receipt/extra-data": (
            "MalformedError",
            _change(receipt.encode(), b"\nindex", b"\nextra AAAA\nindex"),
        ),
    }


def _refused_envelopes() -> Refused:
    one = seal(ENVELOPE.payload, PAYLOAD_TYPE, MEMBERS[:1])
    changed = replace(ENVELOPE, payload=ENVELOPE.payload.replace(b"1", b"2"))
    relabelled = replace(ENVELOPE, payload_type="application/octet-stream")
    reordered = replace(ENVELOPE, signatures=ENVELOPE.signatures[::-1])
    return {
        "envelope/changed-payload": ("SignatureInvalidError", changed.encode()),
        "envelope/one-signature-of-two": ("SignatureInvalidError", one.encode()),
        "envelope/one-signature-twice": (
            "MalformedError",
            Envelope(PAYLOAD_TYPE, one.payload, one.signatures * 2).encode(),
        ),
        "envelope/of-another-type": ("MalformedError", relabelled.encode()),
        "envelope/signatures-not-sorted": ("MalformedError", reordered.encode()),
        "envelope/with-spaces": ("MalformedError", _change(ENVELOPE.encode(), b'":"', b'": "')),
    }


def _refused_keys() -> Refused:
    vkey = str(LOG.verifier)
    name, key_id, _ = vkey.split("+", 2)
    # The neutral element: one signature under it holds for every message.
    weak = b"\x01\x01" + bytes(31)
    weak_id = hashlib.sha256(name.encode() + b"\n" + weak).digest()[:4].hex()
    return {
        "vkey/key-of-order-1": (
            "KeyUnsafeError",
            f"{name}+{weak_id}+{encode_base64(weak)}\n".encode(),
        ),
        "vkey/another-key-id": ("MalformedError", f"{vkey}\n".replace(key_id, "00000000").encode()),
        "vkey/of-a-witness": ("MalformedError", f"{WITNESS.verifier}\n".encode()),
    }


def _change(data: bytes, old: bytes, new: bytes) -> bytes:
    """Replace what must be there."""
    assert old in data, "nothing would be wrong with it"
    return data.replace(old, new, 1)


def make_larger_files(size: int) -> Files:
    """Return the files of a log of ``size`` leaves, over 65,537; the last is the longest."""
    entries = [*sample_entries(size - 1), bytes(MAX_ENVELOPE_BYTES)]
    sizes = sorted({1, 300, 65_537, size // 2, size - 1, size})
    return make_log_files(SampleLog(entries), sizes)


def write_files(files: Files, folder: Path) -> None:
    """Write each file below ``folder``."""
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=VECTORS)
    parser.add_argument("leaves", type=int, nargs="?")
    arguments = parser.parse_args()
    leaves: int | None = arguments.leaves
    write_files(make_larger_files(leaves) if leaves else make_files(), arguments.folder)


if __name__ == "__main__":
    _main()

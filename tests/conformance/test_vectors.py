"""Vectors: those of others are verified here, and ours are what others can rely on.

The example of one signer in the documentation of golang.org/x/mod/sumdb/note is in
tests/unit/crypto/test_crypto_note.py, that of Certificate Transparency in test_crypto_merkle.py.
"""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hashshare import errors
from hashshare.crypto import merkle
from hashshare.crypto.cosignature import WitnessVerifier, verify_cosignature
from hashshare.crypto.encoding import decode_base64
from hashshare.crypto.envelope import parse_envelope, unseal
from hashshare.crypto.keys import PrivateKey, PublicKey
from hashshare.crypto.note import (
    Checkpoint,
    NoteSigner,
    NoteVerifier,
    open_note,
    sign_checkpoint,
    sign_note,
    verify_checkpoint,
)
from hashshare.crypto.receipt import parse_receipt, verify_receipt
from hashshare.errors import ProofInvalidError, SignatureInvalidError
from tests.vectors.make import PAYLOAD_TYPE, SIZES, VECTORS, make_files

# C2SP signed-note v1.0.0, the example.
SPECIFICATION_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPECIFICATION_NOTE = (
    "This is an example message.\n\n— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()

# golang.org/x/mod/sumdb/note, ExampleSign_add_signatures: the second key is of 32 zero bytes.
GO_VKEYS = (
    "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop",
)
GO_SEEDS = (base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:], bytes(32))
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n\n"
    "— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    "— EnochRoot "
    "rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
).encode()

# Tessera, testdata/build_log.sh and testdata/log/checkpoint.N: the key and the leaves are there,
# and these are the signatures of the checkpoints that its writer made.
TESSERA_NAME = "example.com/log/testdata"
TESSERA_SEED = base64.b64decode("AeymY/SZAX0jZcJ8enZ5FY1Dz+wTML2yWSkK+9DSF3eg")[1:]
TESSERA_LEAVES = [
    *("one", "two", "three", "four", "five", "six", "seven", "eit"),
    *("nain", "ten", "ileven", "twelf", "threeten", "fourten", "fivten"),
]
TESSERA_CHECKPOINTS = {
    0: (
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "M9e0lhxJACzE1KoUdqKuPa+9p6R7dSW8BlEvrg/noo8FkGg6PbJoRNOcdjqjOq89wVvTA60eubCc4oufo5BvIVEgtQc=",
    ),
    1: (
        "0Nc2CrefWKseHj/mStd+LqC8B+NrX0btIiPt2SmN+ek=",
        "M9e0lhr9kuLxGdAtaUrhm84TQffVsLdcy808sN0a3WyniNlfcr9+bywoiIke1YYciCNjJGkCgIlQ8b16jhsmg/SChAM=",
    ),
    7: (
        "IrSXADBqJ7EQoUODSDKROySgNveeL6CFhik2w/+fS7U=",
        "M9e0luA5JhTRUki/BBQD0QNiH6AEJ2pdtsA5CQjqJErViuuKrN6513RCTL2640wXJv0dCed3neRGI6dMzBq9uANf2Qc=",
    ),
    8: (
        "bC+VwvrJbalNVjfkdI8kUgs7mJoXrqiXCE7bgnD28pY=",
        "M9e0lq1EK37dHtgv9O3UzPxisw5vwIPcJsX9ab0xt4mvVfbdUR1fbMjN6sBFYpBoBEmD4+cWhj/AVgI5MitCO5+mews=",
    ),
    15: (
        "rKbDipCvhuX1GZ7g5BBe8sA6BbJ7ja/1nk427v383cs=",
        "M9e0luh4jTG+UMBqOUo9/q+yAEvx1ilBEniMvjf1zfcBOhg+CKubMt53MvIt/uEWP6zdkdIQzd/fmwlM/dlPWF74ewI=",
    ),
}

# Sunlight, cmd/skylight/testdata/witness: its own signature is of a type that we do not read.
SUNLIGHT_WITNESS = "witness.example.org+b8a2cf20+BFLN3yikSfFkVAJtrnh/CiY3Zozkoy7clp+P7XB28qUN"
SUNLIGHT_CHECKPOINT = (
    "rome2026h1.example.org\n300\nlCkHUpkmVBEms2r2T1K6Og69+wUuuN3MIEW1/ezu2v0=\n\n"
    "— rome2026h1.example.org kVB1JgAAAZtxtEwABAMARzBFAiEAi+mTa2xjL1IdWpH82OeciGsGvwRAP+f1WkfKa"
    "SZCfFECIHoNPZ/Q3y6UNzvKOO9cuLr6V16vPNfhwhle9f6r5H/Z\n"
    "— witness.example.org uKLPIAAAAABpVGeAhm2bOvKc3LaB9PFN1ruG19Y5yqslmcAAbhftnn1Zznmo0LXFZq4LG"
    "vqKqLX8jWlwLKasxEGTLIqAVusneCBmBw==\n"
).encode()

# A checkpoint of a public log of Certificate Transparency (staging), which four public witnesses
# cosigned in May 2026; from the tests of tlog-scales.
ARCHE_VKEY = (
    "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
)
ARCHE_WITNESSES = (
    "transparency.dev/DEV:witness-little-garden+d8042a87"
    "+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
)
ARCHE_CHECKPOINT = (
    "arche2025h1.staging.ct.transparency.dev\n1432088532\n"
    "U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n\n"
    "— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGR"
    "EPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=\n"
    "— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzb"
    "C3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=\n"
    "— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzw"
    "Z2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==\n"
    "— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iE"
    "cxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==\n"
    "— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX"
    "9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==\n"
    "— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+A"
    "JmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==\n"
).encode()


def _signer(name: str, seed: bytes) -> NoteSigner:
    return NoteSigner(name, PrivateKey(Ed25519PrivateKey.from_private_bytes(seed)))


@pytest.mark.parametrize(
    ("note", "vkeys"),
    [(SPECIFICATION_NOTE, [SPECIFICATION_VKEY]), (GO_NOTE, GO_VKEYS)],
    ids=["the specification's", "Go's"],
)
def test_examples_of_notes(note: bytes, vkeys: list[str]) -> None:
    """All who signed are verified, and another text is not theirs."""
    verifiers = tuple(map(NoteVerifier.parse, vkeys))

    opened = open_note(note, verifiers)

    assert opened.text.encode() == note.partition(b"\n\n")[0] + b"\n"
    assert opened.verified == verifiers
    with pytest.raises(SignatureInvalidError):
        open_note(b"No: " + note, verifiers)


def test_a_second_signer_adds_the_line_that_go_adds() -> None:
    """Both signatures, byte for byte."""
    text = open_note(GO_NOTE, [NoteVerifier.parse(GO_VKEYS[0])]).text
    names = [vkey.partition("+")[0] for vkey in GO_VKEYS]

    assert sign_note(text, list(map(_signer, names, GO_SEEDS))) == GO_NOTE


@pytest.mark.parametrize("size", TESSERA_CHECKPOINTS)
def test_the_checkpoints_of_tessera_are_ours(size: int) -> None:
    """The same leaves and key give the same signed checkpoint, byte for byte."""
    root, signature = TESSERA_CHECKPOINTS[size]
    leaves = [merkle.leaf_hash(leaf.encode()) for leaf in TESSERA_LEAVES[:size]]
    checkpoint = Checkpoint(TESSERA_NAME, size, merkle.root_of(leaves))
    theirs = f"{TESSERA_NAME}\n{size}\n{root}\n\n— {TESSERA_NAME} {signature}\n".encode()

    signer = _signer(TESSERA_NAME, TESSERA_SEED)

    assert verify_checkpoint(theirs, signer.verifier) == checkpoint
    assert sign_checkpoint(checkpoint, signer) == theirs


COSIGNED = [
    (SUNLIGHT_CHECKPOINT, SUNLIGHT_WITNESS, datetime(2025, 12, 31, tzinfo=UTC)),
    *(
        (ARCHE_CHECKPOINT, vkey, datetime(2026, 5, 23, 21, 50, 24, tzinfo=UTC))
        for vkey in ARCHE_WITNESSES
    ),
]


@pytest.mark.parametrize(("note", "vkey", "seen"), COSIGNED, ids=[vkey for _, vkey, _ in COSIGNED])
def test_cosignatures_of_witnesses(note: bytes, vkey: str, seen: datetime) -> None:
    """Of Sunlight's test witness, and of four that run in public; another size is not theirs."""
    witness = WitnessVerifier.parse(vkey)

    assert verify_cosignature(note, witness) == seen
    with pytest.raises(SignatureInvalidError):
        verify_cosignature(note.replace(b"\n", b"\n1", 1), witness)


def test_a_checkpoint_of_a_public_log() -> None:
    """Its signature holds among those of other types and of witnesses."""
    log = NoteVerifier.parse(ARCHE_VKEY)

    checkpoint = verify_checkpoint(ARCHE_CHECKPOINT, log)

    assert (checkpoint.origin, checkpoint.size) == (log.name, 1_432_088_532)
    with pytest.raises(SignatureInvalidError):
        verify_checkpoint(ARCHE_CHECKPOINT.replace(b"\n14", b"\n24"), log)


def _read(path: str) -> bytes:
    return (VECTORS / path).read_bytes()


LOG = NoteVerifier.parse(_read("keys/log.vkey").decode().strip())
WITNESS = WitnessVerifier.parse(_read("keys/witness.vkey").decode().strip())
BY_HAND = {"README.md", "make.py", ".gitattributes"}


def test_our_vectors_are_made_by_this_code() -> None:
    """Byte for byte, none is missing, and none is left of another time."""
    made = make_files()
    found = {
        str(path.relative_to(VECTORS)): path.read_bytes()
        for path in VECTORS.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }

    assert found.keys() == made.keys() | BY_HAND
    assert [path for path, data in made.items() if found[path] != data] == []


def _checkpoint(size: int | str) -> Checkpoint:
    return verify_checkpoint(_read(f"checkpoints/{size}"), LOG)


def test_our_checkpoints() -> None:
    """At every size that has one; the empty log's is over the empty string."""
    assert [_checkpoint(size).size for size in SIZES] == list(SIZES)
    assert _checkpoint(0).root == merkle.EMPTY_ROOT
    assert _read("log/checkpoint") == _read(f"checkpoints/{SIZES[-1]}")


def _leaf(index: int) -> bytes:
    return _read("envelope.json") if index == 0 else b"" if index == 1 else b"leaf %d" % index


def _files(pattern: str) -> list[str]:
    return sorted(str(path.relative_to(VECTORS)) for path in VECTORS.glob(pattern))


@pytest.mark.parametrize("path", _files("receipts/*"))
def test_our_receipts(path: str) -> None:
    """Each holds for its leaf, under the checkpoint of its size."""
    index, size = Path(path).stem.split("-of-")
    receipt = parse_receipt(_read(path))

    assert receipt.index == int(index)
    assert receipt.checkpoint == _read(f"checkpoints/{size}")
    assert verify_receipt(receipt, _leaf(int(index)), LOG).size == int(size)


@pytest.mark.parametrize("path", _files("consistency/*"))
def test_our_consistency_proofs(path: str) -> None:
    """Each leads from one checkpoint to the other, and none to the fork."""
    old, new = map(_checkpoint, Path(path).name.split("-to-"))
    fork = verify_checkpoint(_read("forked-checkpoint"), LOG)
    proof = [decode_base64(line, length=32) for line in _read(path).decode().splitlines()]

    def verify(target: Checkpoint) -> None:
        merkle.verify_consistency(
            old_size=old.size,
            old_root=old.root,
            new_size=target.size,
            new_root=target.root,
            proof=proof,
        )

    verify(new)
    with pytest.raises(ProofInvalidError):
        verify(fork)


def _members() -> list[PublicKey]:
    members = []
    for path in _files("keys/*.pem"):
        key = serialization.load_pem_public_key(_read(path))
        assert isinstance(key, Ed25519PublicKey)
        members.append(PublicKey(key.public_bytes_raw()))
    return members


def _unseal(data: bytes) -> bytes:
    return unseal(parse_envelope(data), _members(), payload_type=PAYLOAD_TYPE, threshold=2)


def test_our_cosigned_checkpoint_and_envelope() -> None:
    """By the public keys alone."""
    cosigned = _read("cosigned-checkpoint")

    assert verify_cosignature(cosigned, WITNESS) == datetime(2026, 11, 23, 10, tzinfo=UTC)
    assert verify_checkpoint(cosigned, LOG) == _checkpoint(SIZES[-1])
    assert _unseal(_read("envelope.json")) == b'{"log":"vectors.example/log","sequence":1}'


READERS: dict[str, Callable[[bytes], object]] = {
    "checkpoint": lambda data: verify_checkpoint(data, LOG),
    "cosigned": lambda data: verify_cosignature(data, WITNESS),
    "receipt": lambda data: verify_receipt(parse_receipt(data), _leaf(0), LOG),
    "envelope": _unseal,
    "vkey": lambda data: NoteVerifier.parse(data.decode().strip()),
}


@pytest.mark.parametrize(("path", "error"), json.loads(_read("refused/expected.json")).items())
def test_what_is_to_be_refused(path: str, error: str) -> None:
    """With the error that is promised, and no wider one."""
    read = READERS[path.partition("/")[0]]

    with pytest.raises(errors.HashshareError) as refusal:
        read(_read(f"refused/{path}"))
    assert type(refusal.value).__name__ == error

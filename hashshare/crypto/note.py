"""Signed notes and the log's checkpoints.

Source: C2SP signed-note v1.0.0 and tlog-checkpoint v1.0.0.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from hashshare.crypto.encoding import decode_base64, encode_base64
from hashshare.crypto.keys import PrivateKey, PublicKey
from hashshare.errors import MalformedError, MixAndMatchError, SignatureInvalidError

ED25519: Final = 0x01
MAX_NOTE_BYTES: Final = 64 * 1024
MAX_SIGNATURES: Final = 64

_NAME: Final = re.compile(r"[^\s+\x00-\x1f\x7f]+")
_SIGNATURE: Final = re.compile(r"— (\S+) (\S+)")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    """A key that signs notes, by the name under which it does.

    Attributes:
        name: For a log, its origin.
        public: The key.
    """

    name: str
    public: PublicKey

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a *vkey*, ``name+keyid+base64(type || key)``.

        Raises:
            MalformedError: ``text`` is not that, or its key id is wrong.
            KeyUnsafeError: The key is unsafe.
        """
        parts = text.split("+", 2)
        if len(parts) != 3 or not _NAME.fullmatch(parts[0]) or not _KEY_ID.fullmatch(parts[1]):
            raise MalformedError("a verifier key is written NAME+KEYID+BASE64")
        data = decode_base64(parts[2], length=33)
        if data[0] != ED25519:
            raise MalformedError(f"unknown type of verifier key: {data[0]}")
        verifier = cls(parts[0], PublicKey(data[1:]))
        if verifier.key_id.hex() != parts[1]:
            raise MalformedError("the key id is not that of the key")
        return verifier

    def __str__(self) -> str:
        data = bytes([ED25519]) + self.public.raw
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(data)}"

    @property
    def key_id(self) -> bytes:
        """4 bytes that let a reader find the key."""
        data = self.name.encode() + b"\n" + bytes([ED25519]) + self.public.raw
        return hashlib.sha256(data).digest()[:4]


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """Signs notes under a name."""

    name: str
    key: PrivateKey

    @property
    def verifier(self) -> NoteVerifier:
        """What others verify its notes with."""
        return NoteVerifier(self.name, self.key.public)

    def sign(self, text: str) -> str:
        """Return the signature line over ``text``, with its line feed."""
        signature = self.verifier.key_id + self.key.sign(text.encode())
        return f"— {self.name} {encode_base64(signature)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text, and the verifiers whose signatures over it are valid."""

    text: str
    verified: tuple[NoteVerifier, ...]


def sign_note(text: str, signers: Sequence[NoteSigner]) -> bytes:
    """Return ``text``, which ends with a line feed, signed by each signer."""
    return (text + "\n" + "".join(signer.sign(text) for signer in signers)).encode()


def open_note(data: bytes, verifiers: Iterable[NoteVerifier]) -> Note:
    """Return the text of a note, trusted because one of ``verifiers`` signed it.

    Signatures of others are ignored. One that claims to be of a known verifier and is not
    valid refuses the note.

    Raises:
        MalformedError: ``data`` is no note.
        SignatureInvalidError: None of ``verifiers`` signed it, or a signature is false.
    """
    text, lines = _split(data)
    known = {(v.name, v.key_id): v for v in verifiers}
    verified: list[NoteVerifier] = []
    seen: set[tuple[str, bytes]] = set()
    for line in lines:
        name, signature = _parse_signature(line)
        claim = (name, signature[:4])
        if claim in seen:
            raise MalformedError("a note has one signature of each key")
        seen.add(claim)
        if (verifier := known.get(claim)) is not None:
            verifier.public.verify(signature[4:], text.encode())
            verified.append(verifier)
    if not verified:
        raise SignatureInvalidError("the note has no signature of a known key")
    return Note(text, tuple(verified))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log commits to: its first ``size`` leaves have this root.

    Attributes:
        origin: Names the log.
        size: Number of leaves.
        root: 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the text of the note."""
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"


def sign_checkpoint(checkpoint: Checkpoint, signer: NoteSigner) -> bytes:
    """Return the signed note; always the same bytes for the same checkpoint and key."""
    return sign_note(checkpoint.text(), [signer])


def verify_checkpoint(data: bytes, verifier: NoteVerifier) -> Checkpoint:
    """Return the checkpoint in a note, now trusted.

    Args:
        data: As it came from the network.
        verifier: The log's key; its name is the origin.

    Raises:
        MalformedError: ``data`` is no note, or no checkpoint.
        SignatureInvalidError: The log did not sign it.
        MixAndMatchError: It is of another log.
    """
    checkpoint = parse_checkpoint(open_note(data, [verifier]).text)
    if checkpoint.origin != verifier.name:
        raise MixAndMatchError(f"a checkpoint of {checkpoint.origin!r:.80}, not {verifier.name!r}")
    return checkpoint


def parse_checkpoint(text: str) -> Checkpoint:
    """Return the checkpoint that a note's text spells; extension lines are refused.

    Raises:
        MalformedError: It spells none.
    """
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:
        raise MalformedError("a checkpoint has three lines: origin, size, root")
    if not lines[0] or not _SIZE.fullmatch(lines[1]):
        raise MalformedError("a checkpoint has an origin, and a decimal size")
    return Checkpoint(lines[0], int(lines[1]), decode_base64(lines[2], length=32))


def _split(data: bytes) -> tuple[str, list[str]]:
    """Return the text, with its last line feed, and the signature lines."""
    if len(data) > MAX_NOTE_BYTES:
        raise MalformedError(f"a note of {len(data)} bytes; at most {MAX_NOTE_BYTES} are accepted")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError("a note is UTF-8") from error
    if any(ord(c) < 0x20 and c != "\n" for c in whole):
        raise MalformedError("a note has no control characters but line feeds")
    # The last blank line, since the text may hold blank lines.
    text, separator, signatures = whole.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise MalformedError("a note is a text, a blank line, and signature lines")
    lines = signatures[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise MalformedError(f"a note has at most {MAX_SIGNATURES} signatures")
    return text + "\n", lines


def _parse_signature(line: str) -> tuple[str, bytes]:
    match = _SIGNATURE.fullmatch(line)
    if match is None or not _NAME.fullmatch(match[1]):
        raise MalformedError("not a signature line of a note")
    signature = decode_base64(match[2])
    if len(signature) < 5:
        raise MalformedError("a note's signature is too short")
    return match[1], signature

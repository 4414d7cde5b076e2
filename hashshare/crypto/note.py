"""Signed notes and the log's checkpoints.

Source: C2SP signed-note v1.0.0 and tlog-checkpoint v1.0.0.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

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
class NamedKey:
    """A key by the name under which it signs notes, in one way of signing.

    Attributes:
        name: For a log, its origin.
        public: The key.
        kind: The type byte of signed-note.

    Raises:
        MalformedError: The name is empty, or holds a space, a plus or a control character.
    """

    kind: ClassVar[int]

    name: str
    public: PublicKey

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise MalformedError(f"not a name of a key that signs notes: {self.name!r:.40}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a *vkey*, ``name+keyid+base64(type || key)``.

        Raises:
            MalformedError: ``text`` is not that, or its key id or type is wrong.
            KeyUnsafeError: The key is unsafe.
        """
        parts = text.split("+", 2)
        if len(parts) != 3 or not _KEY_ID.fullmatch(parts[1]):
            raise MalformedError("a verifier key is written NAME+KEYID+BASE64")
        data = decode_base64(parts[2], length=33)
        if data[0] != cls.kind:
            raise MalformedError(f"expected a verifier key of type {cls.kind}, not {data[0]}")
        key = cls(parts[0], PublicKey(data[1:]))
        if key.key_id.hex() != parts[1]:
            raise MalformedError("the key id is not that of the key")
        return key

    def __str__(self) -> str:
        data = bytes([self.kind]) + self.public.raw
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(data)}"

    @property
    def key_id(self) -> bytes:
        """4 bytes that let a reader find the key."""
        data = self.name.encode() + b"\n" + bytes([self.kind]) + self.public.raw
        return hashlib.sha256(data).digest()[:4]


@dataclass(frozen=True, slots=True)
class NoteVerifier(NamedKey):
    """A key whose signatures are over the text of a note."""

    kind: ClassVar[int] = ED25519


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """What a signature line says: who claims to have signed, and the signature."""

    name: str
    key_id: bytes
    value: bytes

    def __str__(self) -> str:
        return f"— {self.name} {encode_base64(self.key_id + self.value)}"


@dataclass(frozen=True, slots=True)
class SignedText:
    """A note as it is written, none of its signatures verified yet.

    Attributes:
        text: Ends with a line feed.
        signatures: At least one; each name and key id once.
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    def by(self, key: NamedKey) -> NoteSignature:
        """Return the signature that claims to be of ``key``.

        Raises:
            SignatureInvalidError: There is none.
        """
        for signature in self.signatures:
            if (signature.name, signature.key_id) == (key.name, key.key_id):
                return signature
        raise SignatureInvalidError(f"the note has no signature of {key}")

    def encode(self) -> bytes:
        """Return the one byte form."""
        return "\n".join([self.text, *map(str, self.signatures), ""]).encode()


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """Signs notes under a name."""

    name: str
    key: PrivateKey

    @property
    def verifier(self) -> NoteVerifier:
        """What others verify its notes with."""
        return NoteVerifier(self.name, self.key.public)

    def sign(self, text: str) -> NoteSignature:
        """Return the signature over ``text``."""
        return NoteSignature(self.name, self.verifier.key_id, self.key.sign(text.encode()))


@dataclass(frozen=True, slots=True)
class Note:
    """A text, and the verifiers whose signatures over it are valid."""

    text: str
    verified: tuple[NoteVerifier, ...]


def sign_note(text: str, signers: Sequence[NoteSigner]) -> bytes:
    """Return ``text``, which ends with a line feed, signed by each signer."""
    return SignedText(text, tuple(signer.sign(text) for signer in signers)).encode()


def parse_note(data: bytes) -> SignedText:
    """Return the note whose one byte form is ``data``; nothing in it is verified.

    Raises:
        MalformedError: ``data`` is not that, or is too long.
    """
    text, lines = _split(data)
    signatures = tuple(_parse_signature(line) for line in lines)
    if len({(s.name, s.key_id) for s in signatures}) != len(signatures):
        raise MalformedError("a note has one signature of each key")
    return SignedText(text, signatures)


def open_note(data: bytes, verifiers: Iterable[NoteVerifier]) -> Note:
    """Return the text of a note, trusted because one of ``verifiers`` signed it.

    Signatures of others are ignored. One that claims to be of a known verifier and is not
    valid refuses the note.

    Raises:
        MalformedError: ``data`` is no note.
        SignatureInvalidError: None of ``verifiers`` signed it, or a signature is false.
    """
    note = parse_note(data)
    known = {(v.name, v.key_id): v for v in verifiers}
    verified: list[NoteVerifier] = []
    for signature in note.signatures:
        if (verifier := known.get((signature.name, signature.key_id))) is not None:
            verifier.public.verify(signature.value, note.text.encode())
            verified.append(verifier)
    if not verified:
        raise SignatureInvalidError("the note has no signature of a known key")
    return Note(note.text, tuple(verified))


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


def sign_checkpoint(checkpoint: Checkpoint, *signers: NoteSigner) -> bytes:
    """Return the signed note; always the same bytes for the same checkpoint and keys."""
    return sign_note(checkpoint.text(), signers)


def verify_checkpoint(data: bytes, *verifiers: NoteVerifier) -> Checkpoint:
    """Return the checkpoint in a note, now trusted.

    Args:
        data: As it came from the network.
        verifiers: The log's keys, of which one is enough; their name is the origin.

    Raises:
        MalformedError: ``data`` is no note, or no checkpoint.
        SignatureInvalidError: The log did not sign it.
        MixAndMatchError: It is of another log.
    """
    checkpoint = parse_checkpoint(open_note(data, verifiers).text)
    names = {verifier.name for verifier in verifiers}
    if names != {checkpoint.origin}:
        raise MixAndMatchError(f"a checkpoint of {checkpoint.origin!r:.80}, not of {names}")
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
    if any(c < " " and c != "\n" for c in whole):
        raise MalformedError("a note has no control characters but line feeds")
    # The last blank line, since the text may hold blank lines.
    text, separator, signatures = whole.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise MalformedError("a note is a text, a blank line, and signature lines")
    lines = signatures[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise MalformedError(f"a note has at most {MAX_SIGNATURES} signatures")
    return text + "\n", lines


def _parse_signature(line: str) -> NoteSignature:
    match = _SIGNATURE.fullmatch(line)
    if match is None or not _NAME.fullmatch(match[1]):
        raise MalformedError("not a signature line of a note")
    data = decode_base64(match[2])
    if len(data) < 5:
        raise MalformedError("a note's signature is too short")
    return NoteSignature(match[1], data[:4], data[4:])

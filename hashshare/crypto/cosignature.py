"""Cosignatures: what a witness says of a log's checkpoint, and when.

Source: C2SP tlog-cosignature v1.0.1, type 0x04 (Ed25519, ``cosignature/v1``).
"""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, Final

from hashshare.crypto.keys import PrivateKey
from hashshare.crypto.note import NamedKey, NoteSignature, parse_checkpoint, parse_note
from hashshare.errors import MalformedError, SignatureInvalidError

COSIGNATURE: Final = 0x04
_VALUE: Final = struct.Struct(">Q64s")


@dataclass(frozen=True, slots=True)
class WitnessVerifier(NamedKey):
    """A witness's key. It must be used for nothing else: what it signs does not hold its name."""

    kind: ClassVar[int] = COSIGNATURE


@dataclass(frozen=True, slots=True)
class Witness:
    """Cosigns checkpoints. Whether the log only grew is for the caller to know."""

    name: str
    key: PrivateKey

    @property
    def verifier(self) -> WitnessVerifier:
        """What others verify its cosignatures with."""
        return WitnessVerifier(self.name, self.key.public)

    def cosign(self, text: str, *, now: datetime) -> NoteSignature:
        """Return the line that says: as of ``now``, this is the largest consistent tree seen.

        Persist that it was seen before the line is sent.

        Args:
            text: Of a checkpoint whose log's signature was verified.
            now: Aware, 1970 or later; fractions of a second are cut off.
        """
        # Not int(now.timestamp()): a float rounds up just before a second is full.
        seconds = int(now.replace(microsecond=0).timestamp())
        signature = self.key.sign(_message(seconds, text))
        value = _VALUE.pack(seconds, signature)
        return NoteSignature(self.name, self.verifier.key_id, value)


def verify_cosignature(data: bytes, witness: WitnessVerifier) -> datetime:
    """Return when ``witness`` saw the checkpoint in a note; aware, UTC.

    Only that is verified: for the log's own signature, see ``note.verify_checkpoint``.

    Args:
        data: A signed checkpoint as it came from the network.
        witness: Whose cosignature is wanted. Lines of others are ignored.

    Raises:
        MalformedError: ``data`` is no checkpoint, or the cosignature has not its form.
        SignatureInvalidError: The witness did not cosign it.
    """
    note = parse_note(data)
    parse_checkpoint(note.text)
    for line in note.signatures:
        if (line.name, line.key_id) == (witness.name, witness.key_id):
            return _verify_line(line, note.text, witness)
    raise SignatureInvalidError("the checkpoint has no cosignature of this witness")


def _verify_line(line: NoteSignature, text: str, witness: WitnessVerifier) -> datetime:
    if len(line.value) != _VALUE.size:
        raise MalformedError(f"a cosignature has {_VALUE.size} bytes, not {len(line.value)}")
    seconds, signature = _VALUE.unpack(line.value)
    witness.public.verify(signature, _message(seconds, text))
    try:
        return datetime.fromtimestamp(seconds, tz=UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise MalformedError("the time of the cosignature is out of range") from error


def _message(seconds: int, text: str) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()

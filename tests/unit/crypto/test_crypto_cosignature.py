"""Cosignatures of witnesses: over which checkpoint, by whom, and when."""

import base64
import struct
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hashshare.crypto.cosignature import Witness, WitnessVerifier, verify_cosignature
from hashshare.crypto.keys import PrivateKey, PublicKey
from hashshare.crypto.note import (
    Checkpoint,
    NoteSignature,
    NoteSigner,
    NoteVerifier,
    SignedText,
    parse_note,
    sign_checkpoint,
    sign_note,
    verify_checkpoint,
)
from hashshare.errors import MalformedError, SignatureInvalidError, VerificationError

LOG = NoteSigner("coalition.example/log", PrivateKey.generate())
WITNESS = Witness("acme.example/witness", PrivateKey.generate())
NOW = datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)
CHECKPOINT = Checkpoint(LOG.name, 70_000, bytes(range(32)))

# The key of the Go project's witness, from the tests of transparency-dev/formats.
EXAMPLE_VKEY = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"


def _cosigned(text: str = CHECKPOINT.text(), now: datetime = NOW) -> bytes:
    return SignedText(text, (LOG.sign(text), WITNESS.cosign(text, now=now))).encode()


@example(datetime(2515, 1, 1, microsecond=999_999, tzinfo=UTC))
@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_cosignature_says_when(now: datetime) -> None:
    """In whole seconds; and it does not disturb the log's own signature."""
    data = _cosigned(now=now)

    assert verify_cosignature(data, WITNESS.verifier) == now.replace(microsecond=0)
    assert verify_checkpoint(data, LOG.verifier) == CHECKPOINT


def test_the_time_is_utc() -> None:
    """Whatever zone the witness is in."""
    local = NOW.astimezone(timezone(timedelta(hours=-5)))

    assert _cosigned(now=local) == _cosigned()
    assert verify_cosignature(_cosigned(now=local), WITNESS.verifier).tzinfo is UTC


def test_the_signed_message() -> None:
    """tlog-cosignature: two lines, then the text of the checkpoint."""
    value = WITNESS.cosign(CHECKPOINT.text(), now=NOW).value
    message = f"cosignature/v1\ntime 1795428000\n{CHECKPOINT.text()}".encode()

    assert value[:8] == (1_795_428_000).to_bytes(8, "big")
    WITNESS.key.public.verify(value[8:], message)


def test_a_witness_key_is_of_its_own_type() -> None:
    """It is read as it was written, and not taken for the key of a log, nor the other way."""
    assert str(WitnessVerifier.parse(EXAMPLE_VKEY)) == EXAMPLE_VKEY
    assert WitnessVerifier.parse(str(WITNESS.verifier)) == WITNESS.verifier
    with pytest.raises(MalformedError):
        NoteVerifier.parse(str(WITNESS.verifier))
    with pytest.raises(MalformedError):
        WitnessVerifier.parse(str(LOG.verifier))
    assert NoteVerifier(WITNESS.name, WITNESS.key.public).key_id != WITNESS.verifier.key_id


def test_a_cosignature_is_no_signature_of_the_text() -> None:
    """A witness that is also a log does not sign checkpoints of its own by cosigning."""
    line = WITNESS.cosign(CHECKPOINT.text(), now=NOW)
    verifier = NoteVerifier(WITNESS.name, WITNESS.key.public)
    relabelled = NoteSignature(line.name, verifier.key_id, line.value[8:])
    data = SignedText(CHECKPOINT.text(), (relabelled,)).encode()

    with pytest.raises(SignatureInvalidError):
        verify_checkpoint(data, verifier)


def test_one_flipped_bit_anywhere_is_refused() -> None:
    """Of a checkpoint that only the witness cosigned."""
    text = CHECKPOINT.text()
    data = SignedText(text, (WITNESS.cosign(text, now=NOW),)).encode()
    verify_cosignature(data, WITNESS.verifier)

    for bit in range(8 * len(data)):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises((MalformedError, VerificationError)):
            verify_cosignature(bytes(spoilt), WITNESS.verifier)


def test_the_witness_must_have_cosigned() -> None:
    """The log alone is not enough, nor another key under the witness's name."""
    other = WitnessVerifier(WITNESS.name, PrivateKey.generate().public)

    for data, verifier in (
        (sign_checkpoint(CHECKPOINT, LOG), WITNESS.verifier),
        (_cosigned(), other),
    ):
        with pytest.raises(SignatureInvalidError):
            verify_cosignature(data, verifier)


def _claim(value: bytes) -> bytes:
    line = NoteSignature(WITNESS.name, WITNESS.verifier.key_id, value)
    return SignedText(CHECKPOINT.text(), (line,)).encode()


@pytest.mark.parametrize("length", [1, 64, 71, 73])
def test_a_cosignature_has_72_bytes(length: int) -> None:
    """A time and a signature."""
    with pytest.raises(MalformedError):
        verify_cosignature(_claim(bytes(length)), WITNESS.verifier)


@pytest.mark.parametrize("seconds", [253_402_300_800, 2**63 - 1, 2**64 - 1])
def test_a_time_beyond_the_calendar_is_refused(seconds: int) -> None:
    """Though it is well signed: no year 10000, and no other error."""
    message = f"cosignature/v1\ntime {seconds}\n{CHECKPOINT.text()}".encode()
    value = struct.pack(">Q", seconds) + WITNESS.key.sign(message)

    with pytest.raises(MalformedError):
        verify_cosignature(_claim(value), WITNESS.verifier)


def test_only_checkpoints_are_cosigned() -> None:
    """Another text, well signed, is not one."""
    text = "anything\n"
    data = SignedText(text, (WITNESS.cosign(text, now=NOW),)).encode()

    for malformed in (data, sign_note(text, [LOG]), b""):
        with pytest.raises(MalformedError):
            verify_cosignature(malformed, WITNESS.verifier)


def test_the_example_of_the_specification_has_its_form() -> None:
    """The keys are not known, but all lines are read, and written as they were."""
    data = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/"
        "Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
        "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJs"
        "X3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
    ).encode()

    note = parse_note(data)

    assert note.encode() == data
    assert len(note.signatures[1].value) == 72
    assert int.from_bytes(note.signatures[1].value[:8], "big") == 1_679_315_147


def test_an_unsafe_witness_key_is_refused() -> None:
    """As for every key."""
    assert base64.b64decode(EXAMPLE_VKEY.split("+", 2)[2])[0] == 4
    with pytest.raises(VerificationError):
        WitnessVerifier("w", PublicKey(b"\x01" + bytes(31)))

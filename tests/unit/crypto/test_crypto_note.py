"""Signed notes and checkpoints: what is trusted, and that they have one form."""

import base64
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from hashshare.crypto.keys import PrivateKey, PublicKey
from hashshare.crypto.note import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    Checkpoint,
    NoteSigner,
    NoteVerifier,
    open_note,
    parse_checkpoint,
    parse_note,
    sign_checkpoint,
    sign_note,
    verify_checkpoint,
)
from hashshare.errors import (
    KeyUnsafeError,
    MalformedError,
    MixAndMatchError,
    SignatureInvalidError,
    VerificationError,
)

# The example in the documentation of golang.org/x/mod/sumdb/note.
EXAMPLE_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
EXAMPLE_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
EXAMPLE_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
EXAMPLE_NOTE = (
    EXAMPLE_TEXT + "\n— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()

ORIGIN = "coalition.example/log"
LOG = NoteSigner(ORIGIN, PrivateKey.generate())
OTHER = NoteSigner("other.example/log", PrivateKey.generate())
CHECKPOINT = Checkpoint(ORIGIN, 70_000, bytes(range(32)))
NOTE = sign_checkpoint(CHECKPOINT, LOG)

texts = st.text(st.characters(exclude_categories=["Cc", "Cs"], include_characters="\n")).map(
    lambda text: text + "\n"
)
names = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1
).filter(lambda name: "+" not in name)
checkpoints = st.builds(
    Checkpoint,
    origin=names,
    size=st.integers(0, 10**18 - 1),
    root=st.binary(min_size=32, max_size=32),
)


def test_the_example_note_is_ours() -> None:
    """The same key gives the same note, byte for byte, and the same verifier key."""
    signer = NoteSigner(
        "PeterNeumann", PrivateKey(Ed25519PrivateKey.from_private_bytes(EXAMPLE_SEED))
    )

    assert sign_note(EXAMPLE_TEXT, [signer]) == EXAMPLE_NOTE
    assert str(signer.verifier) == EXAMPLE_VKEY


def test_the_example_note_is_verified() -> None:
    """With the verifier key alone."""
    verifier = NoteVerifier.parse(EXAMPLE_VKEY)

    note = open_note(EXAMPLE_NOTE, [verifier])

    assert (note.text, note.verified) == (EXAMPLE_TEXT, (verifier,))


@given(names)
def test_a_verifier_key_is_read_as_it_was_written(name: str) -> None:
    """Printing and parsing are inverse."""
    verifier = NoteVerifier(name, LOG.key.public)

    assert NoteVerifier.parse(str(verifier)) == verifier


@pytest.mark.parametrize("place", range(len(EXAMPLE_VKEY)))
def test_a_mangled_verifier_key_is_refused(place: int) -> None:
    """Another character anywhere, one missing, or the rest missing."""
    before, after = EXAMPLE_VKEY[:place], EXAMPLE_VKEY[place + 1 :]
    for mangled in (f"{before}{chr(ord(EXAMPLE_VKEY[place]) + 1)}{after}", before + after, before):
        with pytest.raises((MalformedError, KeyUnsafeError)):
            NoteVerifier.parse(mangled)


@given(st.text() | st.text("ab+/=0123456789", max_size=80))
def test_any_text_is_a_verifier_key_or_refused(text: str) -> None:
    """No other error comes out."""
    with suppress(MalformedError, KeyUnsafeError):
        assert str(NoteVerifier.parse(text)) == text


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\n", "a\u00a0b", "a\u2003b", "a\0"])
def test_a_name_can_be_told_from_the_rest_of_its_line(name: str) -> None:
    """Nothing is verified or signed under another one."""
    with pytest.raises(MalformedError):
        NoteVerifier(name, LOG.key.public)
    with pytest.raises(MalformedError):
        sign_note("text\n", [NoteSigner(name, LOG.key)])


def test_an_unsafe_verifier_key_is_refused() -> None:
    """The point of order 1 signs everything."""
    type_and_identity = base64.b64encode(b"\x01\x01" + bytes(31)).decode()

    with pytest.raises(KeyUnsafeError):
        NoteVerifier.parse(f"log+00000000+{type_and_identity}")


@given(texts)
def test_a_note_is_read_as_it_was_written(text: str) -> None:
    """Also with blank lines in its text, and with several signatures."""
    data = sign_note(text, [LOG, OTHER])

    assert parse_note(data).encode() == data
    assert open_note(data, [LOG.verifier, OTHER.verifier]).text == text


def test_one_flipped_bit_anywhere_is_refused() -> None:
    """Every single one of a checkpoint's note."""
    for bit in range(8 * len(NOTE)):
        spoilt = bytearray(NOTE)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises((MalformedError, VerificationError)):
            verify_checkpoint(bytes(spoilt), LOG.verifier)


@given(st.binary() | texts.map(lambda text: sign_note(text, [LOG])), st.data())
def test_any_bytes_are_a_note_or_malformed(data: bytes, draw: st.DataObject) -> None:
    """No other error comes out, and what is accepted is written as it was."""
    cut = draw.draw(st.integers(0, len(data)))

    for candidate in (data, data[:cut], data[cut:]):
        with suppress(MalformedError):
            assert parse_note(candidate).encode() == candidate


def _line(name: str, data: bytes) -> bytes:
    return f"— {name} {base64.b64encode(data).decode()}\n".encode()


MALFORMED = {
    "nothing": b"",
    "no signature": b"text\n\n",
    "no text": _line("a", bytes(68)),
    "no blank line": b"text\n" + _line("a", bytes(68)),
    "no last line feed": (b"text\n\n" + _line("a", bytes(68)))[:-1],
    "a blank line after it": b"text\n\n" + _line("a", bytes(68)) + b"\n",
    "carriage returns": b"text\r\n\r\n" + _line("a", bytes(68)),
    "a tab": b"te\txt\n\n" + _line("a", bytes(68)),
    "a zero byte": b"te\0xt\n\n" + _line("a", bytes(68)),
    "bad UTF-8": b"te\xffxt\n\n" + _line("a", bytes(68)),
    "a hyphen for the dash": b"text\n\n- a " + base64.b64encode(bytes(68)) + b"\n",
    "two spaces": "text\n\n—  a AAAAAAA=\n".encode(),
    "three parts": "text\n\n— a b AAAAAAA=\n".encode(),
    "a name with a plus": b"text\n\n" + _line("a+b", bytes(68)),
    "a name with a wide space": b"text\n\n" + _line("a\u2003b", bytes(68)),
    "not base64": "text\n\n— a AAAA!AA=\n".encode(),
    "another spelling of base64": "text\n\n— a AAAAAAB=\n".encode(),
    "only a key id": b"text\n\n" + _line("a", bytes(4)),
    "a key twice": b"text\n\n" + _line("a", bytes(68)) + _line("a", bytes(67) + b"\1"),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_other_forms_are_refused(data: bytes) -> None:
    """Each breaks a rule of signed-note, or spells a note another way."""
    with pytest.raises(MalformedError):
        open_note(data, [LOG.verifier])


def test_a_note_has_a_limit() -> None:
    """In bytes and in signatures; 64 are accepted, the specification asks for 16."""
    own, others = sign_note("text\n", [LOG]), [_line(f"w{i}", bytes(68)) for i in range(64)]

    assert open_note(own + b"".join(others[: MAX_SIGNATURES - 1]), [LOG.verifier]).text == "text\n"
    with pytest.raises(MalformedError):
        open_note(own + b"".join(others[:MAX_SIGNATURES]), [LOG.verifier])
    with pytest.raises(MalformedError):
        open_note(b"x" * MAX_NOTE_BYTES + own, [LOG.verifier])


def test_unknown_signatures_are_ignored() -> None:
    """Even false ones, and those that share the name or the key id, but not both."""
    key_id, name = LOG.verifier.key_id, LOG.name
    same_name, same_id = _line(name, bytes(68)), _line("else.example", key_id + bytes(64))

    assert open_note(NOTE + same_name + same_id, [LOG.verifier]).verified == (LOG.verifier,)


def test_a_known_key_that_fails_refuses_the_note() -> None:
    """Though another known key signed it."""
    data = sign_note("text\n", [LOG]) + _line(OTHER.name, OTHER.verifier.key_id + bytes(64))

    with pytest.raises(SignatureInvalidError):
        open_note(data, [LOG.verifier, OTHER.verifier])


def test_somebody_known_must_have_signed() -> None:
    """A note of others is not trusted, nor when nobody is known."""
    for verifiers in ([OTHER.verifier], []):
        with pytest.raises(SignatureInvalidError):
            open_note(NOTE, verifiers)


def test_a_short_signature_of_a_known_key_is_refused() -> None:
    """It is well formed, since other kinds of signatures have other lengths."""
    with pytest.raises(SignatureInvalidError):
        open_note(b"text\n\n" + _line(LOG.name, LOG.verifier.key_id + b"x"), [LOG.verifier])


@given(checkpoints)
def test_a_checkpoint_is_read_as_it_was_written(checkpoint: Checkpoint) -> None:
    """And signing it again gives the same bytes."""
    signer = NoteSigner(checkpoint.origin, LOG.key)
    note = sign_checkpoint(checkpoint, signer)

    assert parse_checkpoint(checkpoint.text()) == checkpoint
    assert verify_checkpoint(note, signer.verifier) == checkpoint
    assert sign_checkpoint(checkpoint, signer) == note


ROOT = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        f"log\n1\n{ROOT}",  # no line feed at the end
        f"log\n1\n{ROOT}\nextension\n",
        f"log\n1\n{ROOT}\n\n",
        f"\n1\n{ROOT}\n",
        f"log\n\n{ROOT}\n",
        f"log\n01\n{ROOT}\n",
        f"log\n+1\n{ROOT}\n",
        f"log\n-1\n{ROOT}\n",
        f"log\n1 \n{ROOT}\n",
        f"log\n1_0\n{ROOT}\n",
        f"log\n١\n{ROOT}\n",
        f"log\n{'9' * 19}\n{ROOT}\n",
        f"log\n{'9' * 5000}\n{ROOT}\n",
        f"log\n1\n{ROOT[:-1]}\n",
        f"log\n1\n{base64.b64encode(bytes(31)).decode()}\n",
        "log\n1\n",
    ],
)
def test_other_checkpoints_are_refused(text: str) -> None:
    """Well signed, but not a checkpoint in its one form."""
    with pytest.raises(MalformedError):
        parse_checkpoint(text)
    with pytest.raises(MalformedError):
        verify_checkpoint(sign_note(text, [LOG]), LOG.verifier)


@given(st.text())
def test_any_text_is_a_checkpoint_or_malformed(text: str) -> None:
    """No other error comes out, and what is accepted prints as it was."""
    with suppress(MalformedError):
        assert parse_checkpoint(text).text() == text


def test_a_checkpoint_of_another_log_is_refused() -> None:
    """Though this log's key signed it."""
    foreign = Checkpoint("other.example/log", 1, bytes(32))

    with pytest.raises(MixAndMatchError):
        verify_checkpoint(sign_checkpoint(foreign, LOG), LOG.verifier)


def test_a_checkpoint_by_another_key_is_refused() -> None:
    """Also under the log's name, and by its key under another name."""
    for signer in (NoteSigner(ORIGIN, OTHER.key), NoteSigner("other.example/log", LOG.key), OTHER):
        with pytest.raises(SignatureInvalidError):
            verify_checkpoint(sign_checkpoint(CHECKPOINT, signer), LOG.verifier)


def test_the_key_id_is_that_of_name_and_key() -> None:
    """The first four bytes of a digest over name, type and key."""
    public = PublicKey(LOG.key.public.raw)

    assert NoteVerifier("a", public).key_id != NoteVerifier("b", public).key_id
    assert NoteVerifier("a", public).key_id != NoteVerifier("a", OTHER.key.public).key_id
    assert len(LOG.verifier.key_id) == 4

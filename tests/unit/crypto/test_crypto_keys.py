"""Keys: which are safe, what they sign, and the files they are kept in."""

import hashlib
import os
import resource
import signal
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_core_ed25519_add

from hashshare.crypto.keys import (
    PrivateKey,
    PublicKey,
    prove_possession,
    read_private_key,
    verify_possession,
    write_private_key,
)
from hashshare.errors import KeyUnsafeError, MalformedError, SignatureInvalidError

KEY = PrivateKey.generate()

# RFC 8032 section 7.1, test 2.
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)

ORDER = 2**252 + 27742317777372353535851937790883648493

SMALL_ORDER = {
    "order 1": "01" + "00" * 31,
    "order 2": "ec" + "ff" * 30 + "7f",
    "order 4": "00" * 32,
    "order 4, negative": "00" * 31 + "80",
    "order 8": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "order 8, negative": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "order 8, other": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "order 8, other, negative": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
}
NOT_CANONICAL = {
    "order 1, negative zero": "01" + "00" * 30 + "80",
    "order 1, y = p + 1": "ee" + "ff" * 30 + "7f",
    "order 1, y = p + 1, negative zero": "ee" + "ff" * 31,
    "order 2, negative zero": "ec" + "ff" * 31,
    "order 4, y = p": "ed" + "ff" * 30 + "7f",
    "order 4, y = p, negative": "ed" + "ff" * 31,
}
NOT_POINTS = {"y = 2": "02" + "00" * 31, "y = 7": "07" + "00" * 31}
UNSAFE = SMALL_ORDER | NOT_CANONICAL | NOT_POINTS


@pytest.mark.parametrize("encoded", UNSAFE.values(), ids=UNSAFE.keys())
def test_unsafe_keys_are_refused(encoded: str) -> None:
    """Every point of small order, in every encoding, and what is no point at all."""
    with pytest.raises(KeyUnsafeError):
        PublicKey(bytes.fromhex(encoded))


@pytest.mark.parametrize("encoded", list(SMALL_ORDER.values())[1:])
def test_keys_with_a_small_part_are_refused(encoded: str) -> None:
    """A good key to which a point of small order was added is not in the right group."""
    mixed = crypto_core_ed25519_add(KEY.public.raw, bytes.fromhex(encoded))

    with pytest.raises(KeyUnsafeError):
        PublicKey(mixed)


def test_why_they_are_refused() -> None:
    """With the identity as key, one signature fits every message; the library takes it."""
    identity = bytes.fromhex(SMALL_ORDER["order 1"])
    key = Ed25519PublicKey.from_public_bytes(identity)

    for message in (b"I said this", b"I never said that"):
        key.verify(identity + bytes(32), message)


@given(st.binary(max_size=40).filter(lambda raw: len(raw) != 32))
def test_a_key_has_32_bytes(raw: bytes) -> None:
    """Anything else is malformed."""
    with pytest.raises(MalformedError):
        PublicKey(raw)


@given(st.binary(min_size=32, max_size=32))
def test_any_32_bytes_are_a_key_or_unsafe(raw: bytes) -> None:
    """No other error comes out, and a key prints and parses."""
    try:
        key = PublicKey(raw)
    except KeyUnsafeError:
        return
    assert PublicKey.parse(key.text) == key


@pytest.mark.parametrize(
    "text",
    ["", "AAAA", KEY.public.text[:-1], KEY.public.text + "\n"],
    ids=["empty", "short", "no padding", "newline"],
)
def test_other_texts_are_no_keys(text: str) -> None:
    """A key has one spelling."""
    with pytest.raises(MalformedError):
        PublicKey.parse(text)


def test_the_key_id_is_that_of_the_public_key_info() -> None:
    """12 fixed bytes of DER stand before the key (RFC 8410 section 4)."""
    info = bytes.fromhex("302a300506032b6570032100") + KEY.public.raw

    assert KEY.public.key_id == hashlib.sha256(info).hexdigest()


def test_the_vector_of_rfc_8032() -> None:
    """Same key, same signature, and it verifies."""
    key = PrivateKey(Ed25519PrivateKey.from_private_bytes(SEED))

    assert key.public.raw == PUBLIC
    assert key.sign(b"\x72") == SIGNATURE
    key.public.verify(SIGNATURE, b"\x72")


@given(st.binary(), st.integers(0, 511))
def test_a_changed_signature_is_refused(message: bytes, bit: int) -> None:
    """Each of its bits counts."""
    signature = bytearray(KEY.sign(message))
    KEY.public.verify(bytes(signature), message)
    signature[bit // 8] ^= 1 << bit % 8

    with pytest.raises(SignatureInvalidError):
        KEY.public.verify(bytes(signature), message)


@given(st.binary(max_size=100))
def test_any_bytes_are_no_signature(signature: bytes) -> None:
    """Of whatever length."""
    with pytest.raises(SignatureInvalidError):
        KEY.public.verify(signature, b"message")


def test_a_signature_has_one_form() -> None:
    """Adding the group's order to its second half must not give another one (RFC 8032, 5.1.7)."""
    signature = KEY.sign(b"message")
    number = int.from_bytes(signature[32:], "little") + ORDER

    with pytest.raises(SignatureInvalidError):
        KEY.public.verify(signature[:32] + number.to_bytes(32, "little"), b"message")


def test_a_private_key_is_not_printed() -> None:
    """Neither in hex, nor as its PEM."""
    key = PrivateKey(Ed25519PrivateKey.from_private_bytes(SEED))

    assert repr(key) == str(key) == f"PrivateKey({key.public.key_id[:16]})"


def test_a_key_is_read_as_it_was_written() -> None:
    """PEM and back."""
    assert PrivateKey.from_pem(KEY.to_pem()).public == KEY.public


def _other_pems() -> dict[str, bytes]:
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    plain, secret = serialization.NoEncryption(), serialization.BestAvailableEncryption(b"secret")
    elliptic = ec.generate_private_key(ec.SECP256R1())
    return {
        "nothing": b"",
        "no PEM": b"\xff\x00",
        "not base64": KEY.to_pem().replace(b"M", b"!"),
        "truncated": KEY.to_pem()[:-40],
        "another kind": elliptic.private_bytes(pem, pkcs8, plain),
        "encrypted": Ed25519PrivateKey.generate().private_bytes(pem, pkcs8, secret),
        "public": elliptic.public_key().public_bytes(
            pem, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    }


@pytest.mark.parametrize("name", _other_pems())
def test_other_files_hold_no_key(name: str) -> None:
    """Each is malformed, and nothing else comes out."""
    with pytest.raises(MalformedError):
        PrivateKey.from_pem(_other_pems()[name])


def test_a_key_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """Whatever the umask says."""
    path, old = tmp_path / "key.pem", os.umask(0)
    try:
        write_private_key(path, KEY)
    finally:
        os.umask(old)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_private_key(path).public == KEY.public


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    """Nor is what a link points to."""
    path, link = tmp_path / "key.pem", tmp_path / "link.pem"
    write_private_key(path, KEY)
    link.symlink_to(tmp_path / "absent.pem")

    for target in (path, link):
        with pytest.raises(FileExistsError):
            write_private_key(target, PrivateKey.generate())

    assert read_private_key(path).public == KEY.public
    assert sorted(p.name for p in tmp_path.iterdir()) == ["key.pem", "link.pem"]


def test_no_half_a_key_is_left(tmp_path: Path) -> None:
    """When the disk is full, the next attempt finds no file in its way."""
    path = tmp_path / "key.pem"
    limit, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limit[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_private_key(path, KEY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)

    assert not path.exists()


def test_a_key_and_its_name_are_made_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is synchronised, and after it the directory."""
    path, synchronised, fsync = tmp_path / "key.pem", list[int](), os.fsync

    def note(descriptor: int) -> None:
        synchronised.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_private_key(path, KEY)

    assert synchronised == [path.stat().st_ino, tmp_path.stat().st_ino]


def test_a_missing_key_file(tmp_path: Path) -> None:
    """Is an error of the operating system, as for any file."""
    with pytest.raises(FileNotFoundError):
        read_private_key(tmp_path / "key.pem")


ENROLMENT = {"member": "acme", "origin": "coalition.example/log", "context": "a" * 64}


def test_possession_is_proven() -> None:
    """For just this enrolment."""
    verify_possession(KEY.public, prove_possession(KEY, **ENROLMENT), **ENROLMENT)


@pytest.mark.parametrize("field", ENROLMENT)
def test_a_proof_of_possession_is_for_one_enrolment(field: str) -> None:
    """Another member, log or token cannot use it."""
    proof = prove_possession(KEY, **ENROLMENT)

    with pytest.raises(KeyUnsafeError):
        verify_possession(KEY.public, proof, **{**ENROLMENT, field: "other"})


def test_a_proof_of_possession_is_for_one_key() -> None:
    """Nobody enrols the key of somebody else."""
    proof = prove_possession(KEY, **ENROLMENT)

    with pytest.raises(KeyUnsafeError):
        verify_possession(PrivateKey.generate().public, proof, **ENROLMENT)


def test_a_proof_of_possession_proves_nothing_else() -> None:
    """It is over bytes that no envelope or note begins with, and no signature of those passes."""
    message = KEY.sign(b"DSSEv1 1 t 2 {}")

    with pytest.raises(KeyUnsafeError):
        verify_possession(KEY.public, message, **ENROLMENT)

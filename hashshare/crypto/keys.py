"""Ed25519 keys: their ids, files, and the proof of possessing one."""

import os
import tempfile
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from nacl.bindings import crypto_core_ed25519_is_valid_point

from hashshare.crypto import canonical
from hashshare.crypto.encoding import decode_base64, encode_base64
from hashshare.errors import KeyUnsafeError, MalformedError, NotFoundError, SignatureInvalidError

_POSSESSION: Final = b"hashshare/possession/v1\0"
_TICK_NANOSECONDS: Final = 1_000_000_000


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key that is safe to rely on.

    Attributes:
        raw: 32 bytes.

    Raises:
        MalformedError: ``raw`` has another length.
        KeyUnsafeError: The point is of small order or not canonical: ``cryptography`` would
            accept it, and one signature under such a key fits many messages.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != 32:
            raise MalformedError(f"an Ed25519 public key has 32 bytes, not {len(self.raw)}")
        if not crypto_core_ed25519_is_valid_point(self.raw):
            raise KeyUnsafeError("this public key is unsafe: not a point of the prime-order group")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the base64 form; see ``text``."""
        return cls(decode_base64(text, length=32))

    @property
    def text(self) -> str:
        """The 32 bytes as base64."""
        return encode_base64(self.raw)

    @cached_property
    def key_id(self) -> str:
        """SHA-256 of the DER SubjectPublicKeyInfo (RFC 8410), lower-case hex."""
        return canonical.digest(
            self._key.public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )

    def verify(self, signature: bytes, message: bytes) -> None:
        """Refuse a signature that this key did not make over ``message``.

        Raises:
            SignatureInvalidError: It did not.
        """
        try:
            self._key.verify(signature, message)
        except InvalidSignature as error:
            raise SignatureInvalidError("the signature is not by this key") from error

    @cached_property
    def _key(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.raw)


class PrivateKey:
    """An Ed25519 private key. Never printed."""

    __slots__ = ("_key", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(
            key.public_key().public_bytes(
                serialization.Encoding.Raw, serialization.PublicFormat.Raw
            )
        )

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.key_id[:16]})"

    @classmethod
    def generate(cls) -> Self:
        """Return a new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read an unencrypted PKCS #8 key.

        Raises:
            MalformedError: ``pem`` is not that.
        """
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise MalformedError("not a private key in PEM") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise MalformedError("not an Ed25519 key")
        return cls(key)

    def to_pem(self) -> bytes:
        """Return the key as unencrypted PKCS #8 PEM."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def sign(self, message: bytes) -> bytes:
        """Return the signature over ``message``, 64 bytes; always the same (RFC 8032)."""
        return self._key.sign(message)


def read_private_key(path: Path) -> PrivateKey:
    """Return the key in the file at ``path``.

    Raises:
        MalformedError: The file holds no Ed25519 key.
        OSError: It cannot be read.
    """
    return PrivateKey.from_pem(path.read_bytes())


def read_private_keys(folder: Path, name: str) -> list[PrivateKey]:
    """Return the keys of one purpose: those in ``name.pem`` and ``name-….pem``, that one first.

    Raises:
        MalformedError: One of the files holds no Ed25519 key.
        OSError: One cannot be read.
    """
    paths = [folder / f"{name}.pem", *sorted(folder.glob(f"{name}-*.pem"))]
    return [read_private_key(path) for path in paths if path.exists()]


@dataclass(slots=True)
class KeyFiles:
    """The keys of one purpose in a folder, as ``read_private_keys`` gives them, at any moment.

    Attributes:
        folder: Which may change while it is used.
        name: Of the purpose.
    """

    folder: Path
    name: str
    _keys: list[PrivateKey] = field(init=False, default_factory=list, repr=False)
    _seen: int = field(init=False, default=0)

    def read(self) -> list[PrivateKey]:
        """Return at least one key; reads files only when one has come or gone.

        Raises:
            NotFoundError: There is none.
            MalformedError: One of the files holds no Ed25519 key.
            OSError: One cannot be read.
        """
        changed = self.folder.stat().st_mtime_ns
        if changed != self._seen:
            self._keys = read_private_keys(self.folder, self.name)
            # What changes within one tick of the clock has one time.
            settled = time.time_ns() - changed > _TICK_NANOSECONDS
            self._seen = changed if settled else 0
        if not self._keys:
            raise NotFoundError(f"there is no key {self.name}.pem in {self.folder}")
        return self._keys


def write_private_key(path: Path, key: PrivateKey) -> None:
    """Write ``key`` to a new file that only its owner may read; durable once it returns.

    Raises:
        FileExistsError: There is a file; a key is never overwritten.
        OSError: It cannot be written; no file is left.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.to_pem())
            file.flush()
            os.fsync(file.fileno())
        # Under its name it is whole: a running server may read it at once.
        os.link(name, path)
        _sync_directory(path.parent)
    finally:
        Path(name).unlink()


def prove_possession(key: PrivateKey, *, member: str, origin: str, context: str) -> bytes:
    """Return a signature that shows who enrols this key, where, and with which token.

    Args:
        key: The key that is enrolled.
        member: The member's id.
        origin: The log's origin.
        context: Digest of the one-time token.
    """
    return key.sign(_possession(key.public, member, origin, context))


def verify_possession(
    public: PublicKey, proof: bytes, *, member: str, origin: str, context: str
) -> None:
    """Refuse a proof of possession that was not made for just this enrolment.

    Raises:
        KeyUnsafeError: It was not.
    """
    try:
        public.verify(proof, _possession(public, member, origin, context))
    except SignatureInvalidError as error:
        raise KeyUnsafeError("possession of the key is not proven") from error


def _sync_directory(path: Path) -> None:
    """Make a file's name as durable as its contents."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _possession(public: PublicKey, member: str, origin: str, context: str) -> bytes:
    return _POSSESSION + canonical.encode(
        {"context": context, "key": public.text, "log": origin, "member": member}
    )

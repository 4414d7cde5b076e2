"""Metadata of the trust root: whose signatures it takes to say what members believe.

The one target is the trust document. The roles ``root`` and ``targets`` are signed offline, by
thresholds of people; ``snapshot`` and ``timestamp`` by one key that the server holds, which says
no more than that this is the newest.

Source: The Update Framework (TUF) 1.0.34, sections 4 and 5; docs/adr/0017.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Key, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from hashshare.crypto.keys import PrivateKey, PublicKey
from hashshare.errors import KeyUnsafeError, MalformedError

TARGET: Final = "trust.json"
OFFLINE_LIFE: Final = timedelta(days=2 * 365)
ONLINE_LIFE: Final = timedelta(days=7)
OFFLINE: Final = ("root", "targets")
ONLINE: Final = ("snapshot", "timestamp")

S = TypeVar("S", Root, Snapshot, Targets, Timestamp)


@dataclass(frozen=True, slots=True)
class Signers:
    """Who signs a role.

    Attributes:
        keys: Each once.
        threshold: How many of them it takes.
    """

    keys: tuple[PublicKey, ...]
    threshold: int = 1


def make_root(
    root: Signers, targets: Signers, online: PublicKey, *, version: int, now: datetime
) -> Metadata[Root]:
    """Return the unsigned metadata that names everybody's keys.

    Raises:
        KeyUnsafeError: A key is named twice, or is to be online and offline.
        MalformedError: A threshold cannot be met.
    """
    named = {"root": root, "targets": targets} | {name: Signers((online,)) for name in ONLINE}
    keys: dict[str, Key] = {}
    roles: dict[str, Role] = {}
    for name, signers in named.items():
        found = [_to_tuf(key) for key in signers.keys]
        if not 1 <= signers.threshold <= len(found):
            raise MalformedError(f"{signers.threshold} of {len(found)} keys cannot sign {name}")
        if len({key.keyid for key in found}) != len(found):
            raise KeyUnsafeError(f"a public key is named twice for {name}")
        keys |= {key.keyid: key for key in found}
        roles[name] = Role([key.keyid for key in found], signers.threshold)
    made = Metadata(Root(version, None, now.replace(microsecond=0) + OFFLINE_LIFE, keys, roles))
    verify_keys(made.signed)
    return made


def make_targets(document: bytes, *, version: int, now: datetime) -> Metadata[Targets]:
    """Return the unsigned metadata that names a trust document."""
    target = TargetFile.from_data(TARGET, document, ["sha256"])
    expires = now.replace(microsecond=0) + OFFLINE_LIFE
    return Metadata(Targets(version, None, expires, {TARGET: target}))


def make_newest(
    targets_version: int, *, version: int, now: datetime
) -> tuple[Metadata[Snapshot], Metadata[Timestamp]]:
    """Return the unsigned metadata that says which targets are the newest."""
    expires = now.replace(microsecond=0) + ONLINE_LIFE
    snapshot = Snapshot(version, None, expires, {"targets.json": MetaFile(targets_version)})
    timestamp = Timestamp(version, None, expires, MetaFile(version))
    return Metadata(snapshot), Metadata(timestamp)


def sign(metadata: Metadata[S], key: PrivateKey) -> None:
    """Add the signature of a key, in place of an earlier one of the same key."""
    private: Any = load_pem_private_key(key.to_pem(), password=None)
    signer = CryptoSigner(private, _to_tuf(key.public))
    metadata.sign(signer, append=True)


def encode(metadata: Metadata[S]) -> bytes:
    """Return the bytes of the file."""
    return metadata.to_bytes(JSONSerializer(compact=False)) + b"\n"


def parse(data: bytes, kind: type[S]) -> Metadata[S]:
    """Return the metadata in a file; nothing in it is verified.

    Raises:
        MalformedError: It is not that.
    """
    try:
        found = Metadata.from_bytes(data)
    except (RepositoryError, DeserializationError, ValueError) as error:
        raise MalformedError(f"not metadata of the trust root: {error!s:.200}") from error
    if not isinstance(found.signed, kind):
        raise MalformedError(f"this is not {kind.__name__.lower()} metadata")
    return found


def verify_keys(root: Root) -> None:
    """Refuse keys that prove nothing: unsafe, under two ids, or online for an offline role.

    Raises:
        KeyUnsafeError: There is such a key.
        MalformedError: A key is of another kind than Ed25519.
    """
    seen: set[bytes] = set()
    for key in root.keys.values():
        raw = _raw(key)
        if raw in seen:
            raise KeyUnsafeError("a public key is named under two ids")
        seen.add(PublicKey(raw).raw)
    offline, online = (
        {keyid for name in names for keyid in root.roles[name].keyids}
        for names in (OFFLINE, ONLINE)
    )
    if offline & online:
        raise KeyUnsafeError("a key that is online may not sign for root or targets")


def missing(metadata: Metadata[S], root: Root) -> tuple[int, list[PublicKey]]:
    """Return how many signatures a role still needs by a root, and which keys could sign."""
    result = root.get_verification_result(
        metadata.signed.type, metadata.signed_bytes, metadata.signatures
    )
    still = [PublicKey(_raw(key)) for key in result.unsigned.values()]
    return max(0, result.threshold - len(result.signed)), still


def signers_of(root: Root, name: str) -> Signers:
    """Return who signs a role."""
    role = root.roles[name]
    return Signers(
        tuple(PublicKey(_raw(root.keys[keyid])) for keyid in role.keyids), role.threshold
    )


def _to_tuf(key: PublicKey) -> SSlibKey:
    return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(key.raw))


def _raw(key: Key) -> bytes:
    if (key.keytype, key.scheme) != ("ed25519", "ed25519"):
        raise MalformedError("the keys of the trust root are Ed25519 keys")
    try:
        return bytes.fromhex(key.keyval["public"])
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedError("a key of the trust root is not in its form") from error

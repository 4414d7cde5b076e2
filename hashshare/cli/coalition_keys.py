"""The keys of the log and of the CA in a coalition's folder, while one is replaced by another."""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from hashshare.crypto.certificates import Authority, Issued, tls_key_to_pem
from hashshare.crypto.keys import PrivateKey, read_private_key, write_private_key
from hashshare.crypto.note import NoteVerifier
from hashshare.domain.joining import Trust, parse_trust
from hashshare.errors import ConflictError, NotFoundError


def read_trust(folder: Path) -> Trust:
    """Return the trust document of a coalition's folder; it may change while a server runs.

    Raises:
        NotFoundError: There is no coalition.
    """
    try:
        return parse_trust((folder / "trust.json").read_bytes())
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no coalition in {folder}") from error


def add_log_key(folder: Path) -> NoteVerifier:
    """Make a key that signs for the log beside the others, from now on."""
    trust, key = read_trust(folder), PrivateKey.generate()
    write_private_key(folder / "keys" / f"log-{key.public.key_id[:16]}.pem", key)
    return NoteVerifier(trust.log, key.public)


def add_authority(folder: Path) -> Issued:
    """Make a CA, which certifies nobody before the trust document names it."""
    made = Authority.create(read_trust(folder).coalition, now=datetime.now(UTC))
    path = folder / "keys" / f"ca-{made.root.fingerprint[:16]}.pem"
    write_secret(path, tls_key_to_pem(made.key))
    certificate_path(path).write_text(made.root.pem)
    return made.root


def certificate_path(key: Path) -> Path:
    """Return where the certificate lies that belongs to the key of a CA."""
    return key.with_name(f"{key.stem}-cert.pem")


def verify_held(folder: Path, trust: Trust) -> None:
    """Refuse a trust document whose newest keys the server lacks.

    Raises:
        NotFoundError: It lacks one.
    """
    if trust.log_verifier not in _log_keys(folder, trust).values():
        raise NotFoundError("the server holds no such key of the log: hashshare rotate log-key")
    if trust.authorities[0] not in _authorities(folder).values():
        raise NotFoundError("the server holds no such CA: hashshare rotate ca")


def retire_log_keys(folder: Path) -> NoteVerifier:
    """Delete the keys of the log that were replaced; return the one that goes on.

    Raises:
        NotFoundError: There is nothing to delete.
        ConflictError: The trust document's key is not here.
    """
    trust = read_trust(folder)
    held = _log_keys(folder, trust)
    former = set(trust.former_log_keys)
    _delete([path for path, key in held.items() if str(key) in former], of=len(held))
    return trust.log_verifier


def retire_authorities(folder: Path) -> int:
    """Delete the CAs before the one that certifies, if they are named no more; return how many.

    Raises:
        NotFoundError: There is nothing to delete.
        ConflictError: None that the trust document names is here.
    """
    named = read_trust(folder).authorities
    held = _authorities(folder)
    gone = [
        path
        for path, authority in held.items()
        if authority not in named and authority.not_before <= named[0].not_before
    ]
    _delete(gone, of=len(held))
    for path in gone:
        certificate_path(path).unlink()
    return len(gone)


def write_secret(path: Path, data: bytes) -> None:
    """Write a new file that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _log_keys(folder: Path, trust: Trust) -> dict[Path, NoteVerifier]:
    paths = (folder / "keys").glob("log*.pem")
    return {path: NoteVerifier(trust.log, read_private_key(path).public) for path in paths}


def _authorities(folder: Path) -> dict[Path, Issued]:
    """Return the certificate of each CA by the file of its key."""
    keys = [path for path in (folder / "keys").glob("ca*.pem") if certificate_path(path).exists()]
    return {key: Issued.parse(certificate_path(key).read_bytes()) for key in keys}


def _delete(gone: Iterable[Path], *, of: int) -> None:
    paths = list(gone)
    if not paths:
        raise NotFoundError("there is nothing to retire: the trust document names all that is here")
    if len(paths) == of:
        raise ConflictError("what the trust document names is not here")
    for path in paths:
        path.unlink()

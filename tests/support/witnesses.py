"""Certificates for witnesses that listen, made at run time."""

from datetime import UTC, datetime
from pathlib import Path

from hashshare.crypto.certificates import Authority, new_tls_key, tls_key_to_pem


def make_certificates(folder: Path) -> None:
    """Make a CA, and a certificate and key of this machine: ca, witness and witness-key, PEM."""
    now, key = datetime.now(UTC), new_tls_key()
    authority = Authority.create("Witnesses", now=now)
    issued = authority.issue_server(key.public_key(), hosts=["127.0.0.1"], now=now)
    (folder / "ca.pem").write_text(authority.root.pem)
    (folder / "witness.pem").write_text(issued.pem)
    (folder / "witness-key.pem").write_bytes(tls_key_to_pem(key))

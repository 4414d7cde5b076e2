"""Signed envelopes, DSSE 1.0.2 with Ed25519, in one spelling.

Source: https://github.com/secure-systems-lab/dsse (protocol.md, envelope.md).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hashshare.crypto import canonical
from hashshare.crypto.encoding import decode_base64, encode_base64, parse_digest
from hashshare.crypto.keys import PrivateKey, PublicKey
from hashshare.errors import MalformedError, SignatureInvalidError

MAX_ENVELOPE_BYTES: Final = 65_535
"""An entry bundle of the log gives each leaf a length of 16 bits (C2SP tlog-tiles)."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature of an envelope: SHA-256 of the signer's key, and 64 bytes."""

    key_id: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload with its type and signatures, none of them verified yet.

    Attributes:
        payload_type: Signed together with the payload.
        payload: The bytes that were signed.
        signatures: Sorted by key id, each key id once.
    """

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]

    def encode(self) -> bytes:
        """Return the one byte form, canonical JSON."""
        return canonical.encode(
            {
                "payload": encode_base64(self.payload),
                "payloadType": self.payload_type,
                "signatures": [
                    {"keyid": s.key_id, "sig": encode_base64(s.value)} for s in self.signatures
                ],
            }
        )


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding: the bytes that a signature is over."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def statement_id(payload_type: str, payload: bytes) -> str:
    """Return what names a statement whoever signed it: SHA-256 of its encoding, in hex."""
    return canonical.digest(pae(payload_type, payload))


def seal(payload: bytes, payload_type: str, keys: Sequence[PrivateKey]) -> Envelope:
    """Return ``payload`` signed with each of ``keys``; once with a key that is listed twice."""
    message = pae(payload_type, payload)
    signatures = {key.public.key_id: key.sign(message) for key in keys}
    return Envelope(payload_type, payload, tuple(Signature(*s) for s in sorted(signatures.items())))


def with_signature(envelope: Envelope, key_id: str, value: bytes) -> Envelope:
    """Return the envelope with a signature more, in place of an earlier one by that key."""
    others = [s for s in envelope.signatures if s.key_id != key_id]
    signatures = sorted([*others, Signature(key_id, value)], key=lambda s: s.key_id)
    return Envelope(envelope.payload_type, envelope.payload, tuple(signatures))


def parse_envelope(data: bytes) -> Envelope:
    """Return the envelope whose one byte form is ``data``; nothing in it is verified.

    Raises:
        MalformedError: ``data`` is too long or is not that form.
    """
    document = canonical.decode(data, max_bytes=MAX_ENVELOPE_BYTES)
    if document.keys() != {"payload", "payloadType", "signatures"}:
        raise MalformedError("an envelope has payload, payloadType and signatures")
    payload, payload_type = document["payload"], document["payloadType"]
    signatures = document["signatures"]
    if not (isinstance(payload, str) and isinstance(payload_type, str)):
        raise MalformedError("payload and payloadType are texts")
    if not isinstance(signatures, list):
        raise MalformedError("signatures is a list")
    parsed = tuple(_parse_signature(signature) for signature in signatures)
    key_ids = [signature.key_id for signature in parsed]
    if key_ids != sorted(set(key_ids)):
        raise MalformedError("signatures are sorted by key id, each key id once")
    return Envelope(payload_type, decode_base64(payload), parsed)


def unseal(
    envelope: Envelope, keys: Iterable[PublicKey], *, payload_type: str, threshold: int = 1
) -> bytes:
    """Return the payload of ``envelope``, now trusted.

    Args:
        envelope: From the network or the log.
        keys: Whose signatures count. Signatures by others are ignored.
        payload_type: What the payload must be.
        threshold: So many distinct keys must have signed.

    Raises:
        MalformedError: The payload is of another type.
        SignatureInvalidError: Too few of ``keys`` signed, or a signature that names one
            of them is not by it.
        RuntimeError: ``threshold`` is less than 1: anything would pass.
    """
    if threshold < 1:
        raise RuntimeError("a threshold is at least 1")
    if envelope.payload_type != payload_type:
        raise MalformedError(f"expected {payload_type}, not {envelope.payload_type!r:.80}")
    message = pae(envelope.payload_type, envelope.payload)
    # By key material: one key listed twice is one signer.
    known = {key.key_id: key for key in keys}
    signers = set()
    for signature in envelope.signatures:
        key = known.get(signature.key_id)
        if key is not None:
            key.verify(signature.value, message)
            signers.add(key.raw)
    if len(signers) < threshold:
        raise SignatureInvalidError(f"{threshold} known keys must sign, {len(signers)} did")
    return envelope.payload


def _parse_signature(document: canonical.JsonValue) -> Signature:
    if not isinstance(document, dict) or document.keys() != {"keyid", "sig"}:
        raise MalformedError("a signature has keyid and sig")
    key_id, value = document["keyid"], document["sig"]
    if not (isinstance(key_id, str) and isinstance(value, str)):
        raise MalformedError("keyid and sig are texts")
    return Signature(parse_digest(key_id), decode_base64(value, length=64))

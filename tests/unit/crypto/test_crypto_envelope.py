"""Envelopes: what is signed, who signed it, and that nothing in it can change."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from securesystemslib import dsse
from securesystemslib.signer._key import SSlibKey  # the package does not re-export it for mypy

from hashshare.crypto import canonical
from hashshare.crypto.encoding import encode_base64
from hashshare.crypto.envelope import (
    MAX_ENVELOPE_BYTES,
    Envelope,
    Signature,
    pae,
    parse_envelope,
    seal,
    statement_id,
    unseal,
)
from hashshare.crypto.keys import PrivateKey
from hashshare.errors import MalformedError, SignatureInvalidError, VerificationError

A, B, C = (PrivateKey.generate() for _ in range(3))
TYPE = "application/vnd.hashshare.submission.v1+json"
PAYLOAD = b'{"log":"coalition.example/log","sequence":1}'


def _oracle_key(key: PrivateKey) -> SSlibKey:
    keyval = {"public": key.public.raw.hex()}
    return SSlibKey(key.public.key_id, "ed25519", "ed25519", keyval)


def test_the_example_of_the_specification() -> None:
    """DSSE protocol.md: the bytes to be signed of "hello world"."""
    encoded = pae("http://example.com/HelloWorld", b"hello world")

    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_lengths_count_bytes() -> None:
    """Not characters."""
    assert pae("é", b"") == "DSSEv1 2 é 0 ".encode()


@given(st.text(st.characters(exclude_categories=["Cs"])), st.binary())
def test_another_implementation_signs_the_same_bytes(payload_type: str, payload: bytes) -> None:
    """Ours and securesystemslib's encoding are equal."""
    assert pae(payload_type, payload) == dsse.Envelope(payload, payload_type, {}).pae()


@given(st.binary(max_size=100))
def test_another_implementation_verifies_ours(payload: bytes) -> None:
    """The signatures of an envelope hold in securesystemslib."""
    document = json.loads(seal(payload, TYPE, [A, B]).encode())

    accepted = dsse.Envelope.from_dict(document).verify([_oracle_key(A), _oracle_key(B)], 2)

    assert set(accepted) == {A.public.key_id, B.public.key_id}


def test_libsodium_verifies_ours() -> None:
    """With nothing but the public key, the encoding and the signature."""
    key = VerifyKey(A.public.raw)
    signature = seal(PAYLOAD, TYPE, [A]).signatures[0].value

    assert key.verify(pae(TYPE, PAYLOAD), signature) == pae(TYPE, PAYLOAD)
    with pytest.raises(BadSignatureError):
        key.verify(pae(TYPE, PAYLOAD + b" "), signature)


@given(st.binary(max_size=100), st.sets(st.sampled_from([A, B, C]), min_size=1))
def test_an_envelope_is_read_as_it_was_written(payload: bytes, keys: set[PrivateKey]) -> None:
    """Whatever the order of the signers; and what was sealed is unsealed."""
    envelope = seal(payload, TYPE, list(keys))

    assert envelope == seal(payload, TYPE, list(reversed(list(keys))))
    assert parse_envelope(envelope.encode()) == envelope
    public = [key.public for key in keys]
    assert unseal(envelope, public, payload_type=TYPE, threshold=len(keys)) == payload


def test_one_flipped_bit_anywhere_is_refused() -> None:
    """Every single one, when everybody who signed has to."""
    data = seal(PAYLOAD, TYPE, [A, B]).encode()

    for bit in range(8 * len(data)):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises((MalformedError, VerificationError)):
            unseal(
                parse_envelope(bytes(spoilt)),
                [A.public, B.public],
                payload_type=TYPE,
                threshold=2,
            )


@given(st.binary() | st.binary().map(lambda b: seal(b, TYPE, [A]).encode()), st.data())
def test_any_bytes_are_an_envelope_or_malformed(data: bytes, draw: st.DataObject) -> None:
    """No other error comes out, and what is accepted is written as it was."""
    cut = draw.draw(st.integers(0, len(data)))

    for candidate in (data, data[:cut], data[cut:]):
        with suppress(MalformedError):
            assert parse_envelope(candidate).encode() == candidate


GOOD: dict[str, canonical.JsonValue] = {"keyid": "a" * 64, "sig": encode_base64(bytes(64))}
LATER: dict[str, canonical.JsonValue] = {"keyid": "b" * 64, "sig": encode_base64(bytes(64))}
MALFORMED: dict[str, dict[str, canonical.JsonValue]] = {
    "a member is missing": {"payload": "", "payloadType": "t"},
    "a member too many": {"payload": "", "payloadType": "t", "signatures": [], "x": 1},
    "payload no text": {"payload": 1, "payloadType": "t", "signatures": []},
    "payload not base64": {"payload": "YR==", "payloadType": "t", "signatures": []},
    "type no text": {"payload": "", "payloadType": None, "signatures": []},
    "signatures no list": {"payload": "", "payloadType": "t", "signatures": {}},
    "signature no object": {"payload": "", "payloadType": "t", "signatures": ["x"]},
    "signature lacks sig": {"payload": "", "payloadType": "t", "signatures": [{"keyid": "a" * 64}]},
    "keyid no text": {"payload": "", "payloadType": "t", "signatures": [GOOD | {"keyid": 1}]},
    "keyid no digest": {"payload": "", "payloadType": "t", "signatures": [GOOD | {"keyid": "A"}]},
    "sig no text": {"payload": "", "payloadType": "t", "signatures": [GOOD | {"sig": None}]},
    "sig too short": {"payload": "", "payloadType": "t", "signatures": [GOOD | {"sig": "YQ=="}]},
    "not sorted": {"payload": "", "payloadType": "t", "signatures": [LATER, GOOD]},
    "a key twice": {"payload": "", "payloadType": "t", "signatures": [GOOD, GOOD]},
}


@pytest.mark.parametrize("document", MALFORMED.values(), ids=MALFORMED.keys())
def test_other_forms_are_refused(document: dict[str, canonical.JsonValue]) -> None:
    """Canonical JSON, but not an envelope in its one form."""
    with pytest.raises(MalformedError):
        parse_envelope(canonical.encode(document))


def test_an_envelope_fits_into_a_leaf() -> None:
    """65,535 bytes are accepted, one more is not."""
    spare = MAX_ENVELOPE_BYTES - len(Envelope("", b"", ()).encode())
    fits, too_long = Envelope("t" * spare, b"", ()), Envelope("t" * (spare + 1), b"", ())

    assert parse_envelope(fits.encode()) == fits
    with pytest.raises(MalformedError):
        parse_envelope(too_long.encode())


def test_another_type_is_refused() -> None:
    """A publication is not taken for a submission, though its signature is good."""
    with pytest.raises(MalformedError):
        unseal(seal(PAYLOAD, "other", [A]), [A.public], payload_type=TYPE)


def test_the_type_is_signed() -> None:
    """It cannot be exchanged."""
    sealed = seal(PAYLOAD, "other", [A])
    relabelled = Envelope(TYPE, sealed.payload, sealed.signatures)

    with pytest.raises(SignatureInvalidError):
        unseal(relabelled, [A.public], payload_type=TYPE)


def test_type_and_payload_cannot_flow_into_each_other() -> None:
    """Their lengths are signed too."""
    assert pae("a 1 b", b"") != pae("a", b"b 0 ")
    assert statement_id("ab", b"c") != statement_id("a", b"bc")


def test_signatures_of_others_are_ignored() -> None:
    """They neither help nor harm."""
    envelope = seal(PAYLOAD, TYPE, [A, B])

    assert unseal(envelope, [A.public], payload_type=TYPE) == PAYLOAD
    with pytest.raises(SignatureInvalidError):
        unseal(envelope, [A.public, C.public], payload_type=TYPE, threshold=2)


def test_a_false_signature_of_others_is_ignored() -> None:
    """Whoever is not known cannot spoil an envelope either."""
    sealed = seal(PAYLOAD, TYPE, [A])
    false = Signature(B.public.key_id, bytes(64))
    signatures = tuple(sorted([*sealed.signatures, false], key=lambda s: s.key_id))

    envelope = Envelope(TYPE, PAYLOAD, signatures)

    assert unseal(envelope, [A.public], payload_type=TYPE) == PAYLOAD
    with pytest.raises(SignatureInvalidError):
        unseal(envelope, [A.public, B.public], payload_type=TYPE)


def test_one_key_is_one_signer() -> None:
    """Listed twice among the keys, signed twice, or both."""
    envelope = seal(PAYLOAD, TYPE, [A, A])

    assert parse_envelope(envelope.encode()) == seal(PAYLOAD, TYPE, [A])
    with pytest.raises(SignatureInvalidError):
        unseal(envelope, [A.public, A.public], payload_type=TYPE, threshold=2)
    twice = Envelope(TYPE, PAYLOAD, envelope.signatures * 2)
    with pytest.raises(SignatureInvalidError):
        unseal(twice, [A.public, A.public], payload_type=TYPE, threshold=2)


def test_somebody_must_have_signed() -> None:
    """An envelope without signatures is nobody's, and no threshold of 0 can be asked for."""
    with pytest.raises(SignatureInvalidError):
        unseal(Envelope(TYPE, PAYLOAD, ()), [A.public], payload_type=TYPE)
    with pytest.raises(RuntimeError):
        unseal(Envelope(TYPE, PAYLOAD, ()), [A.public], payload_type=TYPE, threshold=0)


def test_a_statement_id_does_not_depend_on_who_signed() -> None:
    """It is that of the signed bytes."""
    assert statement_id(TYPE, PAYLOAD) == canonical.digest(pae(TYPE, PAYLOAD))

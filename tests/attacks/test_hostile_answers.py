"""A server that lies about single hashes, or about what it accepted."""

from collections.abc import Callable
from typing import Any

import pytest

from hashshare.client import Client
from hashshare.crypto.keys import PrivateKey
from hashshare.crypto.note import NoteSigner, parse_checkpoint, sign_checkpoint
from hashshare.crypto.receipt import parse_receipt
from hashshare.errors import (
    HashshareError,
    MalformedError,
    MixAndMatchError,
    ProofInvalidError,
    RootMismatchError,
    SignatureInvalidError,
    VerificationError,
)
from hashshare.wire.lists import BucketDocument
from hashshare.wire.submissions import ProvenanceDocument, SubmissionDocument
from tests.attacks.conftest import LIST, Scene, records
from tests.support.relay import Answer, Attack

THERE, ABSENT = "0005" * 16, "00ff" * 16


def buckets(change: Callable[[BucketDocument], dict[str, Any]]) -> Attack:
    """Change each bucket that is given out."""

    def attack(answer: Answer) -> None:
        if "/buckets/" in answer.path and answer.status == 200:
            document = BucketDocument.parse(answer.body)
            answer.body = document.model_copy(update=change(document)).encode()

    return attack


def without_entry(document: BucketDocument) -> dict[str, Any]:
    """Leave the entry in question out of the bucket."""
    count = int.from_bytes(document.data[:4], "big")
    values = [document.data[4 + 32 * n :][:32] for n in range(count)]
    tags = [document.data[4 + 32 * count + 16 * n :][:16] for n in range(count)]
    kept = [pair for pair in zip(values, tags, strict=True) if pair[0].hex() != THERE]
    data = (
        len(kept).to_bytes(4, "big") + b"".join(v for v, _ in kept) + b"".join(t for _, t in kept)
    )
    return {"data": data}


BUCKETS: dict[str, tuple[Callable[[BucketDocument], dict[str, Any]], type[HashshareError]]] = {
    "the hash is hidden": (without_entry, RootMismatchError),
    "the list is another": (
        lambda d: {"list_name": "csam/confirmed/sha256"},
        MixAndMatchError,
    ),
    "the bucket is another": (lambda d: {"index": d.index + 1}, MixAndMatchError),
    "the attributes are others": (
        lambda d: {"attributes": {t: a.replace("acme", "beta") for t, a in d.attributes.items()}},
        MixAndMatchError,
    ),
    "the attributes are missing": (lambda d: {"attributes": {}}, MixAndMatchError),
    "the path is longer": (lambda d: {"path": [*d.path, bytes(32)]}, HashshareError),
    "it is not a bucket": (lambda d: {"data": b"\xff" * 40}, HashshareError),
}


@pytest.mark.parametrize(("change", "error"), BUCKETS.values(), ids=BUCKETS)
async def test_a_wrong_bucket_is_refused(
    scene: Scene,
    change: Callable[[BucketDocument], dict[str, Any]],
    error: type[HashshareError],
) -> None:
    """Presence and absence are proven against the signed root, or not believed."""
    scene.relay.attack = buckets(change)
    async with Client(scene.relay.profile) as victim:
        with pytest.raises(error):
            await victim.lookup_remote(LIST, THERE)
        scene.relay.attack = None
        assert (await victim.lookup_remote(LIST, THERE)).attributes == b'{"by":{"acme":"A1"}}'
        assert (await victim.lookup_remote(LIST, ABSENT)).attributes is None


def statements(change: Callable[[ProvenanceDocument], ProvenanceDocument]) -> Attack:
    """Change what is said of a hash."""

    def attack(answer: Answer) -> None:
        if answer.path.endswith("/provenance"):
            answer.body = change(ProvenanceDocument.parse(answer.body)).encode()

    return attack


def first(**fields: Any) -> Callable[[ProvenanceDocument], ProvenanceDocument]:
    """Change fields of the first statement."""

    def change(document: ProvenanceDocument) -> ProvenanceDocument:
        statement = document.assertions[0].model_copy(update=fields)
        return document.model_copy(update={"assertions": [statement]})

    return change


Change = Callable[[ProvenanceDocument], ProvenanceDocument]
PROVENANCE: dict[str, tuple[Change, type[HashshareError]]] = {
    "of another member": (first(member="beta"), MixAndMatchError),
    "of another leaf": (first(log_index=0), ProofInvalidError),
    "of another hash set": (
        lambda d: d.model_copy(update={"hash_set": "other"}),
        MixAndMatchError,
    ),
    "not signed": (first(envelope=b"{}"), MalformedError),
}


@pytest.mark.parametrize(("change", "error"), PROVENANCE.values(), ids=PROVENANCE)
async def test_a_wrong_provenance_is_refused(
    scene: Scene,
    change: Change,
    error: type[HashshareError],
) -> None:
    """Each statement is signed by its member, and in the log where it is said to be."""
    scene.relay.attack = statements(change)
    async with Client(scene.relay.profile) as victim:
        with pytest.raises(error):
            await victim.provenance("csam", f"sha256:{THERE}")
        scene.relay.attack = None
        said = await victim.provenance("csam", f"sha256:{THERE}")
        assert [s.member for s in said.assertions] == ["acme"]


RECEIPTS: dict[str, type[HashshareError]] = {
    "by a stranger": SignatureInvalidError,
    "of another leaf": VerificationError,
    "of another place": MalformedError,
    "no receipt": MalformedError,
}


@pytest.mark.parametrize(("kind", "error"), RECEIPTS.items(), ids=RECEIPTS)
async def test_a_wrong_receipt_is_refused(
    scene: Scene, kind: str, error: type[HashshareError]
) -> None:
    """What it does not prove is not taken as accepted: the submission stays under way."""
    async with Client(scene.federation.members["acme"]) as acme:
        (other,) = await acme.push("csam", records(20))
    stranger = NoteSigner(scene.relay.log.name, PrivateKey.generate())

    def attack(answer: Answer) -> None:
        if answer.path != "/v1/submissions" or answer.method != "POST":
            return
        document = SubmissionDocument.parse(answer.body)
        update: dict[str, Any] = {"receipt": "nothing"}
        if kind == "by a stranger":
            note = parse_receipt(document.receipt.encode()).checkpoint.decode()
            checkpoint = parse_checkpoint(note.partition("\n\n")[0] + "\n")
            forged = sign_checkpoint(checkpoint, stranger).decode()
            update = {"receipt": document.receipt.replace(note, forged)}
        elif kind == "of another leaf":
            update = {"receipt": other.receipt_path.read_text()}
        elif kind == "of another place":
            update = {"log_index": document.log_index + 1}
        answer.body = document.model_copy(update=update).encode()

    scene.relay.attack = attack
    async with Client(scene.relay.profile) as victim:
        with pytest.raises(error):
            await victim.push("csam", records(21))
        scene.relay.attack = None
        assert await victim.push("csam", records(21)) == []
    assert len(list((scene.relay.profile.folder / "receipts").iterdir())) == 1

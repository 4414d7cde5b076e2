"""A server that rolls back, forks, or publishes for others, with the operator's own keys."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from hashshare.client import Client
from hashshare.crypto import merkle
from hashshare.crypto.certificates import Authority
from hashshare.crypto.envelope import parse_envelope, seal
from hashshare.crypto.keys import PrivateKey
from hashshare.crypto.note import Checkpoint, NoteSigner, parse_checkpoint, sign_checkpoint
from hashshare.domain.documents import decode_document, encode_document
from hashshare.domain.registry import Keys, parse_registry
from hashshare.domain.statements import PUBLICATION_TYPE, Publication, seal_registry
from hashshare.errors import (
    EquivocationError,
    HashshareError,
    MalformedError,
    MixAndMatchError,
    ProofInvalidError,
    RollbackError,
    SignatureInvalidError,
    TooLargeError,
    UnavailableError,
)
from hashshare.wire.lists import ProofDocument, PublicationDocument
from hashshare.wire.members import RegistryDocument
from tests.attacks.conftest import Scene
from tests.support.relay import Answer, Attack

EARLIER = "2020-01-01T00:00:00Z"


def bundles(change: Callable[[PublicationDocument], dict[str, Any]]) -> Attack:
    """Change each publication that is given out, with what proves it."""

    def attack(answer: Answer) -> None:
        if answer.path.endswith("/publication") and answer.status == 200:
            document = PublicationDocument.parse(answer.body)
            answer.body = document.model_copy(update=change(document)).encode()

    return attack


def proofs(change: Callable[[list[bytes]], list[bytes]]) -> Attack:
    """Change each consistency proof."""

    def attack(answer: Answer) -> None:
        if "/v1/log/consistency" in answer.path:
            document = ProofDocument.parse(answer.body)
            answer.body = ProofDocument(proof=change(document.proof)).encode()

    return attack


def forged(log: NoteSigner, document: PublicationDocument, envelope: bytes) -> dict[str, Any]:
    """Another leaf in place of the publication, in a tree that the log's key signs."""
    # The publication is the last leaf, so that all its siblings are on the left.
    root = merkle.leaf_hash(envelope)
    for sibling in document.inclusion:
        root = merkle.node_hash(sibling, root)
    checkpoint = Checkpoint(log.name, document.log_index + 1, root)
    return {"envelope": envelope, "checkpoint": sign_checkpoint(checkpoint, log).decode()}


def republished(document: PublicationDocument, key: PrivateKey, **fields: object) -> bytes:
    """The publication with other fields, signed by ``key``."""
    publication = decode_document(parse_envelope(document.envelope).payload, Publication)
    payload = encode_document(msgspec.structs.replace(publication, **fields))
    return seal(payload, PUBLICATION_TYPE, [key]).encode()


async def test_rollback(scene: Scene) -> None:
    """The version that was pulled before, genuine and well signed, is offered as the latest."""
    old: list[bytes] = []

    def remember(answer: Answer) -> None:
        if answer.path.endswith("/publication") and answer.status == 200:
            old.append(answer.body)

    scene.relay.attack = remember
    async with Client(scene.relay.profile) as victim:
        await victim.pull()
    await scene.push(8)
    async with Client(scene.relay.profile) as victim:
        await victim.pull()

    def attack(answer: Answer) -> None:
        if answer.path.endswith("/publication"):
            answer.body = old[0]

    await scene.refused(attack, RollbackError)


async def test_fork(scene: Scene) -> None:
    """A tree that does not extend the known one, under the log's genuine key; evidence is kept."""
    publisher = scene.relay.publisher
    attack = bundles(
        lambda d: forged(scene.relay.log, d, republished(d, publisher, created_at=EARLIER))
    )
    error = await scene.refused(attack, EquivocationError)
    evidence = list(scene.relay.profile.folder.glob("evidence-*.json"))
    assert len(evidence) == 1
    assert str(evidence[0]) in error.__notes__[0]


async def test_two_roots_for_one_size(scene: Scene) -> None:
    """The size that the victim knows gets another root."""
    async with Client(scene.relay.profile) as victim:
        await victim.pull()

    def change(document: PublicationDocument) -> dict[str, Any]:
        known = parse_checkpoint(document.checkpoint.partition("\n\n")[0] + "\n")
        other = Checkpoint(known.origin, known.size, b"\x01" * 32)
        return {"checkpoint": sign_checkpoint(other, scene.relay.log).decode()}

    await scene.refused(bundles(change), EquivocationError)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: [],
        lambda p: p[:-1],
        lambda p: [*p, b"\x00" * 32],
        lambda p: [b"\x00" * 32, *p[1:]],
    ],
    ids=["missing", "shorter", "longer", "altered"],
)
async def test_a_log_that_is_not_proven_to_have_grown(
    scene: Scene, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    """The consistency proof does not lead from the known root to the new one."""
    await scene.refused(proofs(change), EquivocationError)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda d: {"inclusion": [b"\x00" * 32, *d.inclusion[1:]]}, ProofInvalidError),
        (lambda d: {"inclusion": d.inclusion[:-1]}, ProofInvalidError),
        (lambda d: {"inclusion": [*d.inclusion, b"\x00" * 32]}, ProofInvalidError),
        (lambda d: {"log_index": d.log_index - 1}, ProofInvalidError),
        (lambda d: {"log_index": d.log_index + 1}, ProofInvalidError),
        (lambda d: {"checkpoint": d.checkpoint.replace("\n", "\n\n", 1)}, SignatureInvalidError),
        (lambda d: {"checkpoint": "x" * 20_000_000}, TooLargeError),
        (lambda d: {"envelope": d.envelope + b" "}, HashshareError),
    ],
    ids=["altered", "short", "long", "lower", "higher", "note", "oversize", "envelope"],
)
async def test_a_publication_that_is_not_in_the_log(
    scene: Scene,
    change: Callable[[PublicationDocument], dict[str, Any]],
    error: type[HashshareError],
) -> None:
    """Its inclusion proof, its place or its checkpoint are not what they were."""
    await scene.refused(bundles(change), error)


async def test_a_checkpoint_by_a_stranger(scene: Scene) -> None:
    """Another key of the same name signs the checkpoint."""
    stranger = NoteSigner(scene.relay.log.name, PrivateKey.generate())

    def change(document: PublicationDocument) -> dict[str, Any]:
        checkpoint = parse_checkpoint(document.checkpoint.partition("\n\n")[0] + "\n")
        return {"checkpoint": sign_checkpoint(checkpoint, stranger).decode()}

    await scene.refused(bundles(change), SignatureInvalidError)


async def test_a_checkpoint_of_another_log(scene: Scene) -> None:
    """The operator runs two logs with one key, and mixes them up."""

    def change(document: PublicationDocument) -> dict[str, Any]:
        known = parse_checkpoint(document.checkpoint.partition("\n\n")[0] + "\n")
        other = Checkpoint("other.example/log", known.size, known.root)
        return {"checkpoint": sign_checkpoint(other, scene.relay.log).decode()}

    await scene.refused(bundles(change), MixAndMatchError)


async def test_a_publication_by_a_stranger(stage: Scene) -> None:
    """It is in the log, which the operator controls; but no publisher signed it."""
    await stage.push(1)
    stranger = PrivateKey.generate()
    attack = bundles(lambda d: forged(stage.relay.log, d, republished(d, stranger)))
    await stage.refused(attack, SignatureInvalidError)


async def test_a_publication_of_another_hash_set(stage: Scene) -> None:
    """Genuine in all, but not what was asked for."""
    await stage.push(1)
    publisher = stage.relay.publisher
    attack = bundles(
        lambda d: forged(stage.relay.log, d, republished(d, publisher, hash_set="other"))
    )
    await stage.refused(attack, MixAndMatchError)


async def test_a_registry_by_too_few(stage: Scene) -> None:
    """The operator appoints a publisher of its own, without the governance keys."""
    await stage.push(1)
    stranger = PrivateKey.generate()

    def attack(answer: Answer) -> None:
        if not answer.path.startswith("/v1/registry"):
            return
        genuine = RegistryDocument.parse(answer.body)
        registry = parse_registry(genuine.document)
        taken = msgspec.structs.replace(registry, publishers=Keys(keys=(stranger.public.text,)))
        envelope, document = seal_registry(taken, [stranger], reason="mine", created_at=EARLIER)
        update = {"document": document, "envelope": envelope}
        answer.body = genuine.model_copy(update=update).encode()

    await stage.refused(attack, SignatureInvalidError)


async def test_a_server_with_a_certificate_of_another_ca(stage: Scene) -> None:
    """The network leads elsewhere: TLS ends it before anything is sent."""
    await stage.push(1)
    other = Authority.create("Test Coalition", now=datetime.now(UTC))
    trust = msgspec.structs.replace(stage.relay.profile.trust, ca=other.root.pem)
    object.__setattr__(stage.relay.profile, "trust", trust)
    async with Client(stage.relay.profile) as victim:
        victim.session.attempts = 1
        with pytest.raises(UnavailableError, match="pinned CA"):
            await victim.pull()
    assert stage.relay.requests == []


async def test_a_server_that_answers_with_a_redirect(scene: Scene) -> None:
    """Nobody is followed to another host."""

    def attack(answer: Answer) -> None:
        answer.status, answer.body = 302, b""
        answer.headers = {"Location": "https://127.0.0.1:9/"}

    await scene.refused(attack, MalformedError)

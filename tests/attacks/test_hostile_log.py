"""A server that rolls back, forks, drops, or signs for others, with the operator's own keys."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from hashshare.client import Client
from hashshare.client.start_over import set_aside
from hashshare.crypto.certificates import Authority
from hashshare.crypto.encoding import decode_base64
from hashshare.crypto.envelope import parse_envelope, seal
from hashshare.crypto.keys import PrivateKey
from hashshare.crypto.note import Checkpoint, NoteSigner, sign_checkpoint, verify_checkpoint
from hashshare.crypto.tiles import decode_entries, encode_entries
from hashshare.domain.documents import decode_document, encode_document
from hashshare.domain.registry import Keys, Registry, parse_registry
from hashshare.domain.statements import (
    PUBLICATION_TYPE,
    REGISTRY_TYPE,
    SUBMISSION_TYPE,
    Publication,
    Submission,
    id_of,
    seal_registry,
)
from hashshare.errors import (
    EquivocationError,
    HashshareError,
    KeyMisuseError,
    MalformedError,
    MixAndMatchError,
    NotFoundError,
    OmissionError,
    ProofInvalidError,
    RollbackError,
    SignatureInvalidError,
    TooLargeError,
    UnavailableError,
    VerificationError,
)
from hashshare.wire.lists import ProofDocument
from tests.attacks.conftest import LIST, Scene, records
from tests.support.hostile import (
    HostileLog,
    Leaves,
    altered_publication,
    genuine_leaves,
    with_signature_of,
)
from tests.support.relay import Answer

EARLIER = "2020-01-01T00:00:00Z"
STRANGER = PrivateKey.generate()


async def hostile(scene: Scene) -> HostileLog:
    """The operator's copy of the log, true so far."""
    leaves = await genuine_leaves(scene.federation.pool)
    return HostileLog(scene.relay.log, leaves)


def kinds(leaves: Leaves) -> list[str]:
    """The payload type of each leaf."""
    return [parse_envelope(leaf).payload_type for leaf in leaves]


def last(leaves: Leaves, kind: str) -> int:
    """The last leaf of that kind."""
    return max(i for i, found in enumerate(kinds(leaves)) if found == kind)


async def test_the_operators_copy_is_accepted(scene: Scene) -> None:
    """What the attacks below are made from is right in itself."""
    scene.relay.attack = await hostile(scene)
    async with Client(scene.relay.profile) as victim:
        assert {p.version for p in await victim.pull()} == {await scene.version()}


async def test_rollback(scene: Scene) -> None:
    """The log that was pulled before, genuine and well signed, is offered as the newest."""
    old = await hostile(scene)
    await scene.push(8)
    async with Client(scene.relay.profile) as victim:
        await victim.pull()

    def refuse(answer: Answer) -> None:
        answer.status, answer.body = 404, b""

    old.lies["/v1/log/consistency"] = refuse
    await scene.refused(old, RollbackError)


async def test_a_server_that_lags_behind_another_is_no_attack(scene: Scene) -> None:
    """It proves that what was seen elsewhere extends what it shows."""
    ahead = await hostile(scene)
    await scene.push(8)
    async with Client(scene.relay.profile) as victim:
        await victim.pull()
        held = scene.held()

        def lag(answer: Answer) -> None:
            if answer.path == "/v1/log/checkpoint":
                answer.body = ahead.note()

        scene.relay.attack = lag
        await victim.pull()
    assert scene.held() == held


async def test_fork(scene: Scene) -> None:
    """A tree that does not extend the known one, under the log's genuine key; evidence is kept."""
    log = await hostile(scene)
    first = kinds(log.leaves).index(PUBLICATION_TYPE)
    log.leaves[first] = altered_publication(
        log.leaves[first], scene.relay.publisher, created_at=EARLIER
    )
    error = await scene.refused(log, EquivocationError)

    (path,) = scene.relay.profile.folder.glob("evidence-*.json")
    assert f"evidence: {path}" in error.__notes__
    evidence = json.loads(path.read_text())
    verifier = scene.relay.log.verifier
    known, offered = (verify_checkpoint(n.encode(), verifier) for n in evidence["notes"])
    assert offered == log.checkpoint()
    assert known.root != log.root(0, known.size)


async def test_who_believed_a_fork_gets_out_of_it(scene: Scene) -> None:
    """It joined while it was shown one: the true log is refused, until the member starts over."""
    log = await hostile(scene)
    newest = last(log.leaves, PUBLICATION_TYPE)
    log.leaves[newest] = altered_publication(
        log.leaves[newest], scene.relay.publisher, created_at=EARLIER
    )
    set_aside(scene.relay.profile)
    scene.relay.attack = log
    async with Client(scene.relay.profile) as victim:
        await victim.pull()
    with pytest.raises(NotFoundError):
        set_aside(replace(scene.relay.profile, folder=scene.federation.folder))
    scene.relay.attack = None
    async with Client(scene.relay.profile) as victim:
        with pytest.raises(EquivocationError):
            await victim.pull()
    (before,) = scene.relay.profile.folder.glob("former-*")
    before.rename(before.with_name("before"))
    kept = set_aside(scene.relay.profile)
    assert (kept / "log.sqlite").exists()
    async with Client(scene.relay.profile) as victim:
        assert {p.version for p in await victim.pull()} == {await scene.version()}
        await victim.push("csam", records(900))
    assert list(scene.relay.profile.folder.glob("evidence-*.json"))


async def test_two_roots_for_one_size(scene: Scene) -> None:
    """The size that the victim knows gets another root."""
    async with Client(scene.relay.profile) as victim:
        await victim.pull()
    log = await hostile(scene)
    log.leaves[-1] = altered_publication(log.leaves[-1], scene.relay.publisher, created_at=EARLIER)
    await scene.refused(log, EquivocationError)


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
    """It shows less than before, and what it shows is not proven to be a part of that."""
    old = await hostile(scene)
    await scene.push(8)
    async with Client(scene.relay.profile) as victim:
        await victim.pull()

    def attack(answer: Answer) -> None:
        if answer.path == "/v1/log/checkpoint":
            answer.body = old.note()
        if answer.path.startswith("/v1/log/consistency"):
            proof = ProofDocument.parse(answer.body).proof
            answer.body = ProofDocument(proof=change(proof)).encode()

    await scene.refused(attack, EquivocationError)


ENTRIES: dict[str, tuple[Callable[[Leaves], Leaves], type[HashshareError]]] = {
    "altered": (lambda e: [e[0][:-9] + b"A" + e[0][-8:], *e[1:]], HashshareError),
    "one left out": (lambda e: e[1:], MalformedError),
    "one more": (lambda e: [*e, e[-1]], MalformedError),
    "one twice": (lambda e: [e[0], *e[:-1]], VerificationError),
    "nothing": (lambda e: [], MalformedError),
    "not statements": (lambda e: [b"{}"] * len(e), MalformedError),
    "longer than any": (lambda e: [b"x" * 65_535] * 300, TooLargeError),
}


@pytest.mark.parametrize(("change", "error"), ENTRIES.values(), ids=ENTRIES)
async def test_leaves_that_are_not_those_of_the_log(
    scene: Scene, change: Callable[[Leaves], Leaves], error: type[HashshareError]
) -> None:
    """Every leaf is read, and all of them must give the root that is signed."""

    def attack(answer: Answer) -> None:
        if answer.path.startswith("/v1/log/entries?"):
            count = int(answer.path.rpartition("=")[2])
            answer.body = encode_entries(change(decode_entries(answer.body, count=count)))

    await scene.refused(attack, error)


async def test_a_leaf_that_verifies_but_is_not_in_the_log(scene: Scene) -> None:
    """The publication is signed anew by its publisher, with another time: the root tells."""
    publisher = scene.relay.publisher

    def attack(answer: Answer) -> None:
        if answer.path.startswith("/v1/log/entries?"):
            count = int(answer.path.rpartition("=")[2])
            entries = decode_entries(answer.body, count=count)
            entries[-1] = altered_publication(entries[-1], publisher, created_at=EARLIER)
            answer.body = encode_entries(entries)

    await scene.refused(attack, ProofInvalidError)


async def test_a_checkpoint_by_a_stranger(scene: Scene) -> None:
    """Another key of the same name signs the checkpoint."""
    log = await hostile(scene)
    log.signer = NoteSigner(scene.relay.log.name, STRANGER)
    await scene.refused(log, SignatureInvalidError)


async def test_a_checkpoint_of_another_log(scene: Scene) -> None:
    """The operator runs two logs with one key, and mixes them up."""
    log = await hostile(scene)
    known = log.checkpoint()
    other = sign_checkpoint(
        Checkpoint("other.example/log", known.size, known.root), scene.relay.log
    )

    def mix(answer: Answer) -> None:
        answer.body = other

    log.lies["/v1/log/checkpoint"] = mix
    await scene.refused(log, MixAndMatchError)


@pytest.mark.parametrize("body", [b"", b"nonsense\n", b"x" * 100_000], ids=["none", "text", "long"])
async def test_a_checkpoint_that_is_none(scene: Scene, body: bytes) -> None:
    """Garbage, or more than is read."""

    def attack(answer: Answer) -> None:
        if answer.path == "/v1/log/checkpoint":
            answer.body = body

    await scene.refused(attack, HashshareError)


PUBLICATIONS: dict[str, tuple[dict[str, object], type[HashshareError]]] = {
    "a version is skipped": ({"version": 9}, EquivocationError),
    "a version is repeated": ({"version": 1}, EquivocationError),
    "another precedes it": ({"previous": "ab" * 32}, EquivocationError),
    "it covers what comes after it": ({"log_size": 10**6}, MalformedError),
    "it covers less than the one before": ({"log_size": 1}, MalformedError),
    "it is under another registry": ({"registry_version": 1}, MalformedError),
    "it is of another log": ({"log": "other.example/log"}, MixAndMatchError),
}


@pytest.mark.parametrize(("fields", "error"), PUBLICATIONS.values(), ids=PUBLICATIONS)
async def test_a_publication_out_of_its_place(
    scene: Scene, fields: dict[str, object], error: type[HashshareError]
) -> None:
    """In the log, and signed by the publisher, but not what may stand there."""
    log = await hostile(scene)
    log.leaves[-1] = altered_publication(log.leaves[-1], scene.relay.publisher, **fields)
    await scene.refused(log, error)


async def test_a_publication_by_a_stranger(stage: Scene) -> None:
    """It is in the log, which the operator controls; but no publisher signed it."""
    await stage.push(1)
    log = await hostile(stage)
    log.leaves[-1] = with_signature_of(log.leaves[-1], STRANGER)
    await stage.refused(log, SignatureInvalidError)


async def test_a_publication_of_another_hash_set(stage: Scene) -> None:
    """Genuine in all, but of a hash set that this member may not read: it is not there."""
    await stage.push(1)
    log = await hostile(stage)
    first = kinds(log.leaves).index(PUBLICATION_TYPE)
    log.leaves[first] = altered_publication(
        log.leaves[first], stage.relay.publisher, hash_set="other"
    )
    del log.leaves[first + 1 :]
    stage.relay.attack = log
    async with Client(stage.relay.profile) as victim:
        assert await victim.pull() == []


def _signed(submission: Submission, key: PrivateKey) -> bytes:
    return seal(encode_document(submission), SUBMISSION_TYPE, [key]).encode()


SUBMISSIONS: dict[str, tuple[Callable[[bytes], bytes], type[HashshareError]]] = {
    "by a stranger": (lambda leaf: with_signature_of(leaf, STRANGER), SignatureInvalidError),
    "altered": (
        lambda leaf: leaf.replace(b'"payload":"eyJi', b'"payload":"eyJj', 1),
        HashshareError,
    ),
    "of a kind that is none": (
        lambda leaf: seal(b"{}", "application/x-other", [STRANGER]).encode(),
        MalformedError,
    ),
}


@pytest.mark.parametrize(("change", "error"), SUBMISSIONS.values(), ids=SUBMISSIONS)
async def test_a_submission_that_nobody_made(
    scene: Scene, change: Callable[[bytes], bytes], error: type[HashshareError]
) -> None:
    """The operator poisons the log: a member's signature is what it cannot make."""
    log = await hostile(scene)
    index = last(log.leaves, SUBMISSION_TYPE)
    log.leaves[index] = change(log.leaves[index])
    await scene.refused(log, error)


async def test_a_submission_of_another_that_is_dropped(stage: Scene) -> None:
    """The next one of that member names the one before it, and everybody sees the gap."""
    await stage.push(1)
    await stage.push(2)
    log = await hostile(stage)
    first = kinds(log.leaves).index(SUBMISSION_TYPE)
    second = last(log.leaves, SUBMISSION_TYPE)
    log.leaves = [*log.leaves[:first], log.leaves[second]]
    await stage.refused(log, VerificationError)


async def test_a_submission_that_is_replayed(scene: Scene) -> None:
    """The same signed bytes a second time."""
    log = await hostile(scene)
    log.leaves.append(log.leaves[last(log.leaves, SUBMISSION_TYPE)])
    await scene.refused(log, VerificationError)


async def test_a_submission_with_a_retired_key(scene: Scene) -> None:
    """What the key signed before stands; what it signs after is refused by every reader."""
    acme = scene.federation.members["acme"]
    key = acme.submission_key()
    async with Client(scene.federation.admin) as admin:
        await admin.admin.retire_key("acme", key.public.text, reason="lost", now=datetime.now(UTC))
    log = await hostile(scene)
    leaf = log.leaves[last(log.leaves, SUBMISSION_TYPE)]
    submission = decode_document(parse_envelope(leaf).payload, Submission)
    async with Client(acme) as client:
        chain = (await client.whoami()).chain
    later: Submission = msgspec.structs.replace(
        submission, sequence=chain.sequence + 1, previous=chain.last_id
    )
    async with Client(scene.relay.profile) as victim:
        await victim.pull()
        said = await victim.provenance("csam", "sha256:" + "0005" * 16)
        assert [s.member for s in said.assertions] == ["acme"]
    log.leaves.append(_signed(later, key))
    await scene.refused(log, SignatureInvalidError)


async def test_an_own_submission_that_is_dropped(scene: Scene) -> None:
    """The server gave a receipt, and shows a log without it: the receipt is the evidence."""
    before = await hostile(scene)
    async with Client(scene.relay.profile) as victim:
        (pushed,) = await victim.push("csam", records(30))
    await scene.push(31)
    before.leaves += _publications_after(scene, before)
    scene.relay.attack = before

    def silent(answer: Answer) -> None:
        answer.status, answer.body = 404, b""

    # The leaf for the evidence is not given: that must not silence the alarm.
    before.lies["/v1/log/entries/"] = silent
    async with Client(scene.relay.profile) as victim:
        with pytest.raises(OmissionError) as caught:
            await victim.pull()
        # It goes on being said, and kept once.
        with pytest.raises(OmissionError):
            await victim.pull()
    assert len(list(scene.relay.profile.folder.glob("evidence-*.json"))) == 1
    evidence = json.loads(_evidence_of(caught.value))
    assert evidence["receipts"] == [pushed.receipt_path.read_text()]
    assert len(evidence["notes"]) == 1


def _publications_after(scene: Scene, log: HostileLog) -> Leaves:
    """Publications that an operator makes so that its log is longer than the receipt's."""
    leaf = log.leaves[last(log.leaves, PUBLICATION_TYPE)]
    made = []
    for _ in range(3):
        old = parse_envelope(leaf)
        publication = decode_document(old.payload, Publication)
        leaf = altered_publication(
            leaf, scene.relay.publisher, version=publication.version + 1, previous=id_of(old)
        )
        made.append(leaf)
    return made


def _evidence_of(error: BaseException) -> str:
    (path,) = [n.removeprefix("evidence: ") for n in error.__notes__ if n.startswith("evidence: ")]
    return Path(path).read_text()


async def test_a_stolen_submission_key(scene: Scene) -> None:
    """Somebody else submits with it: the owner is told at every pull, until it says otherwise."""
    victim_profile = scene.relay.profile
    thief_folder = scene.federation.folder / "thief"
    shutil.copytree(scene.federation.members["beta"].folder, thief_folder)
    thief_profile = replace(scene.federation.members["beta"], folder=thief_folder)
    async with Client(thief_profile) as thief:
        (stolen,) = await thief.push("csam", records(40))
        await scene.federation.published(stolen.log_index + 1)
    async with Client(victim_profile) as victim:
        with pytest.raises(KeyMisuseError) as caught:
            await victim.pull()
        with pytest.raises(KeyMisuseError):
            await victim.pull()
        # The lists are right all the same, and pulled.
        (finding,) = await victim.lookup(LIST, ["0028" * 16])
        assert finding.attributes is not None
        assert [s.statement_id for s in victim.chain.strangers()] == [stolen.statement_id]
        victim.chain.adopt(stolen.statement_id)
        await victim.pull()
    (leaf,) = json.loads(_evidence_of(caught.value))["leaves"]
    assert decode_base64(json.loads(leaf)["payload"]).count(b'"member":"beta"') == 1


def _usurped(document: bytes) -> tuple[bytes, bytes]:
    registry = parse_registry(document)
    taken: Registry = msgspec.structs.replace(
        registry, publishers=Keys(keys=(STRANGER.public.text,))
    )
    return seal_registry(taken, [STRANGER], reason="mine", created_at=EARLIER)


@pytest.mark.parametrize("version", [1, 2])
async def test_a_registry_by_too_few(stage: Scene, version: int) -> None:
    """The operator appoints a publisher of its own, without the governance keys."""
    await stage.push(1)
    log = await hostile(stage)
    row = await stage.federation.pool.fetchrow(
        "SELECT document FROM registry WHERE version = $1", version
    )
    assert row is not None
    envelope, document = _usurped(row["document"])
    index = [i for i, kind in enumerate(kinds(log.leaves)) if kind == REGISTRY_TYPE][version - 1]
    log.leaves[index] = envelope
    log.registries[version] = (envelope, document)
    await stage.refused(log, SignatureInvalidError)


async def test_a_log_without_a_registry(stage: Scene) -> None:
    """Its first leaf is something else, or a later version."""
    await stage.push(1)
    for start in (1, last(await genuine_leaves(stage.federation.pool), SUBMISSION_TYPE)):
        log = await hostile(stage)
        log.leaves = log.leaves[start:]
        await stage.refused(log, VerificationError)


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

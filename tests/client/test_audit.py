"""Audit by replay: an honest server agrees, and each way of cheating is found where it is."""

import random
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest

from hashshare.client import Client, Profile
from hashshare.client.findings import Report, Verdict
from hashshare.crypto.envelope import parse_envelope
from hashshare.crypto.keys import PrivateKey, read_private_key, write_private_key
from hashshare.domain.documents import decode_document
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.members import Role
from hashshare.domain.policy import Basis, DisputeReason, Media, QuorumOf, View
from hashshare.domain.records import AssertRecord, DisputeRecord, Record, WithdrawRecord
from hashshare.domain.statements import PUBLICATION_TYPE, Operation, Publication, PublishedList
from hashshare.errors import (
    ConflictError,
    NotFoundError,
    ProofInvalidError,
    SignatureInvalidError,
    UnavailableError,
)
from tests.client.test_faults import records
from tests.support.federation import Federation
from tests.support.hostile import HostileLog, altered_publication, genuine_leaves
from tests.support.relay import Answer, run_relay


async def audit(profile: Profile) -> Report:
    """Audit from the beginning, or from where it ended."""
    async with Client(profile) as client:
        return await client.auditor.audit()


async def auditor_of(federation: Federation) -> Profile:
    """A member that may read every batch."""
    return await federation.join("watch", (Role.AUDITOR,))


async def push(
    federation: Federation, member: str, items: list[Record], operation: Operation
) -> None:
    """Push, and wait for the publication."""
    async with Client(federation.members[member]) as client:
        for pushed in await client.push("csam", items, operation=operation):
            await federation.published(pushed.log_index + 1)


def _item(rng: random.Random, number: int) -> AssertRecord:
    hashes = {HashAlgorithm.SHA256: bytes([number]) * 32}
    if rng.random() < 0.3:
        hashes[HashAlgorithm.PDQ] = bytes([number, 1]) * 16
    return AssertRecord(
        rng.choice(["", f"r{number}"]),
        hashes,
        rng.choice(["A1", "A2"]),
        rng.choice([None, Media.IMAGE]),
        rng.choice([Basis.REVIEWED, Basis.RELAYED]),
    )


async def _live(federation: Federation, rng: random.Random) -> None:
    """A life of a hash set: every operation, and changes of its views."""
    for step in range(10):
        member = rng.choice(["acme", "beta"])
        numbers = sorted(rng.sample(range(1, 30), 8))
        items = [_item(rng, n) for n in numbers]
        match step % 5:
            case 0 | 1 | 3:
                await push(federation, member, list(items), Operation.ASSERT)
            case 2:
                disputes: list[Record] = [
                    DisputeRecord({HashAlgorithm.SHA256: bytes([n]) * 32}, DisputeReason.ADULT)
                    for n in numbers[:2]
                ]
                await push(federation, member, disputes, Operation.DISPUTE)
            case _:
                withdrawn: list[Record] = [
                    WithdrawRecord("", {HashAlgorithm.SHA256: bytes([n]) * 32}) for n in numbers[:3]
                ]
                named: list[Record] = [WithdrawRecord(f"r{n}", {}) for n in numbers[3:6]]
                await push(federation, member, withdrawn + named, Operation.WITHDRAW)
        await _reform(federation, step)


async def _reform(federation: Federation, step: int) -> None:
    views = {
        2: ("states", View(quorum_of=QuorumOf.JURISDICTIONS, basis="any", show_members=False)),
        4: ("all", View(classifications=("A1",))),
        6: ("states", None),
        8: ("states", View(dispute_limit=2)),
    }
    if step in views:
        name, view = views[step]
        async with Client(federation.admin) as admin:
            done = await admin.admin.put_view("csam", name, view, now=datetime.now(UTC))
        assert done is not None
        await federation.published(done.log_index + 1)


@pytest.mark.parametrize("seed", range(3))
async def test_an_honest_server_agrees(federation: Federation, seed: int) -> None:
    """After every operation and every change of the views, version by version."""
    watch = await auditor_of(federation)
    rng = random.Random(seed)
    await _live(federation, rng)
    report = await audit(watch)

    standing = report.hash_sets["csam"]
    assert report.is_complete
    assert not report.accuses
    latest = await federation.pool.fetchval("SELECT max(version) FROM publication")
    assert (standing.agreed_version, standing.compared) == (latest, latest)
    assert report.submissions == 10
    # It goes on where it ended.
    await push(federation, "acme", list(records(77)), Operation.ASSERT)
    later = (await audit(watch)).hash_sets["csam"]
    assert later.agreed_version > latest
    assert later.compared == later.agreed_version


@pytest.mark.parametrize("lost", range(1, 10, 2))
async def test_an_interrupted_audit_goes_on(federation: Federation, lost: int) -> None:
    """Cut off at any request, the next run comes to the same."""
    await auditor_of(federation)
    for n in range(3):
        await push(federation, "acme", list(records(n * 10 + 1, n * 10 + 2)), Operation.ASSERT)
    async with run_relay(federation, "watch") as relay:
        # Twice, since aiohttp itself asks again where a connection is lost before an answer.
        relay.before = lambda _method, _path: len(relay.requests) not in {lost, lost + 1}
        async with Client(relay.profile) as client:
            client.session.attempts = 1
            with pytest.raises(UnavailableError):
                await client.auditor.audit()
            report = await client.auditor.audit()
    assert report.is_complete
    assert report.hash_sets["csam"].agreed_version >= 3
    assert report.records == 6


async def test_a_member_audits_what_it_may_read(federation: Federation) -> None:
    """Signatures and chains of all; lists as far as it has every batch."""
    await push(federation, "acme", list(records(1)), Operation.ASSERT)
    own = (await audit(federation.members["acme"])).hash_sets["csam"]
    assert own.verdict is Verdict.AGREED
    await push(federation, "beta", list(records(2)), Operation.ASSERT)
    blind = (await audit(federation.members["acme"])).hash_sets["csam"]
    assert (blind.verdict, blind.agreed_version) == (Verdict.UNREADABLE, own.agreed_version)
    assert blind.leaf is not None


async def _altered(federation: Federation, log: HostileLog, **fields: object) -> int:
    """Let the last publication say something else of one list; return its leaf."""

    key = read_private_key(federation.folder / "coalition/keys/publisher.pem")
    index = max(
        i for i, x in enumerate(log.leaves) if parse_envelope(x).payload_type == PUBLICATION_TYPE
    )
    publication = decode_document(parse_envelope(log.leaves[index]).payload, Publication)
    lists = tuple(
        msgspec.structs.replace(p, **fields)
        if (p.view, p.algorithm) == ("all", HashAlgorithm.SHA256)
        else p
        for p in publication.lists
    )
    log.leaves[index] = altered_publication(log.leaves[index], key, lists=lists)
    del log.leaves[index + 1 :]
    return index


@pytest.mark.parametrize(
    "fields", [{"root": "ab" * 32}, {"count": 1}, {"bits": 3}], ids=["root", "count", "bits"]
)
async def test_a_published_list_that_is_not_the_fold(
    federation: Federation, fields: dict[str, object]
) -> None:
    """The publisher signs something else: the audit names the leaf and the list."""
    await auditor_of(federation)
    await push(federation, "acme", list(records(1, 2, 3)), Operation.ASSERT)
    async with run_relay(federation, "watch") as relay:
        log = HostileLog(relay.log, await genuine_leaves(federation.pool))
        index = await _altered(federation, log, **fields)
        relay.attack = log
        report = await audit(relay.profile)
    standing = report.hash_sets["csam"]
    assert report.accuses
    assert (standing.verdict, standing.leaf) == (Verdict.DIFFERS, index)
    assert list(standing.differing) == ["csam/all/sha256"]


PUT_WORDS_INTO_THE_MOUTH_OF_BETA = """
    INSERT INTO assertion
    SELECT hash_set_no, hash_id, beta.member_no, 1, NULL, record, classification, media, basis
      FROM assertion, member AS beta
     WHERE beta.member_id = 'beta' AND assertion.member_no <> beta.member_no
"""


async def test_words_put_into_a_members_mouth(federation: Federation) -> None:
    """The operator writes into its database what a member never signed: the bucket is named."""
    await auditor_of(federation)
    await push(federation, "beta", list(records(9)), Operation.ASSERT)
    await push(federation, "acme", list(records(1)), Operation.ASSERT)
    await federation.pool.execute(PUT_WORDS_INTO_THE_MOUTH_OF_BETA)
    (item,) = records(1)
    await push(federation, "acme", [replace(item, classification="A2")], Operation.ASSERT)
    report = await audit(federation.members["watch"])
    standing = report.hash_sets["csam"]
    assert standing.verdict is Verdict.DIFFERS
    assert standing.differing["csam/all/sha256"] == [0]
    assert standing.agreed_version >= 2
    # Nor does the next run think otherwise.
    assert (await audit(federation.members["watch"])).accuses


async def test_a_batch_that_the_server_has_lost(federation: Federation) -> None:
    """An auditor may read it, and it is not there: said, with the leaf that names it."""
    await auditor_of(federation)
    await push(federation, "acme", list(records(1)), Operation.ASSERT)

    def lose(answer: Answer) -> None:
        if "/batches/" in answer.path:
            answer.status, answer.body = 404, b""

    async with run_relay(federation, "watch") as relay:
        relay.attack = lose
        report = await audit(relay.profile)
    assert report.accuses
    assert report.hash_sets["csam"].verdict is Verdict.WITHHELD
    assert "not there" in report.hash_sets["csam"].reason


async def test_a_batch_that_is_not_the_signed_one(federation: Federation) -> None:
    """Other bytes than the member signed."""
    await auditor_of(federation)
    await push(federation, "acme", list(records(1)), Operation.ASSERT)
    await push(federation, "acme", list(records(2)), Operation.ASSERT)
    seen: list[bytes] = []

    def swap(answer: Answer) -> None:
        if "/batches/" in answer.path:
            seen.append(answer.body)
            answer.body = seen[0]

    async with run_relay(federation, "watch") as relay:
        relay.attack = swap
        report = await audit(relay.profile)
    standing = report.hash_sets["csam"]
    assert report.accuses
    assert standing.verdict is Verdict.WITHHELD
    assert "batch is wrong" in standing.reason
    assert standing.agreed_version >= 1


async def test_leaves_that_change_under_the_audit(federation: Federation) -> None:
    """What was folded is not what was verified: nothing of it counts, and nothing is kept."""
    watch = await auditor_of(federation)
    await push(federation, "acme", list(records(1)), Operation.ASSERT)
    async with run_relay(federation, "watch") as relay, Client(relay.profile) as client:
        await client.follow()
        publisher = relay.publisher

        def attack(answer: Answer) -> None:
            if answer.path.startswith("/v1/log/entries?first=0"):
                from hashshare.crypto.tiles import decode_entries, encode_entries

                count = int(answer.path.rpartition("=")[2])
                entries = decode_entries(answer.body, count=count)
                entries[-1] = altered_publication(
                    entries[-1], publisher, created_at="2020-01-01T00:00:00Z"
                )
                answer.body = encode_entries(entries)

        relay.attack = attack
        with pytest.raises(ProofInvalidError):
            await client.auditor.audit()
    assert (await audit(watch)).is_complete


def test_a_list_is_compared_in_all_that_is_signed() -> None:
    """So that a field that is added later is not forgotten."""
    assert set(PublishedList.__struct_fields__) == {"algorithm", "bits", "count", "root", "view"}


async def test_a_redacted_batch(federation: Federation) -> None:
    """It is deleted once nothing of it is in force; the audit says so, and goes on."""
    watch = await auditor_of(federation)
    await push(federation, "beta", list(records(5)), Operation.ASSERT)
    (item,) = records(6)
    await push(federation, "acme", [replace(item, record="r6")], Operation.ASSERT)
    leaf = await federation.pool.fetchval("SELECT max(log_index) FROM submission")
    now = datetime.now(UTC)
    async with Client(federation.admin) as admin:
        with pytest.raises(ConflictError):
            await admin.admin.redact(leaf, reason="court", now=now)
        await push(federation, "acme", [WithdrawRecord("r6", {})], Operation.WITHDRAW)
        done = await admin.admin.redact(leaf, reason="court", now=now)
        # The answer may have been lost.
        assert await admin.admin.redact(leaf, reason="court", now=now) == done
        with pytest.raises(NotFoundError):
            await admin.admin.redact(0, reason="court", now=now)
    await push(federation, "acme", list(records(7)), Operation.ASSERT)
    report = await audit(watch)
    assert len(report.redactions) == 1
    assert report.is_complete
    standing = report.hash_sets["csam"]
    latest = await federation.pool.fetchval("SELECT max(version) FROM publication")
    assert standing.agreed_version == latest
    # The one version that had it cannot be compared by those who come later.
    assert standing.compared == latest - 1
    async with Client(watch) as client:
        with pytest.raises(NotFoundError):
            await client.session.request("GET", f"/v1/batches/{report.redactions[0]}")
        await client.pull()


async def test_only_governance_redacts(federation: Federation) -> None:
    """An admin without its key cannot, nor a member."""
    await push(federation, "acme", list(records(6)), Operation.ASSERT)
    now = datetime.now(UTC)
    async with Client(federation.members["acme"]) as member:
        leaf = (await member.push("csam", records(8)))[0].log_index
        with pytest.raises(NotFoundError):
            await member.admin.redact(leaf, reason="mine", now=now)
    key = federation.admin.folder / "keys/governance.pem"
    key.unlink()
    write_private_key(key, PrivateKey.generate())
    async with Client(federation.admin) as admin:
        with pytest.raises(SignatureInvalidError):
            await admin.admin.redact(leaf, reason="mine", now=now)

"""What members pull, verified as a member does; and what they may not see."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.crypto.canonical import digest
from hashshare.crypto.envelope import parse_envelope
from hashshare.crypto.merkle import leaf_hash, verify_inclusion
from hashshare.crypto.note import verify_checkpoint
from hashshare.domain.buckets import EMPTY_BUCKET, bucket_index, parse_bucket, tag_of, verify_bucket
from hashshare.domain.changes import Version
from hashshare.domain.hashes import HashAlgorithm, HashValue
from hashshare.domain.names import HashSetId, ListName, ViewId
from hashshare.domain.policy import DisputeReason, View
from hashshare.domain.records import DisputeRecord, Record, WithdrawRecord
from hashshare.domain.statements import read_submission
from hashshare.errors import (
    ConflictError,
    NotFoundError,
    UnavailableError,
    VersionNotFoundError,
)
from hashshare.service import changes, news, snapshots
from hashshare.service.changes import key_ranges
from hashshare.service.deltas import MOST_PARTS
from hashshare.service.news import News
from hashshare.service.publish import Publisher
from hashshare.service.pull import PullService
from hashshare.storage.database import open_pool
from hashshare.wire.parquet import read_snapshot
from tests.support.coalition import (
    ACME,
    ADMIN,
    BETA,
    GAMMA,
    HASH_SET,
    Running,
    assertion,
    run_coalition,
)
from tests.support.publishing import (
    Asker,
    Contents,
    Story,
    apply_strictly,
    read_contents,
    read_delta,
    start_story,
)

SHA256 = HashAlgorithm.SHA256

KILL_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
async def running(dsn: str, tmp_path: Path) -> AsyncIterator[Running]:
    async with run_coalition(dsn, tmp_path / "blobs") as running:
        yield running


@pytest.fixture
def replica(tmp_path: Path) -> Path:
    return tmp_path / "replica.sqlite"


@pytest.fixture
async def publisher(running: Running, replica: Path) -> AsyncIterator[Publisher]:
    publisher = Publisher(
        running.pool, running.blobs, replica, lambda: [running.coalition.publisher]
    )
    yield publisher
    publisher.close()


@asynccontextmanager
async def _followed(news: News) -> AsyncIterator[News]:
    """Let news run."""
    task = asyncio.create_task(news.run())
    try:
        async with asyncio.timeout(30):
            await news.wait_until_known()
        yield news
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
async def pull(running: Running, replica: Path) -> AsyncIterator[PullService]:
    async with _followed(News(running.pool)) as news:
        service = PullService(running.pool, running.blobs, replica, running.registries.guard, news)
        yield service
        service.close()


@pytest.fixture
async def story(running: Running, publisher: Publisher, replica: Path) -> Story:
    """Three versions with additions, changes and removals."""
    story = await start_story(
        running, "told", algorithms=(SHA256,), views={"all": View(), "two": View(quorum=2)}
    )
    batches: list[list[Record]] = [
        [assertion(n, record=f"case-{n}") for n in range(300)],
        [WithdrawRecord(record=f"case-{n}", hashes={}) for n in range(50)],
        [assertion(n, record=f"case-{n}", classification="A2") for n in range(40, 120)],
    ]
    for records in batches:
        await story.push(ACME, records)
        await story.push(BETA, [assertion(len(story.published) * 30 + n) for n in range(60)])
        await story.verify(await publisher.publish_once(story.hash_set), replica)
    return story


def _name(story: Story, view: str = "all") -> ListName:
    return ListName(story.hash_set, ViewId(view), SHA256)


async def test_a_publication_proves_itself(
    running: Running, pull: PullService, story: Story
) -> None:
    """Its leaf is in the tree of its checkpoint; the same bytes each time, for ever."""
    verifier = running.coalition.log.verifier
    bundles = [
        await pull.publication(story.hash_set, Version(v), reader=story.admin) for v in (1, 2, 3)
    ]
    for bundle in bundles:
        checkpoint = verify_checkpoint(bundle.checkpoint, verifier)
        assert checkpoint.size == bundle.log_index + 1
        verify_inclusion(
            leaf_hash(bundle.envelope),
            index=bundle.log_index,
            size=checkpoint.size,
            proof=bundle.inclusion,
            root=checkpoint.root,
        )
        pull._bundles.clear()
        again = await pull.publication(story.hash_set, bundle.version, reader=story.admin)
        assert again == bundle

    await pull.wait_for_news(
        story.hash_set, after=Version(2), timeout_seconds=10, reader=story.admin
    )
    assert await pull.publication(story.hash_set, reader=story.admin) == bundles[-1]
    with pytest.raises(VersionNotFoundError):
        await pull.publication(story.hash_set, Version(4), reader=story.admin)


@pytest.mark.parametrize("part", [1, 7, 100_000])
async def test_deltas_lead_from_any_version_to_any_later_one(
    pull: PullService, story: Story, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """However few changes are held in memory; with the roots of both ends."""
    monkeypatch.setattr(changes, "PART_CHANGES", part)
    monkeypatch.setattr("hashshare.service.deltas.PART_CHANGES", part)
    publications = [
        await pull.publication(story.hash_set, Version(v), reader=story.admin) for v in (1, 2, 3)
    ]
    for view in ("all", "two"):
        name = _name(story, view)
        roots = {Version(0): leaf_hash(EMPTY_BUCKET).hex()}
        for version, bundle in enumerate(publications, 1):
            payload = msgspec.json.decode(parse_envelope(bundle.envelope).payload)
            (roots[Version(version)],) = [p["root"] for p in payload["lists"] if p["view"] == view]
        history: dict[Version, Contents] = {Version(0): {}}
        history |= {v: lists[name] for v, lists in story.published.items()}
        for base, target in [(b, t) for b in history for t in history if b <= t]:
            chunks = await pull.delta(name, base=base, target=target, reader=story.admin)
            header, changed = await read_delta(chunks, name)
            assert (header.base_root, header.target_root) == (roots[base], roots[target])
            assert apply_strictly(history[base], changed) == history[target]


@pytest.mark.parametrize("part", [1, 100_000])
async def test_readers_that_stop_reading_hold_up_nobody(
    pull: PullService, story: Story, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """Few deltas are in the making at once; one that is half read, and left, is not."""
    monkeypatch.setattr(changes, "PART_CHANGES", part)
    monkeypatch.setattr("hashshare.service.deltas.PART_CHANGES", part)
    name = _name(story)

    async def open_delta() -> AsyncIterator[bytes]:
        return await pull.delta(name, base=Version(0), target=Version(3), reader=story.admin)

    async with asyncio.timeout(60):
        left = [await open_delta() for _ in range(2 * MOST_PARTS)]
        for chunks in left:
            await anext(chunks)
        several = [await open_delta() for _ in range(2 * MOST_PARTS)]
        read = await asyncio.gather(*(read_delta(chunks, name) for chunks in several))
    for _, changed in read:
        assert apply_strictly({}, changed) == story.published[Version(3)][name]


@pytest.mark.parametrize(("base", "target"), [(2, 1), (0, 4), (4, 4), (3, 4)])
async def test_there_are_no_other_deltas(
    pull: PullService, story: Story, base: int, target: int
) -> None:
    """Neither back nor into the future."""
    with pytest.raises(VersionNotFoundError):
        await pull.delta(
            _name(story), base=Version(base), target=Version(target), reader=story.admin
        )


@given(st.integers(1, 50), st.binary(min_size=4, max_size=4))
def test_key_ranges_are_a_partition(parts: int, key: bytes) -> None:
    """Each key is in one of them, and they follow each other."""
    ranges = list(key_ranges(parts))

    assert len(ranges) == parts
    assert [a[1] for a, _ in pairwise(ranges)] == [b[0] for _, b in pairwise(ranges)]
    assert (ranges[0][0], ranges[-1][1]) == (None, None)
    found = [(a, b) for a, b in ranges if (a is None or key >= a) and (b is None or key < b)]
    assert len(found) == 1


async def test_a_snapshot_is_what_was_published(
    publisher: Publisher, pull: PullService, story: Story, tmp_path: Path
) -> None:
    """Its entries and digest; and it can be resumed anywhere."""
    name = _name(story)
    with pytest.raises(VersionNotFoundError):
        await pull.snapshot(name, reader=story.admin)
    await publisher.build_snapshots()

    row = await pull.snapshot(name, reader=story.admin)
    _, chunks = await pull.open_snapshot(name, row.version, reader=story.admin)
    data = b"".join([chunk async for chunk in chunks])
    _, chunks = await pull.open_snapshot(name, row.version, offset=100, reader=story.admin)
    rest = b"".join([chunk async for chunk in chunks])

    assert (row.version, row.count) == (3, len(story.published[Version(3)][name]))
    assert (digest(data), len(data)) == (row.sha256, row.size)
    assert rest == data[100:]
    path = tmp_path / "snapshot.parquet"
    path.write_bytes(data)
    chunks_read = read_snapshot(path, SHA256, max_count=row.count)
    entries = {value: text for chunk in chunks_read for value, text in chunk.entries()}
    assert entries == story.published[Version(3)][name]
    with pytest.raises(VersionNotFoundError):
        await pull.open_snapshot(name, Version(2), reader=story.admin)


async def test_who_comes_first_waits_for_the_snapshot(
    story: Story, pull: PullService, publisher: Publisher
) -> None:
    """As long as it is due, and no longer than it likes."""
    name = _name(story)
    await pull.wait_for_snapshot(name, timeout_seconds=0.01, reader=story.admin)
    with pytest.raises(VersionNotFoundError):
        await pull.snapshot(name, reader=story.admin)
    waiting = asyncio.create_task(
        pull.wait_for_snapshot(name, timeout_seconds=60, reader=story.admin)
    )
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await publisher.build_snapshots()
    await asyncio.wait_for(waiting, 30)
    assert (await pull.snapshot(name, reader=story.admin)).count


async def test_no_snapshot_is_written_from_a_replica_that_is_behind(
    story: Story, pull: PullService, publisher: Publisher, tmp_path: Path
) -> None:
    """As it is for a moment after each publication: it would never be written again."""
    behind = tmp_path / "behind.sqlite"
    with (
        closing(sqlite3.connect(pull.replica_path)) as now,
        closing(sqlite3.connect(behind)) as copy,
    ):
        now.backup(copy)
    await story.push(GAMMA, [assertion(7000)])
    await publisher.publish_once(story.hash_set)
    assert await snapshots.SnapshotBuilder(pull.pool, pull.blobs, behind).build_due() == []
    await publisher.build_snapshots()
    assert (await pull.snapshot(_name(story), reader=story.admin)).version == 4


async def test_a_snapshot_is_written_again_once_much_has_changed(
    publisher: Publisher, pull: PullService, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a twentieth of the list, and not for a handful of changes."""
    await publisher.build_snapshots()
    monkeypatch.setattr(snapshots, "MIN_CHANGES", 20)
    name = _name(story, "all")

    async def version_after(count: int, first: int) -> int:
        await story.push(GAMMA, [assertion(first + n) for n in range(count)])
        await publisher.publish_once(story.hash_set)
        await publisher.build_snapshots()
        return (await pull.snapshot(name, reader=story.admin)).version

    assert await version_after(20, 1000) == 3
    assert await version_after(1, 2000) == 5


async def test_a_bucket_proves_what_is_in_the_list_and_what_is_not(
    running: Running, pull: PullService, story: Story
) -> None:
    """Against the root in the publication."""
    name = _name(story)
    bundle = await pull.publication(story.hash_set, Version(3), reader=story.admin)
    payload = msgspec.json.decode(parse_envelope(bundle.envelope).payload)
    (published,) = [p for p in payload["lists"] if p["view"] == "all"]
    bits, root = published["bits"], bytes.fromhex(published["root"])
    contents = story.published[Version(3)][name]
    for value in [*list(contents)[:5], bytes.fromhex(digest(b"unknown"))]:
        index = bucket_index(value, bits)
        proof = await pull.bucket(name, index, bits=bits, reader=story.admin)
        verify_bucket(proof.data, index=index, bits=bits, path=proof.path, root=root)
        tag = parse_bucket(proof.data, SHA256, index=index, bits=bits).find(SHA256, value)
        expected = contents.get(value)
        assert (tag and proof.attributes[tag]) == expected
        assert tag == (expected and tag_of(expected))
    with pytest.raises(ConflictError):
        await pull.bucket(name, 0, bits=bits + 1, reader=story.admin)
    with pytest.raises(NotFoundError):
        await pull.bucket(name, 1 << bits, bits=bits, reader=story.admin)


async def test_what_may_not_be_read_does_not_exist(pull: PullService, story: Story) -> None:
    """The same error with the same words, whatever is asked for."""
    await story.reform(readers=(), contributors=(ACME, BETA))
    stranger = Asker(GAMMA, story.registry)

    async def message(hash_set: str) -> list[str]:
        name = ListName(HashSetId(hash_set), ViewId("all"), SHA256)
        set_id, value = name.hash_set, HashValue(SHA256, b"\x01" * 32)
        one, reader = Version(1), stranger
        attempts: list[Callable[[], Awaitable[object]]] = [
            lambda: pull.publication(set_id, reader=reader),
            lambda: pull.publication(set_id, one, reader=reader),
            lambda: pull.snapshot(name, reader=reader),
            lambda: pull.open_snapshot(name, one, reader=reader),
            lambda: pull.delta(name, base=Version(0), target=one, reader=reader),
            lambda: pull.bucket(name, 0, bits=0, reader=reader),
            lambda: pull.provenance(set_id, value, reader=reader),
            lambda: pull.wait_for_news(set_id, after=one, timeout_seconds=0, reader=reader),
        ]
        messages = []
        for attempt in attempts:
            with pytest.raises(NotFoundError) as caught:
                await attempt()
            messages.append(str(caught.value).replace(hash_set, "*"))
        with pytest.raises(NotFoundError) as caught:
            pull.latest_version(set_id, reader=reader)
        return [*messages, str(caught.value).replace(hash_set, "*")]

    assert await message(story.hash_set) == await message("nothing-of-that-name")


async def test_a_list_that_is_not_published_does_not_exist(pull: PullService, story: Story) -> None:
    """An algorithm or view that the hash set does not have."""
    for name in (
        ListName(story.hash_set, ViewId("other"), SHA256),
        ListName(story.hash_set, ViewId("all"), HashAlgorithm.MD5),
    ):
        with pytest.raises(NotFoundError):
            await pull.delta(name, base=Version(0), target=Version(1), reader=story.admin)


async def test_provenance_says_who_said_what_and_proves_it(
    running: Running, pull: PullService, story: Story
) -> None:
    """Also what was taken back; record ids for their own member only."""
    value = HashValue(SHA256, assertion(45).hashes[SHA256])
    await story.push(
        GAMMA, [DisputeRecord(hashes={SHA256: value.value}, reason=DisputeReason.COLLISION)]
    )

    found = await pull.provenance(story.hash_set, value, reader=story.admin)

    said = [(s.member, s.verdict, s.record, s.classification, s.reason) for s in found]
    assert said == [
        (ACME, "assert", "case-45", "A1", None),
        (BETA, "assert", "", "A1", None),
        (ACME, "assert", "case-45", "A2", None),
        (GAMMA, "dispute", "", None, "collision"),
    ]
    ended = [s.ended_log_index is not None for s in found]
    assert ended == [True, False, False, False]
    assert found[0].ended_log_index is not None
    assert found[0].log_index < found[0].ended_log_index < found[2].log_index
    for statement in found:
        submission = read_submission(parse_envelope(statement.envelope), story.registry)
        assert submission.member == statement.member

    records = [
        [s.record for s in await pull.provenance(story.hash_set, value, reader=Asker(m, r))]
        for m, r in [(ACME, story.registry), (BETA, story.registry), (ADMIN, story.registry)]
    ]
    assert records == [
        ["case-45", "", "case-45", ""],
        ["", "", "", ""],
        ["case-45", "", "case-45", ""],
    ]


async def test_provenance_names_nobody_where_views_do_not(pull: PullService, story: Story) -> None:
    """Members that are only counted stay unnamed to others, and a hash unknown."""
    value = HashValue(SHA256, assertion(45).hashes[SHA256])
    await story.reform(views={"all": View(show_members=False)})

    own = await pull.provenance(story.hash_set, value, reader=Asker(BETA, story.registry))

    assert {s.member for s in own} == {BETA}
    with pytest.raises(NotFoundError):
        await pull.provenance(story.hash_set, value, reader=Asker(GAMMA, story.registry))


async def test_nothing_new_is_answered_without_the_database(
    dsn: str, running: Running, publisher: Publisher, replica: Path
) -> None:
    """Even when the database is gone, as long as it was heard of lately."""
    async with open_pool(dsn, min_size=1, max_size=2) as pool, _followed(News(pool)) as news:
        await publisher.publish_once(HASH_SET)
        await news.wait_for_version(HASH_SET, after=Version(0), timeout_seconds=10)
    service = PullService(pool, running.blobs, replica, running.registries.guard, news)
    reader = Asker(ADMIN, (await running.registries.current()).registry)

    assert service.latest_version(HASH_SET, reader=reader) == 1
    for after, timeout_seconds in ((Version(0), 60), (Version(1), 0)):
        version = await service.wait_for_news(
            HASH_SET, after=after, timeout_seconds=timeout_seconds, reader=reader
        )
        assert version == 1


async def test_news_out_of_contact_is_no_news(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that hears nothing of the database does not say that nothing is new."""
    with pytest.raises(UnavailableError):
        News(running.pool).latest_version(HASH_SET)
    async with _followed(News(running.pool)) as following:
        assert following.latest_version(HASH_SET) == 0
        monkeypatch.setattr(news, "STALE_SECONDS", -1.0)
        with pytest.raises(UnavailableError):
            following.latest_version(HASH_SET)


async def test_news_comes_by_notice_and_by_poll(
    running: Running, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without polls a notice brings it; without notices a poll does."""
    monkeypatch.setattr(news, "POLL_SECONDS", 3600.0)
    deaf = News(running.pool)
    monkeypatch.setattr(deaf, "_hear", lambda _: None)
    async with _followed(News(running.pool)) as heard:
        async with _followed(deaf):
            row = await publisher.publish_once(HASH_SET)
            assert row is not None
            await _learns(heard)
            size = await heard.wait_for_log(after=row.log_index, timeout_seconds=30)
            assert size == row.log_index + 1
            assert deaf.latest_version(HASH_SET) == 0
        monkeypatch.setattr(news, "POLL_SECONDS", 0.01)
        async with _followed(deaf):
            await _learns(deaf)


async def _learns(following: News) -> None:
    version = await following.wait_for_version(HASH_SET, after=Version(0), timeout_seconds=30)
    assert version == 1


async def test_a_change_of_membership_is_news_and_so_is_a_lost_connection(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known of members is to be read again, since a notice may have been missed."""
    monkeypatch.setattr(news, "POLL_SECONDS", 0.01)
    async with _followed(News(running.pool)) as following:
        epoch = following.membership_epoch
        registry = (await running.registries.current()).registry
        await running.change_registry(registry.with_member(ACME, registry.members[ACME]))
        changed = await following.wait_for_membership(after=epoch, timeout_seconds=30)
        assert changed > epoch

        await running.pool.execute(KILL_OTHERS)
        assert await following.wait_for_membership(after=changed, timeout_seconds=30) > changed


async def test_servers_agree(
    dsn: str, running: Running, story: Story, pull: PullService, tmp_path: Path
) -> None:
    """Another server with a pool and replica of its own answers the same."""
    async with open_pool(dsn, min_size=1, max_size=4) as pool:
        path = tmp_path / "other.sqlite"
        publisher = Publisher(pool, running.blobs, path, lambda: [running.coalition.publisher])
        await publisher.catch_up()
        other = PullService(pool, running.blobs, path, running.registries.guard, News(pool))
        name, admin = _name(story), story.admin
        assert read_contents(path, name) == story.published[Version(3)][name]
        for version in (Version(1), Version(3)):
            bundles = [
                await service.publication(story.hash_set, version, reader=admin)
                for service in (pull, other)
            ]
            assert bundles[0] == bundles[1]
        answers = []
        for service in (pull, other):
            chunks = await service.delta(name, base=Version(1), target=Version(3), reader=admin)
            answers.append(b"".join([chunk async for chunk in chunks]))
        assert answers[0] == answers[1]
        other.close()
        publisher.close()

"""The publisher against the fold: what it publishes, when, and when it is killed."""

import asyncio
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from itertools import combinations, count
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.crypto.canonical import digest
from hashshare.crypto.keys import PrivateKey, write_private_key
from hashshare.domain.changes import Version
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.names import ListName, MemberId
from hashshare.domain.policy import QuorumOf, View
from hashshare.domain.records import Record
from hashshare.errors import ConflictError, PermissionDeniedError, RollbackError
from hashshare.service.news import News
from hashshare.service.publish import Publisher
from hashshare.service.pull import PullService
from hashshare.storage.changes import unpack_changes
from hashshare.storage.database import open_pool
from hashshare.wire.parquet import read_snapshot
from tests.strategies import MEMBERS, batches, views
from tests.support.coalition import (
    ACME,
    BETA,
    GAMMA,
    HASH_SET,
    Running,
    assertion,
    run_coalition,
)
from tests.support.dying_publisher import POINTS
from tests.support.examples import with_database
from tests.support.publishing import (
    Contents,
    Story,
    apply_strictly,
    read_contents,
    read_delta,
    start_story,
)

COUNT_LEAVES = """
    SELECT count(*) FROM leaf
     WHERE payload_type = 'application/vnd.hashshare.publication.v1+json'
"""
SELECT_VERSIONS = """
    SELECT version FROM publication JOIN hash_set USING (hash_set_no)
     WHERE hash_set_id = $1
     ORDER BY version
"""
KILL_ELECTED = """
    SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
"""


@pytest.fixture
async def running(dsn: str, tmp_path: Path) -> AsyncIterator[Running]:
    async with run_coalition(dsn, tmp_path / "blobs") as running:
        yield running


@pytest.fixture
def replica(tmp_path: Path) -> Path:
    return tmp_path / "replica.sqlite"


@pytest.fixture
def publisher(running: Running, replica: Path) -> Iterator[Publisher]:
    publisher = _publisher(running, replica)
    yield publisher
    publisher.close()


def _publisher(running: Running, replica: Path) -> Publisher:
    return Publisher(running.pool, running.blobs, replica, lambda: [running.coalition.publisher])


def _pull(running: Running, replica: Path) -> PullService:
    news = News(running.pool)
    return PullService(running.pool, running.blobs, replica, running.registries.guard, news)


Policy = dict[str, View]
Step = tuple[MemberId, list[Record]] | Policy | tuple[MemberId, str] | None

policies = st.dictionaries(st.sampled_from(["all", "some"]), views, max_size=2)
pushes = st.tuples(st.sampled_from(MEMBERS), batches)
moves = st.tuples(st.sampled_from(MEMBERS), st.sampled_from(["US", "GB", ""]))
steps = st.lists(
    st.one_of(pushes, pushes, pushes, policies, moves, st.none(), st.none()), max_size=14
)
numbers = count()


@given(policies, steps)
@with_database
@pytest.mark.timeout(300)
async def test_every_publication_equals_the_fold(
    running: Running, publisher: Publisher, replica: Path, first: Policy, steps: list[Step]
) -> None:
    """Whatever is submitted and however the policy changes; and deltas lead from any to any."""
    story = await start_story(running, f"set-{next(numbers)}", views=first)
    for step in [*steps, None]:
        match step:
            case None:
                row = await publisher.publish_once(story.hash_set)
                if row is not None:
                    await story.verify(row, replica)
            case dict():
                await story.reform(views=step)
            case (member, said):
                await _say_or_move(story, member, said)
    await _verify_deltas(story, _pull(running, replica))
    await _verify_followed(running, story, replica)


async def _say_or_move(story: Story, member: MemberId, said: list[Record] | str) -> None:
    if isinstance(said, str):
        await _move(story, member, said)
    else:
        await story.push(member, said)


async def _move(story: Story, member: MemberId, jurisdiction: str) -> None:
    moved = msgspec.structs.replace(story.registry.members[member], jurisdiction=jurisdiction)
    await story.put_into_force(story.registry.with_member(member, moved))


async def _verify_deltas(story: Story, pull: PullService) -> None:
    """Between any two versions, for every list that may be read now."""
    names = story.registry.lists(story.hash_set)
    history: dict[Version, dict[ListName, Contents]] = {
        Version(0): {name: {} for name in names},
        **story.published,
    }
    for base, target in combinations(history, 2):
        for name in names:
            if name in history[base] and name in history[target]:
                chunks = await pull.delta(name, base=base, target=target, reader=story.admin)
                header, changes = await read_delta(chunks, name)
                assert (header.base, header.target) == (base, target)
                assert apply_strictly(history[base][name], changes) == history[target][name]


async def _verify_followed(running: Running, story: Story, replica: Path) -> None:
    """A replica that begins now comes to the same entries and roots."""
    other = replica.with_name(f"{story.hash_set}.sqlite")
    follower = _publisher(running, other)
    await follower.catch_up()
    follower.close()
    for name in story.registry.lists(story.hash_set):
        assert read_contents(other, name) == read_contents(replica, name)
    other.unlink()


async def test_the_first_version_is_empty_and_later_ones_cover_what_came(
    running: Running, publisher: Publisher, replica: Path
) -> None:
    """Version 1 needs no submission, and nothing is published twice."""
    story = await start_story(running, "new")

    first = await publisher.publish_once(story.hash_set)
    assert first is not None
    assert {p.count for p in (await story.verify(first, replica)).lists} == {0}
    assert await publisher.publish_once(story.hash_set) is None

    await story.push(ACME, [assertion(1)])
    await story.push(BETA, [assertion(1), assertion(2)])
    second = await publisher.publish_once(story.hash_set)
    assert second is not None
    publication = await story.verify(second, replica)
    assert publication.previous == first.statement_id
    assert await publisher.publish_once(story.hash_set) is None


async def test_submissions_that_change_no_list_are_published_too(
    running: Running, publisher: Publisher, replica: Path
) -> None:
    """So that a member sees that its submission was looked at."""
    story = await start_story(running, "new")
    await story.push(ACME, [assertion(1)])
    await publisher.publish_once(story.hash_set)
    await story.push(ACME, [assertion(1)])

    row = await publisher.publish_once(story.hash_set)

    assert row is not None
    assert row.version == 2


async def test_what_does_not_concern_a_hash_set_is_not_published(
    running: Running, publisher: Publisher
) -> None:
    """Not another hash set's submissions, nor titles, readers or other members."""
    story = await start_story(running, "quiet")
    await publisher.publish_all()

    await running.push(ACME, [assertion(1)])
    await story.reform(title="Another title", readers=("acme",))
    await _move(story, ACME, "FR")
    rows = await publisher.publish_all()

    assert [row.hash_set for row in rows] == [HASH_SET]


async def test_a_hash_set_without_views_is_not_published(
    running: Running, publisher: Publisher
) -> None:
    """There is nothing to say of it, until it has one."""
    story = await start_story(running, "bare", views={})
    await story.push(ACME, [assertion(1)])
    assert await publisher.publish_once(story.hash_set) is None

    await story.reform(views={"all": View()})

    assert await publisher.publish_once(story.hash_set) is not None


async def test_a_new_algorithm_gets_its_lists(
    running: Running, publisher: Publisher, replica: Path
) -> None:
    """A change of the algorithms alone makes a version."""
    story = await start_story(running, "new", algorithms=(HashAlgorithm.SHA256,))
    await publisher.publish_once(story.hash_set)
    story.published[Version(1)] = {}

    await story.reform(algorithms=(HashAlgorithm.MD5, HashAlgorithm.SHA256))

    row = await publisher.publish_once(story.hash_set)
    assert row is not None
    assert len((await story.verify(row, replica)).lists) == 4


async def test_many_changes_are_cut_into_runs(
    running: Running, publisher: Publisher, replica: Path
) -> None:
    """More than a run's worth of additions, changes and removals, in one version each."""
    story = await start_story(running, "many", views={"all": View()})
    await story.push(ACME, [assertion(n) for n in range(10_000)])
    await story.verify(await publisher.publish_once(story.hash_set), replica)
    sizes = [
        len(unpack_changes(HashAlgorithm.SHA256, row["changes"]))
        for row in await running.pool.fetch("SELECT changes FROM change_run ORDER BY part")
    ]
    assert sizes == [4096, 4096, 10_000 - 2 * 4096]
    await story.push(BETA, [assertion(n) for n in range(9_000)])
    await story.verify(await publisher.publish_once(story.hash_set), replica)
    await story.reform(views={"all": View(quorum=2)})
    await story.verify(await publisher.publish_once(story.hash_set), replica)

    await _verify_deltas(story, _pull(running, replica))
    await _verify_followed(running, story, replica)


async def test_a_move_of_a_member_counts_where_jurisdictions_do(
    running: Running, publisher: Publisher, replica: Path
) -> None:
    """Without any submission: two members of one country are one voice, until one moves."""
    counted = View(quorum=2, quorum_of=QuorumOf.JURISDICTIONS)
    story = await start_story(running, "moved", views={"all": View(), "counted": counted})
    await story.push(ACME, [assertion(1)])
    await story.push(BETA, [assertion(1)])
    before = await story.verify(await publisher.publish_once(story.hash_set), replica)

    await _move(story, BETA, "GB")

    after = await story.verify(await publisher.publish_once(story.hash_set), replica)
    assert [p.count for p in before.lists if p.view == "counted"] == [0, 0, 0]
    assert [p.count for p in after.lists if p.view == "counted"] == [0, 0, 1]


async def test_a_damaged_replica_is_never_signed(
    running: Running, publisher: Publisher, replica: Path
) -> None:
    """A bucket that is not what it was is noticed when it changes, and the lists are rebuilt."""
    story = await start_story(running, "damaged", views={"all": View()})
    await story.push(ACME, [assertion(1)])
    await story.verify(await publisher.publish_once(story.hash_set), replica)
    with closing(sqlite3.connect(replica)) as connection, connection:
        connection.execute(
            "UPDATE bucket SET data ="
            " CAST(substr(data, 1, 4) || zeroblob(32) || substr(data, 37) AS BLOB)"
        )

    await story.push(BETA, [assertion(1)])

    await story.verify(await publisher.publish_once(story.hash_set), replica)


async def test_a_list_keeps_its_bits_when_its_view_comes_back(
    running: Running, publisher: Publisher, replica: Path
) -> None:
    """Members that kept the list can go on from what they have."""
    story = await start_story(running, "back", views={"all": View()})
    await story.push(ACME, [assertion(n) for n in range(1_000)])
    before = await story.verify(await publisher.publish_once(story.hash_set), replica)
    await story.reform(views={})
    await story.verify(await publisher.publish_once(story.hash_set), replica)
    await story.reform(views={"all": View(quorum=2)})
    after = await story.verify(await publisher.publish_once(story.hash_set), replica)

    assert [p.bits for p in after.lists] == [p.bits for p in before.lists]
    assert {p.count for p in after.lists} == {0}
    await _verify_deltas(story, _pull(running, replica))


async def test_a_publisher_whose_key_is_not_registered_publishes_nothing(
    running: Running, replica: Path
) -> None:
    """Members would refuse what it signs."""
    stranger = Publisher(running.pool, running.blobs, replica, lambda: [PrivateKey.generate()])

    with pytest.raises(PermissionDeniedError):
        await stranger.publish_once(HASH_SET)

    assert await running.pool.fetchval(COUNT_LEAVES) == 0
    stranger.close()


async def test_a_database_older_than_the_replica_is_refused(
    running: Running, publisher: Publisher, replica: Path
) -> None:
    """Members have seen a version that a restored backup would make a second time."""
    await publisher.publish_once(HASH_SET)
    await running.pool.execute("TRUNCATE publication, list_state, change_run, snapshot")

    with pytest.raises(RollbackError):
        await publisher.publish_once(HASH_SET)


async def test_a_replica_that_is_no_replica_is_made_anew(
    running: Running, publisher: Publisher, replica: Path
) -> None:
    """It holds nothing that the database does not."""
    story = await start_story(running, "new")
    await story.push(ACME, [assertion(1)])
    await publisher.publish_once(story.hash_set)
    publisher.close()
    _damage(replica)

    other = _publisher(running, replica)
    await story.push(BETA, [assertion(2)])
    story.published[Version(1)] = {}
    await story.verify(await other.publish_once(story.hash_set), replica)
    other.close()


def _damage(replica: Path) -> None:
    for path in replica.parent.glob("replica.sqlite*"):
        path.unlink()
    replica.write_bytes(b"damaged" * 1000)


async def test_two_publishers_never_fork(dsn: str, running: Running, tmp_path: Path) -> None:
    """Without any election: versions have no gap, and each has one leaf."""
    story = await start_story(running, "both")
    paths = [tmp_path / "one.sqlite", tmp_path / "two.sqlite"]
    async with open_pool(dsn, min_size=1, max_size=4) as pool:
        publishers = [
            Publisher(p, running.blobs, path, lambda: [running.coalition.publisher])
            for p, path in zip([running.pool, pool], paths, strict=True)
        ]

        async def publish(publisher: Publisher) -> None:
            for _ in range(10):
                with suppress(ConflictError):
                    await publisher.publish_once(story.hash_set)

        async def submit(member: MemberId) -> None:
            for number in range(10):
                await story.push(member, [assertion(number)])

        await asyncio.gather(*map(publish, publishers), *map(submit, MEMBERS))
        for publisher in publishers:
            with suppress(ConflictError):
                await publisher.publish_once(story.hash_set)
            await publisher.catch_up()
            publisher.close()

    versions = [row["version"] for row in await running.pool.fetch(SELECT_VERSIONS, story.hash_set)]
    assert versions == list(range(1, len(versions) + 1))
    assert await running.pool.fetchval(COUNT_LEAVES) == len(versions)
    for name, contents in story.expected().items():
        assert read_contents(paths[0], name) == contents
        assert read_contents(paths[1], name) == contents


@pytest.mark.parametrize("point", POINTS)
async def test_a_killed_publisher_leaves_nothing_half_done(
    dsn: str, running: Running, tmp_path: Path, replica: Path, point: str
) -> None:
    """Killed hard at any point, the next publisher comes to where it would have come."""
    story = await start_story(running, "killed")
    publisher = _publisher(running, replica)
    await story.push(ACME, [assertion(n) for n in range(300)])
    await story.verify(await publisher.publish_once(story.hash_set), replica)
    publisher.close()
    await story.push(BETA, [assertion(n) for n in range(200, 2_000)])

    await _die(dsn, tmp_path, running, story, point)

    publisher = _publisher(running, replica)
    await publisher.catch_up()
    rows = await publisher.publish_all()
    await publisher.build_snapshots()
    publisher.close()
    published = [
        row["version"] for row in await running.pool.fetch(SELECT_VERSIONS, story.hash_set)
    ]
    assert published == [1, 2]
    survived = point in POINTS[POINTS.index("after postgresql committed") :]
    assert (story.hash_set in [row.hash_set for row in rows]) != survived
    for name, contents in story.expected().items():
        assert read_contents(replica, name) == contents
        assert await _read_snapshot(running, replica, name, tmp_path, story) == contents
    story.published[Version(2)] = story.expected()
    await _verify_deltas(story, _pull(running, replica))


async def _die(dsn: str, folder: Path, running: Running, story: Story, point: str) -> None:
    """Run a publisher that is killed at ``point``."""
    key = folder / "publisher.pem"
    write_private_key(key, running.coalition.publisher)
    paths = [folder / "blobs", folder / "replica.sqlite", key]
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "tests.support.dying_publisher", dsn, *map(str, paths)],
        *[story.hash_set, point],
        cwd=Path(__file__).parents[2],
    )
    assert await process.wait() == -signal.SIGKILL


async def _read_snapshot(
    running: Running, replica: Path, name: ListName, folder: Path, story: Story
) -> dict[bytes, bytes]:
    """Return what the latest snapshot of a list says, verified against its digest."""
    pull = _pull(running, replica)
    row = await pull.snapshot(name, reader=story.admin)
    _, chunks = await pull.open_snapshot(name, row.version, reader=story.admin)
    data = b"".join([chunk async for chunk in chunks])
    assert (digest(data), len(data)) == (row.sha256, row.size)
    path = folder / "snapshot.parquet"
    path.write_bytes(data)
    return dict(
        entry
        for chunk in read_snapshot(path, name.algorithm, max_count=row.count)
        for entry in chunk.entries()
    )


@asynccontextmanager
async def _server(dsn: str, running: Running, replica: Path) -> AsyncIterator[News]:
    """Run a publisher as a server process does: with a pool and news of its own."""
    async with open_pool(dsn, min_size=1, max_size=6) as pool:
        news = News(pool)
        publisher = Publisher(pool, running.blobs, replica, lambda: [running.coalition.publisher])
        tasks = [asyncio.create_task(news.run()), asyncio.create_task(publisher.run(news))]
        await news.wait_until_known()
        try:
            yield news
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            publisher.close()


async def test_servers_take_over_from_each_other(
    dsn: str, running: Running, tmp_path: Path
) -> None:
    """One of two publishes; when it ends the other does; both replicas follow."""
    paths = [tmp_path / "one.sqlite", tmp_path / "two.sqlite"]
    async with _server(dsn, running, paths[0]) as second_news:
        async with _server(dsn, running, paths[1]) as news:
            await running.push(ACME, [assertion(1)])
            version = await _published_above(news, Version(0))
            await running.push(BETA, [assertion(1)])
            version = await _published_above(news, version)
        await running.push(GAMMA, [assertion(1)])
        version = await _published_above(second_news, version)
        await running.pool.execute(KILL_ELECTED)
        await running.push(GAMMA, [assertion(2)])
        await _published_above(second_news, version)

    versions = [row["version"] for row in await running.pool.fetch(SELECT_VERSIONS, HASH_SET)]
    assert versions == list(range(1, len(versions) + 1))
    assert await running.pool.fetchval(COUNT_LEAVES) == len(versions)


async def _published_above(news: News, version: Version) -> Version:
    """Wait until everything submitted is published, and return its version."""
    latest = await news.wait_for_version(HASH_SET, after=version, timeout_seconds=30)
    assert latest > version
    return latest

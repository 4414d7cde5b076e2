"""Previews against the fold: what they tell is what would be published, and nothing comes true."""

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.domain.documents import encode_document
from hashshare.domain.names import ListName, MemberId
from hashshare.domain.policy import View
from hashshare.domain.records import Record
from hashshare.domain.registry import Registry
from hashshare.errors import MalformedError, RegistryConflictError, UnavailableError
from hashshare.service.preview import PreviewService
from hashshare.wire.compression import Inflater
from hashshare.wire.preview import (
    PreviewChange,
    PreviewEnd,
    PreviewHeader,
    PreviewLine,
    PreviewList,
    parse_line,
)
from tests.strategies import MEMBERS, batches, views
from tests.support.coalition import Running, assertion, run_coalition
from tests.support.examples import with_database
from tests.support.publishing import Contents, Story, start_story
from tests.support.state import read_all

policies = st.dictionaries(st.sampled_from(["all", "some"]), views, max_size=2)
pushes = st.lists(st.tuples(st.sampled_from(MEMBERS), batches), max_size=6)
moves = st.none() | st.tuples(st.sampled_from(MEMBERS), st.sampled_from(["US", "GB", ""]))
numbers = count()


@pytest.fixture
async def running(dsn: str, tmp_path: Path) -> AsyncIterator[Running]:
    async with run_coalition(dsn, tmp_path / "blobs") as running:
        yield running


async def _preview(
    service: PreviewService, proposed: Registry, most: int | None = None
) -> list[PreviewLine]:
    inflater, text = Inflater(max_bytes=2**24), b""
    async for chunk in await service.open(encode_document(proposed), most=most):
        text += b"".join(inflater.feed(chunk))
    inflater.finish()
    return [parse_line(line) for line in text.splitlines()]


def _contents(story: Story, registry: Registry) -> dict[ListName, Contents]:
    return Story(story.running, story.hash_set, registry, story.fold).expected()


def _shown(registry: Registry, story: Story) -> Registry:
    """Return the registry with views that name the members."""
    hash_set = registry.hash_set(story.hash_set)
    shown = {
        name: msgspec.structs.replace(view, show_members=True)
        for name, view in hash_set.views.items()
    }
    changed = msgspec.structs.replace(hash_set, views=shown)
    sets = dict(registry.hash_sets) | {story.hash_set: changed}
    replaced: Registry = msgspec.structs.replace(registry, hash_sets=sets)
    return replaced


def _by(contents: Contents, values: set[bytes], member: str) -> int:
    return sum(member in msgspec.json.decode(contents[value])["by"] for value in values)


@given(policies, pushes, policies, moves)
@with_database
@pytest.mark.timeout(300)
async def test_a_preview_is_what_the_fold_says(
    running: Running,
    first: dict[str, View],
    said: list[tuple[MemberId, list[Record]]],
    then: dict[str, View],
    move: tuple[MemberId, str] | None,
) -> None:
    """Every change of every list, and the counts by member; the database stays as it was."""
    story = await start_story(running, f"set-{next(numbers)}", views=first)
    for member, records in said:
        await story.push(member, records)
    proposed = story.registry.with_hash_set(
        story.hash_set,
        msgspec.structs.replace(story.registry.hash_set(story.hash_set), views=then),
    )
    if move is not None:
        known = proposed.members[move[0]]
        moved = msgspec.structs.replace(known, jurisdiction=move[1])
        members = dict(proposed.members) | {move[0]: moved}
        proposed = msgspec.structs.replace(proposed, members=members)
    state = await read_all(running.pool)

    lines = await _preview(PreviewService(running.pool, running.registries), proposed)

    assert await read_all(running.pool) == state
    assert isinstance(lines[0], PreviewHeader)
    mine = f"{story.hash_set}/"
    found = {
        (line.list, line.hash): line
        for line in lines
        if isinstance(line, PreviewChange) and line.list.startswith(mine)
    }
    lists = {
        line.list: line
        for line in lines
        if isinstance(line, PreviewList) and line.list.startswith(mine)
    }
    before, after = _contents(story, story.registry), _contents(story, proposed)
    expected = {
        (str(name), value.hex()): (_decoded(before, name, value), _decoded(after, name, value))
        for name in before.keys() | after.keys()
        for value in before.get(name, {}).keys() | after.get(name, {}).keys()
        if before.get(name, {}).get(value) != after.get(name, {}).get(value)
    }
    assert {key: (line.before, line.after) for key, line in found.items()} == expected
    assert {name for name, _ in expected} <= set(lists)
    for line in lists.values():
        _verify_counts(story, line, proposed)
    end = lines[-1]
    assert isinstance(end, PreviewEnd)
    assert end.lists == sum(isinstance(line, PreviewList) for line in lines)


def _decoded(lists: dict[ListName, Contents], name: ListName, value: bytes) -> Any:
    attributes = lists.get(name, {}).get(value)
    return None if attributes is None else msgspec.json.decode(attributes)


def _verify_counts(story: Story, line: PreviewList, proposed: Registry) -> None:
    name = ListName.parse(line.list)
    before = _contents(story, _shown(story.registry, story)).get(name, {})
    after = _contents(story, _shown(proposed, story)).get(name, {})
    enters, leaves = after.keys() - before.keys(), before.keys() - after.keys()
    assert (line.before, line.after) == (len(before), len(after))
    assert (line.enters, line.leaves) == (len(enters), len(leaves))
    for member in MEMBERS:
        told = line.members.get(member)
        counts = (_by(after, enters, member), _by(before, leaves, member))
        assert counts == ((told.enters, told.leaves) if told else (0, 0))


async def test_only_so_many_changes_are_told_as_asked_for(running: Running) -> None:
    """The counts are of all of them."""
    story = await start_story(running, "many", views={"all": View()})
    await story.push(MEMBERS[0], [assertion(n) for n in range(50)])
    proposed = story.registry.with_view("many", "all", View(quorum=2))
    service = PreviewService(running.pool, running.registries)
    for most, told in ((0, 0), (7, 7), (None, 50)):
        lines = await _preview(service, proposed, most)
        assert sum(isinstance(line, PreviewChange) for line in lines) == told
        (line,) = (x for x in lines if isinstance(x, PreviewList) and x.before)
        assert (line.list, line.leaves) == ("many/all/sha256", 50)


async def test_only_the_next_registry_is_previewed(running: Running) -> None:
    """Not one that could not come into force anyway."""
    service = PreviewService(running.pool, running.registries)
    registry = (await running.registries.current()).registry
    with pytest.raises(RegistryConflictError):
        await service.open(encode_document(registry), most=None)
    with pytest.raises(MalformedError):
        await service.open(b"{}", most=None)


async def test_one_preview_at_a_time(running: Running) -> None:
    """Another one has to wait; and an abandoned one leaves its connection."""
    service = PreviewService(running.pool, running.registries)
    registry = (await running.registries.current()).registry
    proposed = encode_document(registry.with_view("csam", "all", None))
    first = await service.open(proposed, most=None)
    await anext(first)
    with pytest.raises(UnavailableError):
        await service.open(proposed, most=None)
    await first.aclose()
    assert await _preview(service, registry.with_view("csam", "all", None))

"""Previews over the wire: for admins alone, and whole or not at all."""

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshare.client import Client
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.members import Role
from hashshare.domain.policy import Basis, View
from hashshare.domain.records import AssertRecord
from hashshare.errors import MalformedError, NotFoundError
from hashshare.wire.preview import PreviewChange, PreviewList, parse_line
from tests.support.federation import Federation

RECORDS = [
    AssertRecord("", {HashAlgorithm.SHA256: bytes([n]) * 32}, "A1", None, Basis.REVIEWED)
    for n in (1, 2, 3)
]


async def test_an_admin_sees_what_would_leave_and_nothing_leaves(federation: Federation) -> None:
    """The registry, the log and the list are as before."""
    async with Client(federation.members["acme"]) as acme:
        await acme.push("csam", RECORDS)
    async with Client(federation.admin) as client:
        lines = [
            line
            async for line in client.admin.preview(
                lambda registry: registry.with_view("csam", "all", View(quorum=2))
            )
        ]
        changes = [line for line in lines if isinstance(line, PreviewChange)]
        assert [(c.op, c.before, c.after) for c in changes] == [
            ("leave", {"by": {"acme": "A1"}}, None)
        ] * 3
        counted = {line.list: line for line in lines if isinstance(line, PreviewList)}
        assert counted["csam/all/sha256"].members["acme"].leaves == 3
        registry = await client.admin.registry()
        assert registry.hash_set("csam").views["all"] == View()
        published = await federation.published(8)
        assert (await client.latest("csam")).publication.version == published


@pytest.mark.parametrize("role", [Role.READER, Role.CONTRIBUTOR, Role.REVIEWER, Role.AUDITOR])
async def test_nobody_but_admins_previews(federation: Federation, role: Role) -> None:
    """To others there is no such thing."""
    profile = await federation.join("other", (role,))
    async with Client(profile) as other:
        with pytest.raises(NotFoundError):
            async for _ in other.admin.preview(lambda r: r.with_view("csam", "all", None)):
                pass


async def test_a_preview_of_nothing_says_that_nothing_changes(federation: Federation) -> None:
    """Renaming a hash set touches no list."""
    async with Client(federation.admin) as client:
        registry = await client.admin.registry()
        hash_set = registry.hash_set("csam")
        lines = [
            line async for line in client.admin.preview(lambda r: r.with_hash_set("csam", hash_set))
        ]
        assert len(lines) == 2
        # And the edit itself is none.
        now = datetime.now(UTC)
        assert await client.admin.put_hash_set("csam", hash_set, new=False, now=now) is None


@given(st.binary(max_size=200))
def test_a_line_is_parsed_or_refused(data: bytes) -> None:
    """Whatever a server sends."""
    with suppress(MalformedError):
        parse_line(data)

"""Views by terms, from the admin's edit to the lists that members pull and auditors replay."""

from datetime import UTC, datetime

import msgspec
import pytest

from hashshare.client import Client
from hashshare.client.admin import Edit
from hashshare.client.findings import Verdict
from hashshare.domain.hashes import HashAlgorithm, HashValue
from hashshare.domain.members import Role
from hashshare.domain.policy import Basis, View
from hashshare.domain.records import AssertRecord
from hashshare.domain.registry import Registry
from hashshare.domain.vocabularies import Matches
from hashshare.errors import MalformedError
from hashshare.wire.preview import PreviewList
from tests.support.federation import Federation
from tests.support.vocabularies import AB, BROAD, EXACT, NARROW, vocabulary, with_vocabularies

SAID = {"A1": 1, "A2": 2, "B1": 3}
VALUES = {c: HashValue(HashAlgorithm.SHA256, bytes([n]) * 32) for c, n in SAID.items()}
LIST = "csam/confirmed/sha256"


async def put(federation: Federation, edit: Edit) -> int:
    """Put an edit into force as one version; return how far the log reaches with it."""

    def as_one(registry: Registry) -> Registry:
        edited: Registry = msgspec.structs.replace(edit(registry), version=registry.version + 1)
        return edited

    async with Client(federation.admin) as admin:
        done = await admin.admin.edit(as_one, reason="test", now=datetime.now(UTC))
    assert done is not None
    return done.log_index + 1


async def select(federation: Federation, **fields: tuple[str, ...]) -> dict[str, bytes]:
    """Let the view ``confirmed`` select so, and return what a member then reads in it."""
    view = msgspec.structs.replace(View(), **fields)
    return await publish(federation, lambda r: r.with_view("csam", "confirmed", view))


async def publish(federation: Federation, edit: Edit) -> dict[str, bytes]:
    """Put an edit into force that reforms the view, and return what a member then reads in it."""
    await federation.published(await put(federation, edit))
    async with Client(federation.members["acme"]) as acme:
        await acme.pull()
        found = await acme.lookup(LIST, VALUES.values())
    return {c: f.attributes for c, f in zip(VALUES, found, strict=True) if f.attributes}


def mapped(matches: Matches) -> Edit:
    """An edit of the mapping."""
    return lambda registry: registry.with_mapping("ours", "abc", matches)


@pytest.fixture
async def coalition(federation: Federation) -> Federation:
    """With three vocabularies, a mapping, and a hash of each classification."""
    await put(federation, lambda registry: with_vocabularies(registry, "csam"))
    records = [
        AssertRecord("", {v.algorithm: v.value}, c, None, Basis.REVIEWED) for c, v in VALUES.items()
    ]
    async with Client(federation.members["acme"]) as acme:
        (pushed,) = await acme.push("csam", records)
    await federation.published(pushed.log_index + 1)
    return federation


@pytest.mark.timeout(120)
async def test_a_view_selects_by_terms_and_audits_agree(coalition: Federation) -> None:
    """Through every change of the view and the mapping; entries keep the members' own terms."""
    watch = await coalition.join("watch", (Role.AUDITOR,))
    entry = {c: f'{{"by":{{"acme":"{c}"}}}}'.encode() for c in SAID}

    def entries(*classifications: str) -> dict[str, bytes]:
        return {c: entry[c] for c in classifications}

    assert await select(coalition, terms=("abc:A",)) == entries("A1", "A2")
    assert await select(coalition, terms=("abc:A", "ours:B1")) == entries("A1", "A2", "B1")
    assert await select(coalition, excluded_terms=("abc:B",)) == entries("A1", "B1")
    assert await select(
        coalition, terms=("abc:A",), excluded_terms=("abc:B",), classifications=("A1", "B1")
    ) == entries("A1")
    assert await select(coalition, terms=("abc:A",)) == entries("A1", "A2")
    # The view is as it was; what falls under its term is not.
    assert await publish(coalition, mapped(AB | {"B1": {"A": EXACT}, "A1": {"A": NARROW}})) == (
        entries("A2", "B1")
    )
    assert await publish(coalition, mapped({"A1": {"A": BROAD}})) == entries("A1")

    async with Client(watch) as auditor:
        report = await auditor.auditor.audit()
    latest = await coalition.pool.fetchval("SELECT max(version) FROM publication")
    standing = report.hash_sets["csam"]
    assert (standing.verdict, standing.agreed_version) == (Verdict.AGREED, latest)
    assert (report.is_complete, report.accuses) == (True, False)


async def test_provenance_keeps_the_members_own_term(coalition: Federation) -> None:
    """Whatever it is mapped to, then or later; and so does the signed statement."""
    async with Client(coalition.members["acme"]) as acme:
        before = [await acme.provenance("csam", value) for value in VALUES.values()]
        await put(coalition, mapped({c: {"C": EXACT} for c in SAID}))
        after = [await acme.provenance("csam", value) for value in VALUES.values()]
    assert after == before
    assert [s.classification for found in after for s in found.assertions] == [*SAID]


async def test_a_mapping_is_previewed_before_it_counts(coalition: Federation) -> None:
    """By what enters and leaves the views that select by it; nothing comes into force."""
    await select(coalition, terms=("abc:A",))
    async with Client(coalition.admin) as client:
        before = await client.admin.registry()
        lines = [line async for line in client.admin.preview(mapped({"B1": {"A": EXACT}}))]
        assert await client.admin.registry() == before
    (counted,) = (line for line in lines if isinstance(line, PreviewList) and line.list == LIST)
    assert (counted.before, counted.after, counted.enters, counted.leaves) == (2, 1, 1, 2)


async def test_the_server_takes_no_registry_that_contradicts_itself(
    coalition: Federation,
) -> None:
    """An admin's own client refuses to sign it, and so does nobody else either."""
    await select(coalition, terms=("abc:A",))
    state = await coalition.pool.fetchval("SELECT max(log_index) FROM leaf")
    changed = vocabulary("A", "B", "C", "D")
    for edit in (
        lambda r: r.with_vocabulary("abc", None),
        lambda r: r.with_mapping("ours", "abc", None),
        # Other terms by the same version's name: this only the order of versions tells.
        lambda r: r.with_vocabulary("abc", changed),
    ):
        with pytest.raises(MalformedError):
            await put(coalition, edit)
    assert await coalition.pool.fetchval("SELECT max(log_index) FROM leaf") == state

"""A server that sends wrong deltas and snapshots: the replica stays as it was."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest
import zstandard

from hashshare.client import Client
from hashshare.client import pull as pulling
from hashshare.crypto import canonical
from hashshare.errors import (
    DigestMismatchError,
    HashshareError,
    TooLargeError,
    UnavailableError,
    VerificationError,
    VersionNotFoundError,
)
from hashshare.service import snapshots
from hashshare.wire.lists import SnapshotDocument
from tests.attacks.conftest import LIST, Scene
from tests.support.relay import Answer, Attack

Lines = list[bytes]


def deltas(edit: Callable[[Lines], Lines]) -> Attack:
    """Rewrite the lines of each delta that has any; the first is its header."""

    def attack(answer: Answer) -> None:
        if "/deltas/" not in answer.path or answer.status != 200:
            return
        lines = zstandard.ZstdDecompressor().decompressobj().decompress(answer.body).splitlines()
        text = b"".join(line + b"\n" for line in edit(lines))
        answer.body = zstandard.ZstdCompressor().compress(text)

    return attack


def with_header(lines: Lines, **fields: canonical.JsonValue) -> Lines:
    """Return the lines under a header with other fields."""
    header = canonical.decode(lines[0], max_bytes=10_000)
    assert isinstance(header, dict)
    return [canonical.encode(header | fields), *lines[1:]]


def with_count(lines: Lines) -> Lines:
    """Return the lines under a header that announces their number."""
    return with_header(lines, changes=len(lines) - 1)


def _flip(line: bytes) -> bytes:
    at = line.index(b'","op"') - 1
    return line[:at] + (b"0" if line[at : at + 1] != b"0" else b"1") + line[at + 1 :]


EDITS: dict[str, Callable[[Lines], Lines]] = {
    "a row is dropped": lambda x: with_count(x[:-1]),
    "a row is added": lambda x: with_count(
        [*x, b'{"attributes":{"by":{"acme":"A1"}},"hash":"' + b"f" * 64 + b'","op":"add"}']
    ),
    "a hash is another": lambda x: [*x[:-1], _flip(x[-1])],
    "an attribute is another": lambda x: [*x[:-1], x[-1].replace(b'"A1"', b'"A2"')],
    "a member is another": lambda x: [*x[:-1], x[-1].replace(b'"acme"', b'"beta"')],
    "rows are not sorted": lambda x: [x[0], *reversed(x[1:])],
    "a row is there twice": lambda x: with_count([*x, x[-1]]),
    "an entry is added that is there": lambda x: with_count(
        [x[0], x[1].replace(b"0005" * 16, b"0001" * 16), *x[1:]]
    ),
    "an entry is removed that is not there": lambda x: with_count(
        [x[0], b'{"hash":"' + b"0" * 63 + b'1","op":"remove"}', *x[1:]]
    ),
    "fewer rows than announced": lambda x: x[:-1],
    "more rows than announced": lambda x: with_header(x, changes=1),
    "the base is another": lambda x: with_header(x, base=0),
    "the target is another": lambda x: with_header(x, target=9),
    "the target's root is another": lambda x: with_header(x, target_root="0" * 64),
    "the list is another": lambda x: with_header(x, list="csam/confirmed/sha256"),
    "nothing has changed, it says": lambda x: with_count(x[:1]),
    "the header is missing": lambda x: x[1:],
    "a line is no JSON": lambda x: [*x[:-1], b"{"],
    "a line is not canonical": lambda x: [*x[:-1], x[-1].replace(b":", b": ", 1)],
    "nothing at all": lambda _: [],
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
async def test_a_wrong_delta_is_refused(scene: Scene, edit: Callable[[Lines], Lines]) -> None:
    """Whatever is changed in it, however well-formed it still is."""
    await scene.refused(deltas(edit), VerificationError)


BODIES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda body: body[: len(body) // 2],
    "a bit is flipped": lambda body: body[:30] + bytes([body[30] ^ 1]) + body[31:],
    "something follows": lambda body: body + b"more",
    "no zstd": lambda _: b'{"format":"hashshare-delta/1"}\n',
    "empty": lambda _: b"",
    "a bomb": lambda _: zstandard.ZstdCompressor().compress(bytes(512 * 1024 * 1024)),
    "a bomb of empty lines": lambda _: zstandard.ZstdCompressor().compress(b"\n" * 100_000_000),
}


@pytest.mark.parametrize("change", BODIES.values(), ids=BODIES)
async def test_a_body_that_is_no_delta_is_refused(
    scene: Scene, change: Callable[[bytes], bytes]
) -> None:
    """A truncated answer, garbage, or one that inflates to half a gigabyte."""

    def attack(answer: Answer) -> None:
        if "/deltas/" in answer.path:
            answer.body = change(answer.body)

    await scene.refused(attack, VerificationError)


async def test_a_lost_connection_changes_nothing(scene: Scene) -> None:
    """Half of a delta has arrived."""

    def attack(answer: Answer) -> None:
        answer.cut = "/deltas/" in answer.path

    await scene.refused(attack, UnavailableError)


async def test_a_delta_without_end_is_cut_off(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size is bounded before anything is read from it."""
    monkeypatch.setattr(pulling, "MAX_DELTA_BYTES", 1000)

    def attack(answer: Answer) -> None:
        if "/deltas/" in answer.path:
            answer.body = bytes(2000)

    await scene.refused(attack, TooLargeError)


@pytest.fixture
async def new_member(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """The victim holds nothing, and there is a snapshot."""
    monkeypatch.setattr(snapshots, "MIN_CHANGES", 1)
    await stage.push(*range(1, 1201))
    async with Client(stage.federation.admin) as admin, asyncio.timeout(30):
        while True:
            with suppress(VersionNotFoundError):
                await admin.session.request("GET", f"/v1/lists/{LIST}/snapshot")
                return stage
            await asyncio.sleep(0.05)


def described(**fields: object) -> Attack:
    """Change the description of each snapshot."""

    def attack(answer: Answer) -> None:
        if answer.path.endswith("/snapshot") and answer.status == 200:
            document = SnapshotDocument.parse(answer.body)
            answer.body = document.model_copy(update=fields).encode()

    return attack


def replaced(change: Callable[[bytes], bytes], *, announced: bool) -> Attack:
    """Change each snapshot, and its description too so that the digest fits."""
    changed: list[bytes] = []

    def attack(answer: Answer) -> None:
        if "/snapshots/" in answer.path:
            answer.body = changed[0] if announced else change(answer.body)
        elif announced and answer.path.endswith("/snapshot") and answer.status == 200:
            changed[:] = [change(answer.body)]
            document = SnapshotDocument.parse(answer.body)
            update = {"sha256": canonical.digest(changed[0]), "size": len(changed[0])}
            answer.body = document.model_copy(update=update).encode()

    return attack


SNAPSHOTS: dict[str, tuple[Attack, type[HashshareError]]] = {
    "of another digest": (described(sha256="0" * 64), DigestMismatchError),
    "longer than any": (described(size=1 << 40), TooLargeError),
    "longer than announced": (described(size=100), TooLargeError),
    "shorter than announced": (described(size=1_000_000), UnavailableError),
    "of another list": (described(list_name="csam/confirmed/sha256"), VerificationError),
    "of another version": (described(version=1), VerificationError),
    "of fewer entries": (described(count=1150), VerificationError),
    "with a bit flipped": (
        replaced(lambda b: b[:99] + bytes([b[99] ^ 1]) + b[100:], announced=False),
        DigestMismatchError,
    ),
    "no Parquet": (replaced(lambda _: b"PAR1 not really PAR1", announced=True), VerificationError),
}


@pytest.mark.parametrize(("attack", "error"), SNAPSHOTS.values(), ids=SNAPSHOTS)
async def test_a_wrong_snapshot_is_refused(
    new_member: Scene, attack: Attack, error: type[HashshareError]
) -> None:
    """Its digest and size before it is parsed, its contents by the signed root."""
    await new_member.refused(attack, error)


async def test_a_snapshot_ahead_of_the_publication_is_left(new_member: Scene) -> None:
    """It was published in between, or is made up: the delta leads to what was verified."""
    new_member.relay.attack = described(version=7)
    async with Client(new_member.relay.profile) as victim:
        await victim.pull()
    assert any("/deltas/0/" in request for request in new_member.relay.requests)
    assert not any("/snapshots/" in request for request in new_member.relay.requests)

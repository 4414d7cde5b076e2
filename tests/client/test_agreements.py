"""Agreements: who has accepted which text, until when; reading stops at its end."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from hashshare.client import Client, Profile
from hashshare.client.noticeboard import NoticeKind
from hashshare.domain.agreements import Agreement, verify_agreement, verify_reading
from hashshare.domain.names import format_time
from hashshare.domain.registry import Registry, verify_registry
from hashshare.domain.sandbox import SANDBOX
from hashshare.errors import (
    HashshareError,
    MalformedError,
    NotFoundError,
    PermissionDeniedError,
    SignatureInvalidError,
)
from tests.cli.test_commands import sh
from tests.client.test_faults import records
from tests.support.federation import Federation, run_federation
from tests.support.mirrors import run_mirror

TEXT = "Terms of a made-up coalition.\n"
PAST, FUTURE = "2026-01-01T00:00:00Z", "2126-01-01T00:00:00Z"
ENDED = Agreement(text="a" * 64, signed_by="Jo Doe", signed_at="2025-01-01T00:00:00Z", until=PAST)
READING = (
    "/v1/hash-sets/csam",
    "/v1/hash-sets/csam/publication",
    "/v1/lists/csam/all/sha256/snapshot",
    "/v1/lists/csam/all/sha256/deltas/0/1",
    "/v1/lists/csam/all/sha256/buckets/0?bits=0",
    f"/v1/hash-sets/csam/hashes/sha256/{'07' * 32}/provenance",
)


async def edit(federation: Federation, agreement: Agreement | None, member: str = "acme") -> None:
    """Record what a member has accepted; None: demand that everybody has."""

    def change(registry: Registry) -> Registry:
        if agreement is None:
            return registry.with_agreement_required(True)
        return registry.with_agreement(member, agreement)

    async with Client(federation.admin) as admin:
        await admin.admin.edit(change, reason="test", now=datetime.now(UTC))


async def push(federation: Federation, *numbers: int) -> None:
    """Let acme push, and wait until that is published."""
    async with Client(federation.members["acme"]) as acme:
        (pushed,) = await acme.push("csam", records(*numbers))
    await federation.published(pushed.log_index + 1)


async def refusals(profile: Profile) -> set[type[HashshareError]]:
    """How what there is to read is refused."""
    found = set()
    async with Client(profile) as client:
        for path in READING:
            with pytest.raises(HashshareError) as caught:
                await client.session.request("GET", path)
            found.add(type(caught.value))
    return found


async def test_reading_stops_when_an_agreement_ends(federation: Federation) -> None:
    """Everything that would be read; pushing goes on, and so does what others read."""
    await push(federation, 1)
    acme = federation.members["acme"]
    await edit(federation, ENDED)
    assert await refusals(acme) == {PermissionDeniedError}
    async with Client(acme) as client:
        for lists in ((), ("csam/all/sha256",)):
            with pytest.raises(PermissionDeniedError, match="agreement has ended at 2026-01-01"):
                await client.pull(*lists)
        # Of what it may not know of it hears nothing, as before.
        with pytest.raises(NotFoundError):
            await client.session.request("GET", "/v1/hash-sets/absent")
    await push(federation, 2)
    async with Client(federation.members["beta"]) as beta:
        assert await beta.pull()
    await edit(federation, msgspec.structs.replace(ENDED, until=FUTURE))
    async with Client(acme) as client:
        assert await client.pull()


async def test_reading_may_take_an_agreement(federation: Federation) -> None:
    """Who has none, reads nothing once the coalition demands one."""
    await push(federation, 1)
    await edit(federation, None)
    assert await refusals(federation.members["beta"]) == {PermissionDeniedError}
    await edit(federation, msgspec.structs.replace(ENDED, until=FUTURE), "beta")
    async with Client(federation.members["beta"]) as beta:
        assert await beta.pull()
        assert beta.agreement is not None


async def test_a_mirror_knows_when_an_agreement_ends(federation: Federation) -> None:
    """It reads it in the registry that it has verified."""
    await push(federation, 1)
    beta = federation.members["beta"]
    async with run_mirror(federation, federation.admin) as mirrored:
        await mirrored.sync()
        async with Client(beta, sources=[mirrored.url]) as client:
            assert await client.pull("csam/all/sha256")
        await edit(federation, ENDED, "beta")
        await push(federation, 2)
        await mirrored.sync()
        async with Client(beta, sources=[mirrored.url]) as client:
            with pytest.raises(PermissionDeniedError):
                await client.pull("csam/all/sha256")


async def test_the_sandbox_takes_no_agreement(dsn: str, tmp_path: Path) -> None:
    """A member on trial has signed nothing yet."""
    async with run_federation(dsn, tmp_path, sandbox=True) as federation:
        await federation.create()
        await edit(federation, None)
        profile = await federation.join("newcomer", ())
        await federation.published(2, SANDBOX)
        async with Client(profile) as newcomer:
            assert {pulled.name.hash_set for pulled in await newcomer.pull()} == {SANDBOX}


async def test_an_agreement_is_recorded_shown_and_warned_of(
    federation: Federation, tmp_path: Path
) -> None:
    """By the commands; only the digest of the text leaves the machine."""
    acme, admin = federation.members["acme"], federation.admin
    await push(federation, 1)
    text = tmp_path / "terms.txt"
    text.write_text(TEXT)
    until = datetime.now(UTC) + timedelta(days=20)
    words = ("member", "agreement", "acme", "--text", text, "--signed-by", "Jo Doe, Counsel")
    done = await sh(*words, "--until", format_time(until), profile=admin.folder)
    assert done.code == 0, done.err
    shown = await sh("member", "show", "acme", profile=admin.folder)
    assert hashlib.sha256(TEXT.encode()).hexdigest() in shown.out
    assert "Jo Doe, Counsel" in shown.out
    for command in ("pull", "status"):
        told = await sh(command, profile=acme.folder)
        assert told.code == 0, told.err
        assert f"your agreement ends on {format_time(until)}" in told.err
    for profile in (acme, admin):
        told = await sh("notices", "--kind", NoticeKind.AGREEMENT.value, profile=profile.folder)
        assert "the agreement of acme ends" in told.out, told.err
    required = await sh("member", "require-agreement", profile=admin.folder)
    assert required.code == 0, required.err
    assert (await sh("pull", profile=federation.members["beta"].folder)).code == 1
    await sh("member", "require-agreement", "--off", profile=admin.folder)
    assert (await sh("pull", profile=federation.members["beta"].folder)).code == 0


async def test_only_governance_records_agreements(federation: Federation) -> None:
    """A member cannot give itself another year."""
    await edit(federation, ENDED)
    async with Client(federation.members["acme"]) as acme:
        with pytest.raises(HashshareError) as caught:
            await acme.admin.edit(
                lambda r: r.with_agreement("acme", msgspec.structs.replace(ENDED, until=FUTURE)),
                reason="test",
                now=datetime.now(UTC),
            )
    assert isinstance(caught.value, NotFoundError | PermissionDeniedError | SignatureInvalidError)
    assert await refusals(federation.members["acme"]) == {PermissionDeniedError}


def test_an_agreement_ends_at_the_moment_itself() -> None:
    """Not a second before; and one that ends before it begins is none."""
    end = ENDED.ends
    verify_reading(ENDED, required=True, now=end - timedelta(seconds=1))
    verify_reading(msgspec.UNSET, required=False, now=end)
    for agreement, required in ((ENDED, False), (msgspec.UNSET, True)):
        with pytest.raises(PermissionDeniedError):
            verify_reading(agreement, required=required, now=end)
    for until in (ENDED.signed_at, "2024-01-01T00:00:00Z", "2026-99-01T00:00:00Z"):
        with pytest.raises(MalformedError):
            verify_agreement(msgspec.structs.replace(ENDED, until=until))


async def test_a_registry_with_an_impossible_agreement_is_refused(federation: Federation) -> None:
    """By everybody who reads it."""
    async with Client(federation.admin) as admin:
        registry = await admin.admin.registry()
    bad = msgspec.structs.replace(ENDED, until=ENDED.signed_at)
    with pytest.raises(MalformedError):
        verify_registry(registry.with_agreement("acme", bad))

"""Acts that need several admins: proposals go round as files, and nobody acts alone."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hashshare.client import Client, Profile
from hashshare.client.admin import Admin
from hashshare.client.enrol import enrol
from hashshare.client.proposal import Proposal, parse_proposal
from hashshare.crypto.keys import PrivateKey
from hashshare.domain.members import Role, Status
from hashshare.domain.records import Record, WithdrawRecord
from hashshare.domain.registry import Keys
from hashshare.domain.statements import Operation
from hashshare.errors import (
    DigestMismatchError,
    NotFoundError,
    RegistryConflictError,
    SignatureInvalidError,
    SignaturesMissingError,
)
from hashshare.wire.members import RegistryAppended, RegistryRequest
from tests.cli.test_commands import sh
from tests.client.test_faults import records
from tests.support.federation import Federation


@pytest.fixture
async def second(federation: Federation) -> Profile:
    """Another admin; from now on two must sign."""
    profile = await federation.join("second", (Role.ADMIN,))
    made = await sh("governance", "key", profile=profile.folder)
    key = federation.admin.governance_key().public.text
    words = ("governance", "set", "--key", key, "--key", made.out.strip(), "--threshold", "2")
    done = await sh(*words, profile=federation.admin.folder)
    assert done.code == 0, done.err
    return profile


def waiting(profile: Profile) -> Path:
    """The one proposal of a profile."""
    (path,) = (profile.folder / "proposals").glob("*.json")
    return path


async def status_of(federation: Federation, member: str) -> Status:
    """As the registry in force says."""
    async with Client(federation.admin) as admin:
        return (await admin.admin.registry()).member(member).status


async def test_an_act_waits_for_a_second_admin(federation: Federation, second: Profile) -> None:
    """It is seen what it changes, and it is in force once both have signed."""
    first = federation.admin
    done = await sh("member", "suspend", "acme", "--reason", "a question", profile=first.folder)
    assert done.code == 1
    assert "governance sign" in done.err
    assert await status_of(federation, "acme") is Status.ACTIVE
    path = waiting(first)
    seen = await sh("governance", "review", path, profile=second.folder)
    assert seen.code == 0, seen.err
    assert "members.acme.status: active -> suspended" in seen.out
    assert "missing    1" in seen.out
    assert await status_of(federation, "acme") is Status.ACTIVE
    signed = await sh("governance", "sign", path, profile=second.folder)
    assert signed.code == 0, signed.err
    assert "is in force" in signed.err
    assert await status_of(federation, "acme") is Status.SUSPENDED
    # Once more is too late, and says so.
    again = await sh("governance", "sign", path, profile=second.folder)
    assert again.code == 1
    assert "do it again" in again.err


async def test_nobody_acts_alone(federation: Federation, second: Profile) -> None:
    """Not by the server's own way, not by signing twice, not with a key that does not govern."""
    first = federation.admin
    async with Client(first) as client:
        with pytest.raises(SignaturesMissingError):
            await suspend(client.admin)
        path = waiting(first)
        request = RegistryRequest.parse(path.read_bytes())
        with pytest.raises(SignatureInvalidError):
            await client.session.send("POST", "/v1/registry", request, RegistryAppended)
        proposal = await read(client, path)
        assert proposal.sign(first.governance_key()).missing == 1
        with pytest.raises(NotFoundError):
            proposal.sign(PrivateKey.generate())
    assert await status_of(federation, "acme") is Status.ACTIVE
    # Nor does a server that holds a governance key list the key of who enrols.
    joined = await enrol(await federation.invite_known("beta"), federation.folder / "beta-2")
    assert not joined.approved
    async with Client(second) as client:
        key = joined.profile.submission_key().public.text
        assert key not in (await client.admin.registry()).member("beta").submission_keys
        assert key in (await client.admin.member("beta")).pending_keys


async def test_what_was_signed_is_what_is_put_into_force(
    federation: Federation, second: Profile
) -> None:
    """Who passes a proposal on cannot exchange the registry in it."""
    async with Client(federation.admin) as client:
        with pytest.raises(SignaturesMissingError):
            await suspend(client.admin)
        path = waiting(federation.admin)
        request = RegistryRequest.parse(path.read_bytes())
        altered = request.document.replace(b'"suspended"', b'"revoked"')
        assert altered != request.document
        path.write_bytes(RegistryRequest(document=altered, envelope=request.envelope).encode())
        with pytest.raises(DigestMismatchError):
            await read(client, path)
    assert (await sh("governance", "sign", path, profile=second.folder)).code == 3


async def test_a_deletion_waits_for_a_second_admin(federation: Federation, second: Profile) -> None:
    """It is a statement of its own, and goes round in the same way."""
    first = federation.admin
    async with Client(federation.members["acme"]) as acme:
        (pushed,) = await acme.push("csam", records(1))
        withdrawn: list[Record] = [WithdrawRecord("", r.hashes) for r in records(1)]
        await acme.push("csam", withdrawn, operation=Operation.WITHDRAW)
    words = ("redact", pushed.log_index, "--reason", "court order")
    assert (await sh(*words, profile=first.folder)).code == 1
    seen = await sh("governance", "review", waiting(first), profile=second.folder)
    assert "deletion of the batch" in seen.out
    done = await sh("governance", "sign", waiting(first), profile=second.folder)
    assert done.code == 0, done.err
    async with Client(federation.members["acme"]) as acme:
        with pytest.raises(NotFoundError):
            await acme.records_of(pushed.statement_id)


async def test_a_proposal_that_was_overtaken_is_refused(
    federation: Federation, second: Profile
) -> None:
    """Another act came into force in between: what it was made for is no more."""
    first = federation.admin
    async with Client(first) as client:
        with pytest.raises(SignaturesMissingError):
            await suspend(client.admin)
        kept = first.folder / "kept.json"
        shutil.move(waiting(first), kept)
        with pytest.raises(SignaturesMissingError):
            await client.admin.set_status("beta", Status.SUSPENDED, reason="r", now=now())
    done = await sh("governance", "sign", waiting(first), profile=second.folder)
    assert done.code == 0, done.err
    async with Client(second) as client:
        with pytest.raises(RegistryConflictError, match="do it again"):
            await read(client, kept)
    assert await status_of(federation, "acme") is Status.ACTIVE


async def test_a_governance_key_is_replaced_by_two(federation: Federation, second: Profile) -> None:
    """The key is made, waits for the other's signature, and governs when that is there."""
    first = federation.admin
    before = first.governance_key().public
    assert (await sh("rotate", "governance", profile=first.folder)).code == 1
    assert first.governance_key().public == before
    done = await sh("governance", "sign", waiting(first), profile=second.folder)
    assert done.code == 0, done.err
    done = await sh("rotate", "governance", profile=first.folder)
    assert done.code == 0, done.err
    assert first.governance_key().public != before
    shown = await sh("governance", "show", profile=first.folder)
    assert first.governance_key().public.text in shown.out


async def test_one_of_two_may_not_lower_the_threshold(
    federation: Federation, second: Profile
) -> None:
    """That, too, is an act that two must sign."""
    key = second.governance_key().public.text
    words = ("governance", "set", "--key", key, "--threshold", "1")
    assert (await sh(*words, profile=second.folder)).code == 1
    async with Client(federation.admin) as client:
        assert (await client.admin.registry()).governance.threshold == 2


async def test_a_stolen_copy_of_the_first_key_proposes_and_no_more(
    federation: Federation, second: Profile, tmp_path: Path
) -> None:
    """Whoever has one key of two can write a file."""
    thief = replace(federation.admin, folder=tmp_path / "thief")
    shutil.copytree(federation.admin.folder, thief.folder)
    async with Client(thief) as client:
        with pytest.raises(SignaturesMissingError):
            await client.admin.edit(
                lambda r: r.with_keys(governance=Keys(keys=(thief.governance_key().public.text,))),
                reason="mine",
                now=now(),
            )
    async with Client(second) as client:
        assert len((await client.admin.registry()).governance.keys) == 2


async def suspend(admin: Admin) -> None:
    """An act."""
    await admin.set_status("acme", Status.SUSPENDED, reason="a question", now=now())


async def read(client: Client, path: Path) -> Proposal:
    """As an admin reads it."""
    current = await client.admin.registry()
    return parse_proposal(path.read_bytes(), current, client.admin.governance_after(current))


def now() -> datetime:
    """This moment."""
    return datetime.now(UTC)

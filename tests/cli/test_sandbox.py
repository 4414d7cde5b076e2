"""The sandbox: a member without any right tries everything, with made-up hashes."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from hashshare.cli.server import Options, build_server
from hashshare.client import Client
from hashshare.client.enrol import enrol
from hashshare.config import ServerSettings
from hashshare.crypto.keys import read_private_key
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.joining import Invitation
from hashshare.domain.policy import Basis, DisputeReason
from hashshare.domain.records import AssertRecord, DisputeRecord
from hashshare.domain.sandbox import FIRST_ITEMS, SANDBOX, SANDBOX_AUTHOR, sandbox_records
from hashshare.domain.statements import Operation
from hashshare.errors import NotFoundError, PermissionDeniedError
from tests.cli.test_commands import run, sh
from tests.support.federation import run_federation

RECORD = AssertRecord("", {HashAlgorithm.SHA256: b"\x07" * 32}, "A1", None, Basis.REVIEWED)


@pytest.mark.timeout(240)
async def test_a_member_on_trial_uses_the_sandbox_and_nothing_else(
    dsn: str, tmp_path: Path
) -> None:
    """Pull, push, be confirmed, dispute, withdraw; to it other hash sets are not there."""
    async with run_federation(dsn, tmp_path, sandbox=True) as federation:
        await federation.create()
        admin = federation.admin.folder
        invited = await sh("member", "invite", "acme", "--trial", "--json", profile=admin)
        assert invited.code == 0, invited.err
        folder = tmp_path / "acme"
        joined = await enrol(Invitation.parse(invited.objects[0]["invitation"]), folder)
        assert joined.approved
        await federation.published(2, SANDBOX)
        async with Client(joined.profile) as acme:
            assert {pulled.name.hash_set for pulled in await acme.pull()} == {SANDBOX}
            (all_sha256,) = (s for s in acme.lists() if str(s.name) == "sandbox/all/sha256")
            assert all_sha256.count == FIRST_ITEMS
            with pytest.raises(NotFoundError):
                await acme.latest("csam")
            with pytest.raises(PermissionDeniedError):
                await acme.push("csam", [RECORD])
            source = tmp_path / "try.csv"
            assert run("sandbox", source).code == 0
            pushed = await sh("push", SANDBOX, source, "--json", profile=folder)
            assert pushed.code == 0, pushed.err
            overlap = list(sandbox_records(50, 50))
            disputed = DisputeRecord(overlap[0].hashes, DisputeReason.OTHER)
            (done,) = await acme.push(SANDBOX, [disputed], operation=Operation.DISPUTE)
            await federation.published(done.log_index + 1, SANDBOX)
            await acme.pull()
            counts = {str(state.name): state.count for state in acme.lists()}
            assert counts["sandbox/all/md5"] == 149
            assert counts["sandbox/confirmed/md5"] == 49
        given = await sh("member", "set", "acme", "--role", "contributor", profile=admin)
        assert given.code == 0, given.err
        async with Client(joined.profile) as acme, asyncio.timeout(30):
            (done,) = await acme.push("csam", [RECORD])
            assert done.counts.new == 1


async def test_the_first_items_are_submitted_once(dsn: str, tmp_path: Path) -> None:
    """However often the server starts; and nobody has the key that signed them."""
    async with run_federation(dsn, tmp_path, sandbox=True) as federation:
        await federation.published(2, SANDBOX)
        coalition = tmp_path / "coalition"
        options = Options(coalition, dsn, None, None, publisher=False)
        async with AsyncExitStack() as stack:
            settings = ServerSettings.load(coalition)
            await build_server(stack, options, settings, federation.pool)
        async with Client(federation.admin) as admin:
            shown = await admin.admin.member(SANDBOX_AUTHOR)
        assert shown.chain.sequence == 1
        assert (shown.certificates, shown.roles) == ([], [])
        (listed,) = shown.submission_keys
        kept = [read_private_key(path).public.text for path in _signing_keys(coalition)]
        assert len(kept) == 5
        assert listed not in kept


def _signing_keys(folder: Path) -> list[Path]:
    names = ("log", "publisher", "governance", "submission")
    return [path for path in folder.rglob("*.pem") if path.stem in names]


def test_a_coalition_without_a_sandbox(tmp_path: Path) -> None:
    """Is made with an option."""
    folder = tmp_path / "coalition"
    assert run("init", folder, "--coalition", "Test", "--no-sandbox").code == 0
    registry = json.loads((folder / "genesis/registry.json").read_bytes())
    assert registry["hash_sets"] == {}
    assert list(registry["members"]) == ["admin"]


def test_made_up_hashes_follow_from_their_numbers() -> None:
    """So that everybody has the same, whose values no file has."""
    one, other = list(sandbox_records(7, 1)), list(sandbox_records(7, 1))
    assert one == other
    assert {len(v) for v in one[0].hashes.values()} == {a.size for a in HashAlgorithm}

"""A backup is restored, the server refuses it, and what it lacks is brought back."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from msgspec import structs

from hashshare.client import Client, Profile
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.policy import Basis
from hashshare.domain.records import AssertRecord
from hashshare.domain.statements import Operation
from hashshare.errors import HashshareError
from tests.support.copies import copy_database, drop_database, replace_database
from tests.support.federation import CSAM
from tests.support.forking import run_command
from tests.support.processes import Serving, copy_coalition, found, serving

ROOT = Path(__file__).parents[2]


def record(number: int) -> AssertRecord:
    """A made-up hash."""
    value = number.to_bytes(4, "big") * 8
    return AssertRecord("", {HashAlgorithm.SHA256: value}, "A1", None, Basis.REVIEWED)


@dataclass(slots=True)
class Lost:
    """A coalition whose database was restored from a dump, and a machine that has all of it.

    Attributes:
        folder: Of the coalition, whose database is ``dsn``.
        mirror: The folder of that machine, whose database is ``mirror_dsn``.
        size: Leaves of the whole log.
        backup: The batches that were there at the time of the dump.
    """

    folder: Path
    dsn: str
    mirror: Path
    mirror_dsn: str
    members: dict[str, Profile]
    size: int
    backup: Path

    async def leaves(self) -> list[bytes]:
        """What the restored database holds."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return [
                row["entry"]
                for row in await connection.fetch("SELECT entry FROM leaf ORDER BY log_index")
            ]
        finally:
            await connection.close()


async def published(server: Serving, admin: Profile, hash_set: str, log_size: int) -> None:
    """Wait until a publication covers so many leaves."""
    async with Client(server.of(admin)) as client, asyncio.timeout(60):
        while True:
            with suppress(HashshareError):
                if (await client.latest(hash_set)).publication.log_size >= log_size:
                    return
            await asyncio.sleep(0.1)


async def push(
    server: Serving, profile: Profile, *numbers: int, operation: Operation = Operation.ASSERT
) -> int:
    """Push, and return how many leaves the log has with that."""
    async with Client(server.of(profile)) as client:
        records = [record(number) for number in numbers]
        (pushed,) = await client.push("csam", records, operation=operation)
    return pushed.log_index + 1


@pytest.fixture
async def lost(dsn: str, tmp_path: Path) -> AsyncIterator[Lost]:
    """Submissions, a registry and publications came after the dump."""
    members = await found(dsn, tmp_path)
    acme, beta, admin = members["acme"], members["beta"], members["admin"]
    folder = tmp_path / "coalition"
    async with serving(folder, dsn) as server:
        await published(server, admin, "csam", await push(server, acme, 1, 2, 3))
    dump = copy_database(dsn)
    shutil.copytree(folder / "data" / "blobs" / "batches", tmp_path / "batches")
    async with serving(folder, dsn) as server:
        await push(server, beta, 2, 3, 4)
        await published(server, admin, "csam", await push(server, acme, *range(5, 500)))
        async with Client(server.of(admin)) as client:
            hash_set = structs.replace(CSAM, title="More")
            await client.admin.put_hash_set("csam", hash_set, new=False, now=datetime.now(UTC))
            await client.admin.put_hash_set("other", CSAM, new=True, now=datetime.now(UTC))
        await published(server, admin, "csam", await push(server, beta, 1000))
        await published(server, admin, "other", 0)
        async with Client(server.of(beta)) as client:
            await client.pull()
        async with Client(server.of(acme)) as client:
            await client.pull()
            size = (await client.follow()).history.size
    mirror_dsn = copy_database(dsn)
    mirror = copy_coalition(folder, tmp_path / "mirror")
    shutil.copytree(folder / "data" / "blobs", mirror / "data" / "blobs")
    replace_database(dsn, dump)
    try:
        yield Lost(folder, dsn, mirror, mirror_dsn, members, size, tmp_path / "batches")
    finally:
        drop_database(dump)
        drop_database(mirror_dsn)


async def hashshare(*words: object, profile: Profile | None = None) -> tuple[int, str, str]:
    """Run the command; return its exit code, what it put out, and what it said."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HASHSHARE")}
    if profile is not None:
        profile.save_settings()
        environment["HASHSHARE_PROFILE"] = str(profile.folder)
    done = await asyncio.to_thread(run_command, [str(word) for word in words], environment)
    return done.code, done.out, done.err


async def recover(lost: Lost, source: Profile, url: str) -> tuple[int, str, str]:
    return await hashshare(
        *("recover", lost.folder, "--from", source.folder, "--url", url),
        *("--database", lost.dsn, "--json"),
    )


async def test_a_restored_database_is_made_whole_again(lost: Lost) -> None:
    """The server refuses it, recover brings back the rest, members pull and audit."""
    acme, beta, admin = (lost.members[name] for name in ("acme", "beta", "admin"))
    with pytest.raises(AssertionError, match="leaves were signed for"):
        async with serving(lost.folder, lost.dsn):
            pass
    # The blobs, too, are those of the backup.
    shutil.rmtree(lost.folder / "data" / "blobs" / "batches")
    shutil.copytree(lost.backup, lost.folder / "data" / "blobs" / "batches")
    before = await lost.leaves()
    async with serving(lost.mirror, lost.mirror_dsn, "--no-publisher") as mirror:
        # A member that may not read the others' batches is told which ones are missing.
        code, out, err = await recover(lost, acme, mirror.api_url)
        assert code == 1, err
        missing = json.loads(out)["missing"]
        assert {m["member"] for m in missing} == {"beta"}
        assert len(missing) == 2
        assert missing[0]["batch"] in err
        assert await lost.leaves() == before

        code, out, err = await recover(lost, admin, mirror.api_url)
        assert code == 0, err
        done = json.loads(out)
        assert (done["before"], done["after"]) == (len(before), lost.size)
        # Again is no harm.
        code, out, err = await recover(lost, admin, mirror.api_url)
        assert (code, json.loads(out)["before"]) == (0, lost.size), err

    async with serving(lost.folder, lost.dsn) as server:
        for profile in (acme, beta):
            code, _, err = await hashshare("pull", profile=server.of(profile))
            assert code == 0, err
        await push(server, acme, 2000)
        code, out, err = await hashshare("audit", profile=server.of(admin))
        assert code == 0, err + out
        assert "nothing is signed" not in server.log_path.read_text()


async def test_what_was_lost_comes_back_from_a_mirror(lost: Lost) -> None:
    """From files that a member keeps: no server and no database has it any more."""
    admin, copy = lost.members["admin"], lost.folder.parent / "copy"
    async with serving(lost.mirror, lost.mirror_dsn, "--no-publisher") as standby:
        code, _, err = await hashshare("mirror", "sync", copy, profile=standby.of(admin))
        assert code == 0, err
    shutil.rmtree(lost.folder / "data" / "blobs")
    # The blobs, too, are those of the backup.
    shutil.copytree(lost.backup, lost.folder.parent / "artifacts" / "batches")
    artifacts = (lost.folder.parent / "artifacts").as_uri()
    async with mirroring(lost.folder, copy, admin) as url:
        code, out, err = await hashshare(
            *("recover", lost.folder, "--from", admin.folder, "--url", url, "--database", lost.dsn),
            *("--artifacts", artifacts, "--json"),
        )
    assert code == 0, err
    assert (json.loads(out)["after"], json.loads(out)["missing"]) == (lost.size, [])
    async with serving(lost.folder, lost.dsn, "--artifacts", artifacts) as server:
        code, out, err = await hashshare("audit", profile=server.of(admin))
        assert code == 0, err + out


@asynccontextmanager
async def mirroring(coalition: Path, copy: Path, profile: Profile) -> AsyncIterator[str]:
    """Serve a copy that was synced before, as an operator would; give its URL."""
    _, request, _ = await hashshare("mirror", "request", copy, profile=profile)
    csr = copy / "mirror.csr"
    csr.write_text(request)
    code, certificate, err = await hashshare(
        "mirror", "certify", coalition, csr, "--host", "127.0.0.1"
    )
    assert code == 0, err
    (copy / "keys" / "mirror-cert.pem").write_text(certificate)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hashshare", "mirror", "serve", str(copy), "--json"),
        *("--listen", "127.0.0.1:0", "--every", "0"),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"HASHSHARE_PROFILE": str(profile.folder)},
    )
    try:
        assert process.stdout is not None
        yield json.loads(await process.stdout.readline())["url"]
    finally:
        process.terminate()
        await process.wait()


async def test_a_recovery_that_is_killed_goes_on(lost: Lost) -> None:
    """The database holds a beginning of what it had at any moment."""
    admin = lost.members["admin"]
    async with serving(lost.mirror, lost.mirror_dsn, "--no-publisher") as mirror:
        before = len(await lost.leaves())
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hashshare", "recover", str(lost.folder)),
            *("--from", str(admin.folder), "--url", mirror.api_url, "--database", lost.dsn),
            cwd=ROOT,
        )
        async with asyncio.timeout(60):
            while process.returncode is None and len(await lost.leaves()) == before:
                await asyncio.sleep(0.001)
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        code, _, err = await recover(lost, admin, mirror.api_url)
        assert code == 0, err
    assert len(await lost.leaves()) == lost.size
    async with serving(lost.folder, lost.dsn) as server:
        code, out, err = await hashshare("audit", profile=server.of(admin))
        assert code == 0, err + out


async def test_a_database_that_went_another_way_is_not_recovered(lost: Lost) -> None:
    """It has taken in something else since: it is no beginning of what was signed."""
    admin = lost.members["admin"]
    recorded = lost.folder / "data" / "newest.checkpoint"
    kept = recorded.read_bytes()
    recorded.unlink()
    (lost.folder / "data" / "replica.sqlite").unlink()
    stranger = replace(lost.members["beta"], folder=lost.folder.parent / "stranger")
    shutil.copytree(lost.members["beta"].folder, stranger.folder)
    (stranger.folder / "journal.sqlite").unlink(missing_ok=True)
    async with serving(lost.folder, lost.dsn) as server:
        await push(server, stranger, 7777)
    recorded.write_bytes(kept)
    before = await lost.leaves()
    async with serving(lost.mirror, lost.mirror_dsn, "--no-publisher") as mirror:
        code, _, err = await recover(lost, admin, mirror.api_url)
        assert code == 3, err
        assert await lost.leaves() == before


async def test_a_database_in_use_is_left_alone(lost: Lost) -> None:
    """A server publishes on it."""
    async with serving(lost.mirror, lost.mirror_dsn) as server:
        busy = replace(lost, dsn=lost.mirror_dsn)
        async with asyncio.timeout(60):
            while "publisher elected" not in server.log_path.read_text():
                await asyncio.sleep(0.05)
        code, _, err = await recover(busy, lost.members["admin"], server.api_url)
        assert code == 1
        assert "stop all of them" in err

"""A whole coalition in one process: real TLS, PostgreSQL and files, members with profiles."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from hashshare.cli.coalition import Plan, create_coalition
from hashshare.cli.server import Options, build_server
from hashshare.client import Client, Profile
from hashshare.client.enrol import enrol
from hashshare.config import LimitSettings, ServerSettings
from hashshare.domain.hash_sets import HashSet
from hashshare.domain.hashes import HashAlgorithm
from hashshare.domain.joining import Invitation
from hashshare.domain.members import Member, Role
from hashshare.domain.policy import View
from hashshare.http import Server
from hashshare.storage.database import Pool, open_pool

CSAM = HashSet(
    title="CSAM",
    algorithms=(HashAlgorithm.MD5, HashAlgorithm.PDQ, HashAlgorithm.SHA256),
    classifications=("A1", "A2", "B1"),
    views={"all": View(), "confirmed": View(quorum=2)},
)
CONTRIBUTOR = (Role.CONTRIBUTOR, Role.READER)


@dataclass(slots=True)
class Federation:
    """A coalition whose server runs.

    Attributes:
        folder: Holds the coalition's folder ``coalition`` and each member's profile.
        admin: The first admin's profile.
        pool: The server's database.
    """

    folder: Path
    admin: Profile
    server: Server
    pool: Pool
    members: dict[str, Profile] = field(default_factory=dict)
    publishing: "asyncio.Task[None] | None" = None

    async def invite(self, name: str, roles: tuple[Role, ...] = CONTRIBUTOR) -> Invitation:
        """Return an invitation; adds the member to the registry if it is new."""
        async with Client(self.admin) as admin:
            registry = await admin.admin.registry()
            if name not in registry.members:
                member = Member(name=name, roles=roles)
                await admin.admin.put_member(name, member, new=True, now=datetime.now(UTC))
            made = await admin.admin.invite(name, label="", hours=1)
        return Invitation.parse(made.invitation)

    async def invite_known(self, name: str) -> Invitation:
        """Return an invitation for a member of the registry, which is not changed."""
        async with Client(self.admin) as admin:
            made = await admin.admin.invite(name, label="", hours=1)
        return Invitation.parse(made.invitation)

    async def join(self, name: str, roles: tuple[Role, ...] = CONTRIBUTOR) -> Profile:
        """Return the profile of a member that has enrolled."""
        joined = await enrol(await self.invite(name, roles), self.folder / name)
        self.members[name] = joined.profile
        return joined.profile

    async def create(self, name: str = "csam", hash_set: HashSet = CSAM) -> None:
        """Create a hash set."""
        async with Client(self.admin) as admin:
            await admin.admin.put_hash_set(name, hash_set, new=True, now=datetime.now(UTC))

    async def published(self, log_size: int, name: str = "csam") -> int:
        """Wait until a publication covers ``log_size`` leaves; return its version."""
        async with Client(self.admin) as admin, asyncio.timeout(30):
            while True:
                with suppress(Exception):
                    latest = (await admin.latest(name)).publication
                    if latest.log_size >= log_size:
                        return latest.version
                await asyncio.sleep(0.05)

    async def stop_publishing(self) -> None:
        """End what publishes in this server, as if another had been elected."""
        if self.publishing is not None:
            await _cancel(self.publishing)


@asynccontextmanager
async def run_federation(
    dsn: str,
    folder: Path,
    *,
    governance_on_server: bool = True,
    limits: Mapping[str, float] | None = None,
    witness_ca: Path | None = None,
    sandbox: bool = False,
    artifacts: str | None = None,
) -> AsyncIterator[Federation]:
    """Make a coalition in ``folder`` and run its server, with publisher, on free ports."""
    coalition = folder / "coalition"
    plan = Plan(
        folder=coalition,
        coalition="Test Coalition",
        log="test.example/log",
        admin="admin",
        listen="127.0.0.1:0",
        enrol_listen="127.0.0.1:0",
        public_url="",
        enrol_public_url="",
        hosts=["127.0.0.1"],
        sandbox=sandbox,
    )
    create_coalition(plan)
    if not governance_on_server:
        (coalition / "keys" / "governance.pem").unlink()
    options = Options(coalition, dsn, None, None, publisher=True, artifacts=artifacts)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(dsn))
        settings = ServerSettings.load(coalition)
        if limits is not None:
            chosen = LimitSettings.model_validate(limits)
            settings = settings.model_copy(update={"limits": chosen})
        if witness_ca is not None:
            settings = settings.model_copy(update={"witness_ca": str(witness_ca)})
        server, beside = await build_server(stack, options, settings, pool)
        await stack.enter_async_context(server)
        task = asyncio.create_task(beside())
        stack.push_async_callback(_cancel, task)
        made = Federation(folder, _admin(coalition / "admin", server), server, pool)
        made.publishing = task
        yield made


@asynccontextmanager
async def run_beside(federation: Federation, dsn: str) -> AsyncIterator[Server]:
    """Run another server of a federation: the same database, blobs and keys, its own replica."""
    first, second = federation.folder / "coalition", federation.folder / "coalition-2"
    second.mkdir()
    for part in ("keys", "genesis", "trust"):
        shutil.copytree(first / part, second / part)
    for part in ("settings.toml", "trust.json"):
        shutil.copy(first / part, second / part)
    (second / "data").mkdir()
    blobs = (first / "data" / "blobs").absolute().as_uri()
    settings = ServerSettings.load(second).model_copy(update={"blobs": blobs})
    options = Options(second, dsn, None, None, publisher=True)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(dsn))
        server, publishing = await build_server(stack, options, settings, pool)
        await stack.enter_async_context(server)
        stack.push_async_callback(_cancel, asyncio.create_task(publishing()))
        yield server


def copy_profile(profile: Profile, name: str, *, api_url: str = "") -> Profile:
    """Return the profile of a second machine of a member, which may talk to another server."""
    folder = profile.folder.with_name(name)
    shutil.copytree(profile.folder, folder)
    copied = replace(profile, folder=folder, api_url=api_url or profile.api_url)
    copied.save_settings()
    return copied


def _admin(folder: Path, server: Server) -> Profile:
    """Return the admin's profile, now that the ports are known."""
    known = Profile.load(folder)
    profile = Profile(
        folder=folder,
        member=known.member,
        coalition=known.coalition,
        api_url=server.addresses.api_url,
        enrol_url=server.addresses.enrol_url,
        trust=known.trust,
    )
    profile.save_settings()
    return profile


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

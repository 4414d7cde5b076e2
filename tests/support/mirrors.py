"""A mirror of a federation, served over real TLS."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hashshare.client import Client, Profile
from hashshare.crypto.certificates import Authority
from hashshare.http import Endpoints
from hashshare.http.tls import api_context
from hashshare.mirror import Mirror, MirrorServer, Synced
from hashshare.mirror.certificate import issue_certificate, make_request, read_certificate
from tests.client.test_faults import records
from tests.support.federation import Federation


@dataclass(slots=True)
class Mirrored:
    """A federation with a mirror that runs.

    Attributes:
        operator: The profile of the member that runs the mirror.
        folder: Of the mirror.
        server: What serves it.
    """

    federation: Federation
    operator: Profile
    folder: Path
    server: MirrorServer

    @property
    def url(self) -> str:
        """Where it is reached."""
        return self.server.url

    async def sync(self, source: str | None = None) -> Synced:
        """Bring the mirror up to date."""
        async with Mirror.open(self.operator, self.folder, source=source) as mirror:
            return await mirror.sync()

    async def push(self, *numbers: int) -> int:
        """Let acme push hashes; return the version that publishes them."""
        async with Client(self.federation.members["acme"]) as acme:
            (pushed,) = await acme.push("csam", records(*numbers))
        return await self.federation.published(pushed.log_index + 1)


def certify(federation: Federation, folder: Path) -> None:
    """Give a mirror its certificate."""
    keys = federation.folder / "coalition/keys"
    authority = Authority.from_pem(
        (keys / "ca.pem").read_bytes(), (keys / "ca-cert.pem").read_bytes()
    )
    issued = issue_certificate(
        authority,
        make_request(folder, member="watch"),
        hosts=["127.0.0.1"],
        server_hosts=["127.0.0.1", "localhost"],
        now=datetime.now(UTC),
    )
    (folder / "keys/mirror-cert.pem").write_text(issued.pem)


@asynccontextmanager
async def run_mirror(federation: Federation, operator: Profile) -> AsyncIterator[Mirrored]:
    """Serve a mirror that a member runs; nothing is synced yet."""
    folder = federation.folder / f"mirror-of-{operator.member}"
    certify(federation, folder)
    key, issued = read_certificate(folder, now=datetime.now(UTC))
    tls = api_context(key=key, certificate=issued.pem, ca=operator.trust.ca)
    server = MirrorServer(folder, operator=operator.member, endpoints=Endpoints(), tls=tls)
    async with server:
        yield Mirrored(federation, operator, folder, server)

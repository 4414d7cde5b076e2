"""Witnesses that are asked: what they answer, what they refuse, and that a server asks them."""

import asyncio
import hashlib
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from hashshare.cli.witness_server import CertificateFiles, serve_application
from hashshare.client import Client, Profile
from hashshare.client.session import Session
from hashshare.crypto.add_checkpoint import MAX_REQUEST_BYTES, SIZE_TYPE, AddCheckpoint
from hashshare.crypto.certificates import Authority, new_tls_key, tls_key_to_pem
from hashshare.crypto.cosignature import verify_cosignature
from hashshare.crypto.keys import PrivateKey, read_private_key
from hashshare.crypto.merkle import consistency_ranges
from hashshare.crypto.note import NoteSigner, SignedText, parse_checkpoint, parse_note
from hashshare.crypto.policy import NamedWitness
from hashshare.errors import EquivocationError, MalformedError
from hashshare.witness.listener import WitnessListener
from hashshare.witness.loop import WitnessLoop, make_key, open_logbook, witness_of
from tests.client.test_faults import records
from tests.client.test_witness import federation_published
from tests.support.federation import Federation, run_federation
from tests.support.hostile import HostileLog, genuine_leaves
from tests.support.witnesses import make_certificates


@dataclass(frozen=True, slots=True)
class Asked:
    """A witness that listens, and the log that it knows, with that log's key.

    Attributes:
        url: Of the listener.
        log: A log with made-up leaves.
    """

    profile: Profile
    url: str
    log: HostileLog

    def request(self, old: int, size: int, log: HostileLog | None = None) -> bytes:
        """The body that shows ``size`` leaves to a witness that has seen ``old``."""
        shown = log or self.log
        part = replace(shown, leaves=shown.leaves[:size])
        proof = [part.root(*r) for r in consistency_ranges(old, size)] if 0 < old < size else []
        return AddCheckpoint(old, tuple(proof), part.note()).encode()

    async def ask(self, body: bytes) -> tuple[int, str, bytes]:
        """Send a body to the listener; return status, content type and answer."""
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.url}/add-checkpoint", data=body) as response,
        ):
            return response.status, response.content_type, await response.read()

    async def cosign(self, old: int, size: int) -> None:
        """Have leaves cosigned, and verify that they are."""
        body = self.request(old, size)
        status, _, line = await self.ask(body)
        assert status == 200
        verify_cosignature(body.split(b"\n\n", 1)[1] + line, witness_of(self.profile).verifier)


def log_of(federation: Federation, count: int, mark: str = "") -> HostileLog:
    """A log with made-up leaves, under the key of the server."""
    key = read_private_key(federation.folder / "coalition/keys/log.pem")
    signer = NoteSigner(federation.admin.trust.log, key)
    return HostileLog(signer, [f"{mark}{number}".encode() for number in range(count)])


@asynccontextmanager
async def listening(profile: Profile) -> AsyncIterator[str]:
    """A witness's listener, over plain HTTP as behind a proxy; gives its URL."""
    make_key(profile)
    with closing(open_logbook(profile)) as logbook:
        listener = WitnessListener(profile, witness_of(profile), logbook)
        async with serve_application(listener.application(), "127.0.0.1", 0, None) as url:
            yield url


@pytest.fixture
async def asked(federation: Federation) -> AsyncIterator[Asked]:
    """A witness that has cosigned five leaves of a log of nine."""
    profile = federation.members["acme"]
    async with listening(profile) as url:
        asked = Asked(profile, url, log_of(federation, 9))
        await asked.cosign(0, 5)
        yield asked


async def test_what_only_grows_is_cosigned(asked: Asked) -> None:
    """Also again, since a log that rests must be seen to rest; and anyone can compare."""
    await asked.cosign(5, 5)
    await asked.cosign(5, 9)
    origin = hashlib.sha256(asked.log.signer.name.encode()).hexdigest()
    async with aiohttp.ClientSession() as http, http.get(f"{asked.url}/{origin}/checkpoint") as r:
        note = await r.read()
    assert parse_checkpoint(parse_note(note).text).size == 9
    verify_cosignature(note, witness_of(asked.profile).verifier)


async def test_the_size_that_was_seen_is_told(asked: Asked) -> None:
    """So that a server which does not know it can prove from there."""
    for old in (0, 3, 7):
        answered = await asked.ask(asked.request(old, 9))
        assert answered == (409, SIZE_TYPE, b"5\n")
    await asked.cosign(5, 9)


def _forked(asked: Asked) -> bytes:
    return asked.request(5, 9, replace(asked.log, leaves=[b"x", *asked.log.leaves[1:]]))


def _two_roots(asked: Asked) -> bytes:
    return asked.request(5, 5, replace(asked.log, leaves=[b"x", *asked.log.leaves[1:]]))


def _wrong_proof(asked: Asked) -> bytes:
    _, note = asked.request(5, 9).split(b"\n\n", 1)
    return AddCheckpoint(5, (b"\x01" * 32,) * 3, note).encode()


def _needless_proof(asked: Asked) -> bytes:
    _, note = asked.request(5, 5).split(b"\n\n", 1)
    return AddCheckpoint(5, (b"\x01" * 32,), note).encode()


def _smaller(asked: Asked) -> bytes:
    _, note = asked.request(0, 3).split(b"\n\n", 1)
    return AddCheckpoint(5, (), note).encode()


def _of_another_key(asked: Asked) -> bytes:
    signer = replace(asked.log.signer, key=PrivateKey.generate())
    return asked.request(5, 9, replace(asked.log, signer=signer))


def _with_the_id_of_its_key(asked: Asked) -> bytes:
    note = parse_note(_of_another_key(asked).split(b"\n\n", 1)[1])
    posing = replace(note.signatures[0], key_id=asked.log.signer.verifier.key_id)
    return AddCheckpoint(5, (), SignedText(note.text, (posing,)).encode()).encode()


def _of_another_log(asked: Asked) -> bytes:
    signer = replace(asked.log.signer, name="other.example/log")
    return asked.request(5, 9, replace(asked.log, signer=signer))


def _of_an_empty_log(asked: Asked) -> bytes:
    return asked.request(0, 0)


@pytest.mark.parametrize(
    ("attack", "status"),
    [
        (_forked, 422),
        (_two_roots, 422),
        (_wrong_proof, 422),
        (_needless_proof, 422),
        (_smaller, 400),
        (_of_another_key, 403),
        (_with_the_id_of_its_key, 403),
        (_of_another_log, 404),
        (_of_an_empty_log, 400),
        (lambda _: b"", 400),
        (lambda _: b"old 5\n", 400),
        (lambda a: a.request(5, 9).replace(b"old 5", b"old 05"), 400),
        (lambda a: a.request(5, 9).replace(b"old 5", b"old -5"), 400),
        (lambda a: a.request(5, 9).replace(b"old 5\n", b"old 5\nAAAA\n"), 400),
        (lambda a: a.request(5, 9).replace(b"old 5\n", b"old 5\n" + b"\xff\n"), 400),
        (lambda a: b"old 5\n" + (b"A" * 43 + b"=\n") * 64 + a.request(5, 9)[5:], 400),
        (lambda a: a.request(5, 9) + b"\x00", 400),
        (lambda a: a.request(5, 9) + b"x" * MAX_REQUEST_BYTES, 413),
    ],
)
async def test_a_witness_refuses(
    asked: Asked, attack: Callable[[Asked], bytes], status: int
) -> None:
    """And goes on from what it had seen."""
    assert (await asked.ask(attack(asked)))[0] == status
    await asked.cosign(5, 9)


async def test_two_roots_are_kept_as_evidence(asked: Asked) -> None:
    """Once, though they are shown twice; a proof that anyone can get wrong is none."""
    for attack in (_forked, _wrong_proof):
        await asked.ask(attack(asked))
    assert not list(asked.profile.folder.glob("evidence-*"))
    for _ in range(2):
        await asked.ask(_two_roots(asked))
    (evidence,) = asked.profile.folder.glob("evidence-*")
    assert "two roots" in evidence.read_text()


async def test_of_two_histories_at_once_one_is_cosigned(federation: Federation) -> None:
    """Two listeners and a key that signs both: whoever is first, the other is refused."""
    profile = federation.members["acme"]
    async with listening(profile) as first, listening(profile) as second:
        logs = [log_of(federation, 40, mark) for mark in ("a", "b")]
        asked = [Asked(profile, url, log_of(federation, 0)) for url in (first, second)]
        cosigned = set()
        for size in range(1, 21):
            bodies = [asked[0].request(0 if size == 1 else size - 1, size, log) for log in logs]
            # Each listener gets another one first.
            order = [(0, 0), (1, 1), (0, 1), (1, 0)]
            answers = await asyncio.gather(*(asked[n].ask(bodies[log]) for n, log in order))
            for (_, log), (status, _, _) in zip(order, answers, strict=True):
                assert status in {200, 409, 422}
                if status == 200:
                    cosigned.add(log)
        assert len(cosigned) == 1


async def test_asking_and_being_asked_are_one_history(federation: Federation) -> None:
    """What was cosigned for one log is never contradicted by the other way of being a witness."""
    profile = federation.members["acme"]
    async with listening(profile) as url:
        asked = Asked(profile, url, log_of(federation, 9))
        with closing(open_logbook(profile)) as logbook:
            async with Session.of(profile) as session:
                size = len(await genuine_leaves(federation.pool))
                await asked.cosign(0, size - 1)
                with pytest.raises(EquivocationError):
                    await WitnessLoop(profile, session, logbook).step()
    assert list(profile.folder.glob("evidence-*"))
    beta = federation.members["beta"]
    async with listening(beta) as url:
        genuine = replace(asked.log, leaves=await genuine_leaves(federation.pool))
        asked = Asked(beta, url, genuine)
        await asked.cosign(0, 2)
        await _pull_mode_step(beta)
        size = len(genuine.leaves)
        assert await asked.ask(asked.request(2, size)) == (409, SIZE_TYPE, f"{size}\n".encode())
        await asked.cosign(size, size)


async def _pull_mode_step(profile: Profile) -> None:
    """Let a witness that nobody has added look once; what it saw stays written."""
    with closing(open_logbook(profile)) as logbook:
        async with Session.of(profile) as session:
            with pytest.raises(Exception, match="no witness of the trust policy"):
                await WitnessLoop(profile, session, logbook).step()


async def test_a_witness_that_is_killed_remembers(federation: Federation) -> None:
    """Whatever it answered, or wrote down and could not answer, it never contradicts."""
    profile = federation.members["acme"]
    make_key(profile)
    log = log_of(federation, 9)
    for _ in range(2):
        process, url = await _start(profile)
        asked = Asked(profile, url, log)
        seen = await asked.ask(asked.request(0, 4))
        if seen[0] == 409:
            assert seen == (409, SIZE_TYPE, b"4\n")
        writing = asyncio.create_task(asked.ask(asked.request(4, 4)))
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await asyncio.gather(writing, return_exceptions=True)
    process, url = await _start(profile)
    asked = Asked(profile, url, log)
    forked = replace(log, leaves=[b"x", *log.leaves[1:]])
    assert (await asked.ask(asked.request(0, 4, forked)))[0] == 409
    assert (await asked.ask(asked.request(4, 9, forked)))[0] == 422
    await asked.cosign(4, 9)
    process.terminate()
    assert await process.wait() == 0


async def _start(profile: Profile) -> tuple[asyncio.subprocess.Process, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hashshare", "witness", "serve", "--listen", "127.0.0.1:0"),
        *("--profile", str(profile.folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        line = (await process.stdout.readline()).decode()
    return process, line.split()[-1]


@dataclass(frozen=True, slots=True)
class Certified:
    """A CA that witnesses have certificates of, and one certificate."""

    ca: Path
    files: CertificateFiles


@pytest.fixture
def certified(tmp_path: Path) -> Certified:
    """Made at run time."""
    make_certificates(tmp_path)
    files = CertificateFiles(tmp_path / "witness.pem", tmp_path / "witness-key.pem")
    return Certified(tmp_path / "ca.pem", files)


@pytest.fixture
async def reaching(dsn: str, tmp_path: Path, certified: Certified) -> AsyncIterator[Federation]:
    """A coalition with a submission, whose server trusts the CA of its witnesses."""
    async with run_federation(dsn, tmp_path, witness_ca=certified.ca) as federation:
        await federation.create()
        await federation.join("acme")
        await federation.join("beta")
        await push(federation, 1)
        yield federation


async def push(federation: Federation, *numbers: int) -> None:
    """Push made-up hashes."""
    async with Client(federation.members["acme"]) as client:
        await client.push("csam", records(*numbers))


async def add(federation: Federation, name: str, url: str) -> None:
    """Have an admin demand a witness."""
    verifier = make_key(federation.members[name])
    async with Client(federation.admin) as admin:
        await admin.admin.add_witness(
            NamedWitness(name, verifier, url), None, now=datetime.now(UTC)
        )


async def pulled_until(profile: Profile, count: int) -> None:
    """Pull until so many hashes are held."""
    async with asyncio.timeout(30), Client(profile) as client:
        while True:
            pulled = await client.pull()
            if any(p.count == count for p in pulled if str(p.name) == "csam/all/sha256"):
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def reachable(profile: Profile, files: CertificateFiles) -> AsyncIterator[str]:
    """A witness's listener, over TLS."""
    make_key(profile)
    with closing(open_logbook(profile)) as logbook:
        listener = WitnessListener(profile, witness_of(profile), logbook)
        async with serve_application(listener.application(), "127.0.0.1", 0, files) as url:
            yield url


async def test_a_server_asks_its_witnesses(reaching: Federation, certified: Certified) -> None:
    """All that is pushed is seen by both, and so by members; nobody runs a loop."""
    async with AsyncExitStack() as stack:
        for name in ("acme", "beta"):
            witness = reachable(reaching.members[name], certified.files)
            await add(reaching, name, await stack.enter_async_context(witness))
        for number in range(2, 5):
            await push(reaching, number)
            await pulled_until(reaching.members["beta"], number)
        async with Client(reaching.members["beta"]) as client:
            assert (await client.follow()).seen_at is not None
            assert "https://127.0.0.1" in (await client.admin.registry()).witnesses


async def test_a_witness_that_was_away_is_caught_up(
    reaching: Federation, certified: Certified
) -> None:
    """It is told nothing while it is away; the server learns from it where to begin."""
    profile = reaching.members["acme"]
    async with listening(profile) as url:
        genuine = replace(log_of(reaching, 0), leaves=await genuine_leaves(reaching.pool))
        await Asked(profile, url, genuine).cosign(0, 3)
    async with reachable(profile, certified.files) as url:
        port = int(url.rpartition(":")[2])
        await add(reaching, "acme", url)
        await push(reaching, 2)
        await pulled_until(reaching.members["beta"], 2)
    await push(reaching, 3, 4)
    await federation_published(reaching)
    with closing(open_logbook(profile)) as logbook:
        app = WitnessListener(profile, witness_of(profile), logbook).application()
        async with serve_application(app, "127.0.0.1", port, certified.files):
            await pulled_until(reaching.members["beta"], 4)


@pytest.mark.parametrize(
    ("ahead", "reason"),
    [(1, "leaves already, and"), (1_000_000, "leaves of this log, which here has")],
)
async def test_only_a_log_that_lacks_leaves_is_called_behind(
    reaching: Federation, certified: Certified, ahead: int, reason: str
) -> None:
    """Another server may have shown a witness more than is pending here."""
    grown = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal grown
        note = (await request.read()).split(b"\n\n", 1)[1]
        shown = parse_checkpoint(parse_note(note).text).size
        if not grown:
            # While it is being asked, the log grows.
            await push(reaching, 2, 3)
            grown = shown + ahead
        return web.Response(status=409, text=f"{grown}\n", content_type=SIZE_TYPE)

    app = web.Application()
    app.router.add_post("/add-checkpoint", answer)
    async with serve_application(app, "127.0.0.1", 0, certified.files) as url:
        with capture_logs() as logs:
            await add(reaching, "acme", url)
            async with asyncio.timeout(30):
                while not (told := [x for x in logs if x["event"] == "no cosignature"]):
                    await asyncio.sleep(0.05)
    assert reason in told[0]["reason"]


async def _never(_: web.Request) -> web.Response:
    await asyncio.sleep(3600)
    raise AssertionError


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" * 65_536)


async def _elsewhere(_: web.Request) -> web.Response:
    raise web.HTTPTemporaryRedirect("https://127.0.0.1:1/add-checkpoint")


async def _far_ahead(_: web.Request) -> web.Response:
    return web.Response(status=409, text="1000000\n", content_type=SIZE_TYPE)


async def _nonsense(_: web.Request) -> web.Response:
    return web.Response(text="— acme AAAA\n")


@pytest.mark.parametrize("answer", [_never, _endless, _elsewhere, _far_ahead, _nonsense])
async def test_a_hostile_witness_delays_nobody(
    reaching: Federation,
    certified: Certified,
    answer: Callable[[web.Request], web.StreamResponse],
) -> None:
    """It is one of four; the three others are enough."""
    for name in ("gamma", "delta"):
        await reaching.join(name)
    app = web.Application()
    app.router.add_post("/add-checkpoint", answer)  # type: ignore[arg-type] # a handler is async
    async with AsyncExitStack() as stack:
        hostile = serve_application(app, "127.0.0.1", 0, certified.files)
        urls = {"acme": await stack.enter_async_context(hostile)}
        for name in ("beta", "gamma", "delta"):
            witness = reachable(reaching.members[name], certified.files)
            urls[name] = await stack.enter_async_context(witness)
        for name, url in reversed(urls.items()):
            await add(reaching, name, url)
        await push(reaching, 2)
        await pulled_until(reaching.members["beta"], 2)


async def test_a_renewed_certificate_is_used(tmp_path: Path, certified: Certified) -> None:
    """Without a restart; and what does not fit together is refused."""
    before = certified.files.context()
    assert certified.files.context() is before
    key = new_tls_key()
    with pytest.raises(MalformedError):
        (tmp_path / "other-key.pem").write_bytes(tls_key_to_pem(key))
        CertificateFiles(tmp_path / "witness.pem", tmp_path / "other-key.pem")
    now = datetime.now(UTC)
    certificate = Authority.create("Others", now=now).issue_server(
        key.public_key(), hosts=["127.0.0.1"], now=now
    )
    (tmp_path / "witness-key.pem").write_bytes(tls_key_to_pem(key))
    (tmp_path / "witness.pem").write_text(certificate.pem)
    assert certified.files.context() is not before

"""A server that is taken over: each way in which it lies, and the check that finds it.

The server is real, and so is the command of its members; between them stands an operator who has
every key of the server, and answers as it likes (tests/support has the operator).
"""

import asyncio
import json
import os
import shlex
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import aiohttp

from hashshare.cli.server import configure_logging
from hashshare.client import Client, Profile
from hashshare.client.audited import make_auditor_key
from hashshare.crypto.add_checkpoint import AddCheckpoint
from hashshare.crypto.envelope import parse_envelope
from hashshare.crypto.keys import PrivateKey, read_private_key
from hashshare.crypto.note import NoteSigner
from hashshare.domain.documents import decode_document
from hashshare.domain.members import Role
from hashshare.domain.statements import SUBMISSION_TYPE, Publication, id_of
from hashshare.storage.database import create_database, migrate
from hashshare.storage.embedded import run_embedded
from hashshare.witness.loop import make_key
from tests.client.test_audit import PUT_WORDS_INTO_THE_MOUTH_OF_BETA
from tests.client.test_faults import records
from tests.support.federation import CSAM, Federation, run_federation
from tests.support.hostile import (
    HostileLog,
    altered_publication,
    genuine_leaves,
    with_signature_of,
)
from tests.support.relay import Answer, Attack, Relay, run_relay
from tests.support.witnesses import make_certificates

EARLIER = "2020-01-01T00:00:00Z"
BOLD, PLAIN = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
VERIFIED = 3
TITLE = [""]
FOUND: list[tuple[str, str]] = []
"""Each lie, and the check that found it."""


def step(title: str, explanation: str) -> None:
    """Say what the server does now."""
    TITLE[0] = title
    print(f"\n{BOLD}== {title}{PLAIN}\n{explanation}", flush=True)


async def run(*words: object, profile: Profile, code: int, says: str = "", check: str = "") -> None:
    """Run hashshare, show what it says, and end the demo if that is not what it must say.

    Args:
        words: Its arguments.
        profile: Whose.
        code: How it must end.
        says: What it must say.
        check: The check that must have failed, as docs/problems.md names it; "" for none.
    """
    print(f"[{profile.member}] $ hashshare {shlex.join(map(str, words))}", flush=True)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hashshare",
        *map(str, words),
        env={**os.environ, "HASHSHARE_PROFILE": str(profile.folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told = (await process.communicate())[0].decode()
    for line in told.splitlines():
        print("    " + (line if len(line) < 150 else line[:147] + "..."))
    print(f"    exit code {process.returncode}", flush=True)
    named = f"what failed: {check} " if check else ""
    if process.returncode != code or says not in told or named not in told:
        raise SystemExit(f"demo: expected exit code {code}, {says!r} and {named!r}")
    if check:
        found(f"{check}, by {words[0]} of {profile.member}")


def found(check: str) -> None:
    """Remember what found the lie that is told now."""
    FOUND.append((TITLE[0], check))


@asynccontextmanager
async def taken_over(federation: Federation, member: str, attack: Attack) -> AsyncIterator[Relay]:
    """Lead a member to a server that attacks."""
    genuine = federation.members[member]
    async with run_relay(federation, member) as relay:
        relay.attack = attack
        relay.profile.save_settings()
        try:
            yield relay
        finally:
            genuine.save_settings()


async def push(federation: Federation, member: str, *numbers: int) -> int:
    """Push made-up hashes, and wait until they are published; return the leaf."""
    async with Client(federation.members[member]) as client:
        (pushed,) = await client.push("csam", records(*numbers))
    # Asked of the database: members see it only once witnesses have.
    covered = "SELECT max(log_size) FROM publication"
    async with asyncio.timeout(30):
        while True:
            if await federation.pool.fetchval(covered) > pushed.log_index:
                return pushed.log_index
            await asyncio.sleep(0.05)


def last_submission(log: HostileLog) -> int:
    """Return the last submission of a log."""
    kinds = [parse_envelope(leaf).payload_type for leaf in log.leaves]
    return max(i for i, kind in enumerate(kinds) if kind == SUBMISSION_TYPE)


async def attack_members(federation: Federation) -> None:
    """Lie about the log, in every way that a member finds out alone."""
    beta = federation.members["beta"]
    log_key = NoteSigner(beta.trust.log, _key(federation, "log"))
    publisher = _key(federation, "publisher")

    async def copy() -> HostileLog:
        return HostileLog(log_key, await genuine_leaves(federation.pool))

    await push(federation, "acme", 1, 2, 3)
    old = await copy()
    await run("pull", profile=beta, code=0)

    step(
        "It rolls back", "beta has seen a later state of the log; the server shows an earlier one."
    )
    await push(federation, "acme", 4)
    await run("pull", profile=beta, code=0)
    old.lies["/v1/log/consistency"] = lambda answer: setattr(answer, "status", 404)
    await attacked(federation, "beta", old, "rollback")

    step("It forks", "Another publication in the place of the first, signed with the genuine keys.")
    log = await copy()
    first = next(i for i, x in enumerate(log.leaves) if b"publication.v1" in x)
    log.leaves[first] = altered_publication(log.leaves[first], publisher, created_at=EARLIER)
    await attacked(federation, "beta", log, "equivocation")

    step("It poisons", "A submission in acme's name, which acme's key has not signed.")
    await push(federation, "acme", 5)
    log = await copy()
    index = last_submission(log)
    log.leaves[index] = with_signature_of(log.leaves[index], PrivateKey.generate())
    await attacked(federation, "beta", log, "signature-invalid")

    step("It drops a submission of acme", "acme's next one names the one before it.")
    await push(federation, "acme", 6)
    log = await copy()
    del log.leaves[index : last_submission(log)]
    await attacked(federation, "beta", log, "verification", "stands where")

    step("And now it behaves", "Nothing of what it showed has harmed beta's replica.")
    await run("pull", profile=beta, code=0)

    step("It hides delta's own submission", "delta has a receipt for it, and looks for it.")
    log = await copy()
    leaf = await push(federation, "delta", 7)
    later = await copy()
    log.leaves = later.leaves[:leaf]
    while len(log.leaves) <= leaf:
        log.leaves.append(next_publication(log.leaves, publisher))
    async with taken_over(federation, "delta", log) as relay:
        await run("chain", "show", profile=relay.profile, code=VERIFIED, check="omission")


def next_publication(leaves: list[bytes], key: PrivateKey) -> bytes:
    """Return one more publication, as an operator makes it to lengthen its log."""
    old = next(leaf for leaf in reversed(leaves) if b"publication.v1" in leaf)
    envelope = parse_envelope(old)
    version = decode_document(envelope.payload, Publication).version
    return altered_publication(old, key, version=version + 1, previous=id_of(envelope))


async def attacked(
    federation: Federation, member: str, attack: Callable[..., None], check: str, says: str = ""
) -> None:
    """Pull under attack: refused, by a check."""
    async with taken_over(federation, member, attack) as relay:
        await run("pull", profile=relay.profile, code=VERIFIED, check=check, says=says)


async def attack_witnesses(federation: Federation) -> None:
    """Show one member another history, or an old one for ever."""
    names = ("acme", "beta", "gamma")
    step("Three members witness the log", "Each reads all of it, and cosigns; three must have.")
    for name in names:
        key = str(make_key(federation.members[name]))
        await run("witness", "add", name, key, profile=federation.admin, code=0)
    for name in names:
        await run("witness", "run", "--once", profile=federation.members[name], code=0)
    gamma = federation.members["gamma"]
    await run("pull", profile=gamma, code=0)

    step("It shows gamma a log of its own", "Well signed; but no witness has seen it.")
    await push(federation, "acme", 20)
    signer = NoteSigner(gamma.trust.log, _key(federation, "log"))
    log = HostileLog(signer, await genuine_leaves(federation.pool))
    await attacked(federation, "gamma", log, "quorum-missing")

    step("It shows a witness a fork", "The witness remembers, and does not cosign it.")
    log.leaves[-1] = altered_publication(
        log.leaves[-1], _key(federation, "publisher"), created_at=EARLIER
    )
    await run("witness", "run", "--once", profile=federation.members["acme"], code=0)

    def fork(answer: Answer) -> None:
        log(answer)
        if answer.path == "/v1/log/checkpoint/pending":
            answer.status, answer.body = 200, log.note()

    async with taken_over(federation, "acme", fork) as relay:
        once = ("witness", "run", "--once")
        await run(
            *once, profile=relay.profile, code=VERIFIED, says="evidence: ", check="equivocation"
        )
    path = federation.folder / "theirs.checkpoint"
    path.write_bytes(log.note())
    step("Members compare", "Somebody was shown that fork, and sends its checkpoint.")
    for name in names:
        await run("witness", "run", "--once", profile=federation.members[name], code=0)
    await run(
        "compare", path, profile=gamma, code=VERIFIED, says="evidence: ", check="equivocation"
    )

    step("It freezes", "What was true is shown for ever; gamma wants news within two seconds.")
    hasty = replace(gamma, stop_after=timedelta(seconds=2), warn_after=timedelta(seconds=1))
    hasty.save_settings()
    await asyncio.sleep(3)
    await run("pull", profile=hasty, code=VERIFIED, check="freeze")
    gamma.save_settings()


async def attack_listener(federation: Federation, certificates: Path) -> None:
    """Ask a witness for what is not so, with the log's genuine key."""
    delta, gamma = federation.members["delta"], federation.members["gamma"]
    step("The server asks a fourth witness", "delta listens, with a certificate; nobody polls.")
    key = str(make_key(delta))
    async with witness_listening(delta, certificates) as (url, told):
        added = ("witness", "add", "delta", key, "--url", url)
        await run(*added, profile=federation.admin, code=0)
        await push(federation, "acme", 30)
        for name in ("acme", "beta"):
            await run("witness", "run", "--once", profile=federation.members[name], code=0)
        await until_cosigned(federation, "delta")
        await run("pull", profile=gamma, code=0)

        step("It asks delta for a fork", "Another root for the size that delta cosigned last.")
        leaves = await genuine_leaves(federation.pool)
        signer = NoteSigner(delta.trust.log, _key(federation, "log"))
        fork = HostileLog(signer, [b"another", *leaves[1:]])
        size = len(leaves)
        await ask_witness(url, AddCheckpoint(size, (), fork.note()), certificates, 422)
        while b"the log has two histories" not in (line := await told.readline()):
            pass
        said = json.loads(line)
        print(f"    {said['event']}; evidence: {said['evidence']}")
        found("equivocation, by the listener of delta")

        step("It asks delta for a rollback", "A smaller tree, which was once true.")
        old = HostileLog(signer, leaves[: size // 2])
        await ask_witness(url, AddCheckpoint(0, (), old.note()), certificates, 409)
        found(f"rollback, by the listener of delta: it has seen {size}")


@asynccontextmanager
async def witness_listening(
    profile: Profile, certificates: Path
) -> AsyncIterator[tuple[str, asyncio.StreamReader]]:
    """Run a witness's listener; give its URL, and what it logs."""
    words = [
        *("witness", "serve", "--listen", "127.0.0.1:0", "--json"),
        *("--certificate", str(certificates / "witness.pem")),
        *("--key", str(certificates / "witness-key.pem")),
    ]
    print(f"[{profile.member}] $ hashshare {shlex.join(words)} &", flush=True)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hashshare", *words),
        env=os.environ | {"HASHSHARE_PROFILE": str(profile.folder), "HASHSHARE_LOG": "ERROR"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    if process.stdout is None or process.stderr is None:
        raise RuntimeError("both are pipes")
    try:
        yield json.loads(await process.stdout.readline())["url"], process.stderr
    finally:
        process.terminate()
        await process.wait()


async def ask_witness(url: str, asked: AddCheckpoint, certificates: Path, status: int) -> None:
    """Ask a witness as a log does; end the demo if it does not answer as it must."""
    tls = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/add-checkpoint", data=asked.encode(), ssl=tls) as response,
    ):
        answer = (await response.text()).strip()
        print(f"[attacker] $ POST {url}/add-checkpoint\n    {response.status} {answer}", flush=True)
        if response.status != status:
            raise SystemExit(f"demo: expected {status}")


async def until_cosigned(federation: Federation, name: str) -> None:
    """Wait until the server has a witness's cosignature of the whole log."""
    query = """
        SELECT count(*) FROM cosignature
         WHERE cosigner LIKE $1 || ' %' AND size = (SELECT count(*) FROM leaf)
    """
    async with asyncio.timeout(30):
        while True:
            if await federation.pool.fetchval(query, name):
                return
            await asyncio.sleep(0.05)


async def attack_lists(federation: Federation) -> None:
    """Write into the database what no member has said."""
    step("It puts words into beta's mouth", "In its database; beta has signed nothing of it.")
    watch = await federation.join("watch", (Role.AUDITOR,))
    key = str(make_auditor_key(watch))
    listed = ("witness", "add", "watch/audit", key, "--auditor")
    await run(*listed, profile=federation.admin, code=0)
    await run("audit", "--cosign", profile=watch, code=0, says="cosigned")
    await run("pull", profile=federation.members["beta"], code=0)
    await run("status", profile=federation.members["beta"], code=0, says="watch/audit")
    await federation.pool.execute(PUT_WORDS_INTO_THE_MOUTH_OF_BETA)
    async with Client(federation.members["acme"]) as client:
        again = [replace(r, classification="A2") for r in records(1, 2, 3)]
        (pushed,) = await client.push("csam", again)
    await federation.published(pushed.log_index + 1)
    await run("audit", "--cosign", profile=watch, code=VERIFIED, says="differs")
    found("audit by replay, of watch, which then vouches for nothing")


def _key(federation: Federation, name: str) -> PrivateKey:
    return read_private_key(federation.folder / "coalition/keys" / f"{name}.pem")


async def tell(folder: Path) -> None:
    """Go through all of it."""
    with run_embedded(folder / "postgres") as dsn:
        database = await create_database(dsn)
        await migrate(database)
        make_certificates(folder)
        async with run_federation(database, folder, witness_ca=folder / "ca.pem") as federation:
            await federation.create("csam", CSAM)
            for name in ("acme", "beta", "gamma", "delta"):
                await federation.join(name)
            await attack_members(federation)
            await attack_lists(federation)
            await attack_witnesses(federation)
            await attack_listener(federation, folder)
    print(f"\n{BOLD}Each lie was found, and said so:{PLAIN}")
    width = max(len(title) for title, _ in FOUND)
    for title, check in FOUND:
        print(f"  {title:{width}}  {check}")


def main() -> None:
    """Run the demo."""
    # The server's log, which is in this process, would only hide what is told.
    os.environ["HASHSHARE_LOG"] = "CRITICAL"
    configure_logging()
    with tempfile.TemporaryDirectory(prefix="hashshare-hostile-") as folder:
        asyncio.run(tell(Path(folder)))


if __name__ == "__main__":
    main()

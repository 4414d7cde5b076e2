"""The whole main job, for real: a coalition of three shares hashes, and proves what it holds.

Everything is what members use: the command, TLS with client certificates, PostgreSQL. The
hashes are of harmless files that are on this machine.
"""

import asyncio
import base64
import csv
import json
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hashshare.domain.hashes import TRIVIAL

# Empty files and the like: hashshare refuses their hashes, a careful member leaves them out.
TRIVIAL_HEX = {value.hex() for value in TRIVIAL}
HASHSHARE = str(Path(sys.executable).with_name("hashshare"))
BOLD, PLAIN = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")


def step(title: str, explanation: str) -> None:
    """Say what comes next, and why."""
    print(f"\n{BOLD}== {title}{PLAIN}\n{explanation}")


def run(*words: object, profile: Path | None = None, code: int = 0, quiet: bool = False) -> str:
    """Run hashshare, show the command and what it says, and return its standard output."""
    shown = " ".join(shlex.quote(str(word)) for word in words)
    if len(shown) > 110:
        shown = shown[:107] + "..."
    who = f"[{profile.name}] " if profile else ""
    print(f"{who}$ hashshare {shown}", flush=True)
    environment = dict(os.environ)
    if profile:
        environment["HASHSHARE_PROFILE"] = str(profile)
    done = subprocess.run(
        [HASHSHARE, *map(str, words)], env=environment, capture_output=True, text=True
    )
    for line in [] if quiet else (done.stdout + done.stderr).splitlines():
        print("    " + (line if len(line) < 150 else line[:147] + "..."))
    if done.returncode != code:
        raise SystemExit(f"demo: that ended with {done.returncode}, not {code}: {done.stderr}")
    return done.stdout


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def installed_sha256() -> list[str]:
    """Return SHA-256 hashes of installed Python files, from the RECORD files beside them."""
    found = set()
    for record in Path(sys.prefix).glob("lib/python*/site-packages/*.dist-info/RECORD"):
        with record.open(newline="") as file:
            for row in csv.reader(file):
                if len(row) > 1 and row[1].startswith("sha256="):
                    text = row[1].removeprefix("sha256=")
                    found.add(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).hex())
    return sorted(found - TRIVIAL_HEX)


def installed_md5() -> list[str]:
    """Return MD5 hashes of files that Debian installed; none on another system."""
    found: set[str] = set()
    for path in Path("/var/lib/dpkg/info").glob("*.md5sums"):
        lines = path.read_text(errors="replace").splitlines()
        found.update(line[:32] for line in lines if re.fullmatch(r"[0-9a-f]{32} .*", line))
    return sorted(found - TRIVIAL_HEX)


def write_csv(path: Path, algorithm: str, hashes: list[str], classification: str) -> Path:
    """Write a member's file."""
    lines = [f"{value},{classification}\n" for value in hashes]
    path.write_text(f"{algorithm},classification\n" + "".join(lines))
    return path


class Server:
    """The server, a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        log = (folder.parent / "server.log").open("a")
        self.process = subprocess.Popen(
            [HASHSHARE, "serve", str(folder), "--json"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"demo: the server did not start, see {folder.parent / 'server.log'}")
        self.urls = json.loads(line)
        print(f"    serving at {self.urls['api_url']}, process {self.process.pid}")

    def stop(self) -> None:
        """Ask the server to stop, and wait."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def wait_for_version(profile: Path, hash_set: str, more_than: int) -> int:
    """Wait until a newer version is published, and return it."""
    for _ in range(200):
        environment = dict(os.environ) | {"HASHSHARE_PROFILE": str(profile)}
        done = subprocess.run(
            [HASHSHARE, "hash-set", "list", "--json"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        for line in done.stdout.splitlines():
            document = json.loads(line)
            if document["hash_set"] == hash_set and document["version"] > more_than:
                return int(document["version"])
        time.sleep(0.1)
    raise SystemExit("demo: nothing was published")


class Tamperer:
    """A man in the middle with the server's own key: it flips a bit in every delta."""

    def __init__(self, coalition: Path, target: str, profile: Path) -> None:
        self.host, _, port = target.removeprefix("https://").rpartition(":")
        self.target_port = int(port)
        self.listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        keys = coalition / "keys"
        self.listening.load_cert_chain(keys / "server-cert.pem", keys / "server.pem")
        self.calling = ssl.create_default_context(cafile=str(keys / "ca-cert.pem"))
        self.calling.load_cert_chain(profile / "keys" / "tls.pem")
        self.tampered = 0

    async def serve(self, port: int) -> asyncio.Server:
        """Listen on ``port``."""
        return await asyncio.start_server(self.relay, "127.0.0.1", port, ssl=self.listening)

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass requests on, and answers back, some of them altered."""
        upstream, outgoing = await asyncio.open_connection(
            self.host, self.target_port, ssl=self.calling
        )
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                outgoing.write(request)
                head = await upstream.readuntil(b"\r\n\r\n")
                body = await self.read_body(head, upstream)
                if b"/deltas/" in request.split(b"\r\n")[0] and len(body) > 200:
                    altered = bytearray(body)
                    altered[len(body) // 2] ^= 1
                    body = bytes(altered)
                    self.tampered += 1
                writer.write(head + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            outgoing.close()

    async def read_body(self, head: bytes, upstream: asyncio.StreamReader) -> bytes:
        """Return the body of an answer, with its chunks as they are."""
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if length:
            return await upstream.readexactly(int(length[1]))
        if b"chunked" not in head.lower():
            return b""
        body = b""
        while True:
            size = await upstream.readline()
            body += size + await upstream.readexactly(int(size, 16) + 2)
            if int(size, 16) == 0:
                return body


async def pull_through_tamperer(coalition: Path, target: str, profile: Path) -> int:
    """Pull through a man in the middle; return how many answers it altered."""
    port = free_port()
    tamperer = Tamperer(coalition, target, profile)
    server = await tamperer.serve(port)
    settings = profile / "profile.toml"
    genuine = settings.read_text()
    settings.write_text(genuine.replace(target, f"https://127.0.0.1:{port}"))
    try:
        await asyncio.to_thread(run, "pull", profile=profile, code=3)
    finally:
        settings.write_text(genuine)
        server.close()
    return tamperer.tampered


def main() -> None:
    """Run the demo."""
    chosen = os.environ.get("HASHSHARE_DEMO_DIR")
    folder = Path(chosen) if chosen else Path(tempfile.mkdtemp(prefix="hashshare-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    server = None
    try:
        server = tell(folder)
    finally:
        if server is not None:
            server.stop()
    print_end(folder, time.monotonic() - begin)


def tell(folder: Path) -> Server:
    """Go through the story; return the server, for the caller to stop."""
    coalition = folder / "coalition"
    admin, (acme, beta, gamma) = (
        coalition / "admin",
        (folder / n for n in ("acme", "beta", "gamma")),
    )
    step("A coalition is made", "Its CA, log key, publisher key, governance key; its first admin.")
    listen, enrol_listen = (f"127.0.0.1:{free_port()}" for _ in range(2))
    name = ("--coalition", "Demo Coalition")
    run("init", coalition, *name, "--listen", listen, "--enrol-listen", enrol_listen)
    step(
        "The server starts", "TLS 1.3 with required client certificates; PostgreSQL comes with it."
    )
    print(f"$ hashshare serve {coalition}")
    server = Server(coalition)
    try:
        share(folder, coalition, server, admin, acme, beta, gamma)
    except BaseException:
        server.stop()
        raise
    return server


def share(
    folder: Path, coalition: Path, server: Server, admin: Path, acme: Path, beta: Path, gamma: Path
) -> None:
    """Enrol members, push, pull, verify, withdraw, and tamper."""
    step(
        "The admin makes a hash set",
        "With a view of all hashes, and one of those that two members vouch for.",
    )
    run(
        "hash-set",
        "create",
        "demo",
        "--algorithms",
        "md5,sha256",
        "--classifications",
        "A1,A2",
        profile=admin,
    )
    run("view", "create", "demo/confirmed", "--quorum", "2", profile=admin)
    step(
        "Three members join",
        "The admin invites; each enrols with one command, which makes its keys locally.",
    )
    for member in (acme, beta, gamma):
        role = "reader" if member is gamma else "contributor"
        out = folder / f"{member.name}.invitation"
        run(
            "member",
            "invite",
            member.name,
            "--role",
            role,
            "--output",
            out,
            profile=admin,
            quiet=True,
        )
        run("enrol", out, profile=member)
    sha256, md5 = installed_sha256(), installed_md5()
    half = len(sha256) // 2
    files = {
        "acme": write_csv(folder / "acme.csv", "sha256", sha256[: half + half // 2], "A1"),
        "beta": write_csv(folder / "beta.csv", "sha256", sha256[half // 2 :], "A2"),
    }
    step(
        "Two members push signed batches",
        f"{len(sha256):,} SHA-256 of installed Python files, half of them known to both.",
    )
    run("push", "demo", files["acme"], profile=acme)
    run("push", "demo", files["beta"], profile=beta)
    if md5:
        print(f"and {len(md5):,} MD5 of files that Debian installed:")
        run("push", "demo", write_csv(folder / "md5.csv", "md5", md5, "A1"), profile=acme)
    print("Running the same push again submits nothing:")
    run("push", "demo", files["beta"], profile=beta)
    step(
        "The third member pulls",
        "Signature, log consistency, inclusion, and each list's Merkle root are verified.",
    )
    time.sleep(1.5)
    run("pull", profile=gamma)
    run("replica", "check", profile=gamma)
    step(
        "One hash is looked up",
        "In the replica, then in one bucket of the server with a proof, then who said what.",
    )
    shared, only_acme = sha256[half], sha256[0]
    run("lookup", "demo/confirmed/sha256", shared, profile=gamma)
    run("lookup", "demo/confirmed/sha256", only_acme, "--remote", profile=gamma, code=1)
    run("provenance", "demo", f"sha256:{shared}", profile=gamma)
    step("A member takes back what was wrong", "The next delta takes it out of every replica.")
    mistakes = write_csv(folder / "mistakes.csv", "sha256", sha256[half : half + 100], "A1")
    version = wait_for_version(gamma, "demo", 0)
    run("withdraw", "demo", mistakes, profile=acme)
    wait_for_version(gamma, "demo", version)
    step(
        "A tampered answer is refused",
        "A man in the middle with the server's own key flips one bit of each delta.",
    )
    before = run("replica", "list", "--json", profile=gamma, quiet=True)
    tampered = asyncio.run(pull_through_tamperer(coalition, server.urls["api_url"], gamma))
    after = run("replica", "list", "--json", profile=gamma, quiet=True)
    if before != after or not tampered:
        raise SystemExit("demo: the replica has changed")
    print(f"    {tampered} answer altered, exit code 3, the replica is as it was")
    print("The genuine delta is taken:")
    run("pull", profile=gamma)
    run("lookup", "demo/confirmed/sha256", shared, profile=gamma, code=1)


def print_end(folder: Path, seconds: float) -> None:
    """Say how to go on by hand."""
    print(f"""
{BOLD}== Done in {seconds:.0f} seconds{PLAIN}
The server is stopped; its data, and the members' profiles, are in {folder}
Go on by hand:
  {HASHSHARE} serve {folder}/coalition
  export HASHSHARE_PROFILE={folder}/gamma
  {HASHSHARE} status
  {HASHSHARE} pull --watch
  {HASHSHARE} export demo/all/sha256 --format txt | head
Remove it all: rm -r {folder}""")


if __name__ == "__main__":
    main()

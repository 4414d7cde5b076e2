"""The command as people and scripts use it: a process, its output, its exit code."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from hashshare.cli.app import COMMANDS, app
from hashshare.cli.output import report
from hashshare.errors import RollbackError, UnavailableError
from tests.support.federation import Federation, run_federation
from tests.support.forking import run_command

ROOT = Path(__file__).parents[2]
HASHSHARE = [sys.executable, "-m", "hashshare"]
LIST = "csam/all/sha256"


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Its standard output, an object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def run(*words: object, profile: Path | None = None, stdin: str | None = None) -> Done:
    """Run the command in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HASHSHARE")}
    if profile is not None:
        environment["HASHSHARE_PROFILE"] = str(profile)
    done = run_command([str(word) for word in words], environment, stdin=stdin or "")
    return Done(done.code, done.out, done.err)


async def sh(*words: object, profile: Path | None = None, stdin: str | None = None) -> Done:
    """Run the command while the server in this process answers."""
    return await asyncio.to_thread(run, *words, profile=profile, stdin=stdin)


def load_all() -> Any:
    """Return the command with everything in it."""
    group: Any = typer.main.get_command(app)
    for module in {module for module, _ in COMMANDS.values()}:
        group.load(module)
    return group


def all_commands(group: Any) -> Iterator[tuple[str, Any]]:
    """Give every command with its words."""
    for name, command in group.commands.items():
        for sub_name, sub in getattr(command, "commands", {"": command}).items():
            yield f"{name} {sub_name}".strip(), sub


HASHSHARE_ITSELF = load_all()
EVERY = dict(all_commands(HASHSHARE_ITSELF))


@pytest.mark.parametrize("command", EVERY.values(), ids=EVERY)
def test_every_command_helps(command: Any) -> None:
    """With an example, exit codes, ``--json``, and a word on each option."""
    epilog = command.epilog or ""
    assert "Example: hashshare " in epilog
    assert "Exit codes: 0 done" in epilog
    assert command.help
    options = {name for parameter in command.params for name in parameter.opts}
    assert "--json" in options
    for parameter in command.params:
        assert getattr(parameter, "help", None), parameter.name


def test_help_says_what_commands_say() -> None:
    """Of all that there are, though it imports none of them; commands stand before groups."""
    listed = {name: text for name, (_, text) in COMMANDS.items()}

    said = {name: one.get_short_help_str(1000) for name, one in HASHSHARE_ITSELF.commands.items()}

    assert said == listed
    is_group = [hasattr(HASHSHARE_ITSELF.commands[name], "commands") for name in COMMANDS]
    assert is_group == sorted(is_group)


def test_the_shell_completes() -> None:
    """Commands, once their completion is installed."""
    environment = {
        **os.environ,
        "_HASHSHARE_COMPLETE": "complete_bash",
        "COMP_WORDS": "hashshare pu",
        "COMP_CWORD": "1",
    }
    command = [str(Path(sys.executable).with_name("hashshare"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["push", "pull"]


@pytest.fixture
async def federation(dsn: str, tmp_path: Path) -> AsyncIterator[Federation]:
    """A coalition whose first admin has done nothing yet."""
    async with run_federation(dsn, tmp_path) as federation:
        yield federation


def hashes(*numbers: int) -> list[str]:
    """Made-up SHA-256."""
    return [f"{n * 0x9E3779B1 % 2**32:08x}" * 8 for n in numbers]


async def _found(admin: Path, acme: Path, beta: Path) -> None:
    """Make a hash set with two views, and let two members join."""
    made = await sh(
        "hash-set", "create", "csam", "--algorithms", "md5,sha256", "--classifications", "A1,A2",
        profile=admin,
    )  # fmt: skip
    assert (made.code, made.out) == (0, "created csam\n")
    assert (await sh("view", "create", "csam/two", "--quorum", "2", profile=admin)).code == 0
    for member, role in ((acme, "contributor"), (beta, "reader")):
        invited = await sh("member", "invite", member.name, "--role", role, "--json", profile=admin)
        (invitation,) = invited.objects
        joined = await sh("enrol", "-", profile=member, stdin=invitation["invitation"])
        assert joined.code == 0, joined.err
        again = await sh("enrol", "-", profile=member, stdin=invitation["invitation"])
        assert again.code == 1


async def _look_up(profile: Path, there: str, absent: str, file: Path) -> None:
    """Look up and export what the replica holds."""
    assert (await sh("lookup", LIST, there, profile=profile)).code == 0
    assert (await sh("lookup", LIST, absent, profile=profile)).code == 1
    several = await sh("lookup", LIST, "-", "--json", profile=profile, stdin=f"{there}\n{absent}\n")
    assert [o["listed"] for o in several.objects] == [True, False]
    remote = await sh("lookup", LIST, absent, "--remote", "--json", profile=profile)
    assert (remote.code, remote.objects[0]["listed"]) == (1, False)
    said = await sh("provenance", "csam", f"sha256:{there}", "--json", profile=profile)
    assert [(o["member"], o["signature"]) for o in said.objects] == [("acme", "verified")]
    exported = await sh("export", LIST, "--format", "txt", profile=profile)
    assert sorted(exported.out.split()) == sorted(hashes(1, 2, 3))
    parquet = await sh("export", LIST, "--format", "parquet", "--output", file,
                       profile=profile)  # fmt: skip
    assert (parquet.code, parquet.out) == (0, f"{LIST}: 3 hashes written to {file}\n")
    assert file.read_bytes()[:4] == b"PAR1"
    over = await sh("export", LIST, "--output", file, profile=profile)
    assert (over.code, over.out) == (1, "")


@pytest.mark.timeout(240)
async def test_the_whole_story(federation: Federation, tmp_path: Path) -> None:
    """From the hash set to the withdrawal, by commands alone."""
    admin, acme, beta = federation.admin.folder, tmp_path / "acme", tmp_path / "beta"
    await _found(admin, acme, beta)
    source = tmp_path / "hashes.csv"
    source.write_text("sha256,classification\n" + "".join(f"{h},A1\n" for h in hashes(1, 2, 3)))
    dry = await sh("push", "csam", source, "--dry-run", "--json", profile=acme)
    assert (dry.code, dry.objects[0]["submitted"]) == (0, False)
    pushed = await sh("push", "csam", source, "--json", profile=acme)
    assert pushed.code == 0, pushed.err
    assert pushed.objects[-1]["new"] == 3
    repeated = await sh("push", "csam", source, profile=acme)
    assert repeated.code == 0
    assert "submit" in repeated.out + repeated.err
    await federation.published(8)

    refused = await sh("push", "csam", source, profile=beta)
    assert refused.code == 1
    assert "may not contribute" in refused.err
    pulled = await sh("pull", "--json", profile=beta)
    assert pulled.code == 0, pulled.err
    assert {o["list"]: o["count"] for o in pulled.objects}[LIST] == 3
    there, absent = hashes(1, 9)
    await _look_up(beta, there, absent, tmp_path / "x.parquet")

    taken = await sh("withdraw", "csam", source, profile=acme)
    assert (taken.code, taken.out) == (0, "3 records: 3 statements taken back\n"), taken.err
    disputed = await sh("dispute", "csam", source, "--reason", "adult", profile=acme)
    assert disputed.out == "3 records, 3 hashes: 0 new, 3 known, 0 yours already\n", disputed.err
    (receipt,) = re.findall(r"receipt: \S+-([0-9a-f]{64})\.receipt$", disputed.err, re.MULTILINE)
    undone = await sh("withdraw", "csam", "--submission", receipt, profile=acme)
    assert undone.out == "3 records: 3 statements taken back\n", undone.err
    checked = await sh("replica", "check", profile=beta)
    assert checked.code == 0
    status = (await sh("status", "--json", profile=beta)).objects[0]
    assert (status["member"], status["status"]) == ("beta", "active")
    assert (await sh("renew", profile=beta)).code == 0
    suspended = await sh("member", "suspend", "beta", "--reason", "test", profile=admin)
    assert suspended.code == 0, suspended.err
    out = await sh("pull", profile=beta)
    assert out.code == 1
    assert "suspended" in out.err


async def test_what_is_wrong_is_said_in_a_line(federation: Federation, tmp_path: Path) -> None:
    """With what to do next, and the right exit code."""
    nobody = await sh("pull", profile=tmp_path / "nobody")
    assert (nobody.code, nobody.out) == (1, "")
    assert nobody.err == "hashshare: error: there is no profile here; enrol first\n"
    assert (await sh("pull", "--wrong")).code == 2
    await federation.create()
    acme = (await federation.join("acme")).folder
    early = await sh("lookup", LIST, hashes(1)[0], profile=acme)
    assert early.code == 1
    assert "pull" in early.err
    broken = tmp_path / "broken.csv"
    broken.write_text("sha256,classification\nnothex,A1\n" + "E3B0,A1\n")
    faults = await sh("push", "csam", broken, profile=acme)
    assert faults.code == 1
    assert "line 2" in faults.err
    assert "Traceback" not in faults.err
    unknown = tmp_path / "unknown.csv"
    unknown.write_text(f"sha256,classification\n{hashes(1)[0]},Z9\n")
    refused = await sh("push", "csam", unknown, profile=acme)
    assert refused.code == 1
    assert "line" in refused.err
    missing = await sh("push", "csam", tmp_path / "missing.csv", profile=acme)
    assert missing.code == 1
    settings = acme / "profile.toml"
    settings.write_text(re.sub(r":\d+\"", ':9"', settings.read_text()))
    assert (await sh("pull", profile=acme)).code == 4


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(folder: Path) -> "subprocess.Popen[str]":
    """Start the server, and wait until it listens."""
    server = subprocess.Popen(
        [*HASHSHARE, "serve", str(folder), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    assert server.stdout is not None
    assert json.loads(server.stdout.readline())["database"] == "embedded"
    return server


@pytest.mark.timeout(240)
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """The server dies by SIGKILL after the receipt; the next one publishes what it took in."""
    folder = tmp_path / "coalition"
    arguments = ["--listen", f"127.0.0.1:{free_port()}", "--enrol-listen"]
    made = run("init", folder, "--coalition", "Test", *arguments, f"127.0.0.1:{free_port()}")
    assert made.code == 0, made.err
    assert run("init", folder, "--coalition", "Test").code == 1
    admin = folder / "admin"
    server = serve(folder)
    try:
        assert run("hash-set", "create", "csam", profile=admin).code == 0
        invited = run("member", "invite", "acme", "--role", "contributor", "--json", profile=admin)
        acme = tmp_path / "acme"
        assert run("enrol", invited.objects[0]["invitation"], profile=acme).code == 0
        source = tmp_path / "hashes.csv"
        source.write_text("sha256,classification\n" + "".join(f"{h},A1\n" for h in hashes(1, 2)))
        pushed = run("push", "csam", source, profile=acme)
        assert pushed.code == 0, pushed.err
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
        _close(server)
    assert run("status", profile=acme).code == 4
    server = serve(folder)
    try:
        count = 0
        while count < 2:
            pulled = run("pull", LIST, "--json", profile=acme)
            assert pulled.code in {0, 1}, pulled.err
            count = pulled.objects[0]["count"] if pulled.code == 0 else 0
        assert run("push", "csam", source, "--json", profile=acme).code == 0
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
        _close(server)


def _close(server: "subprocess.Popen[str]") -> None:
    if server.stdout is not None:
        server.stdout.close()


async def test_a_witness_waits_until_it_is_added(federation: Federation) -> None:
    """It may be started before an admin names it in the trust policy, and cosigns from then on."""
    admin = federation.admin.folder
    key = (await sh("witness", "key", profile=admin)).out.strip()
    process = await asyncio.create_subprocess_exec(
        *HASHSHARE, "witness", "run", "--every", "0.1", "--json",
        env={**os.environ, "HASHSHARE_PROFILE": str(admin)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            assert b"witnessing test.example/log" in await process.stderr.readline()
            await asyncio.sleep(1)
            assert process.returncode is None
            assert (await sh("witness", "add", "admin", key, profile=admin)).code == 0
            cosigned = json.loads(await process.stdout.readline())
        shown = await sh("checkpoint", "--json", profile=admin)
        (checkpoint,) = shown.objects
        assert checkpoint["size"] >= cosigned["size"]
        assert "admin " in checkpoint["note"]
    finally:
        process.terminate()
        await process.wait()


async def test_a_policy_is_previewed_before_it_is_set(
    federation: Federation, tmp_path: Path
) -> None:
    """By three commands; the list keeps its entries until the view is set without --preview."""
    admin, acme, beta = federation.admin.folder, tmp_path / "acme", tmp_path / "beta"
    await _found(admin, acme, beta)
    source = tmp_path / "hashes.csv"
    source.write_text("sha256,classification\n" + "".join(f"{h},A1\n" for h in hashes(1, 2, 3)))
    assert (await sh("push", "csam", source, profile=acme)).code == 0
    changes = tmp_path / "changes.ndjson"
    told = await sh("view", "preview", "csam/all", "--quorum", "2", "--changes", "1", "--json",
                    "--output", changes, profile=admin)  # fmt: skip
    assert told.code == 0, told.err
    assert "nothing was changed" in told.err
    by_kind = {o["kind"]: o for o in told.objects if o.get("list") == LIST}
    assert (by_kind["list"]["before"], by_kind["list"]["leaves"]) == (3, 3)
    assert by_kind["list"]["members"] == {"acme": {"enters": 0, "leaves": 3}}
    assert len([o for o in told.objects if o["kind"] == "change"]) == 1
    assert len(changes.read_text().splitlines()) == 3
    for words in (["view", "delete", "csam/all"], ["view", "set", "csam/all", "--sources", "beta"]):
        previewed = await sh(*words, "--preview", profile=admin)
        assert previewed.code == 0, previewed.err
        assert "acme" in previewed.out
    shown = await sh("view", "list", "csam", "--json", profile=admin)
    assert [(o["view"], o["quorum"]) for o in shown.objects] == [("csam/all", 1), ("csam/two", 2)]
    refused = await sh("view", "preview", "csam/all", "--quorum", "2", profile=beta)
    assert (refused.code, refused.out) == (1, "")
    done = await sh("view", "set", "csam/two", "--dispute-limit", "3", "--json", profile=admin)
    assert done.objects == [{"view": "csam/two", "changed": True}]
    shown = await sh("view", "list", "csam", "--json", profile=admin)
    assert [(o["quorum"], o["dispute_limit"]) for o in shown.objects] == [(1, 1), (2, 3)]
    trusted = ("--weights", "acme=2", "--excluded-classifications", "A2")
    weighed = await sh("view", "preview", "csam/two", *trusted, "--json", profile=admin)
    assert {o["list"]: o["enters"] for o in weighed.objects if o["kind"] == "list"} == {
        "csam/two/md5": 0,
        "csam/two/sha256": 3,
    }
    wrong_weights = ("acme", "acme=1", "acme=1001", "acme=2,acme=3")
    for wrong in (*(["csam/two", "--weights", w] for w in wrong_weights), ["csam"]):
        misspelled = await sh("view", "set", *wrong, profile=admin)
        assert (misspelled.code, "Traceback" in misspelled.err) == (1, False)


async def test_an_auditor_vouches(federation: Federation) -> None:
    """By four commands; who has no key for it is told before hours of work."""
    admin = federation.admin.folder
    told = await sh("audit", "--cosign", profile=admin)
    assert (told.code, "witness key --auditor" in told.err) == (1, True)
    key = (await sh("witness", "key", "--auditor", profile=admin)).out.strip()
    assert key.startswith("admin/audit+")
    wrong = ("witness", "add", "admin/audit", key, "--auditor", "--threshold", "1")
    assert (await sh(*wrong, profile=admin)).code == 2
    added = await sh("witness", "add", "admin/audit", key, "--auditor", profile=admin)
    assert "group auditors any admin/audit" in added.out
    audited = await sh("audit", "--cosign", "--json", profile=admin)
    assert (audited.code, audited.objects[0]["cosigned"]) == (0, True)
    shown = (await sh("checkpoint", "--json", profile=admin)).objects[0]
    (vouched,) = shown["audits"]
    assert (vouched["auditor"], vouched["size"]) == ("admin/audit", audited.objects[0]["size"])
    status = await sh("status", profile=admin)
    assert f"audited {vouched['size']} leaves at {vouched['audited_at']}" in status.out


def test_what_was_not_verified_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """As the documentation names it; other errors are nobody's lie."""
    report(RollbackError("less than before"))
    assert "hashshare: what failed: rollback (docs/problems.md#rollback)" in capsys.readouterr().err
    report(UnavailableError("away"))
    assert "what failed" not in capsys.readouterr().err


@pytest.mark.timeout(240)
async def test_a_dispute_goes_from_case_to_ruling(federation: Federation, tmp_path: Path) -> None:
    """By commands alone: told, confirmed, decided; and all that a member said is taken out."""
    admin, acme, beta = federation.admin.folder, tmp_path / "acme", tmp_path / "beta"
    await _found(admin, acme, beta)
    assert (await sh("member", "set", "beta", "--role", "contributor", profile=admin)).code == 0
    source = tmp_path / "hashes.csv"
    source.write_text("sha256,classification\n" + "".join(f"{h},A1\n" for h in hashes(1, 2, 3)))
    assert (await sh("push", "csam", source, profile=acme)).code == 0
    wrong = tmp_path / "wrong.csv"
    wrong.write_text(f"sha256\n{hashes(1)[0]}\n")
    assert (await sh("dispute", "csam", wrong, "--reason", "adult", profile=beta)).code == 0
    status = await sh("status", "--json", profile=acme)
    assert status.objects[0]["open_cases"] == 1
    assert "hashshare case list" in status.err
    (case,) = (await sh("case", "list", "--json", profile=acme)).objects
    number = case["case"]
    assert (case["member"], case["yours"]) == ("beta", 1)
    shown = await sh("case", "show", number, profile=acme)
    assert hashes(1)[0] in shown.out
    confirmed = await sh("case", "confirm", number, "--comment", "seen", profile=acme)
    assert confirmed.code == 0, confirmed.err
    refused = await sh("case", "close", number, "--keep", "--reason", "mine", profile=acme)
    assert refused.code == 1
    assert "may not rule" in refused.err
    closed = await sh("case", "close", number, "--keep", "--reason", "seen", profile=admin)
    assert closed.code == 0, closed.err
    assert (await sh("case", "list", "--json", profile=acme)).objects == []
    ruled = await sh("rule", "csam", wrong, "--decision", "remove", "--reason", "no", profile=admin)
    assert ruled.code == 0, ruled.err
    words = ["member", "withdraw-all", "acme", "--reason", "key stolen"]
    previewed = await sh(*words, "--preview", "--json", profile=admin)
    leaving = {o["list"]: o["leaves"] for o in previewed.objects if o["kind"] == "list"}
    # The third one a ruling has removed already.
    assert leaving[LIST] == 2
    for undo, changed in ((False, True), (False, False), (True, True)):
        done = await sh(*words, *(["--undo"] if undo else []), "--json", profile=admin)
        assert done.objects[0]["changed"] is changed, done.err
    assert (await sh("member", "withdraw-all", "beta", "--reason", "x", profile=beta)).code == 1
    bound = await sh("hash-set", "set", "csam", "--dispute-bound", "5/2", "--json", profile=admin)
    assert bound.objects[0]["changed"] is True
    set_ = (await sh("hash-set", "show", "csam", "--json", profile=admin)).objects[0]
    assert set_["dispute_bound"] == {"hours": 2, "records": 5}
    assert (await sh("hash-set", "set", "csam", "--dispute-bound", "x", profile=admin)).code == 1

"""A year in the life of a coalition of five: join, push, dispute, retract, renew, suspend, leave.

Everything is what members use. With Debian's faketime the months pass for the server, for
PostgreSQL and for the members alike, so that certificates do expire; without it the year is a day.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp

from scripts.demo import (
    BOLD,
    HASHSHARE,
    PLAIN,
    Server,
    free_port,
    installed_sha256,
    run,
    step,
    wait_for_version,
    write_csv,
)
from tests.support.browser import chromium, missing

FAILED, UNVERIFIED = 1, 3
SET = "hashes"
LISTS = (f"{SET}/all/sha256", f"{SET}/confirmed/sha256")
CONSOLE = (
    "",
    "members",
    "members/acme",
    "hash-sets",
    "submissions",
    "cases",
    "log",
    "trail",
    "report",
)
MEMBERS = {
    "acme": ("ACME Platform", "US", ("contributor", "reader")),
    "beta": ("Beta Social", "US", ("contributor", "reader")),
    "hotline": ("Hotline of Examples", "GB", ("contributor", "reviewer", "reader")),
    "gamma": ("Gamma Cloud", "DE", ("reader",)),
    "watch": ("Watch, auditors", "CH", ("auditor",)),
}


def ask(*words: object, profile: Path) -> list[dict[str, object]]:
    """Return what a command says as JSON, without showing it."""
    done = subprocess.run(
        [HASHSHARE, *map(str, words), "--json"],
        env=os.environ | {"HASHSHARE_PROFILE": str(profile)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


class Clock:
    """What the processes that are started from here take for the time."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._days = 0
        self._moved: dict[str, str] = {}
        found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        self.moves = bool(found)
        if found:
            self._file.write_text("+0d\n")
            # Python's own sleep goes by a clock that faketime then refuses.
            patch = "import select, time\ntime.sleep = lambda s: select.select((), (), (), s)\n"
            (folder / "sitecustomize.py").write_text(patch)
            self._moved = {
                "LD_PRELOAD": str(found[0]),
                "FAKETIME_TIMESTAMP_FILE": str(self._file),
                "FAKETIME_NO_CACHE": "1",
                # Or whoever sleeps would wake up months later.
                "DONT_FAKE_MONOTONIC": "1",
                "NO_FAKE_STAT": "1",
                "PYTHONPATH": str(folder),
            }
            os.environ |= self._moved

    def pass_days(self, days: int) -> None:
        """Let days go by, if there is a clock that can."""
        self._days += days
        if self.moves:
            self._file.write_text(f"+{self._days}d\n")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let processes that are started meanwhile see what time it is."""
        moved = {name: os.environ.pop(name) for name in self._moved}
        try:
            yield
        finally:
            os.environ |= moved

    @property
    def today(self) -> datetime:
        """As the processes see it."""
        return datetime.now(UTC) + timedelta(days=self._days if self.moves else 0)


@dataclass
class Year:
    """The coalition, and how far its year is."""

    folder: Path
    clock: Clock
    hashes: list[str]
    server: Server | None = None
    renewing: list[str] = field(default_factory=lambda: ["acme", "beta", "hotline", "watch"])
    months: int = 0
    rubbish: str = ""
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def coalition(self) -> Path:
        """The operator's folder."""
        return self.folder / "coalition"

    @property
    def admin(self) -> Path:
        """The first admin's profile."""
        return self.coalition / "admin"

    def of(self, member: str) -> Path:
        """A member's profile."""
        return self.folder / member

    def next_month(self, title: str, explanation: str) -> None:
        """Let 31 days go by; the operator restarts the server, as for an upgrade."""
        if self.server is not None:
            self.server.stop()
            self.clock.pass_days(31)
        step(f"{self.clock.today:%B %Y}: {title}", explanation)
        if self.server is not None:
            self.server = Server(self.coalition)
        self.months += 1
        if self.months % 2 == 1 and self.months > 1:
            self.renew_all()

    def file(self, name: str, first: int, last: int, classification: str = "A1") -> Path:
        """A member's file with some of the hashes."""
        path = self.folder / f"{name}.csv"
        return write_csv(path, "sha256", self.hashes[first:last], classification)

    def published(self, work: Callable[[], object]) -> None:
        """Do what must lead to another version, and wait for that."""
        before = self.version()
        work()
        wait_for_version(self.admin, SET, before)

    def version(self) -> int:
        """Of the hash set, now."""
        documents = ask("hash-set", "list", profile=self.admin)
        return max(int(str(d["version"])) for d in documents if d["hash_set"] == SET)

    def join(self, member: str) -> None:
        """Invite a member, and enrol it; again if it is known."""
        title, country, roles = MEMBERS[member]
        words = ["--title", title, "--jurisdiction", country]
        words += [word for role in roles for word in ("--role", role)]
        out = self.folder / f"{member}.invitation"
        if out.exists():
            words, out = [], out.with_suffix(".again")
        invite = ("member", "invite", member, *words, "--output", out)
        run(*invite, profile=self.admin, quiet=True)
        run("enrol", out, profile=self.of(member))

    def renew_all(self) -> None:
        """Let those who think of it renew their certificates, as cron would."""
        print(f"{', '.join(self.renewing)} and the admin renew their certificates")
        for profile in (*map(self.of, self.renewing), self.admin):
            ask("renew", profile=profile)

    def pull_all(self, *members: str) -> None:
        """Let members bring their replicas up to date."""
        for member in members:
            run("pull", *LISTS, profile=self.of(member))


def main() -> None:
    """Live through the year."""
    chosen = os.environ.get("HASHSHARE_DEMO_DIR")
    folder = Path(chosen or mkdtemp(prefix="hashshare-year-"))
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    year = Year(folder, Clock(folder), installed_sha256())
    if not year.clock.moves:
        print("Debian's package faketime is not installed: nothing expires in this year.")
    try:
        for chapter in CHAPTERS:
            chapter(year)
    finally:
        if year.server is not None:
            year.server.stop()
    print(f"\n{BOLD}== Done in {time.monotonic() - begin:.0f} seconds{PLAIN}")
    print(f"The report: {folder}/report.html, {folder}/report.md; all of it is in {folder}")
    print(f"Go on by hand: {HASHSHARE} serve {year.coalition}")


def found_it(year: Year) -> None:
    """The coalition is made, and five join."""
    year.next_month(
        "five found a coalition", "Two platforms, a hotline that reviews, a reader, an auditor."
    )
    listen, enrol_listen = (f"127.0.0.1:{free_port()}" for _ in range(2))
    run(
        *("init", year.coalition, "--coalition", "A Year Together"),
        *("--listen", listen, "--enrol-listen", enrol_listen),
    )
    year.server = Server(year.coalition)
    run(
        "hash-set",
        "create",
        SET,
        "--algorithms",
        "sha256",
        "--classifications",
        "A1,A2,B1,B2",
        profile=year.admin,
    )
    run("view", "create", f"{SET}/confirmed", "--quorum", "2", profile=year.admin)
    for member in MEMBERS:
        year.join(member)


def first_lists(year: Year) -> None:
    """Both platforms push; the reader pulls; who may not, may not."""
    year.next_month("the first lists", "Two platforms push what they know; all pull, verified.")
    year.published(lambda: run("push", SET, year.file("acme", 0, 2000), profile=year.of("acme")))
    year.published(lambda: run("push", SET, year.file("beta", 1000, 3000), profile=year.of("beta")))
    year.pull_all("acme", "beta", "hotline", "gamma")
    ask("notices", profile=year.of("acme"))
    print("A reader may not submit:")
    run("push", SET, year.file("gamma", 0, 10), profile=year.of("gamma"), code=FAILED)


def dispute(year: Year) -> None:
    """A wrong hash leaves every list, and somebody decides."""
    year.next_month("a dispute", "Beta finds that hashes of acme's are not what they should be.")
    if year.clock.moves:
        print("Gamma has forgotten to renew:")
        run("pull", *LISTS, profile=year.of("gamma"), code=UNVERIFIED)
        year.of("gamma").rename(year.folder / "gamma-expired")
        year.join("gamma")
        year.renewing.append("gamma")
    wrong = year.file("wrong", 500, 503)
    year.published(lambda: run("dispute", SET, wrong, "--reason", "adult", profile=year.of("beta")))
    run("pull", *LISTS, profile=year.of("gamma"))
    run("lookup", f"{SET}/all/sha256", year.hashes[500], profile=year.of("gamma"), code=FAILED)
    print("Acme is told, and takes one back; the hotline has looked at the others:")
    run("notices", profile=year.of("acme"))
    run("case", "list", profile=year.of("acme"))
    year.published(
        lambda: run("withdraw", SET, year.file("one", 500, 501), profile=year.of("acme"))
    )
    number = ask("case", "list", profile=year.of("hotline"))[0]["case"]
    print("Only reviewers and admins decide:")
    decision = ("case", "close", number, "--keep", "--reason", "seen by two reviewers")
    run(*decision, profile=year.of("beta"), code=FAILED)
    year.published(lambda: run(*decision, profile=year.of("hotline")))


def retract(year: Year) -> None:
    """Who still holds what was taken out is known."""
    year.next_month("who still holds it", "Members take a retraction by pulling; beta has not.")
    year.pull_all("acme", "gamma")
    run("retraction", "show", SET, f"sha256:{year.hashes[500]}", profile=year.admin)


def renew(year: Year) -> None:
    """Certificates last ninety days; who forgets, needs an invitation."""
    year.next_month(
        "renewal", "Certificates last 90 days, and are renewed without an admin. Gamma forgets."
    )


def scripts(year: Year) -> None:
    """A script gets a certificate of its own; its key is stolen."""
    year.next_month("a script, and a theft", "Acme's crawler may push, and nothing else.")
    out = year.folder / "crawler.invitation"
    run(
        *("certificate", "add", "crawler", "--scope", "push", "--hash-set", SET, "--output", out),
        profile=year.of("acme"),
        quiet=True,
    )
    crawler = year.folder / "crawler"
    run("enrol", out, profile=crawler)
    year.published(lambda: run("push", SET, year.file("crawler", 3000, 3200), profile=crawler))
    run("pull", *LISTS, profile=crawler, code=FAILED)
    print("A month later its machine is stolen, and somebody pushes rubbish with it:")
    year.published(lambda: run("push", SET, year.file("rubbish", 4000, 4100), profile=crawler))
    year.rubbish = str(ask("chain", "show", profile=crawler)[-1]["submission"])
    run("certificate", "list", profile=year.of("acme"))
    run("certificate", "revoke", "crawler", profile=year.of("acme"))
    run("push", SET, year.file("more", 4100, 4200), profile=crawler, code=FAILED)


def cut_off(year: Year) -> None:
    """What a stolen key said counts for nothing; a member is suspended meanwhile."""
    year.next_month("cleaning up", "What the thief submitted is taken out, by one command.")
    act = ("member", "withdraw-all", "acme", "--submission", year.rubbish)
    run(*act, "--reason", "key stolen", "--preview", profile=year.admin)
    year.published(lambda: run(*act, "--reason", "key stolen", profile=year.admin))
    run("member", "suspend", "beta", "--reason", "an open question", profile=year.admin)
    run("pull", *LISTS, profile=year.of("beta"), code=FAILED)
    run("member", "reinstate", "beta", "--reason", "settled", profile=year.admin)


def keys_change(year: Year) -> None:
    """The coalition's own keys are replaced while its members go on."""
    year.next_month("new keys", "The log's key and the governance key are replaced.")
    run("rotate", "governance", profile=year.admin)
    log_key = json.loads(run("rotate", "log-key", year.coalition, "--json"))["log_key"]
    run("trust", "propose", year.coalition, "--log-key", log_key)
    draft = year.coalition / "trust/drafts/targets.json"
    run("trust", "sign", draft, "--key", year.coalition / "keys/trust-targets.pem")
    run("trust", "publish", year.coalition)
    year.pull_all("acme", "gamma")
    run("rotate", "log-key", year.coalition, "--retire")
    year.pull_all("acme", "gamma")


def stricter(year: Year) -> None:
    """A policy is changed, with its effect seen before."""
    year.next_month("a stricter view", "What would leave the lists is seen before it does.")
    words = (f"{SET}/confirmed", "--quorum", "2", "--quorum-of", "jurisdictions")
    run("view", "set", *words, "--preview", profile=year.admin)
    year.published(lambda: run("view", "set", *words, profile=year.admin))
    more = year.file("hotline", 1500, 2500, "B1")
    year.published(lambda: run("push", SET, more, profile=year.of("hotline")))
    year.pull_all("gamma")


def leave(year: Year) -> None:
    """Beta leaves; what it said stays attributable, and counts no more if that is decided."""
    year.next_month("one leaves", "Beta is revoked; its word stays in the log.")
    year.renewing.remove("beta")
    run("member", "revoke", "beta", "--reason", "has left", profile=year.admin)
    run("pull", *LISTS, profile=year.of("beta"), code=FAILED)
    run("provenance", SET, f"sha256:{year.hashes[1200]}", profile=year.of("gamma"))


def account(year: Year) -> None:
    """The auditor replays the year; the admins report on it."""
    year.next_month("the year's report", "Replayed from the first leaf, and told in numbers.")
    run("audit", profile=year.of("watch"))
    run("trail", "--kind", "refusal", profile=year.admin)
    until = f"{year.clock.today + timedelta(days=1):%Y-%m-%d}"
    since = f"{year.begun:%Y-%m-%d}"
    for kind, name in (("markdown", "report.md"), ("html", "report.html"), ("json", "report.json")):
        span = ("--from", since, "--to", until, "--format", kind)
        run("report", *span, "--output", year.folder / name, profile=year.admin)
    print((year.folder / "report.md").read_text())


def pictures(year: Year) -> None:
    """The admin's console, in a real Chromium where there is one, with the year in it."""
    if missing():
        print(f"No pictures of the console: there is no {', '.join(missing())} (scripts/browser).")
        return
    step("The console", "Each page, as a browser shows it to the admin.")
    home, shots = year.folder / "home", year.folder / "console"
    shots.mkdir(exist_ok=True)
    bridge = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("demo_bridge.py"), year.admin],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert bridge.stdout is not None
    url = bridge.stdout.readline().strip()
    try:
        # Chromium does not start with another clock.
        with year.clock.stopped(), chromium(home, url) as driver:
            driver.set_window_size(1200, 1600)
            for page in CONSOLE:
                span = f"?since={year.begun:%Y-%m-%d}" if page == "report" else ""
                driver.get(f"{url}/console/{page}".rstrip("/") + span)
                driver.save_screenshot(str(shots / f"{page.replace('/', '-') or 'overview'}.png"))
    finally:
        bridge.terminate()
        bridge.wait()
    print(f"{len(CONSOLE)} pictures in {shots}")


CHAPTERS = [
    found_it,
    first_lists,
    renew,
    dispute,
    retract,
    scripts,
    cut_off,
    keys_change,
    stricter,
    leave,
    account,
    pictures,
]

if __name__ == "__main__":
    sys.exit(main())

"""A real Chromium, without a window, that shows a member's certificate."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM = shutil.which("chromium")
NEEDED = {
    "chromium": CHROMIUM,
    "chromedriver": shutil.which("chromedriver"),
    "certutil": shutil.which("certutil"),
    "pk12util": shutil.which("pk12util"),
}
ARGUMENTS = (
    "--headless=new",
    # It is root in containers, where its own sandbox does not start; it visits only our server.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def missing() -> list[str]:
    """Return the programs that are not on this machine."""
    return [name for name, path in NEEDED.items() if path is None]


def import_certificate(home: Path, bundle: Path, password: str, authority: Path) -> None:
    """Put a certificate into the store of Chromium, as a person does in its settings."""
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    for command in (
        ("certutil", "-N", "-d", f"sql:{store}", "--empty-password"),
        ("certutil", "-A", "-d", f"sql:{store}", "-n", "ca", "-t", "C,,", "-i", str(authority)),
        ("pk12util", "-i", str(bundle), "-d", f"sql:{store}", "-W", password, "-K", ""),
    ):
        subprocess.run(command, check=True, capture_output=True)


@contextmanager
def chromium(home: Path, url: str) -> Iterator[webdriver.Chrome]:
    """Give a browser that shows the certificate in ``home`` to ``url`` without asking."""
    profile = home / "profile"
    (profile / "Default").mkdir(parents=True)
    rule: dict[str, object] = {f"{url},*": {"setting": {"filters": [{}]}}}
    settings = {"profile": {"content_settings": {"exceptions": {"auto_select_certificate": rule}}}}
    (profile / "Default" / "Preferences").write_text(json.dumps(settings))
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = Service(NEEDED["chromedriver"], env=os.environ | {"HOME": str(home)})
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_page_load_timeout(30)
    try:
        yield driver
    finally:
        driver.quit()


def complaints(driver: webdriver.Chrome) -> list[str]:
    """Return what the browser has to say of the pages since it was last asked."""
    return [str(entry["message"]) for entry in driver.get_log("browser")]  # type: ignore[no-untyped-call]

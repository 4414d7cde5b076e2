"""The console in a real Chromium, with the certificate that browser-cert packs."""

import asyncio
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from hashshare.client import Client
from tests.cli.test_commands import sh
from tests.http.test_console import HOSTILE, PAGES, VALUE, busy
from tests.support.browser import chromium, complaints, import_certificate, missing
from tests.support.federation import Federation

__all__ = ["busy"]

pytestmark = pytest.mark.skipif(
    # Where a browser was installed for these tests, to skip them would be to pass without them.
    bool(missing()) and "HASHSHARE_BROWSER" not in os.environ,
    reason=f"not on this machine: {', '.join(missing())}; see scripts/browser",
)

PHONE, DESK = 360, 1200
WIDER = "return document.documentElement.scrollWidth - window.innerWidth"
UNNAMED = """
    return [...document.querySelectorAll('input:not([type=hidden]), select, textarea')]
        .filter(field => !field.labels.length && !field.ariaLabel).map(field => field.outerHTML)
"""
UNSCOPED = """
    return [...document.querySelectorAll('table')]
        .filter(table => !table.querySelector('th')).map(table => table.outerHTML.slice(0, 200))
"""
BACKGROUND = "return getComputedStyle(document.body).backgroundColor"
Browse = Callable[[webdriver.Chrome, str], None]


async def browse(federation: Federation, folder: Path, work: Browse) -> None:
    """Pack the admin's certificate, import it, and let ``work`` use the browser."""
    bundle, home, authority = folder / "console.p12", folder / "home", folder / "ca.pem"
    made = await sh(*("admin", "browser-cert", "--output", bundle), profile=federation.admin.folder)
    assert made.code == 0, made.err
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
    password = next(
        line.split(maxsplit=1)[1] for line in made.out.splitlines() if line.startswith("password")
    )
    authority.write_text(federation.admin.trust.ca)
    url = federation.admin.api_url

    def open_browser() -> None:
        import_certificate(home, bundle, password, authority)
        with chromium(home, url) as driver:
            work(driver, f"{url}/console")

    await asyncio.to_thread(open_browser)


def looks(driver: webdriver.Chrome) -> Iterator[str]:
    """Go through light and dark, desk and phone; keep pictures where HASHSHARE_SHOTS says."""
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        for width in (DESK, PHONE):
            metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            yield f"{scheme}-{width}"


def keep(driver: webdriver.Chrome, name: str) -> None:
    """Keep a picture, if somebody wants to look."""
    if folder := os.environ.get("HASHSHARE_SHOTS"):
        driver.save_screenshot(str(Path(folder) / f"{name.replace('/', '_')}.png"))


async def test_every_page_is_whole_in_a_browser(busy: Federation, tmp_path: Path) -> None:
    """No error, no violation of the policy, nothing cut off on a phone, every field has a name."""

    def work(driver: webdriver.Chrome, console: str) -> None:
        backgrounds = {}
        for look in looks(driver):
            for page in PAGES:
                driver.get(console + page)
                assert len(driver.find_elements(By.TAG_NAME, "h1")) == 1, page
                assert driver.execute_script(WIDER) <= 0, (page, look)
                assert driver.execute_script(UNNAMED) == [], page
                assert driver.execute_script(UNSCOPED) == [], page
                assert complaints(driver) == [], page
                keep(driver, f"{look}{page or '/overview'}")
            backgrounds[look] = driver.execute_script(BACKGROUND)
        assert backgrounds["light-1200"] != backgrounds["dark-1200"]

    await browse(busy, tmp_path, work)


async def test_a_hash_is_looked_up_by_keyboard(busy: Federation, tmp_path: Path) -> None:
    """From the top of the page, by tabs alone; and hostile names stay text in a real browser."""

    def work(driver: webdriver.Chrome, console: str) -> None:
        driver.get(console + "/hash")
        for _ in range(40):
            ActionChains(driver).send_keys(Keys.TAB).perform()
            if driver.switch_to.active_element.get_attribute("id") == "value":
                break
        else:
            pytest.fail("the field is not reached")
        ActionChains(driver).send_keys(VALUE.hex() + Keys.ENTER).perform()
        # What was found is another page.
        waiting = WebDriverWait(driver, 20, ignored_exceptions=[StaleElementReferenceException])
        waiting.until(lambda d: "acme" in d.find_element(By.TAG_NAME, "main").text)
        assert VALUE.hex() not in driver.current_url
        driver.get(console + "/members")
        assert HOSTILE in driver.find_element(By.TAG_NAME, "main").text
        assert complaints(driver) == []

    await browse(busy, tmp_path, work)


async def test_a_policy_is_proposed_and_a_member_invited(busy: Federation, tmp_path: Path) -> None:
    """On a phone, with what the browser saves signed by the command line; no page complains."""

    def whole(driver: webdriver.Chrome, word: str) -> None:
        waiting = WebDriverWait(driver, 20, ignored_exceptions=[StaleElementReferenceException])
        waiting.until(lambda d: word in d.find_element(By.TAG_NAME, "h1").text)
        keep(driver, f"act-{word}")
        assert driver.execute_script(WIDER) <= 0, word
        assert driver.execute_script(UNNAMED) == [], word
        assert complaints(driver) == [], word

    def work(driver: webdriver.Chrome, console: str) -> None:
        metrics = {"width": PHONE, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        allowed = {"behavior": "allow", "downloadPath": str(tmp_path / "saved")}
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)
        driver.get(console + "/hash-sets")
        driver.find_element(By.LINK_TEXT, "confirmed").click()
        whole(driver, "Policy of csam/confirmed")
        quorum = driver.find_element(By.ID, "quorum")
        quorum.clear()
        quorum.send_keys("1" + Keys.ENTER)
        whole(driver, "Proposal: set view csam/confirmed")
        assert "csam/confirmed/sha256" in driver.find_element(By.TAG_NAME, "main").text
        driver.find_element(By.ID, "reason").send_keys(Keys.ENTER)
        WebDriverWait(driver, 20).until(lambda _: [*(tmp_path / "saved").glob("registry-*.json")])
        driver.get(console + "/members")
        driver.find_element(By.LINK_TEXT, "acme").click()
        whole(driver, "acme")
        driver.find_element(By.ID, "label").send_keys("a phone" + Keys.ENTER)
        whole(driver, "Invitation of acme")
        assert complaints(driver) == []

    await browse(busy, tmp_path, work)
    (saved,) = (tmp_path / "saved").glob("registry-*.json")
    done = await sh("governance", "sign", saved, profile=busy.admin.folder)
    assert done.code == 0, done.err
    async with Client(busy.admin) as admin:
        registry = await admin.admin.registry()
    assert registry.hash_set("csam").views["confirmed"].quorum == 1

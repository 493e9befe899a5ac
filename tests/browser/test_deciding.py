"""What people decide in a browser, through a real intake, into the ledger and back onto the page."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from detections.alerting.standing import alerts_of
from ledger.reader import Ledger
from tests.browser.pages import looking, opened, settled
from tests.dashboards import serving, taking


@pytest.fixture(scope="module")
def place(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo's ledger with its key, to write to."""
    folder = tmp_path_factory.mktemp("deciding")
    shutil.copytree(demo, folder / "ledger")
    shutil.copy(demo.with_name("ledger.key"), folder / "ledger.key")
    return folder


@pytest.fixture(scope="module")
def url(place: Path) -> Iterator[str]:
    with (
        taking(place / "ledger", place) as arguments,
        serving(place / "ledger", *arguments, home=place) as url,
    ):
        yield url


def sealed(ledger: Path, holds: Callable[[Ledger], bool]) -> None:
    """Wait until the ledger holds something."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with Ledger.open(str(ledger), remember=False) as one:
            if holds(one):
                return
        time.sleep(0.2)  # another process seals it
    raise AssertionError("it was not sealed")


def chosen(page: Page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).first.click()
    page.get_by_role("option", name=option, exact=True).click()


def test_a_triage_from_the_queue_to_a_verdict(browser: Browser, url: str, place: Path) -> None:
    ledger = place / "ledger"
    with Ledger.open(str(ledger), remember=False) as one:
        alert = next(one for one in alerts_of(one) if one["rule_id"] == "shared-identity")
    with looking(browser) as page:
        opened(page, f"{url}/alerts", "Alerts")
        opened(page, f"{url}/alert?id={alert['alert_id']}", "Alert")
        chosen(page, "Decide", "resolve")
        chosen(page, "Verdict", "true-positive")
        page.get_by_label("Owner", exact=True).fill("user:ann")
        page.get_by_label("Comment", exact=True).fill("<b>both environments</b> share its key")
        page.get_by_role("button", name="Save for 1 alert(s)").click()
        expect(page.get_by_text("saved, not sealed yet")).to_be_visible()
        sealed(ledger, lambda one: any(step["state"] == "resolved" for step in alerts_of(one)))
        page.reload()
        page.get_by_role("heading", name="Alert", exact=True).wait_for()
        settled(page)
        main = page.get_by_test_id("stMain")
        expect(main).to_contain_text("resolved, verdict: true-positive")
        expect(main).to_contain_text("<b>both environments</b> share its key")
        expect(main).to_contain_text("owner: user:ann")


def test_an_alert_is_grouped_into_a_case_and_taken_along(browser: Browser, url: str, place: Path) -> None:
    ledger = place / "ledger"
    with Ledger.open(str(ledger), remember=False) as one:
        alert = next(one for one in alerts_of(one) if one["rule_id"] == "credential-replay")
    with looking(browser) as page:
        opened(page, f"{url}/alert?id={alert['alert_id']}", "Alert")
        page.get_by_text("Add to a case").click()
        page.wait_for_timeout(500)  # the expander draws its form anew when it opens
        settled(page)
        page.get_by_label("Title of a new case").fill("Stolen session")
        page.get_by_role("button", name="Add to the case").click()
        expect(page.get_by_text("Saved, not sealed yet")).to_be_visible()
        sealed(ledger, lambda one: one.sql("SELECT 1 FROM cases").num_rows > 0)
        with Ledger.open(str(ledger), remember=False) as one:
            (step,) = one.sql("SELECT target FROM cases").to_pylist()
        opened(page, f"{url}/cases?case={step['target'].removeprefix('case:')}", "Cases")
        page.get_by_role("heading", name="Stolen session").wait_for()
        page.get_by_role("button", name="Prepare the evidence package").click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Evidence package (zip)").click()
        assert Path(download.value.path()).read_bytes().startswith(b"PK")


def test_who_looked_at_what_is_sealed(browser: Browser, url: str, place: Path) -> None:
    ledger = place / "ledger"
    with looking(browser) as page:
        opened(page, f"{url}/identities", "Identities")
        for action, resource in (("view", "page:identities"), ("evidence", "page:cases")):
            asked = f"SELECT 1 FROM accesses WHERE action = '{action}' AND resource = '{resource}'"
            sealed(ledger, lambda one, asked=asked: one.sql(asked).num_rows > 0)  # type: ignore[misc]  # bound at once
        opened(page, f"{url}/audit", "Who looked")
        expect(page.get_by_test_id("stMain")).to_contain_text(re.compile(r"people did \d+ things"))


def test_without_its_intake_nothing_is_handed_out_and_a_form_keeps_its_text(
    browser: Browser, place: Path, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("t" * 40)
    with Ledger.open(str(place / "ledger"), remember=False) as one:
        alert = next(one for one in alerts_of(one) if one["state"] == "open")
    arguments = ["--intake", "http://127.0.0.1:9", "--intake-token-file", str(token)]
    with serving(place / "ledger", *arguments, home=tmp_path) as address, looking(browser) as page:
        opened(page, f"{address}/alert?id={alert['alert_id']}", "Alert")
        page.get_by_label("Comment", exact=True).first.fill("kept text")
        page.get_by_role("button", name="Save for 1 alert(s)").click()
        expect(page.get_by_text("the intake does not answer").first).to_be_visible()
        expect(page.get_by_label("Comment", exact=True).first).to_have_value("kept text")

"""Pictures of every page of the dashboard, from the demo's ledger, in docs/pictures/ (`make screenshots`)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from detections.alerting.standing import alerts_of
from ledger.reader import Ledger
from tests.browser.conftest import FLAGS
from tests.browser.pages import looking, opened
from tests.dashboards import made_demo, serving, taking

PICTURES = Path(__file__).with_name("pictures")
WIDTH, HEIGHT = 1_280, 1_000


def pages(ledger: Path) -> dict[str, tuple[str, str]]:
    """By picture: the page's address below the dashboard's, and its title."""
    with Ledger.open(str(ledger), remember=False) as one:
        alert = next(one for one in alerts_of(one) if one["rule_id"] == "undelegated-crossing")
    return {
        "overview": ("", "Overview"),
        "alerts": ("/alerts", "Alerts"),
        "alert": (f"/alert?id={alert['alert_id']}", "Alert"),
        "decisions": ("/decisions?decision=deny", "Decisions"),
        "trace": (f"/trace?trace={alert['trace_id']}", "Trace"),
        "identities": ("/identities", "Identities"),
        "exceptions": ("/exceptions", "Exceptions and access review"),
        "cases": ("/cases", "Cases"),
        "sql": (
            "/sql?statement=SELECT%20reason%2C%20count(*)%20AS%20n%20FROM%20decisions%20GROUP%20BY%201",
            "SQL",
        ),
        "integrity": ("/integrity", "Integrity"),
        "weekly": ("/weekly", "Weekly report"),
        "audit": ("/audit", "Who looked"),
    }


def main() -> None:
    """Make all of them."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as made, sync_playwright() as playwright:
        place = Path(made)
        ledger = made_demo(place)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        with taking(ledger, place) as arguments, serving(ledger, *arguments, home=place) as url:
            for name, (path, title) in pages(ledger).items():
                _picture(browser, f"{url}{path}", title, PICTURES / f"{name}.png", "light")
            _picture(browser, url, "Overview", PICTURES / "overview-dark.png", "dark")
        browser.close()


def _picture(browser: Browser, url: str, title: str, file: Path, scheme: str) -> None:
    with looking(browser, scheme=scheme, width=WIDTH) as page:
        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        opened(page, url, title)
        # What a chart draws and what a badge says come after the script has ended.
        page.wait_for_timeout(3_000)
        opened(page, page.url, title)
        page.wait_for_timeout(2_000)
        page.screenshot(path=file)


if __name__ == "__main__":
    main()

"""Whether everyone can read and reach it: contrast, the keyboard, a phone, a trace of 2,000 hops."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from detections.alerting.standing import alerts_of
from ledger.reader import Ledger
from tests.browser.pages import looking, opened, settled
from tests.dashboards import serving
from tests.making import NOON, make_ledger, row, stretch

CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def url(demo: Path, home: Path) -> Iterator[str]:
    with serving(demo, home=home) as address:
        yield address


@pytest.fixture(scope="module")
def pages(demo: Path) -> dict[str, str]:
    with Ledger.open(str(demo), remember=False) as one:
        alert = next(found for found in alerts_of(one) if found["trace_id"])
    return {
        "/": "Overview", "/alerts": "Alerts", "/decisions": "Decisions", "/identities": "Identities",
        "/exceptions": "Exceptions and access review", "/integrity": "Integrity", "/weekly": "Weekly report",
        "/sql": "SQL", "/search": "Search", f"/alert?id={alert['alert_id']}": "Alert",
        f"/trace?trace={alert['trace_id']}": "Trace",
    }  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_ground(
    browser: Browser, url: str, pages: dict[str, str], scheme: str
) -> None:
    faint: list[str] = []
    with looking(browser, scheme=scheme) as page:
        for path, title in pages.items():
            opened(page, f"{url}{path}", title)
            # What a page lets go of fades away; what a chart says comes after the script has ended.
            page.wait_for_function("!document.querySelector('[data-stale=true]')")
            charts = page.locator("[data-testid=stVegaLiteChart]")
            for nth in range(charts.count()):
                charts.nth(nth).locator("svg, canvas").first.wait_for()
            faint += [f"{path} {one}" for one in page.evaluate(CONTRAST)]
    assert faint == []


def test_the_keyboard_reaches_everything(browser: Browser, url: str) -> None:
    named = (
        "document.activeElement.ariaLabel || document.activeElement.innerText || document.activeElement.id"
    )
    with looking(browser) as page:
        opened(page, f"{url}/alerts", "Alerts")
        page.get_by_role("link", name="Who looked").wait_for()
        page.get_by_role("combobox", name="Group by").wait_for()
        reached: list[str] = []
        outlined = 0
        for _ in range(60):
            page.keyboard.press("Tab")
            reached.append(str(page.evaluate(named)).strip())
            outlined += page.evaluate(
                "(s => s.outlineStyle !== 'none' || s.boxShadow !== 'none' || s.borderColor !== '')"
                "(getComputedStyle(document.activeElement))"
            )
        said = "\n".join(reached)
        for name in ("Search", "Overview", "Decisions", "State", "Severity", "Rule", "Owner", "Group by"):
            assert re.search(rf"\b{name}\b", said), f"{name} is not reached:\n{said}"
        assert outlined == 60
        page.get_by_label("Search", exact=True).first.focus()
        page.keyboard.type(TRACE)
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Search", exact=True).wait_for()


@pytest.mark.parametrize("width", [390, 1_920])
def test_no_page_is_wider_than_its_screen(
    browser: Browser, url: str, pages: dict[str, str], width: int
) -> None:
    wide = []
    with looking(browser, width=width) as page:
        for path, title in pages.items():
            opened(page, f"{url}{path}", title)
            if page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth > innerWidth"):
                wide.append(path)
            assert page.get_by_test_id("stException").count() == 0
    assert wide == []


def test_a_trace_of_two_thousand_hops_is_drawn_and_the_rest_one_click_away(
    browser: Browser, tmp_path: Path
) -> None:
    made = make_ledger(tmp_path)

    def hop(number: int) -> dict[str, Any]:
        parent = {} if number == 0 else {"parent_span_id": f"{number // 2:016x}"}
        return row(
            number, time=NOON - timedelta(milliseconds=2_100 - number), trace_id=TRACE,
            span_id=f"{number + 1:016x}", decision="deny" if number % 7 == 0 else "allow", actor="user:u",
            delegated_actor=f"agent:a{number % 40}", action="ticket:read", resource=f"ticket:{number}",
            **parent,
        )  # fmt: skip

    made.writer().commit([stretch([hop(number) for number in range(2_050)])])
    with serving(made.folder, home=tmp_path) as address, looking(browser) as page:
        opened(page, f"{address}/trace?trace={TRACE}", "Trace")
        main = page.get_by_test_id("stMain")
        expect(main).to_contain_text("2,000 of 2,050 events")
        chart = page.locator("[data-testid=stVegaLiteChart]").first
        chart.locator("svg, canvas").first.wait_for()
        main.get_by_role("button", name="The next events").click()
        settled(page)
        expect(main).to_contain_text("agent:a")
        expect(page).to_have_url(re.compile("skip=2000"))

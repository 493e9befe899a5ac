"""The dashboard in a real browser, over the demo's day and over hostile text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from ledger.reader import Ledger
from tests.browser.pages import looking, opened, settled
from tests.dashboards import serving
from tests.making import Made, make_ledger, row, stretch

EVIL = (
    '<img src=x onerror="document.title=1"><script>document.title=1</script> **bold** '
    "[link](javascript:1) $x$ :red[r]"
)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def url(demo: Path, home: Path) -> Iterator[str]:
    with serving(demo, home=home) as address:
        yield address


@pytest.mark.parametrize(
    ("path", "title", "seen"),
    [
        ("overview", "Overview", "incident(s) open"),
        ("alerts", "Alerts", "high or critical"),
        ("decisions", "Decisions", "without an answer"),
        ("identities", "Identities", "without an owner"),
        ("exceptions", "Exceptions and access review", "grants stand"),
        ("integrity", "Integrity", "Did everything arrive?"),
        ("weekly", "Weekly report", "counted at entry"),
        ("sql", "SQL", "Views:"),
        ("trace", "Trace", "Paste a trace id"),
    ],
)
def test_every_page_answers_its_question(
    browser: Browser, url: str, path: str, title: str, seen: str
) -> None:
    with looking(browser) as page:
        opened(page, f"{url}/{path}" if path != "overview" else url, title)
        expect(page.get_by_test_id("stMain")).to_contain_text(seen)
        assert page.get_by_test_id("stException").count() == 0


def test_from_an_alert_to_its_trace_and_a_proof(browser: Browser, url: str) -> None:
    with looking(browser) as page:
        opened(page, url, "Overview")
        page.get_by_test_id("stMain").get_by_role("link", name=re.compile("A boundary was crossed")).click()
        page.get_by_role("heading", name="Alert", exact=True).wait_for()
        expect(page.get_by_text("proved: 2 event(s)")).to_be_visible()
        with page.expect_download() as download:
            page.get_by_role("button", name="Evidence bundle").click()
        bundle = Path(download.value.path()).read_bytes()
        page.get_by_role("link", name=re.compile("^.*Trace [0-9a-f]{8}")).first.click()
        page.get_by_role("heading", name="Trace", exact=True).wait_for()
        expect(page.get_by_test_id("stMain")).to_contain_text("was denied customer:read")
        page.locator(
            "[data-testid=stVegaLiteChart] svg, [data-testid=stVegaLiteChart] canvas"
        ).first.wait_for()
    assert b"decision-ledger-evidence/1" in bundle


def test_a_permalink_shows_a_second_person_the_same(browser: Browser, url: str) -> None:
    with looking(browser) as page:
        opened(page, f"{url}/decisions", "Decisions")
        page.get_by_test_id("stMain").get_by_text("deny", exact=True).click()
        settled(page)
        expect(page).to_have_url(re.compile("decision=deny"))
        # The address changes before the page is drawn anew; as a text, spaces before it would not count.
        nothing_else = re.compile(", 0 without an answer")
        expect(page.get_by_test_id("stMain").locator("p").first).to_have_text(nothing_else)
        link = page.url
        said = page.get_by_test_id("stMain").locator("p").first.inner_text()
    with looking(browser, scheme="dark", width=1920) as other:
        opened(other, link, "Decisions")
        expect(other.get_by_test_id("stMain").locator("p").first).to_have_text(said)


def test_exact_times_are_part_of_the_address_and_narrow_all_rows(
    browser: Browser, url: str, demo: Path
) -> None:
    with Ledger.open(str(demo), remember=False) as one:
        asked = "SELECT min(time)::VARCHAR AS time FROM decisions WHERE decision = 'deny'"
        (first,) = one.sql(asked).to_pylist()
        counted = "SELECT count(*) AS n FROM events WHERE time < ?::TIMESTAMPTZ"
        (before,) = one.sql(counted, [first["time"]]).to_pylist()
    with looking(browser) as page:
        opened(page, f"{url}/decisions?until={first['time'][:26].replace('+', '%2B')}", "Decisions")
        expect(page.get_by_test_id("stMain")).to_contain_text(f"{before['n']:,} events: ")
        opened(page, f"{url}/decisions?until=soon", "Decisions")
        expect(page.get_by_test_id("stMain")).to_contain_text("soon is no time")


def test_a_brush_over_the_picture_narrows_the_time(browser: Browser, url: str) -> None:
    with looking(browser) as page:
        opened(page, f"{url}/decisions", "Decisions")
        chart = page.locator("[data-testid=stVegaLiteChart]").first
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        assert box is not None
        middle = box["y"] + box["height"] * 0.6
        page.mouse.move(box["x"] + box["width"] * 0.4, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=8)
        page.mouse.up()
        expect(page).to_have_url(re.compile("from=20.*until=20|until=20.*from=20"))


def test_search_lands_on_what_was_pasted(browser: Browser, url: str, demo: Path) -> None:
    with Ledger.open(str(demo), remember=False) as opened_ledger:
        (one,) = opened_ledger.sql(
            "SELECT trace_id, session_id FROM decisions WHERE decision = 'deny' LIMIT 1"
        ).to_pylist()
    with looking(browser) as page:
        opened(page, url, "Overview")
        for text, heading in ((one["trace_id"], "Trace"), ("agent:production/report-writer", "Decisions")):
            page.get_by_label("Search", exact=True).first.fill(text)
            page.get_by_test_id("stSidebar").get_by_role("button", name="Search").click()
            page.get_by_role("heading", name=heading, exact=True).wait_for()
            settled(page)
        page.get_by_label("Search", exact=True).first.fill("nothing-of-this-name")
        page.get_by_test_id("stSidebar").get_by_role("button", name="Search").click()
        expect(page.get_by_test_id("stMain")).to_contain_text("Nothing is called")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Made:
    made = make_ledger(tmp_path_factory.mktemp("hostile"))
    rows = [
        row(k, decision="deny", actor=f"user:{EVIL}", delegated_actor=f"agent:{EVIL}", action=EVIL,
            resource=EVIL, reason=EVIL, tenant=EVIL, environment=EVIL, source=EVIL, trace_id=TRACE,
            credential_id=EVIL)
        for k in range(3)
    ]  # fmt: skip
    made.writer().commit([stretch(rows)])
    return made


def test_hostile_text_is_text_on_every_page(browser: Browser, hostile: Made, home: Path) -> None:
    with serving(hostile.folder, home=home) as address, looking(browser) as page:
        for path, title in (
            ("", "Overview"), ("/decisions?range=all", "Decisions"), (f"/trace?trace={TRACE}", "Trace"),
            ("/identities", "Identities"), ("/weekly?week=2026-W48", "Weekly report"),
            ("/integrity", "Integrity"),
            ("/search?q=%3Cimg&parts=true&stay=1", "Search"),
        ):  # fmt: skip
            opened(page, f"{address}{path}", title)
            main = page.get_by_test_id("stMain")
            assert main.locator("img[src=x]").count() == 0
            assert main.locator("strong", has_text="bold").count() == 0
            assert main.locator("a[href^=javascript]").count() == 0
            assert page.title() != "1"
            assert page.get_by_test_id("stException").count() == 0
        opened(page, f"{address}/trace?trace={TRACE}", "Trace")
        expect(page.get_by_test_id("stMain")).to_contain_text("<img src=x")


def test_an_empty_and_a_missing_ledger_say_what_to_do(browser: Browser, tmp_path: Path) -> None:
    empty = make_ledger(tmp_path)
    with serving(empty.folder, home=tmp_path) as address, looking(browser) as page:
        opened(page, address, "Overview")
        expect(page.get_by_test_id("stMain")).to_contain_text("The ledger holds no events yet.")
    with serving(tmp_path / "nowhere", home=tmp_path) as address, looking(browser) as page:
        opened(page, f"{address}/alerts", "Alerts")
        expect(page.get_by_test_id("stMain")).to_contain_text("decision-ledger init")


def test_a_damaged_ledger_stays_readable_and_says_so_everywhere(browser: Browser, tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    made.writer().commit([stretch([row(k) for k in range(5)])])
    made.writer().commit([stretch([row(9)], 5)])
    for path in sorted(made.folder.rglob("*.parquet"))[1:]:
        path.unlink()
    with serving(made.folder, home=tmp_path) as address, looking(browser) as page:
        opened(page, f"{address}/integrity", "Integrity")
        expect(page.get_by_test_id("stSidebar")).to_contain_text("damaged")
        page.goto(f"{address}/sql")
        expect(page.get_by_test_id("stMain")).to_contain_text("The ledger is damaged")

"""Signing in with the reference issuer, in a real browser: roles, tenants, refusals, and the end of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from ledger.reader import Ledger
from tests.browser.pages import looking, opened, settled
from tests.dashboards import serving, taking
from tests.making import Made, make_ledger, row, stretch
from tests.services import identity_stack, run

FILE = """
[auth]
redirect_uri = "http://localhost:{{port}}/oauth2callback"
cookie_secret = "{cookie}"
client_id = "dashboard"
client_secret = "{secret}"
server_metadata_url = "{authority}/.well-known/openid-configuration"
client_kwargs = {{ scope = "openid profile", code_challenge_method = "S256" }}
[access]
roles_claim = "roles"
tenants_claim = "tenant"
[access.roles]
member = "analyst"
operator = "platform"
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    made = make_ledger(tmp_path_factory.mktemp("signed"))
    rows = [
        row(0, tenant="acme", decision="deny", actor="user:a", resource="ticket:ours"),
        row(1, tenant="borealis", decision="deny", actor="user:b", resource="ticket:theirs"),
    ]
    made.writer().commit([stretch(rows)])
    return made


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("company") / "company"
    run("issuer", "init", folder)
    return folder, json.loads((folder / "passwords.json").read_text())


@pytest.fixture(scope="module")
def url(made: Made, company: tuple[Path, dict[str, str]]) -> Iterator[str]:
    folder, passwords = company
    home = made.folder.parent
    file = home / "sign-in.toml"
    with (
        identity_stack(folder, f"file:{home / 'identity.jsonl'}") as services,
        taking(made.folder, home) as more,
    ):
        said = FILE.format(cookie="c" * 64, secret=passwords["dashboard"], authority=services["authority"])
        file.write_text(said)
        file.chmod(0o600)
        with serving(made.folder, *more, "--sign-in", str(file), home=home) as address:
            yield address.replace("127.0.0.1", "localhost")


def signed_in(page: Page, url: str, passwords: dict[str, str], user: str) -> None:
    page.goto(url)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label(re.compile("user|name", re.IGNORECASE)).first.fill(user)
    page.get_by_label(re.compile("password", re.IGNORECASE)).fill(passwords[user])
    page.get_by_role("button").click()
    page.get_by_test_id("stSidebar").get_by_text(re.compile("^Reading as")).wait_for()
    settled(page)


def test_a_member_sees_the_rows_of_their_tenant_alone(
    browser: Browser, url: str, company: tuple[Path, dict[str, str]], made: Made
) -> None:
    with looking(browser) as page:
        signed_in(page, url, company[1], "user:alice")
        expect(page.get_by_test_id("stSidebar")).to_contain_text("analyst of acme")
        opened(page, f"{url}/sql?statement=SELECT%20*%20FROM%20decisions", "SQL")
        expect(page.get_by_test_id("stMain")).to_contain_text("1 of 1 rows")
        opened(page, f"{url}/search?q=ticket:theirs", "Search")
        expect(page.get_by_test_id("stMain")).to_contain_text("Nothing is called")
        # A role that does not include a page is refused there, whatever the address says.
        page.goto(f"{url}/audit")
        expect(page.get_by_test_id("stMain")).to_contain_text("Your role (analyst) does not include")
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("button", name="Sign in").wait_for()
    with Ledger.open(str(made.folder), remember=False) as one:
        users = one.sql("SELECT DISTINCT actor FROM accesses").column(0).to_pylist()
    assert all(user.endswith("#user:alice") for user in users)


def test_a_platform_engineer_sees_integrity_and_no_rows(
    browser: Browser, url: str, company: tuple[Path, dict[str, str]]
) -> None:
    with looking(browser) as page:
        signed_in(page, url, company[1], "user:dan")
        opened(page, f"{url}/integrity", "Integrity")
        expect(page.get_by_test_id("stMain")).to_contain_text("Did everything arrive?")
        page.goto(f"{url}/decisions")
        expect(page.get_by_test_id("stMain")).to_contain_text("Your role (platform) does not include rows")


def test_nobody_gets_past_the_door(browser: Browser, url: str) -> None:
    with looking(browser) as page:
        for path in ("decisions", "alerts", "event?of=test/pdp&id=e0", "audit"):
            page.goto(f"{url}/{path}")
            page.get_by_role("button", name="Sign in").wait_for()
            assert "ticket:ours" not in page.content()


def test_an_ended_sign_in_is_ended_in_every_tab(
    browser: Browser, url: str, company: tuple[Path, dict[str, str]]
) -> None:
    with looking(browser) as page:
        signed_in(page, url, company[1], "user:alice")
        kept = page.context.cookies()
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("button", name="Sign in").wait_for()
        # Whoever kept the cookie has nothing.
        page.context.add_cookies(kept)  # type: ignore[arg-type]  # as they came
        page.goto(f"{url}/decisions")
        page.get_by_text("This sign-in was ended").wait_for()

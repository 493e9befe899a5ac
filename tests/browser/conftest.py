"""A real browser: the system's Chromium, else the one that playwright brought; else a skip that says so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, expect, sync_playwright

from tests.dashboards import made_demo

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

# What a person would wait for on a machine that is busy; nothing here measures speed.
expect.set_options(timeout=60_000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, headless."""
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        try:
            one = playwright.chromium.launch(executable_path=path, args=FLAGS)
        except Error as error:
            if os.environ.get("DECISION_LEDGER_REQUIRE_BROWSER"):
                raise
            pytest.skip(f"no Chromium: `make ci-deps` installs it on Debian ({str(error).splitlines()[0]})")
        yield one
        one.close()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the dashboard's user keeps pins and cache."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's ledger: a day with three incidents, looked at by the rules."""
    return made_demo(tmp_path_factory.mktemp("demo"))

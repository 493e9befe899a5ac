"""Looking at pages: waits for what a person sees, and notes every request that leaves the machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page

SECONDS = 60_000
IDLE = "[data-testid=stApp][data-test-script-state=notRunning]"


@contextmanager
def looking(browser: Browser, *, scheme: str = "light", width: int = 1280) -> Iterator[Page]:
    """A page of a new person; afterwards nothing may have been asked of another machine."""
    context = browser.new_context(viewport={"width": width, "height": 1_000}, color_scheme=scheme)  # type: ignore[arg-type]  # a word of two
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    outside: list[str] = []
    page.on("request", lambda request: _note(outside, request.url))
    try:
        yield page
    finally:
        context.close()
    assert outside == []


def settled(page: Page) -> None:
    """Wait until the page has stopped working."""
    page.wait_for_selector(IDLE)
    # A kind of element whose code the browser still fetches stands as a grey bar until then.
    page.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')")


def opened(page: Page, url: str, title: str) -> None:
    """Open a page and wait until it is drawn."""
    page.goto(url)
    page.get_by_role("heading", name=title, exact=True).wait_for()
    settled(page)


def _note(outside: list[str], url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("data", "blob") and parts.hostname not in ("127.0.0.1", "localhost"):
        outside.append(url)

"""The system's Chromium, and pages in it that note everything they say and ask for."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NAMES: Final = (
    # Chromium without windows of its own: a test's page costs a quarter of the CPU time.
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)
LIMIT_MS: Final = 15_000
"""How long anything on a page may take on a busy machine."""
_DRAWN: Final = "new Promise(drawn => requestAnimationFrame(() => setTimeout(drawn)))"
_CALM: Final = 6
"""So many looks in a row find nothing on its way to a page that has all: one answer may lead to another request."""


def find_chromium() -> str | None:
    """Return the path of Chromium: the one that is named, the system's, or Playwright's own; None without any."""
    if named := os.environ.get("LEGATO_CHROMIUM"):
        return named
    if found := next((path for name in NAMES if (path := shutil.which(name))), None):
        return found
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    # …/chromium-<revision>/<platform>/chrome; its shell without windows stands beside it.
    revision = own.parent.parent.name.removeprefix("chromium-")
    beside = own.parent.parent.parent / f"chromium_headless_shell-{revision}"
    shells = [*beside.glob("*/chrome-headless-shell"), *beside.glob("*/headless_shell")]
    return next((str(path) for path in (*shells, own) if path.is_file()), None)


def chromium_path() -> str:
    """Return the path of Chromium; a test that needs one fails where there is none."""
    found = find_chromium()
    if found is None:
        pytest.fail("no Chromium is found: run `python -m tests.e2e.install_browser`, or name one in LEGATO_CHROMIUM")
    return found


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start Chromium; it ends with the context."""
    path = chromium_path()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def wait_until(page: Page, holds: Callable[[], object], what: str) -> None:
    """Wait for what no locator sees; what happens on the page is heard meanwhile.

    Raises:
        AssertionError: It did not come.
    """
    until = time.monotonic() + LIMIT_MS / 1000
    while not holds():
        assert time.monotonic() < until, what
        page.wait_for_timeout(50)


@dataclass
class Watched:
    """What pages said and asked for.

    Attributes:
        console: Errors and warnings of the console, and exceptions that nobody caught.
        foreign: Addresses of other hosts than the servers'.
        allowed: Parts of console messages that a test brings about itself.
        open: Requests that have not ended.
    """

    origins: tuple[str, ...]
    console: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)
    open: list[Request] = field(default_factory=list)

    def watch(self, context: BrowserContext) -> None:
        context.on("request", lambda request: self._asked(request.url))
        context.on("request", lambda request: self.open.append(request))
        for end in ("requestfinished", "requestfailed"):
            context.on(end, lambda request: self.open.remove(request) if request in self.open else None)
        context.on("page", self._page)

    def assert_clean(self) -> None:
        assert not self.foreign, self.foreign
        said = [each for each in self.console if not any(part in each for part in self.allowed)]
        assert not said, said

    def _page(self, page: Page) -> None:
        page.on("console", lambda message: self._said(message.type, message.text))
        page.on("pageerror", lambda error: self.console.append(f"exception: {error}"))

    def _said(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.console.append(f"{kind}: {text}")

    def _asked(self, url: str) -> None:
        if not url.startswith((*self.origins, "data:", "blob:")):
            self.foreign.append(url)


class Visits:
    """Opens pages of servers, each in a context of its own, and looks after all of them."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._watched: list[Watched] = []

    def open(self, *origins: str, path: str = "/", width: int = 1280, height: int = 860, **options: Any) -> Page:
        """Return a page of the first origin; the others may be asked too."""
        options.setdefault("locale", "en-US")
        context = self._browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(LIMIT_MS)
        watched = Watched(origins)
        watched.watch(context)
        self._contexts.append(context)
        self._watched.append(watched)
        page = context.new_page()
        page.goto(f"{origins[0]}{path}")
        return page

    def watched(self, page: Page) -> Watched:
        return self._watched[self._contexts.index(page.context)]

    def allow(self, page: Page, *parts: str) -> None:
        """Say which messages of the console a test brings about itself."""
        self.watched(page).allowed.extend(parts)

    def wait_calm(self, page: Page) -> None:
        """Wait until nothing is on its way to a page, a reply that is being made aside."""
        watched = self.watched(page)
        looks = 0

        def is_calm() -> bool:
            nonlocal looks
            page.evaluate(_DRAWN)
            looks = 0 if any("/chat/stream" not in request.url for request in watched.open) else looks + 1
            return looks == _CALM

        wait_until(page, is_calm, f"still on its way: {watched.open}")

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        for watched in self._watched:
            watched.assert_clean()

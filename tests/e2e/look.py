"""Keeps a picture of a screen, and holds it to the rules of WCAG A and AA."""

from __future__ import annotations

from typing import Any, Final

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page

from tests.e2e.conftest import SHOTS

SIZES: Final[dict[str, dict[str, Any]]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "narrow": {"color_scheme": "light", "width": 390, "height": 844},
}
RULES: Final = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
    # Of rules that are kept nothing is told: their every element would be, which takes longer than to judge it.
    "resultTypes": ["violations"],
}
_SETTLED: Final = (
    "Promise.all(document.getAnimations().filter(each => each.effect.getTiming().iterations !== Infinity)"
    ".map(each => each.finished.catch(() => 0)))"
)


def inspect(page: Page, name: str) -> None:
    """Keep a picture, and assert that nothing is wider than the page and no rule is broken."""
    SHOTS.mkdir(exist_ok=True)
    # What rises or fades in has arrived.
    page.evaluate(_SETTLED)
    page.screenshot(path=SHOTS / f"{name}.png")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than its page"
    found = Axe().run(page, options=RULES).response["violations"]
    broken = [(each["id"], each["nodes"][0]["html"][:200]) for each in found]
    assert not broken, f"{name}: {broken}"

"""Keeps a picture of a screen, and holds it to the rules of WCAG A and AA."""

from __future__ import annotations

from typing import Final, Literal

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, ViewportSize

from tests.e2e.conftest import SHOTS

Scheme = Literal["light", "dark"]
SIZES: Final[dict[str, ViewportSize]] = {
    "wide": {"width": 1280, "height": 860},
    "narrow": {"width": 390, "height": 844},
}
LOOKS: Final[dict[str, dict[str, Scheme]]] = {"wide": {"light": "light", "dark": "dark"}, "narrow": {"narrow": "light"}}
"""In which colours a size is looked at, by the names of the pictures."""
RULES: Final = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
    # Of rules that are kept nothing is told: their every element would be, which takes longer than to judge it.
    "resultTypes": ["violations"],
}
_DRAWN: Final = "new Promise(drawn => requestAnimationFrame(() => setTimeout(drawn)))"
_SETTLED: Final = """async () => {
  const moving = () => document.getAnimations()
    .filter((each) => each.playState === "running" && each.effect.getTiming().iterations !== Infinity);
  // The end of one may begin another: what takes its colour from what changes it slowly.
  for (let found = moving(); found.length; found = moving())
    await Promise.all(found.map((each) => each.finished.catch(() => 0)));
}"""


def inspect_sizes(page: Page, name: str) -> None:
    """As `inspect`, on a screen in light and dark, and on a phone."""
    for size in SIZES:
        page.set_viewport_size(SIZES[size])
        inspect_colours(page, name, size)


def inspect_colours(page: Page, name: str, size: str) -> None:
    """As `inspect`, in all colours that a page of this size is looked at in."""
    for look, scheme in LOOKS[size].items():
        page.emulate_media(color_scheme=scheme)
        inspect(page, f"{name}-{look}")
    page.emulate_media(color_scheme="light")


def inspect(page: Page, name: str) -> None:
    """Keep a picture, and assert that nothing is wider than the page and no rule is broken."""
    SHOTS.mkdir(exist_ok=True)
    # What another size or scheme brings about is drawn, and what rises or fades in has arrived.
    page.evaluate(_DRAWN)
    for frame in page.frames:
        frame.evaluate(_SETTLED)
    page.screenshot(path=SHOTS / f"{name}.png")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than its page"
    found = Axe().run(page, options=RULES).response["violations"]
    broken = [(each["id"], each["nodes"][0]["html"][:200]) for each in found]
    assert not broken, f"{name}: {broken}"

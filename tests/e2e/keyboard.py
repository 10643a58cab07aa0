"""What a person without a mouse does: keys, and where the focus is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from playwright.sync_api import Page

MOST_TABS: Final = 90
"""So many stops a page of these tests has at most."""
_LABEL: Final = """() => {
  const at = document.activeElement;
  if (!at || at === document.body) return null;
  return at.getAttribute("aria-label") ?? at.labels?.[0]?.textContent ?? at.textContent.trim();
}"""


def focused(page: Page) -> str | None:
    """Return the name of what has the focus, None where nothing has."""
    found = page.evaluate(_LABEL)
    return None if found is None else str(found)


def tab_to(page: Page, name: str, *, back: bool = False) -> None:
    """Press Tab until what has this name has the focus.

    Raises:
        AssertionError: Within MOST_TABS it never had.
    """
    seen = []
    for _ in range(MOST_TABS):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        seen.append(focused(page))
        if seen[-1] == name:
            return
    raise AssertionError(f"no Tab leads to {name!r}; seen: {seen}")


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def expect_focus(page: Page, name: str) -> None:
    """Wait until what has this name has the focus."""
    try:
        page.wait_for_function(f"name => ({_LABEL})() === name", arg=name)
    except Exception as error:
        raise AssertionError(f"the focus is on {focused(page)!r}, not on {name!r}") from error


def expect_later_focus(page: Page, name: str) -> Callable[[], None]:
    """Watch from now on; what is returned waits until something of this name has had the focus, be it for a moment."""
    page.evaluate(
        f"""name => {{
          window.hadFocus = false;
          const look = () => {{
            if (({_LABEL})() === name) window.hadFocus = true;
            else requestAnimationFrame(look);
          }};
          look();
        }}""",
        name,
    )

    def wait() -> None:
        try:
            page.wait_for_function("() => window.hadFocus")
        except Exception as error:
            raise AssertionError(f"the focus is on {focused(page)!r}, and was never on {name!r}") from error

    return wait

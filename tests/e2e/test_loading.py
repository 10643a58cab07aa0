"""What is loaded when: little before the page is there, and the large rest when something needs it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from playwright.sync_api import CDPSession, Page, expect

from tests.e2e.browser import Visits
from tests.e2e.chat import Chat, import_conversation
from tests.e2e.test_markdown import DIAGRAM
from tests.server import ServerProcess

MOST_INITIAL_KB = 370
HEAVY = re.compile(r"diagram|mermaid|katex|math-|highlighter|admin_page|widget_page|cytoscape", re.IGNORECASE)


class Arrivals:
    """What came over the network to a page, in bytes as they were sent.

    Attributes:
        packed: By path, of scripts alone: whether it came packed.
        sizes: By path, bytes of body and headers.
    """

    def __init__(self, page: Page) -> None:
        self.sizes: dict[str, float] = {}
        self.packed: dict[str, bool] = {}
        self._scripts: dict[str, str] = {}
        session: CDPSession = page.context.new_cdp_session(page)
        session.on("Network.responseReceived", self._received)
        session.on("Network.loadingFinished", self._finished)
        session.send("Network.enable")
        session.send("Network.setCacheDisabled", {"cacheDisabled": True})

    def heavy(self) -> list[str]:
        return [path for path in self.sizes if HEAVY.search(path)]

    def _received(self, event: dict[str, object]) -> None:
        response = event["response"]
        assert isinstance(response, dict)
        path = urlsplit(str(response["url"])).path
        if path.endswith(".js"):
            self._scripts[str(event["requestId"])] = path
            headers = {name.lower(): value for name, value in response["headers"].items()}
            self.packed[path] = headers.get("content-encoding") == "gzip"

    def _finished(self, event: dict[str, object]) -> None:
        if path := self._scripts.get(str(event["requestId"])):
            size = event["encodedDataLength"]
            assert isinstance(size, (int, float))
            self.sizes[path] = size


def open_watched(visits: Visits, server: ServerProcess) -> tuple[Chat, Arrivals]:
    chat = Chat(visits.open(server.address), server)
    arrivals = Arrivals(chat.page)
    chat.page.reload()
    expect(chat.field).to_be_visible()
    visits.wait_calm(chat.page)
    return chat, arrivals


def test_little_script_comes_over_the_network(visits: Visits, served: ServerProcess) -> None:
    """All scripts of an open, idle page together, as they were sent; each is packed."""
    _, arrivals = open_watched(visits, served)
    size = sum(arrivals.sizes.values())
    print(f"\ninitial JavaScript over the network: {size / 1000:.0f} kB in {len(arrivals.sizes)} files")
    assert len(arrivals.sizes) >= 3
    assert size <= MOST_INITIAL_KB * 1000
    assert all(arrivals.packed[path] or size < 2_000 for path, size in arrivals.sizes.items()), arrivals.sizes
    assert arrivals.heavy() == []


def test_mermaid_comes_with_the_first_diagram(visits: Visits, served: ServerProcess) -> None:
    """Nothing of it is asked for by text and by the beginning of a diagram; one that is whole brings it, once."""
    chat, arrivals = open_watched(visits, served)
    before = len(arrivals.sizes)
    chat.say("script: seed=46 tokens=20")
    plain = import_conversation(served, "No diagram", ("Write.", "Plain **text** about mermaid and `code`."))
    chat.page.goto(f"{served.address}/c/{plain}")
    expect(chat.reply).to_contain_text("Plain text about mermaid")
    visits.wait_calm(chat.page)
    assert arrivals.heavy() == []
    drawn = import_conversation(served, "Two diagrams", ("Draw.", DIAGRAM + "\n" + DIAGRAM))
    with chat.page.expect_request("**/assets/diagram.html*"):
        chat.page.goto(f"{served.address}/c/{drawn}")
    expect(chat.reply.locator("[data-diagram] img")).to_have_count(2)
    assert any(re.search(r"/diagram-[\w-]+\.js$", path) for path in arrivals.sizes)
    assert len(arrivals.sizes) > before
    assert len([frame for frame in chat.page.frames if "diagram.html" in frame.url]) == 1

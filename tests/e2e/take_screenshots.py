"""`python -m tests.e2e.take_screenshots`: takes the pictures of the README anew, from a real server.

They are WebP, and small: both together have less than 200 kB.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path
from typing import Final

from playwright.sync_api import Page, expect

from tests.e2e.browser import Visits, open_browser
from tests.e2e.chat import Chat, import_conversation
from tests.server import ServerProcess

FOLDER: Final = Path(__file__).parents[2] / "docs" / "images"
MOST_BYTES: Final = 200_000
TITLES: Final = ("Sourdough, second try", "Names for a ferry", "Letter to the landlord", "Trains to Trieste")
QUESTION: Final = "How long should a client wait before it reconnects?"
ANSWER: Final = r"""Wait longer after each failed try, and add chance, so that a thousand
clients do not come back at once:

$$
t_n = \text{jitter} \cdot \min\left(30,\ \tfrac{1}{2} \cdot 2^{\,n}\right), \qquad 0 \le \text{jitter} < 1
$$

```python
def reconnect_delay(attempt: int, *, jitter: float) -> float:
    "Seconds before try number `attempt`, in [0, 30)."
    return jitter * min(30.0, 0.5 * 2.0**attempt)
```

| Try | Longest wait |
| ---: | ---: |
| 1 | 1 s |
| 4 | 8 s |
| 6 and later | 30 s |

Go on from the **cursor** of the last event that you have seen: then nothing is missing, and nothing comes twice.
"""
TOOLS: Final = '''\
from legato import Legato

app = Legato()


@app.tool
async def find_train(to: str) -> list[dict[str, str]]:
    """Find a train.

    Args:
        to: Where it goes.
    """
    return [
        {"title": "Timetable, winter", "locator": "page 112", "quote": "Trieste C.le 17:48"},
        {"title": "Seat reservations", "url": "https://example.com/seats", "quote": "Needed on night trains."},
    ]


@app.tool(needs_approval=True)
async def book_seat(train: str, places: int) -> str:
    """Book seats.

    Args:
        train: Which train.
        places: How many.
    """
    return f"booked {places} on {train}"
'''


def main() -> int:
    """Take the pictures; return 1 where they are too large."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        (Path(folder) / "bot.py").write_text(TOOLS)
        command = ("-m", "legato", "serve", "bot.py")
        server = ServerProcess(Path(folder), {"rate_limit": "off"}, command=command).start()
        visits = Visits(browser)
        try:
            _conversation(visits, server)
            _approval(visits, server)
        finally:
            visits.close()
            server.kill()
    size = sum(path.stat().st_size for path in FOLDER.glob("*.webp"))
    print(f"{FOLDER}: {size / 1000:.0f} kB")
    return 0 if size < MOST_BYTES else 1


def _conversation(visits: Visits, server: ServerProcess) -> None:
    for title in reversed(TITLES):
        import_conversation(server, title, ("Hello", "Hello."))
    identifier = import_conversation(server, "Waiting to reconnect", (QUESTION, ANSWER))
    page = visits.open(server.address, path=f"/c/{identifier}", height=900)
    expect(page.locator("pre code span[style*=color]").first).to_be_visible()
    expect(page.locator(".katex").first).to_be_visible()
    _take(page, "chat")


def _approval(visits: Visits, server: ServerProcess) -> None:
    page = visits.open(server.address, height=800, color_scheme="dark")
    chat = Chat(page, server)
    chat.send('script: tokens=0 tool=find_train:{"to":"Trieste"} tool=book_seat:{"train":"EN40237","places":2}@2')
    expect(chat.button("Allow")).to_be_visible()
    _take(page, "approval")
    chat.button("Stop").click()


def _take(page: Page, name: str) -> None:
    page.wait_for_timeout(400)
    session = page.context.new_cdp_session(page)
    taken = session.send("Page.captureScreenshot", {"format": "webp", "quality": 80})
    (FOLDER / f"{name}.webp").write_bytes(base64.b64decode(taken["data"]))


if __name__ == "__main__":
    sys.exit(main())

"""A server with tools, one of which asks a person, and with a step that fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.server import ServerProcess

BOT: Final = '''\
from legato import Legato

app = Legato()


@app.tool
async def look_up(word: str) -> list[dict[str, str]]:
    """Look a word up.

    Args:
        word: What to look up.
    """
    return [
        {"title": f"About {word}", "url": "https://example.com/about", "snippet": "It is known."},
        {"title": "The handbook", "locator": "page 7"},
    ]


@app.tool(needs_approval=True)
async def wipe(name: str) -> str:
    """Wipe a disk.

    Args:
        name: Its name.
    """
    return f"wiped {name}"


@app.queue("chat.message.completed", attempts=1)
async def post_to_crm(event) -> None:
    raise ValueError("the CRM is away")
'''


@pytest.fixture(scope="package")
def bot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The server; tests share it."""
    folder = tmp_path_factory.mktemp("bot")
    (folder / "bot.py").write_text(BOT)
    server = ServerProcess(folder, {"rate_limit": "off"}, command=("-m", "legato", "serve", "bot.py")).start()
    yield server
    server.kill()

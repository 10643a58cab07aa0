"""One Chromium and one server for all tests of the page; each test gets a page of its own.

The browser lives as long as this package: its event loop must not be there when tests of other packages begin.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from legato.http.page_files import FOLDER
from tests.conftest import StartServer
from tests.e2e.bot import bot
from tests.e2e.browser import LIMIT_MS, Visits, open_browser
from tests.e2e.chat import Chat
from tests.e2e.shop import locked, publishable, shop
from tests.e2e.upstream import Held, Told, told
from tests.server import ServerProcess

__all__ = ["bot", "locked", "publishable", "shop", "told"]
expect.set_options(timeout=LIMIT_MS)
SHOTS = Path(__file__).parents[2] / "screenshots"
"""Git ignores it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser's tests take minutes together: `make quick` leaves them out."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    if not (FOLDER / "index.html").is_file():
        pytest.fail("the page is not built: run `python hatch_build.py`")
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The server that tests share, with the scripted model and without limits on messages."""
    process = ServerProcess(tmp_path_factory.mktemp("e2e"), {"rate_limit": "off", "heartbeat_s": 1}).start()
    yield process
    process.kill()


@pytest.fixture
def visits(browser: Browser, start_server: StartServer) -> Iterator[Visits]:
    """Opens pages; at the end no page may have complained, or asked another host.

    They are closed before a server of the test's own ends: what a page asks of a dead server is told in its console.
    """
    visits = Visits(browser)
    yield visits
    visits.close()


@pytest.fixture
def chat(visits: Visits, served: ServerProcess) -> Chat:
    """A new chat on the shared server."""
    chat = Chat(visits.open(served.address), served)
    expect(chat.field).to_be_visible()
    return chat


@pytest.fixture
def held(visits: Visits, told: Told) -> Iterator[Held]:
    """A new chat with a model whose replies stand still where a test wants, for as long as it wants."""
    chat = Chat(visits.open(told.server.address), told.server)
    expect(chat.field).to_be_visible()
    yield Held(chat, told.upstream)
    told.upstream.go_on()

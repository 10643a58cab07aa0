"""A server that asks for keys, and a site of another origin with the widget on its page."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.guarded import Guarded, make_keys
from tests.server import ServerProcess

EXAMPLE = Path(__file__).parents[2] / "examples" / "widget.html"


Shop = tuple[str, Path]
"""Its address, and the folder of its pages."""


@pytest.fixture(scope="package")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server that asks for keys, with one of an administrator and one of a member."""
    process = ServerProcess(tmp_path_factory.mktemp("locked"), {"auth": "keys", "rate_limit": "off"})
    keys = make_keys(process.database, {"ann": "admin", "ben": "member"})
    yield Guarded(process.start(), keys)
    process.kill()


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A site of another origin: its address, and the folder of its pages."""
    folder = tmp_path_factory.mktemp("shop")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="package")
def publishable(locked: Guarded, shop: Shop) -> str:
    """A key for the shop's pages."""
    process = locked.process
    command = [sys.executable, "-m", "legato", "keys", "create", "--name", "shop", "--publishable", "--origin", shop[0]]
    done = subprocess.run(
        command, cwd=process.folder, env=process.environment(), capture_output=True, text=True, check=True
    )
    return next(word for word in done.stdout.split() if word.startswith("lp_"))


def put_widget(shop: Shop, server: ServerProcess, key: str) -> str:
    """Lay the example into the shop's folder with an address and a key; return the page's address."""
    text = EXAMPLE.read_text().replace("http://localhost:3111", server.address).replace("lp_PUT-YOUR-KEY-HERE", key)
    (shop[1] / "index.html").write_text(text)
    return shop[0]

"""The tutorial, followed to its end: each file is written, each command run, each output compared."""

from __future__ import annotations

import http.client
import os
import shlex
import subprocess
import sys
import time
from configparser import ConfigParser
from pathlib import Path

import pytest

from docs import generate
from tests.cli_process import WAIT_S, ended, environment, legato
from tests.server import free_port
from tests.walkthrough import Walkthrough, blocks_of, fits

PAGE = Path(generate.__file__).parent / "tutorial.md"
NOT_RUN = ("useradd", "venv", "pip install", " cp ", "systemctl", "keys create")
"""What the blocks without `run` are about: a machine's own set-up, as root."""


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a\nb", "a\nb\n", True),
        ("a…c", "abc", True),
        ("a\n…\nc", "a\nb\nb\nc", True),
        ("a…", "ba", False),
        ("a", "ab", False),
        ("a.c", "abc", False),
        ("id  name", "id       name   \n", True),
        ("id  name", "id name", False),
        ("", "a", False),
    ],
)
def test_outputs_are_compared_whole(expected: str, printed: str, same: bool) -> None:
    """Only what is left out with `…` may be anything."""
    assert fits(expected, printed) is same


def test_every_command_of_the_tutorial_is_run() -> None:
    """All but the few lines that need root, or a machine of their own."""
    kinds = {block.info.split(" ")[0] for block in blocks_of(PAGE)}
    assert kinds == {"sh", "python", "toml", "text", "ini"}
    for block in blocks_of(PAGE):
        if block.info == "sh":
            assert all(any(words in line for words in NOT_RUN) for line in block.code.splitlines()), block.code
        assert block.info not in ("python", "toml", "ini"), block.code


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's folder when the tutorial has been followed."""
    reader = Walkthrough(tmp_path_factory.mktemp("tutorial"))
    try:
        reader.follow(PAGE)
    finally:
        reader.close()
    return reader.folder


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_tutorial_can_be_followed(followed: Path) -> None:
    """To its end, and the bot that it makes has what it tells of."""
    done = legato(followed, "steps", "bot.py")
    assert done.returncode == 0, done.stderr
    for name in ("find_lead", "file_complaint", "send_complaint", "reserved", "offer", "close_the_day", "reserve"):
        assert f"  {name} " in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_service_of_the_tutorial_serves(followed: Path, tmp_path: Path) -> None:
    """The unit's own command and environment, in other folders: it asks for a key, and drains at the end."""
    unit = ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    text = (followed / "corner-shop.service").read_text()
    variables = dict(
        word.split("=", 1)
        for line in text.splitlines()
        if line.startswith("Environment=")
        for word in shlex.split(line.removeprefix("Environment="))
    )
    unit.read_string(text)
    service = unit["Service"]
    prefix = f"{service['WorkingDirectory']}/.venv/bin/"
    assert variables["LEGATO_DATA_DIR"] == f"/var/lib/{service['StateDirectory']}"
    assert variables["PATH"].startswith(prefix.rstrip("/"))
    port = free_port()
    own = variables | {
        "LEGATO_DATA_DIR": str(tmp_path / "data"),
        "LEGATO_HOST": "localhost",
        "LEGATO_PORT": str(port),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    key = legato(followed, "keys", "create", "--name", "website", **own).stdout.strip()
    command = shlex.split(service["ExecStart"].replace(prefix, f"{Path(sys.executable).parent}/"))
    with ended(
        subprocess.Popen(
            command, cwd=followed, env=environment(**own), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    ) as process:
        until_s = time.monotonic() + WAIT_S
        while (status := _status(port, {})) is None and time.monotonic() < until_s:
            time.sleep(0.1)
        assert status == 401
        assert _status(port, {"Authorization": f"Bearer {key}"}) == 200
        process.terminate()
        assert process.wait(WAIT_S) == 0


def _status(port: int, headers: dict[str, str]) -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        connection.request("GET", "/leads", headers=headers)
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()

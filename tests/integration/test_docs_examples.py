"""The commands and programs that the documentation shows, run as they stand against a server of the test's own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs import generate
from tests.cli_process import WAIT_S, cutting_proxy, environment
from tests.conftest import StartServer

ROOT = Path(generate.__file__).parent.parent
EXPECTED = {
    "README.md": ["event: complete"],
    "docs/getting-started.md": ["event: complete", '"content":"What is my name?"', "The server can start and answer."],
    "docs/operations.md": ["monday.db:"],
    "docs/protocol.md": ["event: chunk", "event: complete"],
    "docs/security.md": ["lk_", "laptop"],
}
"""What the output of each page's commands must hold."""
FOLLOWED = {"docs/tutorial.md"}
"""Pages that have a test of their own, which follows them from their first line to their last."""


def blocks(page: str, info: str) -> list[str]:
    """Return the fenced blocks of a page that begin with these words."""
    return re.findall(rf"^```{re.escape(info)}\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def command_folder(tmp_path: Path) -> Path:
    """A folder with the `legato` command in it, for the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "legato").write_text(f'#!/bin/sh\nexec {sys.executable} -m legato "$@"\n')
    (folder / "legato").chmod(0o755)
    return folder


def test_every_page_with_commands_is_run() -> None:
    """A page that gains its first command is not forgotten."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert {name for page in pages if blocks(name := str(page.relative_to(ROOT)), "sh run")} == set(EXPECTED) | FOLLOWED


@pytest.mark.slow
@pytest.mark.parametrize("page", EXPECTED)
def test_the_commands_of_a_page_work(page: str, start_server: StartServer, command_folder: Path) -> None:
    """One after another, in the server's folder; each ends with 0."""
    server = start_server()
    script = "\n".join(["set -euo pipefail", *blocks(page, "sh run")])
    done = subprocess.run(
        ["bash", "-c", script.replace("localhost:3111", f"localhost:{server.port}")],
        cwd=server.folder,
        env=environment(
            PATH=f"{command_folder}:{os.environ['PATH']}", LEGATO_MODEL="scripted", LEGATO_PORT=server.port
        ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=WAIT_S * 2,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for words in EXPECTED[page]:
        assert words in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_the_client_of_the_docs_reads_a_cut_reply_whole(start_server: StartServer, tmp_path: Path) -> None:
    """Before the head, inside it, inside an event, at an event's end: the reply that it prints is the reply."""
    server = start_server()
    (code,) = blocks("docs/protocol.md", "python client.py")
    message = "script: seed=5 tokens=30 delay_ms=2"
    texts = []
    for cuts in ((), (0, 80, 700, 411, 900, 533)):
        with cutting_proxy(server.port, *cuts) as proxy:
            own = code.replace('"localhost", 3111', f'"localhost", {proxy.port}').replace("0.25", "0.05")
            (tmp_path / "client.py").write_text(own)
            done = subprocess.run(
                [sys.executable, "client.py", message],
                cwd=tmp_path,
                env=environment(PYTHONUTF8=1),
                capture_output=True,
                encoding="utf-8",
                timeout=WAIT_S,
                check=False,
            )
            assert proxy.connections == len(cuts) + 1
        assert done.returncode == 0, done.stderr
        texts.append(done.stdout)
    assert texts[0] == texts[1]
    assert texts[0].count("5.29") == 1
    assert len(server.calls()) == 2

"""Follows a page as its reader does: writes its files, runs its commands, and compares what they print.

A page says so behind the language of a fenced block:

    python bot.py          the whole file
    python add to bot.py   more at its end
    sh serve               a server, which is started anew when a file has changed, as `--reload` would
    sh run                 commands; each must succeed
    sh run until           the same again and again, until they print what the next block says
    text                   right behind commands: all that they print, where `…` stands for anything

Other blocks are left alone.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.cli_process import WAIT_S, environment
from tests.server import free_port

UNTIL_S = 20.0
_BLOCK = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"(\w+) (add to )?([\w./-]+\.\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: what stands behind the fence, and what is in it."""

    info: str
    code: str


def blocks_of(page: Path) -> list[Block]:
    """Return all fenced blocks of a page, in order."""
    return [Block(info=info.strip(), code=code) for info, code in _BLOCK.findall(page.read_text("utf-8"))]


def fits(expected: str, printed: str) -> bool:
    """Return whether a text is what was expected; `…` stands for anything, also for several lines.

    How wide the columns of a table are does not matter.
    """
    pattern = ".*".join(re.escape(part) for part in _plain(expected).split("…"))
    return re.fullmatch(pattern, _plain(printed), re.DOTALL) is not None


def _plain(text: str) -> str:
    return re.sub(r" {2,}", "  ", re.sub(r" +$", "", text.strip(), flags=re.MULTILINE))


class Walkthrough:
    """One reader of one page.

    Args:
        folder: Where it begins.
        settings: LEGATO_… variables of its environment, without the prefix.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.port = free_port()
        self.printed: list[str] = []
        self._command = ""
        self._stale = False
        self._process: subprocess.Popen[bytes] | None = None
        given = {f"LEGATO_{name.upper()}": value for name, value in ({"durability": "process"} | settings).items()}
        self._environment = environment(
            **given,
            LEGATO_PORT=self.port,
            LEGATO_CHAT_URL=f"http://localhost:{self.port}",
            PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            PYTHONUTF8=1,
        )

    def follow(self, page: Path) -> None:
        """Do what a page says."""
        blocks = blocks_of(page)
        for place, block in enumerate(blocks):
            following = blocks[place + 1] if place + 1 < len(blocks) else None
            expected = following.code if following is not None and following.info == "text" else None
            if block.info == "sh serve":
                self._command = block.code.strip()
                self._stale = True
            elif block.info in ("sh run", "sh run until"):
                self._run(block, expected)
            elif found := _FILE.fullmatch(block.info):
                self._write(found[3], block.code, add=bool(found[2]))

    def close(self) -> None:
        """End the server, if there is one."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(WAIT_S)
            finally:
                self._process.kill()
                self._process.wait()
        self._process = None

    def _write(self, name: str, text: str, *, add: bool) -> None:
        path = self.folder / name
        assert add == path.exists(), f"{name} is {'not there yet' if add else 'there already'}"
        path.write_text((path.read_text("utf-8") + "\n\n" if add else "") + text, "utf-8")
        # Of no interest to the server.
        self._stale |= not name.startswith("test_") and path.suffix in (".py", ".toml")

    def _run(self, block: Block, expected: str | None) -> None:
        if self._command and self._stale:
            self._serve()
        script = f"set -euo pipefail\n{block.code.replace('localhost:3111', f'localhost:{self.port}')}\npwd >&2"
        until_s = time.monotonic() + (UNTIL_S if block.info.endswith("until") else 0)
        while True:
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                timeout=WAIT_S * 2,
                check=False,
            )
            printed = done.stdout.replace(f"localhost:{self.port}", "localhost:3111")
            right = done.returncode == 0 and (expected is None or fits(expected, printed))
            if right or time.monotonic() > until_s:
                break
            time.sleep(0.2)
        self.printed.append(printed)
        assert right, f"{block.code}\nprinted\n{printed}\n{done.stderr}\ninstead of\n{expected}\n{self.log}"
        # The next block goes on where this one has ended.
        self.folder = Path(done.stderr.splitlines()[-1])

    @property
    def log(self) -> str:
        """All that its servers have written."""
        path = self.folder / "server.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def _serve(self) -> None:
        self.close()
        command = self._command.replace(" --reload", "")
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until_s = time.monotonic() + WAIT_S
        while True:
            assert self._process.poll() is None, self.log
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S).close()
                break
            except OSError:
                assert time.monotonic() < until_s, self.log
                time.sleep(0.05)
        self._stale = False

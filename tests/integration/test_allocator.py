"""Where a server's interpreter takes its memory from (legato.allocator)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli_process import WAIT_S, environment, launch

SCRIPT = """
import os, sys
from legato.allocator import take_system_allocator
print(os.getpid(), *sys.argv[1:], flush=True)
take_system_allocator()
print(os.environ["PYTHONMALLOC"], flush=True)
"""


def _has_glibc() -> bool:
    with contextlib.suppress(ValueError, OSError, AttributeError):
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    return False


pytestmark = pytest.mark.skipif(not _has_glibc(), reason="the C library is another one than glibc")


def _lines(folder: Path, **values: str) -> list[str]:
    script = folder / "program.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-W", "error", str(script), "an argument"]
    given = {name: value for name, value in environment().items() if name not in ("PYTHONMALLOC", "MALLOC_ARENA_MAX")}
    return subprocess.run(
        command, env=given | values, capture_output=True, text=True, timeout=WAIT_S, check=True
    ).stdout.splitlines()


def test_a_program_starts_anew_once_as_the_same_process(tmp_path: Path) -> None:
    """The process stays the same, with its arguments, and runs on the C library's allocator."""
    first, again, allocator = _lines(tmp_path)
    assert first == again
    assert first.endswith(" an argument")
    assert allocator == "malloc"


def test_whoever_has_chosen_an_allocator_has_decided(tmp_path: Path) -> None:
    """With PYTHONMALLOC set nothing starts anew."""
    _, allocator = _lines(tmp_path, PYTHONMALLOC="pymalloc")
    assert allocator == "pymalloc"


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="this system does not show it")
def test_a_server_takes_the_allocator_that_gives_memory_back(tmp_path: Path) -> None:
    """`legato serve` runs on the C library's allocator; no other command starts anew."""
    process = launch(tmp_path, "serve", LEGATO_DATA_DIR=tmp_path, LEGATO_PORT=0)
    try:
        deadline = time.monotonic() + WAIT_S
        shown = b""
        while b"PYTHONMALLOC=malloc" not in shown.split(b"\0"):
            assert process.poll() is None, shown
            assert time.monotonic() < deadline, shown
            time.sleep(0.02)
            shown = Path(f"/proc/{process.pid}/environ").read_bytes()
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()

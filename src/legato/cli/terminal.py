"""Writing to a terminal: plain text only, colour where it is wanted, nothing that a model could steer it with."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_COLUMNS = 10_000
"""Width where there is no terminal: no line is broken or cut."""

_SHORT_CHARS = 60

# ESC and its kin become visible signs; carriage returns, which could overwrite a line, go.
_NEUTRAL: dict[int, str | None] = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
_NEUTRAL |= {0x7F: "\u2421", 0x0D: None} | dict.fromkeys(range(0x80, 0xA0), "\ufffd")
_NEUTRAL |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
# Marks of direction could show the arguments of a question in another order than they have.
_NEUTRAL |= dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd")


def neutral(text: str) -> str:
    """Return `text` without terminal control sequences: only line feeds and tabs are left of the controls."""
    return text.translate(_NEUTRAL)


def one_line(text: str) -> str:
    """Return `text` neutralised, on one line."""
    return neutral(" ".join(text.split()))


def shortened(text: str) -> str:
    """Return `text` on one line, and no more of it than fits beside a few words."""
    text = one_line(text)
    return text if len(text) <= _SHORT_CHARS else f"{text[: _SHORT_CHARS - 1]}…"


async def yes_typed() -> bool:
    """Wait for a line at the terminal, and return whether it says yes; what was typed before does not count."""
    import asyncio
    import os
    import termios

    loop = asyncio.get_running_loop()
    typed = asyncio.Event()
    terminal = sys.stdin.fileno()
    termios.tcflush(terminal, termios.TCIFLUSH)
    loop.add_reader(terminal, typed.set)
    try:
        await typed.wait()
    finally:
        loop.remove_reader(terminal)
    return os.read(terminal, 4096).strip().lower() in (b"y", b"yes")


def console(*, err: bool = False) -> Console:
    """Return a console on standard output (or error) that prints what it is given: no markup, emoji or highlight."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    return Console(
        file=stream,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=False,
        width=None if stream.isatty() else _PIPE_COLUMNS,
    )


def complain(message: str) -> None:
    """Print one sentence on standard error."""
    sys.stdout.flush()
    print(f"legato: {neutral(message)}", file=sys.stderr, flush=True)


def size_text(size_bytes: float) -> str:
    """Return a size as people read it: 93 MB, 1.4 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size_bytes < 1000 or unit == "GB":
            return f"{size_bytes:.1f} {unit}" if unit == "GB" else f"{size_bytes:.0f} {unit}"
        size_bytes /= 1000
    raise AssertionError

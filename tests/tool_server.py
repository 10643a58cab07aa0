"""`legato serve` with a few tools of a bot: `python tests/tool_server.py serve …`.

TOOL_JOURNAL  a file that each run of a tool is written to, at its beginning and at its end: lines that survive
              `kill -9`, because each is in the file before the tool goes on
"""

from __future__ import annotations

import asyncio
import functools
import os
from typing import Any

from legato import app
from legato.cli.main import main
from legato.tools.base import Tool
from legato.tools.schema import tool_from


def note(line: str) -> None:
    """Append a line to the journal."""
    path = os.environ.get("TOOL_JOURNAL")
    if path is None:
        return
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)


async def search(query: str) -> str:
    """Search."""
    return f"found data: {query}"


async def charge(key: str, delay_ms: int = 5) -> str:
    """Do something that must not be done twice."""
    note(f"begin charge {key}")
    await asyncio.sleep(delay_ms / 1000)
    note(f"end charge {key}")
    return f"charged {key}"


async def look_up(key: str, delay_ms: int = 5) -> str:
    """Do something that may be done again."""
    note(f"begin look_up {key}")
    await asyncio.sleep(delay_ms / 1000)
    note(f"end look_up {key}")
    return f"looked {key} up"


async def ask(key: str) -> str:
    """Do something that a person must agree to."""
    note(f"begin ask {key}")
    note(f"end ask {key}")
    return f"asked for {key}"


def tools() -> list[Tool]:
    """Return the tools; each is of another kind."""
    return [
        tool_from(search),
        tool_from(charge),
        tool_from(look_up, idempotent=True),
        tool_from(ask, needs_approval=True),
    ]


def install() -> None:
    """Have every node that is opened here call the tools."""
    opened: Any = app.open_node

    @functools.wraps(opened)
    def open_node(*args: Any, **more: Any) -> Any:
        return opened(*args, **(more | {"tools": [*more.get("tools", ()), *tools()]}))

    app.open_node = open_node


if __name__ == "__main__":
    install()
    main()

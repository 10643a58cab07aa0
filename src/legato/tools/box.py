"""The tools of a bot: its own functions and those of its MCP servers, each under one name.

A name is given once and then belongs to that tool of that server for the life of the process, whether the server
answers or not: a conversation that has called `search` never finds another tool behind it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import structlog

from legato.core.errors import ConfigurationError
from legato.tools.base import MAX_NAME_CHARS, Tool, legal_name

log = structlog.get_logger(__name__)

MAX_TOOLS = 128
"""Tools that a model is given at most; OpenAI's servers refuse more. Set `allow` of a server to choose them."""
_MOST_NAMES = 4_096


class ToolSource(Protocol):
    """Where tools come from that are not there all the time.

    Attributes:
        name: Unique among the sources of a box.
        prefix: Its tools are always called `name_tool`, not only where two would share a name.
    """

    name: str
    prefix: bool

    def start(self) -> None:
        """Begin to connect; return at once. Called in the running loop."""
        ...

    async def tools(self) -> Mapping[str, Tool]:
        """Return the tools that are there now, by the source's own names, which may have any form."""
        ...

    async def close(self) -> None: ...


class ToolBox:
    """Gives a model its tools, and prepares the calls that it asks for."""

    def __init__(self, tools: Sequence[Tool] = (), sources: Sequence[ToolSource] = ()) -> None:
        """
        Raises:
            ConfigurationError: Two tools or two sources share a name.
        """
        self._own: dict[str, Tool] = {}
        for tool in tools:
            if tool.name in self._own:
                raise ConfigurationError(f"two tools are named {tool.name}: give one of them another name")
            self._own[tool.name] = tool
        self._sources = tuple(sources)
        names = [source.name for source in sources]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ConfigurationError(f"two MCP servers are named {', '.join(sorted(repeated))}")
        self._given: dict[tuple[str, str], str] = {}
        self._taken = set(self._own)
        self._crowded: set[str] = set()

    def __bool__(self) -> bool:
        """Whether there can be any tools at all."""
        return bool(self._own or self._sources)

    def start(self) -> None:
        """Begin to connect to the servers, and wait for none of them."""
        for source in self._sources:
            source.start()

    async def close(self) -> None:
        """Close all servers; returns when each is closed."""
        await asyncio.gather(*(source.close() for source in self._sources))

    async def tools(self) -> dict[str, Tool]:
        """Return the tools that a model may call now, by name.

        Waits for servers that are being connected to, each as long as it says; a server that is away adds none.
        """
        found = dict(self._own)
        for source, tools in zip(
            self._sources, await asyncio.gather(*(source.tools() for source in self._sources)), strict=True
        ):
            for theirs, tool in tools.items():
                if len(found) >= MAX_TOOLS:
                    self._complain(source)
                elif name := self._name(source, theirs):
                    found[name] = replace(tool, name=name)
        return found

    def _complain(self, source: ToolSource) -> None:
        if source.name not in self._crowded:
            self._crowded.add(source.name)
            log.warning("too many tools: some are left out", server=source.name, most=MAX_TOOLS)

    def _name(self, source: ToolSource, theirs: str) -> str | None:
        """Return the name that a source's tool has here; None once there are too many."""
        key = (source.name, theirs)
        if key not in self._given:
            if len(self._given) >= _MOST_NAMES:
                log.warning("too many names of tools: one is left out", server=source.name)
                return None
            plain, long = legal_name(theirs), legal_name(f"{source.name}_{theirs}")
            wanted = [long] if source.prefix else [plain, long]
            self._given[key] = next(
                (name for name in wanted if len(name) <= MAX_NAME_CHARS and name not in self._taken),
                _unlike(long, key),
            )
            self._taken.add(self._given[key])
        return self._given[key]


def definitions(tools: Mapping[str, Tool]) -> list[dict[str, Any]]:
    """Return `tools` of an OpenAI-compatible request."""
    return [tool.definition() for tool in tools.values()]


def _unlike(name: str, key: tuple[str, str]) -> str:
    """Return a name that no other tool has: the beginning of `name` and a hash of what it stands for."""
    digest = hashlib.sha256("\0".join(key).encode("utf-8", "replace")).hexdigest()[:8]
    return f"{name[: MAX_NAME_CHARS - 9]}_{digest}"

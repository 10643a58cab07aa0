"""The composition root: settings in, a running server out.

With `adapters.py` the only file that names concrete adapters.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from legato.adapters import create_mcp_server, create_models, create_traces
from legato.core.clock import Clock, SystemClock
from legato.core.errors import ConfigurationError
from legato.http.api import create_api
from legato.http.server import LegatoServer, listen, raise_file_limit
from legato.policies.rate_limit import create_limits, create_visitor_limits
from legato.runs.care import look_after
from legato.runs.drain import drain
from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.runs.recover import leave, recover
from legato.runs.search import keep_searchable
from legato.settings import Settings, load_settings, nearest
from legato.steps.builtin import built_in_steps
from legato.steps.registry import Registry
from legato.steps.service import StepService, tool_context
from legato.steps.step_set import StepSet
from legato.storage.committer import Committer
from legato.storage.database import open_database
from legato.telemetry.watch import watch
from legato.tools.base import Tool
from legato.tools.box import ToolBox

log = structlog.get_logger(__name__)

MODEL_LOAD_S = 10.0
"""How long a start with unfinished replies waits for an embedded model before it listens."""
DEAF_S = 2.0
"""How long tasks that are left at the very end may take to end."""
SWITCH_S = 0.0003
"""How long a busy thread keeps the interpreter from the event loop: Python's own 5 ms, at every hand-over of events to
the queue and every commit, made the slowest hundredth of chunks several times as late."""


class Legato(StepSet):
    """A chat server with a developer's own defaults, steps and tools; `legato serve bot.py` runs the one called `app`.

    Args:
        settings: Fields of legato.settings.Settings. What the command line or the environment says goes first.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.folder: Path | None = None
        """That of the bot's file, where `legato.toml` and `.env` are read if the working directory has none."""
        for name in settings:
            if name not in Settings.model_fields:
                close = nearest(name, list(Settings.model_fields))
                raise ConfigurationError(f"unknown setting {name}" + (f": did you mean {close}?" if close else ""))
        self.defaults = settings

    def settings(self, **overrides: Any) -> Settings:
        """Return the settings: `overrides`, then environment and files, then this app's own."""
        overrides = {name: value for name, value in overrides.items() if value is not None}
        found = load_settings(self.folder, **overrides)
        own = {name: value for name, value in self.defaults.items() if name not in found.model_fields_set}
        return load_settings(self.folder, **own, **overrides)

    def registry(self) -> Registry:
        """Return all steps: the chat, those that come with Legato, and this app's own.

        Raises:
            ConfigurationError: A step is wrong, or contradicts another.
        """
        return Registry(built_in_steps().steps(), self.steps(), self.tool_topics)


def check_access(settings: Settings) -> None:
    """Refuse to serve everybody beyond this machine.

    Raises:
        ConfigurationError: `auth` is `none` and `host` is not loopback.
    """
    if settings.auth == "none" and not _is_loopback(settings.host):
        raise ConfigurationError(
            f"without authentication only this machine is served, and --host {settings.host} is beyond it: "
            "set LEGATO_AUTH=keys and make a key with `legato keys create`, or leave --host out"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@asynccontextmanager
async def open_node(
    settings: Settings,
    *,
    clock: Clock | None = None,
    tools: Sequence[Tool] = (),
    tool_context: Callable[[Node, LiveRun, str, str], object] | None = None,
) -> AsyncIterator[Node]:
    """Open storage and models, take up what was left, and close it all again at the end.

    Args:
        tools: The bot's own, beside those of `settings.mcp`.
        tool_context: Makes what a tool call is given, of the node, the run, the call's id and the tool's name.

    Raises:
        ConfigurationError: The data folder or a setting cannot be used.
    """
    database = open_database(settings)
    try:
        database.open()
        models = create_models(settings)
        box = ToolBox(tools, [create_mcp_server(name, table, settings) for name, table in settings.mcp.items()])
        committer = Committer(database)
        clock = clock or SystemClock()
        node = Node(
            settings=settings,
            database=database,
            committer=committer,
            models=models,
            clock=clock,
            limits=create_limits(settings, clock),
            visitor_limits=create_visitor_limits(settings, clock),
        )
        if settings.otlp_endpoint:
            node.traces = create_traces(settings.otlp_endpoint)
        for provider in models.providers:
            await provider.start()
        if box:
            node.tools = box
            box.start()
        if tool_context is not None:
            node.tool_context = partial(tool_context, node)
        if await recover(node):
            # Replies that were cut go on at once when the socket listens: wait for a model that is being loaded.
            waits = [asyncio.ensure_future(provider.ready()) for provider in models.providers]
            await asyncio.wait(waits, timeout=MODEL_LOAD_S)
        care = asyncio.gather(look_after(node), keep_searchable(node), watch(node.metrics, node.live))
        try:
            yield node
        finally:
            care.cancel()
            await leave(node)
            node.readers.cut_all()
            await asyncio.gather(care, *node.tasks, return_exceptions=True)
            await box.close()
            for provider in models.providers:
                await provider.close()
            await committer.close()
            if node.traces is not None:
                await node.traces.close()
    finally:
        database.close()


async def serve(settings: Settings, on_ready: Callable[[int], None], bot: Legato | None = None) -> None:
    """Run a server until it is told to stop.

    Args:
        on_ready: Called with the port when it listens.
        bot: The developer's steps and tools.

    Raises:
        ConfigurationError: It cannot start as it is configured.
    """
    bot = bot or Legato()
    registry = bot.registry()
    check_access(settings)
    raise_file_limit()
    sockets = listen(settings.host, settings.port)
    port: int = sockets[0].getsockname()[1]
    async with (
        _closing(sockets),
        open_node(settings, tools=bot.tools, tool_context=partial(tool_context, registry)) as node,
    ):
        steps = StepService(node, registry)
        starting: list[asyncio.Task[None]] = []

        async def begin_steps() -> None:
            try:
                await steps.start()
            except BaseException:
                server.stop()
                raise
            _freeze()

        def ready() -> None:
            on_ready(port)
            # Its imports take a moment that nobody who connects now should wait for.
            starting.append(asyncio.get_running_loop().create_task(begin_steps()))

        api = create_api(node, registry, steps)
        server = LegatoServer(api, on_ready=ready, on_stop=lambda: drain(node, server.requests))
        _freeze()
        try:
            await server.serve(sockets=sockets)
        finally:
            for sock in sockets:
                sock.close()
            results = await asyncio.gather(*starting, return_exceptions=True)
            await steps.close()
        for result in results:
            if isinstance(result, BaseException):
                raise result


@asynccontextmanager
async def _closing(sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
    """Close them at the end, also where nothing was served."""
    try:
        yield
    finally:
        for sock in sockets:
            sock.close()


def _freeze() -> None:
    """Have the collector not look again at what lives until the end."""
    gc.collect()
    gc.freeze()


async def _serve_and_go(settings: Settings, on_ready: Callable[[int], None], bot: Legato | None) -> None:
    """Serve, and end the process even where a handler will not end: all that counts is on the disk by then."""
    await serve(settings, on_ready, bot)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left and (deaf := (await asyncio.wait(left, timeout=DEAF_S))[1]):
        log.warning("handlers that do not end are left behind", tasks=[task.get_name() for task in deaf][:10])
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def run(settings: Settings, on_ready: Callable[[int], None], bot: Legato | None = None) -> None:
    """Run `serve` on a fresh event loop, uvloop where there is one."""
    sys.setswitchinterval(SWITCH_S)
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve_and_go(settings, on_ready, bot))
    else:
        uvloop.run(_serve_and_go(settings, on_ready, bot))

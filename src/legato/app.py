"""The composition root: settings in, a running server out.

With `adapters.py` the only file that names concrete adapters.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import structlog

from legato.adapters import (
    create_hints,
    create_mcp_server,
    create_models,
    create_moderation,
    create_prices,
    create_traces,
)
from legato.core.clock import Clock, SystemClock
from legato.core.errors import ConfigurationError
from legato.core.ids import new_id
from legato.core.origins import is_loopback
from legato.http.api import create_api
from legato.http.server import LegatoServer, kept_sigterm, listen, raise_file_limit
from legato.memory import freeze
from legato.policies.moderation.functions import TIMEOUT_S as POLICY_TIMEOUT_S
from legato.policies.moderation.functions import DeclaredPolicy, PolicyBody, declared
from legato.policies.moderation.verdict import Stage
from legato.policies.rate_limit import create_limits, create_visitor_limits, create_windows
from legato.runs.budget import Budgets
from legato.runs.care import look_after
from legato.runs.drain import drain
from legato.runs.erase import Eraser
from legato.runs.follow import create_feed
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
from legato.storage.database import Database, open_database
from legato.storage.probe import find_identity
from legato.telemetry.watch import watch
from legato.tools.base import Tool
from legato.tools.box import ToolBox

if TYPE_CHECKING:
    from legato.storage.postgres_aside import Aside

P = TypeVar("P", bound=PolicyBody)
log = structlog.get_logger(__name__)

MODEL_LOAD_S = 10.0
"""How long a start with unfinished replies waits for an embedded model before it listens."""
DEAF_S = 2.0
"""How long tasks that are left at the very end may take to end."""
COUNT_S = 2.0
"""How long counting a post, or the replies of all nodes, may take."""
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
        self.policies: list[DeclaredPolicy] = []
        """What `moderate` has declared, in its order."""

    def moderate(
        self,
        *stages: Stage,
        name: str | None = None,
        timeout_s: float = POLICY_TIMEOUT_S,
        on_failure: Literal["closed", "open"] = "closed",
    ) -> Callable[[P], P]:
        """Ask a function of what is said: it takes a legato.Passage, and returns Allow, Block, Redact or Flag, or None.

        It may be async; one that is not runs in a thread. It comes after the policies of `[moderation]`.

        Args:
            stages: `request` for what people and tools bring, `reply` for what the model says, sentence by sentence.
            name: In metrics, logs and reviews; the function's by default.
            timeout_s: Longest wait for its verdict.
            on_failure: What becomes of a text when it gives none: `closed` blocks it, `open` lets it pass.

        Raises:
            ConfigurationError: A stage is unknown, or the function cannot be called so.
        """

        def declare(function: P) -> P:
            lets_pass = on_failure == "open"
            self.policies.append(declared(stages, function, name=name, timeout_s=timeout_s, open=lets_pass))
            return function

        return declare

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
    """Refuse to serve everybody beyond this machine, and settings of access that contradict each other.

    Raises:
        ConfigurationError: `auth` is `none` and `host` is not loopback; or who may sign in is not clear.
    """
    if settings.auth == "none" and not is_loopback(settings.host):
        raise ConfigurationError(
            f"without authentication only this machine is served, and --host {settings.host} is beyond it: "
            "set LEGATO_AUTH=keys and make a key with `legato keys create`, or leave --host out"
        )
    if settings.oidc is not None and settings.auth != "accounts":
        raise ConfigurationError(
            "[oidc] is set, but people have no accounts: set LEGATO_AUTH=accounts, or leave it out"
        )
    if settings.auth == "accounts" and settings.oidc is None and not settings.accounts.passwords:
        raise ConfigurationError(
            "nobody could sign in: set [oidc] in legato.toml, or leave `passwords = false` of [accounts] out"
        )


@asynccontextmanager
async def open_node(
    settings: Settings,
    *,
    clock: Clock | None = None,
    tools: Sequence[Tool] = (),
    tool_context: Callable[[Node, LiveRun, str, str], object] | None = None,
    policies: Sequence[DeclaredPolicy] = (),
) -> AsyncIterator[Node]:
    """Open storage and models, take up what was left, and close it all again at the end.

    Args:
        tools: The bot's own, beside those of `settings.mcp`.
        tool_context: Makes what a tool call is given, of the node, the run, the call's id and the tool's name.
        policies: The bot's own, beside those of `settings.moderation`.

    Raises:
        ConfigurationError: The data folder or a setting cannot be used.
    """
    clock = clock or SystemClock()
    database = open_database(settings)
    executor_id = new_id("n", clock.now_ms())
    # Whoever has to end the sessions of a process that died finds them by this.
    database.application_name = f"legato:{executor_id}"
    try:
        database.open()
        models = create_models(settings)
        box = ToolBox(tools, [create_mcp_server(name, table, settings) for name, table in settings.mcp.items()])
        committer = Committer(database)
        hints = create_hints(settings, database, await database.read(find_identity))
        counting = _create_aside(database, statement_s=COUNT_S, wait_s=settings.storage_wait_s)
        # Pages of messages that are read meanwhile must not make streams late.
        following = _create_aside(database, statement_s=settings.storage_wait_s)
        windows = create_windows(counting, clock)
        node = Node(
            settings=settings,
            database=database,
            committer=committer,
            models=models,
            clock=clock,
            limits=create_limits(settings, windows),
            visitor_limits=create_visitor_limits(settings, windows),
            hints=hints,
            feed=create_feed(following, patience_s=settings.storage_wait_s),
            executor_id=executor_id,
        )
        node.windows = windows
        node.prices = await asyncio.to_thread(create_prices, settings, models.providers)
        node.budgets = Budgets(node)
        await node.budgets.look()
        node.moderation = create_moderation(node, policies)
        if settings.otlp_endpoint:
            node.traces = create_traces(settings.otlp_endpoint)
        for provider in models.providers:
            await provider.start()
        if box:
            node.tools = box
            box.start()
        if tool_context is not None:
            node.tool_context = partial(tool_context, node)
        keeping = await _join(node, counting)
        if await recover(node):
            # Replies that were cut go on at once when the socket listens: wait for a model that is being loaded.
            waits = [asyncio.ensure_future(provider.ready()) for provider in models.providers]
            await asyncio.wait(waits, timeout=MODEL_LOAD_S)
        await hints.start()
        care = asyncio.gather(
            look_after(node),
            node.budgets.keep(),
            keep_searchable(node),
            Eraser(node).keep_on(),
            watch(node.metrics, node.live),
        )
        try:
            yield node
        finally:
            care.cancel()
            await leave(node)
            await hints.close()
            if node.feed is not None and following is not None:
                await node.feed.close()
                following.close()
            node.readers.cut_all()
            await asyncio.gather(care, *node.tasks, return_exceptions=True)
            await box.close()
            if node.moderation is not None:
                await node.moderation.close()
            for provider in models.providers:
                await provider.close()
            await committer.close()
            if node.lease is not None:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)
                await node.lease.close()
            if counting is not None:
                counting.close()
            if node.traces is not None:
                await node.traces.close()
    finally:
        database.close()


def _create_aside(database: Database, *, statement_s: float, wait_s: float | None = None) -> Aside | None:
    """Return a further connection to a database that several nodes share; None where there can be one alone."""
    if database.kind == "sqlite":
        return None
    from legato.storage.postgres import PostgresDatabase
    from legato.storage.postgres_aside import Aside

    assert isinstance(database, PostgresDatabase)
    return Aside(database, statement_s=statement_s, wait_s=wait_s)


async def _join(node: Node, counting: Aside | None) -> asyncio.Future[Any]:
    """Make the node one of several, where the database lets it; return what keeps it among them."""
    connection = _create_aside(node.database, statement_s=node.settings.lease_s / 2)
    if connection is None or counting is None:
        return asyncio.get_running_loop().create_future()
    from legato.runs.admission import Admission
    from legato.runs.lease import Lease

    node.lease = Lease(node, connection)
    node.admission = Admission(node, counting)
    await node.lease.begin()
    return asyncio.gather(node.lease.keep(), node.admission.keep())


async def serve(
    settings: Settings,
    on_ready: Callable[[int], None],
    bot: Legato | None = None,
    sockets: Sequence[socket.socket] = (),
) -> None:
    """Run a server until it is told to stop.

    Args:
        on_ready: Called with the port when it listens.
        bot: The developer's steps and tools.
        sockets: Listening ones, where another process has opened them; it closes its copies at the end.

    Raises:
        ConfigurationError: It cannot start as it is configured.
    """
    bot = bot or Legato()
    registry = bot.registry()
    check_access(settings)
    raise_file_limit()
    sockets = sockets or listen(settings.host, settings.port)
    port: int = sockets[0].getsockname()[1]
    with kept_sigterm() as told_to_stop:
        async with (
            _closing(sockets),
            open_node(
                settings,
                tools=bot.tools,
                tool_context=partial(tool_context, registry),
                policies=bot.policies,
            ) as node,
        ):
            steps = StepService(node, registry)
            starting: list[asyncio.Task[None]] = []

            async def begin_steps() -> None:
                try:
                    await steps.start()
                except BaseException:
                    server.stop()
                    raise
                freeze()

            def ready() -> None:
                on_ready(port)
                if told_to_stop():
                    server.stop()
                    return
                # Its imports take a moment that nobody who connects now should wait for.
                starting.append(asyncio.get_running_loop().create_task(begin_steps()))

            api = create_api(node, registry, steps)
            server = LegatoServer(
                api,
                on_ready=ready,
                on_stop=lambda: drain(node, server.requests),
                send_timeout_s=settings.send_timeout_s,
            )
            node.on_outcast = server.stop
            freeze()
            try:
                await server.serve(sockets=[*sockets])
            finally:
                for sock in sockets:
                    sock.close()
                results = await asyncio.gather(*starting, return_exceptions=True)
                await steps.close()
            if node.outcast is not None:
                raise node.outcast
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


async def _serve_and_go(
    settings: Settings, on_ready: Callable[[int], None], bot: Legato | None, sockets: Sequence[socket.socket]
) -> None:
    """Serve, and end the process even where a handler will not end: all that counts is on the disk by then."""
    await serve(settings, on_ready, bot, sockets)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left and (deaf := (await asyncio.wait(left, timeout=DEAF_S))[1]):
        log.warning("handlers that do not end are left behind", tasks=[task.get_name() for task in deaf][:10])
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def run(
    settings: Settings,
    on_ready: Callable[[int], None],
    bot: Legato | None = None,
    sockets: Sequence[socket.socket] = (),
) -> None:
    """Run `serve` on a fresh event loop, uvloop where there is one."""
    sys.setswitchinterval(SWITCH_S)
    serving = _serve_and_go(settings, on_ready, bot, sockets)
    try:
        import uvloop
    except ImportError:
        asyncio.run(serving)
    else:
        uvloop.run(serving)

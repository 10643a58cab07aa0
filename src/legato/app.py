"""The composition root: settings in, a running server out. The only file that names concrete adapters."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
from dotenv import dotenv_values

from legato.core.clock import Clock, SystemClock
from legato.core.errors import ConfigurationError, InvalidRequest
from legato.http.api import create_api
from legato.http.server import LegatoServer, listen, raise_file_limit
from legato.memory import give_back
from legato.providers.base import Provider
from legato.providers.embedded import EmbeddedProvider
from legato.providers.openai import OpenAIProvider
from legato.providers.scripted import Script, ScriptedProvider
from legato.providers.weights import default_weights
from legato.runs.models import Models
from legato.runs.node import Node
from legato.runs.recover import leave, prune, recover
from legato.settings import ENV_FILE, ModelSettings, Settings, load_settings, nearest
from legato.storage.committer import Committer
from legato.storage.database import Database
from legato.storage.migrate import migrate

log = structlog.get_logger(__name__)

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_MODEL = "gpt-5-mini"
"""The default model where OPENAI_API_KEY is set and LEGATO_MODEL is not."""
EMBEDDED = "embedded"


MODEL_LOAD_S = 10.0
"""How long a start with unfinished replies waits for an embedded model before it listens."""
PRUNE_S = 1.0
QUIET_S = (5.0, 20.0)
"""Seconds after the last reply at which freed memory is given back: at once, and when idle connections have gone."""
RUSH_RUNS = 200
"""So many replies at once leave enough freed memory behind to be worth a look."""


class Legato:
    """A chat server with a developer's own defaults; `legato serve bot.py` runs the one that is called `app`.

    Args:
        settings: Fields of legato.settings.Settings. What the command line or the environment says goes first.
    """

    def __init__(self, **settings: Any) -> None:
        for name in settings:
            if name not in Settings.model_fields:
                close = nearest(name, list(Settings.model_fields))
                raise ConfigurationError(f"unknown setting {name}" + (f": did you mean {close}?" if close else ""))
        self.defaults = settings

    def settings(self, **overrides: Any) -> Settings:
        """Return the settings: `overrides`, then environment and files, then this app's own."""
        overrides = {name: value for name, value in overrides.items() if value is not None}
        found = load_settings(**overrides)
        own = {name: value for name, value in self.defaults.items() if name not in found.model_fields_set}
        return load_settings(**own, **overrides)


def create_models(settings: Settings) -> Models:
    """Return the configured models.

    Raises:
        ConfigurationError: A model in `settings.model` cannot be made from what is configured.
    """
    providers: dict[str, Provider] = {
        name: _from_table(name, table, settings) for name, table in settings.models.items()
    }
    order = settings.model or [default_model(settings)]
    names: list[str] = []
    for word in order:
        name = Path(word).stem if word.endswith(".gguf") else word
        if name not in providers:
            providers[name] = _from_word(word, name, settings)
        names.append(name)
    try:
        return Models(list(providers.values()), names)
    except InvalidRequest as error:
        raise ConfigurationError(error.message) from None


def default_model(settings: Settings) -> str:
    """Return the model that answers where none is named."""
    if settings.openai_api_key is not None or settings.openai_base_url != OPENAI_URL:
        return OPENAI_MODEL
    return EMBEDDED


def _from_table(name: str, table: ModelSettings, settings: Settings) -> Provider:
    match table.provider:
        case "scripted":
            return _scripted(name, table.script)
        case "embedded":
            weights = table.path or default_weights(settings.models_dir)
            if table.context_window is None:
                return EmbeddedProvider(name, weights=weights)
            return EmbeddedProvider(name, weights=weights, context_window=table.context_window)
        case "openai":
            key = table.api_key.get_secret_value() if table.api_key else None
            if table.api_key_env:
                key = os.environ.get(table.api_key_env) or dotenv_values(ENV_FILE).get(table.api_key_env)
                if not key:
                    raise ConfigurationError(f"models.{name}: {table.api_key_env} is set neither here nor in .env")
            if key is None and table.base_url is None and settings.openai_api_key is not None:
                key = settings.openai_api_key.get_secret_value()
            return OpenAIProvider(
                name,
                model=table.model or name,
                base_url=table.base_url or settings.openai_base_url,
                api_key=key,
                context_window=table.context_window,
                prefill=table.prefill,
                headers=table.headers,
                proxy=table.proxy,
                max_tokens_field=table.max_tokens_field,
                connect_timeout_s=10.0,
            )


def _from_word(word: str, name: str, settings: Settings) -> Provider:
    if word == EMBEDDED:
        return EmbeddedProvider(EMBEDDED, weights=default_weights(settings.models_dir))
    if word == "scripted":
        return _scripted("scripted", {})
    if word.endswith(".gguf"):
        path = Path(word).expanduser()
        if not path.is_file():
            raise ConfigurationError(f"there is no file {path}: LEGATO_MODEL names a GGUF file by its path")
        return EmbeddedProvider(name, weights=path)
    if settings.openai_api_key is None and settings.openai_base_url == OPENAI_URL:
        raise ConfigurationError(
            f"the model {word!r} needs OPENAI_API_KEY, or OPENAI_BASE_URL of a server that has it; "
            f"configured without: {', '.join([EMBEDDED, *settings.models])}"
        )
    key = settings.openai_api_key
    return OpenAIProvider(
        name, model=word, base_url=settings.openai_base_url, api_key=key.get_secret_value() if key else None
    )


def _scripted(name: str, script: dict[str, Any]) -> ScriptedProvider:
    values = dict(script)
    journal = values.pop("journal", None)
    prefill = bool(values.pop("prefill", True))
    context_window = values.pop("context_window", 100_000)
    try:
        return ScriptedProvider(
            name,
            journal=Path(journal) if journal else None,
            script=Script(**values),
            prefill=prefill,
            context_window=context_window,
        )
    except TypeError:
        raise ConfigurationError(f"models.{name}.script: unknown field among {', '.join(values)}") from None


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
async def open_node(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[Node]:
    """Open storage and models, take up what was left, and close it all again at the end.

    Raises:
        ConfigurationError: The data folder or a setting cannot be used.
    """
    database = Database(settings.database_path, durability=settings.durability)
    database.lock()
    try:
        migrate(settings.database_path)
        models = create_models(settings)
        committer = Committer(database)
        node = Node(
            settings=settings, database=database, committer=committer, models=models, clock=clock or SystemClock()
        )
        for provider in models.providers:
            await provider.start()
        if await recover(node):
            # Replies that were cut go on at once when the socket listens: wait for a model that is being loaded.
            waits = [asyncio.ensure_future(provider.ready()) for provider in models.providers]
            await asyncio.wait(waits, timeout=MODEL_LOAD_S)
        care = asyncio.create_task(_care(node))
        try:
            yield node
        finally:
            care.cancel()
            await leave(node)
            node.readers.cut_all()
            await asyncio.gather(care, *node.tasks, return_exceptions=True)
            for provider in models.providers:
                await provider.close()
            await committer.close()
    finally:
        database.close()


async def _care(node: Node) -> None:
    """Look after runs and readers, delete old segments, and give memory back after a rush."""
    pruned_s = quiet_s = 0.0
    most_live = 0
    while True:
        await asyncio.sleep(node.tick_s)
        node.tick()
        pruned_s += node.tick_s
        if pruned_s >= PRUNE_S:
            pruned_s = 0.0
            try:
                await prune(node)
            except Exception:
                log.exception("old segments could not be deleted")
        most_live = max(most_live, len(node.live))
        before_s, quiet_s = quiet_s, 0.0 if node.live else quiet_s + node.tick_s
        if most_live >= RUSH_RUNS and any(before_s < at_s <= quiet_s for at_s in QUIET_S):
            await give_back()
            if quiet_s >= QUIET_S[-1]:
                most_live = 0


async def drain(node: Node) -> None:
    """Begin no new run, and give those that run `drain_s` to end; the rest is left for the next start."""
    node.draining = True
    if node.live:
        log.info("draining", replies=len(node.live), most_s=node.settings.drain_s)
    until = node.clock.monotonic_s() + node.settings.drain_s
    while (node.live or node.starting) and (left_s := until - node.clock.monotonic_s()) > 0:
        # A message that is being saved has no task yet.
        waits = node.tasks or {asyncio.ensure_future(asyncio.sleep(0.02))}
        await asyncio.wait(waits, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
    # A last event may still be on its way to a socket.
    await asyncio.sleep(0.05)
    if node.live:
        log.info("handing over", replies=len(node.live))
    await leave(node)
    node.readers.cut_all()


async def serve(settings: Settings, on_ready: Callable[[int], None]) -> None:
    """Run a server until it is told to stop.

    Args:
        on_ready: Called with the port when it listens.

    Raises:
        ConfigurationError: It cannot start as it is configured.
    """
    check_access(settings)
    raise_file_limit()
    sockets = listen(settings.host, settings.port)
    port: int = sockets[0].getsockname()[1]
    async with open_node(settings) as node:
        server = LegatoServer(create_api(node), on_ready=lambda: on_ready(port), on_stop=lambda: drain(node))
        # What lives until the end need not be looked at by the collector again.
        gc.collect()
        gc.freeze()
        await server.serve(sockets=sockets)


def run(settings: Settings, on_ready: Callable[[int], None]) -> None:
    """Run `serve` on a fresh event loop, uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(settings, on_ready))
    else:
        uvloop.run(serve(settings, on_ready))

"""What is configured, made: models, the servers of tools, hints between nodes, and where traces go.

With `app.py` the only file that names concrete adapters.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotenv import dotenv_values

from legato.core.errors import ConfigurationError, InvalidRequest
from legato.fanout.base import Hints
from legato.fanout.memory import MemoryHints
from legato.policies.price_list import find_price, may_be_listed
from legato.policies.prices import FREE, FixedPrice, Price, Prices, Rates, spellings, without_maker
from legato.providers.base import Provider
from legato.providers.embedded import EmbeddedProvider
from legato.providers.openai import OpenAIProvider
from legato.providers.scripted import Script, ScriptedProvider
from legato.providers.weights import default_weights
from legato.runs.models import Models
from legato.settings import Settings
from legato.settings_models import McpServerSettings, ModelSettings
from legato.settings_prices import PriceSettings
from legato.storage.database import Database
from legato.tools.mcp import McpServer
from legato.tools.mcp_config import McpServerConfig

if TYPE_CHECKING:
    from legato.policies.moderation.functions import DeclaredPolicy
    from legato.runs.moderate import Moderation
    from legato.runs.node import Node
    from legato.settings_moderation import JudgeSettings, ModerationsSettings
    from legato.telemetry.traces import Traces

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_MODEL = "gpt-5-mini"
"""The default model where OPENAI_API_KEY is set and LEGATO_MODEL is not."""
EMBEDDED = "embedded"
LOOKS_AT_ONCE = 4
"""Long texts that are looked through in threads at a time; the others wait."""


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


def create_prices(settings: Settings, providers: Sequence[Provider]) -> Prices:
    """Return what is known of the models' prices. Not on the event loop: the list of prices takes long to import."""
    prices: dict[str, Price] = {}
    for provider in providers:
        table = next((settings.prices[name] for name in price_names(provider) if name in settings.prices), None)
        price: Price | None = None
        if table is not None:
            price = FixedPrice(held=_rates(table), source="legato.toml")
        elif isinstance(provider, EmbeddedProvider):
            price = FixedPrice(held=FREE, source="embedded")
        elif isinstance(provider, OpenAIProvider) and may_be_listed(provider.base_url):
            price = find_price(provider.model, provider.base_url)
        if price is not None:
            prices[provider.name] = price
    return Prices(prices)


def price_names(provider: Provider) -> list[str]:
    """Return the names under which `[prices]` may have a model, the most exact first."""
    names = [provider.name, provider.model] if isinstance(provider, OpenAIProvider) else [provider.name]
    return spellings(*names, *without_maker(*names))


def _rates(table: PriceSettings) -> Rates:
    return Rates(
        input=table.input,
        cached_input=table.input if table.cached_input is None else table.cached_input,
        output=table.output,
        reasoning=table.output if table.reasoning is None else table.reasoning,
    )


def create_traces(endpoint: str) -> Traces:
    """Return what sends traces to an address.

    Raises:
        ConfigurationError: It is none that traces can be sent to.
    """
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigurationError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT is {endpoint!r}: traces are sent over HTTP, to http://localhost:4318 say"
        )
    # Not above: it takes a seventh of a second and some megabytes, and most servers have nowhere to send traces to.
    from legato.telemetry.traces import Traces

    return Traces(endpoint)


def create_hints(settings: Settings, database: Database, namespace: str) -> Hints:
    """Return what tells the other nodes of a database that something has happened; SQLite has none.

    Args:
        namespace: The same for all nodes of the database.

    Raises:
        ConfigurationError: `redis_url` cannot be read.
    """
    if database.kind == "sqlite":
        return MemoryHints()
    # Not above: each takes a tenth of a second and 20 MB.
    if settings.redis_url is not None:
        from legato.fanout.redis import RedisHints

        return RedisHints(settings.redis_url.get_secret_value(), namespace=namespace)
    from legato.fanout.notify import NotifyHints

    assert settings.database_url is not None
    return NotifyHints(settings.database_url, namespace=namespace, application_name=database.application_name)


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
                key = os.environ.get(table.api_key_env) or dotenv_values(settings.env_file).get(table.api_key_env)
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


def create_moderation(node: Node, declared: Sequence[DeclaredPolicy]) -> Moderation | None:
    """Return the policies of `[moderation]` and the bot's own; None where there is none.

    Raises:
        ConfigurationError: A policy is wrong, or a variable that it names is not set.
    """
    settings = node.settings
    if not settings.moderation and not declared:
        return None
    # Not above: most servers have no policy.
    from legato.policies.moderation.config import create_chains
    from legato.runs.judge import Judge
    from legato.runs.moderate import Moderation
    from legato.tools.threads import Turns

    # A bot's own function may never come back: what is looked through here always does.
    looks = Turns("policy-look", LOOKS_AT_ONCE).run

    def make_judge(where: str, name: str, table: JudgeSettings, lets_pass: bool) -> Judge:
        if table.model is not None:
            try:
                node.models.find(table.model)
            except InvalidRequest as error:
                raise ConfigurationError(f"{where}.model: {error.message}") from None
        return Judge(node, name, table, lets_pass)

    def server_of(where: str, table: ModerationsSettings) -> tuple[str, str | None]:
        key = table.api_key.get_secret_value() if table.api_key else None
        if table.api_key_env:
            key = os.environ.get(table.api_key_env) or dotenv_values(settings.env_file).get(table.api_key_env)
            if not key:
                raise ConfigurationError(f"{where}: {table.api_key_env} is set neither here nor in .env")
        if key is None and table.base_url is None and settings.openai_api_key is not None:
            key = settings.openai_api_key.get_secret_value()
        return table.base_url or settings.openai_base_url, key

    chains = create_chains(
        settings.moderation,
        declared,
        counts=node.metrics,
        in_thread=looks,
        in_turn=Turns("policy").run,
        make_judge=make_judge,
        server_of=server_of,
    )
    return Moderation(node, settings.moderation, chains, looks)


def create_mcp_server(name: str, table: McpServerSettings, settings: Settings) -> McpServer:
    """Return the source of tools that a `[mcp.NAME]` table describes.

    Raises:
        ConfigurationError: A value is wrong, or a variable that it names is not set.
    """

    def variable(setting: str, variable: str) -> str:
        value = os.environ.get(variable) or dotenv_values(settings.env_file).get(variable)
        if not value:
            raise ConfigurationError(f"mcp.{name}.{setting}: {variable} is set neither here nor in .env")
        return value

    headers = {key: value.get_secret_value() for key, value in table.headers.items()}
    if table.token_env is not None:
        headers["Authorization"] = f"Bearer {variable('token_env', table.token_env)}"
    env = {key: value.get_secret_value() for key, value in table.env.items()}
    env |= {key: variable("pass_env", key) for key in table.pass_env}
    return McpServer(
        McpServerConfig(
            name=name,
            command=table.command,
            args=table.args,
            env=env,
            cwd=None if table.cwd is None else str(table.cwd),
            url=table.url,
            headers=headers,
            allow=None if table.allow is None else frozenset(table.allow),
            needs_approval=table.needs_approval
            if isinstance(table.needs_approval, bool)
            else frozenset(table.needs_approval),
            idempotent=frozenset(table.idempotent),
            prefix=table.prefix,
            timeout_s=table.timeout_s,
            start_timeout_s=table.start_timeout_s,
            max_output_chars=table.max_output_chars,
            private_hosts=frozenset(settings.allowed_private_hosts),
        )
    )

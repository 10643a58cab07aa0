"""What is configured, in words: each model, where it is, and whether it can answer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from legato.adapters import EMBEDDED, OPENAI_URL, create_models, create_prices, default_model, price_names
from legato.core.money import usd_text
from legato.policies.prices import FREE, Rates
from legato.providers.weights import default_weights
from legato.settings import nearest

if TYPE_CHECKING:
    from legato.providers.base import Provider
    from legato.settings import Settings
    from legato.settings_models import ModelSettings

INSTEAD = (
    "OPENAI_API_KEY=…                    for OpenAI's models",
    "OPENAI_BASE_URL=http://host/v1      for another OpenAI-compatible server",
    "LEGATO_MODEL=/path/to/model.gguf    for a model file of your own",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """One configured model.

    Attributes:
        order: 1 for the model that answers, 2 and on for those to fail over to, 0 for those asked for by name alone.
        where: Address without credentials, or a file.
        base_url: Address of its server, or None where it runs here.
        has_key: Whether it is asked with an API key.
        context_tokens: Its context window, or None if unknown.
        missing: Why it cannot answer as things are, or None.
        mend: What to do about that.
        size_bytes: Of its file, where it runs here and the file is there.
    """

    name: str
    kind: str
    order: int
    where: str
    base_url: str | None
    has_key: bool
    context_tokens: int | None
    missing: str | None
    mend: str | None
    size_bytes: int | None


def describe_models(settings: Settings) -> list[ModelView]:
    """Return the configured models: those in the failover order first, then the others by name.

    Raises:
        ConfigurationError: One cannot be made from what is configured.
    """
    models = create_models(settings)
    files = {Path(word).stem: Path(word).expanduser() for word in settings.model if word.endswith(".gguf")}
    order = list(dict.fromkeys(models.order))
    names = [*order, *(name for name in models.names if name not in order)]
    return [
        _describe(models.find(name), settings, order.index(name) + 1 if name in order else 0, files.get(name))
        for name in names
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceView:
    """What is known of a model's price: in words, or None."""

    model: str
    price: str | None
    source: str | None


def describe_prices(settings: Settings) -> list[PriceView]:
    """Return the prices of the configured models as they are now, by name.

    Raises:
        ConfigurationError: A model cannot be made from what is configured.
    """
    models = create_models(settings)
    prices = create_prices(settings, models.providers)
    now = datetime.now(UTC)
    found = [(name, prices.price_of(name)) for name in models.names]
    return [
        PriceView(model=name, price=None, source=None)
        if price is None
        else PriceView(model=name, price=_price_words(price.rates(0, now)), source=price.source)
        for name, price in found
    ]


def stray_prices(settings: Settings) -> list[tuple[str, str | None]]:
    """Return names of `[prices]` that no configured model has, each with the nearest one that there is."""
    models = create_models(settings)
    known = list(dict.fromkeys(name for provider in models.providers for name in price_names(provider)))
    return [(name, nearest(name, known)) for name in settings.prices if name not in known]


def _price_words(rates: Rates) -> str:
    if rates == FREE:
        return "nothing"
    cached = "" if rates.cached_input == rates.input else f" (cached {usd_text(rates.cached_input)})"
    reasoning = "" if rates.reasoning == rates.output else f" (reasoning {usd_text(rates.reasoning)})"
    return f"{usd_text(rates.input)}{cached} in, {usd_text(rates.output)}{reasoning} out"


def needs_weights(settings: Settings) -> bool:
    """Whether a model that may answer is the default embedded one."""
    for word in settings.model or [default_model(settings)]:
        table = settings.models.get(word)
        if table is None and word == EMBEDDED:
            return True
        if table is not None and table.provider == "embedded" and table.path is None:
            return True
    return False


def without_credentials(url: str) -> str:
    """Return an address as it may be shown."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return "(no valid address)"


def short_path(path: Path) -> str:
    """Return a path with the home folder as `~`."""
    full, home = str(path.expanduser().absolute()), str(Path.home())
    return "~" + full.removeprefix(home) if home != "/" and full.startswith(home + "/") else full


def _describe(provider: Provider, settings: Settings, order: int, file: Path | None) -> ModelView:
    table = settings.models.get(provider.name)
    where, base_url, context_tokens = "in this process", None, provider.context_window
    has_key, missing, mend, size_bytes = False, None, None, None
    if provider.kind == "embedded":
        path = file or (table.path if table is not None else None)
        where, context_tokens, missing, mend = _embedded(path, settings, context_tokens)
        size_bytes = _size_of(path or default_weights(settings.models_dir))
    elif provider.kind == "openai":
        base_url = (table.base_url if table is not None else None) or settings.openai_base_url
        where = without_credentials(base_url)
        has_key = _has_key(table, settings)
        if not has_key and base_url.rstrip("/") == OPENAI_URL:
            missing, mend = "it has no key", "set OPENAI_API_KEY"
    return ModelView(
        name=provider.name,
        kind=provider.kind,
        order=order,
        where=where,
        base_url=base_url,
        has_key=has_key,
        context_tokens=context_tokens,
        missing=missing,
        mend=mend,
        size_bytes=size_bytes,
    )


def _size_of(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _embedded(
    path: Path | None, settings: Settings, context_tokens: int | None
) -> tuple[str, int | None, str | None, str | None]:
    """Return (where, context window, what is missing, how to mend it)."""
    from legato.providers import gguf
    from legato.providers.embedded import supported
    from legato.providers.weights import weights_present

    weights = path or default_weights(settings.models_dir)
    where = short_path(weights)
    if (why := supported()) is not None:
        return where, context_tokens, why.removeprefix("the embedded model cannot run here: ").partition(";")[0], None
    if path is None and not weights_present(settings.models_dir):
        return where, context_tokens, "its weights are not here yet", "run `legato models fetch`"
    try:
        trained = gguf.trained_context(weights)
    except OSError as error:
        return where, context_tokens, f"the file cannot be read ({(error.strerror or 'fault').lower()})", None
    except ValueError as error:
        return where, context_tokens, f"the file is {error}", None
    if trained and context_tokens:
        context_tokens = min(context_tokens, trained)
    return where, context_tokens, None, None


def _has_key(table: ModelSettings | None, settings: Settings) -> bool:
    if table is not None and (table.api_key is not None or (table.api_key_env and os.environ.get(table.api_key_env))):
        return True
    return settings.openai_api_key is not None and (table is None or table.base_url is None)

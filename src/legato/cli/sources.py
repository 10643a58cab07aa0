"""Where a setting's value came from."""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from legato.cli.describe import without_credentials

if TYPE_CHECKING:
    from legato.settings import Settings

_ALIASES: Final = {
    "openai_api_key": "OPENAI_API_KEY",
    "openai_base_url": "OPENAI_BASE_URL",
    "otlp_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT",
}
_ALWAYS: Final = ("model", "host", "port", "data_dir", "auth", "durability")
_URLS: Final = ("openai_base_url", "database_url", "otlp_endpoint", "redis_url")


def shown_settings(settings: Settings) -> list[tuple[str, str, str]]:
    """Return (name, value, source) of the settings that matter most, and of all that differ from their default.

    Keys are shown as `set`, tables of models by their names.
    """
    from dotenv import dotenv_values

    from legato.settings import CONFIG_FILE, ENV_FILE

    environment = {name.upper() for name in os.environ}
    in_env_file = {name.upper() for name in dotenv_values(ENV_FILE)} if ENV_FILE.is_file() else set()
    in_toml = set(tomllib.loads(CONFIG_FILE.read_text("utf-8"))) if CONFIG_FILE.is_file() else set()
    rows = []
    for name in sorted(type(settings).model_fields, key=lambda each: (each not in _ALWAYS, each)):
        variable = _ALIASES.get(name, f"LEGATO_{name.upper()}")
        if name not in settings.model_fields_set:
            source = "default"
        elif variable in environment:
            source = "environment"
        elif variable in in_env_file:
            source = ".env"
        elif name in in_toml:
            source = "legato.toml"
        else:
            source = "command line"
        if source != "default" or name in _ALWAYS:
            rows.append((name, _value(name, getattr(settings, name)), source))
    return rows


def _value(name: str, value: Any) -> str:
    if name == "openai_api_key":
        return "not set" if value is None else "set"
    if name in _URLS and value is not None:
        return without_credentials(value.get_secret_value() if isinstance(value, SecretStr) else value)
    if name in ("system_prompt", "fallback_reply") and value is not None:
        return f"{len(value)} characters"
    if isinstance(value, list | dict):
        return ", ".join(value) or ("chosen by what is configured" if name == "model" else "none")
    return str(value)

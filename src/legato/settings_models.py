"""Settings of what replies are made with: the tables `[models.NAME]` and `[mcp.NAME]` of legato.toml, and the folder of
models' weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr


def default_models_dir(environ: Mapping[str, str]) -> Path:
    """Return LEGATO_MODELS_DIR, else `legato/models` in XDG_CACHE_HOME, else in `~/.cache`."""
    if chosen := environ.get("LEGATO_MODELS_DIR"):
        return Path(chosen).expanduser()
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "legato" / "models"


class ModelSettings(BaseModel):
    """One `[models.NAME]` table of legato.toml."""

    model_config = ConfigDict(extra="forbid")

    provider: Literal["openai", "embedded", "scripted"] = Field(
        "openai", description="An OpenAI-compatible server, the embedded engine, or a deterministic model for tests."
    )
    model: str | None = Field(None, description="The name that the model's server knows it by; NAME by default.")
    base_url: str | None = Field(None, description="Address of an OpenAI-compatible server, up to `/v1`.")
    api_key: SecretStr | None = Field(None, description="Its key. Better: `api_key_env`.")
    api_key_env: str | None = Field(None, description="Environment variable that holds its key.")
    context_window: int | None = Field(None, ge=256, description="Tokens of input and output together.")
    prefill: bool = Field(False, description="Whether it goes on from an assistant message at the end.")
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = Field(
        None, description="What its server calls the limit of output tokens, where that is not found out by itself."
    )
    headers: dict[str, str] = Field(default_factory=dict, description="Further headers of each request.")
    proxy: str | None = Field(None, description="HTTP proxy; else HTTP(S)_PROXY and NO_PROXY are honoured.")
    path: Path | None = Field(None, description="A GGUF file, for the embedded engine.")
    script: dict[str, Any] = Field(default_factory=dict, description="For the scripted provider.")


class McpServerSettings(BaseModel):
    """One `[mcp.NAME]` table of legato.toml: a program or an address that tools come from."""

    model_config = ConfigDict(extra="forbid")

    command: str | None = Field(None, description="A program that talks MCP over its standard input and output.")
    args: list[str] = Field(default_factory=list, description="Its arguments.")
    env: dict[str, SecretStr] = Field(
        default_factory=dict, description="Variables that it gets beside PATH, HOME and a few others."
    )
    pass_env: list[str] = Field(
        default_factory=list, description="Names of Legato's own variables that it gets too, such as its key's."
    )
    cwd: Path | None = Field(None, description="Its folder, as seen from that of legato.toml, which is the default.")
    url: str | None = Field(None, description="Instead of a program, the address of a streamable HTTP server.")
    headers: dict[str, SecretStr] = Field(default_factory=dict, description="Further headers of each request to `url`.")
    token_env: str | None = Field(None, description="Environment variable that holds the bearer token for `url`.")
    allow: list[str] | None = Field(None, description="Tools that are used, by the server's names; all by default.")
    needs_approval: list[str] | bool = Field(
        False, description="Tools whose calls a person must agree to, by the server's names; `true` for all."
    )
    idempotent: list[str] = Field(
        default_factory=list, description="Tools whose calls may be run again when a server died in their midst."
    )
    prefix: bool = Field(
        False, description="Call its tools `NAME_tool` always, not only where two servers would share a name."
    )
    timeout_s: float = Field(30.0, gt=0, le=600, description="Longest time of a call.")
    start_timeout_s: float = Field(30.0, gt=0, le=600, description="Longest time until it lists its tools.")
    max_output_chars: int = Field(16_000, ge=200, description="Characters of a result that the model is told.")

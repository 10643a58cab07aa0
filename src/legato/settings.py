"""Everything that can be set, with its default, in one typed place.

Sources, the first that names a value wins: command-line options, environment (`LEGATO_…`), `.env`, `legato.toml`.
Each of the two files is the one in the working directory or, where there is none, the one beside the bot's file.
Unknown names are refused with the nearest known one. docs/reference/settings.md is made from this file.
"""

from __future__ import annotations

import difflib
import os
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from legato.core.errors import ConfigurationError
from legato.settings_access import AccountSettings, OidcSettings
from legato.settings_budgets import BudgetSettings, SpendingSettings
from legato.settings_models import McpServerSettings, ModelSettings, default_models_dir
from legato.settings_moderation import ModerationSettings
from legato.settings_prices import PriceSettings

CONFIG_FILE = Path("legato.toml")
ENV_FILE = Path(".env")
_config_file: ContextVar[Path] = ContextVar("legato_config_file", default=CONFIG_FILE)
"""What Settings are being read from: pydantic's sources are told nothing when they are made."""

CLIENT_VARIABLES = ("LEGATO_CHAT_URL", "LEGATO_CHAT_KEY")
"""Environment variables of `legato chat`: known, but no settings of the server."""

WordList = Annotated[list[str], NoDecode]


class Settings(BaseSettings):
    """The server's settings."""

    model_config = SettingsConfigDict(
        env_prefix="LEGATO_",
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        extra="ignore",
        populate_by_name=True,
        validate_default=True,
    )

    host: str = Field("localhost", description="Address to listen on; `localhost` is IPv4 and IPv6 loopback.")
    port: int = Field(3111, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    data_dir: Path = Field(Path("data"), description="Folder of the embedded database.")
    database_url: str | None = Field(
        None,
        description="`sqlite:///path`, or `postgresql://user:password@host:port/name` (PostgreSQL 14 or later, "
        "encoding UTF8) for any number of servers; by default a file in `data_dir`.",
    )
    database_pool: int = Field(
        4,
        ge=1,
        le=64,
        description="Connections of a server that read from PostgreSQL; twelve more write, wait and queue.",
    )
    redis_url: SecretStr | None = Field(
        None,
        description="`redis://user:password@host:port`, or `rediss://` over TLS: where servers of one PostgreSQL "
        "database tell each other that a reply has grown. By default PostgreSQL itself does. Nothing is kept there, "
        "and without it readers at other servers are a quarter of a second late.",
    )
    encryption_keys: SecretStr | None = Field(
        None,
        description="Encrypts what people say: `id:base64key` words between commas, the one in use first, or `@path` "
        "of a file that holds them. `legato keys encryption new` makes one. It cannot be turned off again.",
    )
    workers: int = Field(1, ge=1, le=64, description="Worker processes, each a node of its own; SQLite takes one.")
    reload: bool = Field(False, description="Start anew when a Python file, legato.toml or .env changes.")

    model: WordList = Field(
        default_factory=list,
        description="The model that answers, then those to fail over to, in order. By default the first that is "
        "configured: OpenAI's where OPENAI_API_KEY is set, else the embedded one.",
    )
    models: dict[str, ModelSettings] = Field(default_factory=dict, description="Tables `[models.NAME]` in legato.toml.")
    models_dir: Path = Field(
        default_factory=lambda: default_models_dir(os.environ),
        description="Folder of the embedded model's weights.",
    )
    openai_api_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("OPENAI_API_KEY", "openai_api_key"),
        description="Key of the upstream.",
    )
    openai_base_url: str = Field(
        "https://api.openai.com/v1",
        validation_alias=AliasChoices("OPENAI_BASE_URL", "openai_base_url"),
        description="Address of an OpenAI-compatible server.",
    )
    mcp: dict[str, McpServerSettings] = Field(default_factory=dict, description="Tables `[mcp.NAME]` in legato.toml.")
    allowed_private_hosts: WordList = Field(
        default_factory=list,
        description="Hosts that MCP servers and tools may reach although their addresses are private, such as "
        "`mcp.internal` or `localhost:8080`.",
    )
    moderation: ModerationSettings = Field(
        default_factory=ModerationSettings, description="Table `[moderation]` in legato.toml: what may be said."
    )
    max_tool_rounds: int = Field(
        8,
        ge=0,
        le=100,
        description="How often a model may call tools in one reply; then it has to answer without. 0: never.",
    )
    approval_timeout_s: float = Field(
        600.0, gt=0, le=600, description="How long a tool call waits for a person's approval; then it is refused."
    )
    system_prompt: str | None = Field(None, description="For conversations that have none of their own.")
    fallback_reply: str | None = Field(
        None, description="What is answered when every model failed; by default the error is reported."
    )
    titles: Literal["words", "model"] = Field(
        "model",
        description="`words`: a conversation is named by its first words. `model`: the model names it "
        "after the first reply (one more short call; never the embedded model).",
    )
    conversation_idle_h: float | None = Field(
        24.0,
        gt=0,
        le=876_000,
        description="Hours without a message after which a conversation is deleted, unless it is pinned or its "
        "retention is `keep`; `off`: never.",
    )

    audit_keep_days: int | None = Field(
        365,
        ge=1,
        le=36_500,
        description="Days after which an entry of the audit log is cut off; `off`: never. What is left stays "
        "verifiable.",
    )

    auth: Literal["none", "keys", "accounts"] = Field(
        "none",
        description="`none` serves loopback only. `keys`: whoever has a key. `accounts`: people too who have an "
        "account, and sign in with its password or at an issuer (`[oidc]`).",
    )
    accounts: AccountSettings = Field(
        default_factory=AccountSettings, description="Table `[accounts]` in legato.toml, or JSON."
    )
    oidc: OidcSettings | None = Field(None, description="Table `[oidc]` in legato.toml, or JSON.")
    allowed_origins: WordList = Field(
        default_factory=list, description="Origins whose pages may call the API, such as https://example.org."
    )
    allowed_hosts: WordList = Field(
        default_factory=list, description="Host names that the server answers to, beside loopback's."
    )
    rate_limit: str | None = Field(
        None,
        description="Most messages of one caller in a time, over all its sessions: `10/minute`, `100/hour`, several "
        "as `10/minute;200/day`, or `off`. By default `10/minute` with keys, `off` without. This and the three below "
        "hold over all servers of one PostgreSQL database together.",
    )
    session_rate_limit: str = Field(
        "off", description="The same for each session of a caller; only beside a `rate_limit`."
    )
    widget_rate_limit: str = Field("10/minute", description="Most messages of one visitor of a widget in a time.")
    widget_key_rate_limit: str = Field(
        "300/minute", description="Most messages of all visitors of one publishable key in a time."
    )
    trusted_proxies: WordList = Field(
        default_factory=list,
        description="Addresses and networks of reverse proxies whose `X-Forwarded-For` is believed; then `rate_limit` "
        "holds for each client address too (IPv6: each /64).",
    )

    prices: dict[str, PriceSettings] = Field(
        default_factory=dict,
        description='Tables `[prices."MODEL"]` in legato.toml, or JSON: what models cost. They come before the prices '
        "that are known by themselves.",
    )
    budgets: list[BudgetSettings] = Field(
        default_factory=list,
        description="Tables `[[budgets]]` in legato.toml, or JSON: what may be spent. `legato budgets` sets more.",
    )
    spending: SpendingSettings = Field(
        default_factory=SpendingSettings, description="Table `[spending]` in legato.toml, or JSON."
    )

    durability: Literal["power", "process"] = Field(
        "power",
        description="`power`: what is shown survives a power cut. `process`: it survives `kill -9`, on SQLite; "
        "PostgreSQL keeps it either way.",
    )
    drain_s: float = Field(20.0, ge=0, le=3600, description="How long SIGTERM waits for running replies.")
    lease_s: float = Field(
        5.0,
        ge=1,
        le=60,
        description="Among several servers on PostgreSQL: so long after the last sign of life of one, the others take "
        "its replies over. Longer than the database is ever away without a reason.",
    )
    storage_wait_s: float = Field(
        5.0, gt=0, description="How long a request waits for a database that takes no writes."
    )

    max_active_runs: int = Field(
        5000,
        ge=1,
        description="Replies being made at once, by all servers of one PostgreSQL database together; past it 503.",
    )
    max_waiting_turns: int = Field(16, ge=1, description="Turns waiting in one conversation; past it 429.")
    max_readers: int = Field(
        10_000,
        ge=1,
        description="Open streams of one process, whose sockets and memory it guards: four processes take four times "
        "as many; past it 503.",
    )
    max_body_bytes: int = Field(1_048_576, ge=1024, description="Largest request body; past it 413.")
    max_reply_bytes: int = Field(1_048_576, ge=1024, description="Longest reply; it ends with `length` there.")

    run_timeout_s: float = Field(600.0, gt=0, description="Longest duration of a reply.")
    first_token_timeout_s: float = Field(60.0, gt=0, description="Wait for a call's first token.")
    token_timeout_s: float = Field(30.0, gt=0, description="Wait between two tokens.")
    call_attempts: int = Field(3, ge=1, le=10, description="Calls of one model before the next is tried.")
    retry_base_s: float = Field(0.5, gt=0, description="Pause before the first retry; doubles, with jitter.")
    heartbeat_s: float = Field(10.0, gt=0, le=60, description="A comment is sent after so much silence.")
    send_timeout_s: float = Field(30.0, gt=0, description="A reader that takes nothing for so long is cut.")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is logged.")
    log_format: Literal["text", "json"] = Field("text", description="`json` for machines that read logs.")
    metrics_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="Bearer token that may read `/metrics` and nothing else, with keys; admins' keys may too.",
    )
    otlp_endpoint: str | None = Field(
        None,
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_ENDPOINT", "LEGATO_OTLP_ENDPOINT", "otlp_endpoint"),
        description="Where traces are sent, over OTLP/HTTP: `http://localhost:4318`. By default nowhere.",
    )

    _env_file: Path = PrivateAttr(ENV_FILE)

    @property
    def env_file(self) -> Path:
        """The `.env` that was read; it may not exist."""
        return self._env_file

    @field_validator(
        "model", "allowed_origins", "allowed_hosts", "allowed_private_hosts", "trusted_proxies", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return [word.strip() for word in value.split(",") if word.strip()]
        return value

    @field_validator("redis_url")
    @classmethod
    def _check_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("redis://", "rediss://")):
            # What it says instead is not repeated: it may be a password.
            raise ValueError("name redis://user:password@host:port, or rediss:// over TLS")
        return value

    @field_validator("conversation_idle_h", "audit_keep_days", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return None if value == "off" else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        in_file = InitSettingsSource(settings_cls, _read_toml(_config_file.get()))
        return init_settings, env_settings, dotenv_settings, in_file

    @property
    def uses_postgres(self) -> bool:
        """Whether `database_url` names a PostgreSQL database."""
        return (self.database_url or "").partition("://")[0] in ("postgresql", "postgres")

    @property
    def database_path(self) -> Path:
        """The SQLite file.

        Raises:
            ConfigurationError: `database_url` is not one of SQLite.
        """
        if self.database_url is None:
            return self.data_dir / "legato.db"
        scheme, _, rest = self.database_url.partition("://")
        if scheme != "sqlite" or not rest.startswith("/") or len(rest) < 2:
            raise ConfigurationError(
                f"database_url begins with {scheme!r}: name sqlite:///path/to/legato.db or "
                "postgresql://user:password@host:port/name"
            )
        return Path(rest[1:])


def load_settings(folder: Path | None = None, /, **overrides: Any) -> Settings:
    """Return the settings; `overrides` that are None are left to the other sources.

    Args:
        folder: Where legato.toml or .env is read if the working directory has none: that of the bot's file.

    Raises:
        ConfigurationError: A value is wrong, or a name is unknown; names each.
    """
    config_file, env_file = _found(CONFIG_FILE, folder), _found(ENV_FILE, folder)
    _refuse_unknown_environment(env_file)
    token = _config_file.set(config_file)
    try:
        given: dict[str, Any] = {name: value for name, value in overrides.items() if value is not None}
        settings = Settings(_env_file=env_file, **given)
    except ValidationError as error:
        raise ConfigurationError(
            "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg'].lower()}" for e in error.errors())
        ) from None
    except ValueError as error:
        raise ConfigurationError(f"{config_file} or {env_file}: {error}") from None
    finally:
        _config_file.reset(token)
    settings._env_file = env_file
    _refuse_unknown_toml(config_file)
    return settings


def _read_toml(path: Path) -> dict[str, Any]:
    """Return what stands in a legato.toml, if there is one; the programs it names start in its folder."""
    import tomllib

    if not path.is_file():
        return {}
    values = tomllib.loads(path.read_text("utf-8"))
    servers = values.get("mcp")
    if path.parent != Path() and isinstance(servers, dict):
        for server in servers.values():
            # What is of a wrong kind is refused where it is checked.
            if isinstance(server, dict) and "command" in server and isinstance(server.get("cwd", ""), str):
                server["cwd"] = str(path.parent / server.get("cwd", ""))
    return values


def _found(name: Path, folder: Path | None) -> Path:
    beside = name if folder is None else folder / name
    return beside if not name.is_file() and beside.is_file() else name


def nearest(name: str, known: list[str]) -> str | None:
    """Return the known name that `name` was probably meant to be, or None."""
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return found[0] if found else None


def _refuse_unknown_environment(env_file: Path) -> None:
    known = [f"LEGATO_{name}".upper() for name in Settings.model_fields] + list(CLIENT_VARIABLES)
    names = set(os.environ)
    if env_file.is_file():
        lines = env_file.read_text("utf-8", "replace").splitlines()
        names |= {line.split("=", 1)[0].strip().removeprefix("export ") for line in lines if "=" in line}
    for name in sorted(names):
        if name.startswith("LEGATO_") and name not in known and not name.startswith("LEGATO_TEST_"):
            raise ConfigurationError(_unknown(name, known))


def _refuse_unknown_toml(config_file: Path) -> None:
    known = list(Settings.model_fields)
    for name in _read_toml(config_file):
        if name not in known:
            raise ConfigurationError(f"{config_file}: {_unknown(name, known)}")


def _unknown(name: str, known: list[str]) -> str:
    close = nearest(name, known)
    return f"unknown setting {name}" + (f": did you mean {close}?" if close else "")

"""The settings: names, defaults and meanings of settings.Settings and of its `[models.NAME]` tables."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AliasChoices, BaseModel, SecretStr
from pydantic.fields import FieldInfo

from docs.from_code.markdown import DASH, code, table
from legato.settings import CLIENT_VARIABLES, Settings
from legato.settings_access import AccountSettings, OidcSettings
from legato.settings_models import ModelSettings
from legato.settings_moderation import (
    JudgeSettings,
    ModerationSettings,
    ModerationsSettings,
    PrivateDataSettings,
    RulesSettings,
)
from legato.settings_prices import PriceSettings

INTRODUCTION = """\
# Settings

A setting is looked for in four places; the first that names it wins: the command line (`legato serve --port 8080`),
the environment (`LEGATO_PORT=8080`), the file `.env` in the working directory (as in the environment), and
`legato.toml` in the working directory (`port = 8080`). The defaults of a [bot file](../configuration.md#a-bot-file)
come last. An unknown name is refused, with the nearest known one. `legato doctor` shows what is set and where it came
from.

Lists are written with commas in the environment (`LEGATO_MODEL=a,b`) and as lists in the file (`model = ["a", "b"]`).

"""
MODELS = """
## Models: `[models.NAME]`

Tables of `legato.toml`, one a model; `NAME` is what `model`, `LEGATO_MODEL` and the API call it. An unknown field is
refused. [Configuration](../configuration.md#models) has examples.

"""
PRICES = """
## Prices: `[prices."MODEL"]`

Tables of `legato.toml`, in US dollars for a million tokens; `MODEL` is a name of `[models]`, or the name that a model
has at its server. [Costs](../guides/costs.md) says more.

"""
ACCESS = """
## Accounts: `[accounts]`

With `LEGATO_AUTH=accounts`. The ends of sign-ins count for pages that came by a key too.
[Security](../security.md#accounts) says more.

"""
ISSUER = """
## An issuer: `[oidc]`

Where people sign in. [Security](../security.md#an-issuer) has an example.

"""
MODERATION = """
## Moderation: `[moderation]`

What may be said. [The guide](../guides/moderation.md) has examples.

"""
POLICIES = """
### Policies: `[[moderation.policies]]`

They are asked in their order. All have these fields:

"""
POLICY = """
A policy `type = "{kind}"`: {what}

"""
CLIENT = """
## The terminal client

`legato chat` takes {variables} from the environment; the key may stand in `.env` too.
"""
# Defaults that follow from the environment, in words.
_DEFAULTS = {"models_dir": "`legato/models` in `$XDG_CACHE_HOME`, else in `~/.cache`"}
# For fields that say nothing themselves.
_MEANINGS = {
    "log_level": "Least level of what is logged.",
    "log_format": "`text` for people, `json` for one JSON object a line.",
    "provider": "What serves it; `scripted` is for tests.",
    "max_tokens_field": "The request's field for `maxTokens`; by default what the server is known to take.",
}


def render() -> str:
    """Return the page."""
    return (
        INTRODUCTION
        + table(("name", "environment", "default", "values", "meaning"), _rows(Settings))
        + MODELS
        + table(("name", "default", "values", "meaning"), [(row[0], *row[2:]) for row in _rows(ModelSettings)])
        + PRICES
        + table(("name", "default", "values", "meaning"), [(row[0], *row[2:]) for row in _rows(PriceSettings)])
        + ACCESS
        + table(("name", "default", "values", "meaning"), [(row[0], *row[2:]) for row in _rows(AccountSettings)])
        + ISSUER
        + table(("name", "default", "values", "meaning"), [(row[0], *row[2:]) for row in _rows(OidcSettings)])
        + _moderation()
        + CLIENT.format(variables=" and ".join(code(name) for name in CLIENT_VARIABLES))
    )


def _moderation() -> str:
    """Return the tables of `[moderation]`."""
    common = ("name", "on", "text", "on_failure")
    head = ("name", "default", "values", "meaning")
    page = MODERATION + table(head, [(row[0], *row[2:]) for row in _rows(ModerationSettings)]) + POLICIES
    policies: tuple[type[BaseModel], ...] = (RulesSettings, PrivateDataSettings, ModerationsSettings, JudgeSettings)
    for place, model in enumerate(policies):
        rows = {row[0].strip("`"): (row[0], *row[2:]) for row in _rows(model)}
        if place == 0:
            page += table(head, [rows[name] for name in common])
        kind = get_args(model.model_fields["type"].annotation)[0]
        page += POLICY.format(kind=kind, what=model.model_fields["type"].description)
        page += table(head, [row for name, row in rows.items() if name not in (*common, "type")])
    return page


def _rows(model: type[BaseModel]) -> list[tuple[str, ...]]:
    return [
        (
            code(name),
            DASH if name == "models" else code(_variable(name, field)),
            _DEFAULTS.get(name) or _default(field),
            _values(field),
            field.description or _MEANINGS.get(name, ""),
        )
        for name, field in model.model_fields.items()
    ]


def _variable(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"LEGATO_{name.upper()}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if field.default_factory is not None:
        return ", ".join(code(each) for each in value) if value and isinstance(value, list) else "none"
    if value is None or isinstance(value, SecretStr):
        return DASH
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, float):
        return code(f"{value:g}")
    return code(value)


def _values(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(bound, name):,g}"
        for bound in field.metadata
        for kind, name, sign in ((Ge, "ge", "≥"), (Gt, "gt", ">"), (Le, "le", "≤"), (Lt, "lt", "<"))
        if isinstance(bound, kind)
    ]
    return ", ".join([_type(field.annotation), *bounds])


def _type(annotation: Any) -> str:
    inner = [each for each in get_args(annotation) if each is not NoneType]
    if get_origin(annotation) is Literal:
        return ", ".join(code(each) for each in inner)
    if get_origin(annotation) is list:
        return "list"
    if get_origin(annotation) is dict:
        return "table"
    if inner and (get_origin(annotation) is Union or NoneType in get_args(annotation)):
        return _type(inner[0])
    return {
        bool: "`true`, `false`",
        int: "whole number",
        float: "number",
        Decimal: "number",
        Path: "path",
        SecretStr: "secret",
    }.get(annotation, "text")

"""The settings: names, defaults and meanings of settings.Settings and of its `[models.NAME]` tables."""

from __future__ import annotations

from pathlib import Path
from types import NoneType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AliasChoices, BaseModel, SecretStr
from pydantic.fields import FieldInfo

from docs.from_code.markdown import DASH, code, table
from legato.settings import CLIENT_VARIABLES, ModelSettings, Settings

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
        + CLIENT.format(variables=" and ".join(code(name) for name in CLIENT_VARIABLES))
    )


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
    if field.default_factory is not None:
        return "none"
    value = field.default
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
    return {bool: "`true`, `false`", int: "whole number", float: "number", Path: "path", SecretStr: "secret"}.get(
        annotation, "text"
    )

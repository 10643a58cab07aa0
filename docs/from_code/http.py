"""The HTTP routes: what OpenAPI says, as tables."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

from docs.from_code.markdown import DASH, code, table
from legato.core.clock import SystemClock
from legato.http.api import create_api
from legato.policies.windows import MemoryWindows
from legato.runs.node import Node
from legato.settings import Settings
from legato.steps.builtin import built_in_steps
from legato.steps.registry import Registry
from legato.telemetry.metrics import Metrics

INTRODUCTION = """\
# HTTP

JSON in camelCase; times are milliseconds since 1970, unknown is `null`. A running server describes the same in
`GET /openapi.json`. Where a body is taken it must be `content-type: application/json`; an unknown field is refused.
[protocol.md](../protocol.md) tells how the streams are read, [errors.md](errors.md) what the codes mean.

With `LEGATO_AUTH=keys` every route wants `Authorization: Bearer lk_…`, or the cookie of a page that is signed in;
[security.md](../security.md#routes-and-roles) has the routes that are open to more, or to fewer.

"""
STATUSES = """
## Statuses of errors

"""
SHAPES = """
## Shapes

"""


def render() -> str:
    """Return the page."""
    document = openapi()
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, route in document["paths"].items()
        for method, operation in route.items()
    ]
    overview = [(f"[{code(name)}](#{_anchor(name)})", each["description"]) for name, each in operations]
    return (
        INTRODUCTION
        + table(("route", ""), overview)
        + "\n"
        + "\n".join(_section(name, operation) for name, operation in operations)
        + STATUSES
        + table(("status", "meaning"), sorted(_statuses(operations).items()))
        + SHAPES
        + "\n".join(_shape(name, schema) for name, schema in document["components"]["schemas"].items())
    )


def openapi() -> dict[str, Any]:
    """Return /openapi.json of a server with default settings."""
    defaults = {name: field.get_default(call_default_factory=True) for name, field in Settings.model_fields.items()}
    node = SimpleNamespace(
        settings=Settings.model_construct(**defaults),
        clock=SystemClock(),
        limits=None,
        visitor_limits=None,
        windows=MemoryWindows(SystemClock().monotonic_s),
        metrics=Metrics(),
        traces=None,
        erasing=SimpleNamespace(check=_refuse_nobody),
    )
    return asyncio.run(_get(cast(Node, node), "/openapi.json"))


async def _refuse_nobody(owner: str) -> None:
    pass


async def _get(node: Node, path: str) -> dict[str, Any]:
    sent: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
    }
    await create_api(node, Registry(built_in_steps().steps()))(scope, receive, send)
    return cast(dict[str, Any], json.loads(b"".join(sent)))


def _section(name: str, operation: dict[str, Any]) -> str:
    parts = [f"### {name}\n", operation["description"] + "\n"]
    rows = [
        (code(_header(each)), f"{each['in']}, {_type(each['schema'])}", each.get("description", ""))
        for each in operation.get("parameters", [])
    ]
    if rows:
        parts.append(table(("parameter", "", "meaning"), rows))
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        parts.append(f"Body: {'required' if operation['requestBody']['required'] else 'optional'}.\n")
        parts.append(table(("field", "type", "meaning"), _fields(schema)))
    answers = []
    errors = []
    for status, answer in operation["responses"].items():
        if int(status) >= 400:
            errors.append(status)
        else:
            answers.append((status, _answer(answer)))
    parts.append(table(("status", "answer"), [*answers, (", ".join(errors), "errors, [below](#statuses-of-errors)")]))
    return "\n".join(parts)


def _header(parameter: dict[str, Any]) -> str:
    name = str(parameter["name"])
    if parameter["in"] != "header":
        return name
    return "-".join("ID" if part == "id" else part.title() for part in name.split("-"))


def _answer(answer: dict[str, Any]) -> str:
    words = [] if answer["description"] == "Successful Response" else [answer["description"]]
    for kind, content in answer.get("content", {}).items():
        schema = content.get("schema", {})
        words.append(f"{code(kind)}: {_type(schema)}" if "$ref" in schema else code(kind))
    if headers := answer.get("headers"):
        words.append("Headers: " + ", ".join(code(name) for name in headers) + ".")
    return " ".join(words)


def _statuses(operations: list[tuple[str, dict[str, Any]]]) -> dict[str, str]:
    return {
        status: answer["description"]
        for _, operation in operations
        for status, answer in operation["responses"].items()
        if int(status) >= 400
    }


def _shape(name: str, schema: dict[str, Any]) -> str:
    words = schema.get("description", "").split("\n\n")[0]
    return "\n".join(
        [f"### {name}\n", *([words + "\n"] if words else []), table(("field", "type", ""), _fields(schema))]
    )


def _fields(schema: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    required = schema.get("required", [])
    strict = schema.get("additionalProperties") is False
    fields = schema["properties"].items()
    # What has to be given comes first; else in the order of the code.
    for name, field in sorted(fields, key=lambda each: each[0] not in required) if strict else fields:
        must = ", required" if strict and name in required else ""
        yield code(name), _type(field) + must, field.get("description", "")


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(code(json.dumps(each)) for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    words = [schema.get("type", DASH)]
    for name, sign in (("minimum", "≥"), ("maximum", "≤")):
        if name in schema:
            words.append(f"{sign} {schema[name]:,}".removesuffix(".0"))
    if "maxLength" in schema:
        words.append(f"at most {schema['maxLength']} characters")
    return ", ".join(words)


def _anchor(heading: str) -> str:
    return "".join(char if char.isalnum() or char in "-_" else "-" if char == " " else "" for char in heading.lower())

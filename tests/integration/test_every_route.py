"""Every route of /openapi.json, with what its description allows and with what it does not: no answer is a fault.

Values are drawn from the schemas by a seeded generator. Each answer has a status that the description names, and each
refusal is a problem with a known code.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from docs.from_code.errors import codes
from legato.app import Legato
from tests.asgi import AsgiAnswer
from tests.page_world import OWN, Site, open_site

DRAWS: Final = {"sqlite": 40, "postgresql": 12}
"""Requests to each route."""
ODD_TEXTS: Final = (
    *("", " ", "0", "-1", "null", "x" * 5000, "é" * 200, "\u202e", "😀", "a\x00b", "\ud800", "'; DROP TABLE run; --"),
    *("../../etc/passwd", "%2e%2e%2f", "{}", "[]", "\n", "1e999", "9" * 40, "NaN", "2026-01-01", "/c/1", "*", "%"),
)
ODD_VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    2**64,
    1.5,
    -0.0,
    1e308,
    [],
    {},
    [[]],
    {"a": None},
    "x",
    ["x"] * 300,
)
LEFT_OUT: Final = {"POST /chat/stream": "replies are made, which take their time: drawn seldom"}


@pytest.fixture(params=["sqlite", "postgresql"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    """A server with all that it can have, on each database, and an admin who may use it all."""
    settings: dict[str, Any] = {}
    if request.param == "postgresql":
        settings["database_url"] = request.getfixturevalue("postgres_url")
    async with open_site(tmp_path, bot=Legato(), auth="accounts", **settings) as opened:
        await opened.make_keys(ann="admin", ben="member")
        yield opened


class Draw:
    """Draws values of a schema, now and then one that is not of it."""

    def __init__(self, rng: random.Random, document: dict[str, Any], known: dict[str, list[str]]) -> None:
        self.rng, self.document, self.known = rng, document, known

    def value(self, schema: dict[str, Any], name: str = "", depth: int = 0) -> Any:
        if self.rng.random() < 0.1:
            return self.rng.choice([*ODD_VALUES, *ODD_TEXTS])
        if "$ref" in schema:
            found = self.document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            return self.value(found, name, depth)
        for word in ("anyOf", "oneOf", "allOf"):
            if word in schema:
                return self.value(self.rng.choice(schema[word]), name, depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self.rng.choice(schema["enum"])
        match schema.get("type"):
            case "string":
                return self.text(schema, name)
            case "integer":
                low = schema.get("minimum", schema.get("exclusiveMinimum", -5))
                return self.rng.choice([low, low + 1, schema.get("maximum", 100), self.rng.randint(-3, 1000)])
            case "number":
                return self.rng.choice([schema.get("minimum", 0), schema.get("maximum", 2), 0.5, -0.1, 1e9])
            case "boolean":
                return self.rng.random() < 0.5
            case "array":
                count = 0 if depth > 4 else self.rng.choice([0, 1, 2, 5])
                return [self.value(schema.get("items", {}), name, depth + 1) for _ in range(count)]
            case "object":
                return self.body(schema, depth + 1)
        return self.rng.choice(ODD_VALUES)

    def body(self, schema: dict[str, Any], depth: int = 0) -> Any:
        needed = schema.get("required", [])
        fields = {
            name: self.value(each, name, depth)
            for name, each in schema.get("properties", {}).items()
            if self.rng.random() < (0.95 if name in needed else 0.0 if depth > 6 else 0.4)
        }
        if self.rng.random() < 0.03:
            fields["surplus"] = 1
        return fields

    def text(self, schema: dict[str, Any], name: str) -> str:
        if name in self.known and self.rng.random() < 0.5:
            return self.rng.choice(self.known[name])
        if self.rng.random() < 0.4:
            return self.rng.choice(ODD_TEXTS)
        size = self.rng.choice([schema.get("minLength", 1), schema.get("maxLength", 20), 12])
        return "script: tokens=1" if name == "message" else "x" * min(size, 2000)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_no_route_answers_with_a_fault(site: Site) -> None:
    """Whatever it is asked: each answer is one that its description names, and none is 5xx."""
    key = site.keys["ann"]
    document = (await site.ask("GET", "/openapi.json", key=key)).json
    known = await _things(site, key)
    draw = Draw(random.Random(11), document, known)
    draws = DRAWS[site.node.database.kind]
    statuses: dict[int, int] = {}
    problems = codes()
    for path, operations in sorted(document["paths"].items()):
        for method, operation in operations.items():
            name = f"{method.upper()} {path}"
            for _ in range(draws // 5 if name in LEFT_OUT else draws):
                asked, body = _request(draw, path, operation)
                proof = {"key": key} if draw.rng.random() < 0.8 else {"key": site.keys["ben"]}
                answer = await site.ask(method.upper(), asked, body, origin=OWN, accept="application/json", **proof)
                _check(name, operation, answer, problems, (asked, body))
                statuses[answer.status] = statuses.get(answer.status, 0) + 1
    assert {200, 404, 422} <= set(statuses), statuses
    # It still serves.
    posted = await site.ask("POST", "/chat/stream", {"message": "script: tokens=1"}, key=key)
    assert (posted.status, b"event: complete" in posted.body) == (200, True)


def _request(draw: Draw, path: str, operation: dict[str, Any]) -> tuple[str, bytes | None]:
    query = []
    for each in operation.get("parameters", []):
        schema = each.get("schema", {})
        if each["in"] == "path":
            value = draw.text(schema, each["name"]) or "x"
            # What has no bytes in UTF-8 is sent as it would be by whoever does not care.
            path = path.replace(f"{{{each['name']}}}", quote(value.encode("utf-8", "surrogatepass"), safe=""))
        elif each["in"] == "query" and (each.get("required") or draw.rng.random() < 0.4):
            value = draw.value(schema, each["name"])
            words = value if isinstance(value, str) else json.dumps(value)
            query.append(f"{each['name']}={quote(words.encode('utf-8', 'surrogatepass'), safe='')}")
    body = None
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        drawn = draw.body(schema) if draw.rng.random() < 0.95 else draw.rng.choice(ODD_VALUES)
        body = json.dumps(drawn).encode()
    return path + ("?" + "&".join(query) if query else ""), body


def _check(
    name: str, operation: dict[str, Any], answer: AsgiAnswer, problems: Any, context: tuple[str, bytes | None]
) -> None:
    assert answer.status < 500, (name, context, answer.body[:500])
    # A path that is another one once it is decoded has another description.
    elsewhere = answer.status in (404, 405)
    assert elsewhere or str(answer.status) in operation["responses"], (name, answer.status, context, answer.body[:300])
    if answer.status >= 400:
        assert answer.headers["content-type"] == "application/problem+json", (name, context)
        assert answer.json["code"] in problems, (name, context)
        assert len(answer.body) < 8000, (name, context)


async def _things(site: Site, key: str) -> dict[str, list[str]]:
    """Return ids of what is there, by the names of parameters and fields that take them."""
    known: dict[str, list[str]] = {}
    for number in range(2):
        posted = await site.ask("POST", "/chat/stream", {"message": f"script: tokens=2 seed={number}"}, key=key)
        for name, head in (
            ("conversation", "conversation"),
            ("run", "run"),
            ("session", "session"),
            ("message", "message"),
        ):
            for field in (f"{name}_id", f"{name}Id"):
                known.setdefault(field, []).append(posted.headers[f"x-{head}-id"])
    known["leafId"] = known["parentId"] = known["message_id"]
    known["owner"] = ["ann", "ben"]
    known["confirm"] = ["nobody"]
    return known

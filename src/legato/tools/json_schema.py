"""JSON Schemas as models read them: without references where that is possible, without what only costs tokens.

Pure. Some OpenAI-compatible servers do not follow `$ref`, so local references are replaced by what they point to.
Schemas of MCP servers are checked by jsonschema-rs, offline and with bounded regular expressions: a schema from
elsewhere must neither fetch anything nor stop the event loop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeAlias

from legato.core.errors import BadSchema, InvalidArguments
from legato.tools.base import ArgumentCheck, Arguments

Schema: TypeAlias = dict[str, Any]

MAX_SCHEMA_BYTES = 65_536
_MOST_NODES = 4_000
_MOST_ERRORS = 8
_MOST_ERROR_CHARS = 200

_MAPS = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
"""Keywords that hold schemas by name; any name may stand there, `title` and `$ref` too."""
_VALUES = frozenset(("const", "default", "enum", "example", "examples"))
"""Keywords that hold values, not schemas."""
_ANNOTATIONS = frozenset(
    ("$comment", "default", "deprecated", "description", "examples", "readOnly", "title", "writeOnly")
)
_OPENAPI = "discriminator"
"""Says nothing to a model, and refers to definitions that are not there any more."""
_UNSUITED = frozenset(("$anchor", "$dynamicAnchor", "$dynamicRef", "$id", "$recursiveRef"))
_DEFINITIONS = ("$defs", "definitions")


class _NotInlined(Exception):
    """The schema stays as it is: it refers to something other than its own definitions, or would grow too large."""


def inlined(schema: Schema, *, titles: bool = True) -> Schema:
    """Return `schema` with its references to `$defs` replaced by what they point to.

    Definitions that contain themselves stay as references. A schema that cannot be inlined within bounds is returned
    as it is.

    Args:
        schema: A schema whose root is an object's.
        titles: Keep `title`; those that pydantic makes say nothing that the names do not.
    """
    definitions: Schema = {}
    for keyword in _DEFINITIONS:
        found = schema.get(keyword)
        if isinstance(found, dict):
            definitions |= {f"#/{keyword}/{name}": body for name, body in found.items()}
    try:
        return _Inliner(definitions, titles=titles).root(schema)
    except (_NotInlined, RecursionError):
        return schema


class _Inliner:
    def __init__(self, definitions: Schema, *, titles: bool) -> None:
        self._definitions = definitions
        self._titles = titles
        self._left = _MOST_NODES
        self._recursive = {name for name in definitions if self._reaches(name, name)}

    def root(self, schema: Schema) -> Schema:
        whole: Schema = self._schema({key: value for key, value in schema.items() if key not in _DEFINITIONS})
        kept: dict[str, Schema] = {}
        seen: set[str] = set()
        waiting = set(_references(whole))
        while waiting:
            reference = waiting.pop()
            seen.add(reference)
            _, keyword, name = reference.split("/", 2)
            body = kept.setdefault(keyword, {})[name] = self._schema(self._definitions[reference])
            waiting |= set(_references(body)) - seen
        return whole | kept

    def _schema(self, node: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise _NotInlined
        if not isinstance(node, dict):
            return node
        if not _UNSUITED.isdisjoint(node):
            raise _NotInlined
        left_out = (_OPENAPI,) if self._titles else (_OPENAPI, "title")
        made = {key: self._keyword(key, value) for key, value in node.items() if key not in left_out}
        reference = made.pop("$ref", None)
        if reference is None:
            return made
        if not isinstance(reference, str) or reference not in self._definitions:
            raise _NotInlined
        if reference in self._recursive:
            return {"$ref": reference, **made}
        target = self._schema(self._definitions[reference])
        if isinstance(target, dict) and _ANNOTATIONS.issuperset(made):
            return target | made
        return made | {"allOf": [target, *made.get("allOf", [])]}

    def _keyword(self, key: str, value: Any) -> Any:
        if key in _VALUES:
            return value
        if key in _MAPS and isinstance(value, dict):
            return {name: self._schema(body) for name, body in value.items()}
        if isinstance(value, list):
            return [self._schema(each) for each in value]
        return self._schema(value) if isinstance(value, dict) else value

    def _reaches(self, start: str, target: str) -> bool:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for reference in _references(self._definitions[waiting.pop()]):
                if reference == target:
                    return True
                if reference in self._definitions and reference not in seen:
                    seen.add(reference)
                    waiting.append(reference)
        return False


def _references(node: Any, *, names: bool = False) -> Iterator[str]:
    """Yield what the schemas in `node` refer to; with `names`, its keys are names, not keywords."""
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str) and not names:
            yield reference
        for key, value in node.items():
            if names or key not in _VALUES:
                yield from _references(value, names=not names and key in _MAPS)
    elif isinstance(node, list):
        for each in node:
            yield from _references(each)


def parameters_of(schema: Schema) -> Schema:
    """Return a server's schema of a tool's arguments as the model reads it.

    Raises:
        BadSchema: It is not of an object, or larger than MAX_SCHEMA_BYTES.
    """
    if schema.get("type", "object") != "object":
        raise BadSchema(f"its arguments are of type {schema.get('type')!r}, not an object")
    if len(json.dumps(schema)) > MAX_SCHEMA_BYTES:
        raise BadSchema(f"its schema has more than {MAX_SCHEMA_BYTES} bytes")
    plain = {key: value for key, value in schema.items() if key != "$schema"}
    made = inlined(plain)
    if len(json.dumps(made)) > MAX_SCHEMA_BYTES:
        made = plain
    # Models' servers refuse an object without properties.
    return {"type": "object", "properties": {}} | made


def check_against(schema: Schema) -> ArgumentCheck:
    """Return a check of arguments against a schema.

    Raises:
        BadSchema: It is no valid JSON Schema, or refers to another document.
    """
    import jsonschema_rs

    try:
        validator = jsonschema_rs.validator_for(schema, offline=True, mask="the value")
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise BadSchema(f"its schema is not valid: {str(error).splitlines()[0][:_MOST_ERROR_CHARS]}") from None

    def check(arguments: Arguments) -> Arguments:
        errors = [
            ".".join(map(str, error.instance_path)) + (": " if error.instance_path else "") + error.message
            for _, error in zip(range(_MOST_ERRORS), validator.iter_errors(arguments), strict=False)
        ]
        if errors:
            raise InvalidArguments("invalid arguments: " + "; ".join(each[:_MOST_ERROR_CHARS] for each in errors))
        return arguments

    return check

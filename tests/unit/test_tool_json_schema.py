"""JSON Schemas of tools: references put in place, a server's own schemas checked and used offline."""

from __future__ import annotations

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from legato.core.errors import BadSchema, InvalidArguments
from legato.tools.json_schema import check_against, inlined, parameters_of

if TYPE_CHECKING:
    pass


DEFS: dict[str, Any] = {
    "A": {"type": "object", "title": "A", "properties": {"b": {"$ref": "#/$defs/B"}}},
    "B": {"type": "integer", "description": "its own"},
}


@pytest.mark.parametrize(
    ("schema", "made"),
    [
        ({"properties": {"a": {"$ref": "#/$defs/B"}}}, {"properties": {"a": DEFS["B"]}}),
        (
            {"properties": {"a": {"$ref": "#/$defs/B", "description": "here"}}},
            {"properties": {"a": {"type": "integer", "description": "here"}}},
        ),
        (
            {"properties": {"a": {"$ref": "#/$defs/B", "minimum": 1}}},
            {"properties": {"a": {"minimum": 1, "allOf": [DEFS["B"]]}}},
        ),
        (
            {"properties": {"a": {"$ref": "#/$defs/A"}}},
            {"properties": {"a": {"type": "object", "title": "A", "properties": {"b": DEFS["B"]}}}},
        ),
        # A property may be named as a keyword is, and a value may look like a reference.
        ({"properties": {"$ref": {"$ref": "#/$defs/B"}}}, {"properties": {"$ref": DEFS["B"]}}),
        (
            {"properties": {"a": {"default": {"$ref": "#/$defs/B"}}}},
            {"properties": {"a": {"default": {"$ref": "#/$defs/B"}}}},
        ),
        (
            {"properties": {"default": {"$ref": "#/$defs/B"}, "title": {"$ref": "#/$defs/B"}}},
            {"properties": {"default": DEFS["B"], "title": DEFS["B"]}},
        ),
        ({"anyOf": [{"$ref": "#/$defs/B"}, True]}, {"anyOf": [DEFS["B"], True]}),
        # OpenAPI's, which refers to definitions by name.
        (
            {"oneOf": [{"$ref": "#/$defs/B"}], "discriminator": {"mapping": {"b": "#/$defs/B"}}},
            {"oneOf": [DEFS["B"]]},
        ),
        ({"properties": {"discriminator": {"$ref": "#/$defs/B"}}}, {"properties": {"discriminator": DEFS["B"]}}),
    ],
)
def test_references_are_replaced_by_what_they_name(schema: dict[str, Any], made: dict[str, Any]) -> None:
    """Upstreams that follow no references read the same schema."""
    assert inlined(schema | {"$defs": DEFS}) == made


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"$ref": "#/properties/b"}, "b": {}}, "$defs": DEFS},
        {"properties": {"a": {"$ref": "https://elsewhere.example/schema"}}},
        {"properties": {"a": {"$ref": "#/$defs/Absent"}}, "$defs": DEFS},
        {"properties": {"a": {"$ref": 7}}, "$defs": DEFS},
        {"$id": "https://elsewhere.example/", "properties": {"a": {"$ref": "#/$defs/B"}}, "$defs": DEFS},
        # Doubles with every step: 2^20 copies.
        {
            "properties": {"a": {"$ref": "#/$defs/0"}},
            "$defs": {
                str(at): {"anyOf": [{"$ref": f"#/$defs/{at + 1}"}, {"$ref": f"#/$defs/{at + 1}"}]} for at in range(20)
            }
            | {"20": {"type": "null"}},
        },
    ],
)
def test_what_cannot_be_inlined_stays(schema: dict[str, Any]) -> None:
    """A schema that refers elsewhere, or would grow without end, is left as it is."""
    assert inlined(schema) == schema


def test_inlined_recursion_keeps_what_it_needs() -> None:
    """Of the definitions, those stay that contain themselves, and what they need is written out in them."""
    schema = {
        "properties": {"a": {"$ref": "#/$defs/T"}},
        "$defs": DEFS | {"T": {"properties": {"t": {"$ref": "#/$defs/T"}, "b": {"$ref": "#/$defs/B"}}}},
    }
    assert inlined(schema) == {
        "properties": {"a": {"$ref": "#/$defs/T"}},
        "$defs": {"T": {"properties": {"t": {"$ref": "#/$defs/T"}, "b": DEFS["B"]}}},
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "objekt"},
        {"type": "array"},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/Absent"}}},
        {"type": "object", "properties": {"a": {"pattern": "("}}},
        {"type": "object", "properties": {"a": {"enum": ["x" * 70_000]}}},
    ],
)
def test_a_servers_bad_schema_is_refused(schema: dict[str, Any]) -> None:
    """A schema that cannot check anything, fetches something or fills the context is an error, not a crash."""
    with pytest.raises(BadSchema):
        check_against(parameters_of(schema))


def test_a_servers_schema_fetches_nothing(tmp_path: Path) -> None:
    """A reference to another document is an error, although that document is there."""
    (tmp_path / "x.json").write_text('{"type": "integer"}')

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            asked.append(self.path)

    asked: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path))) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        for base in (f"http://127.0.0.1:{site.server_port}", tmp_path.as_uri()):
            with pytest.raises(BadSchema):
                check_against({"type": "object", "properties": {"a": {"$ref": f"{base}/x.json"}}})
        site.shutdown()
    assert asked == []


def test_a_servers_schema_checks_arguments() -> None:
    """Each wrong argument is named, values are not repeated, and a slow pattern stops nothing."""
    check = check_against(
        {
            "type": "object",
            "properties": {"n": {"type": "integer"}, "s": {"type": "string", "pattern": "^(a+)+$"}},
            "required": ["n"],
            "additionalProperties": False,
        }
    )
    assert check({"n": 1, "s": "aa"}) == {"n": 1, "s": "aa"}
    with pytest.raises(InvalidArguments) as caught:
        check({"n": "secret value", "s": "a" * 60 + "!", "more": 1})
    assert 'n: the value is not of type "integer"' in caught.value.message
    assert "more" in caught.value.message
    assert "secret value" not in caught.value.message
    with pytest.raises(InvalidArguments, match='"n" is a required property'):
        check({})


def test_an_object_without_properties_gets_some() -> None:
    """Servers of models refuse an object that names no properties."""
    assert parameters_of({"type": "object"}) == {"type": "object", "properties": {}}

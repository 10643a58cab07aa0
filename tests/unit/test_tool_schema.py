"""Tools from functions: what the model reads of them, and which arguments they take."""

from __future__ import annotations

import dataclasses
import enum
import json
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from legato.core.errors import InvalidArguments
from legato.tools.schema import tool_from

if TYPE_CHECKING:
    from legato.core.principal import Principal as Unknown


class Unit(enum.Enum):
    CELSIUS = "C"
    FAHRENHEIT = "F"


@dataclasses.dataclass
class Place:
    """Where it is."""

    city: str
    country: str = "DE"


class Filters(BaseModel):
    tags: list[str] = []
    year: int | None = Field(None, ge=2000, description="Year of publication.")


class Range(TypedDict, total=False):
    low: int
    high: int


class Node(BaseModel):
    name: str
    children: list[Node] = []


class Holder:
    """Stands for the context of a step."""


async def everything(
    query: str,
    place: Place,
    unit: Unit = Unit.CELSIUS,
    mode: Literal["fast", "deep"] = "fast",
    limit: Annotated[int, Field(ge=1, le=50)] = 3,
    filters: Filters | None = None,
    range: Optional[Range] = None,  # noqa: UP045 - people write it so
    labels: dict[str, list[float]] = {},  # noqa: B006
    since: date | None = None,
    schema: bool = False,
    *,
    ctx: Unknown,
) -> dict[str, Any]:
    """Search the weather.

    It knows a lot.

    Args:
        query: What to look for,
            over two lines.
        place: The place.
        limit (int): Most results.
        labels: Weights by name.

    Returns:
        Something.
    """
    return {name: value for name, value in locals().items() if name != "ctx"} | {"given": ctx}


def test_a_function_becomes_a_schema() -> None:
    """Types, enums, defaults, bounds and descriptions of a function are what the model is told; the context is not."""
    tool = tool_from(everything)
    assert tool.name == "everything"
    assert tool.description == "Search the weather.\n\nIt knows a lot."
    place = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "country": {"type": "string", "default": "DE"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    filters = {
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": {"type": "string"}, "default": []},
            "year": {
                "anyOf": [{"type": "integer", "minimum": 2000}, {"type": "null"}],
                "default": None,
                "description": "Year of publication.",
            },
        },
    }
    low_high = {
        "type": "object",
        "properties": {"low": {"type": "integer"}, "high": {"type": "integer"}},
        "additionalProperties": False,
    }
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "What to look for,\nover two lines."},
            "place": place | {"description": "The place."},
            "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
            "mode": {"type": "string", "enum": ["fast", "deep"], "default": "fast"},
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": 50,
                "default": 3,
                "description": "Most results.",
            },
            "filters": {"anyOf": [filters, {"type": "null"}], "default": None},
            "range": {"anyOf": [low_high, {"type": "null"}], "default": None},
            "labels": {
                "type": "object",
                "additionalProperties": {"type": "array", "items": {"type": "number"}},
                "default": {},
                "description": "Weights by name.",
            },
            "since": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}], "default": None},
            "schema": {"type": "boolean", "default": False},
        },
        "required": ["query", "place"],
        "additionalProperties": False,
    }
    json.dumps(tool.definition())
    assert tool.definition()["function"]["parameters"] is tool.parameters


async def test_arguments_become_the_types_that_the_function_names() -> None:
    """A body gets enums, dates, dataclasses and models, its own defaults, and the context."""
    tool = tool_from(everything)
    given = tool.check(
        {
            "query": "rain",
            "place": {"city": "Kiel"},
            "unit": "F",
            "filters": {"year": 2020},
            "range": {"low": 1},
            "since": "2026-01-02",
            "limit": "7",
        }
    )
    assert await tool.body(given, "the context") == {
        "query": "rain",
        "place": Place(city="Kiel"),
        "unit": Unit.FAHRENHEIT,
        "mode": "fast",
        "limit": 7,
        "filters": Filters(year=2020),
        "range": {"low": 1},
        "labels": {},
        "since": date(2026, 1, 2),
        "schema": False,
        "given": "the context",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"place": {"city": "Kiel"}}, "query: field required"),
        ({"query": 1, "place": {"city": "Kiel"}}, "query: input should be a valid string"),
        (
            {"query": "x", "place": {"town": "Kiel"}},
            "place.city: field required; place.town: there is no such argument",
        ),
        ({"query": "x", "place": {"city": "Kiel"}, "limit": 99}, "limit: input should be less than or equal to 50"),
        ({"query": "x", "place": {"city": "Kiel"}, "limit": "many"}, "limit: input should be a valid integer"),
        ({"query": "x", "place": {"city": "Kiel"}, "unit": "K"}, "unit: input should be 'C' or 'F'"),
        (
            {"query": "x", "place": {"city": "Kiel"}, "limt": 1},
            "limt: there is no such argument (the arguments are: query",
        ),
        ({"query": "x", "place": {"city": "Kiel"}, "ctx": 1}, "ctx: there is no such argument"),
    ],
)
def test_wrong_arguments_are_told_by_name(arguments: dict[str, Any], said: str) -> None:
    """The model reads which argument is wrong and what would be right; the context is no argument."""
    with pytest.raises(InvalidArguments) as caught:
        tool_from(everything).check(arguments)
    assert said in caught.value.message


async def transfer(amount: float, to: Annotated[str, Field(alias="from")] = "") -> float:
    """Transfer."""
    return amount


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"amount": "NaN"}, "amount: input should be a finite number"),
        ({"amount": "-inf"}, "amount: input should be a finite number"),
        ({"amount": 1, "to": "x"}, "to: there is no such argument (the arguments are: amount, from)"),
    ],
)
def test_arguments_are_what_the_schema_says(arguments: dict[str, Any], said: str) -> None:
    """A number is one that can be compared, or no rule on it would hold; names are those that the model reads."""
    with pytest.raises(InvalidArguments) as caught:
        tool_from(transfer).check(arguments)
    assert said in caught.value.message


async def test_a_default_is_nobody_elses() -> None:
    """A call that changes its default changes no other call's."""

    def collect(item: str, into: list[str] = []) -> list[str]:  # noqa: B006
        """Collect."""
        into.append(item)
        return into

    tool = tool_from(collect)
    assert await tool.body(tool.check({"item": "a"}), None) == ["a"]
    assert await tool.body(tool.check({"item": "b"}), None) == ["b"]


GOOGLE = """Search.

Args:
    query: The words.
    limit: Most results.
"""
NUMPY = """Search.

Parameters
----------
query : str
    The words.
limit : int, optional
    Most results.
"""
SPHINX = """Search.

:param query: The words.
:param int limit: Most results.
:returns: Passages.
"""


@pytest.mark.parametrize("text", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_arguments_are_described_by_every_common_form_of_docstring(text: str) -> None:
    """Google's, NumPy's and Sphinx's docstrings give the same words."""

    def search(query: str, limit: int = 3) -> None: ...

    search.__doc__ = text
    tool = tool_from(search)
    assert tool.description == "Search."
    properties = tool.parameters["properties"]
    assert properties["query"] == {"type": "string", "description": "The words."}
    assert properties["limit"] == {"type": "integer", "default": 3, "description": "Most results."}


def test_a_field_of_ones_own_wins_over_the_docstring() -> None:
    """What stands in the annotation is meant for the model; the docstring fills in."""

    def search(query: Annotated[str, Field(description="Mine.", min_length=2)]) -> None:
        """Search.

        Args:
            query: The docstring's.
        """

    assert tool_from(search).parameters["properties"]["query"] == {
        "type": "string",
        "description": "Mine.",
        "minLength": 2,
    }


def test_a_type_within_itself_keeps_its_reference() -> None:
    """What cannot be written out is left as a definition."""

    def walk(root: Node) -> None:
        """Walk."""

    parameters = tool_from(walk).parameters
    assert parameters["properties"]["root"] == {"$ref": "#/$defs/Node"}
    assert set(parameters["$defs"]) == {"Node"}
    assert tool_from(walk).check({"root": {"name": "a", "children": [{"name": "b"}]}})["root"].children[0].name == "b"


async def test_a_context_is_found_by_its_type() -> None:
    """A parameter of the context's type is left out whatever its name."""

    def who(holder: Holder) -> object:
        """Who."""
        return holder

    tool = tool_from(who, context_types=(Holder,))
    assert tool.parameters == {"type": "object", "properties": {}, "additionalProperties": False}
    holder = Holder()
    assert await tool.body(tool.check({}), holder) is holder


class Desk:
    """Holds a method that is a tool."""

    async def ring(self, times: int) -> str:
        """Ring."""
        return "r" * times


async def test_a_method_is_a_tool() -> None:
    """A bound method is taken as it is."""
    tool = tool_from(Desk().ring)
    assert await tool.body(tool.check({"times": 3}), None) == "rrr"

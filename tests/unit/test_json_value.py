"""What may be kept as state: JSON, exactly; anything else is refused with its place."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import uuid
from collections import OrderedDict, defaultdict, namedtuple
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.core.errors import InvalidValue, ValueTooLarge
from legato.core.json_value import (
    MAX_DEPTH,
    MAX_INT,
    MAX_VALUE_BYTES,
    MIN_INT,
    decode_json,
    encode_json,
    fresh_copy,
    json_copy,
    parse_json,
    path_text,
)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
scalars = (
    st.none() | st.booleans() | st.integers(MIN_INT, MAX_INT) | st.floats(allow_nan=False, allow_infinity=False) | texts
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))


class Colour(enum.StrEnum):
    RED = "red"


Point = namedtuple("Point", "x y")


def nested(levels: int) -> Any:
    """Return 1 in so many lists."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@given(values)
def test_a_value_is_read_back_as_it_was_set(value: Any) -> None:
    """Every kind and digit, -0.0 and the order of members; 1 stays an int and 1.0 a float."""
    again = decode_json(encode_json(json_copy(value)))
    assert repr(again) == repr(value)
    assert repr(parse_json(json.dumps(value))) == repr(value)
    assert repr(fresh_copy(value)) == repr(value)


def test_a_copy_shares_nothing_that_can_change() -> None:
    """Lists and objects of every level are new ones."""
    value: Any = {"a": [{"b": []}]}
    for copied in (json_copy(value), fresh_copy(value)):
        copied["a"][0]["b"].append(1)
        copied["a"].append(2)
        assert value == {"a": [{"b": []}]}


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ((1, 2), "give a list"),
        (Point(1, 2), "give a list"),
        ({1}, "give a sorted list"),
        (frozenset(), "give a sorted list"),
        (b"x", "base64"),
        (bytearray(), "base64"),
        (datetime.datetime(2026, 1, 1), "isoformat"),
        (datetime.date(2026, 1, 1), "isoformat"),
        (decimal.Decimal("1.5"), "give a float"),
        (uuid.UUID(int=1), "give its text"),
        (Colour.RED, "give a plain str"),
        (OrderedDict(), "give a plain dict"),
        (defaultdict(int), "give a plain dict"),
        (1j, "a number"),
        pytest.param(object(), "give null", id="an object"),
        (float("nan"), "is nan"),
        (float("inf"), "is inf"),
        (float("-inf"), "is -inf"),
        (MAX_INT + 1, "64 bits"),
        (MIN_INT - 1, "64 bits"),
        ("a\x00b", "NUL"),
        ("\ud83d", "surrogate"),
        ({1: 2}, "name is of type int"),
        ({None: 2}, "name is of type NoneType"),
        ({"\x00": 2}, "name holds a NUL"),
        ({"\udfff": 2}, "name holds half"),
    ],
    ids=lambda each: ascii(each)[:30] if not isinstance(each, str) else None,
)
def test_what_is_not_json_is_refused_with_its_place(value: Any, advice: str) -> None:
    """Alone, in a list and in an object; the message says where it stands and what would be right."""
    for whole, place in ((value, "the value"), ([0, value], "1"), ({"a": {"b": [value]}}, "a.b.0")):
        with pytest.raises(InvalidValue) as caught:
            json_copy(whole)
        assert caught.value.message.startswith(f"{place} ")
        assert advice in caught.value.message
        caught.value.message.encode()


def test_depth_is_bounded() -> None:
    """MAX_DEPTH levels and no more, a value that holds itself too, and text that spells a deeper one."""
    assert json_copy(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    endless: list[Any] = []
    endless.append(endless)
    for value in (nested(MAX_DEPTH + 1), endless):
        with pytest.raises(ValueTooLarge, match="64 levels"):
            json_copy(value)
    for levels in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(ValueTooLarge, match="64 levels"):
            parse_json("[" * levels + "]" * levels)


@pytest.mark.parametrize(
    "value",
    [
        "x" * (MAX_VALUE_BYTES - 2),
        "é" * (MAX_VALUE_BYTES // 2 - 1),
        [1] * (MAX_VALUE_BYTES // 2 - 1),
        {"a": "x" * (MAX_VALUE_BYTES - 8)},
        [""] * ((MAX_VALUE_BYTES - 1) // 3),
        [[]] * ((MAX_VALUE_BYTES - 1) // 3),
    ],
    ids=["text", "two-byte text", "ints", "member", "empty texts", "empty lists"],
)
def test_length_is_bounded(value: Any) -> None:
    """What just fits is taken, an item more is not."""
    assert len(encode_json(json_copy(value)).encode()) > MAX_VALUE_BYTES - 4
    more = value | {"b": "xy"} if isinstance(value, dict) else value + value[-2:]
    with pytest.raises(ValueTooLarge, match="1048576"):
        encode_json(json_copy(more))


def test_a_small_value_that_is_endless_as_json_is_refused_soon() -> None:
    """Sixty lists, each twice in the next, would be 2**60 texts."""
    value: list[Any] = [""]
    for _ in range(60):
        value = [value, value]
    with pytest.raises(ValueTooLarge):
        json_copy(value)


@pytest.mark.parametrize(
    "text", ["", "hello", "NaN", "{'a': 1}", "[1,]", '"\\ud800"', "1e999", "\x00", "[1] 2", "\ud800"]
)
def test_text_that_is_not_json_is_refused(text: str) -> None:
    """Python's own spellings of JSON too."""
    with pytest.raises(InvalidValue):
        parse_json(text)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ((), "the whole value"),
        (("a", 0, "b"), "a.0.b"),
        (("a.b", 1), "['a.b', 1]"),
        (("",), "['']"),
        (("\x1b[31m",), "'\\x1b[31m'"),
        (("x" * 200,), f"'{'x' * 80}'"),
    ],
)
def test_a_path_is_shown_as_it_is_written(path: tuple[str | int, ...], shown: str) -> None:
    """With dots where that is clear; nothing in it can steer a terminal."""
    assert path_text(path) == shown

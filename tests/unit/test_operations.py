"""What an update does to a value: against a plain model, and case by case."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from legato.core import operations as op
from legato.core.errors import InvalidValue, OperationMisfit, ValueTooLarge
from legato.core.json_value import MAX_DEPTH, MAX_INT, MIN_INT
from legato.core.operations import MISSING, Change, Operation, apply_operations

Part = str | int
Step = tuple[str, list[Part], Any]
"""An operation as the model has it: its name, its path, and what it brings."""

names = st.sampled_from(["a", "b", "a.b", "0", "1", ""])
numbers = st.sampled_from([0, 1, -3, 2.5, -0.5, 1e308, MAX_INT, MIN_INT])
leaves = st.none() | st.booleans() | numbers | st.sampled_from(["", "x"])
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
paths = st.lists(names | st.integers(0, 3), max_size=4)
steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("set"), paths, values),
    st.tuples(st.just("merge"), paths, st.dictionaries(names, values, max_size=2)),
    st.tuples(st.sampled_from(["increment", "decrement"]), paths, numbers),
    st.tuples(st.just("append"), paths, st.lists(values, min_size=1, max_size=2)),
    st.tuples(st.just("remove"), paths.filter(bool), st.none()),
)


class Refused(Exception):
    """The model says that it cannot be done."""


def built(step: Step) -> Operation:
    """Return the operation that a step of the model stands for."""
    name, path, operand = step
    if name == "remove":
        return op.remove(path)
    make: Callable[..., Operation] = getattr(op, name)
    return make(path, *operand) if name == "append" else make(path, operand)


def model(root: dict[str, Any], step: Step) -> Change:
    """Do a step to `root["value"]`, in place; a plain walk from the outside to the inside."""
    name, path, operand = step
    holder: Any = root
    at: Any = "value"
    for part in path:
        if isinstance(holder, dict) and at not in holder:
            if name == "remove" or isinstance(part, int):
                raise Refused
            holder[at] = {}
        holder = holder[at]
        if isinstance(holder, dict) and isinstance(part, str):
            at = part
        elif isinstance(holder, list) and str(part) in map(str, range(len(holder))):
            at = int(part)
        else:
            raise Refused
    there = not isinstance(holder, dict) or at in holder
    old = copy.deepcopy(holder[at]) if there else None
    if name == "remove":
        if not there:
            raise Refused
        del holder[at]
        return Change(old, None)
    if name == "set":
        new = operand
    elif name == "merge":
        if there and not isinstance(old, dict):
            raise Refused
        new = {**(old or {}), **operand}
    elif name == "append":
        if there and not isinstance(old, list):
            raise Refused
        new = (old or []) + operand
    else:
        if there and (isinstance(old, bool) or not isinstance(old, int | float)):
            raise Refused
        if isinstance(old, int) and isinstance(operand, float):
            raise Refused
        new = (old if there else 0) + (operand if name == "increment" else -operand)
        if isinstance(new, int) and not MIN_INT <= new <= MAX_INT:
            raise Refused
        if isinstance(new, float) and not math.isfinite(new):
            raise Refused
    holder[at] = copy.deepcopy(new)
    return Change(old, copy.deepcopy(new))


@settings(max_examples=400)
@given(values | st.just(MISSING), st.lists(steps, min_size=1, max_size=4))
@example({"a": [1, {"b": 2}]}, [("increment", ["a", "1", "b"], 1), ("remove", ["a", 0], None)])
@example(MISSING, [("increment", ["a", "0"], 2.5), ("decrement", ["a", "0"], 1), ("append", ["b"], [1])])
@example({"a": MAX_INT}, [("increment", ["a"], 1)])
@example({"a": 1e308}, [("increment", ["a"], 1e308)])
def test_operations_do_what_a_plain_walk_does(value: Any, given_steps: list[Step]) -> None:
    """The same value, the same answers, the same kinds of number, refused where it refuses; nothing given changes."""
    before = copy.deepcopy(value) if value is not MISSING else MISSING
    root = {} if value is MISSING else {"value": copy.deepcopy(value)}
    done = [built(step) for step in given_steps]
    expected: list[Change] | None = []
    try:
        for step in given_steps:
            assert expected is not None
            expected.append(model(root, step))
    except Refused:
        expected = None
    if expected is None:
        with pytest.raises(OperationMisfit):
            apply_operations(value, done)
    else:
        new, changes = apply_operations(value, done)
        # As text: there 1, 1.0 and true differ, and so does the order of members.
        assert json.dumps(new) == json.dumps(root["value"])
        assert json.dumps(changes) == json.dumps(expected)
    assert value is before is MISSING or json.dumps(value) == json.dumps(before)
    assert [built(step) for step in given_steps] == done


@pytest.mark.parametrize(
    ("operation", "before", "after", "change"),
    [
        (op.set("a", 1), {}, {"a": 1}, (None, 1)),
        (op.set("a.b.c", 1), {"x": 0}, {"x": 0, "a": {"b": {"c": 1}}}, (None, 1)),
        (op.set("a.0", 1), {}, {"a": {"0": 1}}, (None, 1)),
        (op.set("a.0", 9), {"a": [1, 2]}, {"a": [9, 2]}, (1, 9)),
        (op.set(["a", 1], 9), {"a": [1, 2]}, {"a": [1, 9]}, (2, 9)),
        (op.set(["a.b", "c"], 1), {"a": {"b": 0}}, {"a": {"b": 0}, "a.b": {"c": 1}}, (None, 1)),
        (op.set([""], 1), {}, {"": 1}, (None, 1)),
        (op.set("", {"new": True}), [1], {"new": True}, ([1], {"new": True})),
        (op.set("a", None), {"a": 1}, {"a": None}, (1, None)),
        (op.merge("", {"b": 3, "c": None}), {"a": 1, "b": 2}, {"a": 1, "b": 3, "c": None}, ...),
        (op.merge("a", {"b": {"y": 2}}), {"a": {"b": {"x": 1}}}, {"a": {"b": {"y": 2}}}, ...),
        (op.merge("a", {}), {}, {"a": {}}, (None, {})),
        (op.increment("n"), {}, {"n": 1}, (None, 1)),
        (op.increment("n", 0.5), {}, {"n": 0.5}, (None, 0.5)),
        (op.increment("n", 2), {"n": 1}, {"n": 3}, (1, 3)),
        (op.increment("n", 1), {"n": 1.5}, {"n": 2.5}, (1.5, 2.5)),
        (op.increment("n", 1), {"n": 1.0}, {"n": 2.0}, (1.0, 2.0)),
        (op.increment("", 5), 2, 7, (2, 7)),
        (op.decrement("n"), {}, {"n": -1}, (None, -1)),
        (op.decrement("n", 0.5), {"n": 1.5}, {"n": 1.0}, (1.5, 1.0)),
        (op.decrement("n", MAX_INT), {"n": MAX_INT}, {"n": 0}, (MAX_INT, 0)),
        (op.append("a", 1), {}, {"a": [1]}, (None, [1])),
        (op.append("a", 2, [3]), {"a": [1]}, {"a": [1, 2, [3]]}, ([1], [1, 2, [3]])),
        (op.append("", "x"), [], ["x"], ([], ["x"])),
        (op.remove("a.b"), {"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}, (1, None)),
        (op.remove("a.0"), {"a": [1, 2]}, {"a": [2]}, (1, None)),
        (op.remove("a"), {"a": None}, {}, (None, None)),
    ],
)
def test_an_operation_changes_what_it_names(operation: Operation, before: Any, after: Any, change: Any) -> None:
    """The new value, and what stood there before and stands there now."""
    new, changes = apply_operations(before, [operation])
    assert json.dumps(new) == json.dumps(after)
    assert change is ... or json.dumps(changes) == json.dumps([change])


@pytest.mark.parametrize(
    ("operation", "value", "words"),
    [
        (op.set("a.b", 1), {"a": 5}, "set at a.b: an int stands at a, which has nothing within it"),
        (op.set("a.b", 1), {"a": None}, "null stands at a"),
        (op.set("a.b", 1), {"a": [1, 2]}, "a list of 2 stands at a, whose items have indices and not names"),
        (op.set("a.2", 1), {"a": [1, 2]}, "which has no item 2: use append for a new one"),
        (op.set("a.01", 1), {"a": [1, 2]}, "indices and not names"),
        (op.set("a.-1", 1), {"a": [1, 2]}, "indices and not names"),
        (op.set("a.٣", 1), {"a": [1, 2, 3, 4]}, "indices and not names"),
        (op.set(["a", 0], 1), {}, "no list is made for the index 0: append to it first"),
        (
            op.set(["a", 0], 1),
            {"a": {"0": 1}},
            "an object of 1 stands at a, whose members have names and not the index 0",
        ),
        (op.set([0], 1), MISSING, "there is no value"),
        (op.merge("a", {}), {"a": [1]}, "merge at a: a list of 1 stands there, which has no members to merge into"),
        (op.merge("a", {}), {"a": None}, "null stands there"),
        (op.increment("a"), {"a": "12345"}, "increment at a: text stands there, and only a number can be counted"),
        (op.increment("a"), {"a": True}, "a bool stands there"),
        (op.increment("a"), {"a": None}, "null stands there"),
        (
            op.increment("a", 0.5),
            {"a": 1},
            "an int stands there and stays one: give an int, or set it to a float first",
        ),
        (op.increment("a"), {"a": MAX_INT}, "the result does not fit into 64 bits"),
        (op.decrement("a", 2), {"a": MIN_INT + 1}, "decrement at a: the result does not fit into 64 bits"),
        (op.increment("a", 1e308), {"a": 1e308}, "does not fit into a floating-point number"),
        (op.append("a", 1), {"a": {}}, "append at a: an object of 0 stands there, and only a list can be appended to"),
        (op.append("a", 1), {"a": "text"}, "text stands there"),
        (op.remove("a.b"), {"a": {}}, "remove at a.b: nothing stands there"),
        (op.remove("a.b"), {}, "remove at a.b: nothing stands at a"),
        (op.remove("a.3"), {"a": [1]}, "a list of 1 stands at a, which has no item 3"),
        (op.remove("a"), MISSING, "there is no value"),
        (op.remove(["a.b", "c"]), {"a.b": 1}, "remove at ['a.b', 'c']: an int stands at ['a.b']"),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_so(operation: Operation, value: Any, words: str) -> None:
    """It names the operation, the path and what stands there, by its kind and never by what it says."""
    with pytest.raises(OperationMisfit) as caught:
        apply_operations(value, [operation])
    assert words in caught.value.message
    assert "12345" not in caught.value.message


def test_the_misfit_of_many_is_named_by_its_place() -> None:
    """Which of them, counted from 1."""
    with pytest.raises(OperationMisfit, match=r"remove at x \(operation 2 of 3\): nothing stands there"):
        apply_operations({}, [op.set("a", 1), op.remove("x"), op.set("b", 1)])


def test_each_operation_works_on_what_the_one_before_has_left() -> None:
    """And answers as of its own time."""
    new, changes = apply_operations(MISSING, [op.set("a", {"n": 1}), op.increment("a.n"), op.remove("a")])
    assert new == {}
    assert changes == ((None, {"n": 1}), (1, 2), ({"n": 2}, None))


def test_an_operation_keeps_what_it_was_given() -> None:
    """Neither what is done later to its argument nor to its answer changes what it does the next time."""
    given_value: dict[str, Any] = {"tags": ["a"]}
    path: list[str | int] = ["x"]
    operation = op.set(path, given_value)
    given_value["tags"].append("b")
    path.append("y")
    new, changes = apply_operations({}, [operation])
    assert new == {"x": {"tags": ["a"]}}
    changes[0].new["tags"].append("c")
    assert apply_operations({}, [operation])[0] == {"x": {"tags": ["a"]}}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: op.set("a..b", 1), "empty part"),
        (lambda: op.set(".a", 1), "empty part"),
        (lambda: op.set("a.", 1), "empty part"),
        (lambda: op.set("a.\x00", 1), "NUL"),
        (lambda: op.set(["\ud800"], 1), "surrogate"),
        (lambda: op.set(["a", -1], 1), "indices count from 0"),
        (lambda: op.set(["a", True], 1), "not a bool"),
        (lambda: op.set(["a", 1.0], 1), "not a float"),  # type: ignore[list-item]
        (lambda: op.set(5, 1), "not an int"),  # type: ignore[arg-type]
        (lambda: op.set("a", {"x": (1,)}), "x is of type tuple"),
        (lambda: op.set("a", float("nan")), "nan"),
        (lambda: op.merge("a", [1]), "not a list of 1: use set"),  # type: ignore[arg-type]
        (lambda: op.merge("a", {"b": {1}}), "b is of type set"),
        (lambda: op.increment("a", True), "not a bool"),
        (lambda: op.increment("a", "1"), "not text"),  # type: ignore[arg-type]
        (lambda: op.increment("a", float("inf")), "inf"),
        (lambda: op.decrement("a", float("nan")), "decrement by is nan"),
        (lambda: op.increment("a", MAX_INT + 1), "64 bits"),
        (lambda: op.append("a"), "one item or more"),
        (lambda: op.append("a", b""), "base64"),
        (lambda: op.remove(""), "delete the key"),
        (lambda: op.remove([]), "delete the key"),
    ],
)
def test_what_is_no_operation_is_refused_where_it_is_made(make: Callable[[], object], words: str) -> None:
    """Before it can come near a value."""
    with pytest.raises(InvalidValue) as caught:
        make()
    assert words in caught.value.message


def test_no_operation_makes_a_value_too_deep() -> None:
    """The path counts: MAX_DEPTH levels in all, then no more."""
    path: list[str | int] = ["a"] * MAX_DEPTH
    deep, _ = apply_operations(
        MISSING, [op.set(path, 1), op.merge(path[:-2], {"b": {}}), op.append([*path[:-2], "c"], 1)]
    )
    assert len(json.dumps(deep).split("{")) == MAX_DEPTH + 2
    for make in (
        lambda: op.set([*path, "a"], 1),
        lambda: op.set(path, []),
        lambda: op.merge(path, {}),
        lambda: op.merge(path[1:], {"b": {}}),
        lambda: op.increment([*path, "a"]),
        lambda: op.append(path, 1),
        lambda: op.append(path[1:], []),
    ):
        with pytest.raises(ValueTooLarge, match="64 levels"):
            make()

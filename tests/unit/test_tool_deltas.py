"""Streamed tool calls, in the shapes that servers give them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.core.run_errors import UpstreamInvalid
from legato.providers.tool_deltas import ToolCall, ToolDeltas

SEARCH = '{"query": "a cat"}'
OTHER = '{"query": "a dog"}'


def assembled(*chunks: object) -> list[tuple[str, str, str]]:
    """Feed each chunk's `tool_calls`; return (id, name, arguments) of the calls."""
    counter = itertools.count()
    deltas = ToolDeltas(lambda: f"own-{next(counter)}")
    for chunk in chunks:
        deltas.feed(chunk)
    return [(call.id, call.name, call.arguments) for call in deltas.complete()]


def piece(arguments: Any = None, *, index: Any = None, call_id: Any = None, name: Any = None) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "function", "function": {"name": name, "arguments": arguments}}
    if index is not None:
        entry["index"] = index
    if call_id is not None:
        entry["id"] = call_id
    return entry


TWO = [("a", "search", SEARCH), ("b", "search", OTHER)]

SHAPES: dict[str, tuple[list[object], list[tuple[str, str, str]]]] = {
    "openai": (
        [
            [piece("", index=0, call_id="a", name="search")],
            [piece(SEARCH[:5], index=0)],
            [piece(SEARCH[5:], index=0)],
            [piece("", index=1, call_id="b", name="search")],
            [piece(OTHER, index=1)],
        ],
        TWO,
    ),
    "two calls interleaved": (
        [
            [piece("", index=0, call_id="a", name="search"), piece("", index=1, call_id="b", name="search")],
            [piece(SEARCH[:3], index=0), piece(OTHER[:6], index=1)],
            [piece(OTHER[6:], index=1), piece(SEARCH[3:], index=0)],
        ],
        TWO,
    ),
    "interleaved by id, without an index": (
        [
            [piece("", call_id="a", name="search")],
            [piece("", call_id="b", name="search")],
            [piece(SEARCH[:3], call_id="a")],
            [piece(OTHER, call_id="b")],
            [piece(SEARCH[3:], call_id="a")],
        ],
        TWO,
    ),
    "the second call first": (
        [[piece(OTHER, index=1, call_id="b", name="search")], [piece(SEARCH, index=0, call_id="a", name="search")]],
        TWO[::-1],
    ),
    "the id and name again in each chunk": (
        [
            [piece(SEARCH[:4], index=0, call_id="a", name="search")],
            [piece(SEARCH[4:], index=0, call_id="a", name="search")],
            [piece("", index=0, call_id="a", name="search")],
        ],
        TWO[:1],
    ),
    "another id in each chunk": (
        [
            [piece(SEARCH[:4], index=0, call_id="a", name="search")],
            [piece(SEARCH[4:8], index=0, call_id="x1")],
            [piece(SEARCH[8:], index=0, call_id="x2")],
        ],
        TWO[:1],
    ),
    "whole calls, all with index 0": (
        [
            [piece(SEARCH, index=0, call_id="a", name="search")],
            [piece(OTHER, index=0, call_id="b", name="search")],
        ],
        TWO,
    ),
    "calls in pieces, one after the other, all with index 0": (
        [
            [piece("", index=0, call_id="a", name="search")],
            [piece(SEARCH, index=0)],
            [piece("", index=0, call_id="b", name="search")],
            [piece(OTHER[:5], index=0)],
            [piece(OTHER[5:], index=0)],
        ],
        TWO,
    ),
    "whole calls in one chunk, all with index 0": (
        [[piece(SEARCH, index=0, call_id="a", name="search"), piece(OTHER, index=0, call_id="b", name="search")]],
        TWO,
    ),
    "whole calls without index and id": (
        [[piece(SEARCH, name="search")], [piece(OTHER, name="search")]],
        [("own-0", "search", SEARCH), ("own-1", "search", OTHER)],
    ),
    "calls without index, id and arguments in one chunk": (
        [[piece(None, name="now"), piece(None, name="today"), piece("", name="now")]],
        [("own-0", "now", "{}"), ("own-1", "today", "{}"), ("own-2", "now", "{}")],
    ),
    "one after the other without index and id": (
        [[piece("", name="search")], [piece(SEARCH)], [piece("", name="fetch")], [piece(OTHER)]],
        [("own-0", "search", SEARCH), ("own-1", "fetch", OTHER)],
    ),
    "one after the other without an index": (
        [[piece("", call_id="a", name="now")], [piece("", call_id="b", name="today")]],
        [("a", "now", "{}"), ("b", "today", "{}")],
    ),
    "empty name pieces": (
        [
            [piece("", index=0, call_id="a", name="search")],
            [piece(SEARCH[:9], index=0, name="")],
            [piece(SEARCH[9:], index=0, name="")],
        ],
        TWO[:1],
    ),
    "a name in pieces": (
        [[piece(None, index=0, call_id="a", name="sea")], [piece(None, index=0, name="rch")], [piece(SEARCH, index=0)]],
        TWO[:1],
    ),
    "a name that grows": (
        [[piece(None, index=0, call_id="a", name="sea")], [piece(SEARCH, index=0, name="search")]],
        TWO[:1],
    ),
    "the id comes late": (
        [[piece("", index=0, name="search")], [piece(SEARCH, index=0, call_id="a")]],
        TWO[:1],
    ),
    "arguments null": ([[piece(None, index=0, call_id="a", name="now")]], [("a", "now", "{}")]),
    "arguments as an object": (
        [[piece({"query": "Bär"}, index=0, call_id="a", name="search")]],
        [("a", "search", '{"query": "Bär"}')],
    ),
    "an index as text": ([[piece(SEARCH, index="0", call_id="a", name="search")]], TWO[:1]),
    "an index that is none": (
        [[piece(SEARCH[:4], index=-1, call_id="a", name="search")], [piece(SEARCH[4:], index=True)]],
        TWO[:1],
    ),
    "no wrapping": ([[{"index": 0, "id": "a", "name": "search", "arguments": SEARCH}]], TWO[:1]),
    "one object, no list": ([piece(SEARCH, index=0, call_id="a", name="search")], TWO[:1]),
    "the same id twice": (
        [[piece(SEARCH, index=0, call_id="a", name="search")], [piece(OTHER, index=1, call_id="a", name="search")]],
        [("a", "search", SEARCH), ("own-0", "search", OTHER)],
    ),
    "an id that cannot be sent back": (
        [[piece(SEARCH, index=0, call_id="a\nb", name="search")]],
        [("own-0", "search", SEARCH)],
    ),
    "a name that no tool can have": (
        [[piece(SEARCH, index=0, call_id="a", name="functions.search docs")]],
        [("a", "search_docs", SEARCH)],
    ),
    "no name": ([[piece(SEARCH, index=0, call_id="a")]], [("a", "unnamed", SEARCH)]),
    "a character in two chunks": (
        [
            [piece('{"query": "\ud83d', index=0, call_id="a", name="search")],
            [piece('\ude00\ud800"}', index=0)],
        ],
        [("a", "search", '{"query": "😀\ufffd"}')],
    ),
    "nothing that could be a call": (
        [None, [], [None, 1, "x", [], {}], "x", 7, {}, [{"index": 0, "function": None}], [piece("", name="")]],
        [],
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_calls_are_put_together_from_every_shape(shape: str) -> None:
    """Ids, names and arguments are those that the model meant, whatever pieces the server makes of them."""
    chunks, expected = SHAPES[shape]
    assert assembled(*chunks) == expected


def test_a_function_call_of_the_old_form_is_a_call() -> None:
    """`function_call` in pieces gives one call with an id of our own."""
    deltas = ToolDeltas(lambda: "own")
    assert not deltas
    for each in ({"name": "search"}, {"arguments": SEARCH[:4]}, {"arguments": SEARCH[4:]}, None):
        deltas.feed_function(each)
    assert deltas
    assert deltas.complete() == (ToolCall(id="own", name="search", arguments=SEARCH),)


@pytest.mark.parametrize(
    ("written", "replayed"),
    [(SEARCH, SEARCH), ("{", "{}"), ("[1]", "{}"), ('{"a": NaN}', "{}"), ("[" * 99_999, "{}"), ("", "{}")],
)
def test_arguments_that_are_no_object_are_not_sent_back(written: str, replayed: str) -> None:
    """A server that parses the history's arguments is never given what it would refuse."""
    assert ToolCall(id="a", name="search", arguments=written).replayed_arguments == replayed


@pytest.mark.parametrize(
    "chunk",
    [
        [piece("x" * 1001, index=0, call_id="a", name="n")],
        [piece("", index=0, call_id="a", name="n" * 1001)],
        [piece("", index=0, call_id="a" * 1001, name="n")],
        [piece("{}", index=at, call_id=f"id{at}", name="n") for at in range(9)],
    ],
    ids=["arguments", "name", "id", "calls"],
)
def test_what_a_server_sends_is_bounded(chunk: object) -> None:
    """Too many calls, or too many characters of anything, end the call of the model with an error."""
    deltas = ToolDeltas(lambda: "own", max_calls=8, max_chars=1000)
    with pytest.raises(UpstreamInvalid):
        deltas.feed(chunk)


def test_arguments_in_endless_pieces_are_bounded() -> None:
    """The bound holds over all pieces together."""
    deltas = ToolDeltas(lambda: "own", max_chars=1000)
    for _ in range(1000):
        deltas.feed([piece("x", index=0)])
    with pytest.raises(UpstreamInvalid):
        deltas.feed([piece("x", index=0)])


names = st.sampled_from(["search", "fetch", "now", "get_weather"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text(max_size=4), values, max_size=4).map(lambda value: json.dumps(value))
calls = st.lists(st.tuples(names, objects), min_size=1, max_size=5)


def cut(draw: st.DrawFn, text: str) -> list[str]:
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=5)))
    return [text[start:end] for start, end in itertools.pairwise([0, *places, len(text)])]


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[list[dict[str, Any]]], list[tuple[str, str]]]:
    """Return chunks in one server's habits, and the calls (name, arguments) that they are made of."""
    made = draw(calls)
    indexed = draw(st.booleans())
    ids = draw(st.sampled_from(["once", "always", "never", "another"] if indexed else ["once", "always"]))
    naming = draw(st.sampled_from(["once", "once, apart"] + (["always"] if ids != "another" else [])))
    apart = (indexed and naming != "always") or ids == "always"
    queues: list[list[dict[str, Any]]] = []
    for at, (name, arguments) in enumerate(made):
        queue: list[dict[str, Any]] = []
        pieces = cut(draw, arguments)
        if naming == "once, apart":
            pieces.insert(0, "")
        for number, text in enumerate(pieces):
            known = {"once": number == 0, "always": True, "never": False, "another": True}[ids]
            call_id = f"id{at}" if ids != "another" or number == 0 else f"id{at}-{number}"
            queue.append(
                piece(
                    draw(st.sampled_from([text, text or None])),
                    index=at if indexed else None,
                    call_id=call_id if known else draw(st.sampled_from([None, ""])),
                    name=name if number == 0 or naming == "always" else draw(st.sampled_from([None, ""])),
                )
            )
        queues.append(queue)
    flat: list[dict[str, Any]] = []
    while any(queues):
        waiting = [queue for queue in queues if queue]
        at = draw(st.integers(0, len(waiting) - 1)) if apart else 0
        flat.append(waiting[at].pop(0))
    chunks: list[list[dict[str, Any]]] = []
    for entry in flat:
        together = draw(st.booleans())
        if chunks and together:
            chunks[-1].append(entry)
        else:
            chunks.append([entry])
    return chunks, made


@given(streams())
def test_any_cut_and_order_of_pieces_gives_the_same_calls(
    stream: tuple[list[list[dict[str, Any]]], list[tuple[str, str]]],
) -> None:
    """However a server cuts, mixes and labels the pieces, as long as something labels them, the calls are the same."""
    chunks, made = stream
    found = assembled(*chunks)
    assert sorted((name, arguments) for _, name, arguments in found) == sorted(made)
    assert len({call_id for call_id, _, _ in found}) == len(found)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["index", "id", "function", "name", "arguments", "type"]), inner, max_size=6)
    ),
    max_leaves=20,
)


@given(st.lists(json_values, max_size=8))
def test_no_json_value_breaks_it(chunks: list[object]) -> None:
    """Whatever a server sends in the place of tool calls, what comes out are calls that can be sent back."""
    for _, name, arguments in assembled(*chunks):
        assert name.replace("-", "_").replace("_", "a").isalnum()
        assert len(name) <= 64
        arguments.encode()

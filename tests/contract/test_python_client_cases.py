"""The cases of protocol/*.json, which drive every client: protocol/README.md is their specification."""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from legato.client.delay import reconnect_delay
from legato.client.delivery import TextDelivery
from legato.client.errors import BadStream, ChatError
from legato.client.events import Failover, WireEvent
from legato.client.fold import fold_all
from legato.client.message import ReplyMessage, ToolCallPart, ToolResultPart
from legato.client.read_event import parse_cursor, read_event
from legato.client.reconnect import TABLE, Answer, EventName, State, answer_event, step
from legato.client.sse import SseParser

PROTOCOL = Path(__file__).parents[2] / "protocol"


def file(name: str) -> dict[str, Any]:
    """Return one file of cases; another version would mean something else."""
    found: dict[str, Any] = json.loads((PROTOCOL / name).read_text("utf-8"))
    assert found["version"] == 1
    return found


def cases(name: str, key: str = "cases") -> list[Any]:
    return [pytest.param(case, id=case.get("name") or json.dumps(case)) for case in file(name)[key]]


def camel(name: str) -> str:
    first, *rest = name.removesuffix("_model" if name in ("from_model", "to_model") else "").split("_")
    return first + "".join(word.title() for word in rest)


_UNSAID = (("counted", False),)
"""Said only where it is otherwise."""


def snake(name: str) -> str:
    return re.sub(r"([A-Z])", r"_\1", name).lower()


def on_wire(value: Any) -> Any:
    """Return a value of the client as JSON has it: names in camelCase, what is absent as null left out."""
    if isinstance(value, tuple):
        return [on_wire(each) for each in value]
    if not is_dataclass(value):
        return value
    kind = {"type": value.type} if isinstance(value, ToolCallPart | ToolResultPart) else {}
    told = {
        "until" if each.name == "until_ms" else camel(each.name): on_wire(getattr(value, each.name))
        for each in fields(value)
    }
    return {name: each for name, each in (kind | told).items() if each is not None and (name, each) not in _UNSAID}


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(each) for name, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def events_of(blocks: list[str]) -> list[WireEvent]:
    raw = "".join(block + "\n\n" for block in blocks).encode()
    return [read_event(each) for each in SseParser().feed(raw)]


def test_every_file_of_cases_is_driven() -> None:
    """A file that is added is not passed over."""
    driven = {"sse.json", "native.json", "cursors.json", "reconnect.json", "delays.json", "delivery.json"}
    assert {path.name for path in PROTOCOL.glob("*.json")} == driven


@pytest.mark.parametrize("case", cases("sse.json"))
def test_bytes_are_events(case: dict[str, Any]) -> None:
    """However the bytes are cut."""
    raw = bytes.fromhex(case["hex"]) if "hex" in case else case["text"].encode()
    for pieces in ([raw], [bytes([byte]) for byte in raw], *([raw[:cut], raw[cut:]] for cut in range(len(raw)))):
        parser = SseParser()
        events = [event for piece in pieces for event in parser.feed(piece)]
        told = [
            {"name": each.name, "data": each.data, "id": each.id, "lastEventId": each.last_event_id} for each in events
        ]
        assert told == case["events"]
        if "retryMs" in case:
            assert parser.retry_ms == case["retryMs"]


@pytest.mark.parametrize("case", cases("native.json"))
def test_a_stream_is_its_events_and_its_message(case: dict[str, Any]) -> None:
    """The events' names and ids, and what they fold to, live and from a replay behind any of them."""
    raw = "".join(block + "\n\n" for block in case["stream"]).encode()
    assert [[each.name, each.id] for each in SseParser().feed(raw)] == case["events"]
    events = events_of(case["stream"])
    message = fold_all(events)
    assert on_wire(message) == without_nulls(file("native.json")["empty"] | case["message"])
    for at in range(len(events)):
        assert fold_all(events[at:], fold_all(events[:at])) == message


@pytest.mark.parametrize("case", cases("native.json", "foreign"))
def test_what_is_foreign_is_passed_over(case: dict[str, Any]) -> None:
    """Events, fields and statuses of another version break nothing."""
    folded = on_wire(fold_all(events_of(case["stream"])))
    assert folded == without_nulls(file("native.json")["empty"] | case["message"])


@pytest.mark.parametrize("case", cases("native.json", "bad"))
def test_what_is_no_json_object_is_an_error(case: dict[str, Any]) -> None:
    """It is told, never shown."""
    with pytest.raises(BadStream):
        events_of(case["stream"])


def test_a_message_has_the_fields_that_are_agreed() -> None:
    """Every client's message is the same."""
    assert {camel(each.name) for each in fields(ReplyMessage)} == set(file("native.json")["empty"])
    assert on_wire(Failover(from_model="a", to_model="b")) == {"from": "a", "to": "b"}


@pytest.mark.parametrize("case", cases("cursors.json"))
def test_an_id_is_a_cursor(case: dict[str, Any]) -> None:
    """Run, epoch and seq, or none at all."""
    assert on_wire(parse_cursor(case["text"])) == case["cursor"]


def test_the_table_is_the_one_that_all_clients_have() -> None:
    """Each cell, each cell that cannot happen, and which states are final."""
    agreed = file("reconnect.json")
    assert list(get_args(State)) == [snake(each) for each in agreed["states"]]
    assert list(get_args(EventName)) == [snake(each) for each in agreed["events"]]
    for state in agreed["states"]:
        row = agreed["table"].get(state, {})
        told = {snake(event): (snake(after), action) for event, (after, action) in row.items()}
        own = TABLE[snake(state)]  # type: ignore[literal-required]
        assert {event: cell for event, cell in own.items() if cell is not None} == told, state


@pytest.mark.parametrize("case", cases("reconnect.json", "paths"))
def test_a_walk_along_the_table(case: dict[str, Any]) -> None:
    """From `idle` on, each event leads to the state and the action that are agreed."""
    state: State = "idle"
    for event, after, action in case["steps"]:
        state, told = step(state, snake(event))  # type: ignore[arg-type]
        assert (state, told) == (snake(after), action)


@pytest.mark.parametrize("case", cases("reconnect.json", "answers"))
def test_an_http_answer_is_an_event(case: dict[str, Any]) -> None:
    """Status, kind and cursor decide."""
    given = {snake(name): value for name, value in case.items() if name not in ("name", "event")}
    assert answer_event(Answer(**given)) == snake(case["event"])


@pytest.mark.parametrize("case", cases("delays.json"))
def test_a_delay_is_the_agreed_one(case: dict[str, Any]) -> None:
    """In every client, to the fraction of a millisecond."""
    delay_s = reconnect_delay(case["attempt"], jitter=case["jitter"], asked_s=case["askedMs"] / 1000)
    assert delay_s * 1000 == pytest.approx(case["delayMs"])


@pytest.mark.parametrize("case", cases("delivery.json"))
def test_text_is_handed_out_once(case: dict[str, Any]) -> None:
    """What is told anew is not handed out again; a contradiction is an error, at the last step."""
    delivery = TextDelivery()

    def take(step: list[str]) -> None:
        match step:
            case ["chunk", text, fresh]:
                assert delivery.take(text) == fresh
            case ["chunk", text]:
                delivery.take(text)
            case ["restarted"]:
                delivery.restart()
            case _:
                assert step == ["complete"]
                delivery.end()

    *steps, last = case["steps"]
    for each in steps:
        take(each)
    if case["error"] is None:
        take(last)
        return
    with pytest.raises(ChatError) as caught:
        take(last)
    assert caught.value.code == case["error"]

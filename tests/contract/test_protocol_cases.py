"""The shared cases of protocol/ hold for the server: what it renders, what it keeps, which cursors it takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from legato.core.cursor import parse_cursor
from legato.core.event import EVENT_TYPES, LogItem
from legato.core.log import RunLog
from legato.core.money import cost_json
from legato.core.reply import fold_reply
from legato.core.usage import usage_json
from legato.wire.native import NativeRenderer
from tests.client import parse_event

PROTOCOL = Path(__file__).parents[2] / "protocol"
NATIVE: dict[str, Any] = json.loads((PROTOCOL / "native.json").read_text("utf-8"))
CURSORS: list[dict[str, Any]] = json.loads((PROTOCOL / "cursors.json").read_text("utf-8"))["cases"]
CASES: list[dict[str, Any]] = NATIVE["cases"]
by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])


def item_of(told: str | dict[str, Any]) -> LogItem:
    """Return an item of a log from its JSON."""
    if isinstance(told, str):
        return told
    fields = dict(told)
    return EVENT_TYPES[fields.pop("type")](**fields)


def stretches_of(case: dict[str, Any]) -> list[tuple[int, list[LogItem]]]:
    """Return (epoch, items) of each stretch of a case's log."""
    return [(stretch["epoch"], [item_of(told) for told in stretch["items"]]) for stretch in case["log"]]


def log_of(case: dict[str, Any]) -> RunLog:
    """Return a case's whole log."""
    log = RunLog()
    for epoch, items in stretches_of(case):
        log.extend(items, epoch)
    return log


def bytes_of(case: dict[str, Any]) -> bytes:
    """Return what is to be sent of a case."""
    return "".join(f"{block}\n\n" for block in case["stream"]).encode()


@by_name
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_a_log_is_rendered_to_the_bytes_of_its_case(case: dict[str, Any], size: int) -> None:
    """Whatever pieces it is written in."""
    log = RunLog()
    renderer = NativeRenderer(NATIVE["runId"], log)
    frames = b""
    for epoch, items in stretches_of(case):
        for first in range(0, len(items), size):
            piece = items[first : first + size]
            place = len(log)
            log.extend(piece, epoch)
            frames += renderer.render(place, piece)
    assert frames == bytes_of(case)


@by_name
def test_the_blocks_are_the_events_of_their_case(case: dict[str, Any]) -> None:
    """In the only form that is allowed, which naive clients read too."""
    found = [parse_event(block.encode()) for block in case["stream"]]
    assert [[event.name, event.id] for event in found] == case["events"]


@by_name
def test_what_is_kept_is_what_a_client_folds(case: dict[str, Any]) -> None:
    """Text, reasoning, parts and end; once it has ended, model, usage and cost too."""
    log = log_of(case)
    reply = fold_reply(log)
    message = NATIVE["empty"] | case["message"]
    error = reply.failed
    kept: dict[str, Any] = {
        "text": reply.text,
        "reasoning": reply.reasoning,
        "parts": reply.parts,
        "finishReason": reply.finish_reason,
        "error": {"code": error.code, "message": error.message, "retryable": error.retryable} if error else None,
    }
    if log.terminal is not None:
        kept |= {"model": reply.model, "usage": usage_json(reply.usage), "cost": cost_json(reply.cost)}
    assert kept == {name: message[name] for name in kept}


@pytest.mark.parametrize("case", CURSORS, ids=lambda case: repr(case["text"]))
def test_a_cursor_says_what_its_case_says(case: dict[str, Any]) -> None:
    """Or it is none, and is refused."""
    cursor = parse_cursor(case["text"])
    found = None if cursor is None else {"runId": cursor.run_id, "epoch": cursor.epoch, "seq": cursor.seq}
    assert found == case["cursor"]


def test_all_cases_have_a_name_of_their_own_and_a_version() -> None:
    """Implementations in other languages report by these names."""
    for path in PROTOCOL.glob("*.json"):
        held = json.loads(path.read_text("utf-8"))
        assert held.pop("version") == 1, path.name
        for cases in (value for value in held.values() if isinstance(value, list)):
            names = [case["name"] for case in cases if isinstance(case, dict) and "name" in case]
            assert len(names) == len(set(names)), path.name

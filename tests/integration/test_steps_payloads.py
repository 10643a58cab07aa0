"""An event that does not fit its step, and one that a condition leaves out: what the others of its batch come to."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel

from legato import Context, Legato, QueueEvent
from legato.testing import TestServer, serving

app = Legato()
kept: list[Any] = []
batches: list[list[str]] = []
listened: list[list[str]] = []
beats: list[str] = []


class Lead(BaseModel):
    """A payload."""

    name: str
    score: float = 0.5


class Found(BaseModel):
    """What to enqueue."""

    topic: str
    payloads: list[dict[str, Any]]


@app.http("POST", "/found", enqueues=["one", "many", "heard"])
async def found(found: Found, ctx: Context) -> list[str]:
    """Enqueues events of any form."""
    # At once: one commit, so that they come together.
    return await asyncio.gather(*(ctx.enqueue(found.topic, payload) for payload in found.payloads))


@app.queue("one")
async def take(event: Lead, ctx: Context) -> None:
    """Keeps a lead."""
    kept.append(event.name)


@app.queue("many", batch=10)
async def take_many(events: list[Lead], ctx: Context) -> None:
    """Keeps leads."""
    batches.append([event.name for event in events])


async def is_loud(event: Any, ctx: Context) -> bool:
    """Whether an event is to be heard."""
    return bool(event.payload["name"] != "quiet")


@app.queue("heard", batch=10, condition=is_loud)
async def listen(events: list[QueueEvent], ctx: Context) -> None:
    """Keeps what is loud."""
    listened.append([event.payload["name"] for event in events])


async def is_due(given: Any, ctx: Context) -> bool:
    """Whether a tick is to be used."""
    return given is None and ctx.trigger.kind == "cron"


@app.cron("* * * * * *", condition=is_due)
async def beat(ctx: Context) -> None:
    """Beats."""
    beats.append("due")


@app.cron("* * * * * *", condition=lambda given, ctx: False)
async def silent(ctx: Context) -> None:
    """Never beats."""
    beats.append("never")


def _letters(server: TestServer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.get("/admin/dead-letters")["deadLetters"]
    return found


def _found(server: TestServer, topic: str, *payloads: dict[str, Any]) -> list[str]:
    status, ids = server.send("POST", "/found", {"topic": topic, "payloads": list(payloads)})
    assert status == 200
    return [str(each) for each in ids]


def test_an_event_that_does_not_fit_is_a_dead_letter_at_once() -> None:
    """The function is not called, nothing is tried, and the words name the field."""
    kept.clear()
    with serving(app) as server:
        _found(server, "one", {"score": 1})
        _found(server, "one", {"name": "Ann", "score": 1})
        assert server.wait_for(lambda: kept == ["Ann"])
        assert server.wait_for(lambda: len(_letters(server)) == 1)
        (letter,) = _letters(server)
        assert kept == ["Ann"]
    assert (letter["step"], letter["topic"]) == ("take", "one")
    assert (letter["errorType"], letter["attempts"]) == ("InvalidJob", 0)
    assert "name" in letter["error"]
    assert "required" in letter["error"].lower()


def test_a_bad_event_does_not_take_its_batch_with_it() -> None:
    """The good ones beside it are done; it alone is a dead letter."""
    batches.clear()
    with serving(app) as server:
        _, bad, _ = _found(server, "many", {"name": "Ann"}, {"score": 1}, {"name": "Ben"})
        assert server.wait_for(lambda: sum(map(len, batches)) == 2)
        assert server.wait_for(lambda: len(_letters(server)) == 1)
        (letter,) = _letters(server)
        events = server.get(f"/admin/dead-letters/{letter['id']}")["events"]
    assert [name for batch in batches for name in batch] == ["Ann", "Ben"]
    assert [(event["id"], event["payload"]) for event in events] == [(bad, {"score": 1})]
    assert (letter["step"], letter["errorType"], letter["attempts"]) == ("take_many", "InvalidJob", 0)


def test_a_condition_leaves_one_event_of_a_batch_out() -> None:
    """The others are handed to the function, and never a batch of nothing."""
    listened.clear()
    with serving(app) as server:
        _found(server, "heard", {"name": "quiet"})
        _found(server, "heard", {"name": "a"}, {"name": "quiet"}, {"name": "b"})
        assert server.wait_for(lambda: sum(map(len, listened)) >= 2)
        assert _letters(server) == []
    assert [name for batch in listened for name in batch] == ["a", "b"]
    assert [] not in listened


def test_a_condition_is_asked_at_each_tick() -> None:
    """One that says no keeps the step from running; an asynchronous one that says yes lets it run."""
    beats.clear()
    with serving(app) as server:
        assert server.wait_for(lambda: beats.count("due") >= 2)
    assert "never" not in beats

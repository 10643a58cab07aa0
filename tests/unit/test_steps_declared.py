"""What a bot's file declares is checked as a whole, and every mistake is named with what would be right."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from legato import ChatMessageCompleted, Context, Legato, QueueEvent, StepSet
from legato.core.errors import ConfigurationError
from legato.core.topics import CHAT_TOPICS
from legato.steps.graph import mermaid
from legato.steps.jobs import CronStep, JobEvent, QueueStep
from legato.steps.registry import shadows

Handler = Callable[..., Awaitable[Any]]


async def takes_nothing() -> None: ...


async def takes_context(ctx: Context) -> None:
    """Says what it is.

    And more that is not shown.
    """


async def takes_event(event: ChatMessageCompleted, ctx: Context) -> None: ...


async def takes_two(event: ChatMessageCompleted, other: int, ctx: Context) -> None: ...


async def takes_list(events: list[QueueEvent], ctx: Context) -> None: ...


async def takes_rest(*rest: int) -> None: ...


class Odd:
    pass


async def takes_odd(event: Odd) -> None: ...


def is_not_async(ctx: Context) -> None: ...


async def yields(ctx: Context) -> Any:
    yield 1


def test_decorators_on_one_function_are_triggers_of_one_step() -> None:
    """One function, one step, in the order in which its triggers stand; flows and topics add up."""
    app = StepSet()
    decorate = app.http("GET", "/x/{session_id}", flows=["a"])(
        app.queue("chat.message.completed", flows=["b"], enqueues=["mine"])(
            app.cron("0 8 * * *", timezone="Europe/Berlin")(_all_in_one)
        )
    )
    assert decorate is _all_in_one
    (step,) = app.steps()
    assert (step.name, step.flows, step.enqueues) == ("_all_in_one", ("b", "a"), ("mine",))
    assert [trigger.path for trigger in step.http] == ["/x/{session_id}"]
    assert step.topics == ["chat.message.completed"]
    assert [(cron.expression, cron.timezone) for cron in step.crons] == [("0 8 * * *", "Europe/Berlin")]
    assert [type(job) for job in step.jobs()] == [QueueStep, CronStep]


async def _all_in_one(event: ChatMessageCompleted | None = None, ctx: Context | None = None) -> None: ...


def test_a_step_is_called_as_its_function_and_described_by_its_docstring() -> None:
    """The first paragraph is shown; both can be said otherwise."""
    app = StepSet()
    app.cron("0 * * * *")(takes_context)
    app.cron("0 * * * *", name="other", description="Does it.")(takes_nothing)
    one, other = app.steps()
    assert (one.name, one.description) == ("takes_context", "Says what it is.")
    assert (other.name, other.description) == ("other", "Does it.")


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda app: app.queue("chat.message.complete")(takes_event), "did you mean 'chat.message.completed'?"),
        (lambda app: app.queue()(takes_event), "names its topics"),
        (lambda app: app.queue(takes_event), "names its topics"),
        (lambda app: app.cron(takes_context), "names its times"),
        (lambda app: app.queue("chat.message.completed")(takes_rest), "rest must be an ordinary parameter"),
        (lambda app: app.http("GET", "/x")(takes_rest), "rest must be an ordinary parameter"),
        (lambda app: app.queue("chat.message.completed", key=5)(takes_event), "key is 5"),
        (lambda app: app.queue("chat.message.completed", condition="x")(takes_event), "condition is 'x'"),
        (lambda app: app.queue("chat.message.completed", attempts="3")(takes_event), "attempts is '3'"),
        (lambda app: app.queue("chat.message.completed", time_limit_s=math.nan)(takes_event), "in seconds"),
        (lambda app: app.cron("0 8 * * *", time_limit_s=math.inf)(takes_context), "in seconds"),
        (lambda app: app.cron("0 8 * * *", missed="never")(takes_context), "missed is 'never'"),
        (lambda app: app.http("GET", "/x?a=1")(takes_context), "none that can be asked for"),
        (lambda app: app.http("GET", "/x/{a")(takes_context), "none that can be asked for"),
        (lambda app: app.tool(enqueues="x")(is_not_async), "give a list of names"),
        (lambda app: app.queue("chat.message.completed")(takes_two), "takes event, other"),
        (lambda app: app.queue("chat.message.completed")(takes_odd), "event has a type that cannot be checked"),
        (lambda app: app.queue("chat.message.completed")(is_not_async), "write `async def`"),
        (lambda app: app.queue("chat.message.completed")(yields), "with http triggers alone can stream"),
        (lambda app: app.queue("chat.message.completed", batch=5)(takes_event), "it gets a list"),
        (lambda app: app.queue("chat.message.completed", batch=0)(takes_event), "batch is 0: at least 1"),
        (lambda app: app.queue("chat.message.completed", attempts=0)(takes_event), "attempts is 0: at least 1"),
        (lambda app: app.queue("chat.message.completed", enqueues="x")(takes_event), "give a list of names"),
        (lambda app: app.queue("chat.message.completed", name="a:b")(takes_event), "without colons"),
        (lambda app: app.cron("0 8 * *")(takes_context), "the cron expression '0 8 * *' is wrong"),
        (lambda app: app.cron("0 8 * * *", timezone="Berlin")(takes_context), "there is no time zone 'Berlin'"),
        (lambda app: app.cron("0 8 * * *")(takes_event), "a time brings no event"),
        (lambda app: app.cron("0 8 * * *", name="cleanup")(takes_context), "a step that comes with Legato"),
        (lambda app: app.cron("0 8 * * *", enqueues=[CHAT_TOPICS[0]])(takes_context), "is the server's"),
        (lambda app: app.http("FETCH", "/x")(takes_context), "'FETCH' is no method"),
        (lambda app: app.http("GET", "x")(takes_context), "does not begin with a slash"),
        (lambda app: app.http("POST", "/chat/stream")(takes_context), "belongs to the built-in step chat"),
        (lambda app: app.http("GET", "/analytics")(takes_context), "belongs to the built-in step analytics-report"),
        (lambda app: app.http("GET", "/session-stats/mine")(takes_context), "the built-in step session-stats"),
    ],
)
def test_a_mistake_is_named_before_the_server_starts(declare: Callable[[Legato], object], said: str) -> None:
    """A ConfigurationError that says which step, and what would be right."""

    def load() -> None:
        app = Legato()
        declare(app)
        app.registry()

    with pytest.raises(ConfigurationError) as raised:
        load()
    assert said in raised.value.message


def test_two_triggers_of_a_kind_with_different_options_are_refused() -> None:
    """There is one queue a step: which options would hold could not be told."""
    app = StepSet()
    with pytest.raises(ConfigurationError, match="different options"):
        app.queue("chat.message.completed", attempts=3)(app.queue("chat.message.failed")(takes_event))


def test_two_steps_of_one_name_are_refused() -> None:
    """A name is part of a job's id."""
    app = Legato()
    app.cron("0 8 * * *", name="same")(takes_context)
    app.cron("0 8 * * *", name="same")(takes_nothing)
    with pytest.raises(ConfigurationError, match="another step has this name"):
        app.registry()


@pytest.mark.parametrize(
    ("first", "second", "answer"),
    [
        ("/a", "/a", True),
        ("/a/{x}", "/a/b", True),
        ("/a/{x}", "/a/{y}", True),
        ("/a/b", "/a/{x}", False),
        ("/a/{x}", "/a/b/c", False),
        ("/a/{x:path}", "/a/b/c", True),
        ("/a", "/b", False),
    ],
)
def test_a_path_that_would_never_be_reached_is_seen(first: str, second: str, answer: bool) -> None:
    """A path shadows another if it is asked first for the other's requests."""
    assert shadows(first, second) is answer


def test_a_key_is_a_field_or_a_function_of_the_checked_input() -> None:
    """Both give text; a field that is missing is an error of that event alone."""
    app = Legato()
    app.queue("chat.message.completed", name="a", key="conversationId")(takes_context)
    app.queue("chat.feedback.given", name="b", key=lambda payload: payload["n"])(_takes_any)
    jobs = {job.name: job for job in app.registry().jobs if isinstance(job, QueueStep)}
    event = JobEvent(id="e", topic="t", owner="o", payload={"conversationId": "c-1", "n": 7})
    assert jobs["a"].key is not None
    assert jobs["a"].key(event) == "c-1"
    assert jobs["b"].key is not None
    assert jobs["b"].key(event) == "7"
    with pytest.raises(LookupError, match="no field 'conversationId'"):
        jobs["a"].key(JobEvent(id="e", topic="t", owner="o", payload={}))
    with pytest.raises(LookupError, match="did you mean 'conversationIds'"):
        jobs["a"].key(JobEvent(id="e", topic="t", owner="o", payload={"conversationIds": []}))


async def _takes_any(event: Any) -> None: ...


def test_a_payload_that_does_not_fit_is_told_field_by_field() -> None:
    """The words are those of the dead letter."""
    app = Legato()
    app.queue("chat.message.completed")(takes_event)
    job = next(job for job in app.registry().jobs if job.name == "takes_event")
    assert isinstance(job, QueueStep)
    assert job.check is not None
    fault = job.check(JobEvent(id="e", topic="chat.message.completed", owner="o", payload={"id": "e"}))
    assert fault is not None
    assert fault.startswith("the payload of chat.message.completed does not fit: conversationId: field required")


def test_a_strict_type_takes_what_json_can_say() -> None:
    """A time is text there, and a set a list; what is enqueued as a model is one again, and wrong kinds are not."""

    class Lead(BaseModel, strict=True):
        at: datetime
        tags: set[str]
        score: int

    lead = Lead(at=datetime(2026, 11, 23, tzinfo=UTC), tags={"new"}, score=3)

    async def takes_lead(lead: Lead) -> None: ...

    app = Legato()
    takes_lead.__annotations__["lead"] = Lead
    app.queue("chat.message.completed")(takes_lead)
    given = app.registry().by_name["takes_lead"].input
    event = JobEvent(id="e", topic="t", owner="o", payload=lead.model_dump(mode="json"))
    assert given.of(event) == lead
    assert given.fault(replace(event, payload=event.payload | {"score": "3"})) == (
        "the payload of t does not fit: score: input should be a valid integer"
    )
    assert "payload: invalid JSON" in (given.fault(replace(event, payload={"tags": ["\ud800"]})) or "")


def test_the_graph_shows_the_chat_its_topics_and_who_listens() -> None:
    """Mermaid, with the flow that existing users know."""
    app = Legato()
    app.queue("chat.message.completed", enqueues=["crm.lead.found"])(takes_event)
    drawn = mermaid(app.registry())
    assert drawn.startswith("flowchart LR\n")
    assert 'subgraph "ai-chatbot"' in drawn
    for words in ('"chat"', '"analytics"', '"cleanup"', '"takes_event"', '"crm.lead.found"', '"cron 0 */6 * * *"'):
        assert words in drawn
    ids = {line.split("[")[1][1:-2]: line.split("[")[0].strip() for line in drawn.splitlines() if line[-2:] == '"]'}
    topics = {
        line.split("([")[1][1:-3]: line.split("([")[0].strip() for line in drawn.splitlines() if line.endswith('"])')
    }
    assert f"  {ids['chat']} --> {topics['chat.message.completed']}" in drawn
    assert f"  {topics['chat.message.completed']} --> {ids['analytics']}" in drawn
    assert f"  {topics['chat.message.completed']} --> {ids['takes_event']}" in drawn


def test_steps_of_several_files_are_put_together() -> None:
    """`include` takes steps, tools and the tools' topics over."""
    more = StepSet()
    more.cron("0 8 * * *")(takes_context)

    @more.tool(enqueues=["ticket.opened"])
    async def open_ticket(title: str, ctx: Context) -> str:
        """Open a ticket."""
        return title

    app = Legato()
    app.include(more)
    assert [tool.name for tool in app.tools] == ["open_ticket"]
    assert list(app.tools[0].parameters["properties"]) == ["title"]
    registry = app.registry()
    assert "takes_context" in registry.by_name
    assert registry.unheard() == [("tools", "ticket.opened")]

"""Which events of replies count, and how often and in whatever order they may come."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from legato.core.errors import Forbidden, InvalidJob, NotFound
from legato.core.principal import APP, LOCAL, Principal
from legato.runs.analytics import Analytics
from legato.runs.conversations import Conversations
from legato.runs.node import Node
from tests.analytics_events import AT_MS, COMPLETED, EVER, GIVEN, Event, Reply, say, whole


@pytest.fixture
async def reply(node: Node) -> Reply:
    """A reply of the local user's."""
    return await say(node)


@pytest.fixture
def analytics(node: Node) -> Analytics:
    """The local user's."""
    return Analytics(node, LOCAL)


async def test_what_came_first_counts(analytics: Analytics, reply: Reply) -> None:
    """An event that comes again changes nothing, even if it says something else now."""
    await analytics.record([reply.ended()])
    before = await whole(analytics)
    await analytics.record([reply.ended("chat.message.failed", responseTimeMs=1, usage=None, cost="1")] * 3)
    assert await whole(analytics) == before


@pytest.mark.parametrize(
    "order", [pytest.param(each, id="".join(map(str, each))) for each in itertools.permutations(range(4))]
)
async def test_the_latest_feedback_counts_in_any_order(
    analytics: Analytics, reply: Reply, order: tuple[int, ...]
) -> None:
    """Before or behind the reply's own event, taken back and given again, each twice."""
    events = [
        reply.judged("up", AT_MS + 1),
        reply.judged(None, AT_MS + 2),
        reply.judged("down", AT_MS + 3),
        reply.ended(),
    ]
    await analytics.record([events[place] for place in order])
    await analytics.record([events[place] for place in order])
    figures = await whole(analytics)
    assert (figures["messages"], figures["feedback"]) == (1, {"up": 0, "down": 1})
    (day,) = await analytics.report(0, EVER)
    assert day.key == "2023-11-14"


async def test_feedback_of_one_millisecond_has_an_order(analytics: Analytics, node: Node) -> None:
    """Whichever comes first, the same one counts."""
    one, other = await say(node, conversation_id="one"), await say(node, conversation_id="other")
    await analytics.record([each.ended() for each in (one, other)])
    await analytics.record([one.judged("up", 5), one.judged("down", 5), one.judged(None, 5)])
    await analytics.record([other.judged(None, 5), other.judged("down", 5), other.judged("up", 5)])
    assert (await whole(analytics))["feedback"] == {"up": 2, "down": 0}


async def test_feedback_that_was_taken_back_leaves_no_group(analytics: Analytics, reply: Reply) -> None:
    """A reply that is not counted yet, and has no thumb, is in no report."""
    await analytics.record([reply.judged("up", 5), reply.judged(None, 6)])
    assert await analytics.report(0, EVER, by="session") == ()


async def test_feedback_alone_is_no_reply(analytics: Analytics, reply: Reply) -> None:
    """As long as a reply's own event is not there, nothing but the thumb counts."""
    await analytics.record([reply.judged("up", 5)])
    figures = await whole(analytics)
    assert figures["feedback"] == {"up": 1, "down": 0}
    assert (figures["messages"], figures["conversations"], figures["estimated"], figures["costUnknown"]) == (0,) * 4
    assert (await analytics.session("s-1")).conversations == {}


async def test_feedback_on_a_copy_counts(analytics: Analytics, node: Node, reply: Reply) -> None:
    """The reply of a fork has no run; what is thought of it counts beside what is thought of the first one."""
    service = Conversations(node, LOCAL)
    fork = await service.fork("c-1")
    assert fork.leaf_id is not None
    copy = replace(reply, message_id=fork.leaf_id, conversation_id=fork.id)
    await analytics.record([reply.ended(), reply.judged("up", 5), copy.judged("up", 6, runId=None)])
    figures = await whole(analytics)
    assert (figures["messages"], figures["feedback"]) == (1, {"up": 2, "down": 0})
    await service.delete(fork.id)
    assert (await whole(analytics))["feedback"] == {"up": 1, "down": 0}


async def test_a_deleted_conversation_is_not_counted(analytics: Analytics, node: Node, reply: Reply) -> None:
    """Its counts go with it, and what is delivered later counts neither for it nor for another of its name."""
    events = [reply.ended(), reply.judged("up", 5)]
    await analytics.record(events)
    await Conversations(node, LOCAL).delete("c-1")
    assert (await whole(analytics))["messages"] == 0
    with pytest.raises(NotFound):
        await analytics.session("s-1")
    await analytics.record(events)
    await say(node)
    await analytics.record(events)
    figures = await whole(analytics)
    assert (figures["messages"], figures["feedback"]) == (0, {"up": 0, "down": 0})


async def test_one_owners_events_are_not_anothers(node: Node, reply: Reply) -> None:
    """An owner counts its own events alone, the app those of all; an event cannot count another's reply."""
    eve = Principal(id="eve", role="admin")
    with pytest.raises(Forbidden):
        await Analytics(node, eve).record([Event(COMPLETED, "eve", {}), reply.ended()])
    await Analytics(node, APP).record(
        [replace(reply, owner="eve").ended(), replace(reply, owner="eve").judged("up", 5)]
    )
    assert (await whole(Analytics(node, eve)))["messages"] == 0
    assert (await whole(Analytics(node, LOCAL)))["messages"] == 0
    hers = await say(node, eve)
    await Analytics(node, APP).record([reply.ended(), hers.ended(), hers.judged("up", 5)])
    assert (await whole(Analytics(node, eve)))["feedback"] == {"up": 1, "down": 0}
    assert (await whole(Analytics(node, LOCAL)))["messages"] == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, ...) for name in ("runId", "conversationId", "sessionId", "model", "usage", "cost", "timestamp")),
        *((name, ...) for name in ("responseLength", "responseTimeMs", "firstTokenMs")),
        ("runId", ""),
        ("responseLength", -1),
        ("responseTimeMs", "12"),
        ("responseTimeMs", 1.5),
        ("timestamp", 2**60),
        ("cost", "free"),
        ("cost", "NaN"),
        ("cost", "-1"),
        ("cost", 1.5),
        ("usage.inputTokens", "7"),
        ("usage.outputTokens", ...),
    ],
)
async def test_a_payload_that_cannot_be_counted_names_its_field(
    analytics: Analytics, node: Node, reply: Reply, field: str, value: object
) -> None:
    """An error that no repetition mends; all others of the batch count."""
    event = (await say(node)).ended()
    inner, name = (event.payload["usage"], field[6:]) if field.startswith("usage.") else (event.payload, field)
    if value is ...:
        del inner[name]
    else:
        inner[name] = value
    with pytest.raises(InvalidJob, match=rf"^event 1 \({COMPLETED}\): {field}: ") as found:
        await analytics.record([reply.ended(), event])
    assert ("is missing" in found.value.message) == (value is ...)
    assert (await whole(analytics))["messages"] == 1


@pytest.mark.parametrize("field", ["messageId", "thumb", "timestamp"])
async def test_feedback_that_cannot_be_counted_names_its_field(analytics: Analytics, reply: Reply, field: str) -> None:
    """A thumb that is missing is not one that is taken back."""
    event = reply.judged("up", 5)
    del event.payload[field]
    with pytest.raises(InvalidJob, match=f"{field}: is missing"):
        await analytics.record([event])


@pytest.mark.parametrize(
    ("topic", "payload", "said"),
    [("chat.message.begun", {}, "topic: is none of"), (GIVEN, [], "payload: "), (COMPLETED, None, "payload: ")],
)
async def test_what_is_no_event_of_a_reply_is_refused(
    analytics: Analytics, topic: str, payload: object, said: str
) -> None:
    """Topics that are not counted, and payloads that are no objects."""
    with pytest.raises(InvalidJob, match=said):
        await analytics.record([Event(topic, "local", payload)] * 5)

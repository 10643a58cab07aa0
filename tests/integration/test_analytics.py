"""What is said of the replies that were counted, and to whom."""

from __future__ import annotations

from typing import Any

import pytest

from legato.core.errors import InvalidRequest, NotFound
from legato.core.principal import APP, LOCAL, Principal
from legato.runs.analytics import MAX_LIMIT, Analytics
from legato.runs.node import Node
from tests.analytics_events import AT_MS, EVER, Reply, say, whole


@pytest.fixture
async def reply(node: Node) -> Reply:
    """A reply of the local user's."""
    return await say(node)


@pytest.fixture
def analytics(node: Node) -> Analytics:
    """The local user's."""
    return Analytics(node, LOCAL)


async def test_a_session_has_the_names_that_users_know(analytics: Analytics, reply: Reply) -> None:
    """Every name that existing users rely upon, and what came later."""
    await analytics.record([reply.ended(), reply.judged("up", AT_MS + 5)])
    assert (await analytics.session("s-1")).as_json() == {
        "sessionId": "s-1",
        "totalMessages": 1,
        "totalTokens": 12,
        "estimatedTokens": False,
        "averageResponseTime": 120.0,
        "conversationCount": 1,
        "conversations": {"c-1": AT_MS},
        "errors": 0,
        "stops": 0,
        "feedback": {"up": 1, "down": 0},
        "lastMessageAt": AT_MS,
    }


async def test_a_report_has_its_names(analytics: Analytics, reply: Reply) -> None:
    """Under the day on which the reply ended, in UTC."""
    await analytics.record([reply.ended(cost="0.00210"), reply.judged("down", AT_MS + 86_400_000)])
    assert [each.as_json() for each in await analytics.report(0, EVER)] == [
        {
            "key": "2023-11-14",
            "messages": 1,
            "errors": 0,
            "stops": 0,
            "inputTokens": 7,
            "outputTokens": 5,
            "estimated": 0,
            "responseTimeMs": {"mean": 120.0, "p50": 120, "p95": 120},
            "firstTokenMs": {"mean": 30.0, "p50": 30, "p95": 30},
            "cost": "0.0021",
            "costUnknown": 0,
            "conversations": 1,
            "feedback": {"up": 0, "down": 1},
        }
    ]


async def test_nothing_is_not_nought(analytics: Analytics) -> None:
    """Of no replies there is no mean, no cost and no number of tokens; a report of everything is there all the same."""
    figures = await whole(analytics)
    assert (figures["messages"], figures["conversations"], figures["costUnknown"]) == (0, 0, 0)
    assert figures["inputTokens"] is figures["outputTokens"] is figures["cost"] is None
    assert figures["responseTimeMs"] == figures["firstTokenMs"] == {"mean": None, "p50": None, "p95": None}
    assert await analytics.report(0, EVER, by="day") == ()


@pytest.mark.parametrize(
    ("usage", "length", "inputs", "outputs", "estimated"),
    [
        pytest.param({"inputTokens": 7, "outputTokens": 5}, 99, 7, 5, 0, id="told"),
        pytest.param({"inputTokens": 7, "outputTokens": None}, 99, 7, None, 0, id="input-told"),
        pytest.param({"inputTokens": None, "outputTokens": 5}, 99, None, 5, 0, id="output-told"),
        pytest.param({"inputTokens": None, "outputTokens": None}, 99, None, 25, 1, id="nothing-told"),
        pytest.param(None, 99, None, 25, 1, id="no-usage"),
        pytest.param(None, 100, None, 25, 1, id="full-token"),
        pytest.param(None, 101, None, 26, 1, id="begun-token"),
        pytest.param(None, 0, None, 0, 1, id="no-text"),
        pytest.param({"inputTokens": 0, "outputTokens": 0}, 99, 0, 0, 0, id="nought-told"),
    ],
)
async def test_tokens_are_guessed_only_where_none_are_told(
    analytics: Analytics,
    reply: Reply,
    usage: dict[str, int | None] | None,
    length: int,
    inputs: int | None,
    outputs: int | None,
    estimated: int,
) -> None:
    """A quarter of the text's UTF-16 units, rounded up, and marked; what was told is never mixed with a guess."""
    await analytics.record([reply.ended(usage=usage, responseLength=length)])
    figures, session = await whole(analytics), await analytics.session("s-1")
    assert (figures["inputTokens"], figures["outputTokens"], figures["estimated"]) == (inputs, outputs, estimated)
    assert (session.total_tokens, session.estimated_tokens) == ((inputs or 0) + (outputs or 0), bool(estimated))


@pytest.mark.parametrize(
    ("cost", "told"),
    [
        (None, None),
        ("0", "0"),
        ("0.000000001", "0.000000001"),
        ("1E-7", "0.0000001"),
        ("12.50", "12.5"),
        ("100", "100"),
        ("0.0000000014", "0.000000001"),
        ("1000000", "1000000"),
    ],
)
async def test_costs_are_exact_to_a_billionth(
    analytics: Analytics, reply: Reply, cost: str | None, told: str | None
) -> None:
    """Decimals in, decimals out; no price is not a price of 0."""
    await analytics.record([reply.ended(cost=cost)])
    figures = await whole(analytics)
    assert (figures["cost"], figures["costUnknown"]) == (told, int(cost is None))


@pytest.mark.parametrize(
    ("outcome", "counts"), [("completed", (1, 0, 0)), ("failed", (0, 1, 0)), ("stopped", (0, 0, 1))]
)
async def test_only_completed_replies_have_a_response_time(
    analytics: Analytics, reply: Reply, outcome: str, counts: tuple[int, int, int]
) -> None:
    """Each outcome counts as itself; tokens of all count, times of completed ones alone."""
    await analytics.record([reply.ended(f"chat.message.{outcome}")])
    figures, session = await whole(analytics), await analytics.session("s-1")
    assert (figures["messages"], figures["errors"], figures["stops"]) == counts
    assert (session.total_messages, session.errors, session.stops) == counts
    assert session.total_tokens == 12
    assert session.average_response_time_ms == figures["responseTimeMs"]["mean"] == (120 if counts[0] else None)


async def test_a_session_is_known_from_its_first_message_on(analytics: Analytics, reply: Reply) -> None:
    """All 0 while no event has arrived; a session that nobody knows is not found."""
    session = await analytics.session("s-1")
    assert (session.total_messages, session.average_response_time_ms, session.last_message_at_ms) == (0, None, None)
    with pytest.raises(NotFound):
        await analytics.session("s-2")


async def test_others_see_nothing(analytics: Analytics, node: Node, reply: Reply) -> None:
    """Neither another user, nor the app itself, which only counts."""
    await analytics.record([reply.ended()])
    for principal in (Principal(id="eve", role="admin"), APP):
        other = Analytics(node, principal)
        assert (await whole(other))["messages"] == 0
        assert await other.sessions(None, 10) == ()
        with pytest.raises(NotFound):
            await other.session("s-1")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"since_ms": -1}, "since_ms"),
        ({"until_ms": 2**63}, "until_ms"),
        ({"since_ms": 9, "until_ms": 8}, "until_ms"),
        ({"since_ms": "0"}, "since_ms"),
        ({"by": "days"}, "by"),
        ({"limit": 0}, "limit"),
        ({"limit": MAX_LIMIT + 1}, "limit"),
        ({"after": "today"}, "after"),
    ],
)
async def test_a_report_refuses_what_is_no_span(analytics: Analytics, arguments: dict[str, Any], field: str) -> None:
    """Each wrong argument by its name."""
    with pytest.raises(InvalidRequest) as found:
        await analytics.report(**({"since_ms": 0, "until_ms": 9} | arguments))
    assert [each.field for each in found.value.fields] == [field]
    with pytest.raises(InvalidRequest):
        await analytics.sessions(None, 0)

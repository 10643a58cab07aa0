"""What a message shows beside its text: who stands in the same place, how long it took, and how it ended."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.types import ASGIApp

from legato.http.api import create_api
from legato.runs.node import Node
from tests.asgi import call
from tests.integration.test_conversations_cost import Statements


async def messages(api: ASGIApp, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await call(api, "GET", f"/conversations/c/messages{query}")).json["messages"]
    return found


async def post(api: ASGIApp, message: str, **fields: Any) -> None:
    await call(api, "POST", "/chat/stream", {"message": message, "conversationId": "c"} | fields)


async def test_siblings_are_those_in_the_same_place(node: Node) -> None:
    """At the root, in the middle and at the end; in order of making, from each of them the same."""
    api = create_api(node)
    await post(api, "script: tokens=1")
    await post(api, "script: tokens=1")
    first = await messages(api)
    assert [each["siblings"] for each in first] == [[each["id"]] for each in first]
    await post(api, "another beginning script: tokens=1", parentId=None)
    other = await messages(api)
    await post(api, "another second script: tokens=1", parentId=first[1]["id"])
    second = await messages(api)
    await call(api, "POST", f"/messages/{first[1]['id']}/regenerate", {})
    await call(api, "POST", f"/messages/{first[1]['id']}/regenerate", {})
    again = await messages(api)
    leaf = first[3]["id"]
    whole = await messages(api, f"?leafId={leaf}")
    replies = [first[1]["id"], *next(each["siblings"] for each in again if each["role"] == "assistant")[1:]]
    assert len(replies) == 3
    assert [each["siblings"] for each in whole] == [
        [first[0]["id"], other[0]["id"]],
        replies,
        [first[2]["id"], second[2]["id"]],
        [leaf],
    ]
    for message in replies:
        assert (await messages(api, f"?leafId={message}"))[1]["siblings"] == replies
    assert (await messages(api, f"?leafId={second[3]['id']}"))[2]["siblings"] == whole[2]["siblings"]
    assert (await messages(api, f"?leafId={other[1]['id']}"))[0]["siblings"] == whole[0]["siblings"]
    # A page may begin anywhere.
    assert (await messages(api, f"?leafId={second[3]['id']}&cursor=2"))[0]["siblings"] == whole[2]["siblings"]
    answer = await call(api, "PUT", f"/messages/{replies[1]}/feedback", {"thumb": "up"})
    assert answer.json["siblings"] == replies


async def test_a_page_takes_one_statement_for_all_its_siblings(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many messages it has, and however many of them have siblings."""
    api = create_api(node)
    for number in range(6):
        await post(api, f"{number} script: tokens=1")
    few = Statements(monkeypatch)
    await messages(api, "?limit=2")
    count = len(few.made)
    for each in (await messages(api))[1::2]:
        await call(api, "POST", f"/messages/{each['id']}/regenerate", {})
    few.made.clear()
    await messages(api)
    assert len(few.made) == count == 3


ENDS = [
    ({}, {"status": "complete", "finishReason": "stop", "error": None}),
    ({"maxTokens": 2}, {"status": "complete", "finishReason": "length", "error": None}),
]


@pytest.mark.parametrize(("asked", "shown"), ENDS, ids=["stop", "length"])
async def test_a_reply_shows_how_it_ended_and_how_long_it_took(
    node: Node, asked: dict[str, Any], shown: dict[str, Any]
) -> None:
    """The figures of its run; a message of the user has none; costs are not known."""
    api = create_api(node)
    await post(api, "script: tokens=9", **asked)
    question, reply = await messages(api)
    assert shown.items() <= reply.items()
    assert 0 <= reply["firstTokenMs"] <= reply["responseTimeMs"]
    assert reply["cost"] is None
    own = ("responseTimeMs", "firstTokenMs", "finishReason", "error", "cost", "runId")
    assert [question[name] for name in own] == [None] * len(own)


async def test_a_failed_reply_shows_why(node: Node) -> None:
    """With code, words, and whether another try may help."""
    api = create_api(node)
    await post(api, "script: fail=401")
    reply = (await messages(api))[1]
    assert (reply["status"], reply["finishReason"]) == ("failed", None)
    run = (await call(api, "GET", f"/runs/{reply['runId']}")).json
    assert reply["error"] == run["error"]
    assert reply["error"]["code"]
    copy = await call(api, "POST", "/conversations/c/fork", {"id": "f"})
    assert copy.status == 201
    copied = (await call(api, "GET", "/conversations/f/messages")).json["messages"][1]
    assert (copied["status"], copied["error"], copied["siblings"]) == ("failed", None, [copied["id"]])

"""Whatever a person can have kept passes the policies of requests: settings of a conversation, and reasons too."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from legato.tools.schema import tool_from
from tests.asgi import AsgiAnswer, call
from tests.moderation_world import PRIVATE, RULES, World, calls_tool, events_of, kept_bytes, open_world, says, until

CARD = "4111 1111 1111 1111"
LEFT = "[CREDIT_CARD]"
POLICIES: tuple[dict[str, Any], ...] = (
    RULES | {"on": ["request"]},
    PRIVATE | {"on": ["request"]},
    {"type": "rules", "name": "watch", "terms": ["odd"], "action": "flag", "reason": "odd", "on": ["request"]},
)


async def queue(world: World) -> list[tuple[str, str]]:
    """What waits for a decision: what it is, and its text."""
    found = (await world.get("/admin/review"))["reviews"]
    return [(each["source"], (await world.get(f"/admin/review/{each['id']}"))["text"]) for each in found]


def refused(answer: AsgiAnswer) -> tuple[int, str]:
    return answer.status, answer.json["errors"][0]["field"]


async def test_what_is_said_of_a_conversation_is_judged(tmp_path: Path) -> None:
    """Titles, prompts and metadata: redacted, refused, or put into the queue by the transaction that keeps them."""
    async with open_world(tmp_path, *POLICIES) as world:
        given = {"systemPrompt": "an odd prompt", "metadata": {"card": CARD, "tags": ["forbidden word", 1]}}
        made = await call(world.api, "POST", "/conversations", given)
        assert made.json["metadata"] == {"card": LEFT, "tags": ["[removed: policy]", 1]}
        path = f"/conversations/{made.json['id']}"
        changed = await call(world.api, "PATCH", path, {"title": f"odd {CARD}", "metadata": {CARD: CARD}})
        assert (changed.json["title"], changed.json["metadata"]) == (f"odd {LEFT}", {LEFT: LEFT})
        assert refused(await call(world.api, "PATCH", path, {"title": "forbidden word"})) == (422, "title")
        world.upstream.scripts.append(says(["Hi."]))
        await world.ask("hello", conversationId=made.json["id"])
        copy = await call(world.api, "POST", f"{path}/fork", {"title": f"an odd {CARD}"})
        assert copy.json["title"] == f"an odd {LEFT}"
        assert refused(await call(world.api, "POST", f"{path}/fork", {"title": "forbidden word"})) == (422, "title")
        assert await queue(world) == [
            ("system_prompt", "an odd prompt"),
            ("title", f"odd {LEFT}"),
            ("title", f"an odd {LEFT}"),
        ]
        # A change that is refused flags nothing.
        assert (await call(world.api, "PATCH", f"{path}-none", {"title": "odd"})).status == 404
        assert len(await queue(world)) == 3
    assert b"1111 1111" not in kept_bytes(tmp_path)
    assert b"forbidden" not in kept_bytes(tmp_path)


async def test_reasons_of_feedback_are_judged(tmp_path: Path) -> None:
    """What steps are told of them, and what comes with an import, too."""
    async with open_world(tmp_path, *POLICIES) as world:
        world.upstream.scripts.append(says(["Hi."]))
        _, end = await world.ask("hello")
        path = f"/messages/{end['messageId']}/feedback"
        given = await call(world.api, "PUT", path, {"thumb": "down", "reason": f"odd, and of {CARD}"})
        assert given.json["feedback"]["reason"] == f"odd, and of {LEFT}"
        bad = await call(world.api, "PUT", path, {"thumb": "down", "reason": "a forbidden word"})
        assert refused(bad) == (422, "reason")
        assert await queue(world) == [("feedback", f"odd, and of {LEFT}")]
        parts = [{"type": "text", "text": "hello"}]
        said: list[dict[str, Any]] = [{"id": "1", "parentId": None, "role": "user", "parts": parts}]
        feedback = {"thumb": "up", "reason": f"for {CARD}", "at": 1}
        said.append({"id": "2", "parentId": "1", "role": "assistant", "parts": parts, "feedback": feedback})
        told = {"format": "legato.conversation", "version": 1, "conversation": {"title": "x"}, "messages": said}
        brought = await call(world.api, "POST", "/conversations/import", told)
        assert brought.status == 201, brought.body
        assert (await world.messages(brought.json["id"]))[1]["feedback"]["reason"] == f"for {LEFT}"
    assert b"1111 1111" not in kept_bytes(tmp_path)
    assert b"forbidden" not in kept_bytes(tmp_path)


async def test_the_reason_of_an_approval_is_judged(tmp_path: Path) -> None:
    """Before it is in the log, and before the model is told of it."""

    async def pay(amount: str) -> str:
        """Pay."""
        return "paid"

    tools = [tool_from(pay, needs_approval=True)]
    async with open_world(tmp_path, *POLICIES, tools=tools) as world:
        world.upstream.scripts += [calls_tool("pay", {"amount": "1"}), says(["As you like."])]
        post = asyncio.create_task(world.post("go"))
        await until(lambda: any(run.approvals for run in world.node.live.values()))
        (run,) = world.node.live.values()
        path = f"/chat/stream/{run.id}/approvals/call_1"
        bad = await call(world.api, "POST", path, {"granted": False, "reason": "a forbidden word"})
        assert refused(bad) == (422, "reason")
        given = await call(world.api, "POST", path, {"granted": False, "reason": f"odd: {CARD}"})
        assert given.status == 200, given.body
        assert events_of(await post)[-1].name == "complete"
        assert f"did not approve this call: odd: {LEFT}" in world.told
        assert await queue(world) == [("approval", f"odd: {LEFT}")]
    assert b"1111 1111" not in kept_bytes(tmp_path)
    assert b"forbidden" not in kept_bytes(tmp_path)

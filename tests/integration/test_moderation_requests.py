"""Messages, what comes with them and results of tools are judged before anything of them is kept or sent."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from legato import Allow, Block, Flag, Legato, Passage, Redact
from legato.tools.schema import tool_from
from tests.asgi import call
from tests.integration.held_models import HeldLimits
from tests.moderation_world import POLITE, PRIVATE, RULES, calls_tool, kept_bytes, open_world, says, until

CARD = "4111 1111 1111 1111"


async def test_a_redacted_message_is_kept_and_sent_as_it_is_left(tmp_path: Path) -> None:
    """The number is in no message, title, search, log of a run, metadata, request upstream, nor file."""
    async with open_world(tmp_path, PRIVATE | {"on": ["request"]}) as world:
        world.upstream.scripts.append(says(["Fine."]))
        said = f"{CARD} is my card"
        more: dict[str, Any] = {"requestId": "q-1", "metadata": {"typed": said, "tags": [CARD, 1]}}
        text, end = await world.ask(said, systemPrompt=f"They have {CARD}.", **more)
        assert text == "Fine."
        question, _ = await world.messages(end["conversationId"])
        assert question["content"] == "[CREDIT_CARD] is my card"
        assert question["metadata"] == {"typed": "[CREDIT_CARD] is my card", "tags": ["[CREDIT_CARD]", 1]}
        assert (await world.get(f"/conversations/{end['conversationId']}"))["title"].startswith("[CREDIT_CARD]")
        assert "They have [CREDIT_CARD]." in world.told
        assert "1111" not in world.told
        assert world.metric("policy_verdicts_total", policy="private_data", stage="request", verdict="redact") > 0
        # The same key with the same body is the same turn: what was compared is a hash.
        again, _ = await world.ask(said, systemPrompt=f"They have {CARD}.", **more)
        assert again == "Fine."
    assert b"1111 1111" not in kept_bytes(tmp_path)


async def test_a_blocked_message_is_answered_without_a_model(tmp_path: Path) -> None:
    """The reply is the polite text, an ordinary one for naive clients; the message is kept nowhere, nobody is asked."""
    own = RULES | {"text": "Not here, please.", "on": ["request"]}
    async with open_world(tmp_path, own) as world:
        text, end = await world.ask("say the Forbidden  WORD", metadata={"again": "forbidden word"})
        assert (text, end["finishReason"]) == ("Not here, please.", "content_filter")
        assert world.upstream.requests == []
        question, reply = await world.messages(end["conversationId"])
        assert (question["content"], reply["content"]) == ("[removed: house]", "Not here, please.")
        assert question["metadata"] is None
        assert world.metric("policy_verdicts_total", policy="rules", stage="request", verdict="block") == 1
        # The conversation goes on.
        world.upstream.scripts.append(says(["Hello."]))
        assert (await world.ask("hi", conversationId=end["conversationId"]))[0] == "Hello."
        assert "orbidden" not in world.told
    assert b"orbidden" not in kept_bytes(tmp_path)


async def test_a_blocked_message_waits_its_turn(tmp_path: Path) -> None:
    """Behind a reply that streams it is answered when its turn comes, as it was judged."""
    async with open_world(tmp_path, RULES | {"on": ["request"]}) as world:
        world.upstream.scripts.append(says(["One.", " Two."], pause_s=0.2))
        first = asyncio.create_task(world.ask("hi", conversationId="c-1"))
        await until(lambda: bool(world.upstream.requests))
        text, end = await world.ask("forbidden word", conversationId="c-1")
        assert (text, end["finishReason"]) == (POLITE, "content_filter")
        assert (await first)[0] == "One. Two."
        assert len(world.upstream.requests) == 1


async def test_a_result_of_a_tool_is_judged_before_the_model_sees_it(tmp_path: Path) -> None:
    """Secrets are cut out of it, and what is blocked the model is only told of; it is kept nowhere."""

    async def look(name: str) -> str:
        """Look somebody up."""
        return f"{name} pays with {CARD}" if name == "ann" else "a forbidden word"

    tools = [tool_from(look)]
    async with open_world(
        tmp_path, RULES | {"on": ["request"]}, PRIVATE | {"on": ["request"]}, tools=tools, allowed_private_hosts=[]
    ) as world:
        for name in ("ann", "bob"):
            world.upstream.scripts += [calls_tool("look", {"name": name}), says(["Done."])]
            assert (await world.ask("look"))[0] == "Done."
        assert "ann pays with [CREDIT_CARD]" in world.told
        assert "[removed: house]" in world.told
        assert "1111" not in world.told
    assert b"1111 1111" not in kept_bytes(tmp_path)
    assert b"forbidden" not in kept_bytes(tmp_path)


async def test_what_a_tool_is_called_with_is_judged(tmp_path: Path) -> None:
    """Arguments that a policy blocks are not shown, not kept, and no tool runs with them."""
    ran: list[str] = []

    async def note(text: str) -> str:
        """Note."""
        ran.append(text)
        return "ok"

    async with open_world(tmp_path, RULES | {"on": ["reply"]}, tools=[tool_from(note)]) as world:
        world.upstream.scripts.append(calls_tool("note", {"text": "forbidden word"}))
        answer = await world.post("go")
        assert b"forbidden" not in answer.body
        assert POLITE.encode() in answer.body
        assert ran == []
    assert b"forbidden" not in kept_bytes(tmp_path)


VERDICTS: dict[str, tuple[Any, str, str | None]] = {
    "allow": (Allow(), "Hi.", "hello secret plan"),
    "none": (None, "Hi.", "hello secret plan"),
    "block": (Block(reason="plans", text="No plans."), "No plans.", "[removed: plans]"),
    "redact": (Redact(text="hello [plan]"), "Hi.", "hello [plan]"),
    "flag": (Flag(reason="look"), "Hi.", "hello secret plan"),
    "nonsense": (True, POLITE, "[removed: policy_failed]"),
    "half a verdict": (Redact(text=None), POLITE, "[removed: policy_failed]"),  # type: ignore[arg-type]
    "raises": (RuntimeError("secret plan"), POLITE, "[removed: policy_failed]"),
    "hangs": (100.0, POLITE, "[removed: policy_failed]"),
}


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_bots_own_policy_decides(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each verdict does what it says; a policy that raises, hangs or returns nonsense blocks, and is counted."""
    app = Legato()
    given: list[Any] = []
    hangs, over = threading.Event(), threading.Event()
    limits = HeldLimits(monkeypatch)

    def decide(passage: Passage) -> Any:
        verdict = given[-1]
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    if kind == "async":

        @app.moderate("request", name="own", timeout_s=0.3)
        async def own(passage: Passage) -> Any:
            if isinstance(given[-1], float):
                hangs.set()
                await asyncio.sleep(given[-1])
            return decide(passage)

    else:

        @app.moderate("request", name="own", timeout_s=0.3)
        def own_too(passage: Passage) -> Any:
            if isinstance(given[-1], float):
                hangs.set()
                over.wait(20)
            return decide(passage)

    async with open_world(tmp_path, bot=app) as world:
        for name, (verdict, shown, kept) in VERDICTS.items():
            given.append(verdict)
            world.upstream.scripts.clear()
            world.upstream.scripts.append(says(["Hi."]))
            asking = asyncio.create_task(world.ask("hello secret plan"))
            if isinstance(verdict, float):
                await until(hangs.is_set)
                limits.end()
            text, end = await asking
            question = (await world.messages(end["conversationId"]))[0]
            assert (name, text, question["content"]) == (name, shown, kept)
        over.set()
        assert world.metric("policy_failures_total", policy="own", stage="request", kind="error") == 3
        assert world.metric("policy_failures_total", policy="own", stage="request", kind="timeout") == 1
        assert limits.asked_s == {0.3}
        queue = await world.get("/admin/review")
        assert [(each["policy"], each["reason"], each["source"]) for each in queue["reviews"]] == [
            ("own", "look", "message")
        ]


async def test_a_policy_that_fails_open_lets_pass(tmp_path: Path) -> None:
    """As configured the text goes on, and the failure is counted all the same."""
    app = Legato()

    @app.moderate("request", on_failure="open")
    async def broken(passage: Passage) -> Any:
        raise RuntimeError

    async with open_world(tmp_path, bot=app) as world:
        world.upstream.scripts.append(says(["Hi."]))
        assert (await world.ask("hello"))[0] == "Hi."
        assert world.metric("policy_failures_total", policy="broken", stage="request", kind="error") == 1


async def test_flags_are_reviewed_and_decided_once(tmp_path: Path) -> None:
    """A flagged text goes on; an admin reads it, decides, and both stand in the audit log; it goes with its
    conversation."""
    watch = {"type": "rules", "name": "watch", "terms": ["odd"], "action": "flag", "reason": "odd"}
    async with open_world(tmp_path, watch) as world:
        world.upstream.scripts.append(says(["That is odd. ", "Bye."]))
        text, end = await world.ask("an odd thing")
        assert text == "That is odd. Bye."
        queue = await world.get("/admin/review")
        assert (queue["open"], [each["source"] for each in queue["reviews"]]) == (2, ["message", "reply"])
        assert "text" not in queue["reviews"][0]
        first, second = (each["id"] for each in queue["reviews"])
        assert (await world.get(f"/admin/review/{second}"))["text"] == "That is odd. "
        path = f"/admin/review/{first}"
        assert (await call(world.api, "POST", path, {"decision": "perhaps"})).status == 422
        decided = await call(world.api, "POST", path, {"decision": "violation", "note": "seen"})
        assert (decided.status, decided.json["decidedBy"], decided.json["note"]) == (200, "local", "seen")
        assert (await call(world.api, "POST", path, {"decision": "fine"})).status == 409
        assert (await call(world.api, "POST", "/admin/review/v-none", {"decision": "fine"})).status == 404
        done = await world.get("/admin/review?state=decided")
        assert (done["open"], [each["decision"] for each in done["reviews"]]) == (1, ["violation"])
        page = await world.get("/admin/review?limit=1")
        assert (len(page["reviews"]), page["nextCursor"]) == (1, None)
        entries = (await world.get("/admin/audit"))["entries"]
        assert [entry["action"] for entry in entries[:2]] == ["review.decide", "admin.read"]
        assert (await call(world.api, "DELETE", f"/conversations/{end['conversationId']}")).status == 204
        assert (await world.get("/admin/review?state=decided"))["reviews"] == []


async def test_what_is_brought_in_other_ways_is_judged_too(tmp_path: Path) -> None:
    """Titles and system prompts that a person gives, and imported conversations: kept as the policies leave them."""
    async with open_world(tmp_path, RULES | {"on": ["request"]}, PRIVATE | {"on": ["request"]}) as world:
        settings = {"systemPrompt": f"They pay with {CARD}."}
        made = await call(world.api, "POST", "/conversations", settings)
        assert made.json["systemPrompt"] == "They pay with [CREDIT_CARD]."
        path = f"/conversations/{made.json['id']}"
        assert (await call(world.api, "PATCH", path, {"title": f"of {CARD}"})).json["title"] == "of [CREDIT_CARD]"
        refused = await call(world.api, "PATCH", path, {"systemPrompt": "a forbidden word"})
        assert (refused.status, refused.json["errors"][0]["field"]) == (422, "system_prompt")
        said = [{"id": "1", "parentId": None, "role": "user", "parts": [{"type": "text", "text": f"I have {CARD}"}]}]
        said.append(
            {"id": "2", "parentId": "1", "role": "assistant", "parts": [{"type": "text", "text": "forbidden word"}]}
        )
        brought = await call(
            world.api,
            "POST",
            "/conversations/import",
            {"format": "legato.conversation", "version": 1, "conversation": {"title": CARD}, "messages": said},
        )
        assert brought.status == 201, brought.body
        found = await world.messages(brought.json["id"])
        assert [each["content"] for each in found] == ["I have [CREDIT_CARD]", "[removed: policy]"]
        assert brought.json["title"] == "[CREDIT_CARD]"
    assert b"1111 1111" not in kept_bytes(tmp_path)

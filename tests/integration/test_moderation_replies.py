"""Replies are judged while they stream: what is blocked is nowhere, what is redacted is redacted everywhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from legato import Block, Legato, Passage, Redact
from tests.client import Event, parse_event
from tests.contract.upstream_server import Do
from tests.moderation_world import POLITE, PRIVATE, RULES, frame, kept_bytes, open_world, says, until

CARD = "4111 1111 1111 1111"
PATIENT = {"hold_ms": 10_000}
"""No half sentence is judged by itself because a machine is slow."""


async def test_a_blocked_sentence_is_shown_nowhere(tmp_path: Path) -> None:
    """What came before is shown, the sentence is not, the polite text ends the reply, and nothing of it is kept."""
    said = ["All is ", "well. ", "Here is the for", "bidden wo", "rd of the day. ", "And so on. "]
    async with open_world(tmp_path, RULES, moderation=PATIENT) as world:
        world.upstream.scripts.append(says(said, pause_s=0.01, then=[Do.HOLD]))
        answer = await world.post("hello")
        assert b"forbidden" not in answer.body
        text, end = "".join(_contents(answer.body)), _last(answer.body)
        assert text == f"All is well. \n\n{POLITE}"
        assert end["finishReason"] == "content_filter"
        # What the model said is charged, not what was shown of it.
        assert end["usage"]["outputTokens"] > len("All is well. ")
        # The call is given up at once: its server sees the connection close.
        await asyncio.wait_for(world.upstream.closed_at.get(), 20.0)
        assert world.metric("policy_verdicts_total", policy="rules", stage="reply", verdict="block") == 1
        assert world.metric("runs_ended_total", state="finished", reason="content_filter") == 1
        (_, reply) = await world.messages(end["conversationId"])
        assert reply["content"] == text
    assert b"forbidden" not in kept_bytes(tmp_path)


async def test_what_is_redacted_is_redacted_everywhere(tmp_path: Path) -> None:
    """A number that comes in pieces is never shown nor kept, and all around it is."""
    said = ["Your card is 4111 ", "1111 11", "11 1111", ". Keep ", "it. Bye"]
    async with open_world(tmp_path, PRIVATE) as world:
        world.upstream.scripts.append(says(said, pause_s=0.01))
        answer = await world.post("hello")
        assert "".join(_contents(answer.body)) == "Your card is [CREDIT_CARD]. Keep it. Bye"
        assert _last(answer.body)["finishReason"] == "stop"
    assert b"1111" not in kept_bytes(tmp_path)


async def test_reasoning_is_judged_too(tmp_path: Path) -> None:
    """What a model says to itself is shown as well, so it is held to the same."""
    thought = [frame(reasoning_content=piece) for piece in ("The card is ", "4111 1111 ", "1111 1111. ", "Hm.")]
    async with open_world(tmp_path, PRIVATE) as world:
        world.upstream.scripts.append([*says(())[:1], *thought, *says(["Fine."])[1:]])
        answer = await world.post("hello")
        assert b"1111" not in answer.body
        assert b"[CREDIT_CARD]" in answer.body
        assert "".join(_contents(answer.body)) == "Fine."


async def test_a_half_sentence_is_not_held_for_ever(tmp_path: Path) -> None:
    """What has no end is judged and shown once it has waited for long enough, whole words of it."""
    async with open_world(tmp_path, PRIVATE, moderation={"hold_ms": 100}) as world:
        world.upstream.scripts.append(says(["one two thr"], then=[Do.HOLD]))
        posted = asyncio.create_task(world.post("hello"))
        await until(lambda: any(run.tail.log.text_bytes for run in world.node.live.values()))
        live = [*world.node.live.values()]
        assert live[0].tail.log.text == "one two "
        live[0].stop("user")
        assert "".join(_contents((await posted).body)) == "one two "


async def test_without_a_policy_of_replies_each_delta_is_shown_as_it_comes(tmp_path: Path) -> None:
    """Where only requests are judged no text is held back: one delta is one chunk."""
    async with open_world(tmp_path, PRIVATE | {"on": ["request"]}) as world:
        world.upstream.scripts.append(says(["4111 1111 ", "1111 11", "11"], then=[Do.HOLD]))
        posted = asyncio.create_task(world.post("hello"))
        await until(lambda: any(run.tail.log.text == CARD for run in world.node.live.values()))
        live = [*world.node.live.values()]
        live[0].stop("user")
        assert _contents((await posted).body) == ["4111 1111 ", "1111 11", "11"]


async def test_deltas_stay_as_they_came_where_nothing_is_redacted(tmp_path: Path) -> None:
    """Judging makes no chunks of its own: a typing reader still sees words."""
    said = ["Hel", "lo ", "there. ", "How ", "are", " you"]
    async with open_world(tmp_path, RULES, PRIVATE, moderation=PATIENT) as world:
        world.upstream.scripts.append(says(said))
        assert _contents((await world.post("hello")).body) == said


async def test_a_call_that_breaks_goes_on_behind_what_was_shown(tmp_path: Path) -> None:
    """What was held back when a call broke is made anew; nothing is shown twice, and nothing unjudged."""
    async with open_world(tmp_path, RULES) as world:
        world.upstream.scripts.append(says(["First part. ", "Then the forbid"], then=[0.1, Do.RESET]))
        world.upstream.scripts.append(says(["Second part, which is fine."]))
        text, end = await world.ask("hello")
        assert text == "First part. Second part, which is fine."
        assert end["finishReason"] == "stop"
        assert "forbid" not in world.told


@pytest.mark.parametrize("way", ["text", "reasoning"])
async def test_a_policy_that_fails_blocks_the_reply(tmp_path: Path, way: str) -> None:
    """Closed is the default: where a policy takes too long, nothing of what it had to judge is shown."""
    slow = {"type": "rules", "patterns": [r"(?:x|x)+;"], "action": "redact"}
    async with open_world(tmp_path, slow) as world:
        piece = f"{300 * 'x'}. So. "
        deltas = [frame(content=piece)] if way == "text" else [frame(reasoning_content=piece)]
        world.upstream.scripts.append([*says(())[:1], *deltas, Do.HOLD])
        answer = await world.post("hello")
        assert b"xxxx" not in answer.body
        assert "".join(_contents(answer.body)) == POLITE
        assert world.metric("policy_failures_total", policy="rules", stage="reply", kind="timeout") == 1


REPLY_VERDICTS: dict[str, tuple[Any, str, str]] = {
    "allow": (None, "One. Two secrets. Three.", "stop"),
    "redact": (Redact(text="[gone] "), "One. [gone] Three.", "stop"),
    "block": (Block(reason="plans", text="No."), "One. \n\nNo.", "content_filter"),
    "raises": (RuntimeError("secrets"), f"One. \n\n{POLITE}", "content_filter"),
    "hangs": (30.0, f"One. \n\n{POLITE}", "content_filter"),
}


async def test_a_bots_own_policy_judges_sentence_by_sentence(tmp_path: Path) -> None:
    """It is given each sentence with what was shown before; what it says counts, and so does that it says nothing."""
    app, seen, given = Legato(), list[tuple[str, str]](), list[Any]()

    @app.moderate("reply", timeout_s=0.3)
    async def own(passage: Passage) -> Any:
        seen.append((passage.context, passage.text))
        if "secrets" not in passage.text:
            return None
        if isinstance(given[-1], Exception):
            raise given[-1]
        if isinstance(given[-1], float):
            await asyncio.sleep(given[-1])
        return given[-1]

    async with open_world(tmp_path, bot=app, moderation=PATIENT) as world:
        for name, (verdict, shown, reason) in REPLY_VERDICTS.items():
            given.append(verdict)
            seen.clear()
            world.upstream.scripts.append(says(["One. Two ", "secrets. Three."]))
            text, end = await world.ask("hello")
            assert (name, text, end["finishReason"]) == (name, shown, reason)
            assert seen[:2] == [("", "One. "), ("One. ", "Two secrets. ")]
        assert world.metric("policy_failures_total", policy="own", stage="reply", kind="timeout") == 1


def _contents(body: bytes) -> list[str]:
    return [event.data["content"] for event in _events(body) if event.name == "chunk"]


def _last(body: bytes) -> dict[str, Any]:
    return _events(body)[-1].data


def _events(body: bytes) -> list[Event]:
    blocks = body.removesuffix(b"\n\n").split(b"\n\n")
    return [parse_event(block) for block in blocks if not block.startswith(b":")]

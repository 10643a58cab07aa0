"""People who talk at random, deliveries of what that tells, and the figures as the runs and messages have them."""

from __future__ import annotations

import asyncio
import json
import math
import random
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from legato.core.clock import SystemClock
from legato.core.principal import APP, Principal
from legato.core.text import utf16_length
from legato.runs.analytics import Analytics
from legato.runs.conversations import Conversations
from legato.runs.live import RunRequest
from legato.runs.node import Node
from legato.runs.start import NewMessage, start
from legato.runs.stop import stop
from legato.storage.turns import LEAF
from tests.analytics_events import Event

ANN: Final = Principal(id="ann", role="member")
BEN: Final = Principal(id="ben", role="member")
MODELS: Final = ("scripted", "other", "tiny")
SESSIONS: Final = ("s-1", "s-2", "s 3", "🎵", "zebra")
DAY_MS: Final = 86_400_000
CONSUMERS: Final = 8


class JumpingClock(SystemClock):
    """The machine's clock, moved on by the test: by days between replies, by seconds while they are made."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_ms / 1000


@dataclass
class World:
    """A node on which people talk at random."""

    node: Node
    clock: JumpingClock
    dice: random.Random
    talks: dict[str, list[str]] = field(
        default_factory=lambda: {each.id: [f"c-{each.id}-{number}" for number in range(10)] for each in (ANN, BEN)}
    )
    """Names of conversations by owner."""

    async def talk(self, turns: int) -> None:
        """Make so many replies at once, of all outcomes, while the clock goes on in leaps."""
        made = [asyncio.ensure_future(self._turn(number)) for number in range(turns)]
        while not all(task.done() for task in made) or self.node.live or self.node.tasks:
            self.clock.ahead_ms += self.dice.choice((0, 1, 7, 40, 300))
            await asyncio.sleep(0.002)
        await asyncio.gather(*made)

    async def _turn(self, number: int) -> None:
        dice = self.dice
        owner = dice.choice((ANN, ANN, BEN))
        kind = dice.choices(("completed", "unknown", "cut", "failed", "stopped"), (8, 3, 1, 2, 3))[0]
        tokens = dice.randrange(1, 12)
        words = {
            "completed": f"tokens={tokens} delay_ms={dice.choice((0, 1, 3))}",
            "unknown": f"tokens={tokens} usage=0",
            "cut": f"tokens={tokens} cut={tokens // 2}@1",
            "failed": f"tokens={tokens} fail=400",
        }.get(kind, f"tokens={tokens} stall={tokens // 2}")
        run_id = await self._post(owner, f"script: seed={number} {words}")
        if kind == "stopped":
            await asyncio.sleep(dice.choice((0, 0.01)))
            await stop(self.node, owner, run_id)

    async def _post(self, owner: Principal, text: str) -> str:
        dice = self.dice
        # So few that turns wait for each other, and that the name of a deleted one is used again.
        name = dice.choice(self.talks[owner.id])
        message = NewMessage(
            text=text,
            session_id=dice.choice(SESSIONS),
            conversation_id=name,
            request=RunRequest(model=dice.choice((None, *MODELS))),
            parent=LEAF,
        )
        return (await start(self.node, owner, message)).run_id

    async def judge(self) -> None:
        """Give feedback on some replies, and take some of it back or change it."""
        for row in self.rows("SELECT id, owner FROM message WHERE role = 'assistant' ORDER BY key"):
            for _ in range(self.dice.choice((0, 0, 1, 1, 2, 3))):
                self.clock.ahead_ms += self.dice.choice((1, 5))
                service = Conversations(self.node, Principal(id=row["owner"], role="member"))
                await service.give_feedback(row["id"], self.dice.choice(("up", "down", None)))

    async def fork(self) -> None:
        """Copy some conversations; the replies of the copies have no runs."""
        for owner, name in self.some():
            await Conversations(self.node, owner).fork(name)

    async def delete(self) -> None:
        """Delete some conversations."""
        for owner, name in self.some():
            await Conversations(self.node, owner).delete(name)

    def some(self) -> list[tuple[Principal, str]]:
        """Return three conversations of each owner that are there."""
        there = {(row["owner"], row["id"]) for row in self.rows("SELECT owner, id FROM conversation")}
        return [
            (owner, name)
            for owner in (ANN, BEN)
            for name in [name for name in self.talks[owner.id] if (owner.id, name) in there][:3]
        ]

    def events(self) -> list[Event]:
        """What the replies and the feedback told, with costs for some."""
        found = []
        for row in self.rows("SELECT topic, owner, payload FROM outbox ORDER BY id"):
            payload = json.loads(row["payload"])
            if "cost" in payload:
                payload["cost"] = cost_of(payload["runId"])
            found.append(Event(row["topic"], row["owner"], payload))
        return found

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """Read the database beside the server."""
        connection = sqlite3.connect(self.node.settings.database_path)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute(sql, values)]
        finally:
            connection.close()


def cost_of(run_id: str) -> str | None:
    """What a reply costs, a decimal of US dollars; a third have no price."""
    dice = random.Random(run_id)
    return dice.choice((None, "0", f"{dice.randrange(10**9)}E-9", f"{dice.random():.9f}"))


async def deliver(node: Node, events: Iterable[Event], dice: random.Random) -> None:
    """Deliver events twice, shuffled, in batches of all sizes, by 8 consumers at the same time."""
    left = [*events, *events]
    dice.shuffle(left)

    async def consume() -> None:
        while left:
            size = dice.choice((1, 1, 2, 7, 30))
            batch, left[:size] = left[:size], []
            await Analytics(node, APP).record(batch)
            await asyncio.sleep(0)

    await asyncio.gather(*(consume() for _ in range(CONSUMERS)))


@dataclass(frozen=True, slots=True)
class Said:
    """A reply as the tables `run` and `message` have it; a copy in a fork has no run, and its feedback alone counts."""

    owner: str
    session: str
    conversation: str
    model: str | None
    state: str
    at_ms: int
    thumb: str | None
    inputs: int | None = None
    outputs: int | None = None
    counted: bool = False
    length: int = 0
    cost: str | None = None
    time_ms: int = 0
    first_ms: int | None = None

    @property
    def guessed(self) -> bool:
        return self.counted or self.is_unknown

    @property
    def is_unknown(self) -> bool:
        return self.inputs is None and self.outputs is None

    @property
    def out(self) -> int | None:
        return math.ceil(self.length / 4) if self.is_unknown else self.outputs


def replies(world: World) -> list[Said]:
    """All replies that have ended, computed from the runs and their messages alone."""
    found = []
    for row in world.rows(
        "SELECT run.*, conversation.id AS conversation, message.parts, message.feedback FROM run"
        " JOIN conversation ON conversation.key = run.conversation_key JOIN message ON message.id = run.message_id"
        " WHERE run.state IN ('finished', 'failed', 'stopped')"
    ):
        usage = json.loads(row["usage"] or "{}")
        text = "".join(part["text"] for part in json.loads(row["parts"]) if part["type"] == "text")
        found.append(
            Said(
                owner=row["owner"],
                session=row["session_id"],
                conversation=row["conversation"],
                model=row["model"],
                state=row["state"],
                inputs=usage.get("input_tokens"),
                outputs=usage.get("output_tokens"),
                counted=usage.get("counted", False),
                length=utf16_length(text),
                cost=cost_of(row["id"]),
                time_ms=row["response_time_ms"],
                first_ms=row["first_token_ms"],
                at_ms=row["ended_at_ms"],
                thumb=json.loads(row["feedback"])["thumb"] if row["feedback"] else None,
            )
        )
    for row in world.rows(
        "SELECT message.*, conversation.id AS conversation FROM message"
        " JOIN conversation ON conversation.key = message.conversation_key"
        " WHERE message.role = 'assistant' AND message.run_id IS NULL AND message.feedback IS NOT NULL"
    ):
        feedback = json.loads(row["feedback"])
        found.append(
            Said(
                owner=row["owner"],
                session=row["session_id"],
                conversation=row["conversation"],
                model=row["model"],
                state="copy",
                at_ms=feedback["at"],
                thumb=feedback["thumb"],
            )
        )
    return found


def durations(values: Iterable[int | None]) -> dict[str, Any]:
    """Mean and nearest ranks, from their definitions."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return {"mean": None, "p50": None, "p95": None}
    least = {q: next(v for v in known if 100 * sum(w <= v for w in known) >= q * len(known)) for q in (50, 95)}
    return {"mean": sum(known) / len(known), "p50": least[50], "p95": least[95]}


def total(values: Iterable[int | None]) -> int | None:
    """The sum of what is known, None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def thumbs(said: list[Said]) -> dict[str, int]:
    """How many were found good, and bad."""
    return {name: sum(each.thumb == name for each in said) for name in ("up", "down")}


def figures(key: str | None, everything: list[Said]) -> dict[str, Any]:
    """What a report has to say of these replies."""
    said = [each for each in everything if each.state != "copy"]
    done = [each for each in said if each.state == "finished"]
    costs = [Decimal(each.cost) for each in said if each.cost is not None]
    return {
        "key": key,
        "messages": len(done),
        "errors": sum(each.state == "failed" for each in said),
        "stops": sum(each.state == "stopped" for each in said),
        "inputTokens": total(each.inputs for each in said),
        "outputTokens": total(each.out for each in said),
        "estimated": sum(each.guessed for each in said),
        "responseTimeMs": durations(each.time_ms for each in done),
        "firstTokenMs": durations(each.first_ms for each in done),
        "cost": sum(costs, Decimal(0)) if costs else None,
        "costUnknown": sum(each.cost is None and each.model is not None for each in said),
        "conversations": len({each.conversation for each in said}),
        "feedback": thumbs(everything),
    }


def day_of(each: Said) -> str:
    return datetime.fromtimestamp(each.at_ms / 1000, UTC).strftime("%Y-%m-%d")


KEYS: Final[dict[str, Callable[[Said], str | None]]] = {
    "day": day_of,
    "model": lambda each: each.model,
    "session": lambda each: each.session,
    "none": lambda each: None,
}


def expected(said: list[Said], by: str) -> list[dict[str, Any]]:
    """What a report by `by` has to be."""
    groups: dict[str | None, list[Said]] = {None: []} if by == "none" else {}
    for each in said:
        groups.setdefault(KEYS[by](each), []).append(each)
    return [figures(key, groups[key]) for key in sorted(groups, key=lambda key: key or "")]


def of_session(name: str, everything: list[Said]) -> dict[str, Any]:
    """What a session's figures have to be."""
    said = [each for each in everything if each.state != "copy"]
    done = [each for each in said if each.state == "finished"]
    last: dict[str, int] = {}
    for each in said:
        last[each.conversation] = max(each.at_ms, last.get(each.conversation, 0))
    return {
        "sessionId": name,
        "totalMessages": len(done),
        "totalTokens": sum((each.inputs or 0) + (each.out or 0) for each in said),
        "estimatedTokens": any(each.guessed for each in said),
        "averageResponseTime": sum(each.time_ms for each in done) / len(done) if done else None,
        "conversationCount": len(last),
        "conversations": last,
        "errors": sum(each.state == "failed" for each in said),
        "stops": sum(each.state == "stopped" for each in said),
        "feedback": thumbs(everything),
        "lastMessageAt": max((each.at_ms for each in said), default=None),
    }

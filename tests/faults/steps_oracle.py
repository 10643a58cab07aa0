"""What a bot's steps should have come to, worked out anew from the tables, and compared with what is told and kept."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.faults.client import call
from tests.faults.oracle import Tally

ENDS = {"finished": "completed", "failed": "failed", "stopped": "stopped"}
JOBS = ("plain", "ordered", "batched")
CHARS_A_TOKEN = 4
ACCEPTED, EFFECTS = "jobs accepted", "jobs accepted: effects by event id"
"""Names of counts that must be equal."""


@dataclass(slots=True)
class Posted:
    """What was posted to one server, and how it was answered.

    Attributes:
        jobs: Number by event id of those that were accepted.
        replies: Ids of the runs that were begun.
        messages: Ids of their messages.
        refused: Numbers of jobs that were answered with an error; no event may come of them.
        sent: Posts so far, those included whose answer was lost.
    """

    jobs: dict[str, int] = field(default_factory=dict)
    replies: set[str] = field(default_factory=set)
    messages: list[str] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)
    sent: int = 0

    @property
    def accepted(self) -> int:
        """What an event must come of."""
        return len(self.jobs) + len(self.replies)


@dataclass(slots=True, kw_only=True)
class Run:
    """A reply that has ended, as its row and its message tell."""

    id: str
    conversation: str
    session: str
    state: str
    tokens: tuple[int | None, int | None]
    guessed: bool
    cost: str | None
    model: str | None
    response_ms: int
    first_ms: int | None
    ended_ms: int
    thumb: str | None


def query(database: Path, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query on a database that may be in use."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(sql).fetchall()


def ended_runs(database: Path) -> list[Run]:
    """Return all replies that have ended."""
    rows = query(
        database,
        "SELECT run.id, conversation.id, run.session_id, state, run.usage, run.model, response_time_ms, "
        "first_token_ms, ended_at_ms, message.feedback, message.parts FROM run "
        "JOIN conversation ON conversation.key = run.conversation_key JOIN message ON message.id = run.message_id "
        "WHERE state IN ('finished', 'failed', 'stopped')",
    )
    runs = []
    for id_, conversation, session, state, usage, model, response_ms, first_ms, ended_ms, feedback, parts in rows:
        told = json.loads(usage) if usage else {}
        tokens = told.get("input_tokens"), told.get("output_tokens")
        is_unknown = tokens == (None, None)
        if is_unknown:
            text = "".join(part["text"] for part in json.loads(parts) if part["type"] == "text")
            tokens = None, -(-len(text.encode("utf-16-le")) // 2 // CHARS_A_TOKEN)
        runs.append(
            Run(
                id=id_,
                conversation=conversation,
                session=session,
                state=state,
                tokens=tokens,
                guessed=is_unknown or told.get("counted", False),
                cost=told.get("cost"),
                model=model,
                response_ms=response_ms,
                first_ms=first_ms,
                ended_ms=ended_ms,
                thumb=json.loads(feedback)["thumb"] if feedback else None,
            )
        )
    return runs


def check_figures(tally: Tally, name: str, port: int, runs: Sequence[Run]) -> None:
    """Compare what the server tells of its replies with a plain computation, figure by figure."""
    by_session: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_session[run.session].append(run)
    told = call(port, "GET", "/analytics?by=session").json()["rows"]
    if told != (right := [_row(session, by_session[session]) for session in sorted(by_session)]):
        tally.violate("changed", f"{name}: /analytics tells {told}, not {right}")
    for session, own in by_session.items():
        told = call(port, "GET", f"/session-stats/{session}").json()
        if told != (stats := _stats(session, own)):
            tally.violate("changed", f"{name}: /session-stats tells {told}, not {stats}")
    tally.counts["replies counted exactly"] += len(runs)


def _row(session: str, runs: Sequence[Run]) -> dict[str, Any]:
    whole = [run for run in runs if run.state == "finished"]
    states = Counter(run.state for run in runs)
    return {
        "key": session,
        "messages": states["finished"],
        "errors": states["failed"],
        "stops": states["stopped"],
        "inputTokens": _sum(run.tokens[0] for run in runs),
        "outputTokens": _sum(run.tokens[1] for run in runs),
        "estimated": sum(run.guessed for run in runs),
        "responseTimeMs": _durations([run.response_ms for run in whole]),
        "firstTokenMs": _durations([run.first_ms for run in whole if run.first_ms is not None]),
        # No model has a price: only what was refused, and has used nothing, has a known cost.
        "cost": "0" if any(run.cost is not None for run in runs) else None,
        "costUnknown": sum(run.cost is None and run.model is not None for run in runs),
        "conversations": len({run.conversation for run in runs}),
        "feedback": _thumbs(runs),
    }


def _stats(session: str, runs: Sequence[Run]) -> dict[str, Any]:
    whole = [run for run in runs if run.state == "finished"]
    latest: dict[str, int] = {}
    for run in sorted(runs, key=lambda run: run.ended_ms):
        latest[run.conversation] = run.ended_ms
    return {
        "sessionId": session,
        "totalMessages": len(whole),
        "totalTokens": sum(tokens or 0 for run in runs for tokens in run.tokens),
        "estimatedTokens": any(run.guessed for run in runs),
        "averageResponseTime": sum(run.response_ms for run in whole) / len(whole) if whole else None,
        "conversationCount": len(latest),
        "conversations": latest,
        "errors": sum(run.state == "failed" for run in runs),
        "stops": sum(run.state == "stopped" for run in runs),
        "feedback": _thumbs(runs),
        "lastMessageAt": max(latest.values()),
    }


def _sum(numbers: Iterable[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def _thumbs(runs: Sequence[Run]) -> dict[str, int]:
    return {thumb: sum(run.thumb == thumb for run in runs) for thumb in ("up", "down")}


def _durations(values: Sequence[int]) -> dict[str, float | int | None]:
    if not values:
        return {"mean": None, "p50": None, "p95": None}
    ranked = sorted(values)
    p50, p95 = (ranked[-(-percent * len(ranked) // 100) - 1] for percent in (50, 95))
    return {"mean": sum(ranked) / len(ranked), "p50": p50, "p95": p95}


@dataclass(slots=True)
class Line:
    """A line of runs.log."""

    step: str
    event: str
    number: int
    lane: str
    life: str


def read_lines(log: Path) -> list[Line]:
    """Return what the steps have noted, in its order."""
    lines = log.read_text().splitlines() if log.exists() else []
    split = [line.split(" ") for line in lines]
    return [Line(step, event, int(number), lane, life) for step, event, number, lane, life in split]


def check_effects(tally: Tally, name: str, database: Path, posted: Posted, runs: Sequence[Run]) -> Counter[str]:
    """Compare the effects that are kept with what was accepted; return what to count.

    Args:
        runs: All replies that have ended.
    """
    rows = query(database, "SELECT key, value, version FROM state WHERE \"group\" = 'effects'")
    effects = {key: json.loads(value) for key, value, _ in rows}
    if repeated := [key for key, _, version in rows if version != 1]:
        tally.violate("duplicated", f"{name}: effects that were had twice: {repeated[:9]}", len(repeated))
    ends = {run.id: f"{run.id}.{ENDS[run.state]}" for run in runs}
    if missing := {*posted.jobs, *ends.values()} - set(effects):
        tally.violate("lost", f"{name}: no effect of {sorted(missing)[:9]}", len(missing))
    if missing := posted.replies - set(ends):
        tally.violate("lost", f"{name}: no end of {sorted(missing)[:9]}", len(missing))
    numbers = Counter(effect["number"] for effect in effects.values() if effect["step"] in JOBS)
    if twice := [number for number, times in numbers.items() if times > 1]:
        tally.violate("duplicated", f"{name}: jobs with two events: {twice[:9]}", len(twice))
    if wrong := posted.refused & set(numbers):
        tally.violate("changed", f"{name}: jobs that were refused, and done: {sorted(wrong)[:9]}", len(wrong))
    passed_on = sorted(effect["number"] for effect in effects.values() if effect["step"] == "followed")
    plain = sorted(effect["number"] for effect in effects.values() if effect["step"] == "plain")
    if passed_on != plain:
        differ = sorted((Counter(plain) - Counter(passed_on)) + (Counter(passed_on) - Counter(plain)))
        tally.violate("lost", f"{name}: what jobs enqueued is not once there: {differ[:9]}", len(differ))
    accepted = {*posted.jobs, *(ends[id_] for id_ in posted.replies & set(ends))}
    unanswered = len(set(ends.values()) - accepted) + len(set(numbers) - set(posted.jobs.values()))
    return Counter(
        {
            ACCEPTED: posted.accepted,
            EFFECTS: len(accepted & set(effects)),
            "jobs whose answer was lost, done all the same": unanswered,
        }
    )


def check_order(tally: Tally, name: str, lines: Sequence[Line]) -> None:
    """Look for jobs of a lane that were done before an earlier one; count repeats."""
    done = Counter((line.step, line.event) for line in lines if not line.step.startswith(("tick", "hourly")))
    tally.counts["jobs repeated"] += done.total() - len(done)
    lanes: dict[str, dict[int, None]] = defaultdict(dict)
    for line in lines:
        if line.step == "ordered":
            lanes[line.lane].setdefault(line.number)
    for lane, numbers in lanes.items():
        if wrong := [pair for pair in pairwise(numbers) if pair[0] > pair[1]]:
            tally.violate("reordered", f"{name}: in lane {lane}: {wrong[:9]}", len(wrong))


def check_ticks(tally: Tally, name: str, lines: Sequence[Line]) -> None:
    """Look for ticks that were run again after they were complete, or were begun and never completed.

    A kill may come between a tick's end and the note of it; when the next one of the same process has begun, it is
    noted.
    """
    begun = [(line.event, line.life) for line in lines if line.step == "tick-begun"]
    done = [line.event for line in lines if line.step == "tick"]
    if lost := {event for event, _ in begun} - set(done):
        tally.violate("lost", f"{name}: ticks that were never completed: {sorted(lost)[:9]}", len(lost))
    if len(begun) != len(set(begun)):
        tally.violate("duplicated", f"{name}: a tick was run twice in one process")
    complete: set[str] = set()
    for (event, life), (following, next_life) in pairwise(begun):
        if life == next_life:
            complete.add(event)
        if following in complete:
            tally.violate("duplicated", f"{name}: tick {following} was run again after it was complete")
    tally.counts["ticks run"] += len(set(done))
    tally.counts["ticks repeated"] += len(done) - len(set(done))

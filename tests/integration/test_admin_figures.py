"""The figures of all owners that an admin sees: every number as it is when each reply is looked at by itself."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from legato.storage.server_figures import STATEMENTS
from legato.storage.statement import Transaction
from tests.page_world import DAY_MS, Site, open_site
from tests.statements import execute, query

HOUR_MS = 3_600_000
MONDAY_MS = 1_767_571_200_000
"""2026-01-05, midnight UTC."""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A server with keys for ann, an admin, and ben, a member."""
    async with open_site(tmp_path) as opened:
        await opened.make_keys(ann="admin", ben="member")
        yield opened


async def get(site: Site, path: str) -> Any:
    answer = await site.ask("GET", path, key=site.keys["ann"])
    assert answer.status == 200, (path, answer.status, answer.body)
    return answer.json


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One row of what is counted."""

    owner: str
    session_id: str
    model: str | None
    outcome: str | None
    tokens: int | None
    response_ms: int
    first_ms: int | None
    at_ms: int
    thumb: str | None


async def put(site: Site, replies: Sequence[Reply]) -> None:
    """Count replies, each owner's in a conversation of its own."""

    def write(tx: Transaction) -> None:
        for number, reply in enumerate(replies):
            ((key,),) = query(tx, "SELECT key FROM conversation WHERE owner = ?", reply.owner)
            execute(
                tx,
                "INSERT INTO reply_count (run_id, conversation_key, owner, session_id, model, outcome, input_tokens, "
                "output_tokens, estimated, cost_nusd, response_time_ms, first_token_ms, at_ms, thumb) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, NULL, ?, ?, ?, ?)",
                *(
                    f"r-{number}",
                    key,
                    reply.owner,
                    reply.session_id,
                    reply.model,
                    reply.outcome,
                    reply.tokens,
                    None if reply.tokens is None else 2 * reply.tokens,
                    reply.response_ms,
                    reply.first_ms,
                    reply.at_ms,
                    reply.thumb,
                ),
            )

    for owner in {reply.owner for reply in replies}:
        assert (await site.ask("POST", "/conversations", {}, key=site.keys[owner])).status == 201
    await site.node.committer.write(write)


def drawn(seed: int, count: int) -> list[Reply]:
    dice = random.Random(seed)
    return [
        Reply(
            owner=dice.choice(("ann", "ben")),
            session_id=dice.choice(("s-1", "s-2", "s-3")),
            model=dice.choice((None, "one", "two")),
            outcome=dice.choice(("completed", "completed", "completed", "failed", "stopped", None)),
            tokens=dice.choice((None, 3, 50)),
            response_ms=dice.randrange(1, 5000),
            first_ms=dice.choice((None, dice.randrange(1, 900))),
            at_ms=MONDAY_MS + dice.randrange(0, 3 * DAY_MS),
            thumb=dice.choice((None, None, "up", "down")),
        )
        for _ in range(count)
    ]


def percentile(values: list[int], percent: int) -> int | None:
    """By the nearest rank."""
    ordered = sorted(values)
    return ordered[-(-percent * len(ordered) // 100) - 1] if ordered else None


def expected(replies: Sequence[Reply]) -> dict[str, Any]:
    """What the figures of these replies are, reckoned one by one."""
    ended = [reply for reply in replies if reply.outcome is not None]
    good = [reply for reply in ended if reply.outcome == "completed"]
    failed = sum(reply.outcome == "failed" for reply in ended)
    thumbs = [reply.thumb for reply in replies if reply.thumb]
    tokens = [reply.tokens for reply in replies if reply.tokens is not None]
    times = [reply.response_ms for reply in good]
    firsts = [reply.first_ms for reply in good if reply.first_ms is not None]

    def durations(values: list[int]) -> dict[str, Any]:
        mean = pytest.approx(sum(values) / len(values)) if values else None
        return {"mean": mean, "p50": percentile(values, 50), "p95": percentile(values, 95)}

    return {
        "messages": len(good),
        "errors": failed,
        "stops": len(ended) - len(good) - failed,
        "errorRate": failed / len(ended) if ended else None,
        "sessions": len({(reply.owner, reply.session_id) for reply in ended}),
        "conversations": len({reply.owner for reply in ended}),
        "owners": len({reply.owner for reply in ended}),
        "inputTokens": sum(tokens) if tokens else None,
        "outputTokens": 2 * sum(tokens) if tokens else None,
        "estimated": 0,
        "cost": None,
        "costUnknown": sum(reply.model is not None for reply in ended),
        "responseTimeMs": durations(times),
        "firstTokenMs": durations(firsts),
        "feedback": {"up": thumbs.count("up"), "down": thumbs.count("down")},
        "satisfaction": thumbs.count("up") / len(thumbs) if thumbs else None,
    }


@pytest.mark.parametrize("by", ["day", "hour", "model"])
async def test_figures_are_those_of_all_owners(site: Site, by: str) -> None:
    """Every number of every group and of the whole, as they are when each reply is looked at by itself."""
    replies = drawn(7, 400)
    await put(site, replies)
    from_ms, to_ms = MONDAY_MS + HOUR_MS, MONDAY_MS + 2 * DAY_MS + 1
    found = await get(site, f"/admin/figures?from={from_ms}&to={to_ms}&by={by}")
    assert (found["from"], found["to"], found["by"]) == (from_ms, to_ms, by)
    inside = [reply for reply in replies if from_ms <= reply.at_ms < to_ms]
    assert found["total"] == expected(inside) | {"at": None, "model": None}
    assert found["unpriced"] == ["other", "scripted", "tiny"]
    size_ms = {"day": DAY_MS, "hour": HOUR_MS}.get(by)
    groups: dict[Any, list[Reply]] = {}
    for reply in inside:
        groups.setdefault(reply.model if size_ms is None else reply.at_ms // size_ms * size_ms, []).append(reply)
    keys = sorted(groups, key=lambda key: (key is not None, key))
    name, other = ("model", "at") if size_ms is None else ("at", "model")
    assert found["groups"] == [expected(groups[key]) | {name: key, other: None} for key in keys]


async def test_figures_of_nothing_are_none(site: Site) -> None:
    """Unknown is null and never 0; the default span ends now."""
    found = await get(site, "/admin/figures")
    assert found["total"] == expected([]) | {"at": None, "model": None}
    assert (found["groups"], found["to"] - found["from"]) == ([], 30 * DAY_MS)
    assert abs(found["to"] - site.clock.now_ms()) < 10_000


async def test_figures_read_one_range_of_an_index(site: Site) -> None:
    """Whatever is stored: no statement reads a whole table."""
    for statement in STATEMENTS:
        plan = [
            row[3]
            for row in site.rows(f"EXPLAIN QUERY PLAN {statement.sqlite.sql}", [1] * statement.sqlite.sql.count("?"))
        ]
        read = [line for line in plan if line.startswith(("SEARCH", "SCAN")) and line != "SCAN replies"]
        assert read[0].startswith("SEARCH reply_count USING INDEX ix_reply_count_at (at_ms"), plan
        # What stayed of conversations that are gone, beside it.
        assert all(line.startswith("SEARCH reply_total USING INDEX ix_reply_total_at_ms (at_ms") for line in read[1:])


async def test_the_latest_sessions_of_anybody_come_first(site: Site) -> None:
    """With whose they are: two owners' sessions of one name are two."""
    replies = drawn(3, 200)
    await put(site, replies)
    found = (await get(site, "/admin/sessions?limit=4"))["sessions"]
    latest = {
        (reply.owner, reply.session_id): reply.at_ms
        for reply in sorted(replies, key=lambda each: each.at_ms)
        if reply.outcome is not None
    }
    ordered = sorted(latest, key=lambda key: latest[key], reverse=True)
    assert [(each["owner"], each["sessionId"]) for each in found] == ordered[:4]
    for each in found:
        mine = [one for one in replies if (one.owner, one.session_id) == (each["owner"], each["sessionId"])]
        assert each["messages"] == sum(one.outcome == "completed" for one in mine)
        assert each["lastAt"] == latest[(each["owner"], each["sessionId"])]

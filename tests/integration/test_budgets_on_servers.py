"""Spending limits of real server processes: a thousand posts at once, and a server that is killed with reservations.

Over several nodes: test_nodes_processes (a killed server's replies).
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from tests.asgi import fetch
from tests.budget_world import PRICES, TOKEN_NUSD, usd
from tests.client import Client
from tests.conftest import StartServer
from tests.server import ServerProcess

pytestmark = pytest.mark.slow
SOON_S = 30.0
SETTINGS = {
    "prices": json.dumps({"scripted": PRICES["scripted"]}),
    "budgets": json.dumps([{"per": "server", "period": "month", "limit_usd": usd(1000)}]),
    "rate_limit": "off",
}
SPENT = "SELECT spent_nusd, reserved_nusd FROM budget_use"
CHARGED = "SELECT coalesce(sum(cost_nusd), 0) FROM charge"
HOLDS = "SELECT count(*) FROM budget_hold"
LIVE = "SELECT count(*) FROM run WHERE state IN ('running', 'queued')"
Rows = Callable[[str], list[tuple[Any, ...]]]


def until(met: Callable[[], object]) -> None:
    end_s = time.monotonic() + SOON_S
    while not met():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def rows_of(server: ServerProcess) -> Rows:
    def rows(sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(server.database)) as connection:
            return connection.execute(sql).fetchall()

    return rows


async def test_a_thousand_posts_at_once_spend_exactly_the_limit(start_server: StartServer) -> None:
    """Over a thousand connections: 100 replies of 10 tokens, 900 times 402 before a stream opens."""
    server = start_server(**SETTINGS)
    body = {"message": "script: tokens=10", "maxTokens": 10}
    door = asyncio.Semaphore(500)

    async def post() -> tuple[int, bytes]:
        async with door:
            head, answer = await fetch(server.port, "POST", "/chat/stream", body)
            return head.status, answer

    answers = await asyncio.gather(*(post() for _ in range(1000)))
    assert Counter(status for status, _ in answers) == {200: 100, 402: 900}
    assert sum(b'"finishReason":"stop"' in answer for _, answer in answers) == 100
    rows = rows_of(server)
    until(lambda: rows(LIVE) == [(0,)])
    assert rows(SPENT) == [(1000 * TOKEN_NUSD, 0)]
    assert rows(CHARGED) == [(1000 * TOKEN_NUSD,)]
    assert rows(HOLDS) == [(0,)]


def test_a_killed_server_s_reservations_are_settled_by_its_next_start(start_server: StartServer) -> None:
    """Replies go on and are paid for once; one of which nothing is left to be made gives back what it held."""
    server = start_server(**SETTINGS)
    rows = rows_of(server)
    with Client(server.port) as client:
        streams = [client.post("script: seed=7 tokens=40 delay_ms=30 stall=20@1", maxTokens=100) for _ in range(4)]
        for stream in streams:
            stream.take(5)
        assert rows(SPENT) == [(0, 400 * TOKEN_NUSD)]
        with closing(sqlite3.connect(server.database)) as connection:
            # As a title's call of that process has it.
            connection.execute(
                "INSERT INTO budget_hold SELECT 'h-1', id, 5000000, 'r-1', 'title', 0, NULL, 1 FROM budget_use"
            )
            connection.execute("UPDATE budget_use SET reserved_nusd = reserved_nusd + 5000000")
            connection.commit()
        server.restart()
        until(lambda: rows(LIVE) == [(0,)])
    ((spent, reserved),) = rows(SPENT)
    assert (spent, reserved) == (rows(CHARGED)[0][0], 0)
    assert 4 * 40 <= spent / TOKEN_NUSD <= 4 * 2 * 50
    assert rows(HOLDS) == [(0,)]

"""Limits that hold over all nodes together."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest

from legato.core.errors import LegatoError, Overloaded, RateLimited, StorageUnavailable
from legato.core.principal import Principal
from legato.runs.live import RunRequest
from legato.runs.start import NewMessage, Started, start
from legato.storage.turns import LEAF
from tests.feed_world import until
from tests.postgres import Postgres
from tests.two_nodes import Mate, open_mates, rows

ANN = Principal(id="ann", role="member")
SAY = {"message": "script: tokens=1"}
SLOW = "script: seed=5 tokens=400 delay_ms=50"


def message(text: str = "script: tokens=1", conversation_id: str | None = None) -> NewMessage:
    return NewMessage(
        text=text, session_id=None, conversation_id=conversation_id, request=RunRequest(), parent=LEAF, regenerate=None
    )


async def post_at_once(mates: list[Mate], count: int, text: str) -> tuple[list[Started], list[LegatoError]]:
    """Post so many messages at once, at the nodes in turn; return what began, and what was refused."""
    posts = [start(mates[place % len(mates)].node, ANN, message(text)) for place in range(count)]
    found = await asyncio.gather(*posts, return_exceptions=True)
    refused = [each for each in found if isinstance(each, LegatoError)]
    begun = [each for each in found if isinstance(each, Started)]
    assert len(begun) + len(refused) == count, found
    return begun, refused


async def test_a_rate_is_one_over_all_nodes(postgres: Postgres, tmp_path: Path) -> None:
    """Of 50 posts at once over three nodes, 10 a minute are 10; the others are told when to come again."""
    async with open_mates(postgres, tmp_path, 3, rate_limit="10/minute") as mates:
        begun, refused = await post_at_once(mates, 50, "script: tokens=1")
        assert len(begun) == 10
        assert all(isinstance(each, RateLimited) for each in refused)
        assert all(50 < (each.retry_after_s or 0) <= 60 for each in refused)
        for mate in mates:
            assert mate.node.limits is not None
            assert (await mate.node.limits.describe("ann"))["principal"]["remaining"] == 0


async def test_a_message_that_is_not_accepted_costs_nothing_anywhere(postgres: Postgres, tmp_path: Path) -> None:
    """It is given back to all nodes."""
    async with open_mates(postgres, tmp_path, rate_limit="10/minute") as (ann, ben):
        ann.node.draining = True
        for _ in range(15):
            with pytest.raises(LegatoError):
                await start(ann.node, ANN, message())
        assert ben.node.limits is not None
        assert (await ben.node.limits.describe("ann"))["principal"]["remaining"] == 10
        ann.node.draining = False


async def test_replies_at_once_are_limited_over_all_nodes(postgres: Postgres, tmp_path: Path) -> None:
    """Exactly as many as may be made, and one more for each that ends, wherever it is asked for."""
    async with open_mates(postgres, tmp_path, 3, max_active_runs=10) as mates:
        begun, refused = await post_at_once(mates, 50, SLOW)
        assert len(begun) == 10
        assert all(isinstance(each, Overloaded) for each in refused)
        making = next(mate for mate in mates if mate.node.live)
        run = next(iter(making.node.live.values()))
        run.stop("user")
        other = next(mate for mate in mates if mate is not making)
        await until(lambda: run.id not in making.node.live)

        async def begins() -> bool:
            try:
                await start(other.node, ANN, message(SLOW))
            except Overloaded:
                return False
            return True

        async with asyncio.timeout(5):
            while not await begins():  # noqa: ASYNC110 - the other node gives back what it does not need
                await asyncio.sleep(0.05)
        with pytest.raises(Overloaded):
            await start(making.node, ANN, message(SLOW))


async def test_what_is_adopted_counts_where_it_is_made(postgres: Postgres, tmp_path: Path) -> None:
    """It goes on although there is no room, and nobody begins another before there is."""
    async with open_mates(postgres, tmp_path, max_active_runs=4) as (ann, ben):
        begun, _ = await post_at_once([ann], 4, SLOW)
        assert len(begun) == 4
        ann.gate.shut()
        ann.clock.late_s += 10
        await until(lambda: len(ben.node.live) == 4)
        await until(lambda: ben.node.admission is not None and ben.node.admission.held == 4)
        with pytest.raises(Overloaded):
            await start(ben.node, ANN, message())
        ann.gate.open()
        await until(lambda: ann.node.incarnation == 2)
        with pytest.raises(Overloaded):
            await start(ann.node, ANN, message())
        assert rows(ben, "SELECT sum(slots) FROM node WHERE fenced_at IS NULL") == [(4,)]


async def test_idle_nodes_hold_nothing(postgres: Postgres, tmp_path: Path) -> None:
    """What one does not use another may have."""
    async with open_mates(postgres, tmp_path, max_active_runs=400) as mates:
        begun, _ = await post_at_once(mates, 6, "script: tokens=1")
        assert len(begun) == 6
        assert rows(mates[0], "SELECT sum(slots) FROM node")[0][0] > 6
        await until(lambda: rows(mates[0], "SELECT sum(slots) FROM node") == [(0,)])


async def test_nothing_is_let_in_while_the_database_is_away(postgres: Postgres, tmp_path: Path) -> None:
    """503 with a time to come again, and not one more than the limit when it is back."""
    async with open_mates(postgres, tmp_path, 1, rate_limit="3/minute", storage_wait_s=0.5) as (ann,):
        counting = ann.node.admission
        assert counting is not None
        with psycopg.connect(ann.node.settings.database_url or "", autocommit=True) as held:
            held.execute("BEGIN")
            held.execute("LOCK TABLE rate_window IN ACCESS EXCLUSIVE MODE")
            for _ in range(2):
                with pytest.raises(StorageUnavailable) as caught:
                    await start(ann.node, ANN, message())
                assert caught.value.retry_after_s is not None
            refused = await ann.ask("POST", "/chat/stream", SAY)
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
            assert "ratelimit" not in refused.headers
            held.execute("ROLLBACK")
        begun, late = await post_at_once([ann], 5, "script: tokens=1")
        assert 1 <= len(begun) <= 3
        assert all(isinstance(each, RateLimited) for each in late)


async def test_every_answer_says_what_is_left_at_all_nodes(postgres: Postgres, tmp_path: Path) -> None:
    """In the fields that a single server has, refusals included."""
    async with open_mates(postgres, tmp_path, rate_limit="3/minute") as mates:
        answers = [await mates[number % 2].ask("POST", "/chat/stream", SAY) for number in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0", "0"]
    assert all(answer.headers["ratelimit-policy"] == '"principal";q=3;w=60' for answer in answers)
    assert all(50 < int(answer.headers["ratelimit-reset"]) <= 60 for answer in answers)
    assert [1 <= int(answer.headers["retry-after"]) <= 60 for answer in answers[3:]] == [True, True]

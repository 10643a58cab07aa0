"""Spending limits that hold over all nodes together, whatever becomes of one of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from legato.core.errors import BudgetExceeded, LegatoError, StorageUnavailable
from legato.runs.start import start
from legato.storage.budget_holds import NewHold, reserve
from tests.budget_world import (
    ANN,
    PRICES,
    TOKEN_NUSD,
    charged,
    ended,
    holds,
    message,
    post_at_once,
    quiet,
    spent,
    sums,
    usd,
)
from tests.feed_world import until
from tests.postgres import Postgres
from tests.two_nodes import Mate, open_mates, rows

MONTH = {"per": "server", "period": "month", "limit_usd": usd(1000)}


def of(*budgets: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"prices": PRICES, "budgets": list(budgets)} | more


async def test_a_thousand_posts_over_three_nodes_spend_exactly_the_limit(postgres: Postgres, tmp_path: Path) -> None:
    """100 replies of 10 tokens fit into 1000: not one more is let in at any node, and not one less."""
    each = {"per": "principal", "period": "day", "limit_usd": usd(5000)}
    async with open_mates(postgres, tmp_path, 3, **of(MONTH, each, storage_wait_s=60.0)) as mates:
        nodes = [mate.node for mate in mates]
        # The counters are there: no node is ahead of the others because it has made them.
        await post_at_once(nodes, 3)
        begun, refused = await post_at_once(nodes, 997)
        assert (len(begun), len(refused)) == (97, 900)
        # On a busy machine a transaction may be left open for so long that the database ends it.
        assert {type(each) for each in refused} <= {BudgetExceeded, StorageUnavailable}
        assert sum(isinstance(each, BudgetExceeded) for each in refused) > 800
        assert len({id(node) for node, _ in begun}) > 1
        await quiet(*nodes)
        assert {found.per: (found.spent, found.reserved) for found in await sums(nodes[0])} == {
            "principal": (1000, 0),
            "server": (1000, 0),
        }
        assert await charged(nodes[0]) == 1000
        assert await holds(nodes[0]) == 0
        told = rows(mates[0], "SELECT topic FROM outbox WHERE topic LIKE 'budget%' ORDER BY id")
        assert told == [("budget.warning",), ("budget.spent",)]


async def test_what_a_dead_node_had_reserved_is_settled_by_who_takes_its_replies(
    postgres: Postgres, tmp_path: Path
) -> None:
    """Its replies go on elsewhere, and what both had the models make is spent, once."""
    async with open_mates(postgres, tmp_path, **of(MONTH)) as (ann, ben):
        begun, _ = await post_at_once([ann.node], 4, "script: tokens=30 delay_ms=30", max_tokens=100)
        assert await spent(ben.node) == (0, 400)
        await until(lambda: all(len(run.tail.log.text_bytes) > 20 for run in ann.node.live.values()))
        ann.gate.shut()
        ann.clock.late_s += 10
        await until(lambda: len(ben.node.live) == 4)
        await until(lambda: not ben.node.live)
        await quiet(ben.node)
        found = await spent(ben.node)
        assert found == (await charged(ben.node), 0)
        assert 4 * 30 <= found[0] <= 4 * 2 * 40
        assert await holds(ben.node) == 0
        ann.gate.open()
        await until(lambda: ann.node.incarnation == 2)
        assert [(await ended(ben.node, _apart(each)))[1] for _, each in begun] == ["stop"] * 4


async def test_what_a_dead_node_held_for_no_reply_comes_back(postgres: Postgres, tmp_path: Path) -> None:
    """A title's or a judge's reservation is given back by the leader; that of a node that lives is not."""
    async with open_mates(postgres, tmp_path, **of(MONTH)) as (ann, ben):
        assert ann.node.budgets is not None
        assert ben.node.budgets is not None
        await post_at_once([ann.node], 1)
        await quiet(ann.node)

        async def held(mate: Mate, number: int) -> None:
            new = NewHold(id=f"h-{number}", run_id="r-1", purpose="title", calls_before=0, at_ms=1)
            uses = (await _uses(mate),)[0]
            await mate.node.committer.write(
                lambda tx: reserve(tx, new, uses, most=7 * TOKEN_NUSD, least=7 * TOKEN_NUSD)
            )

        await held(ann, 1)
        await held(ben, 2)
        assert await spent(ben.node) == (10, 14)
        await ben.node.budgets.sweep()
        assert await spent(ben.node) == (10, 14)
        key = ann.node.key
        ann.gate.shut()
        ann.clock.late_s += 10
        await until(lambda: rows(ben, f"SELECT 1 FROM node WHERE key = {key} AND fenced_at IS NOT NULL") == [(1,)])
        await until_async(lambda: _is(ben, (10, 7)))
        # The other's own, which no call of its own owns, at the second sight.
        for left in (7, 0):
            await ben.node.budgets.release_unowned()
            assert await spent(ben.node) == (10, left)
        ann.gate.open()
        await until(lambda: ann.node.incarnation == 2)


async def test_nothing_is_let_in_while_the_database_is_away(postgres: Postgres, tmp_path: Path) -> None:
    """Nothing is spent that cannot be counted."""
    import psycopg

    async with open_mates(postgres, tmp_path, 1, **of(MONTH, storage_wait_s=0.5)) as (ann,):
        with psycopg.connect(ann.node.settings.database_url or "", autocommit=True) as held:
            held.execute("BEGIN")
            held.execute("LOCK TABLE budget_use IN ACCESS EXCLUSIVE MODE")
            posts = [asyncio.ensure_future(start(ann.node, ANN, message())) for _ in range(2)]
            await asyncio.wait(posts, timeout=0.3)
            assert not any(post.done() and post.exception() is None for post in posts)
            held.execute("ROLLBACK")
        found = await asyncio.gather(*posts, return_exceptions=True)
        begun = [each for each in found if not isinstance(each, LegatoError)]
        await quiet(ann.node)
        assert await spent(ann.node) == (10 * len(begun), 0)


async def test_a_node_that_leaves_takes_no_money_along(postgres: Postgres, tmp_path: Path) -> None:
    """What was stopped is settled by itself; what it hands over by the other."""
    from legato.runs.recover import leave

    async with open_mates(postgres, tmp_path, **of(MONTH)) as (ann, ben):
        before = 0.0
        for cause in ("stop", "hand over"):
            begun, _ = await post_at_once([ann.node], 2, "script: tokens=30 delay_ms=20", max_tokens=100)
            assert len(begun) == 2
            await until(lambda: all(len(run.tail.log.text_bytes) > 20 for run in ann.node.live.values()))
            if cause == "stop":
                for run in list(ann.node.live.values()):
                    run.stop("user")
            else:
                ann.node.draining = True
                await leave(ann.node)
                await until(lambda: len(ben.node.live) == 2)
            await until(lambda: not (ann.node.live or ben.node.live))
            await quiet(ben.node)
            found = await spent(ben.node)
            assert found == (await charged(ben.node), 0)
            assert found[0] > before
            assert await holds(ben.node) == 0
            before = found[0]


def _apart(started: Any) -> Any:
    from dataclasses import replace

    return replace(started, tail=None)


async def _uses(mate: Mate) -> Any:
    from legato.core.budget import Payer, uses_of

    assert mate.node.budgets is not None
    payer = Payer(owner="ann", key_id=None, session_id="s", model="scripted")
    uses = uses_of(mate.node.budgets.spending.budgets, payer, mate.node.clock.now_ms())
    await mate.node.budgets.make(uses)
    return uses


async def _is(mate: Mate, expected: tuple[float, float]) -> bool:
    assert mate.node.budgets is not None
    await mate.node.budgets.sweep()
    return await spent(mate.node) == expected


async def until_async(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - the database is asked
            await asyncio.sleep(0.05)

"""What is done once a second: time limits, heartbeats, old segments, and memory after a rush."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from legato.memory import give_back
from legato.runs.count import count_now
from legato.runs.node import Node
from legato.runs.prune import prune, sweep

log = structlog.get_logger(__name__)

PRUNE_S: Final = 1.0
SWEEP_S: Final = 60.0
"""Between two sweeps of what dead nodes have left behind."""
QUIET_S: Final = (5.0, 10.0, 20.0, 30.0, 60.0)
"""Seconds after the last reply at which freed memory is given back: for a while, connections idle and jobs are done."""
RUSH_RUNS: Final = 200
"""So many replies at once leave enough freed memory behind to be worth a look."""


async def look_after(node: Node) -> None:
    """Look after runs and readers, delete old segments, and give memory back after a rush."""
    # What waits for the database is beside what readers wait for: a heartbeat comes while a disk is slow.
    await asyncio.gather(_tick(node), _prune(node), _calm(node))


async def _tick(node: Node) -> None:
    while True:
        await asyncio.sleep(node.tick_s)
        node.tick()


async def _prune(node: Node) -> None:
    swept_s = 0.0
    while True:
        await asyncio.sleep(PRUNE_S)
        # A scrape asks one worker, and is told what all of them have noted.
        count_now(node)
        try:
            await prune(node)
            if (swept_s := swept_s + PRUNE_S) >= SWEEP_S:
                swept_s = 0.0
                await sweep(node)
        except Exception:
            log.exception("old segments could not be deleted")


async def _calm(node: Node) -> None:
    quiet_s, most_live = 0.0, 0
    while True:
        await asyncio.sleep(node.tick_s)
        most_live = max(most_live, len(node.live))
        before_s, quiet_s = quiet_s, 0.0 if node.live else quiet_s + node.tick_s
        if most_live >= RUSH_RUNS and any(before_s < at_s <= quiet_s for at_s in QUIET_S):
            try:
                if node.on_quiet is not None:
                    await node.on_quiet()
            except Exception:
                log.exception("the queue could not give memory back")
            try:
                await asyncio.to_thread(node.database.give_back)
            except Exception:
                log.exception("the database could not give memory back")
            give_back()
            if quiet_s >= QUIET_S[-1]:
                most_live = 0

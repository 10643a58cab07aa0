"""The end of a server's work: what may still end, and what is left for the next start."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog

from legato.core.errors import StorageUnavailable
from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.runs.recover import leave
from legato.runs.tool_round import open_calls

log = structlog.get_logger(__name__)

LOOK_S: Final = 0.02
"""Between two looks at whether there is still something to wait for."""
TOGETHER_S: Final = 0.3
"""Servers that are told to end within so long of each other end together."""
ASK_S: Final = 2.0
"""How long asking for the other nodes may take."""


async def drain(node: Node, requests: Iterable[asyncio.Task[None]] = ()) -> None:
    """Begin no new run, and give those that run `drain_s` to end; the rest is left for the next start.

    Where another node takes runs they are handed over at once.

    A run that only waits for a person is left at once: nobody may answer in time, and the next start goes on waiting.

    Args:
        requests: Those that are being answered; they have as long, those of http steps too.
    """
    node.draining = True
    asked = [task for task in requests if not task.done()]
    if node.live or asked:
        log.info("draining", replies=len(node.live), requests=len(asked), most_s=node.settings.drain_s)
    until = node.clock.monotonic_s() + node.settings.drain_s
    others = await _others_take_runs(node)
    while (left_s := until - node.clock.monotonic_s()) > 0:
        if others and not (node.starting or node.left):
            log.info("handing over", replies=len(node.live))
            await leave(node)
        asked = [task for task in asked if not task.done()]
        if not (node.starting or asked or any(_is_at_work(run) for run in node.live.values())):
            break
        await asyncio.sleep(min(LOOK_S, left_s))
    node.stopping.set()
    # A last event may still be on its way to a socket.
    await asyncio.sleep(0.05)
    if node.live and not node.left:
        log.info("handing over", replies=len(node.live))
    await leave(node)
    node.readers.cut_all()


async def _others_take_runs(node: Node) -> bool:
    """Say that this node takes no more runs, and whether another one does."""
    lease = node.lease
    if lease is None:
        return False
    try:
        async with asyncio.timeout(ASK_S):
            await lease.renew()
            if lease.takers:
                # Others may be told to end in this moment, and say so: nobody would take what all of them give away.
                await asyncio.sleep(TOGETHER_S)
                await lease.renew()
    except (StorageUnavailable, TimeoutError):
        return False
    return lease.takers > 0


def _is_at_work(run: LiveRun) -> bool:
    """Whether a run gets on by itself: it waits neither for the turn before it nor for persons alone."""
    if run.queued or not run.approvals:
        return not run.queued
    waits = run.approvals
    calls = open_calls(run)
    return not calls or any(call.asked is None or call.id not in waits or waits[call.id].done() for call in calls)

"""The end of a server's work: what may still end, and what is left for the next start."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog

from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.runs.recover import leave
from legato.runs.tool_round import open_calls

log = structlog.get_logger(__name__)

LOOK_S: Final = 0.02
"""Between two looks at whether there is still something to wait for."""


async def drain(node: Node, requests: Iterable[asyncio.Task[None]] = ()) -> None:
    """Begin no new run, and give those that run `drain_s` to end; the rest is left for the next start.

    A run that only waits for a person is left at once: nobody may answer in time, and the next start goes on waiting.

    Args:
        requests: Those that are being answered; they have as long, those of http steps too.
    """
    node.draining = True
    asked = [task for task in requests if not task.done()]
    if node.live or asked:
        log.info("draining", replies=len(node.live), requests=len(asked), most_s=node.settings.drain_s)
    until = node.clock.monotonic_s() + node.settings.drain_s
    while (left_s := until - node.clock.monotonic_s()) > 0:
        asked = [task for task in asked if not task.done()]
        if not (node.starting or asked or any(_is_at_work(run) for run in node.live.values())):
            break
        await asyncio.sleep(min(LOOK_S, left_s))
    node.stopping.set()
    # A last event may still be on its way to a socket.
    await asyncio.sleep(0.05)
    if node.live:
        log.info("handing over", replies=len(node.live))
    await leave(node)
    node.readers.cut_all()


def _is_at_work(run: LiveRun) -> bool:
    """Whether a run gets on by itself: it waits neither for the turn before it nor for persons alone."""
    if run.queued or not run.approvals:
        return not run.queued
    waits = run.approvals
    calls = open_calls(run)
    return not calls or any(call.asked is None or call.id not in waits or waits[call.id].done() for call in calls)

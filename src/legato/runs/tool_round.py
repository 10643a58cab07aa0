"""One round of tool calls inside a run: asked about, run in parallel, and each result in the log as it comes.

The order is the law. A call is committed before anything is done about it; its start is committed before it runs; its
result is committed before the model is told. So whoever takes the run over knows of every call that may have had an
effect: a finished one is never run again, one that had started only where its tool is declared idempotent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog

from legato.core.event import ToolCalled, ToolResulted, ToolStarted
from legato.core.reply import fold_reply
from legato.core.stretch import LoggedCall
from legato.providers.tool_deltas import ToolCall
from legato.runs.approvals import wait_for_approval
from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.tools.base import Tool, ToolResult
from legato.tools.box import definitions
from legato.tools.run import PreparedCall, prepare

log = structlog.get_logger(__name__)

AT_ONCE = 16
"""Calls of one round that run at the same time; the rest wait."""
UNKNOWN_OUTCOME = (
    "outcome unknown: the server was interrupted while this call ran, so it may or may not have taken effect; "
    "it was not run again"
)
NO_TOOLS: Final[Mapping[str, Tool]] = {}
"""Shared by all replies that have none."""


async def tools_of(node: Node) -> Mapping[str, Tool]:
    """Return the tools that a model may call now, by name."""
    return await node.tools.tools() if node.tools is not None else NO_TOOLS


def definitions_of(tools: Mapping[str, Tool]) -> Sequence[Mapping[str, Any]]:
    """Return what a model is told of the tools."""
    return definitions(tools) if tools else ()


async def log_calls(node: Node, run: LiveRun, calls: Sequence[ToolCall]) -> None:
    """Commit the calls that a model asked for, all of one answer together, under ids that no other of the run has."""
    used = {call.id for call in fold_reply(run.tail.log).tool_calls}
    for call in calls:
        call_id, number = call.id, 2
        while call_id in used:
            call_id, number = f"{call.id}_{number}", number + 1
        used.add(call_id)
        node.committer.append(run.tail, ToolCalled(call_id=call_id, name=call.name, arguments=call.arguments))
    await node.committer.flush()


def open_calls(run: LiveRun) -> list[LoggedCall]:
    """Return the calls of a run's log that have no result yet."""
    return [call for call in fold_reply(run.tail.log).tool_calls if call.result is None]


async def run_tools(node: Node, run: LiveRun, tools: Mapping[str, Tool]) -> None:
    """Bring every open call of a run to its result; cancelling it cancels the tools."""
    calls = open_calls(run)
    round_ = ToolRound(node, run, tools)
    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(round_.carry_out(call))


class ToolRound:
    """The calls of one answer; each is carried out by a task of its own."""

    def __init__(self, node: Node, run: LiveRun, tools: Mapping[str, Tool]) -> None:
        self._node = node
        self._run = run
        self._tools = tools
        self._free = asyncio.Semaphore(AT_ONCE)

    async def carry_out(self, call: LoggedCall) -> None:
        """Bring one call to its result in the log."""
        prepared = prepare(self._tools, call.name, call.arguments)
        if call.started:
            again = prepared.tool is not None and prepared.tool.idempotent
            log.info("a tool call was cut", run_id=self._run.id, tool=call.name, runs_again=again)
            if not again:
                await self._finish(call, ToolResult(output=UNKNOWN_OUTCOME, is_error=True))
                return
        elif prepared.refusal is not None:
            await self._finish(call, prepared.refusal)
            return
        elif (why_not := await self._why_not(call, prepared)) is not None:
            await self._finish(call, ToolResult(output=why_not, is_error=True))
            return
        async with self._free:
            if not call.started:
                await self._start(call)
            result = await self._run_tool(call, prepared)
        await self._finish(call, result)

    async def _why_not(self, call: LoggedCall, prepared: PreparedCall) -> str | None:
        """Ask a person where that is needed; return what the model is told of a refusal, None for a yes."""
        given = call.given
        if given is None:
            if call.asked is None and not await prepared.needs_approval():
                return None
            given = await wait_for_approval(self._node, self._run, call)
        if given.granted:
            return None
        if given.by is None:
            limit_s = self._node.settings.approval_timeout_s
            return f"not carried out: this call needs a person's approval, and nobody gave it within {limit_s:g} s"
        reason = f": {given.reason}" if given.reason else ""
        return f"not carried out: the user did not approve this call{reason}"

    async def _start(self, call: LoggedCall) -> None:
        """Commit that the call begins."""
        self._node.committer.append(self._run.tail, ToolStarted(call_id=call.id))
        await self._node.committer.flush()

    async def _run_tool(self, call: LoggedCall, prepared: PreparedCall) -> ToolResult:
        # A context of its own: calls run at the same time.
        make = self._node.tool_context
        began_ns = time.time_ns()
        result = await prepared.run(make(self._run, call.id, call.name) if make is not None else None)
        if self._node.moderation is not None:
            result = await self._node.moderation.tool_result(self._run, call.name, result)
        self._node.metrics.tool_ended(is_error=result.is_error)
        if self._node.traces is not None:
            self._node.traces.tool(
                run_id=self._run.id,
                trace_id=self._run.started.trace_id,
                name=call.name,
                call_id=call.id,
                is_error=result.is_error,
                began_ns=began_ns,
            )
        return result

    async def _finish(self, call: LoggedCall, result: ToolResult) -> None:
        """Commit what the model is told."""
        self._node.committer.append(
            self._run.tail,
            ToolResulted(
                call_id=call.id, output=result.output, is_error=result.is_error, elapsed_s=round(result.elapsed_s, 3)
            ),
        )
        await self._node.committer.flush()

"""Tool calls that wait for a person: who may decide, once, in time, and in the log before it counts.

A decision is an event of the run's log, appended by the process that holds the run; a takeover finds it there. One that
is given at another node is left in the database for it. Whoever waits goes on when it is committed. While anybody
waits, the run's longest duration stands still: the time is the person's, not the reply's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from legato.core.errors import Conflict, NotFound, StorageUnavailable
from legato.core.event import ApprovalAsked, ApprovalGiven
from legato.core.principal import Principal
from legato.core.reply import fold_reply
from legato.core.stretch import LoggedCall
from legato.fanout.hint import HintKind
from legato.runs.follow import find_tail
from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.runs.tail import Tail
from legato.runs.waker import Nothing, Waker
from legato.storage.decisions import Decision, delete_decisions, put_decision


async def approve(
    node: Node, principal: Principal, run_id: str, call_id: str, *, granted: bool, reason: str | None
) -> None:
    """Decide on a tool call that waits for it; return when that is in the log.

    Raises:
        NotFound: No such run or call, or another's.
        Conflict: Nobody was asked about the call, it is decided already, or the reply has ended.
        StorageUnavailable: The decision could not be saved.
        Draining: The run has been left to the next start: ask again there.
        InvalidRequest, BudgetExceeded: A policy blocks the reason, or cannot be paid for.
    """
    tail = await find_tail(node, principal, run_id)
    call = _call(tail, call_id)
    if call is None:
        raise NotFound("there is no tool call with this id in this run")
    if node.moderation is not None and reason:
        # The model is told of it: it passes what a person's messages pass.
        reason = await node.moderation.approval(tail, reason)
        call = _call(tail, call_id) or call
    if call.given is not None:
        raise Conflict(f"the call was {call.approval} before")
    run = node.live.get(run_id)
    is_here = run is not None and run.tail is tail
    if tail.closed or (run is not None and run.is_interrupted) or (node.feed is None and not is_here):
        raise Conflict("the reply has ended: nothing waits for approval")
    if call.asked is None:
        raise Conflict("nobody is asked about this call")
    if node.committer.stalled_s > 0:
        raise StorageUnavailable("the database takes no writes at present: try again in a moment")
    given = ApprovalGiven(call_id=call_id, by=principal.id, granted=granted, reason=reason)
    if run is None or not is_here:
        await _decide_elsewhere(node, tail, given)
        return
    if not decide(node, run, given):
        raise Conflict("the call is being decided already")
    await node.committer.flush(wait_s=node.settings.storage_wait_s)
    if run.is_let_go:
        raise StorageUnavailable("another server makes the reply by now: decide again in a moment")


async def take_decisions(node: Node, rows: Sequence[Any]) -> None:
    """Put decisions that were given at other nodes into the logs of the runs that are made here.

    Args:
        rows: As storage.decisions.find_decisions.
    """
    runs = {run.tail.key: run for run in node.live.values()}
    taken = []
    for row in rows:
        run = runs.get(row.run_key)
        call = None if run is None or run.is_interrupted else _call(run.tail, row.call_id)
        # Whoever decided may have read that it is asked a moment before it is shown here.
        if run is None or call is None or call.asked is None:
            continue
        if call.given is None:
            decide(node, run, ApprovalGiven(call_id=row.call_id, by=row.by, granted=row.granted, reason=row.reason))
        taken.append(row)
    if taken:
        # Only what is in the log may be forgotten.
        try:
            await node.committer.flush()
        except StorageUnavailable:
            return
        sure = [row for row in taken if not runs[row.run_key].is_let_go]
        await node.committer.write(lambda tx: delete_decisions(tx, sure))


async def _decide_elsewhere(node: Node, tail: Tail, given: ApprovalGiven) -> None:
    """Leave a decision for the node that makes the reply, and wait until the log has it."""
    wait_s = node.settings.storage_wait_s
    decision = Decision(
        run_key=tail.key,
        call_id=given.call_id,
        granted=given.granted,
        by=given.by or "",
        reason=given.reason,
        at_ms=node.clock.now_ms(),
    )
    row = await node.committer.write(lambda tx: put_decision(tx, decision), wait_s=wait_s)
    if row is None:
        raise Conflict("the reply has ended: nothing waits for approval")
    if (row.granted, row.by, row.reason) != (decision.granted, decision.by, decision.reason):
        raise Conflict("the call is being decided already")
    node.wakes.tell(HintKind.STOP, [tail.key])
    waker = Waker()
    reader = node.readers.open(waker, tail, Nothing, after=tail.end - 1)
    try:
        async with asyncio.timeout(wait_s):
            while (call := _call(tail, given.call_id)) is None or call.given is None:
                if tail.closed:
                    raise Conflict("the reply has ended: nothing waits for approval")
                if waker.cut:
                    raise TimeoutError
                await waker.wait()
    except TimeoutError:
        raise StorageUnavailable(
            "the decision is kept, but not in the log yet: look at the reply in a moment"
        ) from None
    finally:
        reader.close()
    if call.given.granted != given.granted:
        raise Conflict(f"the call was {call.approval} before")


def _call(tail: Tail, call_id: str) -> LoggedCall | None:
    return next((call for call in fold_reply(tail.log).tool_calls if call.id == call_id), None)


def decide(node: Node, run: LiveRun, given: ApprovalGiven) -> bool:
    """Append a decision and wake who waits for it; return False if there is one on its way already."""
    future = _future(run, given.call_id)
    if future.done():
        return False
    node.committer.append(run.tail, given)
    future.set_result(given)
    return True


async def wait_for_approval(node: Node, run: LiveRun, call: LoggedCall) -> ApprovalGiven:
    """Ask about a call, or go on asking after a takeover, and return what was decided, once it is committed.

    Nobody's answer within `approval_timeout_s` is a refusal; after a takeover the rest of that time is left.
    """
    limit_s = node.settings.approval_timeout_s
    future = _future(run, call.id)
    if call.asked is None:
        until_ms = node.clock.now_ms() + round(limit_s * 1000)
        node.committer.append(run.tail, ApprovalAsked(call_id=call.id, until_ms=until_ms))
        await node.committer.flush()
    else:
        limit_s = min(limit_s, max(0.0, (call.asked.until_ms - node.clock.now_ms()) / 1000))
    run.hold(node.clock.monotonic_s())
    try:
        async with asyncio.timeout(limit_s):
            await asyncio.shield(future)
    except TimeoutError:
        # A decision may have come in the same moment: it stands.
        decide(node, run, ApprovalGiven(call_id=call.id, granted=False))
    finally:
        run.go_on(node.clock.monotonic_s())
    given = future.result()
    await node.committer.flush()
    return given


def _future(run: LiveRun, call_id: str) -> asyncio.Future[ApprovalGiven]:
    """Return what a decision on the call is put into, by whichever side comes first."""
    if run.approvals is None:
        run.approvals = {}
    if call_id not in run.approvals:
        run.approvals[call_id] = asyncio.get_running_loop().create_future()
    return run.approvals[call_id]

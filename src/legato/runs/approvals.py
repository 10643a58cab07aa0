"""Tool calls that wait for a person: who may decide, once, in time, and in the log before it counts.

A decision is an event of the run's log, appended by the process that holds the run; a takeover finds it there. Whoever
waits goes on when it is committed. While anybody waits, the run's longest duration stands still: the time is the
person's, not the reply's.
"""

from __future__ import annotations

import asyncio

from legato.core.errors import Conflict, NotFound, StorageUnavailable
from legato.core.event import ApprovalAsked, ApprovalGiven
from legato.core.principal import Principal
from legato.core.reply import fold_reply
from legato.core.stretch import LoggedCall
from legato.runs.follow import find_tail
from legato.runs.live import LiveRun
from legato.runs.node import Node


async def approve(
    node: Node, principal: Principal, run_id: str, call_id: str, *, granted: bool, reason: str | None
) -> None:
    """Decide on a tool call that waits for it; return when that is in the log.

    Raises:
        NotFound: No such run or call, or another's.
        Conflict: Nobody was asked about the call, it is decided already, or the reply has ended.
        StorageUnavailable: The decision could not be saved.
        Draining: The run has been left to the next start: ask again there.
    """
    tail = await find_tail(node, principal, run_id)
    call = next((call for call in fold_reply(tail.log).tool_calls if call.id == call_id), None)
    if call is None:
        raise NotFound("there is no tool call with this id in this run")
    if call.given is not None:
        raise Conflict(f"the call was {call.approval} before")
    run = node.live.get(run_id)
    if run is None or run.tail is not tail or tail.closed or run.is_interrupted:
        raise Conflict("the reply has ended: nothing waits for approval")
    if call.asked is None:
        raise Conflict("nobody is asked about this call")
    if node.committer.stalled_s > 0:
        raise StorageUnavailable("the database takes no writes at present: try again in a moment")
    given = ApprovalGiven(call_id=call_id, by=principal.id, granted=granted, reason=reason)
    if not decide(node, run, given):
        raise Conflict("the call is being decided already")
    await node.committer.flush(wait_s=node.settings.storage_wait_s)


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

"""Makes a run's reply: calls the model and its tools, retries, fails over, continues after a break, and always ends
the run."""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from legato.core.errors import InvalidRequest
from legato.core.event import ApprovalAsked, CallReason, CallStarted
from legato.core.reply import fold_reply, open_call_at
from legato.core.run_errors import BudgetSpent, Interrupted, NoModel, RunError
from legato.providers.base import CallEnd, ChatMessage, Provider
from legato.runs.budget import settle_calls, short_of_budget
from legato.runs.call import CallSuspended, ReplyBlocked, ReplyTooLong, call_model
from legato.runs.charges import NOTHING, reported
from legato.runs.context import messages_so_far
from legato.runs.end import End, Failed, Finished, Following, Stopped, end, failure
from legato.runs.ledger import close_left_open
from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.runs.take_up import request_of, take_up, unreadable
from legato.runs.title import begin_title
from legato.runs.tool_round import NO_TOOLS, definitions_of, log_calls, open_calls, run_tools, tools_of

log = structlog.get_logger(__name__)

LONGEST_PAUSE_S = 30.0
MOST_BREAKS = 5
"""Times that one reply is continued after a break in mid-stream."""


def begin(node: Node, run: LiveRun, *, first_call_logged: bool = False) -> None:
    """Start making a run's reply in the background; a request that goes away does not end it."""
    loop = asyncio.get_running_loop()
    # An empty context: this task outlives the request whose context it would copy. A name of its own would be kept too.
    node.keep(loop.create_task(_execute(node, run, first_call_logged), name="reply", context=contextvars.Context()))


async def _execute(node: Node, run: LiveRun, first_call_logged: bool) -> None:
    how: End
    # Bound only now: a task that is cancelled before its first step runs nothing, and would never end its run.
    task = asyncio.current_task()
    assert task is not None
    if run.is_let_go:
        return
    run.bind(task, _counts_from_s(node, run) + node.settings.run_timeout_s)
    try:
        if run.is_interrupted:
            raise asyncio.CancelledError
        how = await _generate(node, run, first_call_logged)
    except asyncio.CancelledError:
        if run.stop_cause is not None:
            how = Stopped(run.stop_cause)
        elif run.failure is not None:
            how = failure(run.failure)
        else:
            # The process is going down, or the run is another node's: it stays as it is.
            raise
    except RunError as error:
        how = Failed(error)
    except Exception as error:
        log.exception("run failed", run_id=run.id)
        how = failure(error)
    run.release()
    if run.stop_cause is not None and not isinstance(how, Stopped):
        how = Stopped(run.stop_cause)
    following = await end(node, run, how)
    begin_title(node, run)
    if following is not None:
        promote(node, following)


async def end_turn(node: Node, run: LiveRun, how: End) -> None:
    """End a run that makes nothing, and begin the turn that waited behind it."""
    following = await end(node, run, how)
    if following is not None:
        promote(node, following)


def promote(node: Node, following: Following) -> None:
    """Begin the turn that waited, on the row that the end of the turn before it has brought."""
    row = following.row
    if node.key is not None:
        # Whoever took the post may be another node: all there is of the turn comes with its row.
        if node.owns(following.node_key):
            node.live[row.id] = taken = take_up(node, row, following.pieces)
            begin(node, taken)
        return
    run = node.live.get(row.id)
    if run is None:
        # It was deleted, or its request is still on its way here and finds it running.
        log.warning("promoted run is not held", run_id=row.id)
        return
    run.queued = False
    if run.stop_cause is not None:
        # Whoever stopped it while it waited is ending it: no model is asked.
        return
    run.history = True
    run.began_s = node.clock.monotonic_s()
    run.request = request_of(row)
    if row.request is None:
        run.fail(unreadable())
    begin(node, run)


class _Asked:
    """Which model of a run's chain is asked next, and why.

    Attributes:
        place: In the chain: a model that failed is not gone back to, after tools either.
        breaks: Times that the reply was continued after a break in mid-stream.
        logged: The next call is in the log already.
        after_tools: The next call is the first one after a round of tools.
    """

    def __init__(self, chain: Sequence[Provider], *, logged: bool) -> None:
        self.chain = chain
        self.place = 0
        self.breaks = 0
        self.logged = logged
        self.after_tools = False


async def _generate(node: Node, run: LiveRun, first_call_logged: bool) -> End:
    if run.request.blocked is not None:
        # No model is asked.
        return _blocked(node, run, run.request.blocked)
    try:
        asked = _Asked(node.models.chain(run.request.model), logged=first_call_logged)
    except InvalidRequest as error:
        raise NoModel(error.message) from None
    most_rounds = node.settings.max_tool_rounds if node.tools is not None else 0
    if not first_call_logged:
        if open_call_at(run.tail.log) is not None:
            # The process before this one ended in the midst of a call.
            await close_left_open(node, run, definitions_of(await tools_of(node)))
        elif open_calls(run):
            # Or in the midst of a round of tools.
            await run_tools(node, run, await tools_of(node))
    while True:
        rounds = fold_reply(run.tail.log).tool_rounds if most_rounds else 0
        tools = await tools_of(node) if rounds < most_rounds else NO_TOOLS
        try:
            call_end = await _ask(node, run, asked, definitions_of(tools))
        except ReplyTooLong:
            return Finished("length")
        except ReplyBlocked as blocked:
            return _blocked(node, run, blocked.text)
        except BudgetSpent:
            return Stopped("budget")
        except RunError:
            reply = node.settings.fallback_reply
            if not reply or run.tail.log.text_bytes:
                raise
            node.committer.append(run.tail, reply)
            return Finished("fallback")
        if call_end.reason == "length" and short_of_budget(run):
            return Stopped("budget")
        if rounds >= most_rounds or not call_end.tool_calls or call_end.reason == "length":
            limited = most_rounds and rounds >= most_rounds and call_end.reason == "stop"
            return Finished("tool_limit" if limited else call_end.reason)
        if node.moderation is not None:
            try:
                await node.moderation.arguments(run, call_end.tool_calls)
            except ReplyBlocked as blocked:
                return _blocked(node, run, blocked.text)
            except BudgetSpent:
                # Nobody could judge them: they are not carried out.
                return Stopped("budget")
        await log_calls(node, run, call_end.tool_calls)
        # Tools may take long: what the calls so far did not use is for others.
        await settle_calls(node, run)
        await run_tools(node, run, tools)
        asked.after_tools = True


def _blocked(node: Node, run: LiveRun, text: str) -> Finished:
    """End a reply with what is said instead of what may not be; nothing is awaited until the end takes both along."""
    shown = run.tail.log.text_bytes or any(type(item) is str for item in run.tail.pending)
    if not (shown and run.request.blocked is not None):
        node.committer.append(run.tail, f"\n\n{text}" if shown else text)
    return Finished("content_filter")


async def _ask(node: Node, run: LiveRun, asked: _Asked, tools: Sequence[Mapping[str, Any]]) -> CallEnd:
    """Call the models until one comes to its end: tried again, continued after a break, the next one where that fails.

    Raises:
        RunError: None of them did; the last one's error.
        ReplyTooLong: The reply was cut at its longest.
        ReplyBlocked: A policy lets it go no further.
    """
    fault: RunError | None = None
    suspended = False
    while asked.place < len(asked.chain):
        provider = asked.chain[asked.place]
        attempt = 0
        while attempt < node.settings.call_attempts:
            await node.going.wait()
            again = attempt > 0 or suspended
            reason: CallReason = "first" if asked.logged else _reason(run, asked, fault, again=again)
            suspended = False
            run.spent = None
            if not asked.logged:
                await _log_call(node, run, provider, reason)
            asked.logged = asked.after_tools = False
            shown, so_far = _said(run)
            said_bytes = len(run.tail.log.text_bytes)
            node.metrics.call_begun(provider.name, reason)
            began_ns = time.time_ns()
            try:
                call_end = await call_model(node, run, provider, shown=shown, so_far=so_far, tools=tools)
                _note_call(node, run, provider, reason, began_ns, call_end)
                return call_end
            except BaseException as error:
                _note_call(node, run, provider, reason, began_ns, error)
                if isinstance(error, CallSuspended):
                    # Once the node may go on, the same model is asked again.
                    await node.committer.flush()
                    suspended = True
                    continue
                if not isinstance(error, RunError) or isinstance(error, BudgetSpent):
                    raise
                await node.committer.flush()
                fault = error
                log.info("call failed", run_id=run.id, model=provider.name, code=error.code, error=error.message)
                if len(run.tail.log.text_bytes) > said_bytes:
                    # It had gone on: a break, not a failure to begin.
                    asked.breaks += 1
                    attempt = 0
                    if asked.breaks > MOST_BREAKS:
                        raise
                if not error.retryable or isinstance(error, Interrupted):
                    break
                attempt += 1
                if attempt < node.settings.call_attempts:
                    await asyncio.sleep(_pause_s(node, error, attempt))
        asked.place += 1
    assert fault is not None
    raise fault


def _note_call(
    node: Node,
    run: LiveRun,
    provider: Provider,
    reason: CallReason,
    began_ns: int,
    outcome: CallEnd | BaseException,
) -> None:
    """Count a call that is over, and trace it."""
    # No function around the call: each would keep a frame for as long as a reply streams.
    fault: str | None = None
    finish_reason: str | None = None
    match outcome:
        case CallEnd():
            finish_reason = outcome.reason
        case ReplyTooLong():
            finish_reason = "length"
        case ReplyBlocked():
            finish_reason = "content_filter"
        case RunError():
            fault = outcome.code
            node.metrics.call_failed(provider.name, fault)
        case _:
            fault = "cancelled"
    if node.traces is not None:
        node.traces.call(
            run_id=run.id,
            trace_id=run.started.trace_id,
            provider=provider.kind,
            model=provider.name,
            reason=reason,
            finish_reason=finish_reason,
            spent=run.spent,
            fault=fault,
            began_ns=began_ns,
        )


def _said(run: LiveRun) -> tuple[str, Sequence[ChatMessage]]:
    """Return the text since the last tools, and what was said and told before."""
    # A function of its own: its caller's frame stays for as long as the call.
    stretches = fold_reply(run.tail.log).stretches
    return stretches[-1].text, messages_so_far(stretches) or ()


async def _log_call(node: Node, run: LiveRun, provider: Provider, reason: CallReason) -> None:
    """Have the call in the log before it is made, so that no call is ever unaccounted for."""
    node.committer.append(
        run.tail,
        CallStarted(epoch=run.tail.epoch, provider=provider.kind, model=provider.name, reason=reason),
    )
    try:
        await node.committer.flush()
    except BaseException:
        # It will not be made.
        run.spent = NOTHING
        node.committer.append(run.tail, reported(NOTHING))
        raise


def _counts_from_s(node: Node, run: LiveRun) -> float:
    """Return the monotonic time from which the longest duration of a run counts."""
    if any(isinstance(event, ApprovalAsked) for event in run.tail.log.events):
        # It was taken over. How much of its time it has waited for a person is not known.
        return node.clock.monotonic_s()
    return run.began_s


def _reason(run: LiveRun, asked: _Asked, fault: RunError | None, *, again: bool) -> CallReason:
    if asked.after_tools:
        return "tools"
    if again:
        return "retry"
    if fault is None:
        # A turn that was let run, and killed before its first call was logged, has its first call still to come.
        return "takeover" if any(isinstance(event, CallStarted) for event in run.tail.log.events) else "first"
    return "failover"


def _pause_s(node: Node, error: RunError, attempt: int) -> float:
    """Return how long to wait before a call is tried again: exponential with jitter, or what the server asked.

    Source:
        https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    if error.retry_after_s is not None:
        return min(error.retry_after_s, LONGEST_PAUSE_S)
    ceiling = min(LONGEST_PAUSE_S, node.settings.retry_base_s * 2.0 ** (attempt - 1))
    return ceiling * (0.5 + random.random() / 2)

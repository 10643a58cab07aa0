"""Makes a run's reply: calls the model, retries, fails over, continues after a break, and always ends the run."""

from __future__ import annotations

import asyncio
import contextvars
import random
from typing import Any

import structlog

from legato.core.errors import Interrupted, InvalidRequest, RunError, UpstreamRefused
from legato.core.event import CallReason, CallStarted, UsageReported
from legato.providers.base import CallEnd, Provider
from legato.runs.call import ReplyTooLong, call_model
from legato.runs.end import End, Failed, Finished, Stopped, end, failure
from legato.runs.live import LiveRun, RunRequest
from legato.runs.node import Node
from legato.runs.title import begin_title

log = structlog.get_logger(__name__)

LONGEST_PAUSE_S = 30.0
MOST_BREAKS = 5
"""Times that one reply is continued after a break in mid-stream."""


def begin(node: Node, run: LiveRun, *, first_call_logged: bool = False) -> None:
    """Start making a run's reply in the background; a request that goes away does not end it."""
    loop = asyncio.get_running_loop()
    # An empty context: this task outlives the request whose context it would copy.
    node.keep(loop.create_task(_execute(node, run, first_call_logged), context=contextvars.Context()))


async def _execute(node: Node, run: LiveRun, first_call_logged: bool) -> None:
    how: End
    # Bound only now: a task that is cancelled before its first step runs nothing, and would never end its run.
    task = asyncio.current_task()
    assert task is not None
    run.bind(task, run.began_s + node.settings.run_timeout_s)
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
            # The process is going down: the run stays as it is, for whoever starts next.
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


def promote(node: Node, row: Any) -> None:
    """Begin the turn that waited, on the row that the end of the turn before it has brought."""
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
    run.request = RunRequest.from_json(row.request).over(row)
    begin(node, run)


async def _generate(node: Node, run: LiveRun, first_call_logged: bool) -> End:
    try:
        chain = node.models.chain(run.request.model)
    except InvalidRequest as error:
        raise UpstreamRefused(error.message) from None
    fault: RunError | None = None
    breaks = 0
    for provider in chain:
        attempt = 0
        while attempt < node.settings.call_attempts:
            if fault is not None or not first_call_logged:
                await _log_call(node, run, provider, _reason(run, fault, attempt))
            shown = run.tail.log.text
            try:
                call_end = await call_model(node, run, provider, shown=shown)
            except ReplyTooLong:
                return Finished("length")
            except RunError as error:
                await node.committer.flush()
                fault = error
                log.info("call failed", run_id=run.id, model=provider.name, code=error.code, error=error.message)
                if len(run.tail.log.text_bytes) > len(shown.encode()):
                    # It had gone on: a break, not a failure to begin.
                    breaks += 1
                    attempt = 0
                    if breaks > MOST_BREAKS:
                        raise
                if not error.retryable or isinstance(error, Interrupted):
                    break
                attempt += 1
                if attempt < node.settings.call_attempts:
                    await asyncio.sleep(_pause_s(node, error, attempt))
                continue
            if call_end.usage is not None:
                _log_usage(node, run, call_end)
            return Finished(call_end.reason)
    assert fault is not None
    reply = node.settings.fallback_reply
    if reply and not run.tail.log.text_bytes:
        node.committer.append(run.tail, reply)
        return Finished("fallback")
    raise fault


async def _log_call(node: Node, run: LiveRun, provider: Provider, reason: CallReason) -> None:
    """Have the call in the log before it is made, so that no call is ever unaccounted for."""
    node.committer.append(
        run.tail,
        CallStarted(epoch=run.tail.epoch, provider=provider.kind, model=provider.name, reason=reason),
    )
    await node.committer.flush()


def _log_usage(node: Node, run: LiveRun, call_end: CallEnd) -> None:
    usage = call_end.usage
    assert usage is not None
    node.committer.append(
        run.tail,
        UsageReported(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            reasoning_tokens=usage.reasoning_tokens,
        ),
    )


def _reason(run: LiveRun, fault: RunError | None, attempt: int) -> CallReason:
    if fault is None:
        # A turn that was let run, and killed before its first call was logged, has its first call still to come.
        return "takeover" if any(isinstance(event, CallStarted) for event in run.tail.log.events) else "first"
    return "retry" if attempt else "failover"


def _pause_s(node: Node, error: RunError, attempt: int) -> float:
    """Return how long to wait before a call is tried again: exponential with jitter, or what the server asked.

    Source:
        https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    if error.retry_after_s is not None:
        return min(error.retry_after_s, LONGEST_PAUSE_S)
    ceiling = min(LONGEST_PAUSE_S, node.settings.retry_base_s * 2.0 ** (attempt - 1))
    return ceiling * (0.5 + random.random() / 2)

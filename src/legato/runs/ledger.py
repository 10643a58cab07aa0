"""Writes down what has been charged: one row a call of a model that used something.

The rows of a reply are made from its log, in the transaction that ends it, so that each call is charged exactly once,
whichever process made it. They outlive the conversation, and hold none of its text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from legato.core.errors import InvalidRequest
from legato.core.event import CallStarted, UsageReported
from legato.core.log import RunLog
from legato.core.reply import fold_reply, open_call_at, received_text
from legato.core.run_errors import ContextExceeded
from legato.core.usage import Spent, Usage
from legato.providers.base import Provider
from legato.runs.budget import settlement_of
from legato.runs.call import build_request
from legato.runs.charges import NOTHING, Purpose, completed, cost_nusd, reported
from legato.runs.context import count_text, estimate_tokens, messages_so_far
from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.storage.charges import Charge, insert_charges
from legato.storage.runs import find_run
from legato.storage.statement import Transaction

log = structlog.get_logger(__name__)


def charges_of(run: LiveRun, run_log: RunLog, at_ms: int) -> list[Charge]:
    """Return what the calls of a log are charged; those that used nothing are left out."""
    charges, call = [], None
    for event in run_log.events:
        if isinstance(event, CallStarted):
            call = event
        elif isinstance(event, UsageReported) and call is not None:
            if event.input_tokens != 0 or event.output_tokens != 0:
                charges.append(_charge(run, event, at_ms, "reply", call.model, call.provider, call.reason))
            call = None
    return charges


def charge_of(node: Node, run: LiveRun, provider: Provider, spent: Spent, purpose: Purpose) -> Charge:
    """Return what a call that is in no log is charged."""
    return _charge(run, reported(spent), node.clock.now_ms(), purpose, provider.name, provider.kind, "first")


def _charge(
    run: LiveRun, event: UsageReported, at_ms: int, purpose: Purpose, model: str, provider: str, reason: str
) -> Charge:
    return Charge(
        at_ms=at_ms,
        owner=run.tail.owner,
        key_id=run.key_id,
        session_id=run.started.session_id,
        conversation_id=run.conversation_id,
        run_id=run.id,
        purpose=purpose,
        model=model,
        provider=provider,
        reason=reason,
        input_tokens=event.input_tokens,
        cache_read_tokens=event.cache_read_tokens,
        output_tokens=event.output_tokens,
        reasoning_tokens=event.reasoning_tokens,
        counted=event.counted,
        cost_nusd=cost_nusd(event),
    )


def nameless(charge: Charge) -> Charge:
    """Return a charge of a conversation that is deleted."""
    return replace(charge, conversation_id="", run_id="")


async def close_left_open(node: Node, run: LiveRun, tools: Sequence[Mapping[str, Any]] = ()) -> None:
    """Count the call of a run that nobody has closed, because the process that made it died or let go of it."""
    index = open_call_at(run.tail.log)
    if run.spent is not None or index is None:
        # What this process has closed itself may still be on its way into the log.
        return
    started = run.tail.log.events[index]
    assert isinstance(started, CallStarted)
    spent = NOTHING
    # One that this process has logged was never made: it would be closed.
    if started.epoch != run.tail.epoch and (usage := await _counted(node, run, started.model, tools)) is not None:
        spent = Spent(usage=usage, cost=node.prices.cost(started.model, usage))
        node.metrics.call_used(started.model, spent)
    run.spent = spent
    node.committer.append(run.tail, reported(spent))


async def _counted(node: Node, run: LiveRun, model: str, tools: Sequence[Mapping[str, Any]]) -> Usage | None:
    """Return what the open call of a run has used, as far as that can be told; None where it was never made."""
    received = received_text(run.tail.log)
    try:
        provider = node.models.find(model)
    except InvalidRequest:
        # It is no longer configured: nobody knows how it counts.
        return Usage(output_tokens=estimate_tokens(received) if received else 0, counted=True)
    stretches = fold_reply(run.tail.log).stretches
    shown = stretches[-1].text.removesuffix(_said(run.tail.log))
    try:
        request = await build_request(node, run, provider, shown=shown, so_far=messages_so_far(stretches), tools=tools)
        # The limit of the next call leaves out what this one has said.
        most = request.max_tokens + run.tail.log.texts_before(len(run.tail.log))
        return await completed(provider, None, request, received, most_output=most)
    except ContextExceeded:
        return None
    except Exception:
        # The boundary of one charge: it must not keep a run from its end.
        log.exception("the input of a call could not be counted", run_id=run.id)
        return Usage(output_tokens=await count_text(provider, received) if received else 0, counted=True)


def _said(run_log: RunLog) -> str:
    """Return the text that has come of the call that is open."""
    index = open_call_at(run_log)
    assert index is not None
    return run_log.text_bytes[run_log.ends[run_log.event_seqs[index]] :].decode()


async def charge_deleted(node: Node, run: LiveRun) -> None:
    """Charge a run whose row is gone: a conversation that is deleted does not take back what it cost."""
    run_log, now_ms = run.tail.log.copy(), node.clock.now_ms()
    index = open_call_at(run_log)
    if index is not None:
        # What it was given is gone too: what was counted when it was given up is all that there is.
        event = run_log.events[index]
        assert isinstance(event, CallStarted)
        received = received_text(run_log)
        usage = Usage(output_tokens=estimate_tokens(received) if received else 0, counted=True)
        left = NOTHING if event.epoch == run.tail.epoch else Spent(usage=usage, cost=None)
        run_log.extend([reported(run.spent or left)], run.tail.epoch)
    charges = [nameless(each) for each in charges_of(run, run_log, now_ms)]
    settlement = settlement_of(node, run, run_log)

    def write(tx: Transaction) -> None:
        if find_run(tx, run.tail.owner, run.id) is None:
            insert_charges(tx, charges)
            if settlement is not None:
                settlement.write(tx)

    if charges or settlement is not None:
        await node.committer.write(write)

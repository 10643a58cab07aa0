"""The end of a run: last deltas, message, packed log and the next turn, in one transaction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from legato.core.errors import InternalError, LegatoError, RunError
from legato.core.event import (
    FinishReason,
    LogItem,
    RunFailed,
    RunFinished,
    RunStopped,
    StopCause,
    Terminal,
)
from legato.core.log import RunLog
from legato.core.reply import STOP_REASONS, Reply, fold_reply
from legato.core.run import RunState
from legato.runs.count import count_end
from legato.runs.events import ended_event
from legato.runs.live import UNKNOWN_MS, LiveRun
from legato.runs.node import Node
from legato.storage.codec import pack_log
from legato.storage.committer import Command
from legato.storage.outbox import put_event
from legato.storage.runs import EndedTurn, Fenced, TurnRows, end_message, end_run, insert_log, promote_next
from legato.storage.statement import Transaction

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Finished:
    """The model, or a limit on the reply's length, came to an end."""

    reason: FinishReason


@dataclass(frozen=True, slots=True)
class Failed:
    """The reply could not be completed."""

    error: LegatoError


@dataclass(frozen=True, slots=True)
class Stopped:
    """Somebody or some limit ended it."""

    by: StopCause


End = Finished | Failed | Stopped


class EndRun(Command[tuple[Terminal, Any | None]]):
    """Writes a run's end and lets the next turn of its conversation begin."""

    def __init__(self, node: Node, run: LiveRun, end: End) -> None:
        self._node = node
        self._run = run
        self._end = end
        self._items: list[LogItem] = []
        self._log = RunLog()
        self._reply: Reply | None = None
        self._rows: TurnRows | None = None

    def prepare(self) -> None:
        run = self._run
        self._items, run.tail.pending = run.tail.pending, []
        self._log = run.tail.log.copy()
        self._log.extend(self._items, run.tail.epoch)
        self._reply = reply = fold_reply(self._log)
        now_ms = self._node.clock.now_ms()
        spent_ms = max(0, math.ceil((self._node.clock.monotonic_s() - run.began_s) * 1000))
        first_ms = None if run.first_token_at_ms == UNKNOWN_MS else run.first_token_at_ms
        self._rows = TurnRows(
            run_key=run.tail.key,
            epoch=run.tail.epoch,
            conversation_key=run.conversation_key,
            message_id=run.message_id,
            parts=msgspec.json.encode(reply.parts).decode(),
            model=reply.model,
            calls=reply.calls,
            usage=msgspec.json.encode(reply.usage).decode() if reply.usage else None,
            first_token_at_ms=first_ms,
            first_token_ms=None if first_ms is None else min(spent_ms, max(0, spent_ms - now_ms + first_ms)),
            response_time_ms=spent_ms,
            now_ms=now_ms,
        )

    def apply(self, tx: Transaction) -> tuple[Terminal, Any | None]:
        assert self._rows is not None
        assert self._reply is not None
        rows, end = self._rows, self._end
        added = end_run(tx, rows, self._row(end))
        if isinstance(added, str):
            # Somebody's stop was committed before this end: it decides.
            end = Stopped(added)
            added = end_run(tx, rows, self._row(end))
            if isinstance(added, str):
                raise Fenced
        count = end_message(tx, rows, self._row(end).status, added=added)
        terminal = _terminal(end, count, rows.response_time_ms)
        log = self._log.copy()
        log.extend([terminal], rows.epoch)
        insert_log(tx, rows.run_key, len(log), pack_log(log))
        put_event(tx, ended_event(self._run, self._reply, log, rows, finish_reason=self._row(end).finish_reason))
        return terminal, promote_next(tx, rows.conversation_key, rows.now_ms)

    def committed(self, value: tuple[Terminal, Any | None]) -> None:
        terminal, _ = value
        self._node.live.pop(self._run.id, None)
        self._run.tail.publish([*self._items, terminal])
        if self._reply is not None and self._rows is not None:
            count_end(self._node, self._run, self._reply, self._log, terminal, self._rows.first_token_ms)

    def _row(self, end: End) -> EndedTurn:
        match end:
            case Finished(reason=reason):
                return EndedTurn(
                    state=RunState.FINISHED,
                    status="complete",
                    stopped_by=None,
                    finish_reason=reason,
                    error=None,
                )
            case Stopped(by=by):
                return EndedTurn(
                    state=RunState.STOPPED,
                    status="stopped",
                    stopped_by=by,
                    finish_reason=STOP_REASONS[by],
                    error=None,
                )
            case Failed(error=error):
                said = {"code": error.code, "message": error.message, "retryable": error.retryable}
                return EndedTurn(
                    state=RunState.FAILED,
                    status="failed",
                    stopped_by=None,
                    finish_reason=None,
                    error=msgspec.json.encode(said).decode(),
                )


def _terminal(end: End, count: int, spent_ms: int) -> Terminal:
    match end:
        case Finished(reason=reason):
            return RunFinished(reason=reason, message_count=count, response_time_ms=spent_ms)
        case Stopped(by=by):
            return RunStopped(by=by, message_count=count, response_time_ms=spent_ms)
        case Failed(error=error):
            return RunFailed(
                code=error.code,
                message=error.message,
                retryable=error.retryable,
                message_count=count,
                response_time_ms=spent_ms,
            )


async def end(node: Node, run: LiveRun, how: End) -> Any | None:
    """End a run, however long the database is away; return the row of the turn that runs next, if any.

    A run that is no longer this process's (deleted, or adopted elsewhere) is let go: its readers are cut.
    """
    run.release()
    try:
        try:
            terminal, following = await node.committer.execute(EndRun(node, run, how))
        except Fenced:
            raise
        except Exception as error:
            # The database refused what the reply holds: end the run without what was not shown yet.
            log.exception("run could not be ended", run_id=run.id)
            terminal, following = await node.committer.execute(EndRun(node, run, failure(error)))
    except Fenced:
        node.live.pop(run.id, None)
        run.tail.cut()
        log.info("run is gone", run_id=run.id)
        return None
    fields: dict[str, Any] = {
        "run_id": run.id,
        "state": terminal.type,
        "elapsed_ms": terminal.response_time_ms,
    }
    if isinstance(how, Failed) and isinstance(terminal, RunFailed):
        log.warning("run ended", code=terminal.code, error=terminal.message, **fields)
    else:
        log.debug("run ended", **fields)
    return following


def failure(error: Exception) -> Failed:
    """Return the end for an error: a RunError as it is, anything else as `internal`, without its words."""
    if isinstance(error, RunError):
        return Failed(error)
    return Failed(InternalError("the server made a mistake; its log says more under the run's id"))

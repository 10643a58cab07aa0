"""The end of a run: last deltas, message, packed log and the next turn, in one transaction."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import structlog

from legato.core.errors import LegatoError, SealBroken, StorageUnavailable
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
from legato.core.money import usd_text
from legato.core.reply import STOP_REASONS, Reply, fold_reply, open_call_at
from legato.core.run import RunState
from legato.core.run_errors import InternalError, RunError
from legato.fanout.hint import HintKind
from legato.runs.budget import Settlement, settlement_of
from legato.runs.charges import NOTHING, reported
from legato.runs.count import count_end
from legato.runs.events import ended_event
from legato.runs.ledger import charge_deleted, charges_of, close_left_open
from legato.runs.live import UNKNOWN_MS, LiveRun
from legato.runs.node import Node
from legato.runs.rows import usage_column
from legato.storage.charges import Charge, insert_charges
from legato.storage.codec import SegmentPiece
from legato.storage.committer import Command
from legato.storage.outbox import put_event
from legato.storage.pieces import read_each
from legato.storage.runs import (
    EndedTurn,
    Fenced,
    TurnRows,
    end_message,
    end_run,
    insert_log,
    is_waiting,
    promote_next,
)
from legato.storage.sealed_logs import is_lost
from legato.storage.statement import Transaction

log = structlog.get_logger(__name__)

BUSY_S: Final = 1.0
"""Between two tries to write an end whose rows others hold."""


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


@dataclass(frozen=True, slots=True)
class Following:
    """The turn that an end lets run.

    Attributes:
        row: As storage.runs.RUN_ROWS.
        node_key: Whose it is now.
        pieces: Its log, where nobody holds a turn that waits.
    """

    row: Any
    node_key: int | None
    pieces: Sequence[SegmentPiece]


class EndRun(Command[tuple[Terminal, Following | None]]):
    """Writes a run's end and lets the next turn of its conversation begin."""

    def __init__(self, node: Node, run: LiveRun, end: End) -> None:
        self._node = node
        self._run = run
        # What is on its way to the disk comes first: the packed log has all of it.
        self.log = run.tail
        self._end = end
        # Of a turn that waits and is nobody's all that is known was read before.
        self._is_waiting = run.queued and node.key is not None
        self._items: list[LogItem] = []
        self._log = RunLog()
        self._reply: Reply | None = None
        self._rows: TurnRows | None = None
        self._charges: Sequence[Charge] = ()
        self._settlement: Settlement | None = None

    def prepare(self) -> None:
        run = self._run
        # What an earlier try took along is still to be written.
        self._items, run.tail.pending = [*self._items, *run.tail.pending], []
        self._log = run.tail.log.copy()
        self._log.extend(self._items, run.tail.epoch)
        self._reply = reply = fold_reply(self._log)
        now_ms = self._node.clock.now_ms()
        spent_ms = max(0, math.ceil((self._node.clock.monotonic_s() - run.began_s) * 1000))
        first_ms = None if run.first_token_at_ms == UNKNOWN_MS else run.first_token_at_ms
        self._rows = TurnRows(
            run_key=run.tail.key,
            run_id=run.id,
            epoch=run.tail.epoch,
            conversation_key=run.conversation_key,
            message_id=run.message_id,
            parts=msgspec.json.encode(reply.parts).decode(),
            model=reply.model,
            calls=reply.calls,
            usage=usage_column(reply.usage, None if reply.cost is None else usd_text(reply.cost)),
            first_token_at_ms=first_ms,
            first_token_ms=None if first_ms is None else min(spent_ms, max(0, spent_ms - now_ms + first_ms)),
            response_time_ms=spent_ms,
            now_ms=now_ms,
        )
        self._charges = charges_of(run, self._log, now_ms)
        self._settlement = settlement_of(self._node, run, self._log)

    def apply(self, tx: Transaction) -> tuple[Terminal, Following | None]:
        assert self._rows is not None
        assert self._reply is not None
        rows, end = self._rows, self._end
        if self._is_waiting and not is_waiting(tx, rows.conversation_key, rows.run_key):
            # It was let run in between: whoever makes it now ends it.
            raise Fenced
        added = end_run(tx, rows, self._row(end))
        if isinstance(added, str):
            # Somebody's stop was committed before this end: it decides.
            end = Stopped(added)
            added = end_run(tx, rows, self._row(end))
            if isinstance(added, str):
                raise Fenced
        if self._settlement is not None:
            # Before rows that others might wait for are changed: whoever holds counters waits for nobody.
            self._settlement.write(tx)
        count = end_message(tx, rows, self._row(end).status, added=added)
        terminal = _terminal(end, count, rows.response_time_ms)
        whole = self._log.copy()
        whole.extend([terminal], rows.epoch)
        insert_log(tx, rows.run_key, rows.conversation_key, whole)
        insert_charges(tx, self._charges)
        put_event(tx, ended_event(self._run, self._reply, whole, rows, finish_reason=self._row(end).finish_reason))
        row = promote_next(tx, rows.conversation_key, rows.now_ms)
        if row is None:
            return terminal, None
        if tx.database != "postgresql":
            return terminal, Following(row, tx.node_key, ())
        pieces, unreadable = read_each(tx, [row.key])
        if row.key in unreadable:
            # This end must not fail for it.
            log.error("the log of a run cannot be read", run_id=row.id, error=str(unreadable[row.key]))
            return terminal, None
        return terminal, Following(row, tx.node_key, pieces.get(row.key, ()))

    def committed(self, value: tuple[Terminal, Following | None]) -> None:
        terminal, _ = value
        node = self._node
        _forget(node, self._run)
        self._run.tail.publish([*self._items, terminal])
        if self._reply is not None and self._rows is not None:
            count_end(node, self._run, self._reply, self._log, terminal, self._rows.first_token_ms)
            node.wakes.tell(HintKind.ENDED, [self._rows.run_key])
            if node.key is not None:
                node.ended[self._rows.run_key] = node.clock.monotonic_s()

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


def _forget(node: Node, run: LiveRun) -> None:
    # A turn that waited may have been taken up here while it was being stopped: that is another object.
    if node.live.get(run.id) is run:
        del node.live[run.id]


async def _write(node: Node, command: EndRun) -> tuple[Terminal, Following | None]:
    """Write an end, however long others hold what it changes."""
    while True:
        try:
            return await node.committer.execute(command)
        except StorageUnavailable:
            await asyncio.sleep(BUSY_S)


async def end(node: Node, run: LiveRun, how: End) -> Following | None:
    """End a run, however long the database is away; return the turn that runs next, if any.

    A run that is no longer this process's (deleted, or adopted elsewhere) is let go: its readers are cut.
    """
    run.release()
    await close_left_open(node, run)
    try:
        try:
            terminal, following = await _write(node, EndRun(node, run, how))
        except (Fenced, SealBroken):
            raise
        except Exception as error:
            # The database refused what the reply holds: end the run without what was not shown yet.
            log.exception("run could not be ended", run_id=run.id)
            if open_call_at(run.tail.log) is not None:
                # What its last call used was among that.
                node.committer.append(run.tail, reported(run.spent or NOTHING))
            terminal, following = await _write(node, EndRun(node, run, failure(error)))
    except Fenced:
        _forget(node, run)
        run.tail.lose()
        log.info("run is gone", run_id=run.id)
        await charge_deleted(node, run)
        return None
    except SealBroken as error:
        # Nothing can be kept for it: its row stays as it is, and the next start looks again.
        log.error("run cannot be ended", run_id=run.id, error=error.message)
        if is_lost(error):
            node.unendable.add(run.tail.key)
        _forget(node, run)
        run.let_go()
        return None
    except Exception:
        if node.key is None:
            raise
        # Held by nobody from now on: it is noticed, and given to whoever can end it.
        log.exception("run could not be ended as failed", run_id=run.id)
        _forget(node, run)
        run.let_go()
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

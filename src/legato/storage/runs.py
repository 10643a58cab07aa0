"""Runs as rows, once they are there: ending, promoting, stopping, adopting, and their logs.

The rules that only the database can hold are here: an end only under the present epoch and only where nobody asked to
stop, and one active run a conversation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import and_, bindparam, func, null, or_, select, update

from legato.core.event import SCHEMA_VERSION, StopCause
from legato.core.log import RunLog
from legato.core.run import RunState
from legato.storage.sealed_logs import open_log, seal_log
from legato.storage.statement import Prepared, Transaction, insert_into
from legato.storage.tables import (
    IS_QUEUED,
    IS_RUNNING,
    IS_UNFINISHED,
    conversation,
    message,
    run,
    run_log,
    segment,
)

_SELECT_WAITING = Prepared(
    select(
        select(func.count())
        .select_from(run)
        .where(run.c.conversation_key == bindparam("conversation_key"), IS_QUEUED)
        .scalar_subquery()
        .label("queued"),
        select(func.count())
        .select_from(run)
        .where(run.c.conversation_key == bindparam("conversation_key"), IS_RUNNING)
        .scalar_subquery()
        .label("running"),
    )
)
RUN_ROWS = select(
    *run.columns,
    conversation.c.id.label("conversation_id"),
    conversation.c.system_prompt.label("conversation_system_prompt"),
    conversation.c.model.label("conversation_model"),
    conversation.c.temperature.label("conversation_temperature"),
    conversation.c.max_tokens.label("conversation_max_tokens"),
).join(conversation, conversation.c.key == run.c.conversation_key)
_SELECT_RUN = Prepared(RUN_ROWS.where(run.c.id == bindparam("id"), run.c.owner == bindparam("owner")))
_END_RUN = Prepared(
    update(run)
    .where(
        run.c.key == bindparam("run_key"),
        # SQLite gives the key of a run that was deleted to the next one, in the same transaction perhaps.
        run.c.message_id == bindparam("message_id"),
        run.c.epoch == bindparam("run_epoch"),
        # One that waits is nobody's: whoever holds its conversation may end it.
        or_(IS_QUEUED, and_(IS_RUNNING, run.c.node_key.is_not_distinct_from(bindparam("me")))),
        or_(run.c.stop_by.is_(None), run.c.stop_by == bindparam("stopped_by")),
    )
    .values(
        state=bindparam("new_state"),
        node_key=null(),
        model=bindparam("used_model"),
        calls=bindparam("made_calls"),
        usage=bindparam("used"),
        finish_reason=bindparam("reason"),
        error=bindparam("fault"),
        first_token_at_ms=bindparam("first_ms"),
        ended_at_ms=bindparam("now_ms"),
        response_time_ms=bindparam("spent_ms"),
        first_token_ms=bindparam("waited_ms"),
    )
    .returning(run.c.started_at_ms, run.c.asks)
)
_SELECT_STOP = Prepared(
    select(run.c.message_id, run.c.stop_by, run.c.epoch, run.c.state, run.c.node_key).where(
        run.c.key == bindparam("run_key")
    )
)
_LOCK_CONVERSATION = Prepared(
    select(conversation.c.key)
    .where(conversation.c.key == bindparam("conversation_key"))
    .with_for_update(key_share=True)
)
_COUNT_MESSAGES = Prepared(
    update(conversation)
    .where(conversation.c.key == bindparam("conversation_key"))
    .values(
        message_count=conversation.c.message_count + bindparam("added"),
        last_message_at_ms=bindparam("now_ms"),
    )
    .returning(conversation.c.message_count)
)
_END_MESSAGE = Prepared(
    update(message)
    .where(message.c.id == bindparam("message_id"))
    .values(
        parts=bindparam("new_parts"),
        status=bindparam("new_status"),
        model=bindparam("used_model"),
        usage=bindparam("used"),
        created_at_ms=bindparam("now_ms"),
    )
)
_INSERT_LOG = insert_into(run_log)
_SELECT_NEXT = Prepared(
    RUN_ROWS.where(run.c.conversation_key == bindparam("conversation_key"), IS_QUEUED).order_by(run.c.turn).limit(1)
)
_PROMOTE = Prepared(
    update(run)
    .where(run.c.key == bindparam("run_key"), IS_QUEUED)
    .values(state="running", started_at_ms=bindparam("now_ms"), node_key=bindparam("me"))
)
_STATUS = Prepared(
    update(message).where(message.c.id == bindparam("message_id")).values(status=bindparam("new_status"))
)
_SELECT_SEGMENTS = Prepared(select(segment).order_by(segment.c.id))
_STOP = Prepared(
    update(run)
    .where(
        run.c.id == bindparam("run_id"),
        run.c.owner == bindparam("of_owner"),
        IS_UNFINISHED,
        run.c.stop_by.is_(None),
    )
    .values(stop_by=bindparam("cause"))
)
_SELECT_LOG = Prepared(
    select(*run_log.columns, run.c.conversation_key)
    .join(run, run.c.key == run_log.c.run_key)
    .where(run.c.id == bindparam("id"), run.c.owner == bindparam("owner"))
)
_PRUNE = Prepared(segment.delete().where(and_(segment.c.id >= bindparam("first"), segment.c.id < bindparam("end"))))
_FIRST_SEGMENT = Prepared(select(func.min(segment.c.id).label("id")))


def count_waiting(tx: Transaction, conversation_key: int) -> Any:
    """Return the numbers of `queued` and `running` runs of a conversation."""
    return tx.one(_SELECT_WAITING, conversation_key=conversation_key)


def lock_conversation(tx: Transaction, conversation_key: int) -> bool:
    """Hold a conversation until the end of the transaction, and return whether it is there.

    Whoever changes a conversation's runs or messages holds it first, and no other one: so no two transactions wait for
    each other. SQLite has one writer.
    """
    return tx.database == "sqlite" or tx.one(_LOCK_CONVERSATION, conversation_key=conversation_key) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedTurn:
    """How a run ended, as its row and its message keep it. JSON fields are text."""

    state: RunState
    status: str
    stopped_by: StopCause | None
    finish_reason: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRows:
    """What ending a run writes, whatever its end."""

    run_key: int
    run_id: str
    epoch: int
    conversation_key: int
    message_id: str
    parts: str
    model: str | None
    calls: int
    usage: str | None
    first_token_at_ms: int | None
    first_token_ms: int | None
    response_time_ms: int
    now_ms: int


class Fenced(Exception):
    """The run is no longer this process's: adopted under a higher epoch, ended, or deleted."""


def is_waiting(tx: Transaction, conversation_key: int, run_key: int) -> bool:
    """Return whether a turn waits still; while the transaction lasts it does."""
    if not lock_conversation(tx, conversation_key):
        return False
    row = tx.one(_SELECT_STOP, run_key=run_key)
    return row is not None and row.state == "queued"


def end_run(tx: Transaction, rows: TurnRows, end: EndedTurn) -> int | StopCause:
    """End the run's row, or return the cause of a stop that came before this end and goes first.

    The conversation is the caller's alone from here on: what else of it ends, starts or is deleted comes after.

    Returns:
        How many messages the end adds to the conversation: the reply, and a question that never came to run.

    Raises:
        Fenced: The row is no longer at `rows.epoch`, is another node's, or no longer running.
    """
    lock_conversation(tx, rows.conversation_key)
    ended = tx.one(
        _END_RUN,
        run_key=rows.run_key,
        message_id=rows.message_id,
        run_id=rows.run_id,
        conversation_key=rows.conversation_key,
        run_epoch=rows.epoch,
        me=tx.node_key,
        new_state=end.state.value,
        stopped_by=end.stopped_by,
        used_model=rows.model,
        made_calls=rows.calls,
        used=rows.usage,
        reason=end.finish_reason,
        fault=end.error,
        first_ms=rows.first_token_at_ms,
        spent_ms=rows.response_time_ms,
        waited_ms=rows.first_token_ms,
        now_ms=rows.now_ms,
    )
    if ended is not None:
        return 1 + (ended.asks if ended.started_at_ms is None else 0)
    row = tx.one(_SELECT_STOP, run_key=rows.run_key)
    if (
        row is None
        or row.message_id != rows.message_id
        or row.epoch != rows.epoch
        or row.state not in ("running", "queued")
    ):
        raise Fenced
    if row.state == "running" and row.node_key != tx.node_key:
        raise Fenced
    return cast(StopCause, row.stop_by)


def end_message(tx: Transaction, rows: TurnRows, status: str, *, added: int) -> int:
    """Write the reply and return the conversation's number of messages, `added` more than before."""
    tx.run(
        _END_MESSAGE,
        message_id=rows.message_id,
        conversation_key=rows.conversation_key,
        new_parts=rows.parts,
        new_status=status,
        used_model=rows.model,
        used=rows.usage,
        now_ms=rows.now_ms,
    )
    row = tx.one(
        _COUNT_MESSAGES,
        conversation_key=rows.conversation_key,
        added=added,
        now_ms=rows.now_ms,
    )
    return row.message_count  # type: ignore[no-any-return]


def insert_log(tx: Transaction, run_key: int, conversation_key: int, log: RunLog) -> None:
    """Write the packed log of an ended run."""
    form, data = seal_log(tx, run_key, conversation_key, log)
    tx.run(_INSERT_LOG, run_key=run_key, count=len(log), schema=SCHEMA_VERSION, format=form, data=data)


def promote_next(tx: Transaction, conversation_key: int, now_ms: int) -> Any | None:
    """Let the conversation's next waiting turn run, as this node's, if nothing else does; return its row.

    The caller holds the conversation (`lock_conversation`).
    """
    rows = rows_of_runs(tx, _SELECT_NEXT, conversation_key=conversation_key)
    # Asked last: nearly always nothing waits.
    if not rows or count_waiting(tx, conversation_key).running:
        return None
    following = rows[0]
    tx.run(_PROMOTE, run_key=following.key, now_ms=now_ms, me=tx.node_key)
    tx.run(_STATUS, message_id=following.message_id, new_status="running")
    # Its question counts as a message from now on.
    tx.run(
        _COUNT_MESSAGES,
        conversation_key=conversation_key,
        added=following.asks,
        now_ms=now_ms,
    )
    return following


def rows_of_runs(tx: Transaction, statement: Prepared, **values: Any) -> list[Any]:
    """Return rows of RUN_ROWS; `request` is None in those of which something does not open."""
    rows, broken = tx.readable(statement, **values)
    for at in broken:
        rows[at] = rows[at]._replace(request=None)
    return rows


def stop_run(tx: Transaction, owner: str, run_id: str, cause: StopCause) -> bool:
    """Record the intent to stop; return whether it is new. An ended run stays as it is."""
    return tx.run(_STOP, run_id=run_id, of_owner=owner, cause=cause) == 1


def find_run(tx: Transaction, owner: str, run_id: str) -> Any | None:
    """Return the run's row with its conversation's id, or None."""
    return tx.one(_SELECT_RUN, id=run_id, owner=owner)


def find_log(tx: Transaction, owner: str, run_id: str) -> Any | None:
    """Return schema, format and data of an ended run's log, or None.

    Raises:
        SealBroken: It does not open.
    """
    row = tx.one(_SELECT_LOG, id=run_id, owner=owner)
    if row is None:
        return None
    form, data = open_log(tx, row.run_key, row.conversation_key, row.count, row.format, row.data)
    return row._replace(format=form, data=data)


def find_segments(tx: Transaction) -> list[Any]:
    """Return all segments, in the order of appending."""
    return tx.all(_SELECT_SEGMENTS)


def prune_segments(tx: Transaction, floor: int | None, limit: int) -> bool:
    """Delete up to `limit` segments below `floor` (None: all); return whether more are left."""
    first = tx.one(_FIRST_SEGMENT).id
    if first is None or (floor is not None and first >= floor):
        return False
    end = first + limit if floor is None else min(floor, first + limit)
    tx.run(_PRUNE, first=first, end=end)
    return floor is None or end < floor

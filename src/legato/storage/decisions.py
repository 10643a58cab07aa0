"""Decisions on tool calls that were given at another node than the one that makes the reply, until that one has them.

Only PostgreSQL has other nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.postgresql import insert

from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import IS_RUNNING, decision, run

_PUT = Prepared(
    insert(decision)
    .values({column.name: bindparam(column.name) for column in decision.columns})
    .on_conflict_do_nothing()
)
_decisions = select(*decision.columns, run.c.conversation_key).join(run, run.c.key == decision.c.run_key)
_FIND = Prepared(
    _decisions.where(decision.c.run_key == bindparam("run_key"), decision.c.call_id == bindparam("call_id"))
)
_IS_RUNNING = Prepared(select(run.c.conversation_key).where(run.c.key == bindparam("run_key"), IS_RUNNING))
_OF_NODE = Prepared(_decisions.where(run.c.node_key == bindparam("me"), IS_RUNNING))
_DELETE = Prepared(
    decision.delete().where(decision.c.run_key == bindparam("of_run"), decision.c.call_id == bindparam("of_call"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What somebody has decided on a tool call."""

    run_key: int
    call_id: str
    granted: bool
    by: str
    reason: str | None
    at_ms: int


def put_decision(tx: Transaction, given: Decision) -> Any | None:
    """Leave a decision for whoever makes the reply; return the row that counts, the first one.

    Returns:
        None where the reply is not being made any more.
    """
    found = tx.one(_IS_RUNNING, run_key=given.run_key)
    if found is None:
        return None
    tx.run(
        _PUT,
        conversation_key=found.conversation_key,
        run_key=given.run_key,
        call_id=given.call_id,
        granted=given.granted,
        by=given.by,
        reason=given.reason,
        at_ms=given.at_ms,
    )
    return tx.one(_FIND, run_key=given.run_key, call_id=given.call_id)


def find_decisions(tx: Transaction, node_key: int) -> list[Any]:
    """Return the decisions on calls of the replies that a node makes."""
    return tx.all(_OF_NODE, me=node_key)


def delete_decisions(tx: Transaction, taken: Iterable[Any]) -> None:
    """Forget decisions, which stand in the logs of their runs."""
    tx.many(_DELETE, [{"of_run": each.run_key, "of_call": each.call_id} for each in taken])

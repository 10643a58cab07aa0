"""What rivals do: each function returns what is run in a transaction, on the conversation that the trial's id names."""

from __future__ import annotations

from typing import Any

from legato.core.event import LogItem, RunStarted
from legato.core.log import RunLog
from legato.core.run import RunState
from legato.storage.conversations import (
    change_conversation,
    create_conversation,
    delete_conversation,
    fork_conversation,
)
from legato.storage.retention import FIRST, Expiring, expire_page
from legato.storage.runs import EndedTurn, TurnRows, end_message, end_run, insert_log, promote_next
from legato.storage.statement import Transaction
from legato.storage.turns import LEAF, NewTurn, StartedTurn, start_turn
from tests.contract.rivals import Rivals, Work

NOW_MS = 1_790_000_000_000


def start(conversation_id: str, name: str, **values: Any) -> Work:
    """Start a turn; its run, message and reply are called by its name."""
    given: dict[str, Any] = {
        "owner": "ann",
        "conversation_id": conversation_id,
        "session_id": "s",
        "run_id": f"r-{conversation_id}-{name}",
        "user_message_id": f"u-{conversation_id}-{name}",
        "message_id": f"m-{conversation_id}-{name}",
        "parts": '[{"type":"text","text":"Hi"}]',
        "title": "Hi",
        "metadata": None,
        "request": "{}",
        "parent": LEAF,
        "regenerate": None,
        "create": True,
        "key": None,
        "body_hash": b"h",
        "max_waiting": 5,
        "now_ms": NOW_MS,
        "refusal": None,
    }

    def first_items(*, ahead: int, user_message_id: str, parts: str, model: str | None) -> list[LogItem]:
        return [
            RunStarted(
                conversation_id=conversation_id,
                session_id="s",
                user_message_id=user_message_id,
                message_id=f"m-{conversation_id}-{name}",
                at_ms=NOW_MS,
                ahead=ahead,
            )
        ]

    return lambda tx: start_turn(tx, NewTurn(**(given | values)), first_items)


def end(started: StartedTurn, state: RunState = RunState.FINISHED) -> Work:
    """End a run and let the next one run: its id, None, or the cause of a stop that was there before."""

    def ended(tx: Transaction) -> Any:
        rows = TurnRows(
            run_key=started.key,
            run_id="r",
            epoch=0,
            conversation_key=started.conversation_key,
            message_id=started.message_id,
            parts="[]",
            model="x",
            calls=1,
            usage=None,
            first_token_at_ms=None,
            first_token_ms=None,
            response_time_ms=1,
            now_ms=NOW_MS,
        )
        how = EndedTurn(state=state, status="complete", stopped_by=None, finish_reason="stop", error=None)
        added = end_run(tx, rows, how)
        if not isinstance(added, int):
            return added
        end_message(tx, rows, "complete", added=added)
        insert_log(tx, rows.run_key, rows.conversation_key, RunLog())
        following = promote_next(tx, started.conversation_key, NOW_MS)
        return None if following is None else following.id

    return ended


def create(conversation_id: str, owner: str = "ann") -> Work:
    return lambda tx: create_conversation(tx, owner, conversation_id, NOW_MS)


def change(conversation_id: str, tip: str | None = None, **changes: Any) -> Work:
    return lambda tx: change_conversation(tx, "ann", conversation_id, changes, tip)


def delete(conversation_id: str) -> Work:
    return lambda tx: delete_conversation(tx, "ann", conversation_id)


def fork(conversation_id: str, new_id: str) -> Work:
    """Copy the active branch, and give the copy's number of messages; their ids begin with f, and its own."""
    return lambda tx: (
        fork_conversation(
            tx,
            "ann",
            conversation_id,
            new_id=new_id,
            message_id=None,
            prefix=f"f-{new_id}-",
            title=None,
            now_ms=NOW_MS,
        ).message_count
    )


def expire(owner: str) -> Work:
    """Delete what was idle since NOW_MS, and give how many there were."""
    expiring = Expiring(owner=owner, now_ms=NOW_MS + 1, idle_ms=0, behind=FIRST, limit=10)
    return lambda tx: expire_page(tx, expiring, frozenset()).deleted


def states(rivals: Rivals, conversation_id: str) -> list[str]:
    """Return the states of the conversation's runs, in the order of their turns."""
    found = rivals.rows(
        "SELECT run.state FROM run JOIN conversation ON conversation.key = run.conversation_key"
        " WHERE conversation.id = ? ORDER BY run.turn",
        conversation_id,
    )
    return [state for (state,) in found]

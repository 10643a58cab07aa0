"""Copying messages where they are sealed: each text is opened, and sealed for its new place."""

from __future__ import annotations

from legato.storage.messages import path_to
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import message
from legato.storage.turns import INSERT_MESSAGE

_TO_COPY = Prepared(path_to(tuple(message.columns)).order_by(message.c.depth))


def copy_sealed(tx: Transaction, *, prefix: str, new_key: int, tip_id: str, conversation_key: int) -> None:
    """Copy the path to a message into another conversation, as storage.conversations does it in one statement."""
    for row in tx.all(_TO_COPY, tip_id=tip_id, conversation_key=conversation_key):
        copied = row._asdict() | {
            "id": f"{prefix}{row.depth}",
            "conversation_key": new_key,
            "parent_id": None if row.depth == 1 else f"{prefix}{row.depth - 1}",
            "branch": f"{prefix}1",
            "run_id": None,
            "feedback": None,
        }
        tx.insert(INSERT_MESSAGE, **copied)

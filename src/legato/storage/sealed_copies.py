"""Copying messages where they are sealed: each text is opened, and sealed for its new place."""

from __future__ import annotations

from typing import Final

from sqlalchemy import and_, bindparam

from legato.storage.messages import path_to
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import message
from legato.storage.turns import INSERT_MESSAGE

PAGE: Final = 100
"""Messages that are in memory at once."""

_is_next = and_(message.c.depth > bindparam("after"), message.c.depth <= bindparam("until"))
_TO_COPY = Prepared(path_to(tuple(message.columns)).where(_is_next).order_by(message.c.depth))


def copy_sealed(tx: Transaction, *, prefix: str, new_key: int, tip_id: str, conversation_key: int) -> None:
    """Copy the path to a message into another conversation, as storage.conversations does it in one statement."""
    after = 0
    while rows := tx.all(_TO_COPY, tip_id=tip_id, conversation_key=conversation_key, after=after, until=after + PAGE):
        after += PAGE
        shared = {"conversation_key": new_key, "branch": f"{prefix}1", "run_id": None, "feedback": None}
        tx.many(
            INSERT_MESSAGE,
            [
                row._asdict()
                | shared
                | {
                    "id": f"{prefix}{row.depth}",
                    "parent_id": None if row.depth == 1 else f"{prefix}{row.depth - 1}",
                }
                for row in rows
            ],
        )

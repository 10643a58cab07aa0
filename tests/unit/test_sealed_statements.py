"""Which statements seal and open: all that touch what is sealed, or they cannot be used where encryption is on."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import bindparam, insert, select, update

import legato.storage
from legato.storage.schema import metadata
from legato.storage.sealed_columns import SEALED
from legato.storage.sealed_statements import Unsealable, Writes, plan_of
from legato.storage.statement import Prepared, insert_into
from legato.storage.tables import Prose, conversation, message, outbox, state

IN_CLEAR = {
    "account.label": "a name, shown to administrators",
    "api_key.origins": "addresses of pages",
    "audit_entry.detail": "ids and counts alone",
    "erasure.done": "counts alone",
    "message.usage": "figures",
    "run.usage": "figures",
    "search_entry.words": "keyed hashes: storage.search_words",
    "sign_in.agent": "what a browser calls itself",
}
"""Columns of prose that are not sealed, and why."""
OTHERWISE = {"legato.storage.conversations._COPY"}
"""Not used where encryption is on."""


def prepared() -> Iterator[tuple[str, Prepared]]:
    """Give all statements of storage, by their names."""
    for found in pkgutil.iter_modules(legato.storage.__path__, "legato.storage."):
        if found.ispkg:
            continue
        for name, value in vars(importlib.import_module(found.name)).items():
            for number, each in enumerate(_each(value)):
                if isinstance(each, Prepared):
                    yield f"{found.name}.{name}" + (f"[{number}]" if isinstance(value, dict) else ""), each


def _each(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else [value]


def test_every_statement_can_be_used_where_encryption_is_on() -> None:
    """It names scope and place of each sealed column that it writes or returns."""
    refused = set()
    count = 0
    for name, statement in prepared():
        count += 1
        try:
            plan_of(statement)
        except Unsealable:
            refused.add(name)
    assert refused == OTHERWISE
    assert count > 200


def test_every_column_of_prose_was_decided_about() -> None:
    """It is sealed, or stands in the list of those that are not."""
    prose = {
        f"{table.name}.{column.name}"
        for table in metadata.tables.values()
        for column in table.columns
        if column.type is Prose
    }
    sealed = {f"{table.name}.{name}" for table, each in SEALED.items() for name in each.columns}
    assert sealed <= prose
    assert prose - sealed == set(IN_CLEAR)


@pytest.mark.parametrize(
    "statement",
    [
        select(message.c.parts),
        select(message.c.parts, message.c.id, message.c.key),
        select(message.c.parts, message.c.conversation_key, message.c.key),
        select(conversation.c.title),
        select(state.c.value, state.c.owner, state.c.group),
        insert(message).from_select(["parts"], select(message.c.parts)),
        update(message).values(parts=message.c.metadata),
    ],
)
def test_a_statement_that_does_not_say_where_its_texts_stand_is_refused(statement: Any) -> None:
    """Before it writes anything in clear, or returns what cannot be opened."""
    with pytest.raises(Unsealable):
        plan_of(Prepared(statement))


def test_a_plan_is_made_of_the_statement() -> None:
    """Whatever its columns are called, and through aliases and joins."""
    own = message.alias("own")
    joined = select(own.c.parts.label("said"), own.c.id, own.c.key, own.c.conversation_key.label("c"))
    found = plan_of(Prepared(joined))
    assert isinstance(found, tuple)
    (opens,) = found
    assert (opens.at, opens.column, opens.scope, opens.place, opens.number) == (0, "message.parts", 3, (1,), 2)
    written = plan_of(insert_into(outbox, without="id"))
    assert isinstance(written, Writes)
    assert written.values == (("payload", "outbox.payload"),)
    assert plan_of(Prepared(select(message.c.id, message.c.usage))) is None
    changed = plan_of(Prepared(update(message).values(feedback=bindparam("new"), status="x")))
    assert isinstance(changed, Writes)
    assert changed.values == (("new", "message.feedback"),)
    with pytest.raises(Unsealable, match="conversation_key"):
        changed.scope({"new": "text", "message_id": "m"})

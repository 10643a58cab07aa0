"""Every table of the schema has a decision about what an erasure does to it: none can be forgotten."""

from __future__ import annotations

from typing import Final

import pytest
from sqlalchemy import Table

from legato.storage.postgres_tables import postgres_metadata
from legato.storage.schema import metadata

CASCADES: Final = "goes with its conversation"
DELETED: Final = "its rows are deleted by their owner"
NAMELESS: Final = "its rows lose what names somebody; figures stay"
NOBODYS: Final = "holds nothing of anybody"
PASSES: Final = "empties itself: what is in it is packed, or handed on, within moments"
STAYS: Final = "holds ids of principals alone, and goes by its own retention"

DECIDED: Final = {
    "conversation": DELETED,
    "message": CASCADES,
    "run": CASCADES,
    "run_log": CASCADES,
    "decision": CASCADES,
    "reply_count": CASCADES,
    "search_entry": CASCADES,
    "search_due": CASCADES,
    "data_key": CASCADES,
    "review": CASCADES,
    "segment": PASSES,
    "piece": PASSES,
    "outbox": PASSES,
    "request_key": DELETED,
    "state": DELETED,
    "api_key": DELETED,
    "account": DELETED,
    "sign_in": DELETED,
    "rate_window": DELETED,
    "keeping": DELETED,
    "erasure": DELETED,
    "budget_hold": "goes with the call that it was reserved for, or when its time is over",
    "budget_use": NAMELESS,
    "charge": NAMELESS,
    "reply_total": NOBODYS,
    "budget": "what an admin has set, for a name: stays until it is changed",
    "audit_entry": STAYS,
    "audit_head": NOBODYS,
    "encryption_root": NOBODYS,
    "node": NOBODYS,
    "command_mark": NOBODYS,
    "schema_floor": NOBODYS,
    "search_place": NOBODYS,
}
TABLES: Final = {table.name: table for each in (metadata, postgres_metadata) for table in each.tables.values()}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_decided_about(name: str) -> None:
    """Whoever adds one says what becomes of its rows (docs/guides/retention.md), and has it done."""
    assert name in DECIDED, f"{name}: say in DECIDED, and in the guide, what an erasure does to it"


def test_no_decision_is_of_a_table_that_is_gone() -> None:
    """The list is of what there is."""
    assert set(DECIDED) <= set(TABLES)


@pytest.mark.parametrize("name", [name for name, decided in DECIDED.items() if decided == CASCADES])
def test_what_goes_with_a_conversation_refers_to_it(name: str) -> None:
    """By a foreign key to it, or to what goes with it."""

    def goes(table: Table) -> bool:
        return table.name == "conversation" or any(
            key.ondelete == "CASCADE" and goes(key.column.table) for key in table.foreign_keys
        )

    assert goes(TABLES[name])

"""The whole schema: the tables that each part declares, brought together for migrations."""

from __future__ import annotations

from legato.storage import (
    account_tables,
    audit_tables,
    budget_tables,
    charge_tables,
    encryption_tables,
    review_tables,
    search_tables,
)
from legato.storage.tables import metadata

__all__ = [
    "account_tables",
    "audit_tables",
    "budget_tables",
    "charge_tables",
    "encryption_tables",
    "metadata",
    "review_tables",
    "search_tables",
]

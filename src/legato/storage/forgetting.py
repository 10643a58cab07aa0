"""What each part forgets of a principal: their functions, gathered here.

Rows go, or lose what names somebody while figures stay, a page a call; tests/unit/test_erase_tables.py holds every
table of the schema to a decision.
"""

from __future__ import annotations

from typing import Final

from legato.storage import accounts, budgets, charges, reviews
from legato.storage.shredding import shred
from legato.storage.statement import Transaction

PAGE: Final = 500


def forget_owner(tx: Transaction, owner: str) -> dict[str, int]:
    """Delete, or take the name off, the next rows of a principal; return how many of each table."""
    counts = {
        "charge": charges.forget_owner(tx, owner, PAGE),
        "account": accounts.forget_owner(tx, owner, PAGE),
        "review": reviews.forget_owner(tx, owner, PAGE),
    }
    if not any(counts.values()):
        # Sums that others share a row with: they are renamed, not deleted.
        budgets.forget_owner(tx, owner)
    return {name: count for name, count in counts.items() if count}


def forget_keys(tx: Transaction, owner: str) -> None:
    """Delete what opens the texts of a principal that belong to no conversation; the last thing that is done."""
    shred(tx, owner)

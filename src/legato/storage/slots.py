"""How many replies each node may be making, so that all together make no more than the maximum.

A node says how many it makes, and how many it would like to be able to make; it gets what the others leave. What is
free is counted each time, under a lock: a node that was fenced has nothing, and nobody gives anything back for it.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import text

from legato.storage import locks
from legato.storage.statement import Prepared, Transaction

BLOCK: Final = 8
"""Slots that a node gets beyond those that it asks for, where there are plenty: so many posts cost it one question."""
PLENTY: Final = 16
"""One in so many of the free ones it gets beyond."""

# The node's row first: whoever fences it has it before he waits for anything else.
_OWN = Prepared(text("SELECT slots FROM node WHERE key = :me AND fenced_at IS NULL FOR NO KEY UPDATE"))
_LOCK = Prepared(text("SELECT CAST(pg_advisory_xact_lock(CAST(:family AS integer), CAST(:number AS integer)) AS text)"))
_OTHERS = Prepared(text("SELECT coalesce(sum(slots), 0) FROM node WHERE fenced_at IS NULL AND key <> :me"))
_HOLD = Prepared(text("UPDATE node SET slots = :held WHERE key = :me"))


def hold_slots(tx: Transaction, node_key: int, *, used: int, wanted: int, maximum: int) -> int | None:
    """Set how many slots a node holds, whatever it held before; return how many that is, None where it was fenced.

    Args:
        used: Replies that it makes. They are not ended for others': so many it gets in any case.
        wanted: Replies that it would make, >= used; exactly those where it equals `used`, else a few more.
        maximum: Of all nodes together.
    """
    own = tx.tuples(_OWN, me=node_key)
    if not own:
        return None
    tx.tuples(_LOCK, family=locks.SPACE, number=locks.SLOTS)
    room: int = maximum - tx.tuples(_OTHERS, me=node_key)[0][0]
    held = max(used, min(wanted, room))
    if wanted > used and room > held:
        held += min(BLOCK, (room - held) // PLENTY)
    if held != own[0][0]:
        tx.run(_HOLD, held=held, me=node_key)
    return held

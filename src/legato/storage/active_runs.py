"""The replies that all nodes of a PostgreSQL database are making or have waiting, without what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import text

from legato.core.event import Event
from legato.storage.sealed_logs import UNREADABLE, read_items
from legato.storage.statement import Prepared, Transaction

# Asked for the oldest, PostgreSQL would rather read the whole table in the order of its keys.
_ACTIVE: Final = """
WITH active AS MATERIALIZED (
    SELECT key FROM run WHERE state = 'running' UNION ALL SELECT key FROM run WHERE state = 'queued'
)
"""
_COUNT = Prepared(text(f"{_ACTIVE} SELECT count(*) AS total FROM active"))
_OLDEST = Prepared(
    text(
        f"""
{_ACTIVE}
SELECT run.key, run.id, run.owner, run.session_id, run.state, run.takeovers, run.created_at_ms, run.started_at_ms,
       conversation.id AS conversation_id, coalesce(newest.first_seq + newest.count, 0) AS events
FROM (SELECT key FROM active ORDER BY key LIMIT :most) AS oldest
JOIN run ON run.key = oldest.key
JOIN conversation ON conversation.key = run.conversation_key
LEFT JOIN LATERAL (
    SELECT piece.first_seq, piece.count FROM piece WHERE piece.run_key = run.key ORDER BY piece.first_seq DESC LIMIT 1
) AS newest ON true
ORDER BY run.key
"""
    )
)
# In MessagePack an event is an array of two, a text delta is not; an array of more than 15 has a longer head. Calls of
# models and questions to people never stand behind text of the same flush: what was said before was flushed first.
_EVENTS = Prepared(
    text(
        """
SELECT run_key, first_seq, epoch, schema, format, data
FROM piece
WHERE run_key = ANY(CAST(:keys AS bigint[]))
  AND CASE format WHEN 1 THEN get_byte(data, CASE get_byte(data, 0) WHEN 220 THEN 3 ELSE 1 END) = 146
      ELSE format = 7 END
ORDER BY run_key, first_seq
"""
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveRuns:
    """The oldest of the replies that are being made or wait.

    Attributes:
        total: How many there are, more than `rows` perhaps.
        events: By the keys of their runs: beginnings of calls and decisions of people among them, not all others.
    """

    total: int
    rows: list[Any]
    events: dict[int, list[Event]]


def find_active(tx: Transaction, limit: int) -> ActiveRuns:
    """Return the oldest replies that are being made or wait, at whichever node."""
    rows = tx.all(_OLDEST, most=limit)
    return ActiveRuns(total=tx.one(_COUNT).total, rows=rows, events=_events(tx, [row.key for row in rows]))


def _events(tx: Transaction, keys: Sequence[int]) -> dict[int, list[Event]]:
    found: dict[int, list[Event]] = {}
    for key, first_seq, epoch, schema, form, data in tx.tuples(_EVENTS, keys=keys):
        try:
            items = read_items(tx, key, first_seq, epoch, schema, form, data)
        except UNREADABLE:
            # Who made it says so in the log; the others are shown.
            continue
        found.setdefault(key, []).extend([item for item in items if not isinstance(item, str)])
    return found

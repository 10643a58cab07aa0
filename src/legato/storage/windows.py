"""Moving windows in PostgreSQL: what was counted for a key within the last seconds, over all nodes.

One statement counts in all windows that a message concerns, or is rolled back. Times are the database's, so that no
node's clock is compared with another's; the table is not logged, so a crash of PostgreSQL empties all windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text

from legato.storage.statement import Prepared, Transaction

# Of :now, which tests give, or the database's clock.
_NOW = "coalesce(CAST(:now AS bigint), CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint))"
_USES = (
    "unnest(CAST(:keys AS text[]), CAST(:windows AS integer[]), CAST(:amounts AS integer[]))"
    " WITH ORDINALITY AS u (key, window_s, amount, place)"
)
# What is within the window of a row, at the time of the mark that is to be added.
_WITHIN = "FROM unnest(w.marks) AS m WHERE m > excluded.marks[1] - w.window_s * CAST(1000 AS bigint)"

# In one order, so that no two transactions wait for each other.
_TAKE = Prepared(
    text(
        f"""
        INSERT INTO rate_window AS w (key, window_s, marks, over_ms)
        SELECT u.key, u.window_s, ARRAY[n.ms], n.ms + u.window_s * CAST(1000 AS bigint)
        FROM {_USES} CROSS JOIN (SELECT {_NOW} AS ms) AS n
        ORDER BY u.key, u.window_s
        ON CONFLICT (key, window_s) DO UPDATE SET
            marks = (SELECT coalesce(array_agg(m ORDER BY m), '{{}}') {_WITHIN}) || excluded.marks,
            over_ms = greatest(w.over_ms, excluded.over_ms)
        WHERE (SELECT count(*) {_WITHIN})
            < (SELECT u.amount FROM {_USES} WHERE u.key = w.key AND u.window_s = w.window_s)
        RETURNING w.key, w.window_s, w.marks[cardinality(w.marks)]
        """
    )
)
_LOOK = Prepared(
    text(
        f"""
        SELECT u.place, count(m), coalesce(min(m) + u.window_s * CAST(1000 AS bigint) - n.ms, 0)
        FROM {_USES} CROSS JOIN (SELECT {_NOW} AS ms) AS n
        LEFT JOIN rate_window AS w ON w.key = u.key AND w.window_s = u.window_s
        LEFT JOIN LATERAL unnest(w.marks) AS m ON m > n.ms - u.window_s * CAST(1000 AS bigint)
        GROUP BY u.place, u.window_s, n.ms ORDER BY u.place
        """
    )
)
_GIVE_BACK = Prepared(
    text(
        """
        UPDATE rate_window AS w SET marks = w.marks[: p.place - 1] || w.marks[p.place + 1 :]
        FROM (SELECT array_position(marks, CAST(:mark AS bigint)) AS place FROM rate_window
              WHERE key = :key AND window_s = :window_s FOR UPDATE) AS p
        WHERE w.key = :key AND w.window_s = :window_s AND p.place IS NOT NULL
        """
    )
)
_FORGET = Prepared(
    text(
        f"""
        DELETE FROM rate_window AS w USING (
            SELECT key, window_s FROM rate_window WHERE over_ms <= {_NOW} LIMIT :most FOR UPDATE SKIP LOCKED
        ) AS over WHERE w.key = over.key AND w.window_s = over.window_s
        """
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A window that something is counted in: at most `amount` under `key` within any `window_s` seconds."""

    key: str
    amount: int
    window_s: int


def take_windows(tx: Transaction, uses: Sequence[Use], now_ms: int | None = None) -> list[int | None]:
    """Count one in each window that has room; return its mark, None for one that is full.

    The caller rolls back where one is full.
    """
    rows = tx.tuples(_TAKE, **_values(uses), now=now_ms)
    marks = {(key, window_s): mark for key, window_s, mark in rows}
    return [marks.get((use.key, use.window_s)) for use in uses]


def look_windows(tx: Transaction, uses: Sequence[Use], now_ms: int | None = None) -> list[tuple[int, float]]:
    """Return how many are within each window, and the seconds until the oldest leaves it, 0.0 where there is none."""
    return [(count, wait_ms / 1000) for _, count, wait_ms in tx.tuples(_LOOK, **_values(uses), now=now_ms)]


def give_back_window(tx: Transaction, use: Use, mark: int) -> None:
    """Undo what was counted; nothing happens where it has left the window."""
    tx.run(_GIVE_BACK, key=use.key, window_s=use.window_s, mark=mark)


def forget_windows(tx: Transaction, most: int, now_ms: int | None = None) -> int:
    """Delete windows that are over; return how many."""
    return tx.run(_FORGET, most=most, now=now_ms)


def _values(uses: Sequence[Use]) -> dict[str, object]:
    return {
        "keys": [use.key for use in uses],
        "windows": [use.window_s for use in uses],
        "amounts": [use.amount for use in uses],
    }

"""What is forgotten: jobs that were done or given up long ago. Dead letters stay until somebody discards them."""

from __future__ import annotations

from typing import Final

from dbos import DBOSClient

from legato.steps.engine_rows import DEAD, DONE, GONE, Rows

PAGE: Final = 100
"""Jobs deleted in one transaction: a millisecond or two."""
DEAD_TICKS: Final = 10
"""Dead letters kept of one cron trigger."""


def prune(client: DBOSClient, rows: Rows, before_ms: int) -> int:
    """Delete jobs that ended before a time; return how many."""
    deleted = 0
    while page := rows.finished(before_ms, PAGE):
        client.delete_workflows(page)
        deleted += len(page)
    if ticks := old_ticks(rows.ticks(), before_ms):
        client.delete_workflows(ticks)
    return deleted + len(ticks)


def old_ticks(ticks: list[tuple[str, str, int]], before_ms: int) -> list[str]:
    """Return the ids of the ticks, of (id, status, when it ended), that nobody needs any more.

    The newest of each trigger stays, for it tells when the step was run last.
    """
    seen: set[str] = set()
    dead: dict[str, int] = {}
    old = []
    for tick_id, status, ended_ms in sorted(ticks, reverse=True):
        trigger = tick_id.rpartition(":")[0]
        newest = trigger not in seen
        seen.add(trigger)
        if status == DEAD:
            dead[trigger] = dead.get(trigger, 0) + 1
        if newest or ended_ms >= before_ms:
            continue
        if status in (DONE, GONE) or (status == DEAD and dead[trigger] > DEAD_TICKS):
            old.append(tick_id)
    return old

"""Which nodes there are, which of them still live, and whose a run is.

A node is one incarnation of a process. It lives as long as it renews its lease; whoever sees that it did not fences it
first, and takes its runs afterwards. Every write of a node looks at its row under a shared lock, the fencer takes that
row exclusively: what a node that was fenced still tries to write is refused. Times are the database's own, no clock of
a machine is compared with another's.

`adopt` and `offer` are the same in both databases: SQLite has one process, all of whose runs have no node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, null, or_, select, text, update

from legato.storage import locks
from legato.storage.encryption import keep_roots, refuse_clear
from legato.storage.runs import RUN_ROWS, rows_of_runs
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import IS_QUEUED, IS_RUNNING, node, run

FORGOTTEN_H: Final = 1
"""Hours for which the row of a fenced node is kept, for people who look."""

_LEASE: Final = "lease_ms * interval '1 millisecond'"
_REGISTER = Prepared(
    text(
        f"""
        INSERT INTO node (id, host, pid, executor_id, lease_ms, beat_at, until, version)
        VALUES (:id, :host, :pid, :executor_id, :lease_ms, clock_timestamp(),
                clock_timestamp() + CAST(:lease_ms AS integer) * interval '1 millisecond', :version)
        ON CONFLICT (id) DO UPDATE SET beat_at = clock_timestamp(), until = clock_timestamp() + node.{_LEASE}
        WHERE node.fenced_at IS NULL
        RETURNING key
        """
    )
)
_RENEW = Prepared(
    text(
        f"""
        UPDATE node SET beat_at = clock_timestamp(), until = clock_timestamp() + {_LEASE}, draining = :draining
        WHERE key = :me AND fenced_at IS NULL
        RETURNING key
        """
    )
)
_COMPANY = Prepared(
    text(
        """
        SELECT count(*), count(*) FILTER (WHERE NOT draining)
        FROM node WHERE key <> :me AND fenced_at IS NULL AND until > clock_timestamp()
        """
    )
)
_OWN = Prepared(text("SELECT key, stop_by FROM run WHERE state = 'running' AND node_key = :me AND stop_by IS NOT NULL"))
_COUNT = Prepared(text("SELECT count(*) FROM run WHERE state = 'running' AND node_key = :me"))
_OWN_KEYS = Prepared(text("SELECT key FROM run WHERE state = 'running' AND node_key = :me"))
_LEAD = Prepared(text("SELECT pg_try_advisory_lock(CAST(:family AS integer), CAST(:number AS integer))"))
_OTHERS = Prepared(
    text(
        f"""
        SELECT key, id, executor_id, until < clock_timestamp(), until + {_LEASE} < clock_timestamp()
        FROM node WHERE fenced_at IS NULL AND key <> :me
        """
    )
)
_UNOWNED = Prepared(
    text(
        """
        SELECT EXISTS (SELECT FROM run WHERE state = 'running' AND node_key IS NULL)
            OR EXISTS (SELECT FROM node WHERE fenced_at IS NOT NULL
                       AND EXISTS (SELECT FROM run WHERE state = 'running' AND node_key = node.key))
        """
    )
)
_END_SESSIONS = Prepared(
    text(
        """
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = :name AND usename = current_user AND pid <> pg_backend_pid()
        """
    )
)
# A node that holds its row writes at this moment: the next look takes it.
_TAKE = Prepared(
    text(
        """
        SELECT slots FROM node WHERE key = :key AND fenced_at IS NULL AND until < clock_timestamp()
        FOR UPDATE SKIP LOCKED
        """
    )
)
_TAKE_OWN = Prepared(text("SELECT slots FROM node WHERE key = :key AND fenced_at IS NULL FOR UPDATE"))
_LIVES = Prepared(text("SELECT id FROM node WHERE fenced_at IS NULL AND until > clock_timestamp() LIMIT 1"))
# Waits for what they are in the midst of writing.
_TAKE_ALL = Prepared(text("SELECT key, until > clock_timestamp() FROM node WHERE fenced_at IS NULL FOR UPDATE"))
_FENCE = Prepared(text("UPDATE node SET fenced_at = clock_timestamp(), slots = 0 WHERE key = :key"))
_EXECUTORS = Prepared(text("SELECT executor_id FROM node WHERE fenced_at IS NULL"))
_FORGET = Prepared(
    text(
        f"""
        DELETE FROM node WHERE fenced_at < clock_timestamp() - interval '{FORGOTTEN_H} hours'
        AND NOT EXISTS (SELECT FROM run WHERE state = 'running' AND node_key = node.key)
        """
    )
)
# Not in the order of their keys: a limit would have the table read in that order until enough were found.
_UNOWNED_ROWS = Prepared(
    RUN_ROWS.where(
        IS_RUNNING,
        or_(run.c.node_key.is_(None), run.c.node_key.in_(select(node.c.key).where(node.c.fenced_at.is_not(None)))),
    )
    .limit(bindparam("most"))
    .with_for_update(of=run, skip_locked=True)
)
_QUEUED_ROWS = Prepared(RUN_ROWS.where(IS_QUEUED))
_ADOPT = Prepared(
    update(run)
    .where(run.c.key == bindparam("run_key"), run.c.epoch == bindparam("seen"))
    .values(epoch=run.c.epoch + 1, takeovers=run.c.takeovers + 1, node_key=bindparam("me"))
)
_is_own = (IS_RUNNING, run.c.takeovers >= 0, run.c.node_key.is_not_distinct_from(bindparam("me")))
_OFFER = Prepared(update(run).where(*_is_own).values(takeovers=run.c.takeovers - 1, node_key=null()))
_OFFER_ONE = Prepared(update(run).where(run.c.key == bindparam("run_key"), *_is_own).values(node_key=null()))


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """What a node says of itself.

    Attributes:
        id: Of this incarnation: the process's id, from the second on with a dot and a number behind it.
        executor_id: Of the process: what its sessions and the queue know it by.
        lease_ms: How long it lives without renewing.
    """

    id: str
    host: str
    pid: int
    executor_id: str
    lease_ms: int
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """What a renewal brings along.

    Attributes:
        others: Other nodes that live.
        takers: Those of them that take runs.
        stops: Own running runs that somebody asked to stop: key and cause.
        running: How many own runs are running.
        leads: Whether this session holds the leader's lock.
    """

    others: int
    takers: int
    stops: tuple[tuple[int, Any], ...]
    running: int
    leads: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """A node whose lease ran out and that nobody has fenced yet."""

    key: int
    id: str
    executor_id: str


def register(tx: Transaction, row: NodeRow) -> int | None:
    """Make a node live and return its key; the same once more where it is there, None where it was fenced already.

    Raises:
        ConfigurationError: The database is encrypted, and this process has no keys.
    """
    keep_roots(tx)
    refuse_clear(tx)
    rows = tx.tuples(
        _REGISTER,
        id=row.id,
        host=row.host,
        pid=row.pid,
        executor_id=row.executor_id,
        lease_ms=row.lease_ms,
        version=row.version,
    )
    return rows[0][0] if rows else None


def renew(tx: Transaction, key: int, *, draining: bool, leads: bool) -> Renewed | None:
    """Prolong a lease, however late, and return what concerns its node; None where it was fenced.

    Args:
        leads: Whether this session holds the leader's lock already.
    """
    if not tx.tuples(_RENEW, me=key, draining=draining):
        return None
    others, takers = tx.tuples(_COMPANY, me=key)[0]
    return Renewed(
        others=others,
        takers=takers,
        stops=find_stops(tx, key),
        running=tx.tuples(_COUNT, me=key)[0][0],
        leads=leads or (not draining and _lead(tx)),
    )


def find_stops(tx: Transaction, key: int) -> tuple[tuple[int, Any], ...]:
    """Return key and cause of each running run of a node that somebody asked to stop."""
    return tuple((run_key, cause) for run_key, cause in tx.tuples(_OWN, me=key))


def find_own(tx: Transaction, key: int) -> set[int]:
    """Return the keys of a node's running runs."""
    return {run_key for (run_key,) in tx.tuples(_OWN_KEYS, me=key)}


def find_dead(tx: Transaction, key: int) -> list[Dead]:
    """Return the other nodes that are to be fenced.

    Where more than half of all would be dead it is likelier the database's clock or the database itself that was away:
    then each has one more lease.
    """
    others = tx.tuples(_OTHERS, me=key)
    dead = [row for row in others if row[3]]
    if 2 * len(dead) > len(others) + 1:
        dead = [row for row in dead if row[4]]
    return [Dead(key=row[0], id=row[1], executor_id=row[2]) for row in dead]


def end_sessions(tx: Transaction, executor_id: str) -> int:
    """End all sessions of a process, and with them the locks of what it was in the midst of; return how many."""
    return tx.tuples(_END_SESSIONS, name=f"legato:{executor_id}")[0][0]  # type: ignore[no-any-return]


def fence(tx: Transaction, key: int) -> int | None:
    """Fence a node whose lease ran out; return how many slots it held.

    None: another has fenced it, it has renewed in the last moment, or a write of it is under way.
    """
    return _close(tx, _TAKE, key)


def fence_all(tx: Transaction) -> bool:
    """Fence all nodes, so that none goes on with what it knew before; return False, and fence none, where one lives."""
    if tx.one(_LIVES) is not None:
        return False
    rows = tx.tuples(_TAKE_ALL)
    if any(lives for _, lives in rows):
        return False
    for key, _ in rows:
        tx.run(_FENCE, key=key)
    return True


def leave_node(tx: Transaction, key: int) -> int | None:
    """Fence the caller's own node, which has nothing more to write; return how many slots it held."""
    return _close(tx, _TAKE_OWN, key)


def live_executors(tx: Transaction) -> set[str]:
    """Return the names under which the queue knows the nodes that live."""
    return {executor_id for (executor_id,) in tx.tuples(_EXECUTORS)}


def forget_nodes(tx: Transaction) -> int:
    """Delete the rows of nodes that were fenced long ago; return how many."""
    return tx.run(_FORGET)


def has_unowned(tx: Transaction) -> bool:
    """Whether there are running runs without a node, or of a fenced one."""
    return tx.tuples(_UNOWNED)[0][0]  # type: ignore[no-any-return]


def adopt(tx: Transaction, most: int) -> list[Any]:
    """Take up to `most` running runs that are nobody's, each under a higher epoch; return their rows, oldest first.

    `request` is None in those of which something does not open; so it is in what `find_queued` returns.

    What others take at the same moment is passed over.
    """
    rows = sorted(rows_of_runs(tx, _UNOWNED_ROWS, most=most), key=lambda row: row.key)
    me = tx.node_key
    tx.many(_ADOPT, [{"run_key": row.key, "seen": row.epoch, "me": me} for row in rows])
    return [row._replace(epoch=row.epoch + 1, takeovers=row.takeovers + 1, node_key=me) for row in rows]


def find_queued(tx: Transaction) -> list[Any]:
    """Return all waiting runs, oldest first."""
    return sorted(rows_of_runs(tx, _QUEUED_ROWS), key=lambda row: row.key)


def offer(tx: Transaction) -> int:
    """Leave all running runs of this node to whoever takes them, on purpose: it does not count as a crash."""
    return tx.run(_OFFER, me=tx.node_key)


def offer_runs(tx: Transaction, keys: Sequence[int]) -> None:
    """Leave some running runs of this node to whoever takes them, as after a crash."""
    tx.many(_OFFER_ONE, [{"run_key": key, "me": tx.node_key} for key in keys])


def _lead(tx: Transaction) -> bool:
    return tx.tuples(_LEAD, family=locks.SPACE, number=locks.LEADER)[0][0]  # type: ignore[no-any-return]


def _close(tx: Transaction, take: Prepared, key: int) -> int | None:
    rows = tx.tuples(take, key=key)
    if not rows:
        return None
    tx.run(_FENCE, key=key)
    return rows[0][0]  # type: ignore[no-any-return]

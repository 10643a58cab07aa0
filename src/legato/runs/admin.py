"""What an admin sees of the whole server: the figures of all owners, the replies that are being made, who was there.

Nothing of what people or models said is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from legato.core.errors import Forbidden, InvalidRequest
from legato.core.event import ApprovalAsked, ApprovalGiven, CallStarted, Event
from legato.core.principal import Principal
from legato.runs.inputs import LATEST_MS
from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.storage.active_runs import find_active
from legato.storage.server_figures import (
    HOUR_MS,
    OwnedSession,
    ServerFigures,
    Span,
    find_latest_sessions,
    find_server_figures,
)

DAY_MS: Final = 24 * HOUR_MS
DEFAULT_MS: Final[dict[Span, int]] = {"day": 30 * DAY_MS, "hour": 2 * DAY_MS, "model": 30 * DAY_MS}
"""How far back figures go where no beginning is given."""
MOST_MS: Final[dict[Span, int]] = {"day": 800 * DAY_MS, "hour": 32 * DAY_MS, "model": 800 * DAY_MS}
"""The longest span: about 800 groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Figures of [from_ms, to_ms): of all replies, and of each group in order; groups without replies are left out."""

    from_ms: int
    to_ms: int
    by: Span
    total: ServerFigures
    groups: tuple[ServerFigures, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningReply:
    """A reply that is being made, or that waits for the turn before it.

    Attributes:
        model: The one that is called now; None before the first call.
        started_at_ms: When it was asked for.
        elapsed_ms: Since it began; in this process, where that makes it.
        events: Of its log so far.
        calls: Of models, so far.
        takeovers: How often it was taken up after a crash.
        approvals: Tool calls that wait for a person's decision.
    """

    id: str
    conversation_id: str
    session_id: str
    owner: str
    state: Literal["queued", "running"]
    model: str | None
    started_at_ms: int
    elapsed_ms: int
    events: int
    calls: int
    takeovers: int
    approvals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningReplies:
    """The oldest of the replies that are being made or wait, and how many there are in all."""

    total: int
    oldest: tuple[RunningReply, ...]


class Admin:
    """The view of one admin.

    Raises:
        Forbidden: The principal is none.
    """

    def __init__(self, node: Node, principal: Principal) -> None:
        if principal.role != "admin":
            raise Forbidden("this is for admins: make a key with legato keys create --role admin")
        self._node = node

    async def figures(self, from_ms: int | None, to_ms: int | None, by: Span) -> Report:
        """Return the figures of a span of time; by default the last days, or hours, until now.

        Raises:
            InvalidRequest: The span is none, or too long; names the field.
            StorageUnavailable: The database cannot be read.
        """
        to_ms = self._node.clock.now_ms() + 1 if to_ms is None else to_ms
        from_ms = max(0, to_ms - DEFAULT_MS[by]) if from_ms is None else from_ms
        for name, time_ms in (("from", from_ms), ("to", to_ms)):
            if not 0 <= time_ms <= LATEST_MS:
                raise InvalidRequest.of(name, "is no time: give milliseconds since the Unix epoch")
        if to_ms < from_ms:
            raise InvalidRequest.of("to", "is before from: a span ends where it begins, or later")
        if to_ms - from_ms > MOST_MS[by]:
            raise InvalidRequest.of("from", f"is too early: by {by} a span has {MOST_MS[by] // DAY_MS} days at most")
        begin_ms, end_ms = from_ms, to_ms
        total, groups = await self._node.database.read(lambda tx: find_server_figures(tx, begin_ms, end_ms, by))
        return Report(from_ms=from_ms, to_ms=to_ms, by=by, total=total, groups=groups)

    async def sessions(self, limit: int) -> tuple[OwnedSession, ...]:
        """Return the sessions with the latest replies, of all owners, the latest first."""
        now_ms = self._node.clock.now_ms()
        return await self._node.database.read(lambda tx: find_latest_sessions(tx, now_ms, limit))

    async def runs(self, limit: int) -> RunningReplies:
        """Return the replies that are being made or wait, at all nodes, the oldest first.

        Raises:
            StorageUnavailable: The database cannot be read.
        """
        node = self._node
        now_s = node.clock.monotonic_s()
        if node.feed is None:
            here = [*node.live.values()][:limit]
            return RunningReplies(total=len(node.live), oldest=tuple(_made_here(run, now_s) for run in here))
        found = await node.database.read(lambda tx: find_active(tx, limit))
        now_ms = node.clock.now_ms()
        oldest = [
            _made_here(run, now_s)
            if (run := node.live.get(row.id)) is not None
            else _made_elsewhere(row, found.events.get(row.key, []), now_ms)
            for row in found.rows
        ]
        return RunningReplies(total=found.total, oldest=tuple(oldest))


def _made_here(run: LiveRun, now_s: float) -> RunningReply:
    events: list[Any] = run.tail.log.events
    calls = [event for event in events if isinstance(event, CallStarted)]
    return RunningReply(
        id=run.id,
        conversation_id=run.conversation_id,
        session_id=run.started.session_id,
        owner=run.tail.owner,
        state="queued" if run.queued else "running",
        model=calls[-1].model if calls else None,
        started_at_ms=run.started.at_ms,
        elapsed_ms=max(0, round((now_s - run.began_s) * 1000)),
        events=run.tail.end,
        calls=len(calls),
        takeovers=run.takeovers,
        approvals=sum(not each.done() for each in (run.approvals or {}).values()),
    )


def _made_elsewhere(row: Any, events: Sequence[Event], now_ms: int) -> RunningReply:
    calls = [event for event in events if isinstance(event, CallStarted)]
    asked = {event.call_id for event in events if isinstance(event, ApprovalAsked)}
    given = {event.call_id for event in events if isinstance(event, ApprovalGiven)}
    return RunningReply(
        id=row.id,
        conversation_id=row.conversation_id,
        session_id=row.session_id,
        owner=row.owner,
        state=row.state,
        model=calls[-1].model if calls else None,
        started_at_ms=row.created_at_ms,
        elapsed_ms=max(0, now_ms - (row.started_at_ms or row.created_at_ms)),
        events=row.events,
        calls=len(calls),
        takeovers=max(0, row.takeovers),
        approvals=len(asked - given),
    )

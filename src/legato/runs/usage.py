"""What calls of models have used and cost, told to whom it concerns: everybody their own, an admin all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, get_args

from legato.core.errors import Forbidden, InvalidRequest
from legato.core.principal import Principal
from legato.core.usage import UsageBy, UsageFigures
from legato.runs.inputs import LATEST_MS
from legato.runs.node import Node
from legato.storage.usage_figures import Charged, find_usage

DAY_MS: Final = 86_400_000
DEFAULT_MS: Final = 30 * DAY_MS
MAX_GROUPS: Final = 1000
EVERYBODY: Final = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """The usage of a span of time.

    Attributes:
        owner: Whose; None where it is everybody's.
        next_cursor: The `after` of the next page; None on the last.
    """

    owner: str | None
    from_ms: int
    to_ms: int
    by: UsageBy
    total: UsageFigures
    groups: Sequence[UsageFigures]
    next_cursor: str | None


async def report_usage(
    node: Node,
    principal: Principal,
    *,
    owner: str | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
    by: UsageBy = "day",
    model: str | None = None,
    session_id: str | None = None,
    key_id: str | None = None,
    conversation_id: str | None = None,
    after: str | None = None,
    limit: int = 100,
) -> UsageReport:
    """Return what was charged at `from_ms` or later and before `to_ms`.

    Args:
        owner: Whose; None for the principal's own, EVERYBODY for that of all.
        from_ms: Epoch milliseconds; by default 30 days before `to_ms`.
        to_ms: By default now.
        by: What groups it.
        model, session_id, key_id: Of this one alone.
        conversation_id: Of this conversation alone, until it is deleted.
        after: Only groups behind this key.
        limit: Most groups, 1 to MAX_GROUPS.

    Raises:
        Forbidden: Another owner's, or everybody's, was asked for, and the principal is no admin.
        InvalidRequest: An argument is wrong.
        StorageUnavailable: The database cannot be read.
    """
    if principal.role not in ("admin", "app"):
        if owner not in (None, principal.id):
            raise Forbidden("the usage of others is for admins")
        if by == "owner":
            raise Forbidden("usage by owner is for admins")
    if by not in get_args(UsageBy):
        raise InvalidRequest.of("by", f"is none of {', '.join(get_args(UsageBy))}")
    until_ms = node.clock.now_ms() + 1 if to_ms is None else to_ms
    since_ms = max(0, until_ms - DEFAULT_MS) if from_ms is None else from_ms
    for name, time_ms in (("from", since_ms), ("to", until_ms)):
        if not 0 <= time_ms <= LATEST_MS:
            raise InvalidRequest.of(name, "is no time: give milliseconds since the Unix epoch")
    if until_ms < since_ms:
        raise InvalidRequest.of("to", "is before from: a span ends where it begins, or later")
    if not 1 <= limit <= MAX_GROUPS:
        raise InvalidRequest.of("limit", f"is not from 1 to {MAX_GROUPS}")
    whose = None if owner == EVERYBODY else owner or principal.id
    if whose is None and conversation_id is not None:
        raise InvalidRequest.of("conversationId", "goes with one owner: conversations of two may have the same id")
    charged = Charged(
        owner=whose,
        since_ms=since_ms,
        until_ms=until_ms,
        model=model,
        session_id=session_id,
        key_id=key_id,
        conversation_id=conversation_id,
    )
    total, groups = await node.database.read(
        lambda tx: (
            find_usage(tx, charged, "none", after=None, limit=1)[0],
            # One more than is shown tells whether there are more.
            find_usage(tx, charged, by, after=after, limit=limit + 1) if by != "none" else (),
        )
    )
    shown = groups[:limit]
    return UsageReport(
        owner=whose,
        from_ms=since_ms,
        to_ms=until_ms,
        by=by,
        total=total,
        groups=shown,
        next_cursor=shown[-1].key or "" if len(groups) > limit else None,
    )

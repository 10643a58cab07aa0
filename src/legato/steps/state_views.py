"""The state that steps see: their own, and three groups that show what the server keeps elsewhere.

`conversations`, `session-stats` and `rate-limits` are read as if they were state, and never written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from legato.core.errors import Forbidden, NotFound
from legato.core.operations import Operation
from legato.core.principal import Principal
from legato.core.resources import STATE_VIEWS, check_group_is_kept
from legato.runs.analytics import Analytics
from legato.runs.conversations import Conversations
from legato.runs.inputs import MAX_LIMIT
from legato.runs.node import Node
from legato.storage.state import State
from legato.storage.state_rows import DELETE_ROWS, Entry, EntryPage, Span, Updated, Versioned, delete_expired

MOST_MESSAGES: Final = 1000
"""Of a conversation, in its view: the latest."""


class StepState(State):
    """A step's state; see legato.storage.state.State."""

    def __init__(self, node: Node, principal: Principal) -> None:
        super().__init__(node.database, node.committer, node.clock, principal.id, wait_s=node.settings.storage_wait_s)
        self._node = node
        self._principal = principal

    async def get_versioned(self, group: str, key: str) -> Versioned | None:
        if group not in STATE_VIEWS:
            return await super().get_versioned(group, key)
        self._place(group, key)
        value = await self._view(group, key)
        return None if value is None else Versioned(value=value, version=1, expires_at_ms=None)

    async def set(
        self, group: str, key: str, value: object, *, ttl_s: float | None = None, if_version: int | None = None
    ) -> int:
        check_group_is_kept(group)
        return await super().set(group, key, value, ttl_s=ttl_s, if_version=if_version)

    async def update(
        self,
        group: str,
        key: str,
        *operations: Operation | Sequence[Operation],
        ttl_s: float | None = None,
        if_version: int | None = None,
    ) -> Updated:
        check_group_is_kept(group)
        return await super().update(group, key, *operations, ttl_s=ttl_s, if_version=if_version)

    async def delete(self, group: str, key: str, *, if_version: int | None = None) -> bool:
        check_group_is_kept(group)
        return await super().delete(group, key, if_version=if_version)

    async def clear(self, group: str) -> int:
        check_group_is_kept(group)
        return await super().clear(group)

    async def expire(self) -> int:
        """Delete what has expired, of all owners; return how many values that were. For the app alone.

        Raises:
            Forbidden: This is the state of somebody in particular.
        """
        if self._principal.role != "app":
            raise Forbidden("only the app looks after the state of all owners")
        count = 0
        while True:
            removed = await self._node.committer.write(lambda tx: delete_expired(tx, self._node.clock.now_ms()))
            count += removed
            if removed < DELETE_ROWS:
                return count

    async def list(
        self, group: str, *, after: str | None = None, limit: int = 100, prefix: str | None = None
    ) -> EntryPage:
        if group not in STATE_VIEWS:
            return await super().list(group, after=after, limit=limit, prefix=prefix)
        Span(owner=self.owner, group=group, after=after, limit=limit, prefix=prefix)
        # Behind a prefix's place nothing that sorts later but does not begin with it is looked at.
        if prefix and (after is None or after < prefix):
            found = [*([prefix] if await self._view(group, prefix) is not None else [])]
            keys = [*found, *await self._keys(group, prefix, limit + 1)][: limit + 1]
        else:
            keys = list(await self._keys(group, after, limit + 1))
        keys = [key for key in keys if key.startswith(prefix or "")]
        entries = [
            Entry(key=key, value=value, version=1, expires_at_ms=None)
            for key in keys[:limit]
            if (value := await self._view(group, key)) is not None
        ]
        return EntryPage(entries=tuple(entries), next=keys[limit - 1] if len(keys) > limit else None)

    async def groups(self, *, after: str | None = None, limit: int = 100, prefix: str | None = None) -> tuple[str, ...]:
        found = set(await super().groups(after=after, limit=limit, prefix=prefix))
        for view in STATE_VIEWS:
            if view > (after or "") and view.startswith(prefix or "") and await self._keys(view, None, 1):
                found.add(view)
        return tuple(sorted(found))[:limit]

    async def _keys(self, group: str, after: str | None, limit: int) -> Sequence[str]:
        match group:
            case "conversations":
                return await Conversations(self._node, self._principal).ids(after=after, limit=min(limit, MAX_LIMIT))
            case "session-stats":
                return await Analytics(self._node, self._principal).sessions(after, limit)
            case _:
                own = self._principal.id
                return [own] if (after is None or after < own) and await self._view(group, own) is not None else []

    async def _view(self, group: str, key: str) -> Any:
        match group:
            case "conversations":
                return await self._conversation(key)
            case "session-stats":
                try:
                    return (await Analytics(self._node, self._principal).session(key)).as_json()
                except NotFound:
                    return None
            case _:
                node, visits = self._node, self._principal.role == "visitor"
                limits = node.visitor_limits if visits else node.limits
                return await limits.describe(key) if limits is not None and key == self._principal.id else None

    async def _conversation(self, conversation_id: str) -> Any:
        service = Conversations(self._node, self._principal)
        try:
            found = await service.get(conversation_id)
        except NotFound:
            return None
        after = max(0, found.leaf_depth - MOST_MESSAGES)
        page = await service.messages(conversation_id, after=after, limit=MOST_MESSAGES)
        return {
            "conversationId": found.id,
            "title": found.title,
            "messageCount": found.message_count,
            "createdAt": found.created_at_ms,
            "lastMessageAt": found.last_message_at_ms,
            "messages": [
                {"role": each.role, "content": each.text, "timestamp": each.created_at_ms} for each in page.messages
            ],
        }

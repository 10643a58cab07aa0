"""All that the server has of one principal, read a page at a time, for the archive that is given out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final

import msgspec

from legato.core.money import cost_json, from_nusd
from legato.runs.keeping import find_keeping
from legato.runs.node import Node
from legato.storage.conversations import list_ids
from legato.storage.message_log import Wanted, find_logged
from legato.storage.personal import audited_page, charges_page, counts_page, keys_of, state_page
from legato.storage.statement import Transaction

PAGE: Final = 200
LATEST_MS: Final = 2**62


class PersonalData:
    """What there is of a principal. What is said meanwhile may be there or not."""

    def __init__(self, node: Node, owner: str) -> None:
        self._node = node
        self.owner = owner

    async def conversations(self) -> AsyncIterator[str]:
        """Give the ids of all conversations, temporary and archived ones too, in the order of the ids."""
        after = ""
        while ids := await self._read(partial(list_ids, owner=self.owner, after=after, limit=PAGE)):
            for each in ids:
                yield each
            after = ids[-1]

    async def profile(self) -> dict[str, Any]:
        """Return who it is for the server: keys without their secrets, and how long things are kept."""
        kept = await find_keeping(self._node, self.owner)
        keys = await self._read(partial(keys_of, owner=self.owner))
        return {
            "id": self.owner,
            "exportedAt": self._node.clock.now_ms(),
            "retention": kept.retention,
            "retentionDefaultHours": kept.default_hours,
            "heldAt": kept.held_at_ms,
            "heldConversations": list(kept.held_conversations),
            "keys": [
                {
                    "id": row.id,
                    "name": row.name,
                    "role": row.role,
                    "createdAt": row.created_at_ms,
                    "revokedAt": row.revoked_at_ms,
                }
                for row in keys
            ],
        }

    async def feedback(self) -> AsyncIterator[dict[str, Any]]:
        """Give what the principal has said of replies."""
        behind = (-1, -1)
        while True:
            wanted = Wanted(
                owner=self.owner,
                conversation_id=None,
                session_id=None,
                behind=behind,
                until_ms=LATEST_MS,
                limit=PAGE,
            )
            rows = await self._read(partial(find_logged, wanted=wanted))
            for row in rows:
                if row.feedback is not None:
                    said = msgspec.json.decode(row.feedback)
                    yield {"messageId": row.id, "conversationId": row.conversation_id, "feedback": said}
            if len(rows) < PAGE:
                return
            behind = (rows[-1].created_at_ms, rows[-1].key)

    async def replies(self) -> AsyncIterator[dict[str, Any]]:
        """Give what was counted of each reply."""
        behind = (-1, "")
        while rows := await self._read(partial(counts_page, owner=self.owner, behind=behind, limit=PAGE)):
            for row in rows:
                yield _with_cost(row._asdict())
            behind = (rows[-1].at_ms, rows[-1].run_id)

    async def charges(self) -> AsyncIterator[dict[str, Any]]:
        """Give what each call of a model used and cost."""
        behind = (-1, -1)
        while rows := await self._read(partial(charges_page, owner=self.owner, behind=behind, limit=PAGE)):
            for row in rows:
                shown = row._asdict()
                del shown["key"], shown["owner"]
                yield _with_cost(shown)
            behind = (rows[-1].at_ms, rows[-1].key)

    async def state(self) -> AsyncIterator[dict[str, Any]]:
        """Give what steps keep for the principal."""
        behind = ("", "")
        while rows := await self._read(partial(state_page, owner=self.owner, behind=behind, limit=PAGE)):
            for row in rows:
                yield {
                    "group": row.group,
                    "key": row.key,
                    "value": msgspec.json.decode(row.value),
                    "expiresAt": row.expires_at_ms,
                    "updatedAt": row.updated_at_ms,
                }
            behind = (rows[-1].group, rows[-1].key)

    async def audited(self) -> AsyncIterator[dict[str, Any]]:
        """Give who did what to the principal's data."""
        after = 0
        while rows := await self._read(partial(audited_page, owner=self.owner, after=after, limit=PAGE)):
            for row in rows:
                yield entry_json(row)
            after = rows[-1].seq

    async def _read(self, query: Callable[[Transaction], Any]) -> Any:
        return await self._node.database.read(query)


def entry_json(row: Any) -> dict[str, Any]:
    """Return an entry of the audit log as JSON."""
    return {
        "seq": row.seq,
        "at": row.at_ms,
        "actor": row.actor,
        "via": row.via,
        "keyId": row.key_id,
        "action": row.action,
        "subject": row.subject,
        "owner": row.owner,
        "detail": None if row.detail is None else msgspec.json.decode(row.detail),
        "hash": bytes(row.hash).hex(),
    }


def _with_cost(values: dict[str, Any]) -> dict[str, Any]:
    cost_nusd = values.pop("cost_nusd")
    return values | {"cost": cost_json(None if cost_nusd is None else from_nusd(cost_nusd))}

"""Giving a conversation out as a document: all of it as JSON, or its active branch as Markdown; a page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from legato.core.errors import NotFound
from legato.core.principal import Principal
from legato.core.resources import Conversation, Message
from legato.runs.node import Node
from legato.runs.rows import Said, conversation_of, message_of
from legato.storage.conversations import find_conversation
from legato.storage.followed import find_said
from legato.storage.messages import find_page
from legato.storage.statement import Transaction
from legato.storage.transfer import find_messages, list_message_keys

PAGE: Final = 50
"""Messages that are read, and held, at once."""


class Exports:
    """The conversations of one principal, as documents."""

    def __init__(self, node: Node, principal: Principal) -> None:
        self._node = node
        self._owner = principal.id

    async def open(self, conversation_id: str) -> Export:
        """Begin to give a conversation out.

        Raises:
            NotFound: There is none with this id.
            StorageUnavailable: The database cannot be read.
        """
        row = await self._node.database.read(lambda tx: find_conversation(tx, self._owner, conversation_id))
        if row is None:
            raise NotFound("there is no conversation with this id")
        return Export(self._node, row)


class Export:
    """A conversation that is given out.

    What is said in it meanwhile may be there or not; where it is deleted meanwhile, the rest is missing.
    """

    def __init__(self, node: Node, row: Any) -> None:
        self._node = node
        self._row = row
        self.conversation: Conversation = conversation_of(row)

    async def all_messages(self) -> AsyncIterator[Message]:
        """Give the messages of all branches, in order of making."""
        owner, key = self._row.owner, self._row.key
        keys = await self._node.database.read(lambda tx: list_message_keys(tx, key))
        for first in range(0, len(keys), PAGE):
            wanted = keys[first : first + PAGE]

            def read(tx: Transaction, wanted: list[int] = wanted) -> Any:
                return self._with_said(tx, find_messages(tx, owner, key, wanted))

            rows, said = await self._node.database.read(read)
            for row in rows:
                yield message_of(row, self._node, self.conversation.id, said)

    async def branch(self) -> AsyncIterator[Message]:
        """Give the messages of the active branch, oldest first."""
        key, tip = self._row.key, self._row.leaf_id
        for after in range(0, self._row.leaf_depth, PAGE):

            def read(tx: Transaction, after: int = after) -> Any:
                return self._with_said(tx, find_page(tx, key, tip, after, PAGE))

            rows, said = await self._node.database.read(read)
            for row in rows:
                yield message_of(row, self._node, self.conversation.id, said)

    def _with_said(self, tx: Transaction, rows: list[Any]) -> tuple[list[Any], Said]:
        return rows, find_said(tx, rows, self._node.live)

"""Deletes conversations: one that its owner wants gone, or a page of those whose time is over."""

from __future__ import annotations

from legato.fanout.hint import HintKind
from legato.runs.audit import Actor, audit
from legato.runs.node import Node
from legato.runs.stop import let_go
from legato.storage.committer import Command
from legato.storage.conversations import delete_conversation
from legato.storage.retention import Expired, Expiring, expire_page
from legato.storage.statement import Transaction


class DeleteConversation(Command[int | None]):
    """Deletes a conversation, and lets go of its runs before a new conversation can have its key."""

    def __init__(self, node: Node, owner: str, conversation_id: str, *, actor: Actor) -> None:
        self._node = node
        self._owner = owner
        self._id = conversation_id
        self._actor = actor

    def apply(self, tx: Transaction) -> int | None:
        return delete_one(
            tx, actor=self._actor, owner=self._owner, conversation_id=self._id, now_ms=self._node.clock.now_ms()
        )

    def committed(self, value: int | None) -> None:
        if value is not None:
            let_go(self._node, value)
            self._node.wakes.tell(HintKind.GONE)
            self._node.to_erase.set()


def delete_one(tx: Transaction, *, actor: Actor, owner: str, conversation_id: str, now_ms: int) -> int | None:
    """Delete a conversation, and say so in the audit log; return its key, None where there is none.

    Nobody may be making a reply in it, but for a server that lets go of it as soon as this is committed.

    Raises:
        LegalHold: It is held, or all that its owner has.
    """
    key = delete_conversation(tx, owner, conversation_id)
    if key is not None:
        audit(tx, actor=actor, action="conversation.delete", subject=conversation_id, owner=owner, at_ms=now_ms)
    return key


class ExpirePage(Command[Expired]):
    """Deletes the next of the conversations whose time is over; storage.retention has the rules.

    What this process makes a reply to is passed over too, whatever the rows say.
    """

    def __init__(self, node: Node, expiring: Expiring) -> None:
        self._node = node
        self._expiring = expiring
        self._live: frozenset[int] = frozenset()

    def prepare(self) -> None:
        self._live = frozenset(run.conversation_key for run in self._node.live.values())

    def apply(self, tx: Transaction) -> Expired:
        return expire_page(tx, self._expiring, self._live)

    def committed(self, value: Expired) -> None:
        if value.deleted:
            self._node.to_erase.set()

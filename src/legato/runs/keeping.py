"""How long a principal's conversations are kept, and what may not be deleted at all: setting it, by whom, audited."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

from pydantic import TypeAdapter

from legato.core.errors import Forbidden, InvalidRequest
from legato.core.principal import Principal
from legato.core.resources import Retention, retention_hours
from legato.runs.audit import Action, Actor, audit
from legato.runs.inputs import checked
from legato.runs.node import Node
from legato.storage.erasures import lock_erasure
from legato.storage.keeping import (
    FOR_EVER_H,
    Kept,
    find_kept,
    held_conversations,
    hold_conversation,
    list_kept,
    mark_page,
    put_hold,
    put_idle,
)
from legato.storage.statement import Transaction

MOST_HELD: Final = 1000
"""Held conversations that are named."""
PAGE: Final = 100
_RETENTION = TypeAdapter(Retention)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How a principal's conversations are kept.

    Attributes:
        retention: `default`: as the server's settings say; `keep`: for ever; or a number of hours or days. Of those
            conversations that have none of their own.
        default_hours: What the server's settings say; None: for ever.
        held_at_ms: Since when nothing of this principal may be deleted; None: it may.
        held_conversations: Ids of those that are held by themselves, MOST_HELD at most.
    """

    owner: str
    retention: str
    default_hours: float | None
    held_at_ms: int | None
    held_conversations: tuple[str, ...]


def retention_of(idle_h: int | None) -> str:
    """Return hours as a retention."""
    if idle_h is None:
        return "default"
    if idle_h >= FOR_EVER_H:
        return "keep"
    return f"{idle_h // 24}d" if idle_h % 24 == 0 else f"{idle_h}h"


async def find_keeping(node: Node, owner: str) -> Keeping:
    """Return how a principal's conversations are kept."""

    def read(tx: Transaction) -> tuple[Kept, list[str]]:
        return find_kept(tx, owner), held_conversations(tx, owner, MOST_HELD)

    kept, held = await node.database.read(read)
    return Keeping(
        owner=owner,
        retention=retention_of(kept.idle_h),
        default_hours=node.settings.conversation_idle_h,
        held_at_ms=kept.held_at_ms,
        held_conversations=tuple(held),
    )


async def set_retention(node: Node, actor: Actor, owner: str, retention: str) -> Keeping:
    """Set how long a principal's conversations are kept that say nothing of their own.

    Raises:
        InvalidRequest: It is no retention.
    """
    retention = checked(_RETENTION, retention, "retention")
    idle_h = FOR_EVER_H if retention == "keep" else retention_hours(retention)
    now_ms = node.clock.now_ms()

    def write(tx: Transaction) -> None:
        put_idle(tx, owner, idle_h, now_ms)
        audit(
            tx,
            actor=actor,
            action="retention.change",
            subject=owner,
            owner=owner,
            detail={"retention": retention},
            at_ms=now_ms,
        )

    await node.committer.write(write, wait_s=node.settings.storage_wait_s)
    await mark_all(node, owner)
    return await find_keeping(node, owner)


async def hold(node: Node, principal: Principal, actor: Actor, owner: str, held: bool) -> Keeping:
    """Forbid that anything of a principal is deleted, or allow it again.

    Raises:
        Forbidden: The caller is no admin.
    """
    check_admin(principal)
    if not owner:
        raise InvalidRequest.of("owner", "is empty: name a principal")
    work = partial(change_hold, actor=actor, owner=owner, held=held, now_ms=node.clock.now_ms())
    await node.committer.write(work, wait_s=node.settings.storage_wait_s)
    await mark_all(node, owner)
    return await find_keeping(node, owner)


async def hold_one(
    node: Node, principal: Principal, actor: Actor, owner: str, conversation_id: str, held: bool
) -> Keeping:
    """Forbid that a conversation is deleted, or allow it again.

    Raises:
        Forbidden: The caller is no admin.
        NotFound: There is none.
    """
    check_admin(principal)
    work = partial(
        change_hold_of_one,
        actor=actor,
        owner=owner,
        conversation_id=conversation_id,
        held=held,
        now_ms=node.clock.now_ms(),
    )
    await node.committer.write(work, wait_s=node.settings.storage_wait_s)
    return await find_keeping(node, owner)


def change_hold(tx: Transaction, *, actor: Actor, owner: str, held: bool, now_ms: int) -> bool:
    """Hold all that a principal has, or let it go; return whether that is new.

    Whoever calls it marks the principal's conversations afterwards (`mark_page`).
    """
    # An erasure that goes on deletes nothing behind this any more.
    lock_erasure(tx, owner)
    is_new = put_hold(tx, owner, held, now_ms)[1]
    if is_new:
        action: Action = "principal.hold" if held else "principal.release"
        audit(tx, actor=actor, action=action, subject=owner, owner=owner, at_ms=now_ms)
    return is_new


def change_hold_of_one(
    tx: Transaction, *, actor: Actor, owner: str, conversation_id: str, held: bool, now_ms: int
) -> bool:
    """Hold a conversation, or let it go; return whether that is new.

    Raises:
        NotFound: There is none.
    """
    lock_erasure(tx, owner)
    is_new = hold_conversation(tx, owner, conversation_id, held, now_ms)
    if is_new:
        action: Action = "conversation.hold" if held else "conversation.release"
        audit(tx, actor=actor, action=action, subject=conversation_id, owner=owner, at_ms=now_ms)
    return is_new


async def mark_all(node: Node, owner: str) -> None:
    """Mark a principal's conversations as they are kept now, a page a transaction."""
    place: str | None = ""
    while place is not None:
        work = partial(mark_page, owner=owner, after=place)
        place = await node.committer.write(work, wait_s=node.settings.storage_wait_s)


async def mark_changed(node: Node, since_ms: int) -> None:
    """Mark anew the conversations of principals whose settings have changed since a time.

    A server may have died in between, and a conversation may have been made at the very moment of the change.
    """
    after = ""
    while True:
        rows = await node.database.read(partial(list_kept, after=after, limit=PAGE))
        for row in rows:
            if row.changed_at_ms >= since_ms:
                await mark_all(node, row.owner)
        if len(rows) < PAGE:
            return
        after = rows[-1].owner


def check_admin(principal: Principal) -> None:
    """Refuse who is no admin.

    Raises:
        Forbidden: So it is.
    """
    if principal.role != "admin":
        raise Forbidden("this is for admins: make a key with legato keys create --role admin")

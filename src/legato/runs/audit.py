"""The audit log: who did what to whose data.

`audit` is called in the transaction that does it, as its last statement, so that there is never one without the other.
An entry holds ids and counts, never what somebody has written.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import msgspec

from legato.core.principal import APP, Caller, Principal
from legato.storage.audit import NewEntry, append_entry
from legato.storage.statement import Transaction

Action = Literal[
    # Who comes in.
    "sign-in",
    "sign-in.failed",
    "sign-out",
    "sign-out.everywhere",
    "key.create",
    "key.revoke",
    "account.create",
    "account.change",
    "account.delete",
    # Whose data is given out, taken in, or read by somebody else.
    "conversation.export",
    "conversation.import",
    "conversation.delete",
    "conversation.expire",
    "conversation.hold",
    "conversation.release",
    "principal.export",
    "principal.erase",
    "principal.erased",
    "principal.hold",
    "principal.release",
    "retention.change",
    "admin.read",
    "dead-letter.redrive",
    "dead-letter.discard",
    # What the server may do and spend.
    "budget.change",
    "budget.delete",
    "review.decide",
    "encryption.rotate",
    "encryption.shred",
    "backup.create",
    "backup.restore",
    # The log itself.
    "audit.export",
    "audit.cut",
]
ACTIONS: Final[tuple[str, ...]] = get_args(Action)

_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who does it.

    Attributes:
        id: A principal's; of a command the name of the system's user; of nobody in particular `-`.
        via: As core.principal.Via, or `command` (a `legato` command), `server` (by itself), `nobody` (not signed in).
        key_id: Of the key that proves it, where it is one.
    """

    id: str
    via: str
    key_id: str | None = None


SERVER: Final = Actor(id=APP.id, via="server")
"""The server by itself: what is due by its clock."""
NOBODY: Final = Actor(id="-", via="nobody")
"""Somebody who has not proved who it is."""


def actor_of(caller: Caller) -> Actor:
    """Return the actor of a request."""
    return Actor(id=caller.principal.id, via=caller.via, key_id=caller.key_id)


def actor_of_principal(principal: Principal) -> Actor:
    """Return the actor of what has no request behind it any more: a step's context, the server itself."""
    return SERVER if principal.role == "app" else Actor(id=principal.id, via="step")


def command_actor() -> Actor:
    """Return the actor of a `legato` command: the user of the system who runs it."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        name = "unknown"
    return Actor(id=name, via="command")


def audit(
    tx: Transaction,
    *,
    actor: Actor,
    action: Action,
    subject: str,
    at_ms: int,
    owner: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write an entry; the last thing that a transaction does (storage.audit says why).

    Args:
        actor: actor_of(caller), command_actor(), SERVER or NOBODY.
        subject: The id of what it was done to: a conversation, a key, a principal, a budget. No text of anybody's.
        at_ms: Now, epoch milliseconds.
        owner: Whose data it is, where it is somebody's.
        detail: JSON: ids, names of settings, counts. No text of anybody's.
    """
    append_entry(
        tx,
        NewEntry(
            at_ms=at_ms,
            actor=actor.id,
            via=actor.via,
            key_id=actor.key_id,
            action=action,
            subject=subject,
            owner=owner,
            detail=None if detail is None else _encode(dict(detail)).decode(),
        ),
    )

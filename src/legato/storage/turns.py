"""Starts a turn: a message is saved and its run begun, or queued behind the turns before it, in one transaction.

Turns of a conversation are numbered by the update that admits them, and run in that order. Whoever admits one holds the
conversation's row until the end of the transaction, so that two nodes do it one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sqlalchemy import Integer, String, bindparam, exists, func, insert, null, select, update
from sqlalchemy import cast as sql_cast

from legato.core.errors import (
    ConversationBusy,
    InvalidRequest,
    LegatoError,
    NotFound,
)
from legato.core.event import LogItem
from legato.storage.audit_tables import keeping
from legato.storage.request_keys import find_repeated, keep_key
from legato.storage.runs import count_waiting
from legato.storage.segments import insert_segment
from legato.storage.statement import Prepared, Transaction, insert_into
from legato.storage.tables import (
    conversation,
    message,
    run,
)

_SELECT_CONVERSATION = Prepared(
    select(
        conversation.c.key,
        conversation.c.leaf_id,
        conversation.c.leaf_branch,
        conversation.c.leaf_depth,
        conversation.c.next_turn,
        conversation.c.system_prompt,
        conversation.c.model,
        conversation.c.temperature,
        conversation.c.max_tokens,
    )
    .where(conversation.c.owner == bindparam("owner"), conversation.c.id == bindparam("id"))
    .with_for_update(key_share=True)
)
# PostgreSQL takes one type for a parameter that stands twice.
_is_of_owner = keeping.c.owner == sql_cast(bindparam("owner"), String)
IDLE_H_OF_OWNER: Final = select(keeping.c.idle_h).where(_is_of_owner).scalar_subquery()
_is_held = exists().where(_is_of_owner, keeping.c.held_at_ms.is_not(None))
INSERT_CONVERSATION = Prepared(
    insert(conversation).values(
        {column.name: bindparam(column.name) for column in conversation.columns if column.name != "key"}
        | {
            "own_idle_h": func.coalesce(bindparam("own_idle_h", type_=Integer), IDLE_H_OF_OWNER),
            "held_at_ms": null(),
            "owner_held": _is_held,
        }
    )
)
_SELECT_PLACE = Prepared(
    select(message.c.branch, message.c.depth, message.c.role, message.c.parent_id).where(
        message.c.id == bindparam("id"),
        message.c.owner == bindparam("owner"),
        message.c.conversation_key == bindparam("conversation_key"),
    )
)
_SELECT_PARTS = Prepared(
    select(message.c.key, message.c.id, message.c.conversation_key, message.c.parts).where(
        message.c.id == bindparam("id")
    )
)
_SELECT_TAKEN = Prepared(
    select(message.c.key).where(
        message.c.conversation_key == bindparam("conversation_key"),
        message.c.branch == bindparam("branch"),
        message.c.depth == bindparam("depth"),
    )
)
INSERT_MESSAGE = insert_into(message, without="key")
_ADVANCE = Prepared(
    update(conversation)
    .where(conversation.c.key == bindparam("conversation_key"))
    .values(
        leaf_id=bindparam("leaf_id"),
        leaf_branch=bindparam("leaf_branch"),
        leaf_depth=bindparam("leaf_depth"),
        next_turn=conversation.c.next_turn + 1,
        message_count=conversation.c.message_count + bindparam("added"),
        last_message_at_ms=bindparam("now_ms"),
    )
)
_INSERT_RUN = insert_into(run, without="key")
LEAF: Final = object()
"""Where a message goes that names no parent: behind the tip of the active branch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTurn:
    """A turn to be started. Either a message, or with `regenerate` a further reply to one that is there.

    Attributes:
        parent: LEAF, the id of the reply that the message follows, or None for a new first message.
        regenerate: Id of the reply of which a sibling is wanted.
        create: Whether an unknown conversation is made.
        items: First events of the log if the run may start at once, and if it has to wait.
        refusal: Why no new run may begin now; a repeat of a known key is still answered.
        key_id: Of the key by which it is asked for.
        reserve: Called before anything is written, where the run may start at once; may refuse it.
    """

    owner: str
    conversation_id: str
    session_id: str
    run_id: str
    user_message_id: str
    message_id: str
    parts: str
    title: str
    metadata: str | None
    request: str
    parent: object
    regenerate: str | None
    create: bool
    key: str | None
    body_hash: bytes
    max_waiting: int
    now_ms: int
    refusal: LegatoError | None
    key_id: str | None = None
    reserve: Callable[[Transaction], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedTurn:
    """What starting a turn brought.

    Attributes:
        node_key: Whose the run is; one that waits is nobody's.
        ahead: Turns before it in its conversation; 0 means that it runs.
    """

    key: int
    node_key: int | None
    conversation_key: int
    turn: int
    ahead: int
    user_message_id: str
    message_id: str
    history: bool
    """Whether there are messages before the user's."""
    conversation_system_prompt: str | None
    conversation_model: str | None
    conversation_temperature: float | None
    conversation_max_tokens: int | None
    segment_id: int
    items: list[LogItem]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTurn:
    """The key was used before, with the same body: this is the run that it began."""

    run_id: str


class FirstItems(Protocol):
    """Makes the first events of a log, once it is known how many turns are ahead and which question is answered.

    `parts` are the question's (JSON).
    """

    def __call__(self, *, ahead: int, user_message_id: str, parts: str, model: str | None) -> list[LogItem]: ...


def start_turn(tx: Transaction, new: NewTurn, first_items: FirstItems) -> StartedTurn | KnownTurn:
    """Save the message and begin its run, in one transaction.

    Raises:
        KeyReused, Gone: The idempotency key belongs to another body, or to a run that was deleted.
        NotFound: No such conversation, where it is not to be made.
        InvalidRequest: `parent` or `regenerate` names no fitting message.
        ConversationBusy: `max_waiting` turns wait already.
        LegatoError: `new.refusal`.
    """
    known = _find_known(tx, new)
    if known is not None:
        return known
    if new.refusal is not None:
        raise new.refusal
    found = tx.one(_SELECT_CONVERSATION, owner=new.owner, id=new.conversation_id)
    if found is None and not new.create:
        raise NotFound("there is no conversation with this id")
    ahead = 0
    branch, depth, parent_id, user_message_id = new.user_message_id, 0, None, new.user_message_id
    if found is not None:
        waiting = count_waiting(tx, found.key)
        ahead = waiting.queued + waiting.running
        if waiting.queued >= new.max_waiting:
            # The same post at another node may have held the conversation until now.
            known = _find_known(tx, new)
            if known is not None:
                return known
            raise ConversationBusy(
                f"{waiting.queued} turns wait in this conversation, which is the most: "
                "send again when a reply has ended"
            )
        if new.regenerate is not None:
            branch, depth, user_message_id = _place_of_sibling(tx, new, found.key)
        else:
            branch, depth, parent_id = _place_behind_parent(tx, new, found)
    elif new.parent is not LEAF and new.parent is not None:
        raise InvalidRequest.of("parentId", "names no message: the conversation is new")
    if new.reserve is not None and not ahead:
        new.reserve(tx)

    if new.key is not None:
        keep_key(tx, new.owner, new.key, body_hash=new.body_hash, run_id=new.run_id, now_ms=new.now_ms)
    added = (0 if ahead else 1) if new.regenerate is None else 0
    reply_depth = depth + 2 if new.regenerate is None else depth
    reply_branch = branch if new.regenerate is None else new.message_id
    if found is None:
        turn = 1
        conversation_key = tx.insert(
            INSERT_CONVERSATION,
            owner=new.owner,
            id=new.conversation_id,
            title=new.title,
            title_source="words",
            system_prompt=None,
            model=None,
            temperature=None,
            max_tokens=None,
            metadata=None,
            leaf_id=new.message_id,
            leaf_branch=reply_branch,
            leaf_depth=reply_depth,
            next_turn=2,
            message_count=added,
            retention="default",
            own_idle_h=None,
            pinned=False,
            archived=False,
            temporary=False,
            created_at_ms=new.now_ms,
            last_message_at_ms=new.now_ms,
        )
    else:
        turn, conversation_key = found.next_turn, found.key
        tx.run(
            _ADVANCE,
            conversation_key=conversation_key,
            leaf_id=new.message_id,
            leaf_branch=reply_branch,
            leaf_depth=reply_depth,
            added=added,
            now_ms=new.now_ms,
        )
        if turn == 1 and new.regenerate is None:
            tx.run(_FIRST_TITLE, conversation_key=conversation_key, new_title=new.title)
    shared: dict[str, Any] = {
        "conversation_key": conversation_key,
        "owner": new.owner,
        "run_id": new.run_id,
        "session_id": new.session_id,
        "model": None,
        "usage": None,
        "feedback": None,
        "created_at_ms": new.now_ms,
    }
    if new.regenerate is None:
        tx.insert(
            INSERT_MESSAGE,
            id=user_message_id,
            parent_id=parent_id,
            branch=branch,
            depth=depth + 1,
            role="user",
            parts=new.parts,
            status="complete",
            metadata=new.metadata,
            **shared,
        )
    tx.insert(
        INSERT_MESSAGE,
        id=new.message_id,
        parent_id=user_message_id,
        branch=reply_branch,
        depth=reply_depth,
        role="assistant",
        parts="[]",
        status="queued" if ahead else "running",
        metadata=None,
        **shared,
    )
    node_key = None if ahead else tx.node_key
    key = tx.insert(
        _INSERT_RUN,
        id=new.run_id,
        conversation_key=conversation_key,
        owner=new.owner,
        session_id=new.session_id,
        turn=turn,
        state="queued" if ahead else "running",
        epoch=0,
        node_key=node_key,
        takeovers=0,
        stop_by=None,
        user_message_id=user_message_id,
        message_id=new.message_id,
        asks=1 if new.regenerate is None else 0,
        key_id=new.key_id,
        request=new.request,
        model=None,
        calls=0,
        usage=None,
        finish_reason=None,
        error=None,
        created_at_ms=new.now_ms,
        started_at_ms=None if ahead else new.now_ms,
        first_token_at_ms=None,
        ended_at_ms=None,
        response_time_ms=None,
        first_token_ms=None,
    )
    items = first_items(
        ahead=ahead,
        user_message_id=user_message_id,
        parts=new.parts if new.regenerate is None else tx.one(_SELECT_PARTS, id=user_message_id).parts,
        model=found.model if found is not None else None,
    )
    return StartedTurn(
        key=key,
        node_key=node_key,
        conversation_key=conversation_key,
        turn=turn,
        ahead=ahead,
        user_message_id=user_message_id,
        message_id=new.message_id,
        history=reply_depth > 2,
        conversation_system_prompt=found.system_prompt if found is not None else None,
        conversation_model=found.model if found is not None else None,
        conversation_temperature=found.temperature if found is not None else None,
        conversation_max_tokens=found.max_tokens if found is not None else None,
        segment_id=insert_segment(tx, key, 0, 0, items, conversation_key=conversation_key),
        items=items,
    )


_FIRST_TITLE = Prepared(
    update(conversation)
    .where(
        conversation.c.key == bindparam("conversation_key"),
        conversation.c.title_source == "words",
        conversation.c.title == "",
    )
    .values(title=bindparam("new_title"))
)


def _find_known(tx: Transaction, new: NewTurn) -> KnownTurn | None:
    """Return the turn that the idempotency key has begun already."""
    run_id = None if new.key is None else find_repeated(tx, new.owner, new.key, new.body_hash, new.now_ms)
    return None if run_id is None else KnownTurn(run_id=run_id)


def _place_of_sibling(tx: Transaction, new: NewTurn, conversation_key: int) -> tuple[str, int, str]:
    """Return branch and depth of the reply to be repeated, and the id of the message that it answers."""
    reply = tx.one(_SELECT_PLACE, id=new.regenerate, owner=new.owner, conversation_key=conversation_key)
    if reply is None:
        raise NotFound("there is no message with this id")
    if reply.role != "assistant":
        raise InvalidRequest.of("id", "names a message of the user: name a reply to regenerate")
    return reply.branch, reply.depth, reply.parent_id


def _place_behind_parent(tx: Transaction, new: NewTurn, found: Any) -> tuple[str, int, str | None]:
    """Return the branch that the new message goes into, and depth and id of its parent."""
    if new.parent is LEAF or new.parent == found.leaf_id:
        branch, depth, parent_id = found.leaf_branch, found.leaf_depth, found.leaf_id
    elif new.parent is None:
        return new.user_message_id, 0, None
    else:
        parent = tx.one(_SELECT_PLACE, id=new.parent, owner=new.owner, conversation_key=found.key)
        if parent is None:
            raise InvalidRequest.of("parentId", "names no message of this conversation")
        if parent.role != "assistant":
            raise InvalidRequest.of("parentId", "names a message of the user: name a reply, or null")
        branch, depth, parent_id = parent.branch, parent.depth, new.parent
    taken = branch is None or tx.one(_SELECT_TAKEN, conversation_key=found.key, branch=branch, depth=depth + 1)
    return (new.user_message_id if taken else branch), depth, parent_id

"""Conversations as rows: making, listing, changing, forking, deleting."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Integer, and_, bindparam, case, delete, func, insert, literal, or_, select, text, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.types import String

from legato.core.errors import Conflict, LegalHold, NotFound
from legato.core.resources import retention_hours, state_group
from legato.storage.charges import forget_conversation
from legato.storage.erasures import delete_logs, keep_totals, note_erased
from legato.storage.keeping import check_owner_not_held
from legato.storage.messages import path_to
from legato.storage.sealed_copies import copy_sealed
from legato.storage.search_index import note_delete, note_title
from legato.storage.shredding import shred
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import IS_RUNNING, IS_UNFINISHED, conversation, message, run, state
from legato.storage.turns import IDLE_H_OF_OWNER, INSERT_CONVERSATION

ACTIVE_RUN = (
    select(run.c.id)
    .where(run.c.conversation_key == conversation.c.key, IS_RUNNING)
    .scalar_subquery()
    .label("active_run_id")
)
_FIND = Prepared(
    select(*conversation.columns, ACTIVE_RUN).where(
        conversation.c.owner == bindparam("owner"), conversation.c.id == bindparam("id")
    )
)
# For whoever changes it. Without what other tables say: that would be what it was before the wait for the row.
_FIND_LOCKED = Prepared(
    select(conversation)
    .where(conversation.c.owner == bindparam("owner"), conversation.c.id == bindparam("id"))
    .with_for_update(key_share=True)
)
_FIND_TO_DELETE = Prepared(
    select(conversation.c.key, conversation.c.held_at_ms)
    .where(conversation.c.owner == bindparam("owner"), conversation.c.id == bindparam("id"))
    .with_for_update()
)
_listed = (
    select(*conversation.columns, ACTIVE_RUN)
    .where(
        conversation.c.owner == bindparam("owner"),
        conversation.c.last_message_at_ms <= bindparam("until_ms"),
        or_(
            conversation.c.last_message_at_ms < bindparam("until_ms"),
            conversation.c.key < bindparam("before_key"),
        ),
    )
    .order_by(conversation.c.last_message_at_ms.desc(), conversation.c.key.desc())
    .limit(bindparam("most"))
)
# As the indexes have it: SQLite takes a partial index only for a query that names its condition.
_CURRENT = "NOT conversation.archived AND NOT conversation.temporary"
_ARCHIVED = "conversation.archived AND NOT conversation.temporary"
_PAGES = {
    (archived, pinned): Prepared(_listed.where(text(which + also)))
    for archived, which in ((False, _CURRENT), (True, _ARCHIVED))
    for pinned, also in (
        (None, ""),
        (True, " AND conversation.pinned"),
        (False, " AND NOT conversation.pinned"),
    )
}
_IDS = Prepared(
    select(conversation.c.id)
    .where(conversation.c.owner == bindparam("owner"), conversation.c.id > bindparam("after"))
    .order_by(conversation.c.id)
    .limit(bindparam("most"))
)
_CHANGEABLE = (
    "title",
    "title_source",
    "system_prompt",
    "model",
    "temperature",
    "max_tokens",
    "metadata",
    "retention",
    "pinned",
    "archived",
)
_UPDATE = Prepared(
    update(conversation)
    .where(conversation.c.key == bindparam("conversation_key"))
    .values(
        {name: bindparam(f"new_{name}") for name in (*_CHANGEABLE, "leaf_id", "leaf_branch", "leaf_depth")}
        | {"own_idle_h": func.coalesce(bindparam("new_own_idle_h", type_=Integer), IDLE_H_OF_OWNER)}
    )
)
_RENAME = Prepared(
    update(conversation)
    .where(
        # Its key alone may have become another's since.
        conversation.c.key == bindparam("conversation_key"),
        conversation.c.owner == bindparam("of_owner"),
        conversation.c.id == bindparam("conversation_id"),
        conversation.c.title_source == "words",
    )
    .values(title=bindparam("new_title"), title_source="model")
)
# Messages, runs, their logs and what was counted of them go by their foreign keys.
_DELETE = Prepared(
    delete(conversation).where(
        conversation.c.owner == bindparam("owner"), conversation.c.key == bindparam("conversation_key")
    )
)
_DELETE_STATE = Prepared(
    delete(state).where(state.c.owner == bindparam("owner"), state.c.group == bindparam("state_group"))
)
_TIP = Prepared(
    select(message.c.id, message.c.branch, message.c.depth, message.c.role, message.c.status).where(
        message.c.id == bindparam("id"), message.c.conversation_key == bindparam("conversation_key")
    )
)
_prefix = bindparam("prefix", type_=String)
_copied = path_to(
    (
        _prefix.concat(sql_cast(message.c.depth, String)),
        bindparam("new_key"),
        message.c.owner,
        case(
            (message.c.depth == 1, None),
            else_=_prefix.concat(sql_cast(message.c.depth - literal(1), String)),
        ),
        _prefix.concat("1"),
        message.c.depth,
        message.c.role,
        message.c.parts,
        message.c.status,
        message.c.session_id,
        message.c.model,
        message.c.usage,
        message.c.metadata,
        message.c.created_at_ms,
    )
)
_COPY = Prepared(
    insert(message).from_select(
        [
            "id",
            "conversation_key",
            "owner",
            "parent_id",
            "branch",
            "depth",
            "role",
            "parts",
            "status",
            "session_id",
            "model",
            "usage",
            "metadata",
            "created_at_ms",
        ],
        _copied,
    )
)
_UNFINISHED = Prepared(
    select(func.count().label("number"))
    .select_from(run)
    .where(
        and_(
            run.c.conversation_key == bindparam("conversation_key"),
            IS_UNFINISHED,
        )
    )
)


def find_conversation(tx: Transaction, owner: str, conversation_id: str) -> Any | None:
    """Return the conversation's row with `active_run_id`, or None."""
    return tx.one(_FIND, owner=owner, id=conversation_id)


def list_conversations(
    tx: Transaction, owner: str, behind: tuple[int, int], limit: int, *, archived: bool, pinned: bool | None
) -> list[Any]:
    """Return up to `limit` conversations, the latest first, but for temporary ones.

    Args:
        behind: The place (time of last message, key) from which they begin, exclusive.
        archived: Those that are archived, or those that are not.
        pinned: Only those that are pinned, or that are not; None: both.
    """
    return tx.all(_PAGES[archived, pinned], owner=owner, until_ms=behind[0], before_key=behind[1], most=limit)


def list_ids(tx: Transaction, owner: str, after: str, limit: int) -> list[str]:
    """Return up to `limit` ids of conversations, in the order of their bytes, from behind `after` on."""
    return [row.id for row in tx.all(_IDS, owner=owner, after=after, most=limit)]


def create_conversation(tx: Transaction, owner: str, conversation_id: str, now_ms: int, **values: Any) -> None:
    """Make an empty conversation.

    Raises:
        Conflict: There is one with this id.
    """
    if tx.one(_FIND, owner=owner, id=conversation_id) is not None:
        raise Conflict("there is a conversation with this id already: use another, or leave the id out")
    fields: dict[str, Any] = dict.fromkeys(_CHANGEABLE)
    fields |= {
        "title": "",
        "title_source": "words",
        "retention": "default",
        "pinned": False,
        "archived": False,
        "temporary": False,
    } | values
    fields["own_idle_h"] = retention_hours(fields["retention"])
    key = tx.insert(
        INSERT_CONVERSATION,
        owner=owner,
        id=conversation_id,
        leaf_id=None,
        leaf_branch=None,
        leaf_depth=0,
        next_turn=1,
        message_count=0,
        created_at_ms=now_ms,
        last_message_at_ms=now_ms,
        **fields,
    )
    if fields["title"]:
        note_title(tx, key)


def change_conversation(
    tx: Transaction, owner: str, conversation_id: str, changes: dict[str, Any], leaf_id: str | None
) -> Any:
    """Change some columns, and the active branch's tip where `leaf_id` names one; return the new row.

    Raises:
        NotFound: No such conversation, or no such message in it.
        Conflict: The tip is no reply, or replies are being made.
    """
    row = tx.one(_FIND_LOCKED, owner=owner, id=conversation_id)
    if row is None:
        raise NotFound("there is no conversation with this id")
    leaf = (row.leaf_id, row.leaf_branch, row.leaf_depth)
    if leaf_id is not None and leaf_id != row.leaf_id:
        tip = tx.one(_TIP, id=leaf_id, conversation_key=row.key)
        if tip is None:
            raise NotFound("there is no message with this id in the conversation")
        if tip.role != "assistant":
            raise Conflict("a branch ends in a reply: name one of the assistant's messages")
        if tx.one(_UNFINISHED, conversation_key=row.key).number:
            raise Conflict("a reply is being made: change the branch when it has ended, or stop it")
        leaf = (tip.id, tip.branch, tip.depth)
    values = {f"new_{name}": changes.get(name, getattr(row, name)) for name in _CHANGEABLE}
    tx.run(
        _UPDATE,
        conversation_key=row.key,
        new_leaf_id=leaf[0],
        new_leaf_branch=leaf[1],
        new_leaf_depth=leaf[2],
        owner=owner,
        new_own_idle_h=retention_hours(values["new_retention"]),
        **values,
    )
    if values["new_title"] != row.title:
        note_title(tx, row.key)
    return tx.one(_FIND, owner=owner, id=conversation_id)


def rename_by_model(tx: Transaction, owner: str, conversation_id: str, key: int, title: str) -> bool:
    """Replace a title of first words by a model's; return whether it was still one."""
    values = {"of_owner": owner, "conversation_id": conversation_id, "conversation_key": key, "new_title": title}
    if tx.run(_RENAME, **values) != 1:
        return False
    note_title(tx, key)
    return True


def delete_conversation(tx: Transaction, owner: str, conversation_id: str) -> int | None:
    """Delete a conversation with all that belongs to it; return its internal key, or None if there is none.

    Raises:
        LegalHold: It is held, or all that its owner has.
    """
    row = tx.one(_FIND_TO_DELETE, owner=owner, id=conversation_id)
    if row is None:
        return None
    if row.held_at_ms is not None:
        raise LegalHold("this conversation is held: nobody may delete it until an administrator lets it go")
    check_owner_not_held(tx, owner)
    delete_found(tx, owner, conversation_id, row.key)
    return row.key  # type: ignore[no-any-return]


def delete_found(tx: Transaction, owner: str, conversation_id: str, key: int, *, of_owner: bool = False) -> None:
    """Delete a conversation that this transaction holds, with all that belongs to it.

    Args:
        of_owner: Everything that its owner has is being erased: what is elsewhere is found by the owner then.
    """
    keep_totals(tx, key)
    delete_logs(tx, key)
    if not of_owner:
        forget_conversation(tx, owner, conversation_id)
        note_erased(tx, owner, conversation_id)
    shred(tx, key)
    tx.run(_DELETE, owner=owner, conversation_key=key)
    tx.run(_DELETE_STATE, owner=owner, state_group=state_group(conversation_id))
    note_delete(tx)


def fork_conversation(
    tx: Transaction,
    owner: str,
    conversation_id: str,
    *,
    new_id: str,
    message_id: str | None,
    prefix: str,
    title: str | None,
    now_ms: int,
) -> Any:
    """Copy the path to a message into a new conversation; return its row.

    Args:
        message_id: The last message of the copy; None takes the active branch as it is.
        prefix: Beginning of the new messages' ids; their depth follows.

    Raises:
        NotFound: No such conversation or message.
        Conflict: The id is taken, or the path holds a reply that is still being made.
    """
    row = tx.one(_FIND_LOCKED, owner=owner, id=conversation_id)
    if row is None:
        raise NotFound("there is no conversation with this id")
    if tx.one(_FIND, owner=owner, id=new_id) is not None:
        raise Conflict("there is a conversation with this id already: use another, or leave the id out")
    depth = 0
    if (tip_id := message_id or row.leaf_id) is not None:
        tip = tx.one(_TIP, id=tip_id, conversation_key=row.key)
        if tip is None:
            raise NotFound("there is no message with this id in the conversation")
        if tip.status in ("running", "queued") or (
            message_id is None and tx.one(_UNFINISHED, conversation_key=row.key).number
        ):
            raise Conflict("a reply is being made: name an earlier message, or fork when it has ended")
        if tip.role != "assistant":
            raise Conflict("a branch ends in a reply: name one of the assistant's messages")
        depth = tip.depth
    new_key = tx.insert(
        INSERT_CONVERSATION,
        owner=owner,
        id=new_id,
        title=title if title is not None else row.title,
        title_source="user" if title is not None else row.title_source,
        system_prompt=row.system_prompt,
        model=row.model,
        temperature=row.temperature,
        max_tokens=row.max_tokens,
        metadata=row.metadata,
        retention=row.retention,
        own_idle_h=retention_hours(row.retention),
        pinned=False,
        archived=False,
        temporary=row.temporary,
        leaf_id=f"{prefix}{depth}" if depth else None,
        leaf_branch=f"{prefix}1" if depth else None,
        leaf_depth=depth,
        next_turn=depth // 2 + 1,
        message_count=depth,
        created_at_ms=now_ms,
        last_message_at_ms=now_ms,
    )
    if depth:
        values = {"prefix": prefix, "new_key": new_key, "tip_id": tip_id, "conversation_key": row.key}
        if tx.sealing is None:
            tx.run(_COPY, **values)
        else:
            copy_sealed(tx, **values)
    else:
        note_title(tx, new_key)
    return tx.one(_FIND, owner=owner, id=new_id)

"""The transactions of a turn: start, end, adopt, stop. Each is one function of a transaction.

The rules that only the database can hold are here: one active run a conversation, turns in the order they came, an
end only under the present epoch and only where nobody asked to stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

from sqlalchemy import and_, bindparam, func, insert, or_, select, update

from legato.core.errors import (
    ConversationBusy,
    Gone,
    InvalidRequest,
    KeyReused,
    LegatoError,
    NotFound,
)
from legato.core.event import SCHEMA_VERSION, LogItem, StopCause
from legato.core.run import RunState
from legato.storage.codec import PACKED_FORMAT, SEGMENT_FORMAT, encode_segment
from legato.storage.committer import INSERT_SEGMENT
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import (
    IS_QUEUED,
    IS_RUNNING,
    IS_UNFINISHED,
    conversation,
    message,
    request_key,
    run,
    run_log,
    segment,
)

REQUEST_KEY_MS: Final = 24 * 3600 * 1000
"""How long an idempotency key is known."""


def _insert_all(table: Any, *, without: str = "") -> Prepared:
    names = [column.name for column in table.columns if column.name != without]
    return Prepared(insert(table).values({name: bindparam(name) for name in names}))


_SELECT_KEY = Prepared(
    select(request_key.c.body_hash, request_key.c.run_id).where(
        request_key.c.owner == bindparam("owner"),
        request_key.c.key == bindparam("key"),
        request_key.c.created_at_ms > bindparam("since_ms"),
    )
)
_INSERT_KEY = _insert_all(request_key)
_DELETE_KEYS = Prepared(
    request_key.delete().where(
        request_key.c.key.in_(
            select(request_key.c.key)
            .where(request_key.c.created_at_ms <= bindparam("before_ms"))
            .order_by(request_key.c.created_at_ms)
            .limit(500)
        ),
        request_key.c.created_at_ms <= bindparam("before_ms"),
    )
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
    ).where(conversation.c.owner == bindparam("owner"), conversation.c.id == bindparam("id"))
)
INSERT_CONVERSATION = _insert_all(conversation, without="key")
_SELECT_WAITING = Prepared(
    select(
        select(func.count())
        .select_from(run)
        .where(run.c.conversation_key == bindparam("conversation_key"), IS_QUEUED)
        .scalar_subquery()
        .label("queued"),
        select(func.count())
        .select_from(run)
        .where(run.c.conversation_key == bindparam("conversation_key"), IS_RUNNING)
        .scalar_subquery()
        .label("running"),
    )
)
_SELECT_PLACE = Prepared(
    select(message.c.branch, message.c.depth, message.c.role, message.c.parent_id).where(
        message.c.id == bindparam("id"),
        message.c.owner == bindparam("owner"),
        message.c.conversation_key == bindparam("conversation_key"),
    )
)
_SELECT_TAKEN = Prepared(
    select(message.c.key).where(
        message.c.conversation_key == bindparam("conversation_key"),
        message.c.branch == bindparam("branch"),
        message.c.depth == bindparam("depth"),
    )
)
INSERT_MESSAGE = _insert_all(message, without="key")
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
_INSERT_RUN = _insert_all(run, without="key")
_RUNS = select(
    *run.columns,
    conversation.c.id.label("conversation_id"),
    conversation.c.system_prompt.label("conversation_system_prompt"),
    conversation.c.model.label("conversation_model"),
    conversation.c.temperature.label("conversation_temperature"),
    conversation.c.max_tokens.label("conversation_max_tokens"),
).join(conversation, conversation.c.key == run.c.conversation_key)
_SELECT_RUN = Prepared(_RUNS.where(run.c.id == bindparam("id"), run.c.owner == bindparam("owner")))
_END_RUN = Prepared(
    update(run)
    .where(
        run.c.key == bindparam("run_key"),
        run.c.epoch == bindparam("run_epoch"),
        IS_UNFINISHED,
        or_(run.c.stop_by.is_(None), run.c.stop_by == bindparam("stopped_by")),
    )
    .values(
        state=bindparam("new_state"),
        model=bindparam("used_model"),
        calls=bindparam("made_calls"),
        usage=bindparam("used"),
        finish_reason=bindparam("reason"),
        error=bindparam("fault"),
        first_token_at_ms=bindparam("first_ms"),
        ended_at_ms=bindparam("now_ms"),
    )
)
_SELECT_STOP = Prepared(select(run.c.stop_by, run.c.epoch, run.c.state).where(run.c.key == bindparam("run_key")))
_COUNT_MESSAGES = Prepared(
    update(conversation)
    .where(conversation.c.key == bindparam("conversation_key"))
    .values(
        message_count=conversation.c.message_count + bindparam("added"),
        last_message_at_ms=bindparam("now_ms"),
    )
    .returning(conversation.c.message_count)
)
_END_MESSAGE = Prepared(
    update(message)
    .where(message.c.id == bindparam("message_id"))
    .values(
        parts=bindparam("new_parts"),
        status=bindparam("new_status"),
        model=bindparam("used_model"),
        usage=bindparam("used"),
        created_at_ms=bindparam("now_ms"),
    )
)
_INSERT_LOG = _insert_all(run_log)
_SELECT_NEXT = Prepared(
    _RUNS.where(run.c.conversation_key == bindparam("conversation_key"), IS_QUEUED).order_by(run.c.turn).limit(1)
)
_PROMOTE = Prepared(
    update(run)
    .where(run.c.key == bindparam("run_key"), IS_QUEUED)
    .values(state="running", started_at_ms=bindparam("now_ms"))
)
_STATUS = Prepared(
    update(message).where(message.c.id == bindparam("message_id")).values(status=bindparam("new_status"))
)
# Sorted afterwards: asked to order by key, SQLite reads the whole table in that order.
_SELECT_RUNNING = Prepared(_RUNS.where(IS_RUNNING))
_SELECT_QUEUED = Prepared(_RUNS.where(IS_QUEUED))
_SELECT_SEGMENTS = Prepared(select(segment).order_by(segment.c.id))
_ADOPT = Prepared(
    update(run)
    .where(run.c.key == bindparam("run_key"), run.c.epoch == bindparam("seen"))
    .values(epoch=run.c.epoch + 1, takeovers=run.c.takeovers + 1)
)
_HAND_OVER = Prepared(update(run).where(IS_RUNNING, run.c.takeovers >= 0).values(takeovers=run.c.takeovers - 1))
_STOP = Prepared(
    update(run)
    .where(
        run.c.id == bindparam("run_id"),
        run.c.owner == bindparam("of_owner"),
        IS_UNFINISHED,
        run.c.stop_by.is_(None),
    )
    .values(stop_by=bindparam("cause"))
)
_SELECT_LOG = Prepared(
    select(run_log.c.schema, run_log.c.format, run_log.c.data)
    .join(run, run.c.key == run_log.c.run_key)
    .where(run.c.id == bindparam("id"), run.c.owner == bindparam("owner"))
)
_PRUNE = Prepared(segment.delete().where(and_(segment.c.id >= bindparam("first"), segment.c.id < bindparam("end"))))
_FIRST_SEGMENT = Prepared(select(func.min(segment.c.id).label("id")))

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


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedTurn:
    """What starting a turn brought. `queued`: turns before it in its conversation; 0 means that it runs."""

    key: int
    conversation_key: int
    turn: int
    ahead: int
    user_message_id: str
    message_id: str
    history: bool
    """Whether there are messages before the user's."""
    system_prompt: str | None
    model: str | None
    temperature: float | None
    max_tokens: int | None
    segment_id: int
    items: list[LogItem]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTurn:
    """The key was used before, with the same body: this is the run that it began."""

    run_id: str


class FirstItems(Protocol):
    """Makes the first events of a log, once it is known how many turns are ahead and which question is answered."""

    def __call__(self, *, ahead: int, user_message_id: str, model: str | None) -> list[LogItem]: ...


def start_turn(tx: Transaction, new: NewTurn, first_items: FirstItems) -> StartedTurn | KnownTurn:
    """Save the message and begin its run, in one transaction.

    Raises:
        KeyReused, Gone: The idempotency key belongs to another body, or to a run that was deleted.
        NotFound: No such conversation, where it is not to be made.
        InvalidRequest: `parent` or `regenerate` names no fitting message.
        ConversationBusy: `max_waiting` turns wait already.
        LegatoError: `new.refusal`.
    """
    if new.key is not None:
        known = tx.one(_SELECT_KEY, owner=new.owner, key=new.key, since_ms=new.now_ms - REQUEST_KEY_MS)
        if known is not None:
            return _known_turn(tx, new, known)
    if new.refusal is not None:
        raise new.refusal
    found = tx.one(_SELECT_CONVERSATION, owner=new.owner, id=new.conversation_id)
    if found is None and not new.create:
        raise NotFound("there is no conversation with this id")
    ahead = 0
    branch, depth, parent_id, user_message_id = new.user_message_id, 0, None, new.user_message_id
    if found is not None:
        waiting = tx.one(_SELECT_WAITING, conversation_key=found.key)
        ahead = waiting.queued + waiting.running
        if waiting.queued >= new.max_waiting:
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

    if new.key is not None:
        tx.run(_DELETE_KEYS, before_ms=new.now_ms - REQUEST_KEY_MS)
        tx.run(
            _INSERT_KEY,
            owner=new.owner,
            key=new.key,
            body_hash=new.body_hash,
            run_id=new.run_id,
            created_at_ms=new.now_ms,
        )
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
    key = tx.insert(
        _INSERT_RUN,
        id=new.run_id,
        conversation_key=conversation_key,
        owner=new.owner,
        session_id=new.session_id,
        turn=turn,
        state="queued" if ahead else "running",
        epoch=0,
        takeovers=0,
        stop_by=None,
        user_message_id=user_message_id,
        message_id=new.message_id,
        asks=1 if new.regenerate is None else 0,
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
    )
    items = first_items(
        ahead=ahead,
        user_message_id=user_message_id,
        model=found.model if found is not None else None,
    )
    return StartedTurn(
        key=key,
        conversation_key=conversation_key,
        turn=turn,
        ahead=ahead,
        user_message_id=user_message_id,
        message_id=new.message_id,
        history=reply_depth > 2,
        system_prompt=found.system_prompt if found is not None else None,
        model=found.model if found is not None else None,
        temperature=found.temperature if found is not None else None,
        max_tokens=found.max_tokens if found is not None else None,
        segment_id=insert_segment(tx, key, 0, 0, items),
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


def knows_key(tx: Transaction, owner: str, key: str, now_ms: int) -> bool:
    """Whether an idempotency key was used within the last 24 hours."""
    return tx.one(_SELECT_KEY, owner=owner, key=key, since_ms=now_ms - REQUEST_KEY_MS) is not None


def _known_turn(tx: Transaction, new: NewTurn, known: Any) -> KnownTurn:
    if known.body_hash != new.body_hash:
        raise KeyReused.of("Idempotency-Key", "was used before with another body: use a new key for a new message")
    if tx.one(_SELECT_RUN, id=known.run_id, owner=new.owner) is None:
        raise Gone("the reply that this key began has been deleted")
    return KnownTurn(run_id=known.run_id)


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


def insert_segment(tx: Transaction, run_key: int, first_seq: int, epoch: int, items: list[LogItem]) -> int:
    """Write one segment inside a larger transaction; return its id."""
    return tx.insert(
        INSERT_SEGMENT,
        run_key=run_key,
        first_seq=first_seq,
        count=len(items),
        epoch=epoch,
        schema=SCHEMA_VERSION,
        format=SEGMENT_FORMAT,
        data=encode_segment(items),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedTurn:
    """How a run ended, as its row and its message keep it. JSON fields are text."""

    state: RunState
    status: str
    stopped_by: StopCause | None
    finish_reason: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRows:
    """What ending a run writes, whatever its end."""

    run_key: int
    epoch: int
    conversation_key: int
    message_id: str
    parts: str
    model: str | None
    calls: int
    usage: str | None
    first_token_at_ms: int | None
    now_ms: int


class Fenced(Exception):
    """The run is no longer this process's: adopted under a higher epoch, ended, or deleted."""


def end_run(tx: Transaction, rows: TurnRows, end: EndedTurn) -> StopCause | None:
    """End the run's row; return None, or the cause of a stop that came before this end and goes first.

    Raises:
        Fenced: The row is no longer at `rows.epoch`, or no longer running.
    """
    changed = tx.run(
        _END_RUN,
        run_key=rows.run_key,
        run_epoch=rows.epoch,
        new_state=end.state.value,
        stopped_by=end.stopped_by,
        used_model=rows.model,
        made_calls=rows.calls,
        used=rows.usage,
        reason=end.finish_reason,
        fault=end.error,
        first_ms=rows.first_token_at_ms,
        now_ms=rows.now_ms,
    )
    if changed:
        return None
    row = tx.one(_SELECT_STOP, run_key=rows.run_key)
    if row is None or row.epoch != rows.epoch or row.state not in ("running", "queued"):
        raise Fenced
    return row.stop_by  # type: ignore[no-any-return]


def end_message(tx: Transaction, rows: TurnRows, status: str, *, added: int) -> int:
    """Write the reply and return the conversation's number of messages, `added` more than before."""
    tx.run(
        _END_MESSAGE,
        message_id=rows.message_id,
        new_parts=rows.parts,
        new_status=status,
        used_model=rows.model,
        used=rows.usage,
        now_ms=rows.now_ms,
    )
    row = tx.one(
        _COUNT_MESSAGES,
        conversation_key=rows.conversation_key,
        added=added,
        now_ms=rows.now_ms,
    )
    return row.message_count  # type: ignore[no-any-return]


def insert_log(tx: Transaction, run_key: int, count: int, data: bytes) -> None:
    """Write the packed log of an ended run."""
    tx.run(
        _INSERT_LOG,
        run_key=run_key,
        count=count,
        schema=SCHEMA_VERSION,
        format=PACKED_FORMAT,
        data=data,
    )


def promote_next(tx: Transaction, conversation_key: int, now_ms: int) -> Any | None:
    """Let the conversation's next waiting turn run, if nothing else does; return its row."""
    if tx.one(_SELECT_WAITING, conversation_key=conversation_key).running:
        return None
    following = tx.one(_SELECT_NEXT, conversation_key=conversation_key)
    if following is None:
        return None
    tx.run(_PROMOTE, run_key=following.key, now_ms=now_ms)
    tx.run(_STATUS, message_id=following.message_id, new_status="running")
    # Its question counts as a message from now on.
    tx.run(
        _COUNT_MESSAGES,
        conversation_key=conversation_key,
        added=following.asks,
        now_ms=now_ms,
    )
    return following


def stop_run(tx: Transaction, owner: str, run_id: str, cause: StopCause) -> bool:
    """Record the intent to stop; return whether it is new. An ended run stays as it is."""
    return tx.run(_STOP, run_id=run_id, of_owner=owner, cause=cause) == 1


def find_run(tx: Transaction, owner: str, run_id: str) -> Any | None:
    """Return the run's row with its conversation's id, or None."""
    return tx.one(_SELECT_RUN, id=run_id, owner=owner)


def find_log(tx: Transaction, owner: str, run_id: str) -> Any | None:
    """Return schema, format and data of an ended run's log, or None."""
    return tx.one(_SELECT_LOG, id=run_id, owner=owner)


def adopt_all(tx: Transaction) -> tuple[list[Any], list[Any], list[Any]]:
    """Take every unfinished run under a higher epoch.

    Returns:
        The running runs (as they were before), the waiting ones, and all segments, each in order of making.
    """
    running = sorted(tx.all(_SELECT_RUNNING), key=lambda row: row.key)
    queued = sorted(tx.all(_SELECT_QUEUED), key=lambda row: row.key)
    for row in running:
        tx.run(_ADOPT, run_key=row.key, seen=row.epoch)
    return running, queued, tx.all(_SELECT_SEGMENTS)


def hand_over(tx: Transaction) -> None:
    """Say that the running runs are left on purpose: adopting them does not count as a crash."""
    tx.run(_HAND_OVER)


def prune_segments(tx: Transaction, floor: int | None, limit: int) -> bool:
    """Delete up to `limit` segments below `floor` (None: all); return whether more are left."""
    first = tx.one(_FIRST_SEGMENT).id
    if first is None or (floor is not None and first >= floor):
        return False
    end = first + limit if floor is None else min(floor, first + limit)
    tx.run(_PRUNE, first=first, end=end)
    return floor is None or end < floor

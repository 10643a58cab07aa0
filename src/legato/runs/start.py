"""Starts a turn: the message and its run are saved in one transaction, then the reply is begun."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from legato.core.errors import BudgetExceeded, InvalidRequest, LegatoError, MessageTooLong, RateLimited
from legato.core.event import CallStarted, LogItem, RunStarted
from legato.core.ids import new_id
from legato.core.principal import Principal
from legato.core.run_errors import ContextExceeded
from legato.core.text import first_words, utf16_length
from legato.runs.context import DEFAULT_MAX_TOKENS, fit, parts_text
from legato.runs.execute import begin
from legato.runs.foresee import Foreseen, foresee
from legato.runs.live import LiveRun, RunRequest
from legato.runs.moderate import Posting
from legato.runs.node import Node
from legato.runs.tail import Tail
from legato.storage.budget_holds import UsesMissing
from legato.storage.committer import Command
from legato.storage.conversations import find_conversation
from legato.storage.request_keys import knows_key
from legato.storage.reviews import NewReview, insert_reviews
from legato.storage.statement import Transaction
from legato.storage.turns import KnownTurn, NewTurn, StartedTurn, start_turn

SURE_TO_FIT_CHARS = 1024
"""A message up to here is not measured before it is saved: every model's window holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """What a client posts.

    Attributes:
        conversation_id: None makes a new conversation with an id of the server's.
        parent: LEAF (storage.turns), the id of the reply that it follows, or None for a new first message.
        regenerate: Id of the reply of which a sibling is wanted; then there is no text.
        metadata: JSON text.
        key: Idempotency key; `body_hash` tells a repeat from another message.
        trace_id: Of the request that posts it; what the reply causes carries it too.
        address: Of the client, where limits are kept by address.
        reviews: What policies want somebody to look at of it.
        key_id: Of the key by which it is posted.
    """

    text: str
    session_id: str | None
    conversation_id: str | None
    request: RunRequest
    parent: object
    regenerate: str | None = None
    metadata: str | None = None
    key: str | None = None
    body_hash: bytes = b""
    trace_id: str | None = None
    address: str | None = None
    reviews: tuple[NewReview, ...] = ()
    key_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The run that answers, and the ids that the client may not know yet. `tail` is None for a repeat of a key."""

    run_id: str
    tail: Tail | None
    conversation_id: str = ""
    session_id: str = ""
    message_id: str = ""
    user_message_id: str = ""

    @property
    def is_repeat(self) -> bool:
        """Whether nothing was begun: the key was known."""
        return not self.message_id


class StartRun(Command[StartedTurn | KnownTurn]):
    """Writes the turn; takes the run into this process as soon as it is committed."""

    hurries = True

    def __init__(self, node: Node, new: NewTurn, message: NewMessage, foreseen: Foreseen | None = None) -> None:
        self._node = node
        self._new = new
        self._foreseen = foreseen
        self._request = message.request
        self._text = message.text
        self._trace_id = message.trace_id
        self._reviews = message.reviews
        self.run: LiveRun | None = None

    def apply(self, tx: Transaction) -> StartedTurn | KnownTurn:
        started = start_turn(tx, self._new, self._first_items)
        if self._reviews and isinstance(started, StartedTurn):
            insert_reviews(
                tx,
                self._reviews,
                owner=self._new.owner,
                conversation_id=self._new.conversation_id,
                conversation_key=started.conversation_key,
                run_id=self._new.run_id,
                now_ms=self._new.now_ms,
            )
        return started

    def committed(self, value: StartedTurn | KnownTurn) -> None:
        if isinstance(value, KnownTurn):
            return
        new, node = self._new, self._node
        if node.key is not None and (value.ahead or not node.owns(value.node_key)):
            # Whoever ends the turn before makes it; or another node does, which has fenced this one since.
            return
        tail = Tail(run_id=new.run_id, owner=new.owner, key=value.key)
        tail.publish(value.items)
        self.run = run = LiveRun(
            tail=tail,
            conversation_key=value.conversation_key,
            conversation_id=new.conversation_id,
            turn=value.turn,
            user_message_id=value.user_message_id,
            message_id=value.message_id,
            request=self._request.over(value),
            queued=value.ahead > 0,
            history=value.history or new.regenerate is not None,
            segment_id=value.segment_id,
            began_s=node.clock.monotonic_s(),
            key_id=new.key_id,
        )
        if self._foreseen is not None and not run.queued:
            run.held = self._foreseen.held()
        if not run.history:
            run.question = self._text
        node.live[run.id] = run
        if not run.queued:
            begin(node, run, first_call_logged=len(value.items) > 1)

    def _first_items(self, *, ahead: int, user_message_id: str, parts: str, model: str | None) -> list[LogItem]:
        new = self._new
        items: list[LogItem] = [
            RunStarted(
                conversation_id=new.conversation_id,
                session_id=new.session_id,
                user_message_id=user_message_id,
                message_id=new.message_id,
                at_ms=new.now_ms,
                ahead=ahead,
                request_key=new.key,
                message_length=utf16_length(parts_text(parts)),
                trace_id=self._trace_id,
            )
        ]
        if not ahead and self._request.blocked is None:
            try:
                first = self._node.models.chain(self._request.model or model)[0]
            except InvalidRequest:
                # The conversation's model is no longer configured: the run will say so.
                return items
            items.append(CallStarted(epoch=0, provider=first.kind, model=first.name, reason="first"))
        return items


async def start(node: Node, principal: Principal, message: NewMessage) -> Started:
    """Save a message and begin the reply to it.

    Raises:
        LegatoError: As storage.turns.start_turn; Draining, Overloaded, StorageUnavailable; InvalidRequest for a
            model that is not configured; MessageTooLong; RateLimited. Nothing is saved then, and nothing counted.
    """
    now_ms = node.clock.now_ms()
    session_id = message.session_id or new_id("s", now_ms)
    key, limits = message.key, node.limits if principal.role != "visitor" else node.visitor_limits
    # A repeat gets the reply that it began, whatever has been configured or counted since.
    known = key is not None and await node.database.read(lambda tx: knows_key(tx, principal.id, key, now_ms))
    if limits is None or known or principal.role == "app":
        return await _save(node, principal, message, session_id, now_ms, known)
    try:
        taken = await limits.take(principal.id, session_id, message.address)
    except RateLimited as error:
        if key is None:
            raise
        # The key may be on its way to the disk with another request: the transaction looks for it, then refuses.
        return await _save(node, principal, message, session_id, now_ms, known, error)
    try:
        started = await _save(node, principal, message, session_id, now_ms, known)
    except LegatoError:
        await limits.give_back(taken)
        raise
    if started.is_repeat:
        await limits.give_back(taken)
    return started


async def _save(
    node: Node,
    principal: Principal,
    message: NewMessage,
    session_id: str,
    now_ms: int,
    known: bool,
    refusal: LegatoError | None = None,
) -> Started:
    """Save the message unless its key was used before, or `refusal` says why not.

    Args:
        known: Whether the key was found already.
    """
    conversation_id, run_id = message.conversation_id or new_id("c", now_ms), new_id("r", now_ms)
    foreseen: Foreseen | None = None
    if not known and refusal is None:
        if message.request.model is not None:
            node.models.find(message.request.model)
        if node.moderation is not None:
            message = await _moderated(node, principal, message, conversation_id, session_id, run_id)
        await _check_length(node, principal, conversation_id, message)
        try:
            turn_ids = {"conversation_id": conversation_id, "session_id": session_id, "run_id": run_id}
            if message.request.blocked is None:
                foreseen = await foresee(node, principal, message, now_ms=now_ms, **turn_ids)
        except BudgetExceeded as error:
            refusal = error
    await node.wait_to_go()
    refusal = refusal or node.refusal()
    if refusal is None and node.admission is not None:
        refusal = await node.admission.refusal()
    # From here on nothing else runs until it is counted among those that are starting.
    new = NewTurn(
        owner=principal.id,
        conversation_id=conversation_id,
        session_id=session_id,
        run_id=run_id,
        user_message_id=new_id("m", now_ms),
        message_id=new_id("m", now_ms),
        parts=_text_parts(message.text),
        title=first_words(message.text),
        metadata=message.metadata,
        request=message.request.to_json(),
        parent=message.parent,
        regenerate=message.regenerate,
        create=message.regenerate is None,
        key=message.key,
        body_hash=message.body_hash,
        max_waiting=node.settings.max_waiting_turns,
        now_ms=now_ms,
        refusal=refusal,
        key_id=message.key_id,
        reserve=foreseen.reserve if foreseen is not None else None,
    )
    # What is refused may still be a repeat of a known key, which begins nothing.
    begins = int(refusal is None)
    node.starting += begins
    try:
        turn = await _start(node, new, message, foreseen)
    finally:
        node.starting -= begins
    if isinstance(turn, KnownTurn):
        return Started(run_id=turn.run_id, tail=None)
    run = node.live.get(new.run_id)
    return Started(
        run_id=new.run_id,
        tail=run.tail if run is not None else None,
        conversation_id=conversation_id,
        session_id=new.session_id,
        message_id=new.message_id,
        user_message_id=turn.user_message_id,
    )


async def _start(node: Node, new: NewTurn, message: NewMessage, foreseen: Foreseen | None) -> StartedTurn | KnownTurn:
    """Write the turn, once what it reserves can be counted."""
    while True:
        command = StartRun(node, new, message, foreseen)
        try:
            return await node.committer.execute(command, wait_s=node.settings.storage_wait_s)
        except UsesMissing:
            assert foreseen is not None
            await foreseen.make()
        except BudgetExceeded:
            if foreseen is not None:
                foreseen.refused()
            raise


async def _moderated(
    node: Node, principal: Principal, message: NewMessage, conversation_id: str, session_id: str, run_id: str
) -> NewMessage:
    """Return a message as the policies leave it: what is kept, searched, shown and sent is that."""
    assert node.moderation is not None
    posting = Posting(
        owner=principal.id,
        key_id=message.key_id,
        session_id=session_id,
        conversation_id=conversation_id,
        run_id=run_id,
    )
    left = await node.moderation.message(principal, message.text, message.request, message.metadata, posting)
    return replace(message, text=left.text, request=left.request, metadata=left.metadata, reviews=left.reviews)


async def _check_length(node: Node, principal: Principal, conversation_id: str, message: NewMessage) -> None:
    """Refuse a message that the model could not take even alone."""
    request = message.request
    if len(message.text) + len(request.system_prompt or "") <= SURE_TO_FIT_CHARS:
        return
    found = await node.database.read(lambda tx: find_conversation(tx, principal.id, conversation_id))
    model = request.model or (found.model if found else None)
    system = request.system_prompt
    if system is None:
        system = (found.system_prompt if found else None) or node.settings.system_prompt
    max_tokens = request.max_tokens or (found.max_tokens if found else None) or DEFAULT_MAX_TOKENS
    try:
        provider = node.models.chain(model)[0]
    except InvalidRequest:
        return
    try:
        await fit(provider, system=system, history=(), question=message.text, max_tokens=max_tokens)
    except ContextExceeded as error:
        raise MessageTooLong(error.message) from error


def _text_parts(text: str) -> str:
    return msgspec.json.encode([{"type": "text", "text": text}]).decode()

"""The service of conversations and their messages, for the API and for steps: what one principal may see and do.

Every method may raise InvalidRequest (an argument is wrong; nothing was done) and StorageUnavailable (the database is
away). What is another's is not found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar, Unpack

from pydantic import TypeAdapter

from legato.core.errors import NotFound
from legato.core.ids import new_id
from legato.core.principal import Principal
from legato.core.resources import (
    Conversation,
    ConversationPage,
    Feedback,
    Message,
    MessageLogPage,
    MessagePage,
    Thumb,
)
from legato.runs import conversation_settings
from legato.runs.audit import Actor, actor_of_principal, audit
from legato.runs.delete import DeleteConversation, ExpirePage
from legato.runs.feedback import WriteFeedback, judged_feedback
from legato.runs.inputs import (
    BEFORE_KEYS,
    BEGINNING,
    LATEST_MS,
    ConversationChanges,
    FirstSettings,
    Id,
    Text,
    Title,
    check_limit,
    check_number,
    checked,
    cursor_of,
    place_of,
)
from legato.runs.keeping import mark_changed
from legato.runs.node import Node
from legato.runs.rows import conversation_of, message_of
from legato.storage.conversations import find_conversation, list_conversations, list_ids
from legato.storage.followed import find_said
from legato.storage.message_log import Wanted, find_logged
from legato.storage.messages import find_message, find_page, find_siblings, find_siblings_of_page
from legato.storage.retention import FIRST, Expiring, Place
from legato.storage.statement import Transaction

PAUSE_S: Final = 0.01
"""Between two pages of conversations that are deleted because their time is over."""
HOUR_MS: Final = 3_600_000
MARKED_MS: Final = 24 * HOUR_MS
"""So long after a principal's settings have changed each cleanup marks its conversations anew."""

T = TypeVar("T")

_SETTINGS = TypeAdapter(FirstSettings)
_CHANGES = TypeAdapter(ConversationChanges)
_ID = TypeAdapter(Id)
_TITLE = TypeAdapter(Title | None)
_THUMB = TypeAdapter(Thumb | None)
_REASON = TypeAdapter(Text | None)


class Conversations:
    """The conversations of one principal.

    Args:
        trace_id: Of what causes the calls; the events of feedback carry it.
        actor: Who the audit log says it was; by default a step of the principal.
    """

    def __init__(
        self, node: Node, principal: Principal, *, trace_id: str | None = None, actor: Actor | None = None
    ) -> None:
        self._node = node
        self._principal = principal
        self._actor = actor or actor_of_principal(principal)
        self._owner = principal.id
        self._trace_id = trace_id

    async def create(self, conversation_id: str | None = None, **settings: Unpack[FirstSettings]) -> Conversation:
        """Make an empty conversation.

        Args:
            conversation_id: 1 to 200 printable characters; None makes one.

        Raises:
            Conflict: There is one with this id.
        """
        columns = conversation_settings.first_columns(self._node, checked(_SETTINGS, settings))
        now_ms = self._node.clock.now_ms()
        name = new_id("c", now_ms) if conversation_id is None else checked(_ID, conversation_id, "id")
        reviews = await conversation_settings.judged(self._node, self._owner, name, columns)
        row = await self._write(
            lambda tx: conversation_settings.make(tx, self._owner, name, columns, reviews=reviews, now_ms=now_ms)
        )
        return conversation_of(row)

    async def get(self, conversation_id: str) -> Conversation:
        """Return a conversation.

        Raises:
            NotFound: There is none with this id.
        """
        row = await self._read(lambda tx: find_conversation(tx, self._owner, conversation_id))
        return conversation_of(_found(row, "conversation"))

    async def list(
        self, *, cursor: str | None = None, limit: int = 50, archived: bool = False, pinned: bool | None = None
    ) -> ConversationPage:
        """Return conversations, the one with the latest message first; temporary ones are never among them.

        Args:
            cursor: `next_cursor` of the page before; the other arguments must be the same.
            limit: 1 to 1,000.
            archived: Those that are archived, or those that are not.
            pinned: Only those that are pinned, or that are not; None: both.
        """
        check_limit(limit)
        behind = place_of(cursor, (LATEST_MS, LATEST_MS))
        rows = await self._read(
            lambda tx: list_conversations(tx, self._owner, behind, limit + 1, archived=bool(archived), pinned=pinned)
        )
        page = rows[:limit]
        following = cursor_of(page[-1].last_message_at_ms, page[-1].key) if len(rows) > limit else None
        return ConversationPage(conversations=tuple(map(conversation_of, page)), next_cursor=following)

    async def ids(self, *, after: str | None = None, limit: int = 50) -> Sequence[str]:
        """Return up to `limit` ids of conversations in their order, from behind `after` on."""
        check_limit(limit)
        return await self._read(lambda tx: list_ids(tx, self._owner, after or "", limit))

    async def change(self, conversation_id: str, **changes: Unpack[ConversationChanges]) -> Conversation:
        """Change what is named; None goes back to the default, and the title to the first words.

        Raises:
            NotFound: There is no such conversation, or no such message in it.
            Conflict: `leaf_id` names no reply, or a reply is being made.
        """
        given = checked(_CHANGES, changes)
        leaf_id = given.pop("leaf_id", None)
        columns = conversation_settings.changed_columns(self._node, given)
        now_ms = self._node.clock.now_ms()
        reviews = await conversation_settings.judged(self._node, self._owner, conversation_id, columns)
        row = await self._write(
            lambda tx: conversation_settings.change(
                tx, self._owner, conversation_id, columns, leaf_id=leaf_id, reviews=reviews, now_ms=now_ms
            )
        )
        return conversation_of(row)

    async def delete(self, conversation_id: str) -> None:
        """Delete a conversation with its messages, runs, logs and its group of state (core.resources.state_group).

        A reply that is being made is interrupted.

        Raises:
            NotFound: There is none with this id.
            LegalHold: It is held, or all that the principal has.
        """
        command = DeleteConversation(self._node, self._owner, conversation_id, actor=self._actor)
        if not await self._node.committer.execute(command, wait_s=self._node.settings.storage_wait_s):
            raise NotFound("there is no conversation with this id")

    async def fork(
        self,
        conversation_id: str,
        *,
        message_id: str | None = None,
        copy_id: str | None = None,
        title: str | None = None,
    ) -> Conversation:
        """Copy a conversation up to a message into a new one.

        Args:
            message_id: The last message of the copy; None copies the whole active branch.
            copy_id: Id of the new conversation; None makes one.
            title: Of the copy; None takes that of the conversation.

        Raises:
            NotFound: There is no such conversation or message.
            Conflict: The id is taken, or the reply is still being made.
        """
        now_ms = self._node.clock.now_ms()
        name = new_id("c", now_ms) if copy_id is None else checked(_ID, copy_id, "copy_id")
        named = {"title": checked(_TITLE, title, "title")}
        reviews = await conversation_settings.judged(self._node, self._owner, name, named)
        row = await self._write(
            lambda tx: conversation_settings.fork(
                tx,
                self._owner,
                conversation_id,
                name,
                message_id=message_id,
                prefix=new_id("m", now_ms) + "-",
                title=named["title"],
                reviews=reviews,
                now_ms=now_ms,
            )
        )
        return conversation_of(row)

    async def messages(
        self, conversation_id: str, *, leaf_id: str | None = None, after: int = 0, limit: int = 50
    ) -> MessagePage:
        """Return the messages of a branch, oldest first. A reply that is being made has what it said so far.

        Args:
            leaf_id: Last message of another branch than the active one.
            after: How many messages to pass over: `next_cursor` of the page before.
            limit: 1 to 1,000.

        Raises:
            NotFound: There is no such conversation, or no such message in it.
        """
        check_limit(limit)
        check_number("after", after)

        def read(tx: Transaction) -> Any:
            conversation = _found(find_conversation(tx, self._owner, conversation_id), "conversation")
            tip = leaf_id or conversation.leaf_id
            if tip is None:
                return [], {}, {}
            rows = find_page(tx, conversation.key, tip, after, limit + 1)
            if not rows:
                row = find_message(tx, self._owner, tip)
                if row is None or row.conversation_key != conversation.key:
                    raise NotFound("there is no message with this id in the conversation")
            siblings = find_siblings_of_page(tx, conversation.key, tip, after, limit)
            return rows, find_said(tx, rows[:limit], self._node.live), siblings

        rows, said, siblings = await self._read(read)
        page = rows[:limit]
        return MessagePage(
            messages=tuple([message_of(row, self._node, conversation_id, said, siblings) for row in page]),
            next_cursor=page[-1].depth if len(rows) > limit else None,
        )

    async def message(self, message_id: str) -> Message:
        """Return a message.

        Raises:
            NotFound: There is none with this id.
        """

        def read(tx: Transaction) -> Any:
            row = _found(find_message(tx, self._owner, message_id), "message")
            return row, find_said(tx, [row], self._node.live), find_siblings(tx, row.conversation_key, message_id)

        row, said, siblings = await self._read(read)
        return message_of(row, self._node, row.conversation_id, said, siblings)

    async def give_feedback(self, message_id: str, thumb: Thumb | None, reason: str | None = None) -> Message:
        """Say whether a reply was good, and why; a thumb of None takes it back.

        Steps learn of it by the topic `chat.feedback.given`, unless it was so before.

        Raises:
            NotFound: There is no message with this id.
            Conflict: It is no reply.
            InvalidRequest, BudgetExceeded: A policy blocks the reason, or cannot be paid for.
        """
        thumb, reason = checked(_THUMB, thumb, "thumb"), checked(_REASON, reason, "reason")
        now_ms = self._node.clock.now_ms()
        feedback = Feedback(thumb=thumb, reason=reason, at_ms=now_ms) if thumb is not None else None
        feedback, reviews = await judged_feedback(self._node, self._owner, message_id, feedback)
        write = WriteFeedback(
            owner=self._owner,
            message_id=message_id,
            feedback=feedback,
            reviews=reviews,
            event_id=new_id("e", now_ms),
            trace_id=self._trace_id,
            now_ms=now_ms,
        )
        row, kept = await self._node.committer.execute(write, wait_s=self._node.settings.storage_wait_s)

        def read(tx: Transaction) -> Any:
            return find_said(tx, [row], self._node.live), find_siblings(tx, row.conversation_key, message_id)

        said, siblings = await self._read(read)
        return replace(message_of(row, self._node, row.conversation_id, said, siblings), feedback=kept)

    async def log(
        self,
        *,
        conversation_id: str | None = None,
        session_id: str | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> MessageLogPage:
        """Return messages of all conversations and branches, oldest first.

        A reply stands where it was asked for while it is being made, and where it ended afterwards. So whoever reads
        on from a cursor misses none, and may see a reply again when it has ended.

        Args:
            conversation_id: Of this conversation alone.
            session_id: Of this session alone.
            since_ms: Of this time, epoch milliseconds, or later.
            until_ms: Of an earlier time than this.
            cursor: `next_cursor` of the page before; the other arguments must be the same.
            limit: 1 to 1,000.
        """
        check_limit(limit)
        check_number("since_ms", since_ms)
        check_number("until_ms", until_ms)
        wanted = Wanted(
            owner=self._owner,
            conversation_id=conversation_id,
            session_id=session_id,
            behind=max(place_of(cursor, BEGINNING), (since_ms or 0, BEFORE_KEYS)),
            until_ms=LATEST_MS if until_ms is None else until_ms,
            limit=limit + 1,
        )

        def read(tx: Transaction) -> Any:
            rows = find_logged(tx, wanted)
            return rows, find_said(tx, rows[:limit], self._node.live)

        rows, said = await self._read(read)
        page = rows[:limit]
        return MessageLogPage(
            messages=tuple([message_of(row, self._node, row.conversation_id, said) for row in page]),
            next_cursor=cursor_of(page[-1].created_at_ms, page[-1].key) if len(rows) > limit else None,
        )

    async def expire(self, limit: int = 1000) -> int:
        """Delete conversations whose time is over, the longest idle first, with all that belongs to them.

        Those are idle for longer than their retention says, or their owner's, or LEGATO_CONVERSATION_IDLE_H; one
        without messages is idle from its making. Kept are those that are pinned, held or of retention `keep`, and any
        with a reply that is being made or waits. The app
        deletes those of all owners, anybody else their own. A caller that is cut has deleted some.

        Args:
            limit: Most conversations to delete.

        Returns:
            How many were deleted; fewer than `limit` where none is left.
        """
        node, idle_h = self._node, self._node.settings.conversation_idle_h
        of_all = self._principal.role == "app"
        if of_all:
            await mark_changed(node, node.clock.now_ms() - MARKED_MS)
        place: Place | None = FIRST
        deleted = 0
        while place is not None and deleted < limit:
            expiring = Expiring(
                owner=None if of_all else self._owner,
                now_ms=node.clock.now_ms(),
                idle_ms=None if idle_h is None else round(idle_h * HOUR_MS),
                behind=place,
                limit=limit - deleted,
            )
            command = ExpirePage(node, expiring)
            page = await node.committer.execute(command, wait_s=node.settings.storage_wait_s)
            deleted, place = deleted + page.deleted, page.next
            # Whoever waited for the writer goes first.
            await asyncio.sleep(PAUSE_S)
        if deleted:
            await self._write(
                lambda tx: audit(
                    tx,
                    actor=actor_of_principal(self._principal),
                    action="conversation.expire",
                    subject="-",
                    owner=None if of_all else self._owner,
                    detail={"conversations": deleted},
                    at_ms=node.clock.now_ms(),
                )
            )
        return deleted

    async def _read(self, query: Callable[[Transaction], T]) -> T:
        return await self._node.database.read(query)

    async def _write(self, function: Callable[[Transaction], T]) -> T:
        return await self._node.committer.write(function, wait_s=self._node.settings.storage_wait_s)


def _found(row: Any, kind: str) -> Any:
    if row is None:
        raise NotFound(f"there is no {kind} with this id")
    return row

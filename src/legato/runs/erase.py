"""Erasing what a principal has, or what is left of a conversation that was deleted, until nothing of it is anywhere.

An intent comes first: a row of `erasure`, in the transaction that takes the principal's keys away or deletes the
conversation. What follows is done in pages by the node that leads, behind the request, and again from the beginning
after a crash: every page deletes what is there, so it does no harm to do it twice. The row goes when nothing is left:

1. conversations (with messages, runs, logs, their group of state, the search index), whose replies are interrupted and
   whose figures stay without a name;
2. rows that name the principal otherwise;
3. events in the outbox and jobs in the queue, dead letters too;
4. on SQLite the bytes: what is deleted is written over with zeros, the search index is merged into one piece, and the
   write-ahead logs are emptied.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from legato.core.errors import InvalidRequest, LegalHold, LegatoError
from legato.fanout.hint import HintKind
from legato.runs.audit import Actor, audit
from legato.runs.audit_log import cut_off
from legato.runs.node import Node
from legato.runs.prune import READ_S
from legato.runs.stop import let_go
from legato.storage.accounts import forget_owner as forget_accounts
from legato.storage.committer import Command
from legato.storage.conversations import delete_found
from legato.storage.erasures import (
    Erased,
    begin_erasure,
    delete_credentials,
    delete_owned,
    end_erasures,
    erase_events,
    find_erased,
    find_erasure,
    first_segment,
    last_segment,
    list_erasures,
    list_principals,
    lock_erasure,
    next_conversations,
    save_counts,
)
from legato.storage.forgetting import forget_keys, forget_owner
from legato.storage.keeping import check_owner_not_held, forget_kept, held_conversations
from legato.storage.pieces import delete_orphans
from legato.storage.request_keys import prune_keys
from legato.storage.search_index import begin_compaction, compact
from legato.storage.statement import Transaction

log = structlog.get_logger(__name__)

GATHER_S: Final = 0.5
"""How long the first deletion waits for others: they are erased together."""
LOOK_S: Final = 5.0
"""How often what other nodes have deleted is looked for."""
RETRY_S: Final = 1.0
PAUSE_S: Final = 0.01
"""Between two pages: whoever else waits for the writer goes first."""
SHARE: Final = 20.0
"""Behind a round for conversations alone as many times its length passes before the next: merging a large search index
for each of them would keep the disk busy."""
CUT_S: Final = 3600.0
"""How often what is older than it is kept is looked for: entries of the audit log, request keys."""
FIRST_CUT_S: Final = 60.0
"""When it is looked for first, after a start."""
GRACE_MS: Final = 6_000
"""So long a key that is gone may be taken for good elsewhere (http.credentials): what it still does is erased too."""
MOST: Final = 1000
"""Erasures of one round."""


async def erase_principal(node: Node, actor: Actor, owner: str, confirmed: str) -> int:
    """Begin to erase all that a principal has, and take its keys away at once; return the erasure's id.

    One that goes on already is what it is.

    Args:
        confirmed: The owner's name, as whoever asks has written it.

    Raises:
        InvalidRequest: `confirmed` is another name.
        LegalHold: All that it has, or a conversation of it, is held.
    """
    if confirmed != owner:
        raise InvalidRequest.of("confirm", "is not the principal's id: nothing was erased")
    work = partial(ask_to_erase, actor=actor, owner=owner, now_ms=node.clock.now_ms())
    erasure_id: int = await node.committer.write(work, wait_s=node.settings.storage_wait_s)
    node.erasing.look_again()
    node.wakes.tell(HintKind.FORGET)
    node.to_erase.set()
    return erasure_id


def ask_to_erase(tx: Transaction, *, actor: Actor, owner: str, now_ms: int) -> int:
    """Note that all that a principal has is to be erased, and take its keys away; return the erasure's id.

    Raises:
        LegalHold: All that it has, or a conversation of it, is held.
    """
    _check_not_held(tx, owner)
    erasure_id, is_new = begin_erasure(tx, owner, actor=actor.id, via=actor.via, key_id=actor.key_id, now_ms=now_ms)
    if is_new:
        gone = {"api_key": delete_credentials(tx, owner), "account": forget_accounts(tx, owner, MOST)}
        save_counts(tx, erasure_id, {name: count for name, count in gone.items() if count})
        audit(tx, actor=actor, action="principal.erase", subject=owner, owner=owner, at_ms=now_ms)
    return erasure_id


def _check_not_held(tx: Transaction, owner: str) -> None:
    """Refuse to delete what a principal has while any of it is held.

    Raises:
        LegalHold: So it is.
    """
    check_owner_not_held(tx, owner)
    if held_conversations(tx, owner, 1):
        raise LegalHold("conversations of this principal are held: nothing was erased")


class _ErasePage(Command[list[Any]]):
    """Deletes the next conversations of a principal; nothing where it is held."""

    def __init__(self, node: Node, owner: str, after: str) -> None:
        self._node = node
        self._owner = owner
        self._after = after

    def apply(self, tx: Transaction) -> list[Any]:
        lock_erasure(tx, self._owner)
        check_owner_not_held(tx, self._owner)
        rows = next_conversations(tx, self._owner, self._after)
        for row in rows:
            delete_found(tx, self._owner, row.id, row.key, of_owner=True)
        return rows

    def committed(self, value: list[Any]) -> None:
        for row in value:
            let_go(self._node, row.key)
        if value:
            self._node.wakes.tell(HintKind.GONE)


class Eraser:
    """What one node does of it, for as long as it leads."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._wait_until_s = 0.0
        """Before it nothing is done for conversations alone, by the loop's clock."""
        self._segments: dict[int, int] = {}
        """The newest segment that there was when an erasure was first looked at, on SQLite: what may speak of it."""
        self._clean = False
        """Whether the files hold nothing any more of what is gone: a server that died may have left it there."""

    async def keep_on(self) -> None:
        """Erase what is to be erased, for as long as the node is open."""
        node, loop = self._node, asyncio.get_running_loop()
        # Not among what a start has to do.
        cut_s = loop.time() - CUT_S + FIRST_CUT_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await node.to_erase.wait()
            await asyncio.sleep(GATHER_S)
            node.to_erase.clear()
            if not node.leads:
                continue
            try:
                began_s = loop.time()
                if not await self.round():
                    node.to_erase.set()
                    await asyncio.sleep(RETRY_S)
                if loop.time() - cut_s >= CUT_S:
                    cut_s = loop.time()
                    await cut_off(node)
                    while await self._write(lambda tx: prune_keys(tx, node.clock.now_ms())):  # noqa: ASYNC110 - pages
                        await asyncio.sleep(PAUSE_S)
                self._wait_until_s = max(self._wait_until_s, loop.time() + SHARE * (loop.time() - began_s))
            except LegatoError as error:
                log.warning("what was deleted waits to be erased", error=error.code)
                node.to_erase.set()
                await asyncio.sleep(RETRY_S)
            except Exception:
                log.exception("what was deleted could not be erased")
                await asyncio.sleep(LOOK_S)

    async def round(self, *, at_once: bool = False) -> bool:
        """Erase all that is to be erased now; return whether nothing of it is left for later.

        Args:
            at_once: Conversations too, however short ago the last round was.
        """
        node = self._node
        # Of an older one all of this round is behind the last moment at which a key that is gone was taken for good.
        over_ms = node.clock.now_ms() - GRACE_MS
        principals = await self._principals()
        rows: list[Any] = await node.database.read(lambda tx: list_erasures(tx, MOST))
        waits = not at_once and asyncio.get_running_loop().time() < self._wait_until_s
        if not rows:
            return await self._scrub()
        if waits and not principals:
            return True
        # One whose principal is held waits until it is let go.
        done = {row.owner for row in principals}
        rows = [row for row in rows if row.conversation_id is not None or row.owner in done]
        if not rows:
            return True
        if node.database.kind == "sqlite":
            newest = await node.database.read(last_segment)
            # That of the first round: replies that begin later hold nothing of theirs.
            self._segments = {row.id: self._segments.get(row.id, newest) for row in rows}
        rows = [row for row in rows if row.conversation_id is None or not waits]
        self._clean, asked = False, len(rows)
        now_ms = node.clock.now_ms()
        if not await self._erase_elsewhere(await node.database.read(lambda tx: find_erased(tx, rows, now_ms))):
            return False
        if node.database.kind == "postgresql":
            # A reply that another node was making is let go of there within moments.
            await asyncio.sleep(READ_S)
            while await self._write(delete_orphans):
                pass
        else:
            first = await node.database.read(first_segment)
            # In older ones pieces of replies that others are being made still lie beside theirs.
            rows = [row for row in rows if first is None or self._segments[row.id] < first]
        rows = [row for row in rows if row.conversation_id is not None or row.asked_at_ms <= over_ms]
        if rows:
            await self._compact()
        # What a step, or a reply that was let go, has written for it meanwhile.
        rows = [row for row in rows if row.conversation_id is not None or await self._erase_rows(row)]
        await self._end(rows)
        # With what was noted of it.
        return await self._scrub() and len(rows) == asked

    async def _scrub(self) -> bool:
        if not self._clean:
            self._clean = await self._node.database.scrub()
        return self._clean

    async def _principals(self) -> list[Any]:
        """Erase the rows of all principals that are to be; return those of whom none is left."""
        done: list[Any] = []
        after = ""
        while rows := await self._node.database.read(partial(list_principals, after=after, limit=100)):
            done += [row for row in rows if await self._erase_rows(row)]
            after = rows[-1].owner
        return done

    async def _erase_rows(self, row: Any) -> bool:
        """Delete what a principal has in the database, a page a transaction, and keep how much that was.

        Returns:
            Whether it was deleted: what is held is not, and the erasure goes on once it is let go.
        """
        try:
            await self._delete_rows(row.owner)
        except LegalHold:
            return False
        return True

    async def _delete_rows(self, owner: str) -> None:
        node = self._node
        conversations = 0

        def delete_others(tx: Transaction) -> dict[str, int]:
            lock_erasure(tx, owner)
            _check_not_held(tx, owner)
            # A key that was being made when the erasure began.
            keys = delete_credentials(tx, owner)
            return delete_owned(tx, owner) | forget_owner(tx, owner) | ({"api_key": keys} if keys else {})

        # One that is made meanwhile may stand before the others.
        while page := await node.committer.execute(_ErasePage(node, owner, ""), wait_s=node.settings.storage_wait_s):
            conversations += len(page)
            await self._count(owner, {"conversation": len(page)})
            await asyncio.sleep(PAUSE_S)
        while counts := await self._write(delete_others):
            await self._count(owner, counts)
            await asyncio.sleep(PAUSE_S)
        await self._write(lambda tx: forget_kept(tx, owner))
        if conversations:
            log.info("a principal's conversations were erased", conversations=conversations)

    async def _count(self, owner: str, counts: dict[str, int]) -> None:
        def add(tx: Transaction) -> None:
            found = find_erasure(tx, owner)
            if found is not None:
                known: dict[str, int] = msgspec.json.decode(found.done)
                added = {name: known.get(name, 0) + count for name, count in counts.items()}
                save_counts(tx, found.id, known | added)

        await self._write(add)

    async def _erase_elsewhere(self, erased: Erased) -> bool:
        """Erase events that wait for the queue, and jobs in it; return whether nothing is left."""
        place: int | None = 0
        while place is not None:
            place = await self._write(partial(erase_events, erased=erased, after=place))
        erase_queue = self._node.erase_queue
        return True if erase_queue is None else await erase_queue(erased)

    async def _compact(self) -> None:
        more = await self._write(begin_compaction)
        while more:
            await asyncio.sleep(PAUSE_S)
            more = await self._write(compact)

    async def _end(self, rows: list[Any]) -> None:
        """Forget what is done, and tell the audit log of each principal."""
        for row in rows:
            if row.conversation_id is None:
                await self._write(lambda tx, row=row: self._end_one(tx, row))
        await self._write(lambda tx: end_erasures(tx, [row.id for row in rows if row.conversation_id is not None]))
        for row in rows:
            # SQLite gives the next one its id.
            self._segments.pop(row.id, None)
        if any(row.conversation_id is None for row in rows):
            self._node.erasing.look_again()
            self._node.wakes.tell(HintKind.FORGET)

    def _end_one(self, tx: Transaction, row: Any) -> None:
        lock_erasure(tx, row.owner)
        try:
            _check_not_held(tx, row.owner)
        except LegalHold:
            # Only now: it ends once that is let go.
            return
        erased = Erased(owners=frozenset([row.owner]), conversations={})
        place: int | None = 0
        while place is not None:
            place = erase_events(tx, erased, place)
        found = find_erasure(tx, row.owner)
        end_erasures(tx, [row.id])
        forget_keys(tx, row.owner)
        audit(
            tx,
            actor=Actor(id=row.actor, via=row.via, key_id=row.key_id),
            action="principal.erased",
            subject=row.owner,
            owner=row.owner,
            detail=msgspec.json.decode(found.done) if found is not None else None,
            at_ms=self._node.clock.now_ms(),
        )

    async def _write(self, work: Any) -> Any:
        return await self._node.committer.write(work, wait_s=self._node.settings.storage_wait_s)

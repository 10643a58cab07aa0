"""The service of runs, for the API and for steps: begin a reply, wait for it, follow it, stop it.

A run goes on whoever waits for it. Every method may raise InvalidRequest (an argument is wrong; nothing was done) and
StorageUnavailable (the database is away). What is another's is not found.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final, Unpack

import msgspec
from pydantic import TypeAdapter

from legato.core import run_errors
from legato.core.errors import Draining, InvalidRequest, LegatoError, NotFound, StorageUnavailable
from legato.core.event import LogItem, RunFailed, RunStarted
from legato.core.principal import Principal
from legato.core.reply import Reply, fold_reply
from legato.core.resources import Run, StartedRun
from legato.core.run_errors import RunError
from legato.runs.follow import check_cursor, find_tail
from legato.runs.inputs import MessageOptions, Text, checked
from legato.runs.live import RunRequest
from legato.runs.node import Node
from legato.runs.rows import run_of
from legato.runs.start import NewMessage, start
from legato.runs.stop import stop
from legato.runs.tail import SLICE, Reader, Tail
from legato.runs.waker import Nothing, Waker
from legato.storage.runs import find_run
from legato.storage.turns import LEAF

_OPTIONS = TypeAdapter(MessageOptions)
_TEXT = TypeAdapter(Text)


class Runs:
    """The runs of one principal.

    Args:
        trace_id: Of what causes the calls; what the replies cause carries it too.
    """

    def __init__(self, node: Node, principal: Principal, *, trace_id: str | None = None) -> None:
        self._node = node
        self._principal = principal
        self._trace_id = trace_id

    async def get(self, run_id: str) -> Run:
        """Return where a run stands, and what it used.

        Raises:
            NotFound: There is none with this id.
        """
        row = await self._node.database.read(lambda tx: find_run(tx, self._principal.id, run_id))
        if row is None:
            raise NotFound("there is no run with this id")
        return run_of(row)

    async def start(self, message: str, **options: Unpack[MessageOptions]) -> StartedRun:
        """Post a message and begin the reply to it; return as soon as both are saved.

        Args:
            message: What the user says; not blank.
            options: As in the body of `POST /chat/stream`. With a `request_id`, a repeat within 24 hours gives the
                run that it began: a queue step's event id makes one of every attempt.

        Raises:
            LegatoError: As runs.start.start.
        """
        return _started(await self._begin(message, options))

    async def reply(self, message: str, **options: Unpack[MessageOptions]) -> Reply:
        """Post a message, wait for the whole reply and return it; as `start`.

        Raises:
            RunError: The reply could not be completed; the error is that of the run.
            NotFound: The conversation was deleted meanwhile.
            Draining: The server shuts down; the reply goes on at its next start.
        """
        tail = await self._begin(message, options)
        async with aclosing(self._events(tail, tail.end)) as events:
            async for _ in events:
                pass
        reply = fold_reply(tail.log)
        if reply.failed is not None:
            raise _error_of(reply.failed)
        return reply

    async def follow(self, run_id: str, *, after: int = -1) -> AsyncIterator[tuple[int, LogItem]]:
        """Give the events of a run with their seq, until the last one: those that there are, then as they come.

        A text delta is a str, everything else an event of core.event.

        Args:
            after: Seq of the last event that is known; -1 for none.

        Raises:
            NotFound: There is no such run, or it was deleted meanwhile.
            CursorDiverged: The run has no event `after` yet.
            Draining: The server shuts down; the run goes on at its next start.
        """
        if after < -1:
            raise InvalidRequest.of("after", "is less than -1, which is before the first event")
        tail = await find_tail(self._node, self._principal, run_id, after=after)
        async with aclosing(self._events(tail, check_cursor(tail, None, after) + 1)) as events:
            async for each in events:
                yield each

    async def stop(self, run_id: str) -> Run:
        """Ask a run to stop; return it as it was found. What it said is kept, and a run that has ended stays as it is.

        Raises:
            NotFound: There is none with this id.
        """
        return run_of(await stop(self._node, self._principal, run_id))

    async def _begin(self, message: str, options: MessageOptions) -> Tail:
        text = checked(_TEXT, message, "message")
        if not text.strip():
            raise InvalidRequest.of("message", "is blank: say something")
        given = checked(_OPTIONS, options)
        metadata = given.get("metadata")
        started = await start(
            self._node,
            self._principal,
            NewMessage(
                text=text,
                session_id=given.get("session_id"),
                conversation_id=given.get("conversation_id"),
                request=RunRequest(
                    model=given.get("model"),
                    temperature=given.get("temperature"),
                    max_tokens=given.get("max_tokens"),
                    system_prompt=given.get("system_prompt"),
                ),
                parent=given.get("parent_id", LEAF),
                metadata=None if metadata is None else msgspec.json.encode(metadata).decode(),
                key=given.get("request_id"),
                body_hash=_hash(text, given),
                trace_id=self._trace_id,
            ),
        )
        return started.tail or await find_tail(self._node, self._principal, started.run_id)

    async def _events(self, tail: Tail, place: int) -> AsyncGenerator[tuple[int, LogItem]]:
        waker = Waker()
        reader: Reader | None = None
        try:
            while True:
                while place < tail.end:
                    for item in tail.log.slice(place, SLICE):
                        yield place, item
                        place += 1
                if tail.closed:
                    return
                if waker.cut or self._node.left:
                    raise await self._why_cut(tail)
                if reader is None:
                    reader = self._node.readers.open(waker, tail, Nothing, after=tail.end - 1)
                await waker.wait()
        finally:
            if reader is not None:
                reader.close()

    async def _why_cut(self, tail: Tail) -> LegatoError:
        try:
            await find_tail(self._node, self._principal, tail.run_id)
        except LegatoError as error:
            return error
        if self._node.draining:
            return Draining("the server is shutting down: try again in a moment")
        return StorageUnavailable(f"the reply was cut behind its event {tail.end - 1}: follow it again from there")


def _started(tail: Tail) -> StartedRun:
    first = tail.log.events[0]
    assert isinstance(first, RunStarted)
    return StartedRun(
        run_id=tail.run_id,
        conversation_id=first.conversation_id,
        session_id=first.session_id,
        user_message_id=first.user_message_id,
        message_id=first.message_id,
    )


def _hash(text: str, given: MessageOptions) -> bytes:
    data: dict[str, Any] = {"message": text} | {name: value for name, value in given.items() if name != "request_id"}
    return hashlib.sha256(msgspec.json.encode(data, order="deterministic")).digest()


_RUN_ERRORS: Final = {
    kind.code: kind for kind in vars(run_errors).values() if isinstance(kind, type) and issubclass(kind, RunError)
}


def _error_of(failed: RunFailed) -> RunError:
    return _RUN_ERRORS.get(failed.code, RunError)(failed.message)

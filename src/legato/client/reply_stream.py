"""One reply, read to its one end whatever happens to the connection or to the server meanwhile.

A post goes out under an idempotency key, so that one which was cut before its answer came is repeated without a second
reply being made. From the first header on the run's id is known, and the reply is followed from its cursor. What is to
be done when is decided by the table of reconnect.py alone; this file does it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Any, Final
from urllib.parse import unquote

import aiohttp

from legato.client.connection import BROKEN, UNCONNECTED, Server, broken, not_legato, refusal, run_path
from legato.client.delay import reconnect_delay
from legato.client.errors import Aborted, BadStream, ChatError, Refused, Unreachable
from legato.client.events import (
    ApprovalEvent,
    ChatEvent,
    Complete,
    Failure,
    Open,
    Reconnected,
    Reconnecting,
    WireEvent,
)
from legato.client.fold import fold
from legato.client.message import EMPTY_REPLY, ReplyMessage
from legato.client.read_event import parse_cursor, read_event
from legato.client.reconnect import Action, Answer, EventName, State, answer_event, step
from legato.client.sse import SseParser

_STREAM: Final = "text/event-stream"
_ACCEPT: Final = f"{_STREAM}, application/problem+json"
_MOST_RESTARTS: Final = 5
"""Most times that a reader begins anew: a server whose cursors are never its own would be asked for ever."""


class ReplyStream:
    """The events of one reply: `async for event in stream`, once; nothing is sent before that. Made by ChatClient.

    The iteration ends after the reply's Complete or Failure, and otherwise raises a ChatError: that a connection ended
    is never the end of a reply. Leaving the loop, or cancelling the task, stops reading; the reply goes on. Then
    `aclose()`, or `async with stream`, closes the connection at once.

    Args:
        path: Where to post, and `body` what; None to follow `run_id`.
        key: The idempotency key, if it is to be sent as a header.
        cursor: Of the last event that the caller has.
        learned: Called once the ids are known.

    Attributes:
        run_id, message_id, conversation_id, session_id: Known after the first event.
        cursor: Where to go on from, with `follow`: behind the last event that was handed out.
    """

    def __init__(
        self,
        server: Server,
        *,
        path: str | None = None,
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
        run_id: str | None = None,
        cursor: str | None = None,
        learned: Callable[[ReplyStream], None] = lambda _: None,
    ) -> None:
        self.run_id = run_id
        self.message_id: str | None = None
        self.conversation_id: str | None = None
        self.session_id: str | None = None
        self.cursor = cursor
        self._server = server
        self._path = path
        self._body = body
        self._key = key
        self._learned = learned
        self._state: State = "idle"
        self._action: Action = "none"
        self._error: ChatError | None = None
        self._ready: deque[WireEvent] = deque()
        place = parse_cursor(cursor)
        self._seq = place.seq if place else -1
        self._is_own_cursor = False
        self._answered = self._restarting = False
        self._restarts = self._failures = 0
        self._heard_at_s = self._asked_s = 0.0
        self._aborted = False
        self._pending: asyncio.Timeout | None = None
        self._named = asyncio.Event()
        self._events = self._run()

    @property
    def has_begun(self) -> bool:
        """Whether an event was ever asked for."""
        return self._state != "idle"

    @property
    def is_over(self) -> bool:
        """Whether the reply's end was read, or reading has failed or was given up."""
        return self._state in ("ended", "failed", "aborted")

    def __aiter__(self) -> AsyncIterator[ChatEvent]:
        return self

    async def __anext__(self) -> ChatEvent:
        if self._aborted:
            await self.aclose()
            raise Aborted
        try:
            # A time limit that `abort` sets: it ends a wait and leaves cancellations by the caller's own task alone.
            async with asyncio.timeout(None) as self._pending:
                return await anext(self._events)
        except TimeoutError:
            if not self._aborted:
                raise
            raise Aborted from None
        finally:
            self._pending = None

    async def __aenter__(self) -> ReplyStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection; the reply goes on."""
        self._leave()
        await self._events.aclose()

    async def message(self) -> ReplyMessage:
        """Read the reply to its end and return it, failed or not; raises a ChatError where it cannot be read."""
        message = EMPTY_REPLY
        async with self:
            async for event in self:
                message = fold(message, event)
        return message

    def abort(self) -> None:
        """Stop reading; the reply goes on, and can be followed again. The iteration raises Aborted."""
        if self.is_over:
            return
        self._aborted = True
        if self._pending is not None:
            self._pending.reschedule(asyncio.get_running_loop().time())

    async def stop(self) -> None:
        """Stop the reply itself: what it said is kept, and its stream ends with Complete, `stopped`.

        Returns once the server has it on disk, or the reply is over; a message that was not sent yet is aborted.

        Raises:
            Refused: The server said no.
            Unreachable: It has been away for too long.
        """
        if self.run_id is None and not self.has_begun:
            self.abort()
            return
        if self.run_id is None:
            await self._named.wait()
        if self.run_id is not None:
            await self._server.insist(f"{run_path(self.run_id)}/stop", None, enough=lambda: self.is_over)

    def is_decided(self, call_id: str) -> bool:
        """Whether the decision on a tool call was read already, and is about to be handed out."""
        return any(
            isinstance(event, ApprovalEvent) and event.call_id == call_id and event.status != "asked"
            for event in self._ready
        )

    async def _run(self) -> AsyncGenerator[ChatEvent, None]:
        self._heard_at_s = time.monotonic()
        self._go("follow" if self._path is None else "post")
        try:
            async with self._server.open_session() as session:
                while self._action not in ("end", "fail"):
                    if self._action == "wait":
                        if (event := self._wait()) is not None:
                            yield event
                            await asyncio.sleep(event.delay_ms / 1000)
                            self._go("due")
                    else:
                        async with aclosing(self._connect(session)) as events:
                            async for each in events:
                                yield each
            if self._action == "fail" and self._error is not None:
                raise self._error
        finally:
            self._leave()

    def _go(self, event: EventName) -> None:
        self._state, self._action = step(self._state, event)

    def _leave(self) -> None:
        if not self.is_over:
            self._go("abort")
        self._named.set()

    def _wait(self) -> Reconnecting | None:
        """Return that the next try comes, and when; None when there have been enough."""
        patience = self._server.patience
        away_s = time.monotonic() - self._heard_at_s
        if away_s > (patience.away_s if self._answered else patience.first_s):
            if self._answered:
                self._error = Unreachable("it has not come back", address=self._server.address, was_there=True)
            self._go("exhausted")
            return None
        self._failures += 1
        delay_s = reconnect_delay(self._failures, jitter=patience.jitter(), asked_s=self._asked_s)
        self._asked_s = 0.0
        return Reconnecting(attempt=self._failures, delay_ms=delay_s * 1000)

    async def _connect(self, session: aiohttp.ClientSession) -> AsyncGenerator[ChatEvent, None]:
        """Make one request and hand out all that it brings."""
        if self._action == "restart":
            self.cursor, self._seq, self._is_own_cursor, self._restarting = None, -1, False, True
        parser = SseParser()
        try:
            async with self._request(session) as response:
                self._go(await self._judge(response))
                if self._action != "read":
                    return
                for opening in self._opening():
                    yield opening
                async for piece in response.content.iter_any():
                    self._heard_at_s = time.monotonic()
                    for event in self._read(parser, piece):
                        yield event
                        # The caller may have taken its time: that was no silence of the server's.
                        self._heard_at_s = time.monotonic()
                    if self._state not in ("reading", "unnamed"):
                        return
                self._lose(None, asked_ms=parser.retry_ms)
        except BadStream as error:
            self._error = error
            self._go("refused")
        except BROKEN as error:
            self._lose(error, asked_ms=parser.retry_ms)

    def _request(self, session: aiohttp.ClientSession) -> Any:
        headers = {"Accept": _ACCEPT}
        if self.run_id is None:
            headers |= {"Idempotency-Key": self._key} if self._key else {}
            address = f"{self._server.base_url}{self._path}"
            return session.post(address, json=self._body, headers=headers, allow_redirects=False)
        headers |= {"Last-Event-ID": self.cursor} if self.cursor else {}
        address = f"{self._server.base_url}{run_path(self.run_id)}"
        return session.get(address, headers=headers, allow_redirects=False)

    async def _judge(self, response: aiohttp.ClientResponse) -> EventName:
        """Return what an answer is, and take from it what is needed."""
        is_stream = response.content_type == _STREAM
        posted = self.run_id is None
        if response.status == 200 and is_stream:
            self.run_id = self.run_id or _id_in(response, "X-Run-Id")
        answer = Answer(
            method="POST" if posted else "GET",
            status=response.status,
            is_stream=is_stream,
            code=None,
            is_named=self.run_id is not None,
            cursor="none" if self.cursor is None else "read" if self._is_own_cursor else "given",
        )
        event = answer_event(answer)
        if event in ("opened", "opened_named"):
            self.message_id = self.message_id or _id_in(response, "X-Message-Id")
            self.conversation_id = self.conversation_id or _id_in(response, "X-Conversation-Id")
            self.session_id = self.session_id or _id_in(response, "X-Session-Id")
            self._heard_at_s = time.monotonic()
            if self.run_id is not None:
                self._named.set()
        elif event != "nothing_more":
            refused = not_legato(response.status) if response.status < 300 else await refusal(response)
            self._error = refused
            event = answer_event(replace(answer, code=refused.code))
            self._asked_s = refused.retry_after_s or 0.0
            if event == "diverged":
                self._restarts += 1
                return event if self._restarts <= _MOST_RESTARTS else "refused"
        return event

    def _opening(self) -> list[ChatEvent]:
        again = Reconnected(restarted=self._restarting)
        self._restarting = False
        if self._answered:
            return [again]
        self._answered = True
        self._learned(self)
        first = Open(
            run_id=self.run_id,
            message_id=self.message_id,
            conversation_id=self.conversation_id,
            session_id=self.session_id,
        )
        return [first, again] if again.restarted else [first]

    def _read(self, parser: SseParser, piece: bytes) -> Iterator[WireEvent]:
        """Yield what `piece` completes; each event is noted when it is handed out."""
        fault: BadStream | None = None
        self._ready.clear()
        for each in parser.feed(piece):
            try:
                self._ready.append(read_event(each))
            except BadStream as error:
                fault = error
                break
        while self._ready:
            event = self._ready.popleft()
            if self._take(event):
                yield event
            if self._state not in ("reading", "unnamed"):
                return
        if fault is not None:
            raise fault

    def _take(self, event: WireEvent) -> bool:
        """Note where an event leads to; return whether it is one to hand out."""
        place = parse_cursor(event.cursor)
        if place is None and isinstance(event, Failure):
            # No event of the run's log: the server, or what stands before it, refuses to go on.
            self._error = Refused(event.error, code=event.code, retryable=event.retryable)
            self._go("refused_for_now" if event.retryable else "refused")
            return False
        if place is not None:
            # A server may repeat itself, the reader must not.
            if place.seq <= self._seq:
                return False
            self.cursor, self._seq, self._is_own_cursor = event.cursor, place.seq, True
            self.run_id = self.run_id or place.run_id
            if self.conversation_id is None and event.conversation_id is not None:
                self.conversation_id = event.conversation_id
                self._learned(self)
            if self._state == "unnamed":
                self._go("named")
            self._named.set()
        if isinstance(event, Complete | Failure):
            if self._state == "unnamed":
                raise BadStream("a reply ends without an id")
            self.message_id = self.message_id or event.message_id
            self._go("terminal")
        else:
            self._go("progress")
            if self._action == "recover":
                self._failures, self._error = 0, None
        return True

    def _lose(self, error: Exception | None, *, asked_ms: int | None) -> None:
        """Take it that a connection was not made, or has ended before the reply did."""
        self._error = broken(error, address=self._server.address, was_there=self._answered)
        self._asked_s = (asked_ms or 0) / 1000
        # A first post that met nobody has reached nobody; what is wrong with the address stays wrong.
        hopeless = isinstance(error, aiohttp.InvalidURL) or (
            self._state == "posting" and isinstance(error, (*UNCONNECTED, aiohttp.ClientResponseError))
        )
        self._go("refused" if hopeless else "cut")


def _id_in(response: aiohttp.ClientResponse, name: str) -> str | None:
    """Return an id from a header, where what is not plain ASCII is percent-encoded."""
    value = response.headers.get(name)
    return unquote(value) if value else None

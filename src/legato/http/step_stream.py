"""The response of a step that streams: events with ids, a heartbeat in silence, and a clean end whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import structlog
from pydantic_core import to_jsonable_python
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from legato.core.errors import LegatoError
from legato.http.edge import EXTENSION, Connection
from legato.http.problems import Cut
from legato.http.step_problems import problem_of
from legato.http.streams import SSE_HEADERS
from legato.wire.native import OPENING
from legato.wire.step_events import TERMINAL, Event, render

log = structlog.get_logger(__name__)

BEAT = b": beat\n\n"
FAULT = "the server made a mistake; its log says more under the trace's id"
"""All that a caller is told of a step's fault."""
CLOSE_S = 5.0
"""How long a step may take to end when its reader has gone."""


class StepStream(Response):
    """Sends what a step yields: Event, or any value, which becomes the data of a `message`.

    The step is closed when its reader goes: unlike a reply it is nobody's but the request's.

    Args:
        heartbeat_s: A comment is sent after so much silence.
        send_timeout_s: A reader that takes nothing for so long is cut.
        stopping: The server goes down: the stream is ended with an error that may be retried.
    """

    def __init__(
        self,
        items: AsyncIterator[Any],
        *,
        step: str,
        trace_id: str,
        heartbeat_s: float,
        send_timeout_s: float,
        stopping: asyncio.Event,
    ) -> None:
        super().__init__(None, 200, SSE_HEADERS)
        del self.headers["content-length"]
        self._items = items
        self._step = step
        self._trace_id = trace_id
        self._heartbeat_s = heartbeat_s
        self._send_timeout_s = send_timeout_s
        self._stopping = stopping
        self._number = 0
        self._left = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection | None = scope.get("extensions", {}).get(EXTENSION)
        if connection is not None:
            send = connection.plain(send)
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        # The step runs in a task of its own: a heartbeat does not disturb it, and a reader that goes cancels it.
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        making = asyncio.create_task(self._make(pieces))
        watching = asyncio.create_task(_gone(receive))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await self._send(send, OPENING)
            while not stopping.done():
                getting = asyncio.create_task(pieces.get())
                while not getting.done() and not stopping.done():
                    await asyncio.wait(
                        {getting, watching, stopping},
                        timeout=self._heartbeat_s,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                    if watching.done():
                        getting.cancel()
                        return
                    if not getting.done() and not stopping.done():
                        await self._send(send, BEAT)
                if not getting.done():
                    getting.cancel()
                    break
                piece = getting.result()
                if piece is None:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    return
                await self._send(send, piece)
            said = "the server is shutting down: try again in a moment"
            await self._send(send, render(_fault("draining", said, True), self._number))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._left = True
            for task in (watching, stopping, making):
                task.cancel()
            # A step that will not be cancelled ends with the next thing that it yields.
            if (await asyncio.wait({making, watching, stopping}, timeout=CLOSE_S))[1]:
                log.warning("a streaming step goes on though nobody reads it", step=self._step)

    async def _send(self, send: Send, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._send_timeout_s):
                await send({"type": "http.response.body", "body": data, "more_body": True})
        except TimeoutError:
            raise Cut from None

    async def _make(self, pieces: asyncio.Queue[bytes | None]) -> None:
        number = 0
        last = ""
        try:
            async for item in self._items:
                if self._left:
                    return
                event = item if isinstance(item, Event) else Event("message", item)
                if last in TERMINAL:
                    log.warning("a step yields behind the end of its stream", step=self._step, name=event.name)
                    break
                last = event.name
                await pieces.put(render(Event(event.name, to_jsonable_python(event.data, by_alias=True)), number))
                number += 1
                self._number = number
            if last not in TERMINAL:
                last = "complete"
                await pieces.put(render(Event("complete", {}), number))
        except LegatoError as error:
            if last not in TERMINAL:
                last = "error"
                await pieces.put(render(_fault(error.code, error.message, error.retryable), number))
        except HTTPException as error:
            # Its status comes too late, its words do not.
            if last not in TERMINAL:
                last = "error"
                told = problem_of(error)
                await pieces.put(render(_fault(told["code"], told["detail"], told["retryable"]), number))
        except BaseException as error:
            task = asyncio.current_task()
            if not isinstance(error, Exception | asyncio.CancelledError) or (task is not None and task.cancelling()):
                raise
            log.exception("a streaming step failed", step=self._step, trace_id=self._trace_id)
            if last not in TERMINAL:
                last = "error"
                await pieces.put(render(_fault("internal", FAULT, False), number))
        finally:
            try:
                await self._items.aclose()  # type: ignore[attr-defined]
            except Exception:
                log.exception("a streaming step failed at its close", step=self._step, trace_id=self._trace_id)
        if not self._left:
            await pieces.put(None)


def _fault(code: str, message: str, retryable: bool) -> Event:
    return Event("error", {"error": message, "code": code, "retryable": retryable})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

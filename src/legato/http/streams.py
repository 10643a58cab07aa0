"""The response that streams a run: head at once, then whatever the log brings."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from legato.http.edge import EXTENSION, AsgiSink, Connection, Edge
from legato.http.problems import Cut
from legato.runs.tail import Reader, Readers, Renderer, Tail

SSE_HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    "Content-Type": "text/event-stream; charset=utf-8",
    "X-Accel-Buffering": "no",
}


class RunStream(Response):
    """Follows a run from a place on.

    Args:
        opening: Written at once, before anything of the log.
        after: Seq of the last event that the client has; -1 for none.
    """

    def __init__(
        self,
        readers: Readers,
        tail: Tail,
        renderer_type: type[Renderer],
        *,
        after: int,
        opening: bytes,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(None, 200, SSE_HEADERS | dict(headers))
        # Its length is not known, and an empty one is not meant.
        del self.headers["content-length"]
        self._readers = readers
        self._tail = tail
        self._renderer_type = renderer_type
        self._after = after
        self._opening = opening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection | None = scope.get("extensions", {}).get(EXTENSION)
        if connection is not None:
            send = connection.plain(send)
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if connection is not None and connection.can_stream():
            connection.take(self._open_edge)
        else:
            await self._stream(receive, send)

    def _open_edge(self, edge: Edge) -> Reader:
        edge.write(self._opening)
        return self._readers.open(edge, self._tail, self._renderer_type, after=self._after)

    async def _stream(self, receive: Receive, send: Send) -> None:
        sink = AsgiSink()
        sink.write(self._opening)
        reader = self._readers.open(sink, self._tail, self._renderer_type, after=self._after)
        watch = asyncio.create_task(_disconnected(receive, sink))
        try:
            reader.pull()
            while True:
                if frames := sink.take():
                    await send({"type": "http.response.body", "body": frames, "more_body": True})
                    reader.pull()
                elif sink.ended is None:
                    await sink.wait()
                else:
                    break
            if not sink.ended:
                raise Cut
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            watch.cancel()
            reader.close()


async def _disconnected(receive: Receive, sink: AsgiSink) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    sink.abort()

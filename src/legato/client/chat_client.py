"""The client: one conversation with a server, a reply at a time or several at once."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypedDict, Unpack
from urllib.parse import quote
from weakref import WeakSet

from legato.client.connection import Patience, Server, run_path
from legato.client.delivery import TextDelivery
from legato.client.errors import ChatError
from legato.client.events import Chunk, Failure, Reconnected
from legato.client.reply_stream import ReplyStream

DEFAULT_URL: Final = "http://localhost:3111"


class ReplyOptions(TypedDict, total=False):
    """What may be asked for beside the message; docs/reference/http.md says what each means."""

    model: str | None
    system_prompt: str | None
    temperature: float | None
    max_tokens: int | None
    request_id: str
    """The idempotency key; absent, the client makes one."""


class MessageOptions(ReplyOptions, total=False):
    """The same for a message of one's own."""

    parent_id: str | None
    """The reply that the message follows; None begins a new first message; absent, it follows the active branch."""
    metadata: Mapping[str, Any] | None


_WIRE_NAMES: Final = {
    "model": "model",
    "system_prompt": "systemPrompt",
    "temperature": "temperature",
    "max_tokens": "maxTokens",
    "parent_id": "parentId",
    "metadata": "metadata",
}


class ChatClient:
    """Talks to a Legato server. Nothing has to be closed: each reply has a connection of its own.

    Args:
        session_id: A label for statistics and limits, never a credential; absent, one is made.
        conversation_id: The conversation to go on with; absent, the first message begins one.
        base_url: The server's address.
        api_key: `lk_…`, where the server wants one.
        headers: Sent with each request.
        patience: How long to wait for what.
    """

    def __init__(
        self,
        session_id: str | None = None,
        conversation_id: str | None = None,
        *,
        base_url: str = DEFAULT_URL,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._session_id = session_id or f"s-{uuid.uuid4().hex}"
        # Made here, so that two messages at once begin one conversation.
        self._conversation_id = conversation_id or f"c-{uuid.uuid4().hex}"
        self._is_known = conversation_id is not None
        self._server = Server(
            base_url=base_url.rstrip("/"),
            headers=dict(headers or {}) | ({"Authorization": f"Bearer {api_key}"} if api_key else {}),
            patience=patience or Patience(),
        )
        self._streams: WeakSet[ReplyStream] = WeakSet()

    @property
    def session_id(self) -> str:
        return self._session_id

    @property
    def conversation_id(self) -> str | None:
        """The conversation; None before the server has taken its first message."""
        return self._conversation_id if self._is_known else None

    async def send_message(
        self,
        message: str,
        on_chunk: Callable[[str], Awaitable[object] | object],
        on_complete: Callable[[], Awaitable[object] | object],
        on_error: Callable[[str], Awaitable[object] | object],
    ) -> None:
        """Send a message and hand out the reply's text as it comes; calls exactly one of `on_complete` and `on_error`.

        A stopped reply is complete; reading that `abort()` ended is an error. What goes wrong with the reply is not
        raised; a cancellation, and what `on_chunk` raises, are told to `on_error` and raised. Callbacks may be
        coroutine functions; they are awaited.
        """
        delivery = TextDelivery()
        failure: str | None = None
        try:
            async with self.stream(message) as stream:
                async for event in stream:
                    match event:
                        case Chunk() if text := delivery.take(event.content):
                            await _call(on_chunk, text)
                        case Reconnected(restarted=True):
                            delivery.restart()
                        case Failure():
                            failure = event.error
            if failure is None:
                delivery.end()
        except ChatError as error:
            failure = error.message
        except asyncio.CancelledError:
            await _call(on_error, "reading was cancelled; the reply goes on")
            raise
        except Exception:
            await _call(on_error, "what takes the reply has failed; the reply goes on")
            raise
        if failure is None:
            await _call(on_complete)
        else:
            await _call(on_error, failure)

    def stream(self, message: str, **options: Unpack[MessageOptions]) -> ReplyStream:
        """Return the reply to a message as its events; the message is sent when they are first asked for."""
        body = {"message": message, "sessionId": self._session_id, "conversationId": self._conversation_id}
        key = options.get("request_id") or uuid.uuid4().hex
        return self._open(path="/chat/stream", body=body | _body(options), key=key)

    def regenerate(self, message_id: str, **options: Unpack[ReplyOptions]) -> ReplyStream:
        """Return a further reply to the message that the reply `message_id` answers; the old one stays."""
        body = {"sessionId": self._session_id, "requestId": options.get("request_id") or uuid.uuid4().hex}
        return self._open(path=f"/messages/{quote(message_id, safe='')}/regenerate", body=body | _body(options))

    def follow(self, run_id: str, *, after: str | None = None) -> ReplyStream:
        """Return a reply that is being made, or was made, from its start or behind the cursor `after`.

        Where `after` is the place of the reply's end there are no events at all.
        """
        return self._open(run_id=run_id, cursor=after)

    async def decide(self, run_id: str, call_id: str, granted: bool, reason: str | None = None) -> None:
        """Say whether a tool call that waits for approval may be made.

        Raises:
            Refused: The call was decided on before, say, or the key may not decide.
            Unreachable: No server has answered for `patience.away_s`.
        """
        path = f"{run_path(run_id)}/approvals/{quote(call_id, safe='')}"
        await self._server.insist(path, {"granted": granted} | ({"reason": reason} if reason is not None else {}))

    async def stop(self) -> None:
        """Stop the replies that are being read through this client; their streams then end with Complete, `stopped`.

        Raises:
            Refused: The server said no.
            Unreachable: It has been away for too long.
        """
        await asyncio.gather(*(stream.stop() for stream in self._open_streams()))

    def abort(self) -> None:
        """Stop reading; the replies go on."""
        for stream in self._open_streams():
            stream.abort()

    def _open(self, **where: Any) -> ReplyStream:
        stream = ReplyStream(self._server, learned=self._learn, **where)
        self._streams.add(stream)
        return stream

    def _open_streams(self) -> list[ReplyStream]:
        return [stream for stream in self._streams if stream.has_begun and not stream.is_over]

    def _learn(self, stream: ReplyStream) -> None:
        if not self._is_known:
            self._is_known = True
            self._conversation_id = stream.conversation_id or self._conversation_id


def _body(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by the names that they have on the wire."""
    return {_WIRE_NAMES[name]: value for name, value in options.items() if name != "request_id"}


async def _call(callback: Callable[..., Awaitable[object] | object], *arguments: str) -> None:
    result = callback(*arguments)
    if inspect.isawaitable(result):
        await result

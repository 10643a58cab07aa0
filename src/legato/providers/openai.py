"""Any server that speaks OpenAI's Chat Completions: OpenAI itself, vLLM, Ollama, llama.cpp and more.

Source:
    https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
import structlog

from legato.providers.base import CallEnd, CallRequest, ChatMessage, DeltaSink
from legato.providers.openai_answer import Answer
from legato.providers.openai_errors import Complaint
from legato.providers.openai_http import HttpTransport
from legato.providers.openai_settings import proxy_for, target_of
from legato.providers.openai_transport import Transport
from legato.providers.tokens import TokenCounter

# How long the rest of an answer is waited for (usage, `[DONE]`, a refusal's words) when all that
# the call needs has come.
_REST_S = 3.0
_encode = msgspec.json.Encoder().encode
_TAKES_NO_TOOLS = ("support tools", "support tool use", "support function calling", "tool choice requires")
"""What servers say whose model cannot call tools, or was started without that."""

log = structlog.get_logger(__name__)


class _Rest:
    """The wait for the rest of an answer; asyncio.timeout would weigh on every open stream from its beginning."""

    __slots__ = ("_cancelling", "_late", "_task", "_timer")

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._timer: asyncio.TimerHandle | None = None
        self._late = False

    def begin(self) -> None:
        """Cancel the call's task in _REST_S."""
        self.end()
        self._timer = asyncio.get_running_loop().call_later(_REST_S, self._give_up)

    def _give_up(self) -> None:
        self._late = True
        self._task.cancel()

    def over(self) -> bool:
        """Whether a cancellation is this one's alone; it is taken back then."""
        return self._late and self._task.uncancel() <= self._cancelling

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class OpenAIProvider:
    """One model of an OpenAI-compatible server (see base.Provider).

    Attributes:
        model: What the server calls it.
        base_url: The server's address.
    """

    kind = "openai"
    names_things = True
    takes_tools = True

    def __init__(
        self,
        name: str,
        *,
        model: str,
        base_url: str,
        api_key: str | None = None,
        context_window: int | None = None,
        prefill: bool = False,
        headers: Mapping[str, str] | None = None,
        proxy: str | None = None,
        ca_file: str | None = None,
        verify: bool = True,
        max_tokens_field: str | None = None,
        connect_timeout_s: float = 10.0,
        max_connections: int = 10_000,
        idle_s: float = 15.0,
    ) -> None:
        """Take the settings; nothing is opened before the first call.

        Args:
            name: The model's name in the settings and in the API.
            model: What the server calls it.
            base_url: `http://` or `https://` address up to and without `/chat/completions`; a
                query in it (`?api-version=…`) is kept.
            api_key: Sent as a bearer token; None to send none.
            context_window: Tokens that input and output may have together, or None if unknown.
            prefill: The server goes on from an assistant message at the end of the context.
            headers: Sent with every call, over this class's own of the same name.
            proxy: Address of an HTTP proxy. None follows HTTP_PROXY, HTTPS_PROXY and NO_PROXY,
                which never hold for loopback addresses; an empty string connects directly.
            ca_file: Certificates (PEM) to trust instead of the system's. Without it SSL_CERT_FILE
                and SSL_CERT_DIR are honoured.
            verify: Check the server's certificate.
            max_tokens_field: The request's field for the limit of output tokens. None is
                `max_completion_tokens` for api.openai.com, whose newer models want it, and
                `max_tokens` for all others.
            connect_timeout_s: Longest time for name look-up, connection and TLS together.
            max_connections: Most calls at a time; further ones wait.
            idle_s: How long an unused connection is kept.

        Raises:
            ConfigurationError: A setting is wrong; the message names it and shows no secret.
        """
        self.name = name
        self.prefill = prefill
        self.context_window = context_window
        self.model = model
        self.base_url = base_url
        self._secret = api_key
        self._target = target_of(
            base_url,
            api_key=api_key,
            headers=headers or {},
            ca_file=ca_file,
            verify=verify,
            connect_timeout_s=connect_timeout_s,
            max_connections=max_connections,
            idle_s=idle_s,
        )
        self._proxy = proxy_for(self._target, proxy)
        newer = self._target.host == "api.openai.com"
        self._max_tokens_field = max_tokens_field or ("max_completion_tokens" if newer else "max_tokens")
        self._counter = TokenCounter(model)
        self._unwanted: frozenset[str] = frozenset()
        self._transport: Transport | None = None
        self._host, self._url = self._target.authority, self._target.url

    async def start(self) -> None:
        """Make ready; reaches for no server."""

    async def ready(self) -> None:
        """Nothing has to be loaded."""

    async def close(self) -> None:
        """Close all connections; calls under way end as broken."""
        if self._transport is not None:
            await self._transport.close()

    async def count_tokens(self, text: str) -> int | None:
        """Return the tokens of `text` alone, or None where the model's tokenizer is not at hand."""
        return await self._counter.count(text)

    async def call(self, request: CallRequest, sink: DeltaSink) -> CallEnd:
        """Run one model call to its end; see base.Provider."""
        if self._transport is None:
            self._transport = self._open_transport()
        while True:
            rest = _Rest()
            answer = Answer(sink, host=self._host, url=self._url, secret=self._secret, nearly=rest.begin)
            left_out = self._unwanted
            try:
                await self._transport.post(self._body(request), request.run_id, answer)
            except asyncio.CancelledError:
                if not rest.over():
                    raise
            finally:
                rest.end()
            if not self._learns_from(answer.complaint(), left_out):
                return answer.result()

    def _open_transport(self) -> Transport:
        if not self._proxy:
            return HttpTransport(self._target)
        # A tenth of a second and 8 MB that only those need who have a proxy.
        from legato.providers.openai_aiohttp import AiohttpTransport

        return AiohttpTransport(self._target, proxy=self._proxy)

    def _body(self, request: CallRequest) -> bytes:
        body: dict[str, object] = {
            "model": self.model,
            "messages": [_message(message) for message in request.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            self._max_tokens_field: request.max_tokens,
        }
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.tools:
            body["tools"] = request.tools
        if request.schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": request.schema},
            }
        for field in self._unwanted:
            body.pop(field, None)
        return _encode(body)

    def _learns_from(self, complaint: Complaint, left_out: frozenset[str]) -> bool:
        """Return whether a refusal names a field that can be left out or renamed, and do so.

        Args:
            left_out: What the refused request was sent without. Another call may have learnt the same meanwhile.

        What a model takes is known only to its server: OpenAI's reasoning models refuse any
        temperature but their own and `max_tokens`, older servers refuse `stream_options`. It is
        learnt once, at the cost of one request.
        """
        if "stream_options" in complaint.message:
            field = "stream_options"
        elif any(words in complaint.message.lower() for words in _TAKES_NO_TOOLS):
            field = "tools"
        elif complaint.code.startswith("unsupported_") or complaint.code == "unknown_parameter":
            field = complaint.param
        else:
            return False
        if field == self._max_tokens_field == "max_tokens":
            self._max_tokens_field = "max_completion_tokens"
            return True
        if field not in ("temperature", "stream_options", "tools") or field in left_out:
            return False
        if field == "tools" and self.takes_tools:
            self.takes_tools = False
            log.warning("the model takes no tools: it answers without them", model=self.name, server=self._host)
        self._unwanted |= {field}
        return True


def _message(message: ChatMessage) -> dict[str, object]:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content}
    if not message.tool_calls:
        return {"role": message.role, "content": message.content}
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.replayed_arguments},
        }
        for call in message.tool_calls
    ]
    # Servers refuse an empty text more often than none.
    return {"role": "assistant", "content": message.content or None, "tool_calls": calls}

"""The embedded engine (llama.cpp) and one call to it: messages in, replies out, in the caller's thread."""

from __future__ import annotations

import http.client
import os
import secrets
import socket
import tempfile
from collections.abc import Callable
from typing import Any, Final

import msgspec

from legato.providers.embedded_messages import (
    Delta,
    Ended,
    Fault,
    Generate,
    Opened,
    Reply,
    Setup,
)

# A prompt is read in batches of so many tokens, and a cancelled call stops after two of them at the latest.
BATCH_TOKENS: Final = 64
_HEAL_CHARS: Final = 32
# The engine takes a name with this ending for a socket file's, and any other for a host's.
_SOCKET_NAME: Final = "engine.sock"


class _Piece(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Piece | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Cached(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Cached | None = None


class _EngineError(msgspec.Struct):
    code: int = 500
    type: str = ""
    n_prompt_tokens: int | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: _EngineError | None = None


SAMPLING = {"top_p": 0.9, "min_p": 0.05, "repeat_penalty": 1.1, "dry_multiplier": 0.8}
"""Small models run into loops at the temperatures that large ones are asked with; at 0 the choice is theirs alone."""


def split_to_heal(text: str) -> tuple[str, str]:
    """Split a reply that was cut anywhere into what the model is given and what it must say again.

    A cut inside a word, or after white space, leaves tokens at the end that the model never saw in
    training, and it goes on with nonsense. So the last word goes back, with the white space around
    it, and a grammar makes the model begin with exactly these characters: whatever tokens it picks,
    they join on to the text.

    Returns:
        (head, tail), with head + tail == text; the tail is at most 32 characters and the white space
        around them, and empty only if the text is.

    Source:
        https://github.com/guidance-ai/guidance (token healing)
    """
    body = text.rstrip()
    start = len(body)
    while start > max(0, len(body) - _HEAL_CHARS) and not body[start - 1].isspace():
        start -= 1
    start = len(body[:start].rstrip())
    return text[:start], text[start:]


def opening_grammar(tail: str) -> str:
    """Return a grammar (GBNF) of all texts that begin with `tail`."""
    literal = "".join(f"\\U{ord(character):08X}" for character in tail)
    return f'root ::= "{literal}" [^\\x00]*'


class _Seam:
    """Takes the forced tail off the start of a continued reply."""

    def __init__(self, tail: str) -> None:
        self._left = tail

    def cut(self, text: str) -> str:
        """Return what of `text` is new.

        Raises:
            ValueError: The reply does not begin with the tail.
        """
        if not self._left:
            return text
        shared = min(len(text), len(self._left))
        if text[:shared] != self._left[:shared]:
            raise ValueError("the continuation does not join on")
        self._left = self._left[shared:]
        return text[shared:]


class Engine:
    """The model in this process, with a thread for each of its slots.

    The engine's own HTTP server cannot be left out; it listens on a socket file that is unlinked at
    once and reached through a descriptor, so that no other user and no other host can.
    """

    def __init__(self, setup: Setup) -> None:
        import xllamacpp

        self._key = secrets.token_urlsafe(32)
        parameters = xllamacpp.CommonParams()
        parameters.model.path = setup.weights
        parameters.n_ctx = setup.context_window * setup.parallel
        parameters.n_parallel = setup.parallel
        parameters.n_batch = parameters.n_ubatch = BATCH_TOKENS
        parameters.cpuparams.n_threads = setup.threads
        parameters.cpuparams_batch.n_threads = setup.threads
        parameters.n_threads_http = 2
        # The engine's default is a cache of prompts of up to 8 GB beside the slots' own.
        parameters.cache_ram_mib = 0
        parameters.cache_idle_slots = False
        parameters.n_ctx_checkpoints = 2
        parameters.fit_params = False
        parameters.verbosity = 1
        parameters.ui = False
        parameters.endpoint_slots = False
        parameters.sse_ping_interval = -1
        parameters.api_keys = [self._key]
        with tempfile.TemporaryDirectory(prefix="legato-") as folder:
            # A relative name, since a socket's address takes 107 bytes at most and the folder's may be longer.
            os.chdir(folder)
            parameters.hostnames = [_SOCKET_NAME]
            try:
                self._server = xllamacpp.Server(parameters)
                self._socket = os.open(_SOCKET_NAME, os.O_PATH)
            finally:
                os.chdir("/")

    def stream(self, request: Generate, live: Callable[[], bool], send: Callable[[Reply], None]) -> None:
        """Run one call to its end, in this thread, for as long as `live()` says so."""
        body: dict[str, Any] = {
            "stream": True,
            "stream_options": {"include_usage": True},
            # Progress chunks are what lets a call be cancelled while its prompt is being read.
            "return_progress": True,
            "max_tokens": request.max_tokens,
        }
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.temperature != 0:
            body |= SAMPLING
        tail, healed_tokens = "", 0
        if request.continues:
            head, tail = split_to_heal(request.messages[-1][1])
            body["prompt"] = self._render(request.messages[:-1]) + head
            if tail:
                healed_tokens = self.count(tail)
                body["grammar"] = opening_grammar(tail)
                body["max_tokens"] += healed_tokens
            handle = self._server.handle_completions
        else:
            body["messages"] = _as_objects(request.messages)
            handle = self._server.handle_chat_completions
        reader = _Reader(request.id, _Seam(tail), healed_tokens, live, send)
        handle(msgspec.json.encode(body), reader.take)
        reader.close()

    def count(self, text: str) -> int:
        """Return the tokens of `text` as a call would count them, without those of the template."""
        return len(self._post("/tokenize", {"content": text})["tokens"])

    def _render(self, messages: list[tuple[str, str]]) -> str:
        # A template that opens a block of reasoning would have the visible text continued there.
        kwargs = {"enable_thinking": False}
        body = {"messages": _as_objects(messages), "chat_template_kwargs": kwargs}
        prompt: str = self._post("/apply-template", body)["prompt"]
        return prompt

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        connection = _SocketConnection(self._socket)
        try:
            headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
            connection.request("POST", path, msgspec.json.encode(body), headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise ValueError(f"{path} answered {response.status}")
        return msgspec.json.decode(answer)


class _Reader:
    """Turns one call's chunks into replies. A true return value of `take` stops the engine."""

    def __init__(
        self,
        call_id: int,
        seam: _Seam,
        healed_tokens: int,
        live: Callable[[], bool],
        send: Callable[[Reply], None],
    ) -> None:
        self._id, self._seam, self._healed = call_id, seam, healed_tokens
        self._live, self._send = live, send
        self._opened = self._failed = False
        self._reason: str | None = None
        self._usage = _Usage()

    def take(self, data: bytes) -> bool:
        if self._failed or not self._live():
            return True
        # The engine's thread cannot carry an exception; what is not understood ends the call.
        try:
            self._read(_CHUNK.decode(data))
        except (msgspec.DecodeError, ValueError):
            self._fail(Fault(id=self._id, kind="engine"))
        return self._failed

    def _read(self, chunk: _Chunk) -> None:
        if chunk.error is not None:
            self._fail(_fault(self._id, chunk.error))
            return
        if not self._opened:
            self._opened = True
            self._send(Opened(id=self._id))
        if chunk.usage is not None:
            self._usage = chunk.usage
        for choice in chunk.choices:
            piece = choice.delta or _Piece(content=choice.text)
            text = self._seam.cut(piece.content or "")
            if text or piece.reasoning_content:
                self._send(Delta(id=self._id, text=text, reasoning=piece.reasoning_content or ""))
            self._reason = choice.finish_reason or self._reason

    def _fail(self, fault: Fault) -> None:
        self._failed = True
        self._send(fault)

    def close(self) -> None:
        if self._failed or not self._live():
            return
        if self._reason is None:
            self._send(Fault(id=self._id, kind="engine"))
            return
        usage = self._usage
        made, details = usage.completion_tokens, usage.prompt_tokens_details
        self._send(
            Ended(
                id=self._id,
                reason=self._reason,
                input_tokens=usage.prompt_tokens,
                # What the model said again to join on was counted when it was first said.
                output_tokens=None if made is None else max(0, made - self._healed),
                cached_tokens=details.cached_tokens if details else None,
            )
        )


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, descriptor: int) -> None:
        super().__init__("engine")
        self._descriptor = descriptor

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(f"/proc/self/fd/{self._descriptor}")


def _as_objects(messages: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in messages]


def _fault(call_id: int, error: _EngineError) -> Fault:
    if error.type == "exceed_context_size_error":
        return Fault(id=call_id, kind="context", tokens=error.n_prompt_tokens)
    return Fault(id=call_id, kind="refused" if 400 <= error.code < 500 else "engine")


_CHUNK: Final = msgspec.json.Decoder(_Chunk)

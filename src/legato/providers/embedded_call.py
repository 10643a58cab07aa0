"""One call to the embedded engine, seen from the server: the child's replies become deltas and an end."""

from __future__ import annotations

import asyncio
from typing import Final

from legato.core.run_errors import ContextExceeded, RunError, UpstreamBroken, UpstreamRefused, UpstreamUnavailable
from legato.core.usage import Usage
from legato.providers.base import CallEnd, DeltaSink, EndReason
from legato.providers.embedded_messages import Counted, Delta, Ended, Fault, Opened, Reply

_REASONS: Final[dict[str, EndReason]] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
}


class EngineCall:
    """One call's replies on their way to its sink. While it is paused they wait here, at most max_tokens."""

    def __init__(self, slot_tokens: int, sink: DeltaSink) -> None:
        self.done: asyncio.Future[CallEnd] = asyncio.get_running_loop().create_future()
        self._slot_tokens = slot_tokens
        self._sink = sink
        self._begun = False
        self._held: list[Reply | str] | None = None

    def pause_reading(self) -> None:
        if self._held is None:
            self._held = []

    def resume_reading(self) -> None:
        held, self._held = self._held or [], None
        for index, reply in enumerate(held):
            self._pass_on(reply)
            if self._held is not None:
                self._held = held[index + 1 :]
                return

    def take(self, reply: Reply) -> None:
        self._hold_or_pass_on(reply)

    def ended(self, how: str) -> None:
        self._hold_or_pass_on(how)

    def _hold_or_pass_on(self, reply: Reply | str) -> None:
        if self._held is None:
            self._pass_on(reply)
        else:
            self._held.append(reply)

    def _pass_on(self, reply: Reply | str) -> None:
        if self.done.done():
            return
        # One reply's fault (its sink's included) must not reach the calls that share the engine.
        try:
            match reply:
                case Opened():
                    self._sink.opened(self)
                case Delta():
                    self._begun = True
                    if reply.reasoning:
                        self._sink.reasoning(reply.reasoning)
                    if reply.text:
                        self._sink.text(reply.text)
                case Ended():
                    self.done.set_result(_call_end(reply))
                case Fault():
                    self.done.set_exception(self._error(reply))
                case str():
                    self.done.set_exception(self._broken(f"the embedded engine ended ({reply})"))
                case _:
                    pass
        except Exception as error:  # noqa: BLE001
            self.done.set_exception(error)

    def _error(self, fault: Fault) -> RunError:
        match fault.kind:
            case "context":
                size = f"{fault.tokens} tokens" if fault.tokens else "more tokens"
                return ContextExceeded(f"the conversation has {size}, and the embedded model takes {self._slot_tokens}")
            case "refused":
                return UpstreamRefused("the embedded model's chat template did not take the messages")
            case "engine":
                return self._broken("the embedded engine failed")

    def _broken(self, message: str) -> UpstreamUnavailable:
        return UpstreamBroken(message) if self._begun else UpstreamUnavailable(message)


class EngineCount:
    """One count of tokens; None if the engine ended or failed."""

    def __init__(self) -> None:
        self.done: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    def take(self, reply: Reply) -> None:
        if not self.done.done():
            self.done.set_result(reply.tokens if isinstance(reply, Counted) else None)

    def ended(self, how: str) -> None:
        if not self.done.done():
            self.done.set_result(None)


def _call_end(ended: Ended) -> CallEnd:
    return CallEnd(
        reason=_REASONS.get(ended.reason, "stop"),
        usage=Usage(
            input_tokens=ended.input_tokens,
            output_tokens=ended.output_tokens,
            cache_read_tokens=ended.cached_tokens,
        ),
    )

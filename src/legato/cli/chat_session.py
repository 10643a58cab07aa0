"""Messages and replies at a terminal: what `legato chat` shows, and what Ctrl-C does."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
from types import TracebackType
from typing import assert_never
from urllib.parse import quote

from legato.cli.exits import FAILED, OK, STOPPED, UNREACHABLE
from legato.cli.terminal import complain, neutral, one_line, shortened, yes_typed
from legato.client import (
    Aborted,
    ApprovalEvent,
    BadStream,
    ChatClient,
    ChatEvent,
    Chunk,
    CitationEvent,
    Complete,
    Failure,
    Open,
    Queued,
    Reasoning,
    Reconnected,
    Reconnecting,
    Refused,
    ReplyStream,
    ToolEvent,
    Unknown,
    Unreachable,
)
from legato.client.connection import run_path

_ENDS = {
    "length": "the reply reached its longest length",
    "content_filter": "no more may be said",
    "tool_limit": "the reply used as many tools as it may",
    "budget": "the budget is spent",
    "fallback": "no model answered; this is the configured fallback",
}


class Talk:
    """A conversation with one server, a reply at a time.

    Args:
        asks: Whether tool calls that need approval are asked about at the terminal; else it is said how to decide.

    Attributes:
        conversation_id: The conversation that the next message goes to; None begins one.
        left: Whether Ctrl-C was pressed twice during the last reply.
    """

    def __init__(self, url: str, key: str | None, conversation_id: str | None, *, asks: bool) -> None:
        self.conversation_id = conversation_id
        self.left = False
        self._asks = asks
        self._stopping = False
        self._question: asyncio.Task[bool] | None = None
        self._url = url
        self._key = key
        self._session_id: str | None = None
        self._runner = asyncio.Runner()

    def __enter__(self) -> Talk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.close()

    def say(self, message: str) -> int:
        """Send a message, print the reply, and return the exit code that tells how it ended."""
        self.left = self._stopping = False
        return self._runner.run(self._say(message))

    async def _say(self, message: str) -> int:
        loop = asyncio.get_running_loop()
        client = ChatClient(self._session_id, self.conversation_id, base_url=self._url, api_key=self._key)
        self._session_id = client.session_id
        reply = client.stream(message)
        screen = Screen()
        showing = asyncio.create_task(self._show(client, reply, screen))
        stops: list[asyncio.Task[None]] = []

        def interrupted() -> None:
            if stops:
                self.left = True
                showing.cancel()
            else:
                stops.append(asyncio.create_task(reply.stop()))
                self._stopping = True
                if self._question is not None:
                    self._question.cancel()

        loop.add_signal_handler(signal.SIGINT, interrupted)
        try:
            code = await showing
        except asyncio.CancelledError:
            code = STOPPED
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            for task in stops:
                task.cancel()
            await asyncio.gather(*stops, return_exceptions=True)
            screen.close()
            self.conversation_id = client.conversation_id
        return STOPPED if stops else code

    async def _show(self, client: ChatClient, reply: ReplyStream, screen: Screen) -> int:
        try:
            async with reply:
                async for event in reply:
                    screen.show(event)
                    if isinstance(event, ApprovalEvent) and event.status == "asked" and not self._stopping:
                        await self._approve(client, reply, screen, event)
                    if isinstance(event, Complete):
                        return STOPPED if event.finish_reason == "stopped" else OK
        except Aborted:
            return STOPPED
        except Unreachable as error:
            screen.close()
            complain(_unreachable(self._url, error, reply))
            return UNREACHABLE
        except Refused as error:
            screen.close()
            complain(_refused(self._url, error))
        except BadStream as error:
            screen.close()
            complain(f"what answers at {self._url} does not speak Legato's protocol: {error}")
        return FAILED

    async def _approve(self, client: ChatClient, reply: ReplyStream, screen: Screen, asked: ApprovalEvent) -> None:
        """Ask whether a tool call may be made and pass the answer on; the stream waits meanwhile, as the reply does."""
        # A replay may bring the question and its answer together.
        if reply.is_decided(asked.call_id):
            return
        run_id = reply.run_id or ""
        # In full: nobody can agree to what they are not shown.
        call = f"{one_line(asked.name)}({one_line(asked.arguments)})"
        if not self._asks:
            address = f"{self._url}{run_path(run_id)}/approvals/{quote(asked.call_id, safe='')}"
            complain(f"{call} waits for approval: {self._by_hand(address)}")
            return
        screen.ask(f"Allow {call}? [y/N] ")
        self._question = question = asyncio.create_task(yes_typed())
        try:
            await asyncio.wait({question})
        finally:
            question.cancel()
            self._question = None
        # By Ctrl-C: the reply is being stopped.
        if question.cancelled():
            return
        screen.answered()
        try:
            await client.decide(run_id, asked.call_id, question.result())
        except Refused as refused:
            # Somebody else was faster, or the time was over: the reply goes on, and tells.
            complain(f"your answer came to nothing: {one_line(refused.message)}")

    def _by_hand(self, address: str) -> str:
        key = ' -H "Authorization: Bearer $LEGATO_CHAT_KEY"' if self._key else ""
        return f"curl {shlex.quote(address)}{key} -H 'content-type: application/json' -d '{{\"granted\": true}}'"


class Screen:
    """Prints one reply: its text on standard output, all else quietly on standard error."""

    def __init__(self) -> None:
        self._at_line_start = True
        self._note = ""
        self._thinking = False
        self._together = sys.stdout.isatty() and sys.stderr.isatty()

    def show(self, event: ChatEvent) -> None:
        match event:
            case Chunk():
                self._erase_note()
                self._end_thinking()
                self._write(neutral(event.content))
            case Reasoning():
                self._erase_note()
                self._think(neutral(event.content))
            case Queued():
                self._set_note(f"waiting for {event.ahead} earlier in this conversation …")
            case ToolEvent(status="called"):
                self._make_place()
                self._tell(f"{one_line(event.name)}({shortened(event.arguments or '')})")
            case ToolEvent(status="failed"):
                self._make_place()
                self._tell(f"{one_line(event.name)} failed: {shortened(event.output or '')}")
            case ApprovalEvent():
                self._make_place()
                if event.status != "asked":
                    self._say(f"{one_line(event.name)} was {event.status}")
            case Reconnecting():
                self._set_note("reconnecting …")
            case Reconnected(restarted=True):
                self._erase_note()
                self.close()
                self._say("the server lost the end of what is above; the reply from its start:")
            case Complete() | Failure():
                self._erase_note()
                self._end_thinking()
                self.close()
                self._end(event)
            case Open() | Reconnected() | ToolEvent() | CitationEvent() | Unknown():
                pass
            case _:
                assert_never(event)

    def ask(self, question: str) -> None:
        """Print a question on a line of its own, and stay there for the answer."""
        self.close()
        self._write(question)

    def answered(self) -> None:
        """Note that the answer to a question has ended its line."""
        self._at_line_start = True

    def close(self) -> None:
        """End the last line."""
        self._erase_note()
        if not self._at_line_start:
            self._write("\n")

    def _write(self, text: str) -> None:
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()
            self._at_line_start = text.endswith("\n")

    def _think(self, text: str) -> None:
        if self._together and text:
            self._thinking = True
            self._write(_dim(text))
            self._at_line_start = False

    def _end_thinking(self) -> None:
        if self._thinking:
            self._thinking = False
            self._write("\n\n")

    def _make_place(self) -> None:
        """Begin a line for something else than the reply; where that goes elsewhere, nothing is put into it."""
        self._erase_note()
        self._end_thinking()
        if self._together:
            self.close()

    def _set_note(self, text: str) -> None:
        """Show what goes on; at a terminal it gives way to what comes next."""
        if text == self._note:
            return
        self._erase_note()
        self._note = text
        if self._together:
            sys.stderr.write(_dim(f"[{text}]"))
            sys.stderr.flush()
        else:
            complain(text)

    def _erase_note(self) -> None:
        if self._note and self._together:
            width = len(self._note) + 2
            sys.stderr.write("\b" * width + " " * width + "\b" * width)
            sys.stderr.flush()
        self._note = ""

    def _end(self, end: Complete | Failure) -> None:
        if isinstance(end, Failure):
            more = " (what came of it is kept)" if end.partial else ""
            complain(f"the reply failed: {one_line(end.error)}{more}")
            return
        if end.failover is not None:
            self._say(f"answered by {end.failover.to_model}, because {end.failover.from_model} failed")
        if end.finish_reason == "stopped":
            self._say("stopped")
        elif end.finish_reason != "stop":
            self._say(_ENDS.get(end.finish_reason, f"the reply ended: {end.finish_reason}"))

    def _say(self, text: str) -> None:
        self._tell(f"({text})" if self._together else text)

    def _tell(self, text: str) -> None:
        if self._together:
            print(_dim(one_line(text)), file=sys.stderr, flush=True)
        else:
            complain(text)


def _dim(text: str) -> str:
    import os

    return text if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else f"\x1b[2m{text}\x1b[0m"


def _unreachable(url: str, error: Unreachable, reply: ReplyStream) -> str:
    if error.was_there:
        go_on = f"; when it is there again the reply is too: GET {url}{run_path(reply.run_id)}" if reply.run_id else ""
        return f"the server at {url} was cut off and has not come back{go_on}"
    return f"no server answers at {url} ({error.why}): start it with `legato serve`, or name another with --url"


def _refused(url: str, refused: Refused) -> str:
    again = ""
    if refused.retry_after_s is not None and "try again in" not in refused.message:
        again = f"; try again in {refused.retry_after_s:.0f} s"
    if refused.status == 401:
        return (
            f"the server wants a key ({one_line(refused.message)}): make one where it runs with "
            "`legato keys create --name me`, and set LEGATO_CHAT_KEY to it"
        )
    if refused.code == "not_legato":
        return f"{url} answered {refused.status}: {refused.message}{again}"
    code = f"{refused.status} {one_line(refused.code)}" if refused.status else one_line(refused.code)
    return f"{one_line(refused.message)} ({code}){again}"

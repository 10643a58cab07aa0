"""Messages and replies at a terminal: what `legato chat` shows, and what Ctrl-C does."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from types import TracebackType
from typing import Any, assert_never

from legato.cli.exits import FAILED, OK, STOPPED, UNREACHABLE
from legato.cli.reply_stream import BadStream, Cut, Ended, Happening, Queued, Restarted, Text, Thinking
from legato.cli.stream_client import Refused, ReplyReader, Unreachable, open_session
from legato.cli.terminal import complain, neutral, one_line

_ENDS = {
    "length": "the reply reached its longest length",
    "content_filter": "the model's provider filtered the reply",
    "tool_limit": "the reply used as many tools as it may",
    "budget": "the budget is spent",
    "fallback": "no model answered; this is the configured fallback",
}


class Talk:
    """A conversation with one server, a reply at a time.

    Attributes:
        conversation_id: The conversation that the next message goes to; None begins one.
        left: Whether Ctrl-C was pressed twice during the last reply.
    """

    def __init__(self, url: str, key: str | None, conversation_id: str | None) -> None:
        self.conversation_id = conversation_id
        self.left = False
        self._url = url
        self._key = key
        self._runner = asyncio.Runner()

    def __enter__(self) -> Talk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.close()

    def say(self, message: str) -> int:
        """Send a message, print the reply, and return the exit code that tells how it ended."""
        self.left = False
        return self._runner.run(self._say(message))

    async def _say(self, message: str) -> int:
        loop = asyncio.get_running_loop()
        async with open_session(self._key) as session:
            reader = ReplyReader(session, self._url, message, conversation_id=self.conversation_id)
            screen = Screen()
            showing = asyncio.create_task(self._show(reader, screen))
            stops: list[asyncio.Task[None]] = []

            def interrupted() -> None:
                if stops:
                    self.left = True
                    showing.cancel()
                else:
                    stops.append(asyncio.create_task(reader.stop()))

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
                self.conversation_id = reader.conversation_id
        return STOPPED if stops else code

    async def _show(self, reader: ReplyReader, screen: Screen) -> int:
        try:
            async with contextlib.aclosing(reader.happenings()) as happenings:  # type: ignore[type-var]
                async for happening in happenings:
                    screen.show(happening)
                    if isinstance(happening, Ended):
                        return _exit_code(happening)
        except Unreachable as error:
            screen.close()
            complain(_unreachable(self._url, error, reader))
            return UNREACHABLE
        except Refused as error:
            screen.close()
            complain(_refused(self._url, error))
        except BadStream as error:
            screen.close()
            complain(f"what answers at {self._url} does not speak Legato's protocol: {error}")
        return FAILED


class Screen:
    """Prints one reply: its text on standard output, all else quietly on standard error."""

    def __init__(self) -> None:
        self._at_line_start = True
        self._note = ""
        self._thinking = False
        self._together = sys.stdout.isatty() and sys.stderr.isatty()

    def show(self, happening: Happening) -> None:
        match happening:
            case Text():
                self._erase_note()
                self._end_thinking()
                self._write(neutral(happening.text))
            case Thinking():
                self._erase_note()
                self._think(neutral(happening.text))
            case Queued():
                self._set_note(f"waiting for {happening.ahead} earlier in this conversation …")
            case Cut():
                self._set_note("reconnecting …")
            case Restarted():
                self._erase_note()
                self.close()
                self._say("the server lost the end of what is above; the reply from its start:")
            case Ended():
                self._erase_note()
                self._end_thinking()
                self.close()
                self._end(happening)
            case _:
                assert_never(happening)

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

    def _end(self, ended: Ended) -> None:
        if ended.error is not None:
            more = " (what came of it is kept)" if ended.data.get("partial") else ""
            complain(f"the reply failed: {one_line(ended.error)}{more}")
            return
        failover: Any = ended.data.get("failover")
        if isinstance(failover, dict):
            self._say(f"answered by {failover.get('to')}, because {failover.get('from')} failed")
        if ended.reason == "stopped":
            self._say("stopped")
        elif ended.reason != "stop":
            self._say(_ENDS.get(ended.reason, f"the reply ended: {ended.reason}"))

    def _say(self, text: str) -> None:
        if self._together:
            print(_dim(f"({one_line(text)})"), file=sys.stderr, flush=True)
        else:
            complain(text)


def _dim(text: str) -> str:
    import os

    return text if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else f"\x1b[2m{text}\x1b[0m"


def _exit_code(ended: Ended) -> int:
    if ended.error is not None:
        return FAILED
    return STOPPED if ended.reason == "stopped" else OK


def _unreachable(url: str, error: Unreachable, reader: ReplyReader) -> str:
    if error.was_there:
        go_on = f"; when it is there again the reply is too: GET {url}/chat/stream/{reader.run_id}"
        return f"the server at {url} was cut off and has not come back{go_on if reader.run_id else ''}"
    return f"no server answers at {url} ({error}): start it with `legato serve`, or name another with --url"


def _refused(url: str, refused: Refused) -> str:
    again = ""
    if refused.retry_after_s is not None and "try again in" not in refused.detail:
        again = f"; try again in {refused.retry_after_s:.0f} s"
    if refused.status == 401:
        return (
            f"the server wants a key ({one_line(refused.detail)}): make one where it runs with "
            "`legato keys create --name me`, and set LEGATO_CHAT_KEY to it"
        )
    if not refused.code:
        return f"{url} answered {refused.status}: {refused.detail}{again}"
    return f"{one_line(refused.detail)} ({refused.status} {refused.code}){again}"

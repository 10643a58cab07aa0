"""Talks to an MCP server that is a program: one JSON message a line over its standard input and output.

The MCP library's own transport puts a long line together by copying it anew for every piece that is read (a result of
50 MB took 51 s of CPU and 626 MB), so lines are read here, each at most MAX_MESSAGE_BYTES long. A program that sends a
longer one is ended. Its standard error is kept short and told when it dies.

This file imports `mcp` and is imported late.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
LEAVE_S = 2.0
"""How long a program may take to end once its standard input is closed, and again after SIGTERM."""
_LAST_WORDS_CHARS = 800

Ended = Callable[[str, str], None]
Messages = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]


@asynccontextmanager
async def program(
    command: Sequence[str], *, env: Mapping[str, str], cwd: str | None, ended: Ended
) -> AsyncIterator[Messages]:
    """Run a program and exchange messages with it; on leaving, it and its children are ended.

    Args:
        env: Beside PATH, HOME and a few others; nothing else of this process's environment reaches it.
        cwd: Its folder; this process's by default.
        ended: Called once, with the reason and its last words, when it ends, or stops talking, by itself.

    Raises:
        OSError: It cannot be started.
    """
    process = await anyio.open_process(list(command), env=_environment() | dict(env), cwd=cwd, start_new_session=True)
    # No await between here and the task group: a cancellation would leave the program behind.
    for_session, from_program = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    for_program, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    talk = _Talk(process, ended)
    async with for_session, from_program, for_program, from_session, anyio.create_task_group() as group:
        group.start_soon(talk.read, for_session)
        group.start_soon(talk.write, from_session)
        group.start_soon(talk.read_errors)
        try:
            yield from_program, for_program
        finally:
            talk.leaving = True
            with anyio.CancelScope(shield=True):
                await _end(process, at_once=talk.faulty)
            group.cancel_scope.cancel()


class _Talk:
    def __init__(self, process: anyio.abc.Process, ended: Ended) -> None:
        self._process = process
        self._ended = ended
        self._last_words: deque[str] = deque(maxlen=8)
        self.leaving = False
        self.faulty = False

    async def read(self, for_session: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        assert self._process.stdout is not None
        lines = BufferedByteReceiveStream(self._process.stdout)
        # The reason is told before the stream ends: whoever waits for an answer learns both.
        async with for_session:
            try:
                while True:
                    line = await lines.receive_until(b"\n", MAX_MESSAGE_BYTES)
                    try:
                        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                    except ValueError:
                        # Programs print other things too; the protocol forbids it, and the line is nobody's.
                        continue
                    await for_session.send(SessionMessage(message))
            except anyio.DelimiterNotFound:
                self.faulty = True
                await self._tell(f"it sent a message of more than {MAX_MESSAGE_BYTES} bytes")
            except (anyio.IncompleteRead, anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
                await self._tell("it ended")

    async def write(self, from_session: MemoryObjectReceiveStream[SessionMessage]) -> None:
        assert self._process.stdin is not None
        try:
            async for each in from_session:
                text = each.message.model_dump_json(by_alias=True, exclude_unset=True)
                await self._process.stdin.send(text.encode() + b"\n")
        except (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
            # Its output ends too, or it does not read any more: either way no answer comes.
            await self._tell("it reads no more")

    async def read_errors(self) -> None:
        assert self._process.stderr is not None
        with suppress(anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
            while True:
                piece = await self._process.stderr.receive()
                self._last_words.append(piece[-_LAST_WORDS_CHARS:].decode("utf-8", "replace"))

    async def _tell(self, reason: str) -> None:
        if self.leaving:
            return
        self.leaving = True
        # What it said last may still be on its way.
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.05)
        self._ended(reason, " ".join("".join(self._last_words).split())[-_LAST_WORDS_CHARS:])


async def _end(process: anyio.abc.Process, *, at_once: bool) -> None:
    """End a program as the protocol says: close its input, wait, SIGTERM, wait, SIGKILL."""
    try:
        if process.stdin is not None:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                await process.stdin.aclose()
        if not await _is_gone(process, 0 if at_once else LEAVE_S):
            _signal(process, "TERM")
            await _is_gone(process, LEAVE_S)
    finally:
        # A task that is cancelled in the midst of it, which no shield of anyio's prevents, has no time left.
        if process.returncode is None:
            _signal(process, "KILL")
        with anyio.move_on_after(LEAVE_S):
            await process.aclose()


async def _is_gone(process: anyio.abc.Process, within_s: float) -> bool:
    # Asked for, not waited for: a child that holds the pipes would make a program that has ended look alive.
    with anyio.move_on_after(within_s):
        while process.returncode is None:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    return process.returncode is not None


def _signal(process: anyio.abc.Process, sign: Literal["TERM", "KILL"]) -> None:
    """Send a signal to a program and its children."""
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            # It leads a group of its own.
            os.killpg(process.pid, signal.SIGTERM if sign == "TERM" else signal.SIGKILL)


def _environment() -> dict[str, str]:
    """Return PATH, HOME and a few others; `python` is this one, where the program may find what is installed here."""
    found = get_default_environment()
    here = str(Path(sys.executable).parent)
    return found | {"PATH": f"{here}{os.pathsep}{found.get('PATH', os.defpath)}"}

"""Functions that are not async run in threads of their own, so that they never stop the event loop.

A thread cannot be ended from outside. One that outlives its time limit is left to itself: it is a daemon, so it holds
no exit up, and the number of threads is bounded, so forgotten ones cannot pile up. Where all are taken a tool is
refused, and the model told so; a policy waits its turn, for as long as it may take.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import Any

from legato.core.errors import ToolError

MAX_THREADS = 64


class Threads:
    """Runs functions in daemon threads, at most `limit` of them at a time."""

    def __init__(self, limit: int = MAX_THREADS) -> None:
        self._free = threading.BoundedSemaphore(limit)
        self._limit = limit

    async def run(self, function: Callable[[], Any], *, name: str) -> Any:
        """Return what `function` returns, or raise what it raises.

        Raises:
            ToolError: All threads are taken, by calls that run or that never ended.
        """
        if not self._free.acquire(blocking=False):
            raise ToolError(f"{self._limit} tools are running already: try again later")
        return await _begin(function, f"legato-tool-{name}", self._free.release)


class Turns:
    """Runs functions in daemon threads, at most `limit` of them at a time; the next waits its turn. Of one event loop.

    Args:
        name: Of the threads.
    """

    def __init__(self, name: str, limit: int = MAX_THREADS) -> None:
        self._name = name
        self._free = asyncio.Semaphore(limit)

    async def run(self, function: Callable[[], Any]) -> Any:
        """Return what `function` returns, or raise what it raises; whoever is cancelled while it waits runs nothing."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()

        def freed() -> None:
            # Where the loop was closed meanwhile nobody waits any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._free.release)

        return await _begin(function, f"legato-{self._name}", freed)


def _begin(function: Callable[[], Any], name: str, freed: Callable[[], None]) -> asyncio.Future[Any]:
    """Run a function in a thread of its own; return what becomes of it.

    Args:
        freed: Called in the thread when the function has come to its end, or here where it cannot begin.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def work() -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = context.run(function)
        except StopIteration:
            # A future cannot hold it.
            error = RuntimeError("the tool raised StopIteration")
        except BaseException as raised:  # noqa: BLE001 - handed on to whoever waits
            error = raised
        finally:
            freed()
        try:
            loop.call_soon_threadsafe(_settle, future, result, error)
        except RuntimeError:
            # The loop was closed meanwhile: nobody waits any more.
            pass

    try:
        threading.Thread(target=work, name=name, daemon=True).start()
    except BaseException:
        freed()
        raise
    return future


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


THREADS = Threads()
"""The threads of this process's tools."""

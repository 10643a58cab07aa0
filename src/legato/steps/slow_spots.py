"""What every handler runs in: it names who holds the event loop up, and lets none end the server.

Whoever computes for long in the loop makes all replies wait. `sys.exit()`, of a library's command line perhaps, would
end the loop with all of them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator
from typing import Any, Final, TypeVar

import structlog

T = TypeVar("T")
log = structlog.get_logger(__name__)

LONGEST_S: Final = 0.1
"""A handler that keeps the loop for longer without an await is named in the log."""


class Timed(Coroutine[Any, Any, T]):
    """A handler's coroutine, timed between each two of its awaits; its SystemExit is a RuntimeError.

    Args:
        name: The step's, or the tool's.
    """

    __slots__ = ("_inner", "_name")

    def __init__(self, name: str, inner: Coroutine[Any, Any, T]) -> None:
        self._name = name
        self._inner = inner

    def send(self, value: Any) -> Any:
        began_s = time.perf_counter()
        try:
            return self._inner.send(value)
        except SystemExit as error:
            raise RuntimeError(f"the handler raised SystemExit: {error}") from error
        finally:
            self._look(began_s)

    def throw(self, *error: Any) -> Any:
        began_s = time.perf_counter()
        try:
            return self._inner.throw(*error)
        except SystemExit as raised:
            raise RuntimeError(f"the handler raised SystemExit: {raised}") from raised
        finally:
            self._look(began_s)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return _drive(self)

    def _look(self, began_s: float) -> None:
        spent_s = time.perf_counter() - began_s
        if spent_s > LONGEST_S:
            log.warning(
                "a handler held the event loop up: all replies waited; use await, or asyncio.to_thread",
                handler=self._name,
                held_ms=round(spent_s * 1000),
            )


def _drive(timed: Timed[T]) -> Generator[Any, Any, T]:
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            waited = timed.send(value) if error is None else timed.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        value = error = None
        try:
            value = yield waited
        except GeneratorExit:
            timed.close()
            raise
        except BaseException as raised:  # noqa: BLE001 - it is the handler's to take
            error = raised


async def timed_items(name: str, items: AsyncGenerator[T, None]) -> AsyncIterator[T]:
    """Yield what a handler yields, timed as by Timed; closes it at the end."""
    try:
        while True:
            try:
                item = await Timed(name, items.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        await items.aclose()

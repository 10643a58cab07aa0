"""A handler that holds the event loop up is named in the log, and one that waits is not."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator

import pytest
from structlog.testing import capture_logs

from legato.steps import slow_spots
from legato.steps.slow_spots import Timed, timed_items

HOLD_S = 0.15


class _Time:
    """Stands for the module `time`: a busy machine's own would pass while a handler holds nothing up."""

    now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s

    def passes(self) -> None:
        self.now_s += HOLD_S


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> _Time:
    made = _Time()
    monkeypatch.setattr(slow_spots, "time", made)
    return made


async def _holds(time: _Time) -> str:
    await asyncio.sleep(0)
    time.passes()
    await asyncio.sleep(0)
    return "done"


async def _waits(time: _Time) -> str:
    # It comes before this handler's next turn.
    asyncio.get_running_loop().call_soon(time.passes)
    await asyncio.sleep(0)
    return "done"


async def _fails() -> str:
    await asyncio.sleep(0)
    raise ValueError("its own")


async def test_a_handler_that_holds_the_loop_up_is_named(time: _Time) -> None:
    """With its name and for how long; the result is as it was."""
    with capture_logs() as logs:
        assert await Timed("slow one", _holds(time)) == "done"
    (line,) = logs
    assert (line["handler"], line["log_level"]) == ("slow one", "warning")
    assert HOLD_S * 1000 <= line["held_ms"] < HOLD_S * 1000 + 500


async def test_a_handler_that_waits_is_not(time: _Time) -> None:
    """Time in an await is the loop's own."""
    with capture_logs() as logs:
        assert await Timed("x", _waits(time)) == "done"
    assert time.now_s == HOLD_S
    assert logs == []


async def test_errors_and_cancellation_pass_through() -> None:
    """The handler sees what it would see alone."""
    with pytest.raises(ValueError, match="its own"):
        await Timed("x", _fails())
    seen: list[str] = []

    async def notes() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    task = asyncio.ensure_future(_as_task(Timed("x", notes())))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]


async def _as_task(timed: Timed[None]) -> None:
    await timed


async def test_a_handler_that_catches_what_is_thrown_goes_on() -> None:
    """A time limit inside it works as without."""

    async def patient() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            return "went on"
        return "?"

    assert await Timed("x", patient()) == "went on"


async def test_no_handler_ends_the_server() -> None:
    """`sys.exit()` is a failure of its handler's, wherever it stands, and not the end of the event loop."""

    async def leaves_late() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            sys.exit(4)

    async def pieces() -> AsyncGenerator[int, None]:
        yield 1
        sys.exit(5)

    async def leaves() -> None:
        sys.exit(3)

    async def late() -> None:
        async with asyncio.timeout(0.01):
            await Timed("x", leaves_late())

    async def read() -> list[int]:
        return [each async for each in timed_items("x", pieces())]

    for work, code in ((_as_task(Timed("x", leaves())), 3), (late(), 4), (read(), 5)):
        with pytest.raises(RuntimeError, match=f"the handler raised SystemExit: {code}"):
            await work


async def test_each_piece_of_a_stream_is_timed_and_the_stream_is_closed(time: _Time) -> None:
    """The one that holds is named; `finally` runs where the reader stops early."""
    closed: list[str] = []

    async def pieces() -> AsyncGenerator[int, None]:
        try:
            yield 1
            time.passes()
            yield 2
            yield 3
        finally:
            closed.append("closed")

    with capture_logs() as logs:
        items = timed_items("stream", pieces())
        found = [await anext(items), await anext(items)]
        await items.aclose()  # type: ignore[attr-defined]
    assert found == [1, 2]
    assert [line["handler"] for line in logs] == ["stream"]
    assert closed == ["closed"]

"""Tool calls run: arguments as a model writes them in, text for the model out, whatever happens between."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from legato.core.errors import NotFound, ToolError
from legato.tools.base import ToolResult
from legato.tools.run import PreparedCall, decode_arguments, prepare
from legato.tools.schema import tool_from
from legato.tools.threads import Threads


@dataclasses.dataclass
class Passage:
    title: str
    score: float


class Model(BaseModel):
    when: datetime
    passages: list[Passage]


async def call(function: Callable[..., Any], arguments: str = "", context: object = None, **limits: Any) -> ToolResult:
    tool = tool_from(function, **limits)
    return await prepare({tool.name: tool}, tool.name, arguments).run(context)


@pytest.mark.parametrize(
    ("value", "output"),
    [
        ("as it is\n", "as it is\n"),
        ("", ""),
        (None, "null"),
        (7, "7"),
        (float("inf"), "null"),
        ({"a": [1, "b"]}, '{"a":[1,"b"]}'),
        ([Passage("A", 0.5)], '[{"title":"A","score":0.5}]'),
        (
            Model(when=datetime(2026, 1, 2, tzinfo=UTC), passages=[Passage("A", 1)]),
            '{"when":"2026-01-02T00:00:00Z","passages":[{"title":"A","score":1.0}]}',
        ),
        ({Decimal("1.50")}, '["1.50"]'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        ("lone \ud800, \U0001f600", "lone \ufffd, \U0001f600"),
    ],
    ids=str,
)
async def test_a_result_becomes_text(value: object, output: str) -> None:
    """A `str` is told as it is, anything else as JSON; the text is always valid Unicode."""

    async def give() -> object:
        """Give."""
        return value

    result = await call(give)
    assert (result.output, result.is_error) == (output, False)
    result.output.encode()


def circle() -> list[object]:
    made: list[object] = []
    made.append(made)
    return made


@pytest.mark.parametrize("make", [object, circle, lambda: (n for n in range(3)), lambda: b"\xff", threading.Lock])
async def test_a_result_that_json_cannot_say_is_an_error(make: Callable[[], object]) -> None:
    """The model learns that the tool is at fault; nothing of the value is told."""

    async def give() -> object:
        """Give."""
        return make()

    result = await call(give)
    assert result.is_error
    assert result.output.startswith("the tool gave a ")
    assert "0x" not in result.output


@pytest.mark.parametrize("size", [999, 1000, 1001, 5_000_000])
async def test_a_long_output_is_cut_and_says_so(size: int) -> None:
    """The model is told at most `max_output_chars` characters, with the whole length at the end of a cut."""

    def write(size: int) -> str:
        """Write."""
        return "x" * size

    result = await call(write, f'{{"size": {size}}}', max_output_chars=1000)
    assert len(result.output) == min(size, 1000)
    assert result.output.endswith(f"[cut: the whole output has {size} characters]") is (size > 1000)
    assert not result.is_error


async def test_a_long_error_is_cut_too() -> None:
    """The bound holds for what a tool says of its failure."""

    async def fail() -> None:
        """Fail."""
        raise ToolError("e" * 5000)

    result = await call(fail, max_output_chars=1000)
    assert result.is_error
    assert len(result.output) == 1000


async def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


@pytest.mark.parametrize(
    ("written", "output", "is_error"),
    [
        ('{"a": 1, "b": 2}', "3", False),
        ('{"a": 1}', "2", False),
        (' {"a": "4"} ', "5", False),
        ("", "invalid arguments: a: field required", True),
        ("null", "invalid arguments: a: field required", True),
        ("[1, 2]", "invalid arguments: a JSON object is needed, not list", True),
        ('"a"', "invalid arguments: a JSON object is needed, not str", True),
        ('{"a": 1', "invalid arguments: not JSON (EOF", True),
        ('{"a": 1}}', "invalid arguments: not JSON (trailing characters", True),
        ('{"a": NaN}', "invalid arguments: not JSON", True),
        ("[" * 100_000, "invalid arguments: not JSON", True),
        ('{"a": "\\ud800"}', "invalid arguments: not JSON", True),
        ('{"a": "x\ny"}', "invalid arguments: a: input should be a valid integer", True),
        ('{"a": 1, "c": 3}', "invalid arguments: c: there is no such argument (the arguments are: a, b)", True),
        ('{"a": {}}', "invalid arguments: a: input should be a valid integer", True),
        ('{"a": ' + "9" * 5000 + "}", "invalid arguments:", True),
        ('{"a": "' + "x" * 300_000 + '"}', "invalid arguments: more than 262144 characters", True),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_arguments_are_validated_before_anything_runs(written: str, output: str, is_error: bool) -> None:
    """What is no JSON object or does not fit is told to the model, argument by argument."""
    result = await call(add, written)
    assert result.is_error is is_error
    assert result.output.startswith(output)
    assert len(result.output) < 1000


async def test_line_breaks_in_texts_are_taken() -> None:
    """Models write texts with bare line breaks now and then; those are no error."""
    assert decode_arguments('{"a": "x\ny", "big": 12345678901234567890123}') == {
        "a": "x\ny",
        "big": 12345678901234567890123,
    }


async def test_a_tool_that_is_not_there_is_told_with_those_that_are() -> None:
    """The model can choose another; nothing runs and nobody is asked."""
    refused = prepare({"add": tool_from(add, needs_approval=True)}, "ad", "{}")
    assert not await refused.needs_approval()
    result = await refused.run()
    assert result == ToolResult(output="there is no tool 'ad'; the tools are: add", is_error=True)


class Broken(Exception):
    """A user's own exception."""


class Silent(Exception):
    """One that fails when it is asked what it says."""

    def __str__(self) -> str:
        raise LookupError("no words")


def fails_with(error: BaseException) -> Callable[[], Any]:
    async def fail() -> None:
        """Fail."""
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "output"),
    [
        (ValueError("no such order: 17"), "ValueError: no such order: 17"),
        (Broken(), "Broken"),
        (KeyError("a"), "KeyError: 'a'"),
        (ToolError("the shop is closed on Sundays"), "the shop is closed on Sundays"),
        (NotFound("there is no conversation c-1"), "there is no conversation c-1"),
        (FileNotFoundError(2, "No such file", "/srv/app/x.json"), "FileNotFoundError: [Errno 2] No such file: [path]"),
        (SystemExit(3), "SystemExit: 3"),
        (asyncio.CancelledError(), "the tool was cancelled"),
        (TimeoutError(), "TimeoutError"),
        (ExceptionGroup("two", [ValueError("a"), ValueError("b")]), "ExceptionGroup: two (2 sub-exceptions)"),
        (StopIteration("x"), "RuntimeError: coroutine raised StopIteration"),
        (Silent(), "Silent: [LookupError where it was asked for its words]"),
        (BaseException("of no kind"), "BaseException: of no kind"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
async def test_an_exception_is_told_by_type_and_words(error: BaseException, output: str) -> None:
    """The model reads what went wrong; never a stack, and the server goes on."""
    assert (await call(fails_with(error))).output == output


@pytest.mark.parametrize(
    ("error", "output"),
    [
        (ValueError("no such order: 17"), "ValueError: no such order: 17"),
        (SystemExit(3), "SystemExit: 3"),
        (StopIteration("x"), "RuntimeError: the tool raised StopIteration"),
        (ToolError("closed"), "closed"),
    ],
)
async def test_an_exception_in_a_thread_is_told_the_same_way(error: BaseException, output: str) -> None:
    """Functions that are not async fail as the others do."""

    def fail() -> None:
        """Fail."""
        raise error

    result = await call(fail)
    assert (result.output, result.is_error) == (output, True)


async def test_a_call_ends_at_its_time_limit() -> None:
    """A body that waits is cancelled, and the model is told how long it had."""
    ended = asyncio.Event()

    async def wait() -> None:
        """Wait."""
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    result = await call(wait, timeout_s=0.05)
    assert (result.output, result.is_error) == ("the tool did not answer within 0.05 s", True)
    assert ended.is_set()
    assert 0.04 < result.elapsed_s < 5.0


async def test_a_body_that_does_not_end_is_left_behind() -> None:
    """Neither a body that ignores its cancellation nor a thread that blocks holds the reply up."""
    release, ended = asyncio.Event(), asyncio.Event()
    blocked = threading.Event()

    async def stubborn() -> None:
        """Wait."""
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                pass
        ended.set()

    def block() -> None:
        """Block."""
        blocked.wait(30)

    began_s = time.monotonic()
    results = await asyncio.gather(call(stubborn, timeout_s=0.05), call(block, timeout_s=0.05))
    assert time.monotonic() - began_s < 5.0
    assert [each.is_error for each in results] == [True, True]
    release.set()
    blocked.set()
    await asyncio.wait_for(ended.wait(), 20)
    for thread in threading.enumerate():
        if thread.name == "legato-tool-block":
            await asyncio.to_thread(thread.join, 20)


async def test_a_stopped_run_stops_its_tool() -> None:
    """Cancelling the caller cancels the body, and the caller gets its cancellation back."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        """Wait."""
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    task = asyncio.create_task(call(wait))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_functions_that_block_do_not_stop_the_loop() -> None:
    """What is not async runs in a thread, in the context of its call."""

    def block(name: str, ctx: object) -> str:
        """Block."""
        enough.wait(20)
        return f"{name} {ctx} {threading.current_thread().name}"

    ticks = 0
    enough = threading.Event()

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1
            if ticks > 5:
                enough.set()

    ticking = asyncio.create_task(tick())
    result = await call(block, '{"name": "a"}', "c-1")
    ticking.cancel()
    assert result.output == "a c-1 legato-tool-block"
    assert ticks > 5


async def test_threads_are_bounded() -> None:
    """Threads that never end cannot pile up: past the bound a call fails at once, and afterwards it runs again."""
    threads, release = Threads(2), threading.Event()
    waiting = [asyncio.create_task(threads.run(lambda: release.wait(30), name="x")) for _ in range(2)]
    await asyncio.sleep(0.05)
    with pytest.raises(ToolError, match="2 tools are running already"):
        await threads.run(lambda: None, name="x")
    release.set()
    assert await asyncio.gather(*waiting) == [True, True]
    assert await threads.run(lambda: 1, name="x") == 1


async def test_a_call_is_data_until_it_runs() -> None:
    """Nothing of a tool happens when its call is prepared or looked at."""
    ran: list[int] = []

    async def note(n: int) -> None:
        """Note."""
        ran.append(n)

    prepared: PreparedCall = prepare({"note": tool_from(note)}, "note", '{"n": 1}')
    assert prepared.arguments == {"n": 1}
    assert ran == []
    await prepared.run()
    assert ran == [1]


async def test_an_async_generator_is_no_result() -> None:
    """A stream is not a result; the model learns that the tool is at fault."""

    async def stream() -> AsyncIterator[int]:
        yield 1

    async def give() -> object:
        """Give."""
        return stream()

    assert (await call(give)).output.startswith("the tool gave a async_generator")

"""The embedded model: a llama.cpp engine in a child process, and the calls that share it.

The engine may crash, be killed or be short of memory; none of that is the server's end. The calls in flight
then fail with what the run can retry, and the next call starts a new child: at once the first time, and later
and later while no call comes to its end.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from legato.core.run_errors import NoModel, RunError, UpstreamUnavailable
from legato.providers import gguf
from legato.providers.base import CallEnd, CallRequest, ChatMessage, DeltaSink
from legato.providers.embedded_call import EngineCall, EngineCount
from legato.providers.embedded_messages import (
    Cancel,
    Count,
    Generate,
    Reply,
    Setup,
)
from legato.providers.embedded_process import EngineProcess, StartFailed
from legato.providers.weights import INSTEAD, OTHER_MODEL, SMOLLM2

# One slot costs 22.5 kB a token with the default model: 4 × 3,072 tokens and the weights are 425 MB.
DEFAULT_CONTEXT_TOKENS: Final = 3072
DEFAULT_PARALLEL: Final = 4
_MOST_THREADS: Final = 8
_BACKOFF_FIRST_S: Final = 0.25
_BACKOFF_MOST_S: Final = 30.0
_WAIT_MOST_S: Final = 2.0
# Not a request: what waits for the end of the process itself.
_LIFE_ID: Final = 0

log = structlog.get_logger(__name__)


def supported() -> str | None:
    """Return why the engine cannot run on this machine and what to set instead, or None if it can."""
    why = None
    if sys.platform != "linux" or platform.machine() != "x86_64":
        why = f"it is built for Linux on x86_64, and this is {platform.system()} on {platform.machine()}"
    elif importlib.util.find_spec("xllamacpp") is None:
        why = "the package xllamacpp is not installed"
    elif not _has_avx2():
        why = "the processor has no AVX2"
    elif not _has_libgomp():
        why = "the system library libgomp is missing (install libgomp1, or libgomp)"
    return None if why is None else f"the embedded model cannot run here: {why}; {OTHER_MODEL}"


def _has_avx2(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return True
    flags = [line for line in lines if line.startswith("flags")]
    return not flags or "avx2" in flags[0].split()


def _has_libgomp() -> bool:
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return False
    return True


def _processors(cpu_max: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return how many processors this process may use, 1 to 8; a container's quota counts."""
    if sys.platform == "linux":
        usable = len(os.sched_getaffinity(0))
        try:
            quota, period = cpu_max.read_text(encoding="ascii").split()
            # The engine's threads wait for each other by spinning: more of them than the quota stand still.
            usable = min(usable, int(quota) // int(period))
        except (OSError, ValueError):
            pass
    else:
        usable = os.cpu_count() or 1
    return max(1, min(_MOST_THREADS, usable))


class EmbeddedProvider:
    """A GGUF model on this machine's processors.

    Args:
        name: The model's name in the settings and in the API.
        weights: The GGUF file.
        context_window: Tokens of one call, input and output together; cut to what the model was trained with.
        parallel: Calls that the engine works on at once; more wait for a place, first come first served.
        threads: The engine's threads; None takes the processors this process may use, at most 8.
    """

    kind = "embedded"
    names_things = False
    takes_tools = False
    prefill = True

    def __init__(
        self,
        name: str,
        *,
        weights: Path,
        context_window: int = DEFAULT_CONTEXT_TOKENS,
        parallel: int = DEFAULT_PARALLEL,
        threads: int | None = None,
    ) -> None:
        self.name = name
        self.context_window: int | None = context_window
        self._weights = weights
        self._slot_tokens = context_window
        self._parallel = parallel
        self._threads = threads or _processors()
        self._launch: asyncio.Task[EngineProcess] | None = None
        self._failures = 0
        self._failed_at_s = 0.0
        self._failed_as: RunError = UpstreamUnavailable("the embedded engine was not started yet")
        self._last_id = 0
        self._closed = False
        self._told_of_tools = False

    async def start(self) -> None:
        """Read the model's context length and begin to load it; returns before it is loaded."""
        try:
            trained = await asyncio.to_thread(gguf.trained_context, self._weights)
        except (OSError, ValueError):
            # Each call says what is wrong; the server runs all the same.
            trained = None
        if trained:
            self.context_window = self._slot_tokens = min(self._slot_tokens, trained)
        self._begin_launch()

    async def ready(self) -> None:
        """Wait until the model is loaded, or cannot be."""
        if self._launch is not None:
            await asyncio.wait([self._launch])

    async def close(self) -> None:
        """End the child process and wait for it; calls in flight fail."""
        self._closed = True
        launch, self._launch = self._launch, None
        if launch is None:
            return
        launch.cancel()
        try:
            process = await launch
        except (asyncio.CancelledError, RunError):
            return
        await process.close()

    async def call(self, request: CallRequest, sink: DeltaSink) -> CallEnd:
        if request.tools and not self._told_of_tools:
            self._told_of_tools = True
            log.warning(f"the embedded model calls no tools: it answers without them; {OTHER_MODEL}", model=self.name)
        process = await self._process()
        call_id = self._new_id()
        call = EngineCall(self._slot_tokens, sink)
        process.attach(call_id, call)
        try:
            process.send(
                Generate(
                    id=call_id,
                    messages=self._told(request.messages),
                    continues=request.continues,
                    temperature=request.temperature,
                    max_tokens=request.max_tokens,
                )
            )
            end = await call.done
        except BaseException:
            process.send(Cancel(id=call_id))
            raise
        finally:
            process.detach(call_id)
        self._failures = 0
        return end

    def _told(self, messages: Sequence[ChatMessage]) -> list[tuple[str, str]]:
        told = without_tools(messages)
        if self._weights.name == SMOLLM2.file_name and told[:1] and told[0][0] != "system":
            # The system prompt of this model's template leads its small form astray: asked for the capital of France
            # it answers in broken French; with an empty one it says Paris.
            return [("system", ""), *told]
        return told

    async def count_tokens(self, text: str) -> int | None:
        """Return the tokens of `text` by the model's tokenizer, or None if the engine cannot run."""
        try:
            process = await self._process()
        except RunError:
            return None
        count_id = self._new_id()
        count = EngineCount()
        process.attach(count_id, count)
        try:
            process.send(Count(id=count_id, text=text))
            return await count.done
        finally:
            process.detach(count_id)

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    async def _process(self) -> EngineProcess:
        """Return the running child; start one if there is none.

        Raises:
            NoModel: There are no weights that the engine can load, or it cannot run here.
            UpstreamUnavailable: It could not be started, or failed too often of late.

        Of a child that failed too often `retry_after_s` says when another will be tried.
        """
        while True:
            launch = self._launch
            if launch is None or _is_spent(launch):
                wait_s = self._backoff_s()
                if wait_s > _WAIT_MOST_S:
                    error = type(self._failed_as)(self._failed_as.message)
                    error.retry_after_s = round(wait_s, 1)
                    raise error
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                    continue
                launch = self._begin_launch()
            # One caller's cancellation must not end what the others wait for.
            process = await asyncio.shield(launch)
            if not process.ended:
                return process

    def _backoff_s(self) -> float:
        """Return how long no child may be started: nothing after a first failure, then 0.25 to 30 s."""
        if self._failures < 2:
            return 0.0
        pause_s = min(_BACKOFF_MOST_S, _BACKOFF_FIRST_S * 2.0 ** min(self._failures - 2, 16))
        return self._failed_at_s + pause_s - asyncio.get_running_loop().time()

    def _begin_launch(self) -> asyncio.Task[EngineProcess]:
        if self._closed:
            raise UpstreamUnavailable("the server is shutting down")
        self._launch = asyncio.create_task(self._start_process(), name="embedded engine start")
        self._launch.add_done_callback(_look_at)
        return self._launch

    async def _start_process(self) -> EngineProcess:
        setup = Setup(
            weights=str(self._weights.absolute()),
            context_window=self._slot_tokens,
            parallel=self._parallel,
            threads=self._threads,
        )
        # Both are cheap, and count as no failure: whoever fetches the weights needs to wait for nothing.
        if why := supported():
            raise NoModel(why)
        await asyncio.to_thread(_check_file, self._weights)
        try:
            process = await EngineProcess.start(setup)
        except StartFailed as failed:
            error = _start_error(failed.why, self._weights.name)
            self._note_failure(error)
            raise error from failed
        process.attach(_LIFE_ID, _Life(self))
        return process

    def _note_failure(self, error: RunError) -> None:
        self._failures += 1
        self._failed_at_s = asyncio.get_running_loop().time()
        self._failed_as = error


def without_tools(messages: Sequence[ChatMessage]) -> list[tuple[str, str]]:
    """Return a context as (role, content) for a chat template that knows no tools.

    What tools have given another model is told as the user's words, in one message with what the user said before.
    """
    told: list[tuple[str, str]] = []
    for message in messages:
        if message.role == "tool":
            content = f"[What a tool has found: {message.content}]"
            if told and told[-1][0] == "user":
                content = f"{told.pop()[1]}\n\n{content}"
            told.append(("user", content))
        elif message.content or not message.tool_calls:
            told.append((message.role, message.content))
    return told


def _is_spent(launch: asyncio.Task[EngineProcess]) -> bool:
    """Return whether a launch failed, or the process that it started has ended."""
    if not launch.done():
        return False
    return launch.cancelled() or launch.exception() is not None or launch.result().ended


def _look_at(launch: asyncio.Task[EngineProcess]) -> None:
    # A launch that nobody waits for may fail; the next call says so.
    if not launch.cancelled():
        launch.exception()


def _check_file(weights: Path) -> None:
    try:
        gguf.trained_context(weights)
    except OSError as error:
        raise NoModel(
            f"the model file {weights.name} cannot be read: run `legato models fetch`, or {INSTEAD}"
        ) from error
    except ValueError as error:
        raise NoModel(f"{weights.name} is {error}: {INSTEAD}") from error


def _start_error(why: str, file_name: str) -> RunError:
    match why:
        case "library":
            return NoModel(f"the embedded model cannot run here: its library does not load; {OTHER_MODEL}")
        case "model":
            return NoModel(
                f"the embedded engine could not load {file_name}: it is damaged, of a kind that the engine "
                f"does not know, or larger than the memory; {INSTEAD}"
            )
        case "scratch":
            return NoModel(
                "the embedded engine has no folder for temporary files: set TMPDIR to one that can be written"
            )
        case _:
            return UpstreamUnavailable(f"the embedded engine ended while it loaded {file_name} ({why}): {INSTEAD}")


class _Life:
    """Notes the end of a process that had been ready."""

    def __init__(self, provider: EmbeddedProvider) -> None:
        self._provider = provider

    def take(self, reply: Reply) -> None: ...

    def ended(self, how: str) -> None:
        self._provider._note_failure(
            UpstreamUnavailable(f"the embedded engine ends again and again ({how}); {OTHER_MODEL}")
        )

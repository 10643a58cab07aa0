"""The embedded engine's process, seen from the server: start it, speak with it, notice its end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Final, Protocol

import msgspec
import structlog

from legato.providers.embedded_messages import (
    Counted,
    Delta,
    Ended,
    Failed,
    Fault,
    Opened,
    Ready,
    Reply,
    Request,
    Setup,
)

log = structlog.get_logger(__name__)

_READ_BYTES: Final = 1 << 16
_CLOSE_S: Final = 2.0
_LOG_LINES: Final = 8
# The engine's process gets no keys: only what a Python and its libraries need.
_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
_ENVIRONMENT_PREFIXES: Final = ("LC_", "PYTHON", "OMP_", "GOMP_")
# After the model is loaded a line may quote a prompt; those that tell of a crash do not.
_CRASH_MARKS: Final = (b"GGML_ASSERT", b"terminate called", b"Fatal Python error")
_DECODER: Final[msgspec.json.Decoder[Reply]] = msgspec.json.Decoder(Reply)


class Listener(Protocol):
    """Who waits for the replies to one request. `ended` comes at most once, and then nothing."""

    def take(self, reply: Reply) -> None: ...
    def ended(self, how: str) -> None: ...


class StartFailed(Exception):
    """The process did not get as far as Ready; `why` is what it said, or how it ended."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class EngineProcess:
    """A running child with its model loaded; made by `start`.

    Attributes:
        ended: Whether it has ended, and so takes no more requests.
        pid: Its process id.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.ended = False
        self.pid = process.pid
        self._process = process
        self._listeners: dict[int, Listener] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closing = False
        self._said: list[bytes] = []
        self._encoder = msgspec.json.Encoder()
        self._life = asyncio.create_task(self._live(), name="embedded engine")

    @classmethod
    async def start(cls, setup: Setup) -> EngineProcess:
        """Start a child and wait until its model is loaded; a cancelled wait ends the child.

        Raises:
            StartFailed: The child could not be started, said why it cannot run, or ended.
        """
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "legato.providers.embedded_child",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=_environment(),
                # A Ctrl-C in the terminal is the server's to handle: replies in flight are drained first.
                start_new_session=True,
            )
        except OSError as error:
            raise StartFailed(os.strerror(error.errno).lower() if error.errno else "no process") from error
        engine = cls(process)
        engine.send(setup)
        try:
            await engine._ready
        except BaseException:
            await engine.close()
            raise
        log.info("embedded engine ready", pid=engine.pid, load_s=round(loop.time() - begun_s, 3))
        return engine

    def attach(self, request_id: int, listener: Listener) -> None:
        """Send the replies with this id to `listener`, until `detach`."""
        if self.ended:
            listener.ended("ended")
        else:
            self._listeners[request_id] = listener

    def detach(self, request_id: int) -> None:
        self._listeners.pop(request_id, None)

    def send(self, request: Request) -> None:
        """Send a request; one to a child that has ended goes nowhere, its listener has been told."""
        if not self.ended and self._process.stdin is not None:
            self._process.stdin.write(self._encoder.encode(request) + b"\n")

    async def close(self) -> None:
        """End the child, by force after 2 s, and wait for it."""
        self._closing = True
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(asyncio.shield(self._life), _CLOSE_S)
        except TimeoutError:
            self._kill()
            await self._life

    def _kill(self) -> None:
        # Not Process.kill, which reaps a child that has just ended and so hides how it did.
        if self._process.returncode is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    async def _live(self) -> None:
        try:
            await asyncio.gather(self._read_replies(), self._read_errors())
            # Both pipes are at their end: the child is about to be.
            await asyncio.wait_for(self._process.wait(), _CLOSE_S)
        except (msgspec.DecodeError, ConnectionError, TimeoutError):
            log.error("embedded engine spoke out of turn", pid=self.pid)
        finally:
            self._kill()
            self._end(_how(await self._process.wait()))

    def _end(self, how: str) -> None:
        self.ended = True
        if not self._closing:
            said = [line.decode("utf-8", "replace") for line in self._said]
            log.warning("embedded engine ended", pid=self.pid, how=how, said=said)
        if not self._ready.done():
            self._ready.set_exception(StartFailed(how))
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            listener.ended(how)

    async def _read_replies(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        rest = b""
        while data := await stdout.read(_READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._dispatch(_DECODER.decode(line))

    def _dispatch(self, reply: Reply) -> None:
        match reply:
            case Opened() | Delta() | Ended() | Fault() | Counted():
                if listener := self._listeners.get(reply.id):
                    listener.take(reply)
            case Ready():
                if not self._ready.done():
                    self._ready.set_result(None)
            case Failed():
                if not self._ready.done():
                    self._ready.set_exception(StartFailed(reply.why))

    async def _read_errors(self) -> None:
        stderr = self._process.stderr
        assert stderr is not None
        rest = b""
        while data := await stderr.read(_READ_BYTES):
            *lines, rest = (rest[-_READ_BYTES:] + data).split(b"\n")
            loaded = self._ready.done()
            kept = [line for line in lines if not loaded or any(mark in line for mark in _CRASH_MARKS)]
            self._said = (self._said + kept)[-_LOG_LINES:]


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
    }


def _how(status: int) -> str:
    """Return how a process ended, from its exit status as asyncio gives it."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"

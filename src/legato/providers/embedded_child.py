"""The process that holds the embedded engine.

Requests come on stdin, replies go to the stdout it was started with, one JSON message a line. It ends
with its parent, at the latest when stdin does. It needs nothing of Legato's other rooms, so it stays
small, and it says nothing of a message's text on stderr.
"""

from __future__ import annotations

import ctypes
import http.client
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final

import msgspec

from legato.providers.embedded_engine import Engine
from legato.providers.embedded_messages import (
    Cancel,
    Count,
    Counted,
    Failed,
    Fault,
    Generate,
    Ready,
    Reply,
    Request,
    Setup,
)

_NICE: Final = 5
_PR_SET_PDEATHSIG: Final = 1
_OOM_SCORE: Final = 500

_REQUEST: Final[msgspec.json.Decoder[Request]] = msgspec.json.Decoder(Request)


class _Desk:
    """Hands requests to threads, and their replies to the parent one at a time."""

    def __init__(self, engine: Engine, parallel: int, send: Callable[[Reply], None]) -> None:
        self._engine, self._send = engine, send
        self._calls = ThreadPoolExecutor(parallel, "call")
        self._counts = ThreadPoolExecutor(1, "count")
        self._live: set[int] = set()

    def take(self, request: Request) -> None:
        match request:
            case Generate():
                self._live.add(request.id)
                self._calls.submit(self._generate, request)
            case Cancel():
                self._live.discard(request.id)
            case Count():
                self._counts.submit(self._count, request)
            case Setup():
                raise ValueError("set up twice")

    def _generate(self, request: Generate) -> None:
        if request.id not in self._live:
            return
        try:
            self._engine.stream(request, lambda: request.id in self._live, self._send)
        except (RuntimeError, ValueError) as error:
            # A template that refuses the messages raises here; one call's fault is not the others'.
            print(f"call failed: {type(error).__name__}", file=sys.stderr, flush=True)
            self._send(Fault(id=request.id, kind="refused"))
        except (OSError, http.client.HTTPException):
            self._send(Fault(id=request.id, kind="engine"))
        finally:
            self._live.discard(request.id)

    def _count(self, request: Count) -> None:
        try:
            self._send(Counted(id=request.id, tokens=self._engine.count(request.text)))
        except (OSError, ValueError, http.client.HTTPException):
            self._send(Fault(id=request.id, kind="engine"))


def _sender(out: IO[bytes]) -> Callable[[Reply], None]:
    lock = threading.Lock()
    encoder = msgspec.json.Encoder()

    def send(reply: Reply) -> None:
        line = encoder.encode(reply) + b"\n"
        with lock:
            out.write(line)
            out.flush()

    return send


def _be_a_good_child() -> None:
    """Die with the parent, give way to it, and be the one that a shortage of memory ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(_NICE)
    try:
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE), encoding="ascii")
    except OSError:
        return


def main() -> None:
    _be_a_good_child()
    # The engine may print: what it prints must not come between two replies.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    send = _sender(replies)
    requests = sys.stdin.buffer
    setup = _REQUEST.decode(requests.readline())
    if not isinstance(setup, Setup):
        raise TypeError("the first request is not Setup")
    try:
        engine = Engine(setup)
    except ImportError as error:
        print(f"engine not loaded: {error}", file=sys.stderr, flush=True)
        send(Failed(why="library"))
        os._exit(1)
    except RuntimeError as error:
        print(f"model not loaded: {error}", file=sys.stderr, flush=True)
        send(Failed(why="model"))
        os._exit(1)
    except OSError as error:
        print(f"no socket: {error}", file=sys.stderr, flush=True)
        send(Failed(why="scratch"))
        os._exit(1)
    # The engine's own handlers stop its loop and leave the process behind.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    desk = _Desk(engine, setup.parallel, send)
    send(Ready())
    for line in requests:
        desk.take(_REQUEST.decode(line))
    # The threads and the engine have nothing to save; waiting for them would only delay the end.
    os._exit(0)


if __name__ == "__main__":
    main()

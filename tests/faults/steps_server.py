"""`legato serve steps_bot.py`, made to kill itself at a chosen place of a job's way: run as `… steps_server serve …`.

    FAULT_SEAM, FAULT_AT   as in crashing_server, of the places in SEAMS
    FAULT_AHEAD_S          so many seconds the wall clock is ahead
    FAULT_MOST_CUTS        so many deaths under a job, and it is given up; there is next to no pause after each

A job's way: its event is put into the outbox and committed, handed over to the queue, deleted from the outbox; then it
is handled, has its effect, and may enqueue another.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import legato.app  # noqa: F401 - all that puts events is loaded with it
from legato.cli.main import main
from legato.core.clock import SystemClock
from legato.runs.analytics import Analytics
from legato.steps import attempts, relay
from legato.steps.context import Context
from legato.steps.engine import Engine
from legato.steps.runner import StepRunner
from legato.steps.state_views import StepState
from legato.storage.line import Line
from legato.storage.outbox import put_event
from tests.faults.crashing_server import Fuse

BOT = Path(__file__).with_name("steps_bot.py")
SEAMS = (
    "accept-before",
    "put-before",
    "put-after",
    "told-before",
    "told-after",
    "accept-after",
    "hand-over-before",
    "hand-over-after",
    "delete-before",
    "delete-after",
    "handle-before",
    "effect-before",
    "effect-after",
    "enqueue-before",
    "enqueue-after",
    "handle-after",
    "record-before",
    "record-after",
    "tick-before",
    "tick-after",
)
"""`told`: when an event is committed, and whoever waits for that is told. `accept`: an http step enqueues; `enqueue`: a
queue step does."""


def around(fuse: Fuse, owner: type, method: str, name: Callable[[Any], str]) -> None:
    """As Fuse.around, for a method that is awaited; `name` is given its object."""
    inner = getattr(owner, method)

    @functools.wraps(inner)
    async def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        seam = name(self)
        fuse.passes(f"{seam}-before")
        value = await inner(self, *args, **kwargs)
        fuse.passes(f"{seam}-after")
        return value

    setattr(owner, method, wrapped)


def install(fuse: Fuse) -> None:
    """Put the fuse into every place of SEAMS."""
    for module in [each for each in sys.modules.values() if getattr(each, "put_event", None) is put_event]:
        fuse.around(module, "put_event", "put")
    committed = Line.committed

    def tell(self: Line, batch: Any) -> None:
        if batch.rings:
            fuse.passes("told-before")
        committed(self, batch)
        if batch.rings:
            fuse.passes("told-after")

    Line.committed = tell  # type: ignore[method-assign]
    fuse.around(relay, "delete_events", "delete")
    around(fuse, Engine, "hand_over", lambda engine: "hand-over")
    around(fuse, StepRunner, "handle", lambda runner: "handle")
    around(fuse, StepRunner, "tick", lambda runner: "tick")
    around(fuse, StepState, "set", lambda state: "effect")
    around(fuse, Context, "enqueue", lambda context: "accept" if context.trigger.kind == "http" else "enqueue")
    around(fuse, Analytics, "record", lambda analytics: "record")


def put_ahead(seconds: float) -> None:
    """Put the wall clock ahead."""
    now_ms = SystemClock.now_ms
    SystemClock.now_ms = lambda self: now_ms(self) + round(seconds * 1000)  # type: ignore[method-assign]


def begin() -> None:
    """Be the server that the command line and the environment say."""
    sys.argv.insert(2, str(BOT))
    if seam := os.environ.get("FAULT_SEAM"):
        install(Fuse(seam, int(os.environ.get("FAULT_AT", "1")), None))
    if ahead := os.environ.get("FAULT_AHEAD_S"):
        put_ahead(float(ahead))
    if most := os.environ.get("FAULT_MOST_CUTS"):
        attempts.MOST_CUTS = int(most)  # type: ignore[misc]
        attempts.CUT_PAUSE_S = 0.05  # type: ignore[misc]
    main()


if __name__ == "__main__":
    begin()

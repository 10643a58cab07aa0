"""The life of a run: which state may follow which.

Pure: no clock, no storage, no asyncio. The statements of storage/runs.py keep to TRANSITIONS, each by what it asks for
in its WHERE; docs/reference/run-states.md is generated from it.
"""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    """Where a run stands. A queued run waits for the turn before it; the last three are terminal."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"


TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.STOPPED, RunState.FAILED}),
    RunState.RUNNING: frozenset({RunState.FINISHED, RunState.FAILED, RunState.STOPPED}),
    RunState.FINISHED: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.STOPPED: frozenset(),
}
ENDED = frozenset(state for state, after in TRANSITIONS.items() if not after)

"""The states of a run: core.run's table, as a picture and as a table."""

from __future__ import annotations

from docs.from_code.markdown import DASH, code, docstring, fence, table
from legato.core.run import ENDED, TRANSITIONS, RunState

INTRODUCTION = """\
# States of a run

{words}

A run is *running* as soon as its message is saved, unless an earlier turn of the same conversation still runs: then it
is *queued* until that one has ended. A state changes only in the transaction that causes it, and only along these
edges.

"""
_MEANINGS = {
    RunState.QUEUED: "waits for the turns before it in its conversation",
    RunState.RUNNING: "a process makes the reply, or takes it up again at its next start",
    RunState.FINISHED: "the model came to an end (`run-finished`)",
    RunState.FAILED: "the reply could not be completed (`run-failed`); its text is kept",
    RunState.STOPPED: "somebody or some limit ended it (`run-stopped`); its text is kept",
}


def render() -> str:
    """Return the page."""
    picture = ["stateDiagram-v2", "    [*] --> queued", "    [*] --> running"]
    picture += [f"    {before} --> {after}" for before in RunState for after in _after(before)]
    picture += [f"    {state} --> [*]" for state in RunState if state in ENDED]
    rows = [
        (
            code(state),
            _MEANINGS[state],
            ", ".join(code(after) for after in _after(state)) or f"{DASH} (it has ended)",
        )
        for state in RunState
    ]
    return (
        INTRODUCTION.format(words=docstring(RunState))
        + fence("\n".join(picture), "mermaid")
        + "\n"
        + table(("state", "meaning", "may become"), rows)
    )


def _after(state: RunState) -> list[RunState]:
    return [after for after in RunState if after in TRANSITIONS[state]]

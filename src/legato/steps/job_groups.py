"""Which events make one job, and what that job is called. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from legato.core.text import words_of
from legato.steps.jobs import JobEvent, QueueStep

Group = tuple[str | None, list[JobEvent], str | None]
"""Key, events of one job, and why it cannot be run."""


def groups_of(step: QueueStep, events: Sequence[JobEvent]) -> list[Group]:
    """Return a step's jobs for events that are all its own."""
    by_key: dict[str | None, list[JobEvent]] = {}
    groups: list[Group] = []
    for event in events:
        # A developer's mistake in one step must not hold up the events of all, nor one event its batch.
        try:
            fault = step.check(event) if step.check is not None else None
            key = step.key(event) if step.key is not None and fault is None else None
            if step.key is not None and fault is None and not isinstance(key, str):
                raise TypeError(f"it gave {type(key).__name__}, not str")
            if key is not None:
                # What the queue's file cannot hold would keep the events of all steps from it.
                key.encode()
        except (Exception, SystemExit) as error:  # noqa: BLE001
            said = words_of(error).encode(errors="backslashreplace").decode()
            fault = f"the key of step {step.name!r} failed: {type(error).__name__}: {said}"
        if fault is not None:
            groups.append(("" if step.key is not None else None, [event], fault))
        else:
            by_key.setdefault(key, []).append(event)
    groups.extend((key, chunk, None) for key, group in by_key.items() for chunk in _chunks(group, step.batch))
    return groups


def _chunks(events: Sequence[JobEvent], size: int) -> list[list[JobEvent]]:
    return [list(events[start : start + size]) for start in range(0, len(events), size)]


def job_id_of(step: str, events: Sequence[JobEvent]) -> str:
    """Return the id of the job that a step has with these events; another choice of events is another job."""
    if len(events) == 1:
        return f"{step}:{events[0].id}"
    ids = "\n".join(event.id for event in events)
    return f"{step}:{events[0].id}+{hashlib.blake2s(ids.encode(), digest_size=8).hexdigest()}"

"""The steps of a server at work: the queue, the clock and the relay, begun and ended together."""

from __future__ import annotations

from typing import Final

import structlog

from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.steps.attempts import CronHandler, Handler
from legato.steps.context import Context, principal_of
from legato.steps.engine import POLL_S, Engine
from legato.steps.job_seal import seal_of
from legato.steps.job_spans import with_spans
from legato.steps.queue_address import queue_address
from legato.steps.registry import Registry
from legato.steps.relay import Relay
from legato.steps.runner import StepRunner
from legato.steps.triggers import Occasion
from legato.storage.nodes import live_executors

log = structlog.get_logger(__name__)

CLOSE_S: Final = 1.0
"""How long handlers that are cancelled may take to end."""
SHARED_POLL_S: Final = 2.0
"""How often a process looks for jobs that another one was handed."""


class StepService:
    """What runs queue and cron steps in this process."""

    def __init__(self, node: Node, registry: Registry) -> None:
        self._node = node
        self._registry = registry
        settings = node.settings
        shared = node.database.kind == "postgresql"
        self._engine = Engine(
            queue_address(settings),
            durability=settings.durability,
            clock=node.clock,
            alone=not shared,
            executor_id=node.executor_id,
            live=self._live if shared else None,
            poll_s=SHARED_POLL_S if shared else POLL_S,
            seal=seal_of(node.database),
        )
        self._relay: Relay | None = None
        node.erase_queue = self._engine.erase

    @property
    def engine(self) -> Engine:
        return self._engine

    async def start(self) -> None:
        """Take up what was left, and begin; called when the server listens already.

        Raises:
            ConfigurationError: The queue cannot be used.
            StorageUnavailable: It cannot be written at present.
        """
        runner = StepRunner(self._node, self._registry)
        handle: Handler = runner.handle
        tick: CronHandler = runner.tick
        if self._node.traces is not None:
            handle, tick = with_spans(self._node.traces, handle, tick)
        await self._engine.start(self._registry.jobs, handle, tick)
        self._relay = Relay(self._node, self._engine)
        self._node.on_quiet = self._engine.give_back
        self._node.on_fenced.append(self._engine.take_up)
        for step, topic in self._registry.unheard():
            log.warning("nobody listens to what a step enqueues", step=step, topic=topic)

    async def close(self) -> None:
        """Stop: what is unfinished is left to the next start, or to other processes."""
        if self._relay is not None:
            await self._relay.close()
            self._node.on_fenced.remove(self._engine.take_up)
        await self._engine.close(CLOSE_S)

    async def _live(self) -> set[str]:
        return await self._node.database.read(live_executors)


def tool_context(registry: Registry, node: Node, run: LiveRun, call_id: str, name: str) -> Context:
    """Return what a tool call is given: the context of the conversation's owner.

    Its event id is the call's: an effect that is kept under it is had once, also when a cut call runs again.
    """
    event_id = f"{run.id}.{call_id}"
    return Context(
        node,
        registry.tools,
        trigger=Occasion(kind="tool", name=name, at_ms=node.clock.now_ms()),
        principal=principal_of(run.tail.owner),
        trace_id=run.started.trace_id or run.id,
        run_id=run.id,
        event_id=event_id,
        seed=f"tools/{event_id}",
    )

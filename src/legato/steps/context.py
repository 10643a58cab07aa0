"""What a step is given beside its input: state, the queue, a logger, and the services of the server.

Everything acts for one owner: the caller of an http step, the owner of a queue step's event, the app itself for a cron
step and for a queue step that takes batches. Nothing of another owner is seen or changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import structlog

from legato.core.errors import Forbidden, InvalidRequest, UndeclaredTopic
from legato.core.ids import new_id
from legato.core.json_value import json_copy
from legato.core.principal import APP, LOCAL, VISITOR, Principal
from legato.runs.analytics import Analytics
from legato.runs.conversations import Conversations
from legato.runs.node import Node
from legato.runs.replies import Runs
from legato.settings import nearest
from legato.steps.state_views import StepState
from legato.steps.triggers import Occasion
from legato.storage.outbox import OutboxEvent, put_event

if TYPE_CHECKING:
    import httpx2

    from legato.steps.step import Step

_log = structlog.get_logger("legato.step")


class Context:
    """What one run of a step works with.

    Attributes:
        step: Its name.
        trigger: What set it off.
        trace_id: Of the request at the beginning of it all; every step that comes of it has the same.
        principal: For whom it acts.
        attempt: Which attempt of a job this is, from 1.
        run_id: Of this run of the step: the reply's for a tool, the job's for a queue or cron step, else a new one.
        event_id: Of the event that a queue step is given; an effect that is kept under it is had once.
        logger: structlog's, with the names of the step, the run of it and the trace on each line.
    """

    def __init__(
        self,
        node: Node,
        step: Step,
        *,
        trigger: Occasion,
        principal: Principal,
        trace_id: str,
        attempt: int = 1,
        run_id: str | None = None,
        event_id: str | None = None,
        seed: str | None = None,
    ) -> None:
        self._node = node
        self._step = step
        self.step = step.name
        self.trigger = trigger
        self.trace_id = trace_id
        self.principal = principal
        self.attempt = attempt
        self.run_id = run_id or seed or new_id("x", node.clock.now_ms())
        self.event_id = event_id
        self._seed = seed
        # By owner: contexts for the same owner must not give two events one id.
        self._enqueued: dict[str, int] = {}

    @property
    def owner(self) -> str:
        """The principal's id."""
        return self.principal.id

    @cached_property
    def state(self) -> StepState:
        """What the owner's steps keep: JSON values under a group and a key."""
        return StepState(self._node, self.principal)

    @cached_property
    def shared(self) -> StepState:
        """What the app keeps for all owners."""
        return StepState(self._node, APP)

    @cached_property
    def conversations(self) -> Conversations:
        return Conversations(self._node, self.principal, trace_id=self.trace_id)

    @cached_property
    def runs(self) -> Runs:
        return Runs(self._node, self.principal, trace_id=self.trace_id)

    @cached_property
    def analytics(self) -> Analytics:
        return Analytics(self._node, self.principal)

    @cached_property
    def logger(self) -> Any:
        fields = {"step": self.step, "run_id": self.run_id, "trace_id": self.trace_id}
        if self.trigger.kind == "tool":
            fields["tool"] = self.trigger.name
        if self.event_id is not None:
            fields["event_id"] = self.event_id
        return _log.bind(**fields)

    def http_client(self, *, headers: Mapping[str, str] | None = None, timeout_s: float = 30.0) -> httpx2.AsyncClient:
        """Return a client for addresses that a model, or anybody else, may have named; for `async with`.

        It reaches public addresses, and private ones only where LEGATO_ALLOWED_PRIVATE_HOSTS names them; an answer is
        at most 10 MB long.

        Args:
            timeout_s: Between two pieces of an answer, in seconds.
        """
        from legato.tools.guarded_http import guarded_client

        allowed = self._node.settings.allowed_private_hosts
        return guarded_client(allowed=allowed, headers=headers, timeout_s=timeout_s)

    async def enqueue(self, topic: str, payload: object) -> str:
        """Record an event of a topic that the step has declared; it is kept when this returns. Return its id.

        An attempt that is repeated enqueues the same events under the same ids, as long as it does so in the same
        order.

        Args:
            payload: A JSON value, or a Pydantic model.

        Raises:
            UndeclaredTopic: `enqueues` of the step does not name it.
            InvalidValue: The payload is not JSON.
            StorageUnavailable: The database takes no writes.
        """
        if topic not in self._step.enqueues:
            close = nearest(topic, list(self._step.enqueues))
            other = nearest(topic, list(self._step.known_topics))
            said = f": did you mean {close!r}?" if close else f": write enqueues=[{other or topic!r}]"
            if other and other != topic and not close:
                said = f": did you mean {other!r}? write enqueues=[{other!r}]"
            raise UndeclaredTopic(f"step {self.step} has not declared the topic {topic!r}{said}")
        if hasattr(payload, "model_dump"):
            payload = payload.model_dump(mode="json", by_alias=True)
        event = OutboxEvent(
            id=self._next_id(),
            owner=self.owner,
            topic=topic,
            payload=json_copy(payload),
            trace_id=self.trace_id,
            at_ms=self._node.clock.now_ms(),
        )
        await self._node.committer.write(lambda tx: put_event(tx, event), wait_s=self._node.settings.storage_wait_s)
        return event.id

    def acting_for(self, owner: str) -> Context:
        """Return this context for another owner; only the app may do so: cron steps, and queue steps with batches.

        Raises:
            Forbidden: This context acts for somebody in particular.
        """
        if self.principal.role != "app":
            raise Forbidden(f"step {self.step} acts for the owner of its event, and for nobody else")
        if not owner:
            raise InvalidRequest.of("owner", "is empty")
        context = Context(
            self._node,
            self._step,
            trigger=self.trigger,
            principal=principal_of(owner),
            trace_id=self.trace_id,
            attempt=self.attempt,
            run_id=self.run_id,
            event_id=self.event_id,
            seed=self._seed,
        )
        context._enqueued = self._enqueued
        return context

    def _next_id(self) -> str:
        if self._seed is None:
            return new_id("e", self._node.clock.now_ms())
        number = self._enqueued[self.owner] = self._enqueued.get(self.owner, 0) + 1
        return "e-" + hashlib.sha256(f"{self._seed}/{self.owner}/{number}".encode()).hexdigest()[:32]


def principal_of(owner: str) -> Principal:
    """Return the principal for an owner of rows."""
    role: Literal["visitor", "member"] = "visitor" if owner.startswith(VISITOR) else "member"
    return {LOCAL.id: LOCAL, APP.id: APP}.get(owner) or Principal(id=owner, role=role)

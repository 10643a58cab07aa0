"""Traces for OpenTelemetry: spans of requests, runs, calls of models and tools, and jobs, sent over OTLP/HTTP.

Imported only where somebody collects them. A span is made when what it tells of has ended, and given the time at which
that began: nothing is held open for the minutes of a reply, and a run that changes its process has one span. Trace ids
are those that requests, logs of runs and jobs carry anyway; a run's span id is made of the run's id
(telemetry.trace_ids), so that whoever continues a run hangs its calls onto the same span.

No text of people, models or tools is in a span. Names of attributes are those of OpenTelemetry's conventions for HTTP
and for generative AI. Everything here is called on the event loop; a thread of the SDK sends.

Source:
    https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from legato.core.usage import Spent, Usage
from legato.telemetry.trace_ids import run_of_event, span_id_of, trace_id_from
from legato.version import __version__

CLOSE_S: Final = 3.0
"""How long the end of the server waits for what is not sent yet."""
MOST_PARENTS: Final = 10_000
"""Runs of which the request that began them is known; the oldest are forgotten."""

Value = str | int | float | bool | Sequence[str]


class _Ids(RandomIdGenerator):
    """Gives the next span the ids that it is to have."""

    def __init__(self) -> None:
        self.trace_id: int | None = None
        self.span_id: int | None = None

    def generate_trace_id(self) -> int:
        return self.trace_id or super().generate_trace_id()

    def generate_span_id(self) -> int:
        return self.span_id or super().generate_span_id()


class Traces:
    """Sends the spans of one node.

    Args:
        endpoint: Address of the collector, to which `/v1/traces` is added. Everything else, headers and sampler among
            it, is read from the environment's `OTEL_…` by the SDK.
    """

    def __init__(self, endpoint: str) -> None:
        self._ids = _Ids()
        resource = Resource.create({SERVICE_VERSION: __version__})
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "legato"}))
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        own = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        exporter = OTLPSpanExporter(endpoint=own or f"{endpoint.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("legato", __version__)
        self._parents: OrderedDict[str, int] = OrderedDict()

    def new_span_id(self) -> int:
        """Return the id of a span that will be told of when it has ended."""
        return random.getrandbits(64) or 1

    def run_begun_by(self, run_id: str, span_id: int) -> None:
        """Note which request began a run."""
        self._parents[run_id] = span_id
        if len(self._parents) > MOST_PARENTS:
            self._parents.popitem(last=False)

    def request(
        self,
        *,
        trace_id: str,
        span_id: int,
        parent_id: int | None,
        method: str,
        route: str | None,
        status: int,
        began_ns: int,
    ) -> None:
        """Tell of a request whose answer's head, or whole answer where it is no stream, has been sent."""
        attributes: dict[str, Value] = {"http.request.method": method, "http.response.status_code": status}
        if route is not None:
            attributes["http.route"] = route
        fault = str(status) if status >= 500 else None
        name = f"{method} {route}" if route is not None else method
        self._send(name, trace_id, parent_id, SpanKind.SERVER, attributes, began_ns, fault=fault, span_id=span_id)

    def run(
        self,
        *,
        run_id: str,
        trace_id: str | None,
        conversation_id: str,
        asked_model: str | None,
        model: str | None,
        usage: Usage | None,
        cost: Decimal | None,
        finish_reason: str | None,
        fault: str | None,
        takeovers: int,
        began_ns: int,
    ) -> None:
        """Tell of a reply that ended; `fault` is the code of its error."""
        attributes: dict[str, Value] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "legato",
            "gen_ai.conversation.id": conversation_id,
            "legato.run.id": run_id,
            "legato.run.takeovers": takeovers,
        }
        _add(attributes, {"gen_ai.request.model": asked_model, "gen_ai.response.model": model})
        _add(attributes, {"gen_ai.response.finish_reasons": [finish_reason] if finish_reason else None})
        _add(attributes, _used(usage) | _cost(cost))
        self._send(
            "invoke_agent legato",
            trace_id or run_id,
            self._parents.pop(run_id, None),
            SpanKind.INTERNAL,
            attributes,
            began_ns,
            fault=fault,
            span_id=span_id_of(run_id),
        )

    def call(
        self,
        *,
        run_id: str,
        trace_id: str | None,
        provider: str,
        model: str,
        reason: str,
        finish_reason: str | None,
        spent: Spent | None,
        fault: str | None,
        began_ns: int,
    ) -> None:
        """Tell of a call of a model; `reason` is core.event.CallReason."""
        attributes: dict[str, Value] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
            "gen_ai.response.model": model,
            "legato.call.reason": reason,
        }
        _add(attributes, {"gen_ai.response.finish_reasons": [finish_reason] if finish_reason else None})
        if spent is not None:
            _add(attributes, _used(spent.usage) | _cost(spent.cost))
        self._send(
            f"chat {model}", trace_id or run_id, span_id_of(run_id), SpanKind.CLIENT, attributes, began_ns, fault=fault
        )

    def tool(
        self, *, run_id: str, trace_id: str | None, name: str, call_id: str, is_error: bool, began_ns: int
    ) -> None:
        """Tell of a call of a tool, without its arguments and its result."""
        attributes: dict[str, Value] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.id": call_id,
            "gen_ai.tool.type": "function",
        }
        fault = "tool_error" if is_error else None
        self._send(
            f"execute_tool {name}",
            trace_id or run_id,
            span_id_of(run_id),
            SpanKind.INTERNAL,
            attributes,
            began_ns,
            fault=fault,
        )

    def job(
        self,
        *,
        step: str,
        topic: str,
        event_id: str,
        trace_id: str | None,
        events: int,
        attempt: int,
        fault: str | None,
        began_ns: int,
    ) -> None:
        """Tell of one attempt at a job; `fault` is the class of what it ended with."""
        attributes: dict[str, Value] = {
            "messaging.system": "legato",
            "messaging.operation.type": "process",
            "messaging.destination.name": topic,
            "messaging.message.id": event_id,
            "messaging.batch.message_count": events,
            "legato.step": step,
            "legato.attempt": attempt,
        }
        run_id = run_of_event(event_id)
        parent_id = span_id_of(run_id) if run_id is not None else None
        name = f"process {step}"
        self._send(name, trace_id or event_id, parent_id, SpanKind.CONSUMER, attributes, began_ns, fault=fault)

    async def close(self) -> None:
        """Send what is left, for CLOSE_S at most."""
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def shut_down() -> None:
            self._provider.shutdown()
            try:
                loop.call_soon_threadsafe(done.set)
            except RuntimeError:
                # Nobody waits any more.
                pass

        # No thread of the loop's own, which the end of the process would wait for.
        threading.Thread(target=shut_down, name="legato-traces", daemon=True).start()
        try:
            await asyncio.wait_for(done.wait(), CLOSE_S)
        except TimeoutError:
            pass

    def _send(
        self,
        name: str,
        trace: str,
        parent_id: int | None,
        kind: SpanKind,
        attributes: Mapping[str, Value],
        began_ns: int,
        *,
        fault: str | None = None,
        span_id: int | None = None,
    ) -> None:
        trace_id = int(trace_id_from(trace), 16)
        context = Context()
        if parent_id is not None:
            context = set_span_in_context(NonRecordingSpan(self._parent(trace_id, parent_id)), context)
        self._ids.trace_id, self._ids.span_id = trace_id, span_id
        span = self._tracer.start_span(name, context, kind, dict(attributes), start_time=began_ns)
        if fault is not None:
            span.set_attribute("error.type", fault)
            span.set_status(Status(StatusCode.ERROR))
        span.end(max(began_ns, time.time_ns()))

    def _parent(self, trace_id: int, span_id: int) -> SpanContext:
        # By the trace's id alone: all spans of a trace are sent, or none, whichever process makes them.
        decision = self._provider.sampler.should_sample(None, trace_id, "").decision
        flags = TraceFlags(TraceFlags.SAMPLED if decision is Decision.RECORD_AND_SAMPLE else TraceFlags.DEFAULT)
        return SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)


def _add(attributes: dict[str, Value], more: Mapping[str, Value | None]) -> None:
    attributes.update({name: value for name, value in more.items() if value is not None})


def _cost(cost: Decimal | None) -> dict[str, Value | None]:
    return {} if cost is None else {"legato.cost_usd": float(cost)}


def _used(usage: Usage | None) -> dict[str, Value | None]:
    if usage is None:
        return {}
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }

"""Traces: one of a request, its reply, the calls of models and tools, and the steps after it; none unless asked for."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from legato.app import Legato
from legato.telemetry.trace_ids import run_of_event, span_id_of, trace_id_from
from tests.client import Client
from tests.conftest import StartServer
from tests.otlp_receiver import Received, Span, receive
from tests.page_world import Site, open_site
from tests.tool_world import Bench, open_world

TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER: Final = "00f067aa0ba902b7"
TRACEPARENT: Final = f"00-{TRACE}-{CALLER}-01"
SECRET: Final = "platypus"
"""Stands in prompts, arguments, results and replies, and in no span."""
INTERNAL, SERVER, CLIENT, CONSUMER = 1, 2, 3, 5


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Received]:
    # On a busy machine sending the last spans may take longer than a server's end waits.
    monkeypatch.setattr("legato.telemetry.traces.CLOSE_S", 60.0)
    with receive() as received:
        yield received


async def test_a_request_its_reply_its_calls_and_its_step_are_one_trace(tmp_path: Path, collector: Received) -> None:
    """The trace is the caller's; the attributes are those of the conventions; no word of anybody is in it."""
    bot, done = Legato(), asyncio.Event()
    seen: list[str] = []

    @bot.queue("chat.message.completed")
    async def remember(event: dict[str, Any], ctx: Any) -> None:
        seen.append(ctx.trace_id)
        done.set()

    async with open_site(tmp_path, bot=bot, auth="none", otlp_endpoint=collector.address) as site:
        answer = await site.ask(
            "POST",
            "/chat/stream",
            {"message": f"{SECRET} script: tokens=7", "conversationId": "c-1"},
            traceparent=TRACEPARENT,
        )
        run_id = answer.headers["x-run-id"]
        await asyncio.wait_for(done.wait(), 20)
        # The job's span is told when its step has returned, and the job is done behind that.
        async with asyncio.timeout(20):
            while await _has_jobs(site):  # noqa: ASYNC110 - a row has no event
                await asyncio.sleep(0.01)
    request, run, call = collector.one("POST"), collector.one("invoke_agent"), collector.one("chat ")
    job = collector.one("process remember")
    assert {span.trace for span in (request, run, call, job)} == {TRACE}
    assert seen == [TRACE]
    assert (request.parent, run.parent, call.parent, job.parent) == (CALLER, request.id, run.id, run.id)
    assert (request.kind, run.kind, call.kind, job.kind) == (SERVER, INTERNAL, CLIENT, CONSUMER)
    assert (request.name, call.name) == ("POST /chat/stream", "chat scripted")
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/chat/stream",
        "http.response.status_code": 200,
    }
    assert run.attributes == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "legato",
        "gen_ai.conversation.id": "c-1",
        "gen_ai.request.model": "scripted",
        "gen_ai.response.model": "scripted",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": call.attributes["gen_ai.usage.input_tokens"],
        "gen_ai.usage.output_tokens": 7,
        "legato.run.id": run_id,
        "legato.run.takeovers": 0,
    }
    assert call.attributes["gen_ai.operation.name"] == "chat"
    assert call.attributes["gen_ai.provider.name"] == "scripted"
    assert call.attributes["gen_ai.usage.output_tokens"] == 7
    assert call.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert call.attributes["legato.call.reason"] == "first"
    assert (job.attributes["messaging.destination.name"], job.attributes["legato.attempt"]) == (
        "chat.message.completed",
        1,
    )
    assert not any(span.is_error for span in collector.spans)
    assert 0 < call.seconds <= run.seconds < 30
    assert collector.resources[0]["service.name"] == "legato"
    assert not [body for body in collector.bodies if SECRET.encode() in body]


async def _has_jobs(site: Site) -> bool:
    return any(each.waiting or each.taken for each in (await site.steps.engine.counts()).values())


async def test_tools_and_failures_are_spans(tmp_path: Path, collector: Received) -> None:
    """A tool's call hangs on its reply, without what it was given or said; an error has its code."""
    async with open_world(tmp_path, Bench(), otlp_endpoint=collector.address) as world:
        await world.say(
            f'{SECRET} script: tokens=2 tool=search:{{"query":"{SECRET}"}} tool=fail:{{"words":"{SECRET}"}}'
        )
        await world.say("script: tokens=2 fail=400@1", conversationId="c-2")
    tools = {span.attributes["gen_ai.tool.name"]: span for span in collector.named("execute_tool")}
    runs = collector.named("invoke_agent")
    good, bad = (next(each for each in runs if each.is_error is failed) for failed in (False, True))
    assert {span.parent for span in tools.values()} == {good.id}
    assert (tools["search"].is_error, tools["fail"].is_error) == (False, True)
    assert tools["search"].attributes["gen_ai.operation.name"] == "execute_tool"
    assert bad.attributes["error.type"] == "upstream_refused"
    (failed,) = (span for span in collector.named("chat ") if span.is_error)
    assert (failed.parent, failed.attributes["error.type"]) == (bad.id, "upstream_refused")
    reasons = [span.attributes["legato.call.reason"] for span in collector.named("chat ") if span.parent == good.id]
    assert reasons == ["first", "tools"]
    assert not [body for body in collector.bodies if SECRET.encode() in body]


def test_a_reply_that_loses_its_server_keeps_its_trace_and_its_span(
    start_server: StartServer, collector: Received
) -> None:
    """`kill -9`: the server that goes on sends the reply's one span, and hangs its calls on it."""
    server = start_server(otlp_endpoint=collector.address)
    with Client(server.port) as client:
        # Its first call comes to no end, however late the kill is.
        stream = client.post("script: tokens=60 delay_ms=20 stall=40@1", {"traceparent": TRACEPARENT})
        stream.take(5)
        server.restart()
    with Client(server.port) as client:
        client.follow(stream.run_id).rest()
    assert server.terminate() == 0
    run: Span = collector.one("invoke_agent")
    assert (run.trace, run.attributes["legato.run.takeovers"]) == (TRACE, 1)
    assert run.id == f"{span_id_of(stream.run_id):016x}"
    (call,) = (span for span in collector.named("chat ") if span.attributes["legato.call.reason"] == "takeover")
    assert (call.parent, call.trace) == (run.id, TRACE)


def test_without_an_endpoint_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    """A server that answers has neither the SDK nor what it stands on in memory."""
    program = """
import asyncio, sys
from pathlib import Path
from legato.app import Legato, open_node
from legato.http.api import create_api
from legato.settings import Settings
from legato.steps.service import StepService
from tests.asgi import call

async def main():
    settings = Settings(data_dir=Path(sys.argv[1]), models={"m": {"provider": "scripted"}}, model=["m"])
    registry = Legato().registry()
    async with open_node(settings) as node:
        steps = StepService(node, registry)
        await steps.start()
        api = create_api(node, registry, steps)
        assert (await call(api, "POST", "/chat/stream", {"message": "script: tokens=2"})).status == 200
        assert (await call(api, "GET", "/metrics")).status == 200
        assert node.traces is None
        await steps.close()

asyncio.run(main())
heavy = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto", "google.protobuf", "requests")
print([name for name in sys.modules if name.startswith(heavy) or name == "legato.telemetry.traces"])
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "LEGATO_"))}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env=environment | {"PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_endpoint_that_is_no_address_is_refused(start_server: StartServer) -> None:
    """The start says what would be right."""
    from legato.adapters import create_traces
    from legato.core.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="http://localhost:4318"):
        create_traces("localhost:4317")


async def test_a_collector_that_is_away_costs_no_reply_and_no_long_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans are lost, replies are not; the end waits for seconds at most."""
    from legato.telemetry import traces

    assert traces.CLOSE_S <= 3
    # The rest is for a busy machine.
    monkeypatch.setattr(traces, "CLOSE_S", 0.5)
    loop = asyncio.get_running_loop()
    async with open_world(tmp_path, otlp_endpoint="http://127.0.0.1:9") as world:
        events = await world.say("script: tokens=3")
        assert events[-1].name == "complete"
        began_s = loop.time()
    assert loop.time() - began_s < 6
    for thread in threading.enumerate():
        if thread.name == "legato-traces":
            await asyncio.to_thread(thread.join, 15)


@pytest.mark.parametrize(
    ("text", "trace"),
    [(TRACE, TRACE), ("0" * 32, None), ("r-1", None), (TRACE.upper(), None), (TRACE + "0", None)],
)
def test_every_id_makes_a_trace(text: str, trace: str | None) -> None:
    """A trace id is taken as it is, anything else makes one, always the same."""
    made = trace_id_from(text)
    assert made == (trace or made)
    assert len(made) == 32
    assert int(made, 16)
    assert trace_id_from(text) == made
    assert (made == text) is (trace is not None)


def test_the_events_of_a_reply_know_it() -> None:
    """Other events hang on no reply."""
    assert run_of_event("r-01a2.completed") == "r-01a2"
    assert run_of_event("r-01a2") is None
    assert run_of_event("feedback-1.given") is None

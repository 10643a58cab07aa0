"""The steps that come with Legato, as they run: cleanup, figures by date; and what any step may use."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import legato.steps.builtin
from legato import Context, Event, Legato
from legato.core.principal import Principal
from legato.steps.jobs import CronTick
from legato.steps.runner import StepRunner
from legato.steps.triggers import Occasion
from legato.testing import serving
from tests.conftest import OpenNode

app = Legato()
HOLD_S = 0.2


class HoldingClock:
    """What slow spots are timed by here: it goes on where a handler says so, and not while the machine is busy."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s

    def hold(self) -> None:
        self.now_s += HOLD_S


clock = HoldingClock()


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow spots are timed by `clock`."""
    monkeypatch.setattr("legato.steps.slow_spots.time", clock)


@app.http("POST", "/keep/{key}")
async def keep(key: str, ctx: Context) -> int:
    """Keeps a value for a moment, and one with the conversation of the same name."""
    await ctx.state.set(f"conversation:{key}", "note", "goes with it")
    return await ctx.state.set("moments", key, 1, ttl_s=0.2)


@app.http("GET", "/left/{key}")
async def left(key: str, ctx: Context) -> dict[str, object]:
    """Tells what is left."""
    return {"note": await ctx.state.get(f"conversation:{key}", "note"), "groups": await ctx.state.groups()}


@app.tool
async def slow_sum(numbers: list[int]) -> int:
    """Add numbers, slowly.

    Args:
        numbers: What to add.
    """
    clock.hold()
    return sum(numbers)


@app.tool
async def note(text: str, ctx: Context) -> str:
    """Note something.

    Args:
        text: What to note.
    """
    ctx.logger.info("noted")
    return f"{ctx.run_id} {ctx.event_id} {ctx.trigger.name}"


async def test_cleanup_deletes_what_is_idle_and_what_has_expired(open_test_node: OpenNode) -> None:
    """Conversations whose time is over with all that is theirs; one that is kept stays; it says how many."""
    async with open_test_node(conversation_idle_h=0.2 / 3600) as node:
        registry = app.registry()
        ann = Context(
            node,
            registry.by_name["keep"],
            trigger=Occasion(kind="http", name="x", at_ms=0),
            principal=Principal(id="ann", role="member"),
            trace_id="a" * 32,
        )
        await ann.conversations.create("kept", retention="keep")
        await ann.conversations.create("empty")
        await ann.runs.reply("Hello!", conversation_id="idle", session_id="s-1")
        await keep("idle", ann)
        await asyncio.sleep(0.5)
        (cron,) = registry.by_name["cleanup"].crons
        tick = CronTick(id="t-1", at_ms=cron.times().upto(node.clock.now_ms()))
        with capture_logs() as logs:
            await StepRunner(node, registry).tick("cleanup", tick, 1)
        (line,) = [line for line in logs if line["event"] == "cleaned up"]
        assert (line["conversations"], line["values"]) == (2, 1)
        assert line["step"] == "cleanup"
        assert line["run_id"]
        assert line["trace_id"]
        assert [each.id for each in (await ann.conversations.list()).conversations] == ["kept"]
        assert (await ann.conversations.log(session_id="s-1")).messages == ()
        assert (await left("idle", ann))["note"] is None


def test_figures_are_asked_for_by_date() -> None:
    """`from` and `to` are epoch milliseconds or dates; a wrong one is named as it was sent."""
    with serving(app) as server:
        server.chat("Hello!", session_id="s-1")
        assert server.wait_for(lambda: bool(server.get("/analytics?by=none")["rows"][0]["messages"]))
        (row,) = server.get("/analytics?from=2020-01-01&to=2100-01-01T00:00:00Z&by=none")["rows"]
        assert row["messages"] == 1
        assert row["responseTimeMs"]["p50"] >= 1
        assert server.get("/analytics?to=2020-01-01&by=day")["rows"] == []
        for query, field in (("from=soon", "from"), ("to=-1", "to"), ("from=5&to=3", "to"), ("by=week", "by")):
            status, problem = server.send("GET", f"/analytics?{query}")
            assert (status, [each["field"] for each in problem["errors"]]) == (422, [field])


@pytest.mark.usefixtures("timed")
def test_a_tool_that_holds_the_loop_up_is_named_and_one_knows_its_call() -> None:
    """Tools are handlers too: timed, with a logger, and an id under which an effect is had once."""
    with capture_logs() as logs, serving(app) as server:
        reply = server.chat('script: tool=slow_sum:{"numbers":[1,2]}@1')
        assert [call.output for call in reply.tool_calls] == ["3"]
        noted = server.chat('script: tool=note:{"text":"x"}@1')
        run_id = noted.events[-1][1]["runId"]
        ((first, event_id, name),) = [(call.output or "").split() for call in noted.tool_calls]
    assert (first, name) == (run_id, "note")
    assert event_id.startswith(f"{run_id}.")
    assert [line["handler"] for line in logs if "handler" in line] == ["slow_sum"]
    (line,) = [line for line in logs if line["event"] == "noted"]
    assert (line["tool"], line["run_id"]) == ("note", run_id)


@pytest.mark.usefixtures("timed")
def test_a_step_that_holds_the_loop_up_is_named() -> None:
    """Of a request, of a stream and of a queue; by its name and for how long."""
    probe = Legato()

    @probe.http("POST", "/hold", enqueues=["probe.held"])
    async def hold(ctx: Context) -> None:
        """Holds the loop up, and has another step do so."""
        clock.hold()
        await ctx.enqueue("probe.held", {})

    @probe.http("POST", "/pieces")
    async def pieces(ctx: Context) -> AsyncIterator[Event]:
        """Holds the loop up between two events."""
        yield Event("piece", {})
        clock.hold()
        yield Event("piece", {})

    @probe.queue("probe.held")
    async def held(event: dict[str, object], ctx: Context) -> None:
        """Holds the loop up."""
        clock.hold()

    def named() -> dict[str, int]:
        return {line["handler"]: line["held_ms"] for line in logs if "handler" in line}

    with capture_logs() as logs, serving(probe) as server:
        assert server.send("POST", "/hold")[0] == 200
        assert [name for name, _ in server.stream("POST", "/pieces")] == ["piece", "piece", "complete"]
        assert server.wait_for(lambda: {"hold", "pieces", "held"} <= set(named()))
    assert min(named()[name] for name in ("hold", "pieces", "held")) >= HOLD_S * 1000


async def test_a_steps_own_client_reaches_no_private_address() -> None:
    """What a model names may be anything: only public addresses, unless a host is allowed by name."""
    probe = Legato()

    @probe.http("GET", "/fetch")
    async def fetch(ctx: Context, port: int) -> str:
        """Fetches a page of this machine."""
        async with ctx.http_client() as client:
            try:
                return str((await client.get(f"http://127.0.0.1:{port}/")).status_code)
            except Exception as error:  # noqa: BLE001 - which one it is, is asked
                return type(error).__name__

    with serving(probe) as server:
        assert server.get(f"/fetch?port={server.port}") != "200"
    with serving(probe, allowed_private_hosts=["127.0.0.1"]) as server:
        assert server.get(f"/fetch?port={server.port}") == "200"


@pytest.mark.parametrize("file", sorted(Path(legato.steps.builtin.__file__).parent.glob("*.py")), ids=lambda p: p.name)
def test_a_built_in_step_uses_what_a_bot_could(file: Path) -> None:
    """The decorators, the Context, the events and plain types: no service and no table of its own."""
    rooms = ("steps.builtin", "steps.context", "steps.step_set", "steps.jobs", "core")
    allowed = tuple(f"legato.{room}" for room in rooms)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("legato"):
            names = {each.name for each in node.names}
            assert node.module is not None
            assert node.module.startswith(allowed) or (node.module == "legato.steps.registry" and names <= {"FLOW"}), (
                node.module
            )

"""How a server ends: who has `drain_s` to come to an end, and who is left to the next start at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from legato.app import open_node
from legato.http.api import create_api
from legato.runs.drain import drain
from tests.asgi import call
from tests.conftest import node_settings
from tests.server import ServerProcess
from tests.service_world import LateClock
from tests.tool_world import Bench, World, events_of, open_world, output_of, told, until

SOON_S = 30.0
"""How long anything may take on a busy machine."""
DELETE = 'tool=delete:{"path":"a.txt"}'
WAIT = 'tool=wait:{"query":"x"}'
BOT = """\
import asyncio
from pathlib import Path
import legato.http.server
from legato import Context, Legato

# What is let be beyond the drain would hide what the drain waits for.
legato.http.server.GRACE_S = 0
app = Legato()


@app.tool(needs_approval=True)
async def delete(path: str) -> str:
    \"\"\"Deletes.\"\"\"
    return f"deleted {path}"


async def let_go(name):
    Path(f"{name}-begun").touch()
    while not Path("go").exists():
        await asyncio.sleep(0.02)


@app.http("GET", "/slow")
async def slow(ctx: Context) -> str:
    await let_go("slow")
    return "whole"


@app.http("GET", "/stream")
async def stream(ctx: Context):
    for place in range(10):
        if place == 5:
            await let_go("stream")
        yield {}
"""


class StillClock(LateClock):
    """A drain never comes to the end of its time by it: one that ends waited for nothing."""

    def monotonic_s(self) -> float:
        return 0.0


def seconds() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def late_world(folder: Path, clock: LateClock, **settings: object) -> AsyncIterator[World]:
    bench = Bench()
    async with open_node(node_settings(folder, **settings), tools=bench.tools(), clock=clock) as node:
        yield World(node, bench, create_api(node))


async def test_a_run_that_only_waits_for_a_person_is_left_at_once(tmp_path: Path) -> None:
    """With the turns behind it; the next start goes on waiting, and the reply comes to its end there."""
    async with late_world(tmp_path, StillClock(), drain_s=20) as world:
        post = world.begin(f"script: seed=3 tokens=4 {DELETE}@1", conversationId="c")
        run_id = await world.run_id()
        await world.event(run_id, "approval", "asked")
        behind = world.begin("script: tokens=1", conversationId="c")
        await until(lambda: len(world.node.live) == 2)
        async with asyncio.timeout(SOON_S):
            await drain(world.node)
    await asyncio.gather(post, behind, return_exceptions=True)
    async with open_world(tmp_path) as world:
        await until(lambda: run_id in world.node.live and bool(world.node.live[run_id].approvals))
        follow = asyncio.ensure_future(call(world.api, "GET", f"/chat/stream/{run_id}"))
        assert (await world.approve(run_id, "call_1_1")).status == 200
        events = events_of(await follow)
        assert (output_of(events), events[-1].data["finishReason"]) == ("deleted a.txt", "stop")
        await until(lambda: not world.node.live)
        assert [each["status"] for each in await world.messages("c") if each["role"] == "assistant"] == ["complete"] * 2


async def test_a_run_that_does_something_beside_waiting_is_waited_for(tmp_path: Path) -> None:
    """A tool that runs has its time; when nothing but the waiting is left, the run is left too."""
    async with late_world(tmp_path, StillClock(), drain_s=20) as world:
        post = world.begin(f"script: tokens=4 {DELETE}@1 {WAIT}@1")
        run_id = await world.run_id()
        await world.event(run_id, "approval", "asked")
        await until(lambda: ("wait", "x") in world.bench.ran)
        draining = asyncio.ensure_future(drain(world.node))
        await asyncio.sleep(0.2)
        assert not draining.done()
        world.bench.gate.set()
        async with asyncio.timeout(SOON_S):
            await draining
        assert told(world.log(run_id))[-1] == ("wait", "done")
        assert not world.bench.cancelled
    await asyncio.gather(post, return_exceptions=True)


async def test_a_decision_meanwhile_is_carried_out(tmp_path: Path) -> None:
    """Another run keeps the server up; the one that waited goes on, and is waited for again."""
    async with open_world(tmp_path, drain_s=20) as world:
        post = world.begin(f"script: seed=3 tokens=4 {DELETE}@1 {WAIT}@2")
        run_id = await world.run_id()
        await world.event(run_id, "approval", "asked")
        other = world.begin("script: tokens=40 stall=20")
        await until(lambda: len(world.node.live) == 2)
        (other_id,) = world.node.live.keys() - {run_id}
        draining = asyncio.ensure_future(drain(world.node))
        assert (await world.approve(run_id, "call_1_1")).status == 200
        await until(lambda: ("wait", "x") in world.bench.ran)
        assert (await call(world.api, "POST", f"/chat/stream/{other_id}/stop")).status == 202
        await other
        await asyncio.sleep(0.1)
        assert not draining.done()
        world.bench.gate.set()
        events = await post
        assert events[-1].data["finishReason"] == "stop"
        await draining
        assert world.bench.ran == [("delete", "a.txt"), ("wait", "x")]


@pytest.mark.parametrize(("away_s", "denied"), [(590, False), (601, True)])
async def test_the_time_for_an_approval_goes_on_while_the_server_is_away(
    tmp_path: Path, away_s: float, denied: bool
) -> None:
    """Ten minutes from when it was asked, whatever was in between: no new ten minutes, and none lost."""
    clock = LateClock()
    async with late_world(tmp_path, clock) as world:
        began_ms = clock.now_ms()
        post = world.begin(f"script: seed=3 tokens=4 {DELETE}@1")
        run_id = await world.run_id()
        until_ms = (await world.event(run_id, "approval", "asked"))["until"]
        assert began_ms <= until_ms - 600_000 <= clock.now_ms()
        await drain(world.node)
    await asyncio.gather(post, return_exceptions=True)
    clock.pass_h(away_s / 3600)
    async with late_world(tmp_path, clock) as world:
        follow = asyncio.ensure_future(call(world.api, "GET", f"/chat/stream/{run_id}"))
        if not denied:
            await until(lambda: bool(world.node.live[run_id].approvals))
            assert (await world.event(run_id, "approval", "asked"))["until"] == until_ms
            assert (await world.approve(run_id, "call_1_1")).status == 200
        async with asyncio.timeout(SOON_S):
            events = events_of(await follow)
        assert [event.data["status"] for event in events if event.name == "approval"] == [
            "asked",
            "denied" if denied else "granted",
        ]
        assert world.bench.ran == ([] if denied else [("delete", "a.txt")])


@pytest.fixture
def bot(tmp_path: Path) -> ServerProcess:
    server = ServerProcess(
        tmp_path / "server", {"auth": "none", "rate_limit": "off"}, command=("-m", "legato", "serve", "bot.py")
    )
    (tmp_path / "server" / "bot.py").write_text(BOT)
    return server


@pytest.mark.parametrize(
    ("path", "end"), [("/slow", b'"whole"'), ("/stream", b"event: complete\nid: 10\ndata: {}\n\n\r\n0\r\n\r\n")]
)
async def test_an_http_step_has_the_drain_too(bot: ServerProcess, path: str, end: bytes) -> None:
    """Whatever it answers comes whole, though the server is told to end in its midst; and no later than that."""
    bot.settings["drain_s"] = 20
    bot.start()
    try:
        asking = asyncio.ensure_future(asyncio.to_thread(_raw, bot, path))
        await until((bot.folder / f"{path[1:]}-begun").exists, limit_s=20)
        began_s = seconds()
        ending = asyncio.ensure_future(asyncio.to_thread(bot.terminate))
        await asyncio.sleep(0.6)
        assert not ending.done()
        (bot.folder / "go").touch()
        assert await ending == 0
        took_s = seconds() - began_s
        assert (await asking).endswith(end)
        assert 0.5 < took_s < 5
    finally:
        bot.kill()


async def test_an_http_step_that_outlasts_the_drain_is_cut(bot: ServerProcess) -> None:
    """The server ends; a stream is told why."""
    bot.settings["drain_s"] = 0.3
    bot.start()
    try:
        asking = [asyncio.ensure_future(asyncio.to_thread(_raw, bot, path)) for path in ("/slow", "/stream")]
        for name in ("slow", "stream"):
            await until((bot.folder / f"{name}-begun").exists, limit_s=20)
        began_s = seconds()
        assert await asyncio.to_thread(bot.terminate) == 0
        assert seconds() - began_s < 5
        assert b'"code":"draining"' in (await asking[1])
        assert b"whole" not in (await asking[0])
    finally:
        bot.kill()


def _raw(server: ServerProcess, path: str) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        data = b""
        while piece := sock.recv(65536):
            data += piece
        return data

"""MCP servers for tests: programs, one behind a port, and one in this process that keeps sessions."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from legato.tools.base import Tool, ToolResult
from legato.tools.box import ToolBox
from legato.tools.mcp import McpServer
from legato.tools.mcp_config import McpServerConfig
from legato.tools.run import prepare
from tests.server import free_port

HERE = Path(__file__).parent
LOOPBACK = frozenset(("127.0.0.1",))


def real(**settings: Any) -> McpServerConfig:
    """The library's server as a program."""
    given = {"name": "real", "command": sys.executable, "args": [str(HERE / "mcp_server.py"), "stdio"]}
    return McpServerConfig(**(given | settings))


def misbehaving(way: str = "ok", **settings: Any) -> McpServerConfig:
    """A program that speaks MCP's 2025 form, and misbehaves."""
    given = {"name": "bad", "command": sys.executable, "args": [str(HERE / "mcp_misbehaving.py"), way]}
    return McpServerConfig(**(given | settings))


class Bot:
    """A box with servers, and calls through it as a run would make them."""

    def __init__(self, *configs: McpServerConfig) -> None:
        self.servers = [McpServer(config) for config in configs]
        self.box = ToolBox([], self.servers)

    async def tools(self, *, with_tool: str | None = None, within_s: float = 60.0) -> dict[str, Tool]:
        """Return the tools there are; with `with_tool`, wait until that one is there."""
        until_s = time.monotonic() + within_s
        while True:
            tools = await self.box.tools()
            if with_tool is None or with_tool in tools:
                return tools
            assert time.monotonic() < until_s, f"{with_tool} did not come: {list(tools)}"
            await asyncio.sleep(0.02)

    async def call(self, name: str, arguments: str = "") -> ToolResult:
        return await prepare(await self.tools(with_tool=name), name, arguments).run()


@asynccontextmanager
async def running(*configs: McpServerConfig) -> AsyncIterator[Bot]:
    """Start a bot with servers, and close it."""
    bot = Bot(*configs)
    bot.box.start()
    try:
        yield bot
    finally:
        await bot.box.close()


class HttpProgram:
    """The library's server behind a port of loopback; `json` answers in JSON, `http` as it likes."""

    def __init__(self, way: str) -> None:
        self.port = free_port()
        self._way = way
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def start(self) -> HttpProgram:
        self._process = subprocess.Popen([sys.executable, str(HERE / "mcp_server.py"), self._way, str(self.port)])
        until_s = time.monotonic() + 20
        while time.monotonic() < until_s:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert self._process.poll() is None
                time.sleep(0.02)
            else:
                return self
        raise AssertionError("the MCP server did not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Sessions:
    """A server of MCP's 2025 form in this process, which keeps sessions and answers as event streams.

    Attributes:
        headers: Of every request so far.
        called: Tools that were carried out.
        known: Sessions that it knows; clear it, and it has forgotten them.
        hangs: It leaves every goodbye without an answer.
    """

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        self.called: list[str] = []
        self.known: set[str] = set()
        self.hangs = False
        self._made = 0

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_route("*", "/mcp", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        if request.method == "DELETE" and self.hangs:
            await asyncio.sleep(60)
        if request.method != "POST":
            return web.Response(status=405)
        message = await request.json()
        method = message.get("method")
        if method == "initialize":
            self._made += 1
            session = f"session-{self._made}"
            self.known.add(session)
            info = {"name": "sessions", "version": "1"}
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
            return await self._stream(request, message, result, session)
        if method == "server/discover":
            error = {"code": -32601, "message": "method not found"}
            return web.json_response({"jsonrpc": "2.0", "id": message["id"], "error": error})
        if request.headers.get("mcp-session-id") not in self.known:
            return web.Response(status=404)
        if "id" not in message:
            return web.Response(status=202)
        if method == "tools/list":
            return await self._stream(
                request, message, {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}
            )
        self.called.append(message["params"]["name"])
        text = message["params"]["arguments"].get("text", "")
        return await self._stream(request, message, {"content": [{"type": "text", "text": text}]})

    async def _stream(
        self, request: web.Request, message: dict[str, Any], result: dict[str, Any], session: str | None = None
    ) -> web.StreamResponse:
        headers = {"Content-Type": "text/event-stream"} | ({"mcp-session-id": session} if session else {})
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        text = web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result}).text
        await response.write(f"event: message\ndata: {text}\n\n".encode())
        return response


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended and is not yet asked for counts as gone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True


async def until(true: Callable[[], bool], within_s: float = 60.0) -> None:
    """Wait until something holds.

    Raises:
        AssertionError: It does not come about.
    """
    until_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < until_s
        await asyncio.sleep(0.02)


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def behind(url: str, **settings: Any) -> McpServerConfig:
    return McpServerConfig(**({"name": "web", "url": url, "private_hosts": LOOPBACK} | settings))

"""A node with policies in this process, before a model's server that says what a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from legato.app import Legato, open_node
from legato.http.api import create_api
from legato.runs.node import Node
from legato.settings import Settings
from tests.asgi import AsgiAnswer, call
from tests.client import Event, parse_event
from tests.contract.upstream_server import Do, Script, UpstreamServer

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
POLITE = "Let us talk about something else."
RULES = {"type": "rules", "terms": ["forbidden word"], "reason": "house"}
PRIVATE = {"type": "private_data"}


def frame(**delta: Any) -> bytes:
    """Return one chunk of a model's answer."""
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


def says(deltas: Iterable[str], *, pause_s: float = 0.0, then: Sequence[Any] = ()) -> Script:
    """Return the script of a model that says something in these deltas, and then ends, or does what is wanted."""
    steps: list[Any] = [HEAD]
    for delta in deltas:
        steps.append(frame(content=delta))
        if pause_s:
            steps.append(pause_s)
    return [*steps, *then] if then else [*steps, *ends()]


def ends(reason: str = "stop") -> list[Any]:
    """Return how a model ends its answer."""
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    return [b"data: " + json.dumps(last).encode() + b"\n\n", b"data: [DONE]\n\n", Do.CLOSE]


def answers(body: object, *, status: int = 200, after_s: float = 0.0) -> Script:
    """Return the script of a server that answers with JSON, or with text as it stands."""
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return [after_s, head.encode() + data]


def calls_tool(name: str, arguments: dict[str, Any]) -> Script:
    """Return the script of a model that calls a tool."""
    made = {"index": 0, "id": "call_1", "type": "function"}
    made |= {"function": {"name": name, "arguments": json.dumps(arguments)}}
    return [HEAD, frame(tool_calls=[made]), *ends("tool_calls")]


@dataclass
class World:
    """What a test sees."""

    node: Node
    api: ASGIApp
    upstream: UpstreamServer
    folder: Path

    async def post(self, message: str, **more: Any) -> AsgiAnswer:
        return await call(self.api, "POST", "/chat/stream", {"message": message} | more)

    async def ask(self, message: str, **more: Any) -> tuple[str, dict[str, Any]]:
        """Post a message; return the text that was shown, and the last event's data."""
        events = events_of(await self.post(message, **more))
        text = "".join(event.data["content"] for event in events if event.name == "chunk")
        return text, events[-1].data

    async def get(self, path: str) -> Any:
        answer = await call(self.api, "GET", path)
        assert answer.status == 200, answer.body
        return answer.json

    async def messages(self, conversation_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.get(f"/conversations/{conversation_id}/messages"))["messages"]
        return found

    @property
    def told(self) -> str:
        """All that the model's server was ever sent."""
        return "\n".join(seen.body.decode() for seen in self.upstream.requests)

    def metric(self, name: str, **labels: str) -> float:
        """Return the value of one series."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        for line in self.node.metrics.render().decode().splitlines():
            if line.startswith(f"legato_{name}") and all(each in line for each in wanted):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"there is no {name} {labels}")


def events_of(answer: AsgiAnswer) -> list[Event]:
    """Return the events of an answer."""
    blocks = answer.body.removesuffix(b"\n\n").split(b"\n\n")
    return [parse_event(block) for block in blocks if not block.startswith(b":")]


@asynccontextmanager
async def open_world(
    folder: Path,
    *policies: dict[str, Any],
    bot: Legato | None = None,
    tools: Sequence[Any] = (),
    moderation: dict[str, Any] | None = None,
    models: Callable[[str], dict[str, Any]] | None = None,
    **settings: Any,
) -> AsyncIterator[World]:
    """Open a node with policies; its model is a server of this test."""
    async with UpstreamServer() as upstream:
        model = {"provider": "openai", "base_url": upstream.base_url, "api_key": "sk-test"}
        values: dict[str, Any] = {
            "data_dir": folder,
            "model": ["model"],
            "models": {"model": model} | (models(upstream.base_url) if models is not None else {}),
            "durability": "process",
            "titles": "words",
            "retry_base_s": 0.01,
            "moderation": {"policies": list(policies), "block_text": POLITE} | (moderation or {}),
        }
        declared = bot.policies if bot is not None else ()
        async with open_node(Settings(**(values | settings)), policies=declared, tools=tools) as node:
            yield World(node, create_api(node), upstream, folder)


def kept_bytes(folder: Path) -> bytes:
    """Return all bytes of all files of a data folder."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


async def until(holds: Callable[[], bool], *, limit_s: float = 20.0) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: It did not within `limit_s`.
    """
    async with asyncio.timeout(limit_s):
        while not holds():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.01)

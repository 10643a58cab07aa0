"""What is done once a second: nothing of it waits for the rest."""

from __future__ import annotations

import asyncio
import json

import pytest

from legato.http.api import create_api
from legato.http.edge import StreamingHttpProtocol
from legato.runs import care
from legato.runs.node import Node
from tests.asgi import listening
from tests.client import request_bytes
from tests.conftest import OpenNode


@pytest.mark.parametrize("work", ["prune", "sweep"])
async def test_heartbeats_come_while_the_database_takes_its_time(
    open_test_node: OpenNode, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    """A reader in silence is told that the server is there, whatever is being deleted meanwhile."""
    stuck = asyncio.Event()

    async def wait_for_ever(node: Node) -> None:
        stuck.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(care, work, wait_for_ever)
    monkeypatch.setattr(care, "PRUNE_S", 0.02)
    monkeypatch.setattr(care, "SWEEP_S", 0.02)
    async with (
        open_test_node(heartbeat_s=0.1) as node,
        listening(create_api(node), StreamingHttpProtocol) as port,
        asyncio.timeout(10),
    ):
        await stuck.wait()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            request_bytes("POST", "/chat/stream", json.dumps({"message": "script: tokens=9 stall=2"}).encode())
        )
        await reader.readuntil(b'"index":2')
        for _ in range(3):
            await reader.readuntil(b": ping")
        writer.close()

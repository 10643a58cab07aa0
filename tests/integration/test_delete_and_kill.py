"""A deleted conversation leaves nothing behind, also where the server is killed next."""

from __future__ import annotations

from legato.providers.scripted import reply
from tests.client import Client, text_of
from tests.conftest import StartServer


def test_a_deleted_reply_is_in_no_other_after_a_kill(start_server: StartServer) -> None:
    """Though the next run is given its key, and its segments are still there because an older run needs its own."""
    server = start_server()
    with Client(server.port) as client:
        client.post("script: tokens=30 delay_ms=30", conversationId="older").take(2)
        client.post("script: seed=5 tokens=9 stall=6", conversationId="deleted").take(6)
        assert client.ask("DELETE", "/conversations/deleted").status == 204
        stream = client.post("script: seed=8 tokens=9 stall=3", conversationId="new")
        stream.take(2)
    server.restart()
    with Client(server.port) as client:
        assert text_of(client.follow(stream.run_id).rest()) == reply(8, 9)

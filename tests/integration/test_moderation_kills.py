"""A server that is killed while it holds text back: what was shown stays, the rest is made and judged anew."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from tests.client import Client, text_of
from tests.contract.upstream_server import Do, UpstreamServer
from tests.moderation_world import POLITE, kept_bytes, says
from tests.server import ServerProcess

T = TypeVar("T")
MORE = "And so it goes on, for longer than a seam between two calls is looked at. "
TOML = """\
[models.scripted]
provider = "openai"
base_url = {base_url}
api_key = "sk-test"
# {{journal}}

[moderation]
block_text = "{polite}"
hold_ms = 10000

[[moderation.policies]]
type = "rules"
on = ["reply"]
terms = ["forbidden word"]
"""


@pytest.mark.slow
async def test_what_was_held_back_is_made_anew_after_a_kill(tmp_path: Path) -> None:
    """Killed with half a sentence held back, the server goes on behind what was shown; a blocked end stays blocked."""

    def aside(function: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.ensure_future(asyncio.to_thread(function))

    async with UpstreamServer() as upstream:
        toml = TOML.format(base_url=json.dumps(upstream.base_url), polite=POLITE)
        server = ServerProcess(tmp_path / "server", toml=toml)
        upstream.scripts.append(says(["All is well. ", "Here the forbid"], then=[Do.HOLD]))
        upstream.scripts.append(says([MORE, "Here the forbidden", " word. "], then=[Do.HOLD]))
        await aside(server.start)
        client = Client(server.port)
        stream = await aside(lambda: client.post("hello"))
        try:
            shown = await aside(lambda: stream.take(1))
            assert text_of(shown) == "All is well. "
            await aside(server.restart)
            again = await aside(lambda: client.follow(stream.run_id).rest())
            assert text_of(again) == f"All is well. {MORE}\n\n{POLITE}"
            assert again[0].raw == shown[0].raw
            assert again[-1].data["finishReason"] == "content_filter"
            # What was held back was in no log: the model is given what was shown, and nothing else.
            assert [seen.body.count(b"forbid") for seen in upstream.requests] == [0, 0]
            assert upstream.requests[1].body.count(b"All is well.") == 1
        finally:
            client.__exit__()
            await aside(server.kill)
    assert b"forbid" not in kept_bytes(server.data_dir)

"""What tutorials show: FastAPI, the openai SDK and a StreamingResponse.

Faithful to them but for three things in its favour: the SDK's connection pool is raised above
its default of 1,000 connections, uvicorn runs on uvloop and httptools, and the access log is off.
Run as `python -m bench.peers.tutorial --port P --upstream URL`.
"""

import argparse
import json
from collections.abc import AsyncIterator

import httpx2
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from pydantic import BaseModel


class Turn(BaseModel):
    """The native request body."""

    message: str
    sessionId: str
    conversationId: str


def build_app(upstream: str) -> FastAPI:
    """Return the application, relaying to the OpenAI-compatible `upstream`."""
    app = FastAPI()
    client = AsyncOpenAI(
        base_url=upstream,
        api_key="sk-bench",
        http_client=DefaultAsyncHttpxClient(limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None)),
    )

    async def frames(turn: Turn) -> AsyncIterator[str]:
        stream = await client.chat.completions.create(
            model="mock-model",
            messages=[{"role": "user", "content": turn.message}],
            stream=True,
        )
        index, length = 0, 0
        async for part in stream:
            content = part.choices[0].delta.content if part.choices else None
            if content:
                index, length = index + 1, length + len(content)
                data = {
                    "content": content,
                    "index": index,
                    "conversationId": turn.conversationId,
                }
                yield f"event: chunk\ndata: {json.dumps(data)}\n\n"
        end = {"conversationId": turn.conversationId, "messageCount": 2, "responseLength": length}
        yield f"event: complete\ndata: {json.dumps(end)}\n\n"

    @app.post("/chat/stream")
    async def chat(turn: Turn) -> StreamingResponse:
        return StreamingResponse(frames(turn), media_type="text/event-stream")

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="base address, ends in /v1")
    arguments = parser.parse_args()
    uvicorn.run(
        build_app(arguments.upstream),
        host="127.0.0.1",
        port=arguments.port,
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )

"""A small MCP server made with the official library, as a program: `stdio`, or `http PORT`.

It does what it is told to by its tools, the bad things too.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import mcp_types as types
import uvicorn
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server

TEXT: dict[str, Any] = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
NUMBERS: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/Number"}, "b": {"$ref": "#/$defs/Number"}},
    "required": ["a", "b"],
    "additionalProperties": False,
    "$defs": {"Number": {"type": "integer"}},
}
NOTHING: dict[str, Any] = {"type": "object"}
SCHEMAS: dict[str, dict[str, Any]] = {
    "echo": TEXT,
    "add": NUMBERS,
    "fail": TEXT,
    "explode": NOTHING,
    "die": NOTHING,
    "hang": NOTHING,
    "huge": {"type": "object", "properties": {"chars": {"type": "integer"}}},
    "mixed": NOTHING,
    "structured": NOTHING,
    "environment": TEXT,
    "pid": NOTHING,
    "bad.schema": {"type": "object", "properties": {"a": {"type": "objekt"}}},
    "dotted.name": NOTHING,
}


async def list_tools(
    ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
) -> types.ListToolsResult:
    names = list(SCHEMAS)
    start = int(params.cursor) if params is not None and params.cursor else 0
    page = names[start : start + 5]
    return types.ListToolsResult(
        tools=[types.Tool(name=name, description=f"Does {name}.", input_schema=SCHEMAS[name]) for name in page],
        next_cursor=str(start + 5) if start + 5 < len(names) else None,
    )


def text_result(text: str, *, is_error: bool = False) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=is_error)


async def call_tool(ctx: ServerRequestContext[Any], params: types.CallToolRequestParams) -> types.CallToolResult:
    given = params.arguments or {}
    match params.name:
        case "echo":
            return text_result(given["text"])
        case "add":
            return text_result(str(given["a"] + given["b"]))
        case "fail":
            return text_result(given["text"], is_error=True)
        case "explode":
            raise RuntimeError("exploded at /srv/secret/place.py with token=abcdef123456")
        case "die":
            print("last words of the server", file=sys.stderr, flush=True)
            os._exit(3)
        case "hang":
            await asyncio.sleep(3600)
        case "huge":
            return text_result("x" * given["chars"])
        case "mixed":
            return types.CallToolResult(
                content=[
                    types.TextContent(type="text", text="words"),
                    types.ImageContent(type="image", data="AAAA", mime_type="image/png"),
                    types.ResourceLink(type="resource_link", name="guide", uri="https://docs.example/guide"),
                    types.EmbeddedResource(
                        type="resource",
                        resource=types.TextResourceContents(uri="file:///note", text="a note", mime_type="text/plain"),
                    ),
                ]
            )
        case "structured":
            return types.CallToolResult(content=[], structured_content={"a": [1, 2]})
        case "environment":
            return text_result(os.environ.get(given["text"], "not set"))
        case "pid":
            return text_result(str(os.getpid()))
        case "dotted.name":
            return text_result("dotted")
    raise ValueError(f"there is no tool {params.name}")


server: Server[Any] = Server("test", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


async def over_stdio() -> None:
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        asyncio.run(over_stdio())
    else:
        # Without an end in a hurry: a call that hangs would keep it for ever.
        uvicorn.run(
            server.streamable_http_app(json_response=sys.argv[1] == "json"),
            port=int(sys.argv[2]),
            log_level="warning",
            timeout_graceful_shutdown=1,
        )

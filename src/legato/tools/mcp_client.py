"""The protocol's side of an MCP server: a session, its list of tools, one call, its result as text.

This file imports `mcp` (0.45 s, 48 MB) and is imported late, where servers are configured.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import PurePath

import httpx2
import mcp
import mcp_types as types
from mcp.client import Transport
from mcp.client.client import Client
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError
from pydantic_core import to_json

from legato.core.errors import ToolError
from legato.tools.addresses import AddressGuard
from legato.tools.base import Arguments
from legato.tools.guarded_http import guarded_client
from legato.tools.mcp_config import McpServerConfig
from legato.tools.mcp_stdio import MAX_MESSAGE_BYTES, Ended, program
from legato.tools.scrub import scrub
from legato.version import __version__

READ_TIMEOUT_S = 300.0
"""Longest silence of an HTTP answer; a call's own limit ends it sooner, this one is for the stream of notices."""
GOODBYE_S = 2.0
MOST_TOOLS = 128
_MOST_PAGES = 50
_MOST_NAMES_CHARS = 200


class SessionLost(Exception):
    """The connection ended during a call: whether the call was carried out is not known."""


class SessionForgotten(Exception):
    """The server does not know the session any more: the call was not carried out."""


@asynccontextmanager
async def open_session(
    config: McpServerConfig, *, ended: Ended, changed: Callable[[], None]
) -> AsyncIterator[ClientSession]:
    """Connect to a server and agree on the protocol's version. Entered and left by one task.

    Args:
        ended: Called with reason and last words when a program ends; a server behind a URL is found gone by a call.
        changed: Called when the server says that its tools have changed.

    Raises:
        AddressRefused: Its host is private and not allowed by name.
        Exception: Whatever else the library raises for a server that is away or answers nonsense.
    """

    async def take(message: object) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            changed()

    transport: Transport
    async with AsyncExitStack() as stack:
        if config.url is None:
            command = [config.command or "", *config.args]
            transport = program(command, env=config.env, cwd=config.cwd, ended=ended)
        else:
            http = guarded_client(
                guard=AddressGuard(config.private_hosts), headers=config.headers, timeout_s=READ_TIMEOUT_S
            )
            http.event_hooks = {"request": [_short_goodbye], "response": []}
            transport = streamable_http_client(
                config.url, http_client=await stack.enter_async_context(http), max_sse_event_size=MAX_MESSAGE_BYTES
            )
        client = Client(
            transport,
            cache=None,
            client_info=types.Implementation(name="legato", version=__version__),
            message_handler=take,
        )
        yield (await stack.enter_async_context(client)).session


async def _short_goodbye(request: httpx2.Request) -> None:
    # The library ends a session with a DELETE and waits for its answer, which a server that hangs never gives.
    if request.method == "DELETE":
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), GOODBYE_S)


async def list_tools(session: ClientSession) -> list[types.Tool]:
    """Return the server's tools, at most MOST_TOOLS of them."""
    found: list[types.Tool] = []
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        page = await session.list_tools(params=types.PaginatedRequestParams(cursor=cursor) if cursor else None)
        found += page.tools
        cursor = page.next_cursor
        if not cursor or len(found) >= MOST_TOOLS:
            break
    return found[:MOST_TOOLS]


async def call_tool(session: ClientSession, name: str, arguments: Arguments, *, secrets: list[str]) -> str:
    """Call a tool and return its result as text.

    The result is not checked against the tool's `outputSchema`: the library would do that with Python's regular
    expressions, which a server's pattern can keep busy for hours.

    Raises:
        ToolError: The tool or the server answered with an error.
        SessionLost, SessionForgotten: No answer came, or none that ever will.
    """
    request = types.CallToolRequest(params=types.CallToolRequestParams(name=name, arguments=arguments))
    try:
        result = await session.send_request(request, types.CallToolResult)
    except MCPError as error:
        if error.code == types.CONNECTION_CLOSED:
            raise SessionLost(error.message) from error
        if error.code == types.INVALID_REQUEST and error.message == "Session terminated":
            raise SessionForgotten from error
        raise ToolError(f"the MCP server answered with an error: {scrub(error.message, secrets=secrets)}") from error
    except ValidationError as error:
        raise ToolError("the MCP server's answer is no result of a tool") from error
    text = result_text(result)
    if result.is_error:
        raise ToolError(text or "the tool failed and did not say why")
    return text


def result_text(result: types.CallToolResult) -> str:
    """Return a result as the model reads it: its texts, a note for each thing that is no text."""
    parts = list(_texts(result.content))
    if not parts and result.structured_content is not None:
        return to_json(result.structured_content).decode()
    return "\n".join(parts)


def _texts(content: list[types.ContentBlock]) -> Iterator[str]:
    for block in content:
        match block:
            case types.TextContent():
                yield block.text
            case types.ImageContent() | types.AudioContent():
                yield f"[{block.mime_type[:_MOST_NAMES_CHARS]}, {len(block.data) * 3 // 4} bytes, not shown]"
            case types.ResourceLink():
                yield f"[{PurePath(block.name).name[:_MOST_NAMES_CHARS]}: {str(block.uri)[:2000]}]"
            case types.EmbeddedResource(resource=types.TextResourceContents() as resource):
                yield resource.text
            case types.EmbeddedResource(resource=resource):
                yield f"[{(resource.mime_type or 'a file')[:_MOST_NAMES_CHARS]}, not shown]"


_LIBRARY = str(PurePath(mcp.__file__).parent)


class _FromMcp(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not record.pathname.startswith(_LIBRARY)


# The library logs what it cannot read with stacks that quote it: content of a conversation. What matters is logged by
# whoever owns the session. One of its loggers is named `client`, which may be somebody else's name too.
logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)
logging.getLogger("client").addFilter(_FromMcp())

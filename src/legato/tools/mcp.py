"""An MCP server as a source of tools: connected to in the background, and again after it was lost.

One task opens the session, holds it and closes it: the library's cancel scopes must be left by the task that entered
them. Callers of tools only send through it. A server that is away costs its tools and a line in the log, never the
start of Legato or a reply.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import structlog

from legato.core.errors import BadSchema, LegatoError, ToolError
from legato.tools.base import MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, Arguments, Tool, legal_name
from legato.tools.json_schema import check_against, parameters_of
from legato.tools.mcp_config import McpServerConfig
from legato.tools.scrub import scrub, tell

if TYPE_CHECKING:
    from mcp.client.session import ClientSession


log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0
LASTED_S = 10.0
"""A session that lasted so long was a good one: it is opened anew at once."""
CONNECT_WAIT_S = 5.0
"""How long a server may take to connect before models are called without its tools."""
CLOSE_S = 10.0
MOST_COMPLAINTS = 200
"""Lines in the log about single tools of one server."""
UNANSWERED = 3
"""So many calls in a row that were given up without an answer, and the server is taken for one that hangs."""


class McpServer:
    """One configured MCP server; a ToolSource."""

    def __init__(self, config: McpServerConfig) -> None:
        self.name = config.name
        self.prefix = config.prefix
        self._config = config
        self._owner: asyncio.Task[None] | None = None
        self._client: Any = None
        self._session: ClientSession | None = None
        self._tools: dict[str, Tool] = {}
        self._left_out: set[tuple[str, str]] = set()
        self._closing = False
        self._lost: str | None = None
        self._last_words: str | None = None
        self._stale = False
        self._nudge = asyncio.Event()
        self._settled = asyncio.Event()
        self._patient_until_s = 0.0
        self._unanswered = 0
        self._under_way = 0

    def start(self) -> None:
        """Begin to connect; return at once."""
        if self._owner is None:
            self._unsettle()
            # An empty context: what is logged here belongs to no request.
            self._owner = asyncio.get_running_loop().create_task(
                self._own(), name=f"mcp {self.name}", context=contextvars.Context()
            )

    async def close(self) -> None:
        """End the session, and the program if it is one; takes CLOSE_S at most."""
        self._closing = True
        self._nudge.set()
        if self._owner is None:
            return
        if self._session is None:
            # It may be waiting for a server that never answers; it still cleans up after itself.
            self._owner.cancel()
        done, _ = await asyncio.wait({self._owner}, timeout=CLOSE_S)
        if not done:
            log.warning("an mcp server was not closed in time", server=self.name)
            self._owner.cancel()
            await asyncio.wait({self._owner}, timeout=1.0)

    async def tools(self) -> Mapping[str, Tool]:
        """Return its tools by its own names; none while it is away.

        While it is being connected to, its tools are waited for, until CONNECT_WAIT_S after that began.
        """
        await self._wait(self._patient_until_s - asyncio.get_running_loop().time())
        return self._tools

    async def _wait(self, most_s: float) -> None:
        if self._owner is None or self._settled.is_set() or most_s <= 0:
            return
        try:
            async with asyncio.timeout(most_s):
                await self._settled.wait()
        except TimeoutError:
            pass

    # The owner's side: nothing below this line, up to the next, is run by any other task.

    async def _own(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._closing:
            self._lost, self._last_words, self._stale, self._unanswered = None, None, False, 0
            opened_s: float | None = None
            try:
                # Its import takes half a second, which the loop has other use for.
                self._client = await asyncio.to_thread(importlib.import_module, "legato.tools.mcp_client")
                client: Any = self._client
                async with AsyncExitStack() as stack:
                    async with asyncio.timeout(self._config.start_timeout_s):
                        session = await stack.enter_async_context(
                            client.open_session(self._config, ended=self._ended, changed=self._tools_changed)
                        )
                        self._tools = self._made(await client.list_tools(session))
                    opened_s = loop.time()
                    self._session = session
                    self._settled.set()
                    log.info("mcp server connected", server=self.name, tools=len(self._tools))
                    await self._attend(session)
            except Exception as error:  # noqa: BLE001 - the boundary of this server's life
                self._lost = self._why(error, opened=opened_s is not None)
            self._session, self._tools = None, {}
            if self._closing:
                break
            lasted = opened_s is not None and loop.time() - opened_s >= LASTED_S
            failures = 1 if lasted else failures + 1
            # The first loss of a session is mended at once.
            at_once = failures == 1 and opened_s is not None
            pause_s = 0.0 if at_once else min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 10))
            log.warning(
                "mcp server is away, its tools are missing",
                server=self.name,
                why=self._lost,
                last_words=self._last_words,
                retry_s=pause_s,
            )
            if at_once:
                self._unsettle()
            else:
                # From here on nobody waits for it: it is there when it is there.
                self._settled.set()
                await self._sleep(pause_s)
        self._settled.set()

    async def _attend(self, session: ClientSession) -> None:
        """Hold the session until it is lost or to be closed; list the tools anew when they have changed."""
        while not self._closing and self._lost is None:
            await self._nudge.wait()
            self._nudge.clear()
            if self._stale and not self._closing and self._lost is None:
                self._stale = False
                async with asyncio.timeout(self._config.start_timeout_s):
                    self._tools = self._made(await self._client.list_tools(session))
                log.info("mcp server has other tools", server=self.name, tools=len(self._tools))

    async def _sleep(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                while not self._closing:
                    await self._nudge.wait()
                    self._nudge.clear()
        except TimeoutError:
            pass

    def _made(self, listed: list[Any]) -> dict[str, Tool]:
        """Return Legato's tools for a server's; those that cannot be used are left out and logged, once each."""
        config, made = self._config, {}
        for each in listed:
            if config.allow is not None and each.name not in config.allow:
                continue
            try:
                parameters = parameters_of(each.input_schema)
                check = check_against(each.input_schema)
            except BadSchema as error:
                self._log_once("mcp tool left out", each.name, error.message)
                continue
            made[each.name] = Tool(
                name=legal_name(each.name)[:MAX_NAME_CHARS],
                description=(each.description or each.title or each.name)[:MAX_DESCRIPTION_CHARS],
                parameters=parameters,
                check=check,
                body=_Body(self, each.name),
                idempotent=each.name in config.idempotent,
                needs_approval=config.needs_approval
                if isinstance(config.needs_approval, bool)
                else each.name in config.needs_approval,
                timeout_s=config.timeout_s,
                max_output_chars=config.max_output_chars,
                server=self.name,
            )
        approved = frozenset() if isinstance(config.needs_approval, bool) else config.needs_approval
        for name in ((config.allow or frozenset()) | approved | config.idempotent) - {each.name for each in listed}:
            self._log_once("mcp server has no such tool", name, "it is named in the settings")
        return made

    def _log_once(self, event: str, tool: str, why: str) -> None:
        if (tool, why) not in self._left_out and len(self._left_out) < MOST_COMPLAINTS:
            self._left_out.add((tool, why))
            log.warning(event, server=self.name, tool=tool[:200], why=why)

    def _why(self, error: BaseException, *, opened: bool) -> str:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, LegatoError):
            return error.message
        if isinstance(error, TimeoutError) and not opened:
            return f"it did not list its tools within {self._config.start_timeout_s:g} s"
        told = tell(error, secrets=self._config.secrets())
        return f"{self._lost} ({told})" if self._lost else told

    # What other tasks and the session's callbacks do.

    def _lose(self, why: str) -> None:
        """Note that the session is of no use any more; the owner opens another."""
        if self._lost is None:
            self._lost = scrub(why, secrets=self._config.secrets())
            if self._session is not None:
                self._session = None
                self._unsettle()
            self._nudge.set()

    def _unsettle(self) -> None:
        if self._settled.is_set() or self._owner is None:
            self._settled.clear()
            self._patient_until_s = asyncio.get_running_loop().time() + CONNECT_WAIT_S

    def _ended(self, why: str, last_words: str) -> None:
        self._last_words = scrub(last_words, secrets=self._config.secrets()) or None
        self._lose(why)

    def _tools_changed(self) -> None:
        self._stale = True
        self._nudge.set()

    async def call(self, tool: str, arguments: Arguments) -> str:
        """Call one of its tools and return the result as text; bounded in time by whoever calls.

        Raises:
            ToolError: The tool failed, or the server is away; the message is for the model.
        """
        for _ in range(2):
            await self._wait(self._config.start_timeout_s)
            session = self._session
            if session is None:
                raise ToolError(f"the MCP server {self.name} of this tool is away: try again later")
            client: Any = self._client
            self._under_way += 1
            try:
                text: str = await client.call_tool(session, tool, arguments, secrets=self._config.secrets())
            except client.SessionForgotten:
                # It was not carried out, so it may be sent again.
                self._lose_this(session, "it does not know its session any more")
                continue
            except client.SessionLost:
                self._lose_this(session, "the connection ended during a call")
                raise ToolError(
                    f"the MCP server {self.name} went away during the call ({self._lost or 'the connection ended'}); "
                    "whether the call was carried out is not known"
                ) from None
            except asyncio.CancelledError:
                self._unanswered += 1
                if self._unanswered >= UNANSWERED and self._under_way == 1:
                    self._lose_this(session, f"it answered none of {self._unanswered} calls")
                raise
            finally:
                self._under_way -= 1
            self._unanswered = 0
            return text
        raise ToolError(f"the MCP server {self.name} of this tool does not keep a session: try again later")

    def _lose_this(self, session: ClientSession, why: str) -> None:
        if self._session is session:
            self._lose(why)


class _Body:
    """A tool's body: a call of its server."""

    __slots__ = ("_server", "_tool")

    def __init__(self, server: McpServer, tool: str) -> None:
        self._server = server
        self._tool = tool

    async def __call__(self, arguments: Arguments, context: object) -> object:
        return await self._server.call(self._tool, arguments)

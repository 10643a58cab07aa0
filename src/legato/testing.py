"""Tries a bot as its users meet it: a real server on a free port, with a scripted model, for a test's duration.

    with serving(app) as server:
        reply = server.chat("Hello!")
        assert reply.finish_reason == "stop"

The scripted model says always the same, and does what stands behind `script:` in a message: `script: tokens=5`,
`script: fail=500@1` (its first call fails), `script: tool=opening_hours:{"day":"sunday"}@1` (its first answer calls a
tool; JSON without blanks).
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from legato.app import Legato, serve
from legato.core.errors import ConfigurationError
from legato.settings import Settings
from legato.steps.jobs import CronTrigger
from legato.telemetry import configure_logs

START_S = 30.0
SILENCE_S = 60.0
"""A server that says nothing for so long has failed the test."""

Approve = Callable[[str, dict[str, Any]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class TestToolCall:
    """A tool call of a reply.

    Attributes:
        arguments: As the model gave them.
        output: What the model was told; None if the reply ended before.
        failed: The tool failed, or the call was refused.
    """

    # Not a test, whatever its name begins with.
    __test__ = False

    name: str
    arguments: dict[str, Any]
    output: str | None
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TestReply:
    """A whole reply.

    Attributes:
        text: All of its text.
        events: (name, data) of every event, in order.
        status: Of the HTTP response.
    """

    __test__ = False

    text: str
    events: list[tuple[str, Any]] = field(repr=False)
    status: int

    @property
    def finish_reason(self) -> str | None:
        """Of its `complete` event; None where it ended with an error."""
        name, data = self.events[-1] if self.events else ("", {})
        return data.get("finishReason") if name == "complete" else None

    @property
    def error(self) -> str | None:
        """The code of its `error` event; None where it came to its end."""
        name, data = self.events[-1] if self.events else ("", {})
        return data.get("code") if name == "error" else None

    @property
    def tool_calls(self) -> list[TestToolCall]:
        """The tool calls, in the order in which the model asked for them."""
        told = [data for name, data in self.events if name == "tool"]
        ended = {data["callId"]: data for data in told if "output" in data}
        return [
            TestToolCall(
                name=data["name"],
                arguments=json.loads(data["arguments"]),
                output=ended.get(data["callId"], {}).get("output"),
                failed=ended.get(data["callId"], {}).get("status") == "failed",
            )
            for data in told
            if data["status"] == "called"
        ]


class TestServer:
    """A server that answers on this machine."""

    __test__ = False

    def __init__(self, port: int) -> None:
        self.port = port

    def chat(
        self,
        message: str,
        *,
        session_id: str | None = None,
        conversation_id: str | None = None,
        approve: Callable[[str, dict[str, Any]], bool] | None = None,
        **fields: Any,
    ) -> TestReply:
        """Post a message and wait for the whole reply.

        Args:
            approve: Asked with a tool's name and arguments where a person must agree to a call.
            fields: Further fields of the request, in camelCase.

        Raises:
            AssertionError: A call waits for a person, and there is no `approve`.
        """
        body = {"message": message, "sessionId": session_id, "conversationId": conversation_id} | fields
        given = {name: value for name, value in body.items() if value is not None}
        connection, response = self._open("POST", "/chat/stream", given)
        try:
            run_id = response.headers["X-Run-Id"]
            events: list[tuple[str, Any]] = []
            for name, data in _events(response):
                events.append((name, data))
                if name == "approval" and data["status"] == "asked":
                    self._decide(run_id, data, approve)
        finally:
            connection.close()
        text = "".join(data["content"] for name, data in events if name == "chunk")
        return TestReply(text=text, events=events, status=response.status)

    def get(self, path: str) -> Any:
        """Return the JSON that is at a path."""
        return self.send("GET", path)[1]

    def send(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Send JSON; return the status and the JSON that comes back."""
        connection, response = self._open(method, path, body, headers)
        try:
            data = response.read()
        finally:
            connection.close()
        return response.status, json.loads(data) if data else None

    def stream(self, method: str, path: str, body: object = None) -> list[tuple[str, Any]]:
        """Return all events of a step that streams, as (name, data)."""
        connection, response = self._open(method, path, body)
        try:
            return list(_events(response))
        finally:
            connection.close()

    def wait_for(self, condition: Callable[[], bool], within_s: float = 10.0) -> bool:
        """Wait until a condition holds, as it must for what steps do behind a reply; return whether it came to."""
        until_s = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > until_s:
                return False
            time.sleep(0.05)
        return True

    def _decide(self, run_id: str, asked: dict[str, Any], approve: Approve | None) -> None:
        if approve is None:
            raise AssertionError(f"{asked['name']} waits for a person: give approve=lambda name, arguments: True")
        granted = approve(asked["name"], json.loads(asked["arguments"]))
        self.send("POST", f"/chat/stream/{run_id}/approvals/{asked['callId']}", {"granted": granted})

    def _open(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SILENCE_S)
        data = None if body is None else json.dumps(body)
        own = {"Content-Type": "application/json"} if data else {}
        try:
            connection.request(method, path, data, own | dict(headers or {}))
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise


@contextmanager
def serving(
    app: Legato,
    *,
    script: Mapping[str, Any] | None = None,
    cron: Mapping[str, str] | None = None,
    **settings: Any,
) -> Iterator[TestServer]:
    """Serve an app on a free port, without keys, in a data folder of its own that is gone afterwards.

    Args:
        script: Of the scripted model: `tokens`, `seed`, `delay_ms`.
        cron: Other times for cron steps, by their names: `{"report": "* * * * * *"}` has it run each second.
        settings: Over the app's own and those of legato.toml, such as `rate_limit="off"`.

    Raises:
        ConfigurationError: The app cannot start as it is.
    """
    with tempfile.TemporaryDirectory(prefix="legato-test-") as folder:
        given = {
            "host": "localhost",
            "port": 0,
            "auth": "none",
            "data_dir": Path(folder),
            "durability": "process",
            "model": ["test"],
            "models": {"test": {"provider": "scripted", "script": dict(script or {})}},
            "titles": "words",
            "drain_s": 0.0,
        }
        server = _Serving(_at_times(app, cron or {}), given | settings)
        try:
            yield TestServer(server.port())
        finally:
            server.stop()


def _log_as_served(settings: Settings) -> None:
    """Have the server log as `legato serve` does, unless whoever runs the tests has set structlog up."""
    if structlog.is_configured():
        return
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logs(settings.log_level, settings.log_format)
    # A runner of tests listens at the root, and gives each test a standard error of its own.
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(logger_factory=_logger, cache_logger_on_first_use=False)


def _logger(*_: object) -> structlog.PrintLogger:
    return structlog.PrintLogger(sys.stderr)


class _Serving:
    """A server on an event loop in a thread of its own."""

    def __init__(self, app: Legato, settings: Mapping[str, Any]) -> None:
        self._app = app
        self._settings = app.settings(**settings)
        _log_as_served(self._settings)
        self._ready = threading.Event()
        self._port = 0
        self._fault: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="legato-test", daemon=True)
        self._thread.start()

    def port(self) -> int:
        """Wait until it listens, and return its port."""
        if not self._ready.wait(START_S):
            raise TimeoutError(f"the server does not listen after {START_S:g} s")
        if self._port == 0:
            self.stop()
        return self._port

    def stop(self) -> None:
        """End it; raise what it failed of after it had begun to listen."""
        if self._loop is not None and self._task is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(START_S)
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except asyncio.CancelledError:
            pass
        except BaseException as fault:  # noqa: BLE001 - the test is told
            self._fault = fault
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        await serve(self._settings, self._listens, self._app)

    def _listens(self, port: int) -> None:
        self._port = port
        self._ready.set()


def _at_times(app: Legato, cron: Mapping[str, str]) -> Legato:
    """Return the app with other times for some of its cron steps."""
    timed = Legato(**app.defaults)
    timed.folder = app.folder
    timed.include(app)
    known = {step.name for step in app.steps() if step.crons}
    for name in cron:
        if name not in known:
            raise ConfigurationError(f"there is no cron step {name!r}; there are {', '.join(sorted(known)) or 'none'}")

    def retimed(draft: Any) -> Any:
        expression = cron.get(draft.name or draft.function.__name__)
        if expression is None:
            return draft
        triggers = [
            replace(each, expression=expression) if isinstance(each, CronTrigger) else each for each in draft.triggers
        ]
        return replace(draft, triggers=triggers)

    timed._drafts = [retimed(draft) for draft in timed._drafts]
    return timed


def _events(response: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    """Yield (name, data) of each event of a stream, as it comes."""
    name = ""
    while line := response.readline():
        what, _, value = line.decode().rstrip("\n").partition(": ")
        if what == "event":
            name = value
        elif what == "data":
            yield name, json.loads(value)

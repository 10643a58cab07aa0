"""Hints over PostgreSQL's NOTIFY, where there is no Redis: one connection, read by the event loop itself.

libpq is used as it is: nothing here waits for an answer, and no thread is taken. One statement is on its way at a
time; what is published meanwhile is the next one. NOTIFY takes one lock for all commits of the server, which is why it
is never part of a transaction that writes.
"""

from __future__ import annotations

import asyncio
import base64
import re
from typing import Final

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from legato.core.errors import ConfigurationError
from legato.fanout.base import CLOSE_S, Hints, channel_of
from legato.fanout.hint import EVERYTHING, SENDER_BYTES, Hint, decode, encode
from legato.fanout.outage import LONGEST_S, Outage
from legato.fanout.pending import Pending

ANSWER_S: Final = 5.0
"""Seconds within which the server has to answer a statement; a connection that is slower is given up."""
PAYLOAD_BYTES: Final = 5_900
"""Of one message; in base64 it stays below the 8,000 that PostgreSQL takes."""
PAYLOADS: Final = 32
"""In one statement. A larger set is told in several."""

PATIENCE: Final = {
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 5000,
}
"""How soon libpq gives a silent server up: s, s, s, times, ms. The address may say otherwise."""
OPTIONS: Final = "-c synchronous_commit=off"
"""Hints are worth nothing after a crash: their commits need not wait for the disk."""

_GOOD: Final = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)
_SQL: Final = b"SELECT pg_notify($1, payload) FROM unnest($2::text[]) payload"


class NotifyHints(Hints):
    """Hints of one node over its database.

    Args:
        url: The database, as libpq reads it; a direct connection or a session pooler.
        namespace: See `channel_of`.
        application_name: Under which the server lists the connection.
        longest_pause_s: Between two attempts to connect.

    Raises:
        ConfigurationError: libpq cannot read the address.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str,
        application_name: str = "legato",
        longest_pause_s: float = LONGEST_S,
    ) -> None:
        super().__init__()
        given = _read_address(url)
        options = f"{given.get('options') or ''} {OPTIONS}".strip()
        own = {**PATIENCE, **given, "options": options, "application_name": application_name}
        self._address = make_conninfo("", **own)
        secret = given.get("password")
        self._outage = Outage("postgresql", str(secret) if secret else None, longest_s=longest_pause_s)
        self._channel = channel_of(namespace)
        # Nine bytes are twelve characters of base64: own messages are known without decoding them.
        assert (1 + SENDER_BYTES) % 3 == 0
        self._own = base64.b64encode(encode([EVERYTHING], self._sender, most_bytes=PAYLOAD_BYTES)[0])[:12]
        self._pending = Pending()
        self._payloads: list[bytes] = []
        self._task: asyncio.Task[None] | None = None
        self._pgconn: pq.abc.PGconn | None = None
        self._lost: asyncio.Future[BaseException] | None = None
        self._listening = False
        self._busy = False
        self._late: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()

    @property
    def connected(self) -> bool:
        return self._listening

    def publish(self, hint: Hint) -> None:
        if self._task is None:
            return
        if not self._listening:
            self._pending.lose()
            return
        if not self._pending and not self._busy:
            asyncio.get_running_loop().call_soon(self._send)
        self._pending.add(hint)

    async def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is None:
            return
        task, self._task = self._task, None
        if self._listening:
            self._idle.clear()
            self._send()
            try:
                async with asyncio.timeout(CLOSE_S):
                    if self._busy:
                        await self._idle.wait()
            except TimeoutError:
                pass
        task.cancel()
        await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(self._address, autocommit=True)
            except (psycopg.Error, OSError, UnicodeError) as error:
                await self._outage.wait(error)
                continue
            try:
                why = await self._serve(connection.pgconn)
            finally:
                await connection.close()
            await self._outage.wait(why)

    async def _serve(self, pgconn: pq.abc.PGconn) -> BaseException:
        """Serve a connection until it is lost; return why."""
        loop = asyncio.get_running_loop()
        socket = pgconn.socket
        self._pgconn, self._lost = pgconn, loop.create_future()
        loop.add_reader(socket, self._read)
        try:
            self._ask(b"LISTEN " + pq.Escaping(pgconn).escape_identifier(self._channel.encode()), None)
            return await self._lost
        finally:
            # Before the socket is closed: its number may be a client's a moment later.
            loop.remove_reader(socket)
            loop.remove_writer(socket)
            if self._busy or self._payloads or self._pending:
                self._pending.lose()
            self._payloads.clear()
            self._answered()
            self._listening = False
            self._pgconn = None
            self._idle.set()

    def _send(self) -> None:
        """Send what waits, unless something is on its way."""
        if self._busy or not self._listening:
            return
        if not self._payloads:
            messages = encode(self._pending.take(), self._sender, most_bytes=PAYLOAD_BYTES)
            self._payloads = [base64.b64encode(message) for message in messages]
        if self._payloads:
            page, self._payloads = self._payloads[:PAYLOADS], self._payloads[PAYLOADS:]
            self.messages_sent += len(page)
            self._ask(_SQL, [self._channel.encode(), b"{" + b",".join(page) + b"}"])
        else:
            self._idle.set()

    def _ask(self, sql: bytes, values: list[bytes] | None) -> None:
        assert self._pgconn is not None
        self._busy = True
        self._late = asyncio.get_running_loop().call_later(
            ANSWER_S, self._lose, TimeoutError(f"no answer in {ANSWER_S} s")
        )
        try:
            if values is None:
                self._pgconn.send_query(sql)
            else:
                self._pgconn.send_query_params(sql, values)
        except psycopg.Error as error:
            self._lose(error)
            return
        self._flush()

    def _flush(self) -> None:
        assert self._pgconn is not None
        loop = asyncio.get_running_loop()
        try:
            if self._pgconn.flush():
                loop.add_writer(self._pgconn.socket, self._flush)
            else:
                loop.remove_writer(self._pgconn.socket)
        except psycopg.Error as error:
            self._lose(error)

    def _read(self) -> None:
        """Take in what the server says: notifications, and answers to our statements."""
        pgconn = self._pgconn
        assert pgconn is not None
        try:
            pgconn.consume_input()
            answered = False
            while self._busy and not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    self._answered()
                    answered = True
                elif result.status not in _GOOD:
                    raise psycopg.OperationalError(result.error_message.decode("utf-8", "replace"))
            payloads = []
            while (notification := pgconn.notifies()) is not None:
                payloads.append(notification.extra)
        except psycopg.Error as error:
            self._lose(error)
            return
        if answered and not self._listening:
            self._listening = True
            self._outage.over()
            self._hear([EVERYTHING])
        if answered:
            self._send()
        for payload in payloads:
            if not payload.startswith(self._own):
                self._take(payload)

    def _take(self, payload: bytes) -> None:
        self.messages_heard += 1
        try:
            message = base64.b64decode(payload, validate=True)
        except ValueError:
            message = b""
        self._hear(decode(message)[1])

    def _answered(self) -> None:
        self._busy = False
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _lose(self, error: BaseException) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(error)


def _read_address(url: str) -> dict[str, str | int | None]:
    """Return an address in parts. What is wrong with it is not repeated: it may be a piece of the password."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        given = {}
    # A password with a bare "@" or "/" ends up in these.
    port, host = str(given.get("port") or ""), str(given.get("host") or "")
    if not given or "@" in host or re.fullmatch("[0-9,]*", port) is None:
        raise ConfigurationError(
            "hints: the database's address does not read postgresql://user:password@host:port/name"
        )
    return given

"""Statements on PostgreSQL over libpq itself: prepared once a connection, parameters and rows in binary.

psycopg's cursors would cost as much again as all that is done here. Nothing of its own is known here but `pgconn`
(libpq's functions) and the Transformer (C, rows to objects); both are part of its documented interface.
"""

from __future__ import annotations

import select
import struct
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq.abc import PGresult

from legato.core.errors import InvalidValue
from legato.storage.statement import Compiled, Prepared, Transaction, Values

PAGE: Final = 100
"""Rows of one `many` that are on their way at once: little enough for what lies between two sockets."""

_GOOD: Final = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)
_WRITES: Final = (b"INSERT", b"UPDATE", b"DELETE")
_Dump = Callable[[Any], bytes]


def _text(value: str) -> bytes:
    if "\0" in value:
        raise ValueError
    return value.encode()


def _bool(value: object) -> bytes:
    return b"\1" if value else b"\0"


_length: Final = struct.Struct(">i").pack


def _array(oid: int, dump: _Dump) -> _Dump:
    def dumped(values: Sequence[Any]) -> bytes:
        parts = [struct.pack(">5i", 1, 0, oid, len(values), 1)]
        for value in values:
            data = dump(value)
            parts += (_length(len(data)), data)
        return b"".join(parts)

    return dumped


def _numbers(oid: int, size: int, code: str) -> _Dump:
    """Return what writes an array of numbers at once: an append has three of them, of a number for each run."""

    def dumped(values: Sequence[int]) -> bytes:
        flat = [size] * (2 * len(values))
        flat[1::2] = values
        return struct.pack(f">5i{('i' + code) * len(values)}", 1, 0, oid, len(values), 1, *flat)

    return dumped


# By the type that PostgreSQL says a parameter has.
_SINGLE: Final[dict[int, _Dump]] = {
    16: _bool,
    17: bytes,
    20: struct.Struct(">q").pack,
    21: struct.Struct(">h").pack,
    23: struct.Struct(">i").pack,
    25: _text,
    701: struct.Struct(">d").pack,
    1043: _text,
}
_DUMPS: Final = _SINGLE | {
    1001: _array(17, bytes),
    1007: _numbers(23, 4, "i"),
    1009: _array(25, _text),
    1015: _array(1043, _text),
    1016: _numbers(20, 8, "q"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A statement that the server has: how to write its parameters, and what its rows are called."""

    name: bytes
    dumps: tuple[_Dump, ...]
    formats: list[int]
    columns: tuple[str, ...]


class Session:
    """One connection, used by one thread at a time.

    Args:
        answer_s: Seconds within which the server has to answer a statement; a connection that is slower is given up.
    """

    def __init__(self, connection: psycopg.Connection, *, answer_s: float) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._poll = select.poll()
        self._poll.register(self._pgconn.socket, select.POLLIN)
        self._answer_ms = round(answer_s * 1000)
        self._known: dict[str, _Known] = {}
        self._rows = Transformer(connection)
        self._makers: dict[str, Callable[[Sequence[Any]], Any]] = {}

    @property
    def descriptor(self) -> int:
        """The socket's file descriptor."""
        return self._pgconn.socket

    @property
    def lost(self) -> bool:
        """Whether nothing more can be asked here."""
        return self._pgconn.status != pq.ConnStatus.OK

    def commit(self) -> None:
        """Commit what was begun.

        Raises:
            psycopg.Error: It was not committed; or nobody knows, where the session is lost then.
        """
        if self.ask(b"COMMIT").command_status != b"COMMIT":
            raise psycopg.InternalError("a statement of this transaction failed, and was passed over")

    def roll_back(self) -> None:
        """End the transaction, if there is one and the connection is there."""
        if self._pgconn.transaction_status in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR):
            try:
                self.ask(b"ROLLBACK")
            except psycopg.Error:
                # A connection that is lost has rolled back, and one that cannot do it is of no more use.
                self.close()

    def close(self) -> None:
        self._connection.close()

    def ask(self, sql: bytes) -> PGresult:
        """Run plain SQL, several statements if it has some; return the result of the last one.

        Raises:
            psycopg.Error: One of them failed.
        """
        self._pgconn.send_query(sql)
        return _checked(self._answer())

    def run(self, compiled: Compiled, values: Mapping[str, Any]) -> PGresult:
        """Run a statement.

        Raises:
            InvalidValue: A value cannot be kept by PostgreSQL; nothing was sent.
            psycopg.Error: It failed.
        """
        known = self._known.get(compiled.name) or self._prepare(compiled)
        self._pgconn.send_query_prepared(known.name, self._dump(compiled, known, values), known.formats, 1)
        return _checked(self._answer())

    def run_many(self, compiled: Compiled, rows: Sequence[Mapping[str, Any]]) -> int:
        """Run a statement once per row, without waiting between two; return how many rows were changed."""
        known = self._known.get(compiled.name) or self._prepare(compiled)
        pgconn, changed = self._pgconn, 0
        for start in range(0, len(rows), PAGE):
            page = [self._dump(compiled, known, row) for row in rows[start : start + PAGE]]
            pgconn.enter_pipeline_mode()
            for row in page:
                pgconn.send_query_prepared(known.name, row, known.formats, 1)
            pgconn.pipeline_sync()
            fault: PGresult | None = None
            for _ in page:
                result = self._answer()
                if result.status in _GOOD:
                    changed += result.command_tuples or 0
                elif fault is None:
                    fault = result
            self._answer(in_pipeline=True)
            pgconn.exit_pipeline_mode()
            if fault is not None:
                raise _fault(fault)
        return changed

    def rows(self, result: PGresult, make: Callable[[Sequence[Any]], Any]) -> list[Any]:
        """Return the rows of a result, each by `make`."""
        self._rows.set_pgresult(result)
        return self._rows.load_rows(0, result.ntuples, make)

    def maker(self, statement: Prepared) -> Callable[[Sequence[Any]], Any]:
        """Return what makes a named tuple of a row of a statement in plain SQL: its columns are told by the server."""
        name = statement.postgres.name
        make = self._makers.get(name)
        if make is None:
            kind: Any = namedtuple("Row", self._known[name].columns)  # type: ignore[misc]
            make = self._makers[name] = kind._make
        return make

    def _prepare(self, compiled: Compiled) -> _Known:
        pgconn, name = self._pgconn, compiled.name.encode()
        pgconn.send_prepare(name, compiled.sql.encode())
        _checked(self._answer())
        pgconn.send_describe_prepared(name)
        found = _checked(self._answer())
        types = [found.param_type(place) for place in range(found.nparams)]
        if strange := [kind for kind in types if kind not in _DUMPS]:
            raise psycopg.ProgrammingError(f"parameters of types {strange} in: {compiled.sql}")
        columns = [(found.fname(place) or b"").decode() for place in range(found.nfields)]
        known = self._known[compiled.name] = _Known(
            name=name, dumps=tuple(_DUMPS[kind] for kind in types), formats=[1] * len(types), columns=tuple(columns)
        )
        return known

    def _dump(self, compiled: Compiled, known: _Known, values: Mapping[str, Any]) -> list[bytes | None]:
        if compiled.constants:
            values = {**compiled.constants, **values}
        try:
            return [
                None if (value := values[name]) is None else dump(value)
                for name, dump in zip(compiled.names, known.dumps, strict=True)
            ]
        except (ValueError, struct.error) as error:
            # A NUL, half of a surrogate pair, or a number that is too large: SQLite would keep the first two.
            raise InvalidValue("a text holds what is no character, or a number is too large to be kept") from error

    def _answer(self, *, in_pipeline: bool = False) -> PGresult:
        """Wait for the answer to what was sent; the last one, where there are several."""
        pgconn, last = self._pgconn, None
        while True:
            while pgconn.is_busy():
                # What did not fit the socket is sent when there is room: the server answers none of it before.
                unsent = pgconn.flush()
                self._poll.modify(pgconn.socket, select.POLLIN | select.POLLOUT if unsent else select.POLLIN)
                if not self._poll.poll(self._answer_ms):
                    # Nothing may be sent behind what is still being done.
                    pgconn.finish()
                    raise psycopg.OperationalError(f"the server gave no answer in {self._answer_ms / 1000:g} s")
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                if last is None:
                    raise psycopg.OperationalError("the connection is lost")
                return last
            last = result
            if in_pipeline:
                return last


def _checked(result: PGresult) -> PGresult:
    if result.status not in _GOOD:
        raise _fault(result)
    return result


def _fault(result: PGresult) -> psycopg.Error:
    """Return the error of a result, without its details: they repeat the row, which is people's words."""
    error = error_from_result(result)
    if said := result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY):
        error.args = (said.decode("utf-8", "replace"),)
    return error


class PostgresTransaction(Transaction):
    """Statements on one session, inside a transaction that whoever made this has begun."""

    __slots__ = ("session",)

    database = "postgresql"

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def run(self, statement: Prepared, **values: Any) -> int:
        return self._ask(statement, values).command_tuples or 0

    def insert(self, statement: Prepared, **values: Any) -> int:
        result = self._ask(statement, values)
        key: int = self.session.rows(result, tuple)[0][0] if result.ntuples else 0
        return key

    def many(self, statement: Prepared, rows: Sequence[Values]) -> None:
        self.wrote += self.session.run_many(statement.postgres, rows)

    def one(self, statement: Prepared, **values: Any) -> Any:
        rows = self.all(statement, **values)
        return rows[0] if rows else None

    def all(self, statement: Prepared, **values: Any) -> list[Any]:
        result = self._find(statement, values)
        if result is None:
            return []
        return self.session.rows(result, self.session.maker(statement) if statement.plain else statement.row)

    def tuples(self, statement: Prepared, **values: Any) -> list[tuple[Any, ...]]:
        result = self._find(statement, values)
        return [] if result is None else self.session.rows(result, tuple)

    def _ask(self, statement: Prepared, values: dict[str, Any]) -> PGresult:
        result = self.session.run(statement.postgres, values)
        if (result.command_status or b"")[:6] in _WRITES:
            self.wrote += result.command_tuples or 0
        return result

    def _find(self, statement: Prepared, values: dict[str, Any]) -> PGresult | None:
        """Ask for rows; None where a value is one that no row can have."""
        try:
            return self._ask(statement, values)
        except InvalidValue:
            if statement.writes:
                raise
            return None

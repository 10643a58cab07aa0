"""What is counted of replies, of all owners together: the figures of a span of time, and the latest sessions.

Every statement reads one range of the index of times. Percentiles are found here, as in storage.reply_figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    String,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    select,
)

from legato.core.figures import Durations, SessionFigures, Thumbs
from legato.storage.reply_figures import COLUMNS, COMPLETED, COUNTED, DAY_MS, durations_of, number_of, sum_of
from legato.storage.session_figures import find_session
from legato.storage.statement import Prepared, Transaction

Span: TypeAlias = Literal["day", "hour", "model"]
HOUR_MS: Final = 3_600_000
LOOK_AT_MOST: Final = 20_000
"""Replies that the latest sessions are looked for in."""

_SIZES: Final[dict[Span, int | None]] = {"day": DAY_MS, "hour": HOUR_MS, "model": None}
_in_span = and_(COLUMNS.at_ms >= bindparam("since_ms"), COLUMNS.at_ms < bindparam("until_ms"))
# No id holds the separator.
_session = COLUMNS.owner + literal_column("char(31)", String) + COLUMNS.session_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFigures:
    """What is counted of the replies of one time or model, or of all.

    Attributes:
        at_ms: Beginning of the day or hour (UTC); None where nothing or the model groups them.
        model: Where the model groups them; None too where a reply has none.
        messages, errors, stops: Replies that were completed, failed, and were stopped.
        error_rate: Share of the three that failed, 0 to 1; None where there is none.
        input_tokens, output_tokens: Sums of what is known; None where nothing is.
        estimated: How many replies have a guess for their output.
        response_time, first_token: Of completed replies.
        cost_nusd: Billionths of a US dollar, of what is known; None where nothing is.
        sessions, conversations, owners: How many different ones the replies are of.
        satisfaction: Share of thumbs that are up, 0 to 1; None where there is none.
    """

    at_ms: int | None
    model: str | None
    messages: int
    errors: int
    stops: int
    error_rate: float | None
    input_tokens: int | None
    output_tokens: int | None
    estimated: int
    response_time: Durations
    first_token: Durations
    cost_nusd: int | None
    sessions: int
    conversations: int
    owners: int
    feedback: Thumbs
    satisfaction: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedSession:
    """A session, and whose it is."""

    owner: str
    figures: SessionFigures


def _key(by: Span) -> ColumnElement[Any]:
    size_ms = _SIZES[by]
    if size_ms is None:
        return COLUMNS.model
    return COLUMNS.at_ms // literal_column(str(size_ms), BigInteger)


def _sums(key: ColumnElement[Any]) -> Select[Any]:
    counted = case((COUNTED, literal_column("1")))
    return (
        select(
            key.label("key"),
            number_of(COMPLETED).label("messages"),
            number_of(COLUMNS.outcome == literal_column("'failed'")).label("errors"),
            number_of(COLUMNS.outcome == literal_column("'stopped'")).label("stops"),
            sum_of(COLUMNS.input_tokens).label("input_tokens"),
            sum_of(COLUMNS.output_tokens).label("output_tokens"),
            number_of(COLUMNS.estimated).label("estimated"),
            sum_of(COLUMNS.cost_nusd).label("cost_nusd"),
            func.count(case((counted.is_not(None), _session)).distinct()).label("sessions"),
            func.count(case((counted.is_not(None), COLUMNS.conversation_key)).distinct()).label("conversations"),
            func.count(case((counted.is_not(None), COLUMNS.owner)).distinct()).label("owners"),
            number_of(COLUMNS.thumb == literal_column("'up'")).label("up"),
            number_of(COLUMNS.thumb == literal_column("'down'")).label("down"),
        )
        .where(_in_span)
        .group_by(literal_column("1"))
        .order_by(literal_column("1"))
    )


_ALL: Final = literal_column("0", BigInteger)
_SUMS: Final = {by: Prepared(_sums(_key(by))) for by in _SIZES}
_SUMS_OF_ALL = Prepared(_sums(_ALL))
_DURATIONS: Final = {
    by: Prepared(
        select(_key(by).label("key"), COLUMNS.response_time_ms, COLUMNS.first_token_ms).where(_in_span, COMPLETED)
    )
    for by in _SIZES
}
_LATEST = Prepared(
    select(COLUMNS.owner, COLUMNS.session_id)
    .where(COLUMNS.at_ms <= bindparam("until_ms"), COUNTED)
    .order_by(COLUMNS.at_ms.desc())
    .limit(bindparam("most"))
)


def find_server_figures(
    tx: Transaction, since_ms: int, until_ms: int, by: Span
) -> tuple[ServerFigures, tuple[ServerFigures, ...]]:
    """Return the figures of all replies that ended in [since_ms, until_ms), and of each group in order."""
    span = {"since_ms": since_ms, "until_ms": until_ms}
    # Few durations are different: they are counted, not sorted one by one.
    times: dict[Any, dict[int, int]] = {}
    firsts: dict[Any, dict[int, int]] = {}
    statement = _DURATIONS[by]
    for key, response_ms, first_ms in tx.cursor.execute(statement.sql, statement.bind(span)):
        for counts, value in ((times, response_ms), (firsts, first_ms)):
            if value is not None:
                of_key = counts.setdefault(key, {})
                of_key[value] = of_key.get(value, 0) + 1
    rows = tx.all(_SUMS[by], **span)
    groups = tuple(_figures(row, by, times.get(row.key, {}), firsts.get(row.key, {})) for row in rows)
    whole = tx.one(_SUMS_OF_ALL, **span)
    total = _NOTHING if whole is None else _figures(whole, None, _merged(times), _merged(firsts))
    return total, groups


def find_latest_sessions(tx: Transaction, now_ms: int, limit: int) -> tuple[OwnedSession, ...]:
    """Return the sessions of the latest replies of anybody, the latest first.

    Among the LOOK_AT_MOST latest replies; a session that is not in them is not found.
    """
    found: dict[tuple[str, str], None] = {}
    most = min(LOOK_AT_MOST, limit * 20)
    while True:
        rows = tx.all(_LATEST, until_ms=now_ms, most=most)
        found = dict.fromkeys((row.owner, row.session_id) for row in rows)
        if len(found) >= limit or len(rows) < most or most >= LOOK_AT_MOST:
            break
        most = LOOK_AT_MOST
    sessions = [(owner, find_session(tx, owner, session_id)) for owner, session_id in [*found][:limit]]
    return tuple(OwnedSession(owner=owner, figures=figures) for owner, figures in sessions if figures is not None)


def _merged(counts: dict[Any, dict[int, int]]) -> dict[int, int]:
    sums: dict[int, int] = {}
    for each in counts.values():
        for value, count in each.items():
            sums[value] = sums.get(value, 0) + count
    return sums


def _figures(row: Any, by: Span | None, times: dict[int, int], firsts: dict[int, int]) -> ServerFigures:
    size_ms = _SIZES[by] if by is not None else None
    ended = row.messages + row.errors + row.stops
    thumbs = row.up + row.down
    return ServerFigures(
        at_ms=row.key * size_ms if size_ms is not None else None,
        model=row.key if by == "model" else None,
        messages=row.messages,
        errors=row.errors,
        stops=row.stops,
        error_rate=row.errors / ended if ended else None,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        estimated=row.estimated,
        response_time=durations_of(times),
        first_token=durations_of(firsts),
        cost_nusd=row.cost_nusd,
        sessions=row.sessions,
        conversations=row.conversations,
        owners=row.owners,
        feedback=Thumbs(up=row.up, down=row.down),
        satisfaction=row.up / thumbs if thumbs else None,
    )


_UNKNOWN: Final = durations_of({})
_NOTHING: Final = ServerFigures(
    at_ms=None,
    model=None,
    messages=0,
    errors=0,
    stops=0,
    error_rate=None,
    input_tokens=None,
    output_tokens=None,
    estimated=0,
    response_time=_UNKNOWN,
    first_token=_UNKNOWN,
    cost_nusd=None,
    sessions=0,
    conversations=0,
    owners=0,
    feedback=Thumbs(up=0, down=0),
    satisfaction=None,
)
STATEMENTS: Final[Sequence[Prepared]] = (*_SUMS.values(), _SUMS_OF_ALL, *_DURATIONS.values(), _LATEST)
"""All of them, for the test that none reads a whole table."""

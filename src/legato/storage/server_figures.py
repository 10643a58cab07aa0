"""What is counted of replies, of all owners together: the figures of a span of time, and the latest sessions.

Every statement reads one range of the index of times, of the replies that are there and of what stayed of others.
Percentiles are found here, as in storage.reply_figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    String,
    Table,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal,
    literal_column,
    null,
    select,
    union_all,
)

from legato.core.figures import Durations, SessionFigures, Thumbs
from legato.storage.reply_figures import COLUMNS, COUNTED, DAY_MS, Measured, lacking, measure, shared_figures, sums_of
from legato.storage.session_figures import find_session
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import reply_count, reply_total

Span: TypeAlias = Literal["day", "hour", "model"]
HOUR_MS: Final = 3_600_000
LOOK_AT_MOST: Final = 20_000
"""Replies that the latest sessions are looked for in."""

_SIZES: Final[dict[Span, int | None]] = {"day": DAY_MS, "hour": HOUR_MS, "model": None}
_NAMES: Final = [column.name for column in reply_total.columns if not column.primary_key]


def _of(table: Table, *more: ColumnElement[Any]) -> Select[Any]:
    columns = table.c
    in_span = and_(columns.at_ms >= bindparam("since_ms"), columns.at_ms < bindparam("until_ms"))
    return select(*(columns[name] for name in _NAMES), *more).where(in_span)


# With what stayed of replies whose conversations are gone: nobody's, so that they count for no owner.
_replies = union_all(
    _of(reply_count, COLUMNS.owner, COLUMNS.session_id, COLUMNS.conversation_key),
    _of(
        reply_total,
        cast(null(), String).label("owner"),
        cast(null(), String).label("session_id"),
        cast(null(), BigInteger).label("conversation_key"),
    ),
).subquery("replies")
_ALL_COLUMNS: Final = _replies.c
_counted = _ALL_COLUMNS.outcome.is_not(None)
_completed = _ALL_COLUMNS.outcome == literal_column("'completed'")
# No id holds the separator.
_session = _ALL_COLUMNS.owner + literal("\x1f", String) + _ALL_COLUMNS.session_id


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
        cost_usd: Sum of what is known, a decimal; None where nothing is.
        cost_unknown: Of how many replies that called a model the cost is not known.
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
    cost_usd: str | None
    cost_unknown: int
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
        return _ALL_COLUMNS.model
    return _ALL_COLUMNS.at_ms // literal_column(str(size_ms), BigInteger)


def _sums(key: ColumnElement[Any]) -> Select[Any]:
    return (
        select(
            key.label("key"),
            *sums_of(_ALL_COLUMNS),
            lacking(_ALL_COLUMNS).label("cost_unknown"),
            func.count(case((_counted, _session)).distinct()).label("sessions"),
            func.count(case((_counted, _ALL_COLUMNS.owner)).distinct()).label("owners"),
        )
        .group_by(literal_column("1"))
        .order_by(literal_column("1"))
    )


_ALL: Final = literal_column("0", BigInteger)
_SUMS: Final = {by: Prepared(_sums(_key(by))) for by in _SIZES}
_SUMS_OF_ALL = Prepared(_sums(_ALL))
_DURATIONS: Final = {
    by: Prepared(
        select(_key(by).label("key"), _ALL_COLUMNS.response_time_ms, _ALL_COLUMNS.first_token_ms).where(_completed)
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
    times, firsts = measure(tx, _DURATIONS[by], span)
    rows = tx.all(_SUMS[by], **span)
    groups = tuple(_figures(row, by, times.get(row.key, {}), firsts.get(row.key, {})) for row in rows)
    return _figures(tx.one(_SUMS_OF_ALL, **span), None, _merged(times), _merged(firsts)), groups


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


def _merged(counts: Measured) -> dict[int, int]:
    sums: Counter[int] = Counter()
    for each in counts.values():
        sums.update(each)
    return sums


def _figures(row: Any, by: Span | None, times: dict[int, int], firsts: dict[int, int]) -> ServerFigures:
    """Return the figures of a row of sums; `row` is None where there are no replies."""
    shared = shared_figures(row, times, firsts)
    size_ms = _SIZES[by] if by is not None else None
    ended = shared["messages"] + shared["errors"] + shared["stops"]
    thumbs: Thumbs = shared["feedback"]
    return ServerFigures(
        at_ms=row.key * size_ms if size_ms is not None else None,
        model=row.key if by == "model" else None,
        error_rate=shared["errors"] / ended if ended else None,
        cost_unknown=row.cost_unknown if row else 0,
        sessions=row.sessions if row else 0,
        owners=row.owners if row else 0,
        satisfaction=thumbs.up / (thumbs.up + thumbs.down) if thumbs.up or thumbs.down else None,
        **shared,
    )


STATEMENTS: Final[Sequence[Prepared]] = (*_SUMS.values(), _SUMS_OF_ALL, *_DURATIONS.values(), _LATEST)
"""All of them, for the test that none reads a whole table."""

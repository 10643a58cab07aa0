"""What is counted of replies, one row a reply: reading it as the figures of a span of time.

Every statement reads one range of an index: an owner's replies by time, or those of one of its sessions. The database
adds up; percentiles are found here, which costs a third of what its window functions do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    String,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from legato.core.errors import InvalidRequest
from legato.core.figures import By, Durations, Figures, Thumbs
from legato.core.money import from_nusd, usd_text
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import reply_count

Measured: TypeAlias = dict[Any, dict[int, int]]
"""Of each group, how often each duration in milliseconds was measured."""

DAY_MS: Final = 86_400_000
EPOCH_DAY: Final = 719_163
"""1970-01-01, as date.toordinal counts."""
DAY_KEY: Final = 1_000_000
"""Added to the days since the epoch, so that as text they have the same length, and their order."""

COLUMNS: Final = reply_count.c
COMPLETED: Final = COLUMNS.outcome == literal_column("'completed'")
COUNTED: Final = COLUMNS.outcome.is_not(None)


def number_of(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    """Return in how many rows it is so; null where there are no rows."""
    return func.sum(case((condition, literal_column("1")), else_=literal_column("0")))


def sum_of(number: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the sum of what is not null; null where there is nothing."""
    # PostgreSQL's sum of such numbers has decimals.
    return cast(func.sum(number), BigInteger)


def sums_of(columns: ReadOnlyColumnCollection[str, Any]) -> tuple[ColumnElement[Any], ...]:
    """Return what can be added up of any replies; `columns` are named as those of `reply_count`."""
    return (
        number_of(columns.outcome == literal_column("'completed'")).label("messages"),
        number_of(columns.outcome == literal_column("'failed'")).label("errors"),
        number_of(columns.outcome == literal_column("'stopped'")).label("stops"),
        sum_of(columns.input_tokens).label("input_tokens"),
        sum_of(columns.output_tokens).label("output_tokens"),
        number_of(columns.estimated).label("estimated"),
        sum_of(columns.cost_nusd).label("cost_nusd"),
        func.count(case((columns.outcome.is_not(None), columns.conversation_key)).distinct()).label("conversations"),
        number_of(columns.thumb == literal_column("'up'")).label("up"),
        number_of(columns.thumb == literal_column("'down'")).label("down"),
    )


def lacking(columns: ReadOnlyColumnCollection[str, Any]) -> ColumnElement[Any]:
    """Return how many replies have no known cost; one for which no model was called has cost nothing."""
    return number_of(and_(columns.outcome.is_not(None), columns.model.is_not(None), columns.cost_nusd.is_(None)))


def _flag(name: str) -> ColumnElement[bool]:
    return bindparam(name, type_=Integer) == literal_column("1")


_by = bindparam("by", type_=String)
# What a row is grouped by, as text that sorts as it should; '' is none.
_key = case(
    (
        _by == literal_column("'day'"),
        cast(COLUMNS.at_ms // literal_column(str(DAY_MS), BigInteger) + literal_column(str(DAY_KEY)), String),
    ),
    (_by == literal_column("'model'"), func.coalesce(COLUMNS.model, literal_column("''"))),
    (_by == literal_column("'session'"), COLUMNS.session_id),
    else_=literal_column("''"),
).label("key")
_in_span = and_(
    COLUMNS.owner == bindparam("owner"),
    COLUMNS.at_ms >= bindparam("since_ms"),
    COLUMNS.at_ms < bindparam("until_ms"),
    or_(_flag("of_all_models"), COLUMNS.model == bindparam("model")),
    or_(_flag("from_start"), _key.element > bindparam("after")),
)
_of_session = COLUMNS.session_id == bindparam("session_id")


def _sums(*conditions: ColumnElement[bool]) -> Select[Any]:
    """Select what can be added up of replies, by key."""
    counted = (
        select(
            _key,
            COLUMNS.conversation_key,
            COLUMNS.outcome,
            COLUMNS.model,
            COLUMNS.input_tokens,
            COLUMNS.output_tokens,
            COLUMNS.estimated,
            COLUMNS.cost_nusd,
            COLUMNS.thumb,
        )
        .where(_in_span, *conditions, or_(COUNTED, COLUMNS.thumb.is_not(None)))
        .subquery("counted")
    ).c
    return (
        select(
            counted.key,
            *sums_of(counted),
            lacking(counted).label("cost_unknown"),
        )
        .group_by(counted.key)
        .order_by(counted.key)
        .limit(bindparam("most"))
    )


def _durations(*conditions: ColumnElement[bool]) -> Select[Any]:
    """Select the durations of completed replies, each with its key, in no order."""
    return select(_key, COLUMNS.response_time_ms, COLUMNS.first_token_ms).where(
        _in_span, *conditions, COMPLETED, or_(_flag("to_end"), _key.element <= bindparam("last"))
    )


_SUMS = Prepared(_sums())
_SUMS_OF_SESSION = Prepared(_sums(_of_session))
_DURATIONS = Prepared(_durations())
_DURATIONS_OF_SESSION = Prepared(_durations(_of_session))


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Which replies are wanted: an owner's that ended at `since_ms` or later, and before `until_ms`.

    Attributes:
        session_id: Of this session alone.
        model: Of this model alone.
    """

    owner: str
    since_ms: int
    until_ms: int
    session_id: str | None
    model: str | None


def find_figures(tx: Transaction, span: Span, by: By, *, after: str | None, limit: int) -> tuple[Figures, ...]:
    """Return up to `limit` groups of replies in the order of their keys, from behind `after` on.

    Raises:
        InvalidRequest: `after` is no key of such groups.
    """
    if by == "none" and after is not None:
        return ()
    values: dict[str, Any] = {
        "owner": span.owner,
        "since_ms": span.since_ms,
        "until_ms": span.until_ms,
        "session_id": span.session_id,
        "of_all_models": span.model is None,
        "model": span.model,
        "by": by,
        "from_start": after is None,
        "after": _written(after, by),
    }
    of_session = span.session_id is not None
    rows = tx.all(_SUMS_OF_SESSION if of_session else _SUMS, most=limit, **values)
    if not rows:
        return (_NOTHING,) if by == "none" else ()
    values |= {"to_end": len(rows) < limit, "last": rows[-1].key}
    times, firsts = measure(tx, _DURATIONS_OF_SESSION if of_session else _DURATIONS, values)
    return tuple([_figures(row, by, times.get(row.key, {}), firsts.get(row.key, {})) for row in rows])


def measure(tx: Transaction, statement: Prepared, values: dict[str, Any]) -> tuple[Measured, Measured]:
    """Return how often each duration was measured, by key: of whole replies, and of first tokens.

    Args:
        statement: Gives the key, `response_time_ms` and `first_token_ms` of each reply, in any order.
    """
    times: Measured = {}
    firsts: Measured = {}
    # Sorting this many rows, or making named ones of them, costs more than all else. Few durations are different.
    for key, response_ms, first_ms in tx.tuples(statement, **values):
        counts = times.get(key)
        if counts is None:
            counts = times[key] = {}
            firsts[key] = {}
        if response_ms is not None:
            counts[response_ms] = counts.get(response_ms, 0) + 1
        if first_ms is not None:
            counts = firsts[key]
            counts[first_ms] = counts.get(first_ms, 0) + 1
    return times, firsts


_UNKNOWN: Final = Durations(mean_ms=None, p50_ms=None, p95_ms=None)


def shared_figures(row: Any, times: dict[int, int], firsts: dict[int, int]) -> dict[str, Any]:
    """Return the fields that every kind of figures has; `row` has `sums_of`, None where there are no replies."""
    return {
        "messages": row.messages if row else 0,
        "errors": row.errors if row else 0,
        "stops": row.stops if row else 0,
        "input_tokens": row.input_tokens if row else None,
        "output_tokens": row.output_tokens if row else None,
        "estimated": row.estimated if row else 0,
        "response_time": durations_of(times),
        "first_token": durations_of(firsts),
        "cost_usd": usd_text(from_nusd(row.cost_nusd)) if row and row.cost_nusd is not None else None,
        "conversations": row.conversations if row else 0,
        "feedback": Thumbs(up=row.up, down=row.down) if row else Thumbs(up=0, down=0),
    }


def _figures(row: Any, by: By, times: dict[int, int], firsts: dict[int, int]) -> Figures:
    return Figures(key=_read(row.key, by), cost_unknown=row.cost_unknown, **shared_figures(row, times, firsts))


def durations_of(counts: dict[int, int]) -> Durations:
    """Return mean and percentiles of durations, of which each was measured so often."""
    if not counts:
        return _UNKNOWN
    number = sum(counts.values())
    found = []
    ranked, seen = iter(sorted(counts)), 0
    value = -1
    for percent in (50, 95):
        # The nearest rank, from 1: the least that so great a share of all does not exceed.
        while 100 * seen < percent * number:
            value = next(ranked)
            seen += counts[value]
        found.append(value)
    mean_ms = sum([value * count for value, count in counts.items()]) / number
    return Durations(mean_ms=mean_ms, p50_ms=found[0], p95_ms=found[1])


def _written(key: str | None, by: By) -> str:
    """Return a key as the database has it."""
    if key is None or by != "day":
        return key or ""
    try:
        return str(max(0, date.fromisoformat(key).toordinal() - EPOCH_DAY + 1) + DAY_KEY - 1).zfill(7)
    except ValueError:
        raise InvalidRequest.of("after", f"{key!r} is no day: give YYYY-MM-DD") from None


def _read(key: str, by: By) -> str | None:
    if by == "day":
        return date.fromordinal(EPOCH_DAY + int(key) - DAY_KEY).isoformat()
    return key or None


_NOTHING: Final = Figures(key=None, cost_unknown=0, **shared_figures(None, {}, {}))

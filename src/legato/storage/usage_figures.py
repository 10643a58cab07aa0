"""What was charged in a span of time, added up by what it is grouped by, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Integer,
    Select,
    String,
    and_,
    bindparam,
    cast,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.sql import ColumnElement

from legato.core.errors import InvalidRequest
from legato.core.money import from_nusd
from legato.core.usage import UsageBy, UsageFigures
from legato.storage.charge_tables import charge
from legato.storage.reply_figures import DAY_KEY, DAY_MS, EPOCH_DAY, number_of, sum_of
from legato.storage.statement import Prepared, Transaction

_COLUMNS: Final = charge.c
_NONE: Final = literal_column("''", String)
_KEYS: Final[dict[UsageBy, ColumnElement[Any]]] = {
    # As text that sorts as the days do.
    "day": cast(_COLUMNS.at_ms // literal_column(str(DAY_MS), BigInteger) + literal_column(str(DAY_KEY)), String),
    "model": _COLUMNS.model,
    "session": _COLUMNS.session_id,
    "key": func.coalesce(_COLUMNS.key_id, _NONE),
    "purpose": _COLUMNS.purpose,
    "owner": _COLUMNS.owner,
    "none": _NONE,
}
_SUMS: Final = (
    func.count().label("calls"),
    number_of(_COLUMNS.counted).label("counted"),
    sum_of(_COLUMNS.input_tokens).label("input_tokens"),
    sum_of(_COLUMNS.cache_read_tokens).label("cache_read_tokens"),
    sum_of(_COLUMNS.output_tokens).label("output_tokens"),
    sum_of(_COLUMNS.reasoning_tokens).label("reasoning_tokens"),
    sum_of(_COLUMNS.cost_nusd).label("cost_nusd"),
    number_of(_COLUMNS.cost_nusd.is_(None)).label("unpriced"),
)


def _only(name: str, column: ColumnElement[Any]) -> ColumnElement[bool]:
    return or_(bindparam(f"any_{name}", type_=Integer) == literal_column("1"), column == bindparam(name))


_in_span = and_(
    _COLUMNS.at_ms >= bindparam("since_ms"),
    _COLUMNS.at_ms < bindparam("until_ms"),
    _only("model", _COLUMNS.model),
    _only("session", _COLUMNS.session_id),
    _only("api_key", _COLUMNS.key_id),
)
_of_owner = _COLUMNS.owner == bindparam("owner")


def _groups(by: UsageBy, *conditions: ColumnElement[bool]) -> Select[Any]:
    key = _KEYS[by]
    behind = or_(bindparam("from_start", type_=Integer) == literal_column("1"), key > bindparam("after", type_=String))
    return (
        select(key.label("key"), *_SUMS)
        .where(_in_span, behind, *conditions)
        .group_by(literal_column("1"))
        .order_by(literal_column("1"))
        .limit(bindparam("most"))
    )


_OF_OWNER: Final = {by: Prepared(_groups(by, _of_owner)) for by in _KEYS}
_of_conversation = and_(
    _COLUMNS.conversation_id == bindparam("conversation"), _COLUMNS.conversation_id != literal_column("''", String)
)
_OF_CONVERSATION: Final = {by: Prepared(_groups(by, _of_owner, _of_conversation)) for by in _KEYS}
_OF_ALL: Final = {by: Prepared(_groups(by)) for by in _KEYS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """Which charges are wanted: those at `since_ms` or later, and before `until_ms`.

    Attributes:
        owner: Whose; None for those of all owners, which is for the server itself and its admins.
        model, session_id, key_id: Of this one alone.
        conversation_id: Of this one of the owner's alone.
    """

    owner: str | None
    since_ms: int
    until_ms: int
    model: str | None = None
    session_id: str | None = None
    key_id: str | None = None
    conversation_id: str | None = None


def find_usage(
    tx: Transaction, charged: Charged, by: UsageBy, *, after: str | None, limit: int
) -> tuple[UsageFigures, ...]:
    """Return up to `limit` groups of charges in the order of their keys, from behind `after` on.

    With `none` it is one group, also where there is nothing in it.

    Raises:
        InvalidRequest: `after` is no key of such groups.
    """
    values: dict[str, Any] = {
        "since_ms": charged.since_ms,
        "until_ms": charged.until_ms,
        "any_model": charged.model is None,
        "model": charged.model,
        "any_session": charged.session_id is None,
        "session": charged.session_id,
        "any_api_key": charged.key_id is None,
        "api_key": charged.key_id,
        "from_start": after is None,
        "after": _written(after, by),
        "most": limit,
    }
    if charged.owner is None:
        rows = tx.all(_OF_ALL[by], **values)
    elif charged.conversation_id is not None:
        rows = tx.all(_OF_CONVERSATION[by], owner=charged.owner, conversation=charged.conversation_id, **values)
    else:
        rows = tx.all(_OF_OWNER[by], owner=charged.owner, **values)
    if not rows and by == "none":
        return (_NOTHING,)
    return tuple([_figures(row, by) for row in rows])


_NOTHING: Final = UsageFigures(
    key=None,
    calls=0,
    counted=0,
    input_tokens=0,
    cache_read_tokens=0,
    output_tokens=0,
    reasoning_tokens=0,
    cost=from_nusd(0),
    unpriced=0,
)


def _figures(row: Any, by: UsageBy) -> UsageFigures:
    return UsageFigures(
        key=_read(row.key, by),
        calls=row.calls,
        counted=row.counted,
        input_tokens=row.input_tokens or 0,
        cache_read_tokens=row.cache_read_tokens or 0,
        output_tokens=row.output_tokens or 0,
        reasoning_tokens=row.reasoning_tokens or 0,
        cost=None if row.cost_nusd is None else from_nusd(row.cost_nusd),
        unpriced=row.unpriced,
    )


def _written(key: str | None, by: UsageBy) -> str:
    """Return a key as the database has it."""
    if key is None or by != "day":
        return key or ""
    try:
        return str(date.fromisoformat(key).toordinal() - EPOCH_DAY + DAY_KEY)
    except ValueError:
        raise InvalidRequest.of("after", f"{key!r} is no day: give YYYY-MM-DD") from None


def _read(key: str, by: UsageBy) -> str | None:
    return date.fromordinal(EPOCH_DAY + int(key) - DAY_KEY).isoformat() if by == "day" else key or None

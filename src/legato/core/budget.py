"""Budgets: what may be spent, on whom, and until when; and which of them a call of a model touches.

Pure. A budget is named by three words: per whom it is (`Per`), which of them (a name, or EACH), and the period.
Amounts are whole billionths of a US dollar (`…_nusd`), times milliseconds since the Unix epoch; days and months are
those of UTC.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from legato.core.money import from_nusd, usd_text
from legato.core.principal import APP

Per = Literal["server", "principal", "key", "session", "model"]
Period = Literal["day", "month", "all"]
EACH: Final = "*"
"""The name of a budget that each principal (key, session, model) has for itself, unless one names it."""
WARN_PERCENT: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent in a period.

    Attributes:
        name: Of the principal, the key's id, the session's or the model's; EACH. The server's is EACH.
        limit_nusd: >= 0; 0 lets nothing be spent.
        warn_percent: Of the limit, 1 to 100: once so much is spent somebody is told.
        fixed: It stands in legato.toml.
    """

    per: Per
    name: str = EACH
    period: Period
    limit_nusd: int
    warn_percent: int = WARN_PERCENT
    fixed: bool = False

    @property
    def key(self) -> tuple[Per, str, Period]:
        """What tells it from others: there is one of each."""
        return self.per, self.name, self.period

    @property
    def words(self) -> str:
        """What it is called to people, without amounts: `the daily budget of this principal`."""
        return f"the {_LENGTH[self.period]} budget of {_WHOSE[self.per]}"

    @property
    def limit(self) -> str:
        """The limit in US dollars, as text."""
        return usd_text(from_nusd(self.limit_nusd))


_LENGTH: Final[dict[Period, str]] = {"day": "daily", "month": "monthly", "all": "whole"}
_WHOSE: Final[dict[Per, str]] = {
    "server": "this server",
    "principal": "this principal",
    "key": "this key",
    "session": "this session",
    "model": "this model",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """For whom a call of a model is made."""

    owner: str
    key_id: str | None
    session_id: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One period of a budget of one subject: what a counter counts.

    Attributes:
        id: Of the counter: follows from budget, subject and period, and does not name the subject.
        owner: Whose it is: a principal's id, or the server's own (core.principal.APP).
        until_ms: When the next period begins; None where there is none.
        warn_nusd: What is spent when somebody is told.
    """

    id: str
    budget: Budget
    owner: str
    subject: str
    since_ms: int
    until_ms: int | None

    @property
    def warn_nusd(self) -> int:
        return -(-self.budget.limit_nusd * self.budget.warn_percent // 100)


def uses_of(budgets: Sequence[Budget], payer: Payer, now_ms: int) -> tuple[Use, ...]:
    """Return what a call touches, in the order of the ids: the one order in which counters are ever locked.

    Of two budgets with one period, one that names the subject goes before that of each.
    """
    named = {"server": "", "principal": payer.owner, "key": payer.key_id, "session": payer.session_id}
    subjects: dict[str, str | None] = {**named, "model": payer.model}
    chosen: dict[tuple[Per, Period], Budget] = {}
    for budget in budgets:
        subject = subjects[budget.per]
        if subject is None or (budget.name not in (EACH, subject)):
            continue
        place = budget.per, budget.period
        if place not in chosen or budget.name != EACH:
            chosen[place] = budget
    found = []
    for (per, period), budget in chosen.items():
        since_ms, until_ms = span_of(period, now_ms)
        owner = payer.owner if per in ("principal", "session") else APP.id
        subject = subjects[per] or ""
        found.append(
            Use(
                id=use_id(per, owner, subject, period, since_ms),
                budget=budget,
                owner=owner,
                subject=subject,
                since_ms=since_ms,
                until_ms=until_ms,
            )
        )
    return tuple(sorted(found, key=lambda use: use.id))


def use_id(per: Per, owner: str, subject: str, period: Period, since_ms: int) -> str:
    """Return the id of a counter. A subject that was forgotten cannot be read from it, but has it again."""
    words = "\0".join((per, owner, subject, period, str(since_ms)))
    return hashlib.blake2b(words.encode(), digest_size=12).hexdigest()


def span_of(period: Period, now_ms: int) -> tuple[int, int | None]:
    """Return the first millisecond of the period that a time lies in, and that of the next one."""
    if period == "all":
        return 0, None
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return _ms(day), _ms(day + timedelta(days=1))
    first = day.replace(day=1)
    return _ms(first), _ms((first + timedelta(days=32)).replace(day=1))


def _ms(at: datetime) -> int:
    return int(at.timestamp()) * 1000

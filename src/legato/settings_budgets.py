"""Settings of budgets: the tables `[[budgets]]` and `[spending]` of legato.toml."""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from legato.core.budget import EACH, WARN_PERCENT, Budget, Per, Period
from legato.core.ids import ID_MAX_CHARS
from legato.core.money import MOST_USD, NUSD, to_nusd


class BudgetSettings(BaseModel):
    """One `[[budgets]]` table: what may be spent in a period."""

    model_config = ConfigDict(extra="forbid")

    per: Per = Field(
        description="Whose it is: `server` is everything together; `principal` is who posts, `key` an API key, "
        "`session` what a client calls one, `model` a model."
    )
    name: str = Field(
        EACH,
        min_length=1,
        max_length=ID_MAX_CHARS,
        description="Which one: a principal, the id of a key, a session, a model by its name here. `*`: each has as "
        "much for itself, unless another table names it.",
    )
    period: Period = Field(description="`day` or `month`, of UTC; `all`: it never begins anew.")
    limit_usd: Decimal = Field(ge=0, le=MOST_USD, description="US dollars; 0 lets nothing be spent.")
    warn_percent: int = Field(
        WARN_PERCENT, ge=1, le=100, description="Once so much of it is spent `budget.warning` is told."
    )

    @model_validator(mode="after")
    def _check(self) -> BudgetSettings:
        if self.per == "server" and self.name != EACH:
            raise ValueError("the server is one: leave `name` out where `per` is `server`")
        return self

    def budget(self) -> Budget:
        """Return it as what is held to."""
        return Budget(
            per=self.per,
            name=self.name,
            period=self.period,
            limit_nusd=to_nusd(self.limit_usd),
            warn_percent=self.warn_percent,
            fixed=True,
        )


class SpendingSettings(BaseModel):
    """The `[spending]` table: how budgets take what is not known, or not enough."""

    model_config = ConfigDict(extra="forbid")

    unknown_call_usd: Decimal | None = Field(
        None,
        ge=NUSD,
        le=MOST_USD,
        description="What a call of a model without a known price counts in budgets, in US dollars. Without this and "
        "the next such a model is not called where a budget holds.",
    )
    unknown_million_usd: Decimal | None = Field(
        None,
        ge=NUSD,
        le=MOST_USD,
        description="What a million of its tokens count, of input and output alike; goes before `unknown_call_usd`.",
    )
    least_tokens: int = Field(
        64,
        ge=1,
        description="Where a budget leaves less than a reply may cost it may have fewer tokens, so many at least.",
    )

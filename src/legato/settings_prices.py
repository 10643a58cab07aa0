"""Settings of prices: the tables `[prices."MODEL"]` of legato.toml."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MOST_USD_A_MILLION = Decimal(1_000_000)
"""A dollar a token: whoever writes more has mistaken the unit."""

Rate = Annotated[Decimal, Field(ge=0, le=MOST_USD_A_MILLION, allow_inf_nan=False)]


class PriceSettings(BaseModel):
    """One `[prices."MODEL"]` table: US dollars for a million tokens. MODEL is a name of `[models]`, or the name that a
    model has at its server."""

    model_config = ConfigDict(extra="forbid")

    input: Rate = Field(description="US dollars for a million tokens that the model is given.")
    cached_input: Rate | None = Field(
        None, description="For those of them that its server still had; by default as `input`."
    )
    output: Rate = Field(description="For a million tokens that it makes.")
    reasoning: Rate | None = Field(
        None, description="For those of them that are its reasoning; by default as `output`."
    )

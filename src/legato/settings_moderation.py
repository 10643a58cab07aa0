"""What may be said: the table `[moderation]` of legato.toml."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

CODE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""Names and reasons: they are labels of metrics."""

StageName = Literal["request", "reply"]
Locale = Literal["us", "uk", "in"]


class _Policy(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, description="In metrics, logs and reviews; the type by default.")
    on: list[StageName] = Field(
        default_factory=lambda: list(get_args(StageName)),
        min_length=1,
        description="`request`: what people and tools bring. `reply`: what the model says.",
    )
    text: str | None = Field(None, max_length=2000, description="Said instead of what it blocks; else `block_text`.")
    on_failure: Literal["closed", "open"] | None = Field(
        None, description="What becomes of a text when the policy gives no verdict; else that of `[moderation]`."
    )

    @field_validator("name", "reason", check_fields=False)
    @classmethod
    def _check_code(cls, value: str | None) -> str | None:
        if value is not None and CODE.fullmatch(value) is None:
            raise ValueError(f"{value!r} is no name: small letters, digits, _ and -, 64 at most")
        return value


class RulesSettings(_Policy):
    """Terms and patterns."""

    type: Literal["rules"] = Field(description="An operator's own terms and patterns.")
    action: Literal["block", "redact", "flag"] = Field("block", description="What becomes of a finding.")
    terms: list[str] = Field(
        default_factory=list,
        description="Words and phrases; case, width, accents and runs of white space make no difference.",
    )
    patterns: list[str] = Field(
        default_factory=list, description="Regular expressions; each search is bounded in time."
    )
    label: str = Field("[removed]", max_length=100, description="Stands where something was redacted.")
    reason: str = Field("rules", description="Code of the reason.")

    @model_validator(mode="after")
    def _check_any(self) -> RulesSettings:
        if not self.terms and not self.patterns:
            raise ValueError("it has neither terms nor patterns: give it some, or leave it out")
        return self


class PrivateDataSettings(_Policy):
    """Personal data and secrets, by their shapes and checksums."""

    type: Literal["private_data"] = Field(description="Personal data and secrets.")
    action: Literal["block", "redact", "flag"] = Field("redact", description="What becomes of a finding.")
    kinds: list[str] | None = Field(
        None, description="What is looked for, such as `email`; by default all but `ipv4`, `ipv6` and bare entropy."
    )
    without: list[str] = Field(default_factory=list, description="What is not.")
    locales: list[Locale] = Field(
        default_factory=lambda: list(get_args(Locale)), description="Countries whose numbers are looked for."
    )


class ModerationsSettings(_Policy):
    """A server that judges."""

    type: Literal["moderations"] = Field(description="An OpenAI-compatible `/moderations` server.")
    action: Literal["block", "flag"] = Field("block", description="What becomes of what it flags.")
    base_url: str | None = Field(None, description="Up to `/v1`; that of the upstream by default.")
    api_key: SecretStr | None = Field(None, description="Its key. Better: `api_key_env`.")
    api_key_env: str | None = Field(None, description="Environment variable that holds its key.")
    model: str | None = Field(None, description="Such as `omni-moderation-latest`; the server's own by default.")
    thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, description="By category the score from which on it counts; by default what it flags."
    )
    timeout_s: float = Field(5.0, gt=0, le=60, description="Longest wait for a verdict.")

    @field_validator("base_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("it begins with neither http:// nor https://")
        return value


class JudgeSettings(_Policy):
    """A model that judges."""

    type: Literal["judge"] = Field(description="One of the configured models, by a rule in words.")
    action: Literal["block", "flag"] = Field("block", description="What becomes of what it finds against the rule.")
    rule: str = Field(min_length=1, max_length=8000, description="What is not allowed, in words for the model.")
    model: str | None = Field(None, description="A configured model; by default the one that answers first.")
    timeout_s: float = Field(20.0, gt=0, le=120, description="Longest wait for a verdict.")


PolicySettings = Annotated[
    RulesSettings | PrivateDataSettings | ModerationsSettings | JudgeSettings, Field(discriminator="type")
]


class ModerationSettings(BaseModel):
    """The table `[moderation]`."""

    model_config = ConfigDict(extra="forbid")

    policies: list[PolicySettings] = Field(
        default_factory=list, description="Tables `[[moderation.policies]]`, asked in their order."
    )
    on_failure: Literal["closed", "open"] = Field(
        "closed", description="When a policy gives no verdict: `closed` blocks the text, `open` lets it pass."
    )
    block_text: str = Field(
        "I can't continue with that.", min_length=1, max_length=2000, description="Said instead of what is blocked."
    )
    tool_results: bool = Field(True, description="Whether results of tools pass the policies of requests.")
    hold_chars: int = Field(
        400, ge=80, le=4000, description="A reply without a sentence's end is judged by pieces of so many characters."
    )
    hold_ms: int = Field(
        1000, ge=50, le=10_000, description="A part of a sentence that has waited for so long is judged by itself."
    )

    @model_validator(mode="after")
    def _check_names(self) -> ModerationSettings:
        names: set[str] = set()
        for place, policy in enumerate(self.policies):
            name = policy.name or policy.type
            if name in names:
                raise ValueError(f"policies[{place}]: there is a policy {name!r} before it: give it a name of its own")
            names.add(name)
        return self

    def __bool__(self) -> bool:
        return bool(self.policies)


def policy_name(policy: Any) -> str:
    """Return the name that a policy goes by."""
    name: str = policy.name or policy.type
    return name

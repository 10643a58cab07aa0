"""The chains that are configured and declared, made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

from legato.core.errors import ConfigurationError
from legato.policies.moderation.chain import Asked, Chain, Counting, InThread
from legato.policies.moderation.functions import DeclaredPolicy, FunctionPolicy
from legato.policies.moderation.private_data import PrivateData
from legato.policies.moderation.rules import Rules
from legato.policies.moderation.spans import SpanPolicy
from legato.policies.moderation.upstream import ModerationsPolicy
from legato.policies.moderation.verdict import STAGES, Stage
from legato.settings_moderation import (
    JudgeSettings,
    ModerationSettings,
    ModerationsSettings,
    PrivateDataSettings,
    RulesSettings,
    policy_name,
)

MakeJudge = Callable[[str, str, JudgeSettings, bool], Asked]
"""Makes the policy that asks a model, of its place in the settings, its name, its settings, and whether it lets pass
when it fails."""
KeyOf = Callable[[str, ModerationsSettings], tuple[str, str | None]]
"""Returns address and key of a server that judges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chains:
    """Both chains.

    Attributes:
        names: Of all policies, for metrics.
        closes: Policies with connections of their own.
    """

    request: Chain
    reply: Chain
    names: tuple[str, ...]
    closes: tuple[ModerationsPolicy, ...]


def create_chains(
    settings: ModerationSettings,
    declared: Sequence[DeclaredPolicy],
    *,
    counts: Counting,
    in_thread: InThread,
    in_turn: InThread,
    make_judge: MakeJudge,
    server_of: KeyOf,
) -> Chains:
    """Return the chains of the settings' policies, then the declared ones in their order.

    Args:
        in_thread: Runs what always comes to its end.
        in_turn: Runs a bot's own functions, which may not.

    Raises:
        ConfigurationError: A policy is wrong; names it and what would be right.
    """
    spans: dict[Stage, list[SpanPolicy]] = {stage: [] for stage in STAGES}
    asked: dict[Stage, list[Asked]] = {stage: [] for stage in STAGES}
    names: list[str] = []
    closes: list[ModerationsPolicy] = []
    for place, policy in enumerate(settings.policies):
        name, where = policy_name(policy), f"moderation.policies[{place}]"
        lets_pass = (policy.on_failure or settings.on_failure) == "open"
        names.append(name)
        match policy:
            case RulesSettings():
                found: SpanPolicy = Rules(
                    name,
                    terms=policy.terms,
                    patterns=policy.patterns,
                    action=policy.action,
                    label=policy.label,
                    reason=policy.reason,
                    text=policy.text,
                    open=lets_pass,
                    where=where,
                )
            case PrivateDataSettings():
                found = PrivateData(
                    name,
                    action=policy.action,
                    kinds=policy.kinds,
                    without=policy.without,
                    locales=policy.locales,
                    text=policy.text,
                    open=lets_pass,
                    where=where,
                )
            case ModerationsSettings():
                address, key = server_of(where, policy)
                server = ModerationsPolicy(
                    name,
                    base_url=address,
                    api_key=key,
                    model=policy.model,
                    action=policy.action,
                    thresholds=policy.thresholds,
                    text=policy.text,
                    timeout_s=policy.timeout_s,
                    open=lets_pass,
                )
                closes.append(server)
                for stage in policy.on:
                    asked[stage].append(server)
                continue
            case JudgeSettings():
                judge = make_judge(where, name, policy, lets_pass)
                for stage in policy.on:
                    asked[stage].append(judge)
                continue
            case _:
                assert_never(policy)
        for stage in policy.on:
            spans[stage].append(found)
    for each in declared:
        if each.name in names:
            raise ConfigurationError(f"there are two policies {each.name!r}: give one of them another name")
        names.append(each.name)
        for stage in each.stages:
            asked[stage].append(FunctionPolicy(each, in_turn))
    request, reply = (
        Chain(stage, spans=spans[stage], asked=asked[stage], counts=counts, in_thread=in_thread) for stage in STAGES
    )
    return Chains(request=request, reply=reply, names=tuple(names), closes=tuple(closes))

"""What calls of models cost: every call, of whatever kind, is opened here before it is made and closed when it is over.

The law: a call that has begun ends with exactly one UsageReported in its run's log, so that what a run has used and
cost is a function of its log alone. What the model's server tells is believed; where it tells nothing (the call was
stopped, cut, or its process died) the tokens of what it was given and of what came of it are counted, and marked so.
A call that its server refused, or that never reached it, has used nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from legato.core.event import UsageReported
from legato.core.money import ZERO, parse_usd, to_nusd, usd_text
from legato.core.run_errors import RunError, UpstreamBroken, UpstreamTimeout
from legato.core.usage import Spent, Usage
from legato.providers.base import CallEnd, CallRequest, Provider
from legato.runs.budget import hold
from legato.runs.context import count_input, count_text, estimate_tokens, most_input
from legato.runs.live import LiveRun
from legato.runs.node import Node

Purpose = Literal["reply", "title", "judge"]
"""What a model is called for. A call for anything but a reply is in no log: runs.aside writes its charge."""

NOTHING = Spent(usage=Usage(input_tokens=0, output_tokens=0), cost=ZERO)
"""Of a call that never reached the model's server, or that it refused: no token is a fact, whatever the price."""


class OpenCall:
    """A call that may be made.

    Attributes:
        request: What the model is asked; its limit of tokens may be lower than what was wanted.
    """

    __slots__ = ("provider", "request")

    def __init__(self, provider: Provider, request: CallRequest) -> None:
        self.provider = provider
        self.request = request


async def open_call(node: Node, run: LiveRun, provider: Provider, request: CallRequest) -> OpenCall:
    """Pass a call of a reply that is about to be made; each is given to `close_call`, however it ends.

    Nothing of the request is counted here: `most_input` (runs.context) tells the most that it can have.

    Raises:
        BudgetSpent: There is not enough left for it.
    """
    call = OpenCall(provider, request)
    await hold(node, run, call)
    return call


async def close_call(
    node: Node, call: OpenCall, outcome: CallEnd | BaseException, *, reached: bool, received: str
) -> Spent:
    """Return what a call has used and what it cost, once it is over.

    Args:
        outcome: Its end, or what it failed with.
        reached: Whether the model's server had begun to answer.
        received: All that came, reasoning too; looked at only where the server told no usage.
    """
    if _cost_nothing(outcome, reached):
        spent = NOTHING
    else:
        told = outcome.usage if isinstance(outcome, CallEnd) else None
        usage = await completed(call.provider, told, call.request, received, most_output=call.request.max_tokens)
        spent = Spent(usage=usage, cost=node.prices.cost(call.provider.name, usage))
    node.metrics.call_used(call.provider.name, spent)
    return spent


def _cost_nothing(outcome: CallEnd | BaseException, reached: bool) -> bool:
    # Of a request that was sent and never answered nobody knows what its server did with it: it is counted.
    return not reached and isinstance(outcome, RunError) and not isinstance(outcome, UpstreamBroken | UpstreamTimeout)


def tells_output(outcome: CallEnd | BaseException) -> bool:
    """Whether the model's server has told how much came."""
    return isinstance(outcome, CallEnd) and outcome.usage is not None and outcome.usage.output_tokens is not None


async def completed(
    provider: Provider, told: Usage | None, request: CallRequest, received: str, *, most_output: int
) -> Usage:
    """Return the usage that a server told, with what it left out counted.

    Args:
        most_output: Tokens that the call was allowed: where there is no tokenizer more may be counted than came.
    """
    usage = told or Usage()
    inputs, outputs = usage.input_tokens, usage.output_tokens
    if inputs is not None and outputs is not None:
        return usage
    if inputs is None:
        counted = await count_input(provider, request.messages, request.tools)
        inputs = min(counted, most_input(provider, request.messages, request.tools))
    if outputs is None:
        outputs = min(await count_text(provider, received), most_output) if received else 0
    return replace(usage, input_tokens=inputs, output_tokens=outputs, counted=True)


def roughly(node: Node, call: OpenCall, received: str) -> Spent:
    """Return about what a call used, by the length of its texts: where there is no time to count."""
    inputs = sum(estimate_tokens(message.content) for message in call.request.messages)
    outputs = min(estimate_tokens(received), call.request.max_tokens) if received else 0
    usage = Usage(input_tokens=inputs, output_tokens=outputs, counted=True)
    return Spent(usage=usage, cost=node.prices.cost(call.provider.name, usage))


def reported(spent: Spent) -> UsageReported:
    """Return the event that says what a call used and cost."""
    usage = spent.usage
    return UsageReported(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost=None if spent.cost is None else usd_text(spent.cost),
        counted=usage.counted,
    )


def cost_nusd(event: UsageReported) -> int | None:
    """Return the cost of one call of a log in billionths of a dollar; None where it is not known."""
    usd = parse_usd(event.cost)
    return None if usd is None else to_nusd(usd)

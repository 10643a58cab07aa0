"""A bot's policies that are not async and never come back: others wait their turn within their time, none is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from legato.policies.moderation.chain import FAILED, LONG_CHARS, Chain
from legato.policies.moderation.functions import FunctionPolicy, declared
from legato.policies.moderation.rules import Rules
from legato.policies.moderation.verdict import Passage
from legato.tools.threads import Turns


class Counts:
    """Which policies gave no verdict, and why."""

    def __init__(self) -> None:
        self.failed: list[tuple[str, str]] = []

    def policy_decided(self, policy: str, stage: str, verdict: str) -> None: ...

    def policy_failed(self, policy: str, stage: str, kind: str) -> None:
        self.failed.append((policy, kind))


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


async def test_who_finds_all_threads_taken_waits_its_turn(gate: threading.Event) -> None:
    """One that gave up meanwhile runs nothing; one that waited runs when a thread is free."""
    turns, ran = Turns("x", 1), []
    first = asyncio.create_task(turns.run(lambda: gate.wait(30)))
    later = [asyncio.create_task(turns.run(lambda number=number: ran.append(number))) for number in range(3)]  # type: ignore[misc]
    await asyncio.sleep(0)
    later[0].cancel()
    await asyncio.sleep(0.01)
    assert ran == []
    gate.set()
    await asyncio.gather(first, *later, return_exceptions=True)
    assert ran == [1, 2]
    with pytest.raises(ZeroDivisionError):
        await turns.run(lambda: 1 // 0)


async def test_policies_that_never_come_back_stop_no_other(gate: threading.Event) -> None:
    """Where they have taken all threads the next fails closed in its time, as a timeout; long texts go on."""
    counts = Counts()
    functions, looks = Turns("policy", 2), Turns("look", 1)

    def hang(passage: Passage) -> None:
        gate.wait(30)

    rules = Rules(
        "rules",
        terms=["forbidden"],
        patterns=(),
        action="redact",
        label="[x]",
        reason="house",
        text=None,
        open=False,
        where="policies[0]",
    )
    own = FunctionPolicy(declared(("request",), hang, name=None, timeout_s=0.05, open=False), functions.run)
    stuck = Chain("request", spans=[rules], asked=[own], counts=counts, in_thread=looks.run)
    alone = Chain("request", spans=[rules], asked=(), counts=counts, in_thread=looks.run)
    long = Passage(text="forbidden " + "word " * (LONG_CHARS // 4), stage="request", source="message")
    judged = await asyncio.gather(*(stuck.judge(long, None) for _ in range(4)))
    assert [each.blocked.reason for each in judged if each.blocked] == [FAILED] * 4
    assert counts.failed == [("hang", "timeout")] * 4
    assert (await alone.judge(long, None)).text.startswith("[x] word")

"""What the embedded model says, for real: the default weights in a child process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from legato.core.run_errors import ContextExceeded
from legato.providers.embedded import EmbeddedProvider
from tests.embedded_world import EMBEDDED, LONG, Recorder, ask, child_pid, its_weights, reply_to

pytestmark = [pytest.mark.alone, *EMBEDDED]

SEA = "Tell me about the sea."
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


async def work_until_idle_s(pid: int, threads: int) -> float:
    """Return how long the engine still works, were the machine its own: CPU time, divided by its threads."""
    begun_s = cpu_s(pid)
    while True:
        before_s = cpu_s(pid)
        await asyncio.sleep(0.4)
        if cpu_s(pid) - before_s <= 0.02:
            return (before_s - begun_s) / threads


@pytest.fixture(scope="module")
def weights() -> Path:
    return its_weights()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider(weights: Path) -> AsyncIterator[EmbeddedProvider]:
    provider = EmbeddedProvider("embedded", weights=weights)
    await provider.start()
    yield provider
    await provider.close()


async def test_a_reply_arrives_in_several_deltas(provider: EmbeddedProvider) -> None:
    """Text streams, the usage is the engine's, and an end at the limit says so."""
    sink = Recorder()
    end = await provider.call(ask(SEA, max_tokens=20), sink)
    assert len(sink.deltas) >= 10
    assert sink.opened_with is not None
    assert end.reason == "length"
    assert end.usage is not None
    assert end.usage.output_tokens == 20
    assert end.usage.input_tokens is not None
    assert end.usage.input_tokens > 5


async def test_a_reply_that_is_complete_ends_with_stop(provider: EmbeddedProvider) -> None:
    """The model's own end is `stop`."""
    _, end = await reply_to(provider, ask("Say hello.", max_tokens=300))
    assert end.reason == "stop"


async def test_the_same_question_at_temperature_0_gets_the_same_reply(provider: EmbeddedProvider) -> None:
    """Temperature 0 is deterministic, with or without a cached prompt."""
    replies = {(await reply_to(provider, ask(SEA)))[0] for _ in range(3)}
    assert len(replies) == 1


async def test_a_plain_question_gets_a_plain_answer(provider: EmbeddedProvider) -> None:
    """Without a system prompt of one's own the small model is asked in the way that it answers best."""
    said, _ = await reply_to(provider, ask("What is the capital of France?"))
    assert "Paris" in said


async def test_deltas_are_whole_characters(provider: EmbeddedProvider) -> None:
    """A character of several tokens is held back until it is whole, whatever the limit cuts."""
    said = ""
    for max_tokens in range(1, 5):
        text, _ = await reply_to(provider, ask("🎉🎉", max_tokens=max_tokens, so_far="🎉😀😃😄"))
        assert "�" not in text
        said += text
    assert said.encode()


async def test_tokens_are_counted_by_the_models_tokenizer(provider: EmbeddedProvider) -> None:
    """A count is the model's, not an estimate."""
    assert await provider.count_tokens("Hello world") == 2
    assert await provider.count_tokens("") == 0


async def test_the_context_window_is_that_of_one_slot(provider: EmbeddedProvider, weights: Path) -> None:
    """A conversation longer than one slot is refused; a window beyond the training is cut to it."""
    assert provider.context_window == 3072
    with pytest.raises(ContextExceeded, match="takes 3072"):
        await provider.call(ask("word " * 3100), Recorder())
    large = EmbeddedProvider("embedded", weights=weights, context_window=100_000, parallel=1)
    await large.start()
    assert large.context_window == 8192
    await large.close()


async def test_a_paused_call_gives_nothing_and_then_everything(provider: EmbeddedProvider) -> None:
    """A paused flow holds deltas and end back, and resuming gives them in order."""
    whole, _ = await reply_to(provider, ask(SEA))
    sink = Recorder()
    call = asyncio.create_task(provider.call(ask(SEA), sink))
    await sink.first.wait()
    assert sink.opened_with is not None
    sink.opened_with.pause_reading()
    held_at = len(sink.deltas)
    await asyncio.sleep(0.6)
    assert len(sink.deltas) == held_at
    assert not call.done()
    sink.opened_with.resume_reading()
    await call
    assert str(sink) == whole


async def test_four_calls_share_the_engine(provider: EmbeddedProvider) -> None:
    """Calls run side by side: each has its first delta long before any has its last."""
    sinks = [Recorder() for _ in range(4)]
    calls = [
        asyncio.create_task(provider.call(ask(f"Tell me about the number {index}.", max_tokens=60), sink))
        for index, sink in enumerate(sinks)
    ]
    await asyncio.gather(*(sink.first.wait() for sink in sinks))
    assert not any(call.done() for call in calls)
    await asyncio.gather(*calls)
    assert len({str(sink) for sink in sinks}) == 4


async def test_a_fifth_call_waits_for_a_slot(provider: EmbeddedProvider) -> None:
    """More calls than slots all come to their end."""
    requests = [ask(f"Count to {index}.", max_tokens=10) for index in range(6)]
    ends = await asyncio.gather(*(provider.call(request, Recorder()) for request in requests))
    assert len(ends) == 6


@pytest.mark.parametrize("text", [LONG, "other " * 2500], ids=["generating", "reading the prompt"])
async def test_a_cancelled_call_stops_within_a_second(provider: EmbeddedProvider, text: str) -> None:
    """The engine stops working on a reply that nobody waits for."""
    pid = await child_pid(provider)
    call = asyncio.create_task(provider.call(ask(text, max_tokens=1000), Recorder()))
    await asyncio.sleep(1)
    assert not call.done()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await work_until_idle_s(pid, provider._threads) <= 1.0


async def test_a_continuation_joins_on_wherever_the_reply_was_cut(provider: EmbeddedProvider) -> None:
    """At temperature 0 a cut reply goes on as it would have, in mid-word or after white space too."""
    whole, _ = await reply_to(provider, ask(SEA, max_tokens=130))
    for cut in range(7, len(whole) - 150, (len(whole) - 150) // 12):
        rest, end = await reply_to(provider, ask(SEA, max_tokens=25, so_far=whole[:cut]))
        assert whole[cut:].startswith(rest), (cut, whole[cut - 20 : cut], rest)
        assert end.usage is not None
        assert end.usage.output_tokens is not None
        assert end.usage.output_tokens <= 26


async def test_a_continuation_of_a_whole_reply_says_nothing_more(provider: EmbeddedProvider) -> None:
    """A reply that was cut just before its end ends; it does not begin again."""
    whole, end = await reply_to(provider, ask("Say hello.", max_tokens=300))
    assert end.reason == "stop"
    rest, end = await reply_to(provider, ask("Say hello.", max_tokens=50, so_far=whole))
    assert (rest, end.reason) == ("", "stop")

"""The contract of hints, over memory, NOTIFY and Redis: what `legato.fanout.base` says, and what a wake costs.

Where a server is killed, stopped or never there, the same promises hold over NOTIFY and Redis.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterable, Mapping

import pytest
from structlog.testing import capture_logs

from legato.fanout.base import Hints
from legato.fanout.hint import EVERYTHING, Hint, HintKind
from legato.fanout.notify import NotifyHints
from legato.fanout.pending import MOST_KEYS
from legato.fanout.redis import RedisHints
from tests.contract.hints_world import ALL, REMOTE, Ear, World


@pytest.fixture
def world(request: pytest.FixtureRequest) -> World:
    make: Callable[[pytest.FixtureRequest], World] = ALL[request.param]
    return make(request)


everywhere = pytest.mark.parametrize("world", ALL, indirect=True)
remote = pytest.mark.parametrize("world", REMOTE, indirect=True)


@everywhere
async def test_nodes_hear_each_other_and_not_themselves(world: World) -> None:
    """What one publishes reaches all others, with its kind and its keys, and never comes back to it."""
    async with world.nodes(3) as (first, second, third):
        first.publish(1, 2)
        second.publish(3, kind=HintKind.STOP)
        third.publish(kind=HintKind.OFFERED)
        offered = Hint(kind=HintKind.OFFERED)
        await first.until(lambda: first.named(HintKind.STOP) == {3} and offered in first.heard)
        await second.until(lambda: second.named() == {1, 2} and offered in second.heard)
        await third.until(lambda: third.named() == {1, 2} and third.named(HintKind.STOP) == {3})
        assert first.named() == set()
        assert second.named(HintKind.STOP) == set()
        assert offered not in third.heard
        assert not any(ear.everything() for ear in (first, second, third))


@everywhere
async def test_a_node_that_comes_hears_that_it_has_to_look_at_everything(world: World) -> None:
    """Whatever was published before: it was not there."""
    async with world.nodes(2) as (first, _):
        first.publish(1)
        late = Ear(world.make())
        late.publish(2)
        await late.hints.start()
        try:
            await late.until(late.everything)
            assert late.hints.connected
            first.publish(3)
            await late.until(lambda: 3 in late.named())
        finally:
            await late.hints.close()
        assert not late.hints.connected


@everywhere
async def test_a_burst_is_few_messages(world: World) -> None:
    """10,000 hints, as thousands of streams would give them, are coalesced while a message is on its way."""
    async with world.nodes(2) as (first, second):
        for page in range(100):
            for key in range(page * 100, page * 100 + 100):
                first.publish(key)
            await asyncio.sleep(0)
        await second.until(lambda: len(second.named()) == 10_000)
        print(f"\n10,000 hints: {first.hints.messages_sent} messages")
        assert first.hints.messages_sent <= 120
        assert second.hints.messages_heard == first.hints.messages_sent
        assert second.everything() == 0


@everywhere
async def test_a_burst_of_one_moment_is_as_large_as_its_keys(world: World) -> None:
    """Runs that are named again and again, within one turn of the loop, are named once."""
    async with world.nodes(2) as (first, second):
        for number in range(10_000):
            first.publish(number % 50)
        await second.until(lambda: len(second.named()) == 50)
        assert first.hints.messages_sent == 1


@everywhere
async def test_more_keys_than_are_kept_are_any_keys(world: World) -> None:
    """Memory is bounded: beyond MOST_KEYS a hint says that any run may be meant."""
    async with world.nodes(2) as (first, second):
        first.publish(*range(MOST_KEYS + 1))
        await second.until(lambda: Hint(kind=HintKind.GROWN) in second.heard)


@everywhere
async def test_an_ear_that_fails_harms_nobody(world: World) -> None:
    """An error of a callback is logged; other callbacks, and later hints, are not touched by it."""

    def fail(hint: Hint) -> None:
        raise RuntimeError("planted")

    async with world.nodes(2) as (first, second):
        second.hints.on_hint(fail)
        with capture_logs() as logs:
            first.publish(1)
            await second.until(lambda: 1 in second.named())
            first.publish(2)
            await second.until(lambda: 2 in second.named())
        assert [entry["event"] for entry in logs] == ["a hint was not taken"] * 2


@everywhere
async def test_the_last_hint_goes_out_before_the_end(world: World) -> None:
    """A node that leaves has told the others what it offers; after its end it says nothing."""
    async with world.nodes(2) as (first, second):
        first.publish(7, kind=HintKind.OFFERED)
        await first.hints.close()
        first.publish(8, kind=HintKind.OFFERED)
        await second.until(lambda: second.named(HintKind.OFFERED) == {7})
        await first.hints.close()


@everywhere
async def test_a_wake_takes_milliseconds(world: World) -> None:
    """From `publish` to the other node's callback, one at a time; printed, and bounded loosely."""
    async with world.nodes(2) as (first, second):
        took = []
        for key in range(300):
            began = time.perf_counter()
            first.publish(key)
            while key not in second.times:
                await second.next()
            took.append(second.times[key] - began)
            await asyncio.sleep(0.001)
        p50, p99 = statistics.median(took) * 1e3, sorted(took)[int(len(took) * 0.99)] * 1e3
        print(f"\nwake: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
        assert p50 < 50


@remote
async def test_cut_connections_heal(world: World) -> None:
    """Each node hears EVERYTHING after its connections were ended, and hints arrive again; the log says so once."""
    async with world.nodes(2) as (first, second):
        with capture_logs() as logs:
            for turn in range(1, 4):
                world.cut()
                await asyncio.gather(
                    first.until(lambda turn=turn: first.everything() >= turn and first.hints.connected),  # type: ignore[misc]
                    second.until(lambda turn=turn: second.everything() >= turn and second.hints.connected),  # type: ignore[misc]
                )
                await _is_heard(first, second, turn)
                await _is_heard(second, first, turn)
            # A speaker may learn a moment later than its listener that it is heard again.
            await first.until(lambda: _count(logs, "hints are away") == _count(logs, "hints are back"))
        assert _count(logs, "hints are away") <= 6
        assert _count(logs, "hints are away") == _count(logs, "hints are back")


@remote
async def test_an_outage_loses_hints_and_says_so(world: World) -> None:
    """What is published meanwhile is not kept: it is one EVERYTHING to all, once the other end is back."""
    async with world.nodes(2) as (first, second):
        with capture_logs() as logs:
            world.stop()
            try:
                for key in range(2_000):
                    first.publish(key)
                    if key % 100 == 0:
                        await asyncio.sleep(0.01)
                assert not _large(first.hints)
            finally:
                world.start()
            await first.until(first.everything)
            # Its own, and the one that the other publishes for what it could not say; they may be one.
            await second.until(second.everything)
            await _is_heard(first, second, 5_000)
            await _is_heard(second, first, 5_001)
            await first.until(lambda: _count(logs, "hints are away") == _count(logs, "hints are back"))
        assert _count(logs, "hints are away") == _count(logs, "hints are back") == 2


@remote
async def test_a_node_that_could_not_speak_makes_the_others_look(world: World) -> None:
    """They are connected all the time and have noticed nothing: it is the speaker who knows that hints were lost."""
    async with world.nodes(2) as (first, second):
        world.mute()
        try:
            with capture_logs() as logs:
                first.publish(1)
                # What it needs is not given back before it has found that it is taken.
                await first.until(lambda: _count(logs, "hints are away"))
        finally:
            world.unmute()
        await second.until(second.everything)
        await _is_heard(first, second, 2)
        assert 1 not in second.named()


@remote
async def test_nothing_is_lost_in_silence(world: World) -> None:
    """Each hint of a restless time is heard, or followed by an EVERYTHING that is heard after it was published."""
    async with world.nodes(2) as (first, second):
        published: dict[int, float] = {}
        everything: list[float] = []
        second.hints.on_hint(lambda hint: everything.append(time.perf_counter()) if hint == EVERYTHING else None)

        async def restless() -> None:
            for key in range(1_500):
                published[key] = time.perf_counter()
                first.publish(key)
                await asyncio.sleep(0.001)

        async def trouble() -> None:
            for number in range(6):
                await asyncio.sleep(0.2)
                if number == 3:
                    world.stop()
                    await asyncio.sleep(0.1)
                    world.start()
                else:
                    world.cut()

        await asyncio.gather(restless(), trouble())
        await first.until(lambda: first.hints.connected)
        await second.until(lambda: second.hints.connected)
        await _is_heard(first, second, 10_000)
        missed = [key for key in published if key not in second.named()]
        await second.until(lambda: not missed or everything[-1] > published[missed[-1]])
        print(f"\n{len(missed)} of {len(published)} hints lost, {len(everything)} times EVERYTHING")


@remote
async def test_a_silent_end_holds_nobody_up(world: World) -> None:
    """While the other end is stopped where it stands, publishing takes no time, and the loop goes on."""
    async with world.nodes(2) as (first, second):
        world.pause()
        try:
            slowest = 0.0
            for key in range(500):
                began = time.perf_counter()
                first.publish(key)
                await asyncio.sleep(0)
                slowest = max(slowest, time.perf_counter() - began)
        finally:
            world.resume()
        assert slowest < 0.5
        await second.until(lambda: second.everything() or len(second.named()) == 500)
        await _is_heard(first, second, 600)


@remote
async def test_a_silent_end_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is open and never answers is an outage too, for a speaker and, over Redis, for a listener."""
    for end in ("notify", "redis"):
        monkeypatch.setattr(f"legato.fanout.{end}.ANSWER_S", 0.2)
    monkeypatch.setattr("legato.fanout.redis.ALIVE_S", 0.2)
    async with world.nodes(2) as (first, second):
        world.pause()
        try:
            first.publish(1)
            await first.until(lambda: not first.hints.connected)
        finally:
            world.resume()
        await first.until(first.everything)
        await second.until(second.everything)
        await _is_heard(second, first, 2)


@pytest.mark.parametrize("end", ["notify", "redis"])
async def test_an_end_that_never_is_there(end: str) -> None:
    """Starting, publishing and closing go on as ever; one line says what is the matter, without the password."""
    secret = "pass word/ä"
    quoted = "pass%20word%2F%C3%A4"
    hints: Hints = (
        NotifyHints(f"postgresql://ann:{quoted}@127.0.0.1:9/x", namespace="n", longest_pause_s=0.05)
        if end == "notify"
        else RedisHints(f"redis://ann:{quoted}@127.0.0.1:9/0", namespace="n", longest_pause_s=0.05)
    )
    ear = Ear(hints)
    with capture_logs() as logs:
        await hints.start()
        for key in range(5_000):
            ear.publish(key)
            if key % 500 == 0:
                await asyncio.sleep(0.05)
        await ear.until(lambda: logs)
        assert not _large(hints)
        assert not hints.connected
        began = time.perf_counter()
        await hints.close()
        assert time.perf_counter() - began < 2
    assert _count(logs, "hints are away") == len(logs) == 1
    assert ear.heard == []
    assert not any(word in repr(logs) for word in (secret, quoted, "word"))


async def _is_heard(speaker: Ear, listener: Ear, key: int) -> None:
    """See that hints arrive again; those of an outage may be swallowed by an EVERYTHING."""

    def said() -> bool:
        speaker.publish(key)
        return key in listener.named()

    await listener.until(said)


def _count(logs: Iterable[Mapping[str, object]], words: str) -> int:
    return sum(str(entry["event"]).startswith(words) for entry in logs)


def _large(hints: Hints) -> bool:
    """Whether keys pile up in it."""
    pending = hints._pending  # type: ignore[attr-defined]
    return sum(map(len, pending._keys.values())) > 1_000

"""What counts in a rate limit: accepted messages, each once, whatever runs at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from legato.app import open_node
from legato.core.clock import SystemClock
from legato.core.errors import ConversationBusy, LegatoError, RateLimited
from legato.core.principal import APP, Principal
from legato.runs.live import RunRequest
from legato.runs.node import Node
from legato.runs.start import NewMessage, Started, start
from legato.storage.turns import LEAF
from tests.conftest import node_settings
from tests.server import ServerFailed, ServerProcess

ANN = Principal(id="ann", role="member")
BEN = Principal(id="ben", role="member")


class ShiftedClock(SystemClock):
    """The machine's clocks, put forward by what a test says."""

    shift_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.shift_s


@asynccontextmanager
async def limited(folder: Path, **settings: Any) -> AsyncIterator[tuple[Node, ShiftedClock]]:
    clock = ShiftedClock()
    async with open_node(node_settings(folder, **settings), clock=clock) as node:
        yield node, clock


def message(text: str = "script: tokens=1", **values: Any) -> NewMessage:
    fields: dict[str, Any] = {"session_id": None, "conversation_id": None, "request": RunRequest(), "parent": LEAF}
    return NewMessage(text=text, **(fields | values))


async def left(node: Node, principal: Principal = ANN) -> int:
    assert node.limits is not None
    return int((await node.limits.describe(principal.id))["principal"]["remaining"])


async def outcomes(posts: list[Any]) -> tuple[list[Started], list[BaseException]]:
    """Run all at once; return what was begun, and what was refused."""
    found = await asyncio.gather(*posts, return_exceptions=True)
    return [each for each in found if isinstance(each, Started)], [
        each for each in found if not isinstance(each, Started)
    ]


async def test_fifty_at_once_are_ten(tmp_path: Path) -> None:
    """Exactly as many as the limit says, however they meet; the rest are refused and leave nothing."""
    async with limited(tmp_path, rate_limit="10/minute", session_rate_limit="9/minute") as (node, _):
        begun, refused = await outcomes([start(node, ANN, message(session_id=f"s-{n}")) for n in range(50)])
        assert (len(begun), len(refused)) == (10, 40)
        assert all(isinstance(each, RateLimited) for each in refused)
        assert await left(node) == 0
        assert await left(node, BEN) == 10


@pytest.mark.parametrize("sessions", [1, 3, 50])
async def test_by_default_a_caller_and_each_of_its_sessions_have_ten_a_minute(tmp_path: Path, sessions: int) -> None:
    """With keys and nothing else set: no session has more, and many sessions have no more together."""
    async with limited(tmp_path, auth="keys") as (node, _):
        posts = [start(node, ANN, message(session_id=f"s-{number % sessions}")) for number in range(50)]
        begun, refused = await outcomes(posts)
        assert (len(begun), len(refused)) == (10, 40)
        assert await left(node, BEN) == 10


async def test_fifty_at_once_with_refusals_of_other_kinds(tmp_path: Path) -> None:
    """What is given back in between makes room for nobody too many, and costs nobody his own."""
    async with limited(tmp_path, rate_limit="10/minute") as (node, _):
        wrong = [start(node, ANN, message(parent="m-none")) for _ in range(25)]
        right = [start(node, ANN, message()) for _ in range(25)]
        begun, _ = await outcomes([each for pair in zip(wrong, right, strict=True) for each in pair])
        assert await left(node) == 10 - len(begun)
        more, _ = await outcomes([start(node, ANN, message()) for _ in range(25)])
        assert len(begun) + len(more) == 10


async def test_a_limit_is_free_again_when_its_window_has_moved_on(tmp_path: Path) -> None:
    """After `Retry-After`, and not before."""
    async with limited(tmp_path, rate_limit="1/50seconds") as (node, clock):
        await start(node, ANN, message())
        with pytest.raises(RateLimited) as caught:
            await start(node, ANN, message())
        assert caught.value.retry_after_s == 50
        clock.shift_s += 48
        with pytest.raises(RateLimited):
            await start(node, ANN, message())
        clock.shift_s += 2
        await start(node, ANN, message())


def _draining(node: Node) -> None:
    node.draining = True


REFUSED: dict[str, tuple[NewMessage, str, Callable[[Node], None]]] = {
    "an unknown model": (message(request=RunRequest(model="none")), "invalid_request", lambda node: None),
    "too long": (message("word " * 5000, request=RunRequest(model="tiny")), "message_too_long", lambda node: None),
    "an unknown parent": (message(parent="m-none"), "invalid_request", lambda node: None),
    "no such conversation": (message(conversation_id="c-none", regenerate="m-none"), "not_found", lambda node: None),
    "shutting down": (message(), "draining", _draining),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_message_that_is_refused_for_another_reason_costs_nothing(tmp_path: Path, name: str) -> None:
    """Only what is accepted counts."""
    refused, code, prepare = REFUSED[name]
    async with limited(tmp_path, rate_limit="2/minute") as (node, _):
        prepare(node)
        for _ in range(5):
            with pytest.raises(LegatoError) as caught:
                await start(node, ANN, refused)
            assert caught.value.code == code
        assert await left(node) == 2


async def test_a_full_conversation_costs_nothing(tmp_path: Path) -> None:
    """One reply runs, one message waits: both count. The third, which is refused as busy, does not."""
    async with limited(tmp_path, rate_limit="3/minute", max_waiting_turns=1) as (node, _):
        await start(node, ANN, message("script: stall=1", conversation_id="c"))
        await start(node, ANN, message(conversation_id="c"))
        with pytest.raises(ConversationBusy):
            await start(node, ANN, message(conversation_id="c"))
        assert await left(node) == 1


async def test_a_repeat_costs_nothing_and_is_never_refused(tmp_path: Path) -> None:
    """A known key is looked for before the limits: while something is left, and when nothing is."""
    async with limited(tmp_path, rate_limit="2/minute") as (node, _):
        first = await start(node, ANN, message(key="k", body_hash=b"1"))
        for _ in range(5):
            assert (await start(node, ANN, message(key="k", body_hash=b"1"))).run_id == first.run_id
        assert await left(node) == 1
        with pytest.raises(LegatoError) as caught:
            await start(node, ANN, message(key="k", body_hash=b"2"))
        assert caught.value.code == "idempotency_key_reused"
        await start(node, ANN, message())
        for _ in range(5):
            assert (await start(node, ANN, message(key="k", body_hash=b"1"))).run_id == first.run_id
        with pytest.raises(RateLimited):
            await start(node, ANN, message(key="k2"))
        assert await left(node) == 0


async def test_a_repeat_takes_no_room_even_for_a_moment(tmp_path: Path) -> None:
    """While repeats are being answered, what is left is there for others."""
    async with limited(tmp_path, rate_limit="2/minute") as (node, _):
        await start(node, ANN, message(key="k"))
        repeats = [start(node, ANN, message(key="k")) for _ in range(9)]
        begun, refused = await outcomes([*repeats, start(node, ANN, message(key="new"))])
        assert refused == []
        assert [each.is_repeat for each in begun] == [True] * 9 + [False]


@pytest.mark.parametrize("amount", [1, 2, 9])
async def test_repeats_that_meet_their_first_are_one(tmp_path: Path, amount: int) -> None:
    """A key that is not on the disk yet is known all the same: one message counts, and no repeat is refused."""
    async with limited(tmp_path, rate_limit=f"{amount}/minute") as (node, _):
        begun, refused = await outcomes([start(node, ANN, message(key="k")) for _ in range(8)])
        assert refused == []
        assert len({each.run_id for each in begun}) == 1
        assert await left(node) == amount - 1


async def test_a_limit_that_is_reached_uses_no_key_up(tmp_path: Path) -> None:
    """The same post with the same key is accepted later."""
    async with limited(tmp_path, rate_limit="1/minute") as (node, clock):
        await start(node, ANN, message())
        with pytest.raises(RateLimited):
            await start(node, ANN, message(key="k"))
        clock.shift_s += 60
        assert not (await start(node, ANN, message(key="k"))).is_repeat


async def test_the_app_is_not_limited(tmp_path: Path) -> None:
    """What the server begins on nobody's behalf; what a step begins for a caller counts as the caller's."""
    async with limited(tmp_path, rate_limit="1/minute") as (node, _):
        for _ in range(5):
            await start(node, APP, message())
        await start(node, ANN, message())
        with pytest.raises(RateLimited):
            await start(node, ANN, message())


async def test_nothing_is_kept_without_a_limit(tmp_path: Path) -> None:
    """The default without keys."""
    async with limited(tmp_path) as (node, _):
        assert node.limits is None
        await outcomes([start(node, ANN, message()) for _ in range(20)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rate_limit": "10/fortnight"}, "LEGATO_RATE_LIMIT is '10/fortnight': write a number of messages in a time"),
        ({"rate_limit": "9/minute", "trusted_proxies": "10.0.0.1/8"}, "LEGATO_TRUSTED_PROXIES names '10.0.0.1/8'"),
    ],
)
def test_a_wrong_limit_ends_the_start(tmp_path: Path, settings: dict[str, object], said: str) -> None:
    """One sentence that says what is right, and the exit status of a wrong configuration."""
    process = ServerProcess(tmp_path, settings)
    with pytest.raises(ServerFailed):
        process.start()
    assert process.wait() == 78
    assert said in process.log
    assert len(process.log.strip().splitlines()) == 1

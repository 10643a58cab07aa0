"""Followers of runs that another node makes: the same bytes whenever they look, and nothing kept behind them.

The database is a model here: logs that grow, end, are packed and go. tests/integration/test_feed.py has the real one.
"""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from legato.core.errors import NotFound, StorageUnavailable
from legato.core.event import CallStarted
from legato.core.log import RunLog
from legato.fanout.hint import EVERYTHING, Hint, HintKind
from legato.runs import feed as feed_module
from legato.runs.feed import Gap, extend, finish
from legato.runs.tail import Readers, Tail
from legato.storage.followed import MOST_PIECES
from legato.wire.native import NativeRenderer
from tests.feed_model import STARTED, Kept, Model, Wire, feed_of, opened, until, whole


@pytest.fixture
def readers() -> Readers:
    return Readers(heartbeat_s=60, send_timeout_s=60)


@pytest.fixture
def run() -> Kept:
    kept = Kept(key=7)
    kept.append([STARTED])
    return kept


pieces_of_a_log = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 1)), max_size=30)


@given(pieces_of_a_log, st.lists(st.integers(0, 200), max_size=10), st.booleans())
def test_a_log_that_is_cut_anywhere_is_the_same_log(sizes: list[tuple[int, int]], cuts: list[int], ends: bool) -> None:
    """However many pieces a look brings, and wherever the packed log takes over: every event once, in its epoch."""
    run, epoch = Kept(key=1), 0
    run.append([STARTED])
    for size, raised in sizes:
        epoch += raised
        run.append([f"{epoch}.{number} " for number in range(size)], epoch)
    if ends:
        run.close(["last "], epoch)
    tail = Tail(run_id="r-1", owner="o")
    readers = Readers(heartbeat_s=1, send_timeout_s=9)
    wire = opened(readers, tail)
    for cut in sorted({cut % (len(run.pieces) + 1) for cut in cuts}):
        extend(tail, [piece for piece in run.pieces[:cut] if piece[0] >= tail.end])
    if ends:
        finish(tail, run.log)
    else:
        extend(tail, [piece for piece in run.pieces if piece[0] >= tail.end])
    assert tail.log.epochs == run.log.epochs
    assert tail.log.epoch_starts == run.log.epoch_starts
    assert wire.data == whole(run)
    assert wire.end == ("finished" if ends else None)


@pytest.mark.parametrize(
    ("first_seq", "shown"), [(2, 1), (0, 1)], ids=["a piece is missing", "a piece is there already"]
)
def test_a_gap_is_never_shown(first_seq: int, shown: int) -> None:
    """What does not begin where the log ends is refused; what came before it is shown."""
    tail = Tail(run_id="r-1", owner="o")
    with pytest.raises(Gap):
        extend(tail, [(0, 0, [STARTED]), (first_seq, 0, ["a"])])
    assert tail.end == shown
    with pytest.raises(Gap):
        finish(tail, RunLog())


steps = st.lists(
    st.sampled_from(["append", "takeover", "read", "come", "leave", "hint", "pause", "in flight"]), max_size=40
)


@given(steps, st.booleans())
@settings(max_examples=60, deadline=None)
def test_all_readers_get_all_of_it(steps: list[str], hints: bool) -> None:
    """Whatever happens while a read is on its way, hints or none, whenever they come: the same bytes, and one end."""
    asyncio.run(_follow_through(steps, hints))


async def _follow_through(steps: list[str], hints: bool) -> None:
    run, epoch = Kept(key=7), 0
    run.append([STARTED])
    model, readers = Model(run), Readers(heartbeat_s=60, send_timeout_s=60)
    feed = feed_of(model, poll_s=0.002)
    wires = [opened(readers, await feed.follow(run.row))]

    def append() -> None:
        run.append([f"{len(run.log)} ", "x "], epoch)
        if hints:
            feed.hear(Hint(kind=HintKind.GROWN, keys=frozenset({7})))

    for step in steps:
        match step:
            case "append":
                append()
            case "takeover":
                epoch += 1
                run.append([CallStarted(epoch=epoch, provider="p", model="m", reason="takeover")], epoch)
            case "in flight":
                model.between = append
            case "come":
                tail = await feed.follow(run.row)
                assert tail.end >= len(run.log) or model.between is append
                wires.append(opened(readers, tail))
            case "hint":
                feed.hear(EVERYTHING)
            case "pause":
                await asyncio.sleep(0.004)
            case _:
                await asyncio.sleep(0)
    model.between = lambda: None
    run.close(["last "], epoch)
    run.pieces.clear()
    await until(lambda: all(wire.end for wire in wires))
    assert [wire.data for wire in wires] == [whole(run)] * len(wires)
    assert [wire.end for wire in wires] == ["finished"] * len(wires)
    assert len(feed) == 0
    await feed.close()


async def test_a_follower_has_what_is_committed_when_it_comes(readers: Readers, run: Kept) -> None:
    """A log that is followed already is read once more: the reader may have seen events at another node that have not
    come here yet. Nothing of a page is left out."""
    model = Model(run)
    feed = feed_of(model, poll_s=60)
    tail = await feed.follow(run.row)
    for number in range(3 * MOST_PIECES):
        run.append([f"{number} "])
    assert (await feed.follow(run.row)) is tail
    assert tail.end == len(run.log)
    assert feed.find("o", "r-7") is tail
    assert feed.find("somebody else", "r-7") is None
    await feed.close()


async def test_whoever_comes_while_it_is_read_waits_for_the_next_one(run: Kept) -> None:
    """What is on its way may be older than what the reader has seen elsewhere."""
    model = Model(run)
    feed = feed_of(model, poll_s=60)
    await feed.follow(run.row)
    late: list[asyncio.Task[int]] = []

    async def end_seen() -> int:
        return (await feed.follow(run.row)).end

    def come() -> None:
        model.between = lambda: None
        run.append(["a "])
        late.append(asyncio.create_task(end_seen()))

    model.between = come
    feed.hear(EVERYTHING)
    await until(lambda: late)
    assert await late[0] == len(run.log)
    await feed.close()


async def test_hints_are_looked_at_once(readers: Readers, run: Kept) -> None:
    """What comes while a read is on its way is one read afterwards; what is about other runs is none."""
    model = Model(run)
    feed = feed_of(model, poll_s=60)
    wire = opened(readers, await feed.follow(run.row))
    reads = model.reads
    for number in range(50):
        run.append([f"{number} "])
        feed.hear(Hint(kind=HintKind.GROWN, keys=frozenset({7, 8})))
        feed.hear(Hint(kind=HintKind.GROWN, keys=frozenset({9})))
        feed.hear(Hint(kind=HintKind.STOP, keys=frozenset({7})))
    await until(lambda: wire.data == whole(run))
    assert model.reads == reads + 1
    await feed.close()


async def test_nobody_waits_behind_those_that_grow_all_the_time(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where more runs are followed than are read at once, each has its turn."""
    monkeypatch.setattr(feed_module, "MOST_RUNS", 3)
    runs = [Kept(key=key) for key in range(1, 9)]
    for each in runs:
        each.append([STARTED])
    model = Model(*runs)
    feed = feed_of(model, poll_s=60)
    wires = [opened(readers, await feed.follow(each.row)) for each in runs]
    read: list[set[int]] = []

    def all_grow() -> None:
        for each in runs:
            each.append(["a "])
        feed.hear(Hint(kind=HintKind.GROWN))

    model.on_read = lambda keys: read.append(set(keys))
    model.between = all_grow
    feed.hear(EVERYTHING)
    await until(lambda: len(read) >= 9)
    model.between = lambda: None
    for first in range(0, 9, 3):
        assert set.union(*read[first : first + 3]) == {each.key for each in runs}
    await until(lambda: all(wire.data == whole(each) for wire, each in zip(wires, runs, strict=True)))
    await feed.close()


@pytest.mark.parametrize("hint", [Hint(kind=HintKind.ENDED, keys=frozenset({7})), EVERYTHING, None])
async def test_an_end_is_noticed(readers: Readers, run: Kept, hint: Hint | None) -> None:
    """At once where a hint says so, though pieces are still there; without one as soon as nothing more comes."""
    model = Model(run)
    feed = feed_of(model, poll_s=60 if hint else 0.002)
    wire = opened(readers, await feed.follow(run.row))
    run.append(["a "])
    run.close(["b "])
    if hint:
        feed.hear(hint)
    await until(lambda: wire.end)
    assert (wire.end, wire.data) == ("finished", whole(run))
    await feed.close()


async def test_a_deleted_run_is_cut(readers: Readers, run: Kept) -> None:
    """Its readers are cut without an end; whoever asks again is told that there is none."""
    model = Model(run)
    feed = feed_of(model, poll_s=60)
    tail = await feed.follow(run.row)
    wire = opened(readers, tail)
    model.runs.clear()
    feed.hear(Hint(kind=HintKind.GONE))
    await until(lambda: wire.end)
    assert wire.end == "aborted"
    late = opened(readers, tail)
    await until(lambda: late.end)
    with pytest.raises(NotFound):
        await feed.follow(run.row)
    assert len(feed) == 0
    await feed.close()


async def test_a_gap_cuts_that_run_alone(readers: Readers, run: Kept) -> None:
    """Its readers come back and get a new log from its beginning; others do not notice. It is logged."""
    other = Kept(key=8)
    other.append([STARTED])
    model = Model(run, other)
    feed = feed_of(model, poll_s=60)
    wires = [opened(readers, await feed.follow(each.row)) for each in (run, other)]
    run.append(["lost "])
    lost = run.pieces.pop()
    run.append(["a "])
    other.append(["a "])
    with capture_logs() as logs:
        feed.hear(EVERYTHING)
        await until(lambda: wires[0].end and wires[1].data == whole(other))
    assert wires[0].end == "aborted"
    assert [entry["event"] for entry in logs] == ["a reply cannot be followed"]
    run.pieces.insert(-1, lost)
    again = opened(readers, await feed.follow(run.row))
    assert again.data == whole(run)
    await feed.close()


async def test_the_database_is_away(readers: Readers, run: Kept) -> None:
    """Followers wait, and go on when it is back; who asks meanwhile is told so; the log says it once, each time."""
    model = Model(run)
    feed = feed_of(model, poll_s=0.01)
    wire = opened(readers, await feed.follow(run.row))
    with capture_logs() as logs:
        model.away = True
        run.append(["a "])
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                await feed.follow(run.row)
        model.away = False
        await until(lambda: wire.data == whole(run))
    assert [entry["event"] for entry in logs] == [
        "followed replies cannot be read",
        "followed replies can be read again",
    ]
    assert wire.end is None
    await feed.close()


async def test_readers_are_cut_where_the_database_stays_away(readers: Readers, run: Kept) -> None:
    """They may find another node that reaches it; nothing more is read for them, and the memory is freed."""
    model = Model(run)
    feed = feed_of(model, poll_s=0.002, patience_s=0.01)
    wire = opened(readers, await feed.follow(run.row))
    model.away = True
    await until(lambda: wire.end)
    assert wire.end == "aborted"
    await until(lambda: len(feed) == 0)
    await feed.close()


async def test_memory_goes_with_the_last_reader(readers: Readers, run: Kept) -> None:
    """A log lingers for a moment after its last reader, who may come back; then nothing is read, and nothing kept."""
    model = Model(run)
    feed = feed_of(model)
    tail = await feed.follow(run.row)
    wire = Wire()
    reader = readers.open(wire, tail, NativeRenderer, after=-1)
    reader.pull()
    reader.close()
    assert len(feed) == 1
    await until(lambda: len(feed) == 0)
    reads = model.reads
    await asyncio.sleep(0.02)
    assert model.reads == reads
    kept = weakref.ref(tail)
    del tail, reader
    gc.collect()
    assert kept() is None
    assert feed.find("o", "r-7") is None


async def test_a_reader_that_was_long_on_its_way_is_fed(readers: Readers, run: Kept) -> None:
    """Whoever holds a log that was let go of meanwhile gets what it lacks, and there is one log a run."""
    model = Model(run)
    feed = feed_of(model)
    tail = await feed.follow(run.row)
    await until(lambda: len(feed) == 0)
    run.append(["a "])
    wire = opened(readers, tail)
    await until(lambda: wire.data == whole(run))
    assert (await feed.follow(run.row)) is tail
    await feed.close()

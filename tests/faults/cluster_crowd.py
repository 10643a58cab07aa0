"""Many people at once, each at one reply after another, who go to a random living node at every connection."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from legato.providers.scripted import reply
from tests.faults.cluster_oracle import MOST_TAKEOVERS
from tests.faults.cluster_world import Cluster
from tests.faults.oracle import Expected, Tally, whole
from tests.faults.watcher import Watcher

WITHIN_S = 120.0
BACK_S = 2.0
"""Within which a crowd that was held is at work again, one after another."""
FLOWS_S = 1.0
"""A reader that was shown something within this does not wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a crowd talks and reads; ranges are from and to.

    Attributes:
        delay_ms: Between two tokens of a reply.
        look_s: How long one connection is kept: nobody knows whether the node behind it stands still.
        within_s: After which a reply that has not ended is given up.
        twins: Share of turns that two post at once, with the same key.
        followed: Share of conversations in which another turn is posted behind the first.
    """

    tokens: tuple[int, int] = (10, 40)
    delay_ms: int = 200
    look_s: tuple[float, float] = (3.0, 12.0)
    within_s: float = WITHIN_S
    twins: float = 0.25
    followed: float = 0.2


class Wanderer(Watcher):
    """A reader whose connections last for some seconds each."""

    draw: random.Random
    look_s: tuple[float, float]

    def _look_until(self) -> float:
        return min(super()._look_until(), time.monotonic() + self.draw.uniform(*self.look_s))

    def leave(self) -> None:
        """Give up."""
        self._until = 0.0

    @property
    def is_at_work(self) -> bool:
        """Whether it has neither read an end nor given up."""
        return self.reader.terminal is None and not self._gave_up() and time.monotonic() < self._until

    @property
    def run_id(self) -> str | None:
        return self.reader.run_id


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Turn:
    """One message, and all who read its reply.

    Attributes:
        place: Of the turn in its conversation, from 0.
        during: Trials in which it was made: what went wrong with it came of one of them.
    """

    seed: int
    tokens: int
    conversation_id: str
    place: int
    readers: list[Wanderer]
    during: list[str] = field(default_factory=list)

    def expected(self, most_takeovers: int) -> Expected:
        """Return what its readers must have: the whole reply, or what there was when it had lost three servers.

        Args:
            most_takeovers: How many it has lost at most.
        """
        terminal = self.readers[0].reader.terminal
        cut = terminal is not None and terminal.data.get("code") == "interrupted"
        if cut and most_takeovers > MOST_TAKEOVERS:
            return Expected(text=None, of=reply(self.seed, self.tokens), last=b"error", code="interrupted")
        return whole(self.seed, self.tokens)


class Crowd:
    """Keeps so many replies going, from `start` to `stop`.

    Args:
        name: What its conversations begin with.

    Attributes:
        trial: What happens now; what is said from now on came of it.
    """

    def __init__(
        self, cluster: Cluster, name: str, streams: int, draw: random.Random, pace: Pace | None = None
    ) -> None:
        self.name = name
        self.trial = name
        self._pace = pace or Pace()
        self.turns: list[Turn] = []
        self.posted = 0
        self._cluster = cluster
        self._draws = [random.Random(draw.random()) for _ in range(streams)]
        self._ending = threading.Event()
        self._open = threading.Event()
        self._open.set()
        self._posting = threading.Lock()
        self._threads = [
            threading.Thread(target=self._talk, args=(number,), name=f"{name}-{number}", daemon=True)
            for number in range(streams)
        ]

    def __iter__(self) -> Iterator[Wanderer]:
        for turn in list(self.turns):
            yield from turn.readers

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def begin_trial(self, name: str) -> None:
        """Note that another kind of fault begins: it counts for replies that are being made too."""
        self.trial = name
        for turn in list(self.turns):
            if turn.during[-1] != name:
                turn.during.append(name)

    def hold(self) -> None:
        """Begin no more conversations for now: what was said is looked at, and that takes the same processors."""
        self._open.clear()

    def go_on(self) -> None:
        """Begin conversations again; when this returns they are as many as before."""
        if not self._open.is_set():
            self._open.set()
            time.sleep(BACK_S)

    def stop(self) -> None:
        """Begin no more replies, and wait for the ends of those that were begun."""
        self._ending.set()
        self._open.set()
        for thread in self._threads:
            thread.join()

    def leave(self) -> None:
        """Have all go, whatever they are still waiting for."""
        self._ending.set()
        self._open.set()
        for each in self:
            each.leave()

    def reading(self) -> list[Wanderer]:
        """Return the readers in the midst of a reply."""
        return [each for each in self if each.reader.terminal is None and each.run_id is not None]

    def saw_more(self, draw: random.Random, most: int) -> None:
        """Wait until a reader of the crowd was shown some more tokens, or for a second."""
        if reading := self.reading():
            one = draw.choice(reading)
            one.saw(one.chunks + draw.randrange(1, most), within_s=1.0)

    def await_flow(self, within_s: float) -> None:
        """Wait until nobody waits who has been shown a chunk."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            since = time.monotonic() - FLOWS_S
            if not any(each.is_at_work and each.chunks and not _was_shown(each, since) for each in self.reading()):
                return
            time.sleep(0.02)

    def _talk(self, number: int) -> None:
        draw = self._draws[number]
        count = 0
        self._ending.wait(draw.uniform(0.0, self._pace.tokens[0] * self._pace.delay_ms / 1000))
        while not self._ending.is_set():
            if not self._open.is_set():
                self._open.wait()
                self._ending.wait(BACK_S * number / len(self._draws))
                continue
            self._converse(draw, f"{self.name}-{number}-{count}")
            count += 1

    def _converse(self, draw: random.Random, conversation_id: str) -> None:
        first = self._post(draw, conversation_id, 0)
        others = list(first.readers[1:])
        behind: list[Wanderer] = []
        if draw.random() < self._pace.followed:
            leader = first.readers[0]
            leader.start()
            while leader.run_id is None and leader.is_alive():
                time.sleep(0.01)
            behind = self._post(draw, conversation_id, 1).readers
        for each in (*others, *behind):
            each.start()
        if behind:
            first.readers[0].join()
        else:
            first.readers[0].run()
        for each in (*others, *behind):
            each.join()

    def take_ended(self) -> list[Turn]:
        """Return the turns whose replies have ended, and forget them."""
        turns = list(self.turns)
        ended = [turn for turn in turns if not any(each.is_at_work for each in turn.readers)]
        for turn in ended:
            self.turns.remove(turn)
        return ended

    def _post(self, draw: random.Random, conversation_id: str, place: int) -> Turn:
        seed, tokens = draw.randrange(1, 1000), draw.randrange(*self._pace.tokens)
        message = f"turn {place} script: seed={seed} tokens={tokens} delay_ms={self._pace.delay_ms}"
        readers = []
        for _ in range(2 if draw.random() < self._pace.twins else 1):
            key = f"k-{conversation_id}-{place}"
            # A turn behind another waits for it first.
            reader = Wanderer(self._cluster, message, conversation_id, key, within_s=self._pace.within_s * (1 + place))
            reader.draw, reader.look_s = random.Random(draw.random()), self._pace.look_s
            readers.append(reader)
        turn = Turn(
            seed=seed,
            tokens=tokens,
            conversation_id=conversation_id,
            place=place,
            readers=readers,
            during=[self.trial],
        )
        with self._posting:
            self.posted += 1
            self.turns.append(turn)
        return turn

    def longest_gap(self, since: float, until: float) -> tuple[float, str]:
        """Return the longest time between two chunks that a reader was shown within a time, and whose it was."""
        longest, whose = 0.0, ""
        for each in self:
            chunks = [
                at
                for frame, at in zip(each.reader.frames, list(each.reader.arrivals), strict=False)
                if frame.name == b"chunk" and at <= until + WITHIN_S
            ]
            for before, after in pairwise(chunks):
                if before < until and after > since and after - before > longest:
                    longest, whose = after - before, f"{each.key} ({each.run_id})"
        return longest, whose

    def await_resumed(self, held: set[str], since: float, within_s: float) -> None:
        """Wait until each reader of some runs was shown what a later node has made, or the end."""
        until = time.monotonic() + within_s
        for each in [each for each in self if each.run_id in held]:
            while each.is_at_work and _later_at(each, since) is None and time.monotonic() < until:
                time.sleep(0.02)

    def resumed_after_s(self, held: set[str], since: float) -> list[float]:
        """Return how long after `since` each reader of some runs was shown the first that a later node has made."""
        found = []
        for each in self:
            if each.run_id not in held:
                continue
            later = _later_at(each, since)
            if later is not None:
                found.append(later - since)
        return found


def _was_shown(reader: Wanderer, since: float) -> bool:
    arrivals = reader.reader.arrivals
    return bool(arrivals) and arrivals[-1] > since


def _later_at(reader: Wanderer, since: float) -> float | None:
    """Return when it was shown the first, after a time, that a later node has made."""
    # An arrival is noted before its frame.
    frames = list(zip(reader.reader.frames, list(reader.reader.arrivals), strict=False))
    before = max((frame.epoch for frame, at in frames if at <= since), default=0)
    return next((at for frame, at in frames if at > since and frame.epoch > before), None)


def count_turns(tally: Tally, turns: list[Turn]) -> None:
    tally.counts["streams"] += len(turns)
    tally.counts["readers"] += sum(len(turn.readers) for turn in turns)
    tally.counts["connections"] += sum(each.statuses.total() for turn in turns for each in turn.readers)

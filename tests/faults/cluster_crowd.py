"""Many people at once, each at one reply after another, who go to a random living node at every connection."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

from legato.providers.scripted import reply
from tests.faults.client import call
from tests.faults.cluster_oracle import MOST_TAKEOVERS, RunRow
from tests.faults.cluster_world import Cluster
from tests.faults.oracle import Expected, Tally, check_reader, whole
from tests.faults.watcher import Watcher

WITHIN_S = 120.0
"""After which a reply that has not ended is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a crowd talks and reads; ranges are from and to.

    Attributes:
        delay_ms: Between two tokens of a reply.
        look_s: How long one connection is kept: nobody knows whether the node behind it stands still.
        twins: Share of turns that two post at once, with the same key.
        followed: Share of conversations in which another turn is posted behind the first.
    """

    tokens: tuple[int, int] = (20, 110)
    delay_ms: int = 60
    look_s: tuple[float, float] = (2.0, 8.0)
    twins: float = 0.25
    followed: float = 0.2


class Wanderer(Watcher):
    """A reader whose connections last for some seconds each."""

    draw: random.Random
    look_s: tuple[float, float]

    def _look_until(self) -> float:
        return min(super()._look_until(), time.monotonic() + self.draw.uniform(*self.look_s))

    @property
    def is_at_work(self) -> bool:
        """Whether it has neither read an end nor given up."""
        return self.reader.terminal is None and not self._gave_up() and time.monotonic() < self._until

    @property
    def run_id(self) -> str | None:
        return self.reader.run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message, and all who read its reply.

    Attributes:
        place: Of the turn in its conversation, from 0.
    """

    seed: int
    tokens: int
    conversation_id: str
    place: int
    readers: list[Wanderer]

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
    """

    def __init__(
        self, cluster: Cluster, name: str, streams: int, draw: random.Random, pace: Pace | None = None
    ) -> None:
        self.name = name
        self._pace = pace or Pace()
        self.turns: list[Turn] = []
        self.posted = 0
        self._cluster = cluster
        self._draws = [random.Random(draw.random()) for _ in range(streams)]
        self._ending = threading.Event()
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

    def stop(self) -> None:
        """Begin no more replies, and wait for the ends of those that were begun."""
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def reading(self) -> list[Wanderer]:
        """Return the readers in the midst of a reply."""
        return [each for each in self if each.reader.terminal is None and each.run_id is not None]

    def saw_more(self, draw: random.Random, most: int) -> None:
        """Wait until a reader of the crowd was shown some more tokens, or for a second."""
        if reading := self.reading():
            one = draw.choice(reading)
            one.saw(one.chunks + draw.randrange(1, most), within_s=1.0)

    def _talk(self, number: int) -> None:
        draw = self._draws[number]
        count = 0
        self._ending.wait(draw.uniform(0.0, self._pace.tokens[0] * self._pace.delay_ms / 1000))
        while not self._ending.is_set():
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
            reader = Wanderer(self._cluster, message, conversation_id, key, within_s=WITHIN_S * (1 + place))
            reader.draw, reader.look_s = random.Random(draw.random()), self._pace.look_s
            readers.append(reader)
        self.posted += 1
        turn = Turn(seed=seed, tokens=tokens, conversation_id=conversation_id, place=place, readers=readers)
        self.turns.append(turn)
        return turn

    def check(self, rows: dict[str, RunRow], where: str) -> Tally:
        """Compare what all were shown with what should have come, and with what the nodes say now; all must be up."""
        tally = Tally()

        def check(turn: Turn) -> Tally:
            found = Tally()
            first = turn.readers[0]
            row = rows.get(first.run_id or "")
            expected = turn.expected(row.takeovers if row is not None else 0)
            if expected.code is not None:
                found.counts["replies that lost three nodes"] += 1
            for reader in turn.readers:
                reader.check(found, where, expected)
                if reader.run_id != first.run_id:
                    found.violate("duplicated", f"{where} {reader.key}: runs {first.run_id} and {reader.run_id}")
            return found

        with ThreadPoolExecutor(4) as pool:
            for each in pool.map(check, self.turns):
                tally.merge(each)
        self._check_conversations(tally, where)
        _count(tally, self.turns)
        return tally

    def check_shown(self, turns: list[Turn], where: str) -> Tally:
        """Compare what the readers of some turns were shown with what should have come, and ask no node."""
        tally = Tally()
        for turn in turns:
            for reader in turn.readers:
                check_reader(tally, f"{where} {reader.key}", reader.reader, turn.expected(MOST_TAKEOVERS + 1))
        _count(tally, turns)
        return tally

    def _check_conversations(self, tally: Tally, where: str) -> None:
        """Look whether each conversation has its messages once and in order."""
        for last in [turn for turn in self.turns if turn.place == 1]:
            path = f"/conversations/{last.conversation_id}/messages"
            told = call(self._cluster.port, "GET", path).json()["messages"]
            said = [f"{each['role']} {each['content'][:6] if each['role'] == 'user' else ''}".strip() for each in told]
            if said != ["user turn 0", "assistant", "user turn 1", "assistant"]:
                tally.violate("transcript", f"{where} {last.conversation_id}: {said}")

    def longest_gap(self, since: float, until: float) -> tuple[float, str]:
        """Return the longest time between two chunks that a reader was shown within a time, and whose it was."""
        longest, whose = 0.0, ""
        for each in self:
            chunks = [
                at
                for frame, at in zip(each.reader.frames, each.reader.arrivals, strict=True)
                if frame.name == b"chunk" and at <= until + WITHIN_S
            ]
            for before, after in pairwise(chunks):
                if before < until and after > since and after - before > longest:
                    longest, whose = after - before, f"{each.key} ({each.run_id})"
        return longest, whose

    def resumed_after_s(self, held: set[str], since: float) -> list[float]:
        """Return how long after `since` each reader of some runs was shown the first that a later node has made."""
        found = []
        for each in self:
            if each.run_id not in held:
                continue
            frames = list(zip(each.reader.frames, each.reader.arrivals, strict=True))
            before = max((frame.epoch for frame, at in frames if at <= since), default=0)
            later = next((at for frame, at in frames if at > since and frame.epoch > before), None)
            if later is not None:
                found.append(later - since)
        return found


def _count(tally: Tally, turns: list[Turn]) -> None:
    tally.counts["streams"] += len(turns)
    tally.counts["readers"] += sum(len(turn.readers) for turn in turns)
    tally.counts["connections"] += sum(each.statuses.total() for turn in turns for each in turn.readers)

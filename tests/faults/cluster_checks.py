"""Looks at the replies that have ended while the faults go on: asks whichever nodes are there, and the database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from tests.faults.client import Response, call
from tests.faults.cluster_crowd import Turn, count_turns
from tests.faults.cluster_oracle import Accounts, RunRow, read_runs
from tests.faults.cluster_world import Cluster
from tests.faults.oracle import Tally, check_reader
from tests.faults.reader import Frame, Reader

PAGE = 64
"""Turns that are looked at together."""
WITHIN_S = 60.0
"""A question that no node has answered by then is an answer too."""
LOOK_S = 3.0
"""Of one connection: nobody knows whether the node behind it stands still."""
RETRY_S = 0.05


class Checks:
    """Checks turns in threads of its own.

    Args:
        about: The scenario; with a turn's trials behind it, the words that bring these back.
        full: Ask the nodes too; otherwise only what was shown and what the database says is looked at.
    """

    def __init__(self, cluster: Cluster, accounts: Accounts, about: str, *, full: bool = True) -> None:
        self._about = about
        self._full = full
        self._cluster = cluster
        self._accounts = accounts
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="checks")
        self._begun: list[Future[Tally]] = []
        self._is_over = False

    def take(self, turns: list[Turn]) -> None:
        """Check turns that have ended; all turns of a conversation before its last are given before it."""
        for page in _pages(turns):
            self._begun.append(self._pool.submit(self._check, page))

    @property
    def pages_left(self) -> int:
        """How many pages are not done."""
        return sum(not each.done() for each in self._begun)

    def found(self, most_left: int = 0) -> Tally:
        """Return what was found since the last look; wait where more pages than `most_left` are not done."""
        tally = Tally()
        left = self._begun[-most_left:] if most_left else []
        for each in self._begun:
            if each.done() or each not in left:
                tally.merge(each.result())
        self._begun = [each for each in left if not each.done()]
        return tally

    def close(self) -> None:
        """Ask no more; what was not looked at is forgotten."""
        self._is_over = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _check(self, turns: list[Turn]) -> Tally:
        tally = Tally()
        rows = read_runs(self._cluster, [id for turn in turns if (id := turn.readers[0].run_id) is not None])
        for turn in turns:
            self._check_turn(tally, turn, rows.get(turn.readers[0].run_id or ""))
        count_turns(tally, turns)
        return tally

    def _check_turn(self, tally: Tally, turn: Turn, row: RunRow | None) -> None:
        first = turn.readers[0]
        where = f"{self._about}:{'+'.join(turn.during)}"
        expected = turn.expected(row.takeovers if row is not None else 0)
        if expected.code is not None:
            tally.counts["replies that lost three nodes"] += 1
        for reader in turn.readers:
            name = f"{where} {reader.key}"
            reader.check_answers(tally, name)
            check_reader(tally, f"{name} {reader.run_id}", reader.reader, expected)
            tally.counts["chunks"] += reader.chunks
            if reader.run_id != first.run_id:
                tally.violate("duplicated", f"{name}: runs {first.run_id} and {reader.run_id}")
            elif _shown(reader.reader.frames) != _shown(first.reader.frames):
                tally.violate("changed", f"{name} {reader.run_id}: two readers were shown different bytes")
        if row is None or first.run_id is None:
            tally.violate("lost", f"{where} {first.key}: no run {first.run_id}")
            return
        self._accounts.check_run(tally, where, first.run_id, row)
        if not self._full:
            return
        self._check_replays(tally, f"{where} {first.key}", first.reader)
        self._check_messages(tally, where, turn)

    def _check_replays(self, tally: Tally, name: str, reader: Reader) -> None:
        """Compare what was shown with what is shown anew, from the start and from the middle."""
        assert reader.run_id is not None
        frames = reader.frames
        for after in (None, frames[len(frames) // 2] if len(frames) > 1 else None):
            rest = frames if after is None else frames[len(frames) // 2 + 1 :]
            if rest and reader.terminal is not None and (seen := self._replay(reader.run_id, after)) != _shown(rest):
                where = "the start" if after is None else f"{after.epoch}.{after.seq}"
                tally.violate("changed", f"{name} {reader.run_id}: a replay from {where} gives {seen[-300:]!r}")
        tally.counts["runs"] += 1

    def _replay(self, run_id: str, after: Frame | None) -> bytes:
        """Return the events that a fresh reader is shown, over as many connections as it needs."""
        reader = Reader(run_id=run_id, frames=[after] if after is not None else [])
        until = time.monotonic() + WITHIN_S
        while reader.terminal is None and not reader.faults and self._goes_on(until):
            try:
                response = reader.follow(self._cluster.port, until=time.monotonic() + LOOK_S)
            except OSError:
                response = None
            if response is not None and response.status not in (200, 503):
                break
            if reader.terminal is None:
                time.sleep(RETRY_S)
        return _shown(reader.frames[after is not None :])

    def _check_messages(self, tally: Tally, where: str, turn: Turn) -> None:
        """Look whether the reply stands in its conversation as it was shown, and each turn once and in order."""
        reader, name = turn.readers[0].reader, f"{where} {turn.conversation_id}"
        if reader.terminal is None:
            return
        response = self._ask(f"/conversations/{turn.conversation_id}/messages")
        if response is None or response.status != 200:
            tally.violate("transcript", f"{name}: answered {response.status if response is not None else None}")
            return
        told = response.json()["messages"]
        mine = [each["content"] for each in told if each["id"] == reader.terminal.data["messageId"]]
        if mine != [reader.text]:
            tally.violate("transcript", f"{name}: {[each[-60:] for each in mine]}, not {reader.text[-60:]!r}")
        said = [f"{each['role']} {each['content'][:6] if each['role'] == 'user' else ''}".strip() for each in told]
        right = ["user turn 0", "assistant", "user turn 1", "assistant"]
        # Another turn may stand behind the first one by now.
        if said != right and (turn.place == 1 or said != right[: len(said)]):
            tally.violate("transcript", f"{name}: {said}")

    def _ask(self, path: str) -> Response | None:
        """Return the first whole answer of a node that has one; None where none has."""
        until = time.monotonic() + WITHIN_S
        while self._goes_on(until):
            try:
                response = call(self._cluster.port, "GET", path, timeout_s=LOOK_S)
            except OSError:
                response = None
            if response is not None and response.ended and response.status < 500:
                return response
            time.sleep(RETRY_S)
        return None

    def _goes_on(self, until: float) -> bool:
        return time.monotonic() < until and not self._is_over


def _pages(turns: list[Turn]) -> Iterator[list[Turn]]:
    return (turns[at : at + PAGE] for at in range(0, len(turns), PAGE))


def _shown(frames: list[Frame]) -> bytes:
    return b"".join(frame.raw + b"\n\n" for frame in frames)

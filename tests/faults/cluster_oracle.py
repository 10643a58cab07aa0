"""What a cluster's database says of its runs, and whether every call of a model is accounted for."""

from __future__ import annotations

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from tests.faults.cluster_world import Cluster
from tests.faults.oracle import Tally, compare_charges

MOST_TAKEOVERS = 2
"""A reply that is lost by one process more ends with the error `interrupted`."""

_RUNS = """
SELECT run.id, run.state, run.epoch, run.takeovers, run_log.data
FROM run LEFT JOIN run_log ON run_log.run_key = run.key
WHERE run.id = ANY(%s)
"""
_CHARGES = """
SELECT run_id, model, reason, input_tokens, output_tokens, counted::int
FROM charge WHERE run_id = ANY(%s) ORDER BY key
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run of the database.

    Attributes:
        epoch: How often it was taken up by a node after the first.
        takeovers: The same, hand-overs left out.
        calls: Reasons of the calls in its log, oldest first.
        spoken: How many of them a chunk came after: those were certainly made.
        events: Of its log, oldest first.
        charged: As tests.faults.oracle.compare_charges.
    """

    state: str
    epoch: int
    takeovers: int
    calls: tuple[str, ...]
    spoken: int
    events: tuple[tuple[str, dict[str, Any]], ...]
    charged: list[tuple[Any, ...]]


def read_runs(cluster: Cluster, ids: list[str]) -> dict[str, RunRow]:
    """Return some runs, by id."""
    charged: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for run_id, *row in cluster.rows(_CHARGES, [ids]):
        charged[run_id].append(tuple(row))
    return {
        run_id: RunRow(state=state, epoch=epoch, takeovers=takeovers, charged=charged[run_id], **_calls_of(data))
        for run_id, state, epoch, takeovers, data in cluster.rows(_RUNS, [ids])
    }


def count_runs(cluster: Cluster) -> int:
    """Return how many there are."""
    return int(cluster.rows("SELECT count(*) FROM run")[0][0])


def _calls_of(data: bytes | None) -> dict[str, Any]:
    if data is None:
        return {"calls": (), "spoken": 0, "events": ()}
    _, ends, seqs, events, *_ = msgspec.msgpack.decode(data)
    places = array("I", seqs)
    count = len(array("I", ends)) + len(places)
    found = [(seq, said["reason"]) for seq, (kind, said) in zip(places, events, strict=True) if kind == "call-started"]
    taken = set(places)
    borders = [*(seq for seq, _ in found), count]
    spoken = sum(any(seq not in taken for seq in range(a + 1, b)) for a, b in pairwise(borders))
    told = tuple((kind, said) for kind, said in events)
    return {"calls": tuple(reason for _, reason in found), "spoken": spoken, "events": told}


class Accounts:
    """Every call of a model over a whole run of faults: in the logs, in the database, and made.

    A call is in the log before it is made. A node that is killed or stopped in between leaves one that was never made;
    what is said after it proves that it was. So: spoken ≤ made ≤ logged, and logged = 1 + adoptions + retries. What was
    charged is what the log tells of each call.
    """

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()
        self._ended: dict[str, tuple[str, int, int]] = {}

    def take_calls(self, journals: Iterable[Path]) -> None:
        """Count the calls that the model has had, as far as is in files that nobody writes any more.

        A journal is put away first, and read at the next look: whoever has it open writes its line meanwhile.
        """
        for journal in journals:
            taken = journal.with_suffix(".taken")
            if taken.exists():
                self.made.update(json.loads(line)["run"] for line in taken.read_bytes().split(b"\n")[:-1])
                taken.unlink()
            if journal.exists():
                journal.replace(taken)

    def check_run(self, tally: Tally, where: str, run_id: str, row: RunRow) -> None:
        """Check what the database says of a run that has ended; whether its calls were made is asked at the end."""
        reasons = Counter(row.calls)
        adoptions, retries = reasons["takeover"], reasons["retry"]
        self._ended[run_id] = (where, row.spoken, len(row.calls))
        if row.state not in ("finished", "failed"):
            tally.violate("terminals", f"{where} {run_id}: is {row.state} in the end")
        odd = row.state == "finished" and reasons["first"] != 1
        if odd or len(row.calls) != reasons["first"] + adoptions + retries or adoptions > row.epoch:
            tally.violate("calls", f"{where} {run_id}: the log names {row.calls}, {row.epoch} adoptions")
        if row.events:
            compare_charges(tally, f"{where} {run_id}", row.events, row.charged)
        tally.counts["adoptions"] += row.epoch
        tally.counts["adoptions that made no call"] += row.epoch - adoptions
        tally.counts["retries"] += retries

    def close(self, tally: Tally, where: str, journals: Iterable[Path], runs: int, posted: int) -> None:
        """Compare all that was made with all that was logged, once no node makes anything any more.

        Args:
            runs: How many the database has.
            posted: How many turns were posted, repeats with the same key not counted.
        """
        files = [*journals]
        for _ in range(2):
            self.take_calls(files)
        if runs != posted:
            tally.violate("duplicated" if runs > posted else "lost", f"{where}: {runs} runs of {posted} turns")
        for run_id, (when, spoken, logged) in self._ended.items():
            made = self.made[run_id]
            if not spoken <= made <= logged:
                tally.violate("calls", f"{when} {run_id}: {made} calls made, {logged} logged, {spoken} of them heard")
            tally.counts["calls"] += made
            tally.counts["calls logged, not made"] += logged - made
        for run_id in self.made.keys() - self._ended.keys():
            tally.violate("calls", f"{where} {run_id}: {self.made[run_id]} calls for a run that is not there")

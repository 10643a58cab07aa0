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
FROM run LEFT JOIN run_log ON run_log.run_key = run.key WHERE run.key > %s
"""
_CHARGES = """
SELECT run.id, charge.model, charge.reason, charge.input_tokens, charge.output_tokens, charge.counted::int
FROM charge JOIN run ON run.id = charge.run_id WHERE run.key > %s ORDER BY charge.key
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


def last_key(cluster: Cluster) -> int:
    """Return the key behind which the next run comes."""
    return int(cluster.rows("SELECT coalesce(max(key), 0) FROM run")[0][0])


def read_runs(cluster: Cluster, after_key: int) -> dict[str, RunRow]:
    """Return all runs behind a key, by id."""
    charged: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for run_id, *row in cluster.rows(_CHARGES, [after_key]):
        charged[run_id].append(tuple(row))
    return {
        run_id: RunRow(state=state, epoch=epoch, takeovers=takeovers, charged=charged[run_id], **_calls_of(data))
        for run_id, state, epoch, takeovers, data in cluster.rows(_RUNS, [after_key])
    }


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


def check_runs(tally: Tally, where: str, rows: dict[str, RunRow], made: Counter[str], keys: int) -> None:
    """Compare the runs with the calls that the model has had, and with what was posted.

    What was charged is what the log tells of each call.

    A call is in the log before it is made. A node that is killed or stopped in between leaves one that was never made;
    what is said after it proves that it was. So: spoken ≤ made ≤ logged, and logged = 1 + adoptions + retries.

    Args:
        keys: How many turns were posted, repeats with the same key not counted.
    """
    if len(rows) != keys:
        tally.violate("duplicated" if len(rows) > keys else "lost", f"{where}: {len(rows)} runs of {keys} turns")
    for run_id, row in rows.items():
        reasons = Counter(row.calls)
        adoptions, retries = reasons["takeover"], reasons["retry"]
        if row.state not in ("finished", "failed"):
            tally.violate("terminals", f"{where} {run_id}: is {row.state} in the end")
        odd = row.state == "finished" and reasons["first"] != 1
        if odd or len(row.calls) != reasons["first"] + adoptions + retries or adoptions > row.epoch:
            tally.violate("calls", f"{where} {run_id}: the log names {row.calls}, {row.epoch} adoptions")
        elif not row.spoken <= made[run_id] <= len(row.calls):
            logged = f"{row.spoken} of those that are logged were heard: {row.calls}"
            tally.violate("calls", f"{where} {run_id}: {made[run_id]} calls made, {logged}")
        if row.events:
            compare_charges(tally, f"{where} {run_id}", row.events, row.charged)
        tally.counts["calls"] += made[run_id]
        tally.counts["adoptions"] += row.epoch
        tally.counts["adoptions that made no call"] += row.epoch - adoptions
        tally.counts["retries"] += retries
        tally.counts["calls logged, not made"] += len(row.calls) - made[run_id]
    for run_id in made.keys() - rows.keys():
        tally.violate("calls", f"{where} {run_id}: {made[run_id]} calls for a run that is not there")


def take_calls(journals: Iterable[Path]) -> Counter[str]:
    """Return how many calls the model has had for each run, as far as is in files that nobody writes any more.

    A journal is put away first, and read at the next look: whoever has it open writes its line meanwhile.
    """
    made: Counter[str] = Counter()
    for journal in journals:
        taken = journal.with_suffix(".taken")
        if taken.exists():
            made.update(json.loads(line)["run"] for line in taken.read_bytes().split(b"\n")[:-1])
            taken.unlink()
        if journal.exists():
            journal.replace(taken)
    return made

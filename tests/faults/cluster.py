"""Three nodes under a crowd: killed, stopped past their lease, told to end, with the database and Redis killed too."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.faults.cluster_breaks import (
    TAKEN,
    Trial,
    end_at_seam,
    kill,
    kill_redis,
    one_of_each,
    pause,
    restart_database,
    roll,
)
from tests.faults.cluster_crowd import Crowd, Pace
from tests.faults.cluster_oracle import check_runs, last_key, read_runs, take_calls
from tests.faults.cluster_server import LEAVING_SEAMS, SEAMS, TAKING_SEAMS
from tests.faults.cluster_world import LEASE_S, Cluster
from tests.faults.oracle import Tally
from tests.faults.scenario import Context

STREAMS, FEW_STREAMS = 200, 12
NEEDED = {
    "node kills": 500,
    "pauses past the lease": 200,
    "database restarts": 50,
    "Redis kills": 50,
    "rolling restarts": 20,
}
"""Counts that a full run must reach."""
MOST_WAIT_S = 2.0
"""Between two chunks that a reader is shown, while all nodes are started anew one after another."""
MOST_TAKEN_S = LEASE_S + 1.0
"""From a node's end until others have its replies, where the database was there all the time."""
RESUMED = "from a node's end to a reader's next chunk"
GAP = "longest wait of a reader in a rolling restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of trial.

    Attributes:
        each: Faults of one trial.
        trials: Of a full run.
    """

    fault: Callable[[Trial], None]
    each: int
    trials: int


KINDS: Mapping[str, Kind] = {
    "kill": Kind(fault=kill, each=10, trials=40),
    "pause": Kind(fault=pause, each=10, trials=17),
    "database": Kind(fault=restart_database, each=5, trials=10),
    "redis": Kind(fault=kill_redis, each=10, trials=5),
    "roll": Kind(fault=roll, each=2, trials=10),
    "mixed": Kind(fault=one_of_each, each=2, trials=6),
}
SEAM_FAULTS = {"kill": 4, "stop": 2}
"""How a node ends at a seam, and how often in one trial: each seam has one of both."""
QUICK_PACE = Pace(tokens=(20, 60), delay_ms=50)
QUICK = ("mixed-0", "seam-kill-adopted-before-1", "seam-stop-commit-before-1")


def trials(context: Context) -> list[str]:
    """Return `<kind>-<n>`, and `seam-<how>-<seam>-<n>`; those of even numbers have Redis, the others NOTIFY alone.

    A share has fewer trials of each kind, and all seams with fewer faults each.
    """
    if context.quick:
        return list(QUICK)
    names = [f"{name}-{n}" for name, kind in KINDS.items() for n in range(_share(context, kind.trials))]
    seams = SEAMS + TAKING_SEAMS + LEAVING_SEAMS
    return names + [f"seam-{how}-{seam}-{n % 2}" for how in SEAM_FAULTS for n, seam in enumerate(seams)]


def _share(context: Context, count: int) -> int:
    return max(1, round(count * context.share))


def _wants_redis(name: str) -> bool:
    return name.startswith("redis") or int(name.rpartition("-")[2]) % 2 == 0


def break_cluster(context: Context, names: list[str]) -> None:
    """Run the trials on one cluster, those with Redis first."""
    ordered = sorted(names, key=lambda name: not _wants_redis(name))
    cluster = Cluster(context.new_folder(), context.draw("cluster"), redis=_wants_redis(ordered[0]))
    try:
        cluster.start()
        for name in ordered:
            context.attempt(name, _try, context, cluster, name)
    finally:
        cluster.close()
    if not context.quick and context.share >= 1 and set(names) == set(trials(context)):
        tally = Tally()
        for kind, least in NEEDED.items():
            if (count := context.tally.counts[kind]) < least:
                tally.violate("count", f"cluster: {count} {kind}, fewer than {least}")
        context.add(tally, 0)


def _try(context: Context, cluster: Cluster, name: str) -> Tally:
    """Have a crowd read while one kind of fault falls, and look at everything when all is calm again."""
    tally = Tally()
    where, draw = f"cluster:{name}", context.draw(f"cluster/{name}")
    _repair(cluster)
    if cluster.redis != _wants_redis(name):
        cluster.switch(redis=_wants_redis(name))
    streams = context.streams or (FEW_STREAMS if context.quick else STREAMS)
    crowd = Crowd(cluster, name, streams, draw, QUICK_PACE if context.quick else None)
    trial = Trial(where, cluster, crowd, draw, tally, judged=not context.quick)
    words = name.split("-")
    each = SEAM_FAULTS[words[1]] if words[0] == "seam" else KINDS[words[0]].each
    fault = end_at_seam if words[0] == "seam" else KINDS[words[0]].fault
    after_key = last_key(cluster)
    crowd.start()
    try:
        for _ in range(1 if context.quick else max(1, round(each * context.share))):
            fault(trial)
    finally:
        _repair(cluster)
        crowd.stop()
    rows = read_runs(cluster, after_key)
    tally.merge(crowd.check(rows, where))
    made = take_calls(cluster.journals) + take_calls(cluster.journals)
    check_runs(tally, where, rows, made, crowd.posted)
    _count_times(trial)
    return tally


def _repair(cluster: Cluster) -> None:
    """Have everything at work again, whatever a trial has left."""
    cluster.postgres.resume()
    if not cluster.valkey_runs:
        cluster.valkey.start()
    for node in cluster.nodes:
        if node.server.running and node.stopped:
            node.signal(signal.SIGCONT)
        elif not node.server.running:
            node.launch()
    for node in cluster.nodes:
        node.serve()
    cluster.wait_whole()


def _count_times(trial: Trial) -> None:
    """Note how long readers waited, and judge it in a full run."""
    tally = trial.tally
    for at, held in trial.lost:
        tally.samples[RESUMED] += trial.crowd.resumed_after_s(held, at)
    if trial.judged and trial.name.startswith(("cluster:kill", "cluster:pause")):
        for taken_s in tally.samples[TAKEN]:
            if taken_s > MOST_TAKEN_S:
                tally.violate("slow", f"{trial.name}: others had a node's replies after {taken_s:.2f} s")
    for began, ended in trial.rolled:
        gap_s, whose = trial.crowd.longest_gap(began, ended)
        tally.samples[GAP].append(gap_s)
        if trial.judged and gap_s > MOST_WAIT_S:
            tally.violate("slow", f"{trial.name}: {whose} waited {gap_s:.2f} s in a rolling restart")
